/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading resident blocks makes no system call: a process gives up all of them but read(), write(), exit() and
 * sigreturn() (seccomp's strict mode; the kernel kills it at any other), and then reads in every way that a reader has.
 * The address and undefined-behaviour sanitizers make none on these ways either, so this runs with them, too.
 */
#include "tests/e2e/test-client-rig.h"
#include "tests/lib/harness.h"

#include <linux/seccomp.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCKS 24 /* pinned at once: fewer than a reader pins without asking for room */
#define TOKENS 32
#define ROUNDS 100

enum { WELL = 0, WRONG_RESULT = 2, WRONG_VALUE = 3, NO_SECCOMP = 4 };

struct reading {
	kvc_client *client;
	kvc_reader *reader;
	kvc_space *space;
	uint32_t codec;
	char names[BLOCKS][16];
	struct kvc_key keys[BLOCKS];
	kvc_block *pinned[BLOCKS];
	int statuses[BLOCKS];
	struct kvc_fetch fetches[BLOCKS];
	struct box k, v;
};

/*
 * Leaves without exit_group(), which is not allowed any more. Not declared as one that does not return: before such
 * calls the address sanitizer asks the kernel for the signal stack.
 */
static void leave(int status)
{
	(void)syscall(SYS_exit, status);
}

static void must(bool right, int otherwise)
{
	if (!right)
		leave(otherwise);
}

static void lock_in(void)
{
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) < 0)
		_exit(NO_SECCOMP);
}

/* A client, a reader, and blocks in a chain. Everything may be asked of the daemon yet. */
static void reading_prepare(struct reading *reading, const struct test_daemon *daemon, uint32_t codec, uint32_t verify)
{
	struct kvc_options options = { .struct_bytes = sizeof(options), .socket_path = daemon->socket_path,
				       .staging_bytes = 2 << 20, .verify = verify };
	struct kvc_schema schema = schema_small();

	schema.codec_k = schema.codec_v = codec;
	*reading = (struct reading){ .codec = codec };
	assert_int_equal(kvc_open(&options, &reading->client, NULL, 0), KVC_OK);
	reading->space = open_space(reading->client, "s", &schema);
	assert_int_equal(kvc_reader_open(reading->client, &reading->reader), KVC_OK);
	for (uint32_t i = 0; i < BLOCKS; i++) {
		(void)snprintf(reading->names[i], sizeof(reading->names[i]), "block %u", i);
		reading->keys[i] = key_of(reading->names[i]);
		assert_int_equal(append_block(reading->space, reading->names[i], i > 0 ? reading->names[i - 1] : NULL,
					      i, TOKENS),
				 KVC_OK);
	}
	box_new(&reading->k, LAYOUT_TOKEN_MAJOR, KVC_F32, 3, 4, TOKENS, 64);
	box_new(&reading->v, LAYOUT_HEAD_MAJOR, KVC_F16, 3, 4, TOKENS, 64);
}

static void find_and_match(struct reading *reading)
{
	static const struct kvc_range range = { .layer_begin = 1, .layer_count = 1 };
	struct kvc_key none = { .bytes = "none", .n = 4 };
	size_t matched = 0;

	for (unsigned i = 0; i < BLOCKS; i++)
		must(kvc_find(reading->space, reading->reader, &reading->keys[i], i % 2 ? &range : NULL) == KVC_OK,
		     WRONG_RESULT);
	must(kvc_find(reading->space, reading->reader, &none, NULL) == KVC_MISS, WRONG_RESULT);
	must(kvc_match(reading->space, reading->reader, reading->keys, BLOCKS, NULL, &matched) == KVC_OK &&
		     matched == BLOCKS,
	     WRONG_RESULT);
}

