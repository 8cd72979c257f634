/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries of the journal, as the journal gets them: the test is the journal, at the place where libsystemd looks for
 * it, in a mount namespace of its own.
 */
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "tests/e2e/service-rig.h"
#include "tests/lib/daemon.h"
#include "tests/lib/peer.h"
#include "tests/lib/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOURNAL "/run/systemd/journal"
#define READY_ID "4744356c63b44fadb3b41ffd189dcf3a"
#define CONFIG_REFUSED_ID "1adb3cf76f144bfa9d3173f10c6ea945"
#define CLIENT_FAULT_ID "89eecff339964976a3a288d3745b4010"

struct stream {
	int ends[2];
};

/* An empty /run that only this test sees. */
static void make_room(void)
{
	service_needs_libsystemd();
	if (unshare(CLONE_NEWNS) < 0)
		harness_skip("a mount namespace needs root (CAP_SYS_ADMIN)");
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_int_equal(mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"), 0);
	assert_int_equal(mkdir("/run/systemd", 0755), 0);
	assert_int_equal(mkdir(JOURNAL, 0755), 0);
}

/* A pipe whose writing end JOURNAL_STREAM names, or does not. */
static void open_stream(struct stream *stream, bool named)
{
	char text[64];
	struct stat status;

	assert_int_equal(pipe2(stream->ends, O_CLOEXEC), 0);
	assert_int_equal(fstat(stream->ends[1], &status), 0);
	(void)snprintf(text, sizeof(text), "%ju:%ju", (uintmax_t)status.st_dev,
		       (uintmax_t)status.st_ino + (named ? 0 : 1));
	assert_int_equal(setenv("JOURNAL_STREAM", text, 1), 0);
}

/* What was written to the stream. */
static const char *close_stream(struct stream *stream)
{
	static char text[4096];
	ssize_t n;

	(void)close(stream->ends[1]);
	n = read(stream->ends[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	(void)close(stream->ends[0]);
	return text;
}

/* How many lines of the entry begin with this. */
static unsigned count(const char *entry, const char *begin)
{
	unsigned n = 0;

	for (const char *line = entry; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
		n += strncmp(line, begin, strlen(begin)) == 0;
	return n;
}

static void assert_line(const char *entry, const char *line)
{
	char whole[256];

	(void)snprintf(whole, sizeof(whole), "%s\n", line);
	if (count(entry, whole) != 1)
		fail_msg("'%s' is not a line of: %s", line, entry);
}

static void test_fields(void **state)
{
	_cleanup_close_ int journal = -1;
	struct stream stream;
	struct test_peer peer;
	const char *entry;
	char pid_line[64];
	pid_t pid;

	make_room();
	journal = service_datagrams(JOURNAL "/socket");
	open_stream(&stream, true);
	pid = service_start(service_path("s"), stream.ends[1]);
	entry = service_await(journal, "MESSAGE_ID=" READY_ID);
	assert_line(entry, "PRIORITY=6");
	assert_line(entry, "SYSLOG_IDENTIFIER=kvpaged");
	assert_int_equal(count(entry, "MESSAGE=kvpaged 0.1.0 ready: socket "), 1);
	assert_int_equal(count(entry, "KVPAGED_"), 0);
	peer_connect(&peer, service_path("s"));
	assert_int_equal(peer_send_bytes(&peer, "\0\0\0\0", 4), 0);
	peer_expect_end(&peer);
	peer_close(&peer);
	entry = service_await(journal, "MESSAGE_ID=" CLIENT_FAULT_ID);
	assert_line(entry, "PRIORITY=4");
	assert_line(entry, "KVPAGED_SESSION=1");
	assert_line(entry, "KVPAGED_CLIENT_UID=0");
	(void)snprintf(pid_line, sizeof(pid_line), "KVPAGED_CLIENT_PID=%d", (int)getpid());
	assert_line(entry, pid_line);
	service_stop(pid);
	assert_string_equal(close_stream(&stream), "");
}

/* Text from outside begins no field of its own. */
static void test_hostile_text(void **state)
{
	_cleanup_close_ int journal = -1;
	char *argv[] = { (char *)test_program("KVPAGED_BIN"), (char *)"--config",
			 (char *)"x\nPRIORITY=0\nKVPAGED_SESSION=1", NULL };
	struct stream stream;
	const char *entry;

	make_room();
	journal = service_datagrams(JOURNAL "/socket");
	open_stream(&stream, true);
	(void)process_wait(process_start(argv, -1, stream.ends[1]), SERVICE_WAIT_MS);
	entry = service_await(journal, "MESSAGE_ID=" CONFIG_REFUSED_ID);
	assert_line(entry, "PRIORITY=3");
	assert_int_equal(count(entry, "PRIORITY="), 1);
	assert_int_equal(count(entry, "KVPAGED_"), 0);
	assert_line(entry, "MESSAGE=x\\x0aPRIORITY=0\\x0aKVPAGED_SESSION=1: No such file or directory");
	assert_string_equal(close_stream(&stream), "");
}

/* stderr is not the journal's, or the journal cannot be reached: lines as ever. */
static void check_lines(bool named, bool reachable)
{
	_cleanup_close_ int journal = -1;
	struct stream stream;
	pid_t pid;

	make_room();
	if (reachable)
		journal = service_datagrams(JOURNAL "/socket");
	open_stream(&stream, named);
	pid = service_start(service_path("s"), stream.ends[1]);
	service_await_listener(service_path("s"));
	assert_true(service_serves(service_path("s")));
	service_stop(pid);
	assert_memory_equal(close_stream(&stream), "<6>kvpaged 0.1.0 ready: socket ", 30);
	if (reachable)
		assert_null(service_next(journal, 0));
}

static void test_another_stream(void **state)
{
	check_lines(/* named= */ false, /* reachable= */ true);
}

static void test_out_of_reach(void **state)
{
	check_lines(/* named= */ true, /* reachable= */ false);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_fields),
	cmocka_unit_test(test_hostile_text),
	cmocka_unit_test(test_another_stream),
	cmocka_unit_test(test_out_of_reach),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
