/* SPDX-License-Identifier: Apache-2.0 */
/* kvctl why and kvctl events: each way in which a block can be there or not, and following what happens. */
#include "tests/e2e/kvctl-rig.h"

#include "base/cleanup.h"
#include "client/kvclient.h"
#include "tests/lib/process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static void pause_ms(long ms)
{
	struct timespec pause = { .tv_nsec = ms * 1000000 };

	(void)nanosleep(&pause, NULL);
}

static void put(struct shell *shell, const char *words)
{
	char line[256];

	(void)snprintf(line, sizeof(line), "put %s --k k.npy --v v.npy --model m", words);
	assert_int_equal(kvctl(shell, line), 0);
}

static void test_fates(void **state)
{
	struct shell *shell = shell_open();

	write_pair();
	put(shell, "s a --codec f32");
	put(shell, "s b --codec f32 --parent a");
	assert_int_equal(kvctl(shell, "why s a"), 0);
	assert_contains(shell->out, "present: ");
	assert_contains(shell->out, "20 tokens, 3 of 3 pages");
	assert_contains(shell->out, "1 children");
	assert_contains(shell->out, "all pages match their checksums");
	assert_int_equal(kvctl(shell, "why s a --json"), 0);
	assert_contains(shell->out, "\"fate\":\"present\"");
	assert_contains(shell->out, "\"pages_read\":3,\"pages_corrupt\":0,");
	assert_int_equal(kvctl(shell, "why s never"), 3);
	assert_contains(shell->out, "unknown: ");
	assert_int_equal(kvctl(shell, "rm s b"), 0);
	assert_int_equal(kvctl(shell, "why s b"), 3);
	assert_contains(shell->out, "deleted: ");
	assert_int_equal(kvctl(shell, "evict --all"), 0);
	assert_int_equal(kvctl(shell, "why s a --json"), 3);
	assert_contains(shell->out, "\"fate\":\"evicted_request\"");
	assert_int_equal(kvctl(shell, "why nothing a"), 3);
	assert_contains(shell->err, "no such space");
	assert_int_equal(kvctl(shell, "why s hex:zz"), 2);
	shell_close(shell);
}

static void test_elsewhere(void **state)
{
	struct shell *shell = shell_open();

	write_pair();
	put(shell, "here a --codec q8");
	put(shell, "there k --codec q8 --block-tokens 64");
	put(shell, "same k --codec q8");
	assert_int_equal(kvctl(shell, "why here k"), 3);
	assert_contains(shell->out, "also in space there, whose schema is another: block_tokens 64, not 128\n");
	assert_contains(shell->out, "also in space same\n");
	assert_int_equal(kvctl(shell, "why here k --json"), 3);
	assert_contains(shell->out, "{\"space\":\"same\",\"differs\":\"\"}");
	shell_close(shell);
}

/* The daemon's own descriptor of the arena, as root or its user can open it. */
static int arena_fd(const struct test_daemon *d)
{
	for (int fd = 0; fd < 64; fd++) {
		char path[64], target[64] = "";

		(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)d->pid, fd);
		if (readlink(path, target, sizeof(target) - 1) > 0 && strstr(target, "kvpaged-arena"))
			return open(path, O_RDWR | O_CLOEXEC);
	}
	return -1;
}

/* Flips a bit of the first page that begins with the value that write_pair() put first into a layer. */
static void damage(const struct test_daemon *d, unsigned layer)
{
	_cleanup_close_ int fd = arena_fd(d);
	float wanted = value_at(layer * (VALUES / LAYERS), 0);
	float value = 0;
	off_t at = 2 << 20;

	assert_true(fd >= 0);
	while (pread(fd, &value, sizeof(value), at) == sizeof(value) && value != wanted)
		at += 512;
	assert_true(value == wanted);
	value = -value;
	assert_int_equal(pwrite(fd, &value, sizeof(value), at), sizeof(value));
}

static void test_corrupt(void **state)
{
	struct shell *shell = shell_open();

	write_pair();
	put(shell, "s a --codec f32");
	damage(&shell->daemon, 1);
	assert_int_equal(kvctl(shell, "why s a"), 1);
	assert_contains(shell->out, "corrupt: ");
	assert_contains(shell->out, "1 of 3 pages are not what was stored, the first at layer 1, head 0");
	assert_int_equal(kvctl(shell, "why s a --json"), 1);
	assert_contains(shell->out, "\"fate\":\"corrupt\"");
	shell_close(shell);
}

static void test_remembered(void **state)
{
	struct shell *shell = shell_open();

	write_pair();
	assert_int_equal(kvctl(shell, "events"), 0);
	assert_string_equal(shell->out, "");
	put(shell, "s a");
	put(shell, "t a");
	assert_int_equal(kvctl(shell, "rm s a"), 0);
	assert_int_equal(kvctl(shell, "rm --all t"), 0);
	assert_int_equal(kvctl(shell, "events"), 0);
	assert_contains(shell->out, "         1  stored   s  a  20 tokens\n");
	assert_contains(shell->out, "         3  removed  s  a  deleted\n");
	assert_contains(shell->out, "  cleared  t\n");
	assert_int_equal(kvctl(shell, "events --space s --json"), 0);
	assert_contains(shell->out,
			"\"number\":1,\"event\":\"stored\",\"space\":\"s\",\"key\":\"a\",\"key_hex\":\"61\","
			"\"tokens\":20}");
	assert_null(strstr(shell->out, "\"space\":\"t\""));
	assert_int_equal(kvctl(shell, "events --after 2"), 0);
	assert_null(strstr(shell->out, "         2  "));
	assert_contains(shell->out, "         3  ");
	assert_int_equal(kvctl(shell, "events --after 1000"), 75);
	assert_int_equal(kvctl(shell, "events --after 1000 --incarnation 1"), 0);
	assert_contains(shell->out, "-- the daemon was restarted");
	assert_contains(shell->out, "         1  stored ");
	shell_close(shell);
}

/* Whether a running kvctl has printed the words so far. */
static bool has_printed(int fd, const char *words)
{
	char text[4096];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return strstr(text, words) != NULL;
}

static void await(int fd, const char *words)
{
	while (!has_printed(fd, words))
		pause_ms(10);
}

static void test_follow(void **state)
{
	char *argv[] = { (char *)test_program("KVCTL_BIN"), (char *)"events", (char *)"-f", NULL };
	struct shell *shell = shell_open();
	_cleanup_close_ int out = memfd_create("out", MFD_CLOEXEC);
	_cleanup_close_ int err = memfd_create("err", MFD_CLOEXEC);
	pid_t pid;

	write_pair();
	put(shell, "s before");
	pid = process_start(argv, out, err);
	/* It follows from when it asked first, so something is stored until it sees one. */
	for (unsigned i = 0; lseek(out, 0, SEEK_END) == 0; i++) {
		char words[32];

		(void)snprintf(words, sizeof(words), "s live%u", i);
		put(shell, words);
		pause_ms(20);
	}
	await(out, "  stored   s  live");
	test_daemon_kill(&shell->daemon);
	await(err, "waiting for the daemon");
	test_daemon_restart(&shell->daemon);
	await(out, "-- the daemon was restarted");
	put(shell, "s after");
	await(out, "         1  stored   s  after  20 tokens\n");
	assert_false(has_printed(out, "before"));
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(process_wait(pid, 20000), SIGTERM);
	shell_close(shell);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_fates),	   cmocka_unit_test(test_elsewhere), cmocka_unit_test(test_corrupt),
	cmocka_unit_test(test_remembered), cmocka_unit_test(test_follow),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
