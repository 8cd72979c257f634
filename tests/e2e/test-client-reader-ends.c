/* SPDX-License-Identifier: Apache-2.0 */
/* Readers when something ends: their session, the daemon, the space, or the process. */
#include "tests/e2e/reader-rig.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* A client that pins what is wanted and does nothing is cut off; its reads fail the check, and it comes back. */
static void test_stuck(void **state)
{
	struct rig rig, writer;
	struct kvc_key key = key_of("a");
	struct kvc_info info;
	kvc_block *block, *again;

	rig_start(&rig);
	writer.d = rig.d;
	rig_join(&writer, &(struct kvc_options){ 0 });
	assert_int_equal(append_block(writer.space, "a", NULL, 1, 32), KVC_OK);
	block = pin(&rig, "a");
	assert_int_equal(kvc_delete(writer.space, &key, 1, NULL), KVC_OK);
	while (counter_of(writer.client, "sessions_stuck_total") == 0)
		pause_ms(20);
	for (uint32_t i = 0; i < 300; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "n%u", i);
		assert_int_equal(append_block(writer.space, name, NULL, i, 32), KVC_OK);
	}
	assert_false(expect_block(block, 1));
	assert_int_equal(find(&rig, "n299"), KVC_OK); /* through a new session */
	assert_int_equal(kvc_client_info(rig.client, &info), KVC_OK);
	assert_int_equal(info.reconnects, 1);
	again = pin(&rig, "n298");
	assert_true(expect_block(again, 298));
	kvc_unpin(block);
	kvc_unpin(again);
	kvc_close(writer.client);
	rig_stop(&rig);
}

/* Signs of life hold a pin for as long as it takes. */
static void test_alive(void **state)
{
	struct rig rig, writer;
	struct kvc_key key = key_of("a");
	kvc_block *block;

	rig_start(&rig);
	writer.d = rig.d;
	rig_join(&writer, &(struct kvc_options){ 0 });
	assert_int_equal(append_block(writer.space, "a", NULL, 1, 32), KVC_OK);
	block = pin(&rig, "a");
	assert_int_equal(kvc_delete(writer.space, &key, 1, NULL), KVC_OK);
	for (unsigned i = 0; i < 20; i++) {
		pause_ms(50);
		assert_int_equal(kvc_block_check(block), KVC_STALE);
		(void)find(&rig, "b");
	}
	assert_int_equal(counter_of(writer.client, "sessions_stuck_total"), 0);
	assert_int_equal(counter_of(writer.client, "blocks_limbo"), 1);
	kvc_unpin(block);
	kvc_close(writer.client);
	rig_stop(&rig);
}

/* The daemon is another one: blocks pinned before stay as they were, and the reader goes on with the new arena. */
static void test_restart(void **state)
{
	struct rig rig;
	kvc_block *before, *after = NULL;

	rig_start(&rig);
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	before = pin(&rig, "a");
	test_daemon_kill(&rig.d);
	assert_true(expect_block(before, 1));
	assert_int_equal(find(&rig, "a"), KVC_OK); /* nobody told it */
	test_daemon_restart(&rig.d);
	assert_int_equal(append_block(rig.space, "b", NULL, 2, 32), KVC_OK);
	assert_int_equal(find(&rig, "a"), KVC_MISS);
	assert_int_equal(pin_try(&rig, "b", NULL, &after), KVC_OK);
	assert_true(expect_block(before, 1));
	assert_true(expect_block(after, 2));
	kvc_unpin(before);
	assert_int_equal(fetch(&rig, "b", 2), KVC_OK);
	kvc_unpin(after);
	/* A daemon that stops says so in shared memory. */
	assert_int_equal(test_daemon_terminate(&rig.d), 0);
	test_daemon_restart(&rig.d);
	assert_int_equal(find(&rig, "b"), KVC_MISS);
	rig_stop(&rig);
}

