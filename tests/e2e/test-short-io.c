/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvpaged and libkvclient on a kernel that keeps no promise that it did not make (tests/lib/short-io.h, which is
 * preloaded into both): short and interrupted transfers, full sockets, failing accept4(), jumping clocks.
 *
 * Tests of other names run again under the same library; see tests/meson.build.
 */
#include "tests/e2e/http-rig.h"
#include "tests/e2e/test-client-rig.h"
#include "tests/lib/harness.h"
#include "tests/lib/short-io.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEEDS 6u
#define BLOCKS 6u
#define NS_PER_S INT64_C(1000000000)
#define DAY_NS (INT64_C(86400) * NS_PER_S)

/* Of the daemons that this test starts from now on, and of the test's own libkvclient. */
static struct short_io *theirs, *ours;

static void prepare(void)
{
	struct short_io *(*control_of)(void);
	char path[160];
	int fd;

	*(void **)&control_of = dlsym(RTLD_DEFAULT, "short_io_control");
	if (!control_of)
		harness_skip("the library short-io is not preloaded");
	ours = control_of();
	(void)snprintf(path, sizeof(path), "%s/short-io", harness_directory());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, sizeof(*theirs)), 0);
	theirs = mmap(NULL, sizeof(*theirs), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(theirs, MAP_FAILED);
	(void)close(fd);
	assert_int_equal(setenv("KVP_SHORT_IO", path, 1), 0);
}

static void finish(void)
{
	atomic_store(&ours->seed, 0);
	(void)munmap(theirs, sizeof(*theirs));
}

/* ---- Transfers ---- */

static void blocks_store(kvc_space *space)
{
	char key[2] = "a", parent[2] = "a";

	for (unsigned i = 0; i < BLOCKS; i++) {
		key[0] = (char)('a' + i);
		assert_int_equal(append_block(space, key, i ? parent : NULL, i, 32), KVC_OK);
		parent[0] = key[0];
	}
}

static void completions_take(kvc_client *client, kvc_space *space)
{
	struct kvc_completion completions[2];
	size_t n = 0, got;

	assert_int_equal(submit_block(space, "x", NULL, 77, 32, 1), KVC_OK);
	assert_int_equal(submit_block(space, "y", NULL, 78, 32, 2), KVC_OK);
	while (n < 2) {
		assert_int_equal(kvc_reap(client, completions, 2 - n, 10000, &got), KVC_OK);
		for (size_t i = 0; i < got; i++)
			assert_int_equal(completions[i].status, KVC_OK);
		n += got;
	}
	assert_int_equal(fetch_block(space, "y", 78), KVC_OK);
}

static void blocks_use(kvc_client *client, kvc_space *space)
{
	struct kvc_event_cursor cursor = { 0 };
	struct kvc_event events[BLOCKS];
	struct kvc_list_item items[BLOCKS];
	struct kvc_key first = key_of("a");
	struct kvc_config_item *config;
	uint64_t place = 0;
	char key[2] = "a";
	size_t n;

	for (unsigned i = 0; i < BLOCKS; i++) {
		key[0] = (char)('a' + i);
		assert_int_equal(fetch_block(space, key, i), KVC_OK);
	}
	assert_int_equal(kvc_events(client, &cursor, events, BLOCKS, 1000, &n), KVC_OK);
	assert_int_equal(n, BLOCKS);
	assert_int_equal(kvc_list(space, &place, items, BLOCKS, &n), KVC_OK);
	assert_int_equal(n, BLOCKS);
	assert_int_equal(kvc_config(client, &config, &n), KVC_OK);
	assert_true(n > 10);
	free(config);
	assert_int_equal(counter_of(client, "append_no_space_total"), 0);
	completions_take(client, space);
	assert_int_equal(kvc_delete(space, &first, 1, NULL), KVC_OK);
	assert_int_equal(fetch_block(space, "f", 5), KVC_MISS); /* went with its ancestor */
}