static void pin_and_look(struct reading *reading)
{
	int r = kvc_pin(reading->space, reading->reader, reading->keys, BLOCKS, NULL, reading->pinned,
			reading->statuses);

	must(r == KVC_OK, WRONG_RESULT);
	for (unsigned i = 0; i < BLOCKS; i++) {
		struct kvc_tile tile;
		float rows[TOKENS * 64];

		must(reading->statuses[i] == KVC_OK, WRONG_RESULT);
		must(kvc_block_tokens(reading->pinned[i]) == TOKENS, WRONG_RESULT);
		must(kvc_block_tile(reading->pinned[i], 'K', i % 3, i % 4, &tile) == KVC_OK, WRONG_RESULT);
		must(kvc_tile_decode(&tile, 'K', rows, KVC_F32, 64) == KVC_OK, WRONG_RESULT);
		must(kvc_block_check(reading->pinned[i]) == KVC_OK, WRONG_RESULT);
		must(fabsf(rows[64] - value_at(i, 'K', i % 3, i % 4, 1, 0)) <= codec_error_max(reading->codec),
		     WRONG_VALUE);
	}
	for (unsigned i = 0; i < BLOCKS; i++)
		reading->pinned[i] = kvc_unpin(reading->pinned[i]);
}

/* All into one tensor, so that the last one stays there. */
static void fetch(struct reading *reading)
{
	float wanted;

	for (unsigned i = 0; i < BLOCKS; i++)
		reading->fetches[i] = (struct kvc_fetch){ .key = reading->keys[i], .k = reading->k.tensor,
							  .v = reading->v.tensor, .status = -1 };
	must(kvc_fetch(reading->space, reading->reader, reading->fetches, BLOCKS) == KVC_OK, WRONG_RESULT);
	for (unsigned i = 0; i < BLOCKS; i++)
		must(reading->fetches[i].status == KVC_OK && reading->fetches[i].tokens == TOKENS, WRONG_RESULT);
	wanted = value_at(BLOCKS - 1, 'K', 2, 3, 31, 63);
	must(fabsf(box_get(&reading->k, 2, 3, 31, 63) - wanted) <= codec_error_max(reading->codec), WRONG_VALUE);
	wanted = value_at(BLOCKS - 1, 'V', 0, 1, 7, 5);
	must(fabsf(box_get(&reading->v, 0, 1, 7, 5) - wanted) <= codec_error_max(reading->codec), WRONG_VALUE);
}

static void read_all(struct reading *reading)
{
	find_and_match(reading);
	pin_and_look(reading);
	fetch(reading);
}

static void read_locked_in(const struct test_daemon *daemon, uint32_t codec, uint32_t verify)
{
	struct reading reading;

	reading_prepare(&reading, daemon, codec, verify);
	read_all(&reading); /* what is done only once: symbols are bound, the codec looks at the processor */
	lock_in();
	for (unsigned i = 0; i < ROUNDS; i++)
		read_all(&reading);
	leave(WELL);
}

static void expect_end(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		fail_msg("killed: it made a system call");
	if (!WIFEXITED(status))
		fail_msg("wait status 0x%x", (unsigned)status);
	if (WEXITSTATUS(status) == NO_SECCOMP)
		harness_skip("this process may not restrict its system calls further");
	if (WEXITSTATUS(status) != WELL)
		fail_msg("%s", WEXITSTATUS(status) == WRONG_RESULT  ? "a call did not return what it must"
			       : WEXITSTATUS(status) == WRONG_VALUE ? "a value is wrong"
								    : "an assertion failed; see above");
}

static void run(uint32_t codec, uint32_t verify)
{
	struct test_daemon d;
	pid_t pid;

	test_daemon_start(&d, NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		read_locked_in(&d, codec, verify);
	expect_end(pid);
	test_daemon_stop(&d);
}

static void test_raw(void **state)
{
	run(KVC_CODEC_F32, KVC_VERIFY_NEVER);
}

static void test_packed(void **state)
{
	run(KVC_CODEC_Q4, KVC_VERIFY_NEVER);
}

static void test_trellis(void **state)
{
	run(KVC_CODEC_T6G32, KVC_VERIFY_FIRST);
}

static void test_verified(void **state)
{
	run(KVC_CODEC_Q8, KVC_VERIFY_ALWAYS);
}

/* What the others rest upon: one call more, and the process is killed. */
static void test_a_call_is_seen(void **state)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		lock_in();
		(void)syscall(SYS_getpid);
		leave(WELL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_SECCOMP)
		harness_skip("this process may not restrict its system calls further");
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_raw),
	cmocka_unit_test(test_packed),
	cmocka_unit_test(test_trellis),
	cmocka_unit_test(test_verified),
	cmocka_unit_test(test_a_call_is_seen),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