static void test_no_daemon(void **state)
{
	struct rig rig;
	kvc_block *block;

	test_daemon_start(&rig.d, NULL);
	rig_join(&rig, &(struct kvc_options){ .flags = KVC_NO_RECONNECT });
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	block = pin(&rig, "a");
	test_daemon_stop(&rig.d);
	assert_int_equal(find(&rig, "a"), -ENOTCONN);
	assert_int_equal(fetch(&rig, "a", 1), -ENOTCONN);
	assert_true(expect_block(block, 1));
	kvc_unpin(block);
	kvc_close(rig.client);
}

/* A dropped space's number may soon be another's: handles of it find nothing. */
static void test_dropped_space(void **state)
{
	struct rig rig;
	struct kvc_schema schema = schema_small();
	kvc_space *space;

	rig_start(&rig);
	schema.codec_k = schema.codec_v = KVC_CODEC_F32;
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	assert_int_equal(kvc_space_drop(rig.client, "s"), KVC_OK);
	space = open_space(rig.client, "t", &schema);
	assert_int_equal(append_block(space, "a", NULL, 2, 32), KVC_OK);
	assert_int_equal(find(&rig, "a"), KVC_NO_SPACE_NAMED);
	assert_int_equal(fetch(&rig, "a", 1), KVC_NO_SPACE_NAMED);
	rig.space = space;
	assert_int_equal(fetch(&rig, "a", 2), KVC_OK);
	rig_stop(&rig);
}

/* A drop that is refused changes nothing. */
static void test_drop_is_refused(void **state)
{
	struct rig rig, other;

	rig_start(&rig);
	other.d = rig.d;
	rig_join(&other, &(struct kvc_options){ 0 });
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	assert_int_equal(kvc_space_drop(rig.client, "s"), KVC_BUSY);
	assert_int_equal(fetch(&rig, "a", 1), KVC_OK);
	assert_int_equal(find(&rig, "a"), KVC_OK);
	kvc_close(other.client);
	rig_stop(&rig);
}

/* In a child. Returns the number of the first check that failed, or 0. */
static int child_checks(struct rig *rig, kvc_block *block)
{
	struct kvc_key key = key_of("a");
	struct kvc_fetch wanted = { .key = key };
	kvc_block *more;
	size_t n;
	int status;

	if (kvc_find(rig->space, rig->reader, &key, NULL) != -ECHILD)
		return 1;
	if (kvc_match(rig->space, rig->reader, &key, 1, NULL, &n) != -ECHILD)
		return 2;
	if (kvc_pin(rig->space, rig->reader, &key, 1, NULL, &more, &status) != -ECHILD)
		return 3;
	if (kvc_fetch(rig->space, rig->reader, &wanted, 1) != -ECHILD)
		return 4;
	if (kvc_unpin(block) != NULL)
		return 5;
	kvc_reader_close(rig->reader);
	kvc_close(rig->client);
	return 0;
}

static void test_fork(void **state)
{
	struct rig rig, writer;
	struct kvc_key key = key_of("a");
	kvc_block *block;
	int status;
	pid_t child;

	rig_start(&rig);
	writer.d = rig.d;
	rig_join(&writer, &(struct kvc_options){ 0 });
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	block = pin(&rig, "a");
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(child_checks(&rig, block));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(WEXITSTATUS(status), 0);
	/* The parent's pin still holds the memory. */
	assert_int_equal(kvc_delete(writer.space, &key, 1, NULL), KVC_OK);
	pause_ms(100);
	assert_int_equal(counter_of(writer.client, "blocks_limbo"), 1);
	kvc_unpin(block);
	kvc_close(writer.client);
	rig_stop(&rig);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_stuck),
	cmocka_unit_test(test_alive),
	cmocka_unit_test(test_restart),
	cmocka_unit_test(test_no_daemon),
	cmocka_unit_test(test_dropped_space),
	cmocka_unit_test(test_drop_is_refused),
	cmocka_unit_test(test_fork),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