static void test_transfers(void **state)
{
	struct kvc_schema schema = schema_small();

	prepare();
	for (unsigned seed = 1; seed <= SEEDS; seed++) {
		struct test_daemon d;
		kvc_client *client;
		kvc_space *space;

		atomic_store(&theirs->seed, seed);
		atomic_store(&ours->seed, seed);
		test_daemon_start(&d, NULL);
		client = open_client(&d, seed % 2 ? 0 : KVC_NO_SPIN);
		space = open_space(client, "s", &schema);
		blocks_store(space);
		blocks_use(client, space);
		assert_int_equal(counter_of(client, "protocol_errors_total"), 0);
		kvc_close(client);
		test_daemon_stop(&d);
	}
	print_message("cut %lu and %lu, interrupted %lu and %lu, refused %lu and %lu\n", atomic_load(&theirs->cut),
		      atomic_load(&ours->cut), atomic_load(&theirs->interrupted), atomic_load(&ours->interrupted),
		      atomic_load(&theirs->refused), atomic_load(&ours->refused));
	assert_true(atomic_load(&theirs->cut) > 100 && atomic_load(&ours->cut) > 100);
	assert_true(atomic_load(&theirs->interrupted) > 100 && atomic_load(&ours->interrupted) > 100);
	assert_true(atomic_load(&theirs->refused) > 10 && atomic_load(&ours->refused) > 10);
	finish();
}

/* The whole text of the metrics, a few bytes at a time. */
static void test_scrapes(void **state)
{
	struct test_daemon d;

	prepare();
	atomic_store(&theirs->seed, 1);
	test_daemon_start(&d, NULL);
	for (unsigned i = 0; i < 3; i++) {
		char *text = http_get(http_socket(&d), "/metrics");

		assert_true(http_value(text, "kvpaged_protocol_errors_total") == 0);
		free(text);
	}
	assert_true(atomic_load(&theirs->cut) > 10);
	test_daemon_stop(&d);
	finish();
}

/* ---- accept4() ---- */

static void test_accept_fails(void **state)
{
	static const int errors[] = { ENFILE, EMFILE, ECONNABORTED, ENOMEM, ENOBUFS, EPERM };
	struct test_daemon d;
	kvc_client *old;

	prepare();
	test_daemon_start(&d, NULL);
	old = open_client(&d, KVC_NO_RECONNECT);
	for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		struct kvc_options options = { .struct_bytes = sizeof(options), .socket_path = d.socket_path };
		kvc_client *client = NULL;
		unsigned tries = 0;
		char why[256];

		atomic_store(&theirs->accept_errno, (uint32_t)errors[i]);
		atomic_store(&theirs->accept_failures, 1 + i % 3);
		/* Without a descriptor for it, a connection is dropped; its client tries again. */
		while (kvc_open(&options, &client, why, sizeof(why)) != KVC_OK)
			assert_true(++tries <= 3);
		assert_int_equal(atomic_load(&theirs->accept_failures), 0);
		assert_int_equal(counter_of(old, "sessions"), 2);
		kvc_close(client);
		while (counter_of(old, "sessions") != 1)
			pause_ms(1);
	}
	kvc_close(old);
	test_daemon_stop(&d);
	finish();
}

/* ---- Clocks ---- */

/* The wall's clock is nobody's; leases go by the monotonic one, also when a machine slept for an hour. */
static void test_clocks_jump(void **state)
{
	struct kvc_schema schema = schema_small();
	struct kvc_key key = key_of("k");
	struct test_daemon d;
	kvc_block *block = NULL;
	kvc_client *client;
	kvc_space *space;
	int status;

	prepare();
	test_daemon_start(&d, NULL);
	client = open_client(&d, KVC_NO_RECONNECT);
	space = open_space(client, "s", &schema);
	assert_int_equal(append_block(space, "k", NULL, 1, 32), KVC_OK);
	assert_int_equal(kvc_lease(space, &key, 1, NULL, 600000, &block, &status), KVC_OK);
	for (int days = -1; days <= 1; days++) {
		atomic_store(&theirs->wall_ns, days * DAY_NS);
		atomic_store(&ours->wall_ns, -days * DAY_NS);
		assert_int_equal(fetch_block(space, "k", 1), KVC_OK);
		assert_int_equal(counter_of(client, "leases"), 1);
		assert_int_equal(kvc_block_check(block), KVC_OK);
	}
	atomic_store(&theirs->monotonic_ns, 3600 * NS_PER_S);
	while (counter_of(client, "leases") != 0)
		pause_ms(1);
	assert_int_equal(fetch_block(space, "k", 1), KVC_OK); /* the block stays, and so does the session */
	assert_int_equal(append_block(space, "l", "k", 2, 32), KVC_OK);
	block = kvc_unpin(block);
	kvc_close(client);
	test_daemon_stop(&d);
	finish();
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_transfers),
	cmocka_unit_test(test_scrapes),
	cmocka_unit_test(test_accept_fails),
	cmocka_unit_test(test_clocks_jump),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
