/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon that dies, comes back, or stays away, as the client library's callers see it. */
#include "tests/e2e/test-client-rig.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define WAIT_MS 30000

struct rig {
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;
};

static void rig_start(struct rig *rig, uint32_t flags, uint32_t timeout_ms)
{
	struct kvc_schema schema = schema_small();

	schema.codec_k = schema.codec_v = KVC_CODEC_F32;
	test_daemon_start(&rig->d, NULL);
	rig->client = open_client_timeout(&rig->d, flags, timeout_ms);
	rig->space = open_space(rig->client, "s", &schema);
}

static uint64_t reconnects(kvc_client *client)
{
	struct kvc_info info;

	assert_int_equal(kvc_client_info(client, &info), KVC_OK);
	return info.reconnects;
}

static void test_restart(void **state)
{
	struct rig rig;

	rig_start(&rig, 0, 10000);
	assert_int_equal(append_block(rig.space, "k", NULL, 1, 32), KVC_OK);
	test_daemon_kill(&rig.d);
	test_daemon_restart(&rig.d);
	assert_int_equal(fetch_block(rig.space, "k", 1), KVC_MISS); /* a new arena */
	assert_int_equal(reconnects(rig.client), 1);
	assert_int_equal(append_block(rig.space, "k", NULL, 1, 32), KVC_OK);
	assert_int_equal(fetch_block(rig.space, "k", 1), KVC_OK);
	test_daemon_restart(&rig.d); /* an orderly end */
	assert_int_equal(append_block(rig.space, "k", NULL, 1, 32), KVC_OK);
	assert_int_equal(fetch_block(rig.space, "k", 1), KVC_OK);
	assert_int_equal(reconnects(rig.client), 2);
	kvc_close(rig.client);
	test_daemon_stop(&rig.d);
}

/* Bytes of a pinned block outlive the daemon; the pin is stale as soon as the client has noticed. */
static void test_pins_over_a_restart(void **state)
{
	struct kvc_key key = key_of("k");
	kvc_block *block = NULL, *second = NULL;
	struct kvc_tile tile, none;
	struct rig rig;
	int status;

	rig_start(&rig, 0, 10000);
	assert_int_equal(append_block(rig.space, "k", NULL, 6, 32), KVC_OK);
	assert_int_equal(kvc_lease(rig.space, &key, 1, NULL, 0, &block, &status), KVC_OK);
	assert_int_equal(kvc_block_tile(block, 'K', 2, 1, &tile), KVC_OK);
	test_daemon_kill(&rig.d);
	for (uint32_t c = 0; c < 64; c++)
		assert_true(((const float *)tile.bytes)[c] == value_at(6, 'K', 2, 1, 0, c));
	test_daemon_restart(&rig.d);
	assert_int_equal(append_block(rig.space, "k", NULL, 7, 32), KVC_OK); /* other values under the same key */
	assert_int_equal(kvc_block_check(block), KVC_STALE);
	assert_int_equal(kvc_block_tile(block, 'K', 2, 1, &none), KVC_STALE);
	for (uint32_t t = 0; t < 32; t++)
		for (uint32_t c = 0; c < 64; c++)
			assert_true(((const float *)tile.bytes)[t * 64 + c] == value_at(6, 'K', 2, 1, t, c));
	assert_int_equal(kvc_lease(rig.space, &key, 1, NULL, 0, &second, &status), KVC_OK);
	assert_int_equal(kvc_block_check(second), KVC_OK);
	kvc_unpin(block); /* of an earlier session: gives nothing back */
	assert_int_equal(counter_of(rig.client, "leases"), 1);
	kvc_unpin(second);
	assert_int_equal(counter_of(rig.client, "leases"), 0);
	kvc_close(rig.client);
	test_daemon_stop(&rig.d);
}

/* The space was registered with another schema before this client came back. */
static void test_another_schema_after_a_restart(void **state)
{
	struct kvc_schema schema = schema_small();
	kvc_client *other;
	kvc_space *again;
	struct rig rig;

	rig_start(&rig, 0, 10000);
	test_daemon_kill(&rig.d);
	test_daemon_restart(&rig.d);
	other = open_client(&rig.d, 0);
	(void)open_space(other, "s", &schema); /* q8 */
	assert_int_equal(append_block(rig.space, "k", NULL, 1, 32), KVC_SCHEMA);
	assert_non_null(strstr(kvc_error(rig.client), "space s"));
	assert_int_equal(fetch_block(rig.space, "k", 1), KVC_SCHEMA);
	again = open_space(rig.client, "s", NULL);
	assert_int_equal(append_block(again, "k", NULL, 1, 32), KVC_OK);
	assert_int_equal(fetch_block(again, "k", 1), KVC_OK);
	kvc_close(other);
	kvc_close(rig.client);
	test_daemon_stop(&rig.d);
}

/* Away for good: the first call waits its time, the next ones fail at once. A daemon that comes later is found. */
static void test_gone(void **state)
{
	struct rig rig;
	int r;

	rig_start(&rig, 0, 1000);
	test_daemon_kill(&rig.d);
	assert_int_equal(fetch_block(rig.space, "k", 1), -ENOTCONN);
	assert_non_null(strstr(kvc_error(rig.client), rig.d.socket_path));
	for (unsigned i = 0; i < 1000; i++) /* 1,000 s if each waited */
		assert_int_equal(append_block(rig.space, "k", NULL, 1, 32), -ENOTCONN);
	test_daemon_restart(&rig.d);
	while ((r = append_block(rig.space, "k", NULL, 1, 32)) == -ENOTCONN)
		pause_ms(20);
	assert_int_equal(r, KVC_OK);
	assert_int_equal(fetch_block(rig.space, "k", 1), KVC_OK);
	kvc_close(rig.client);
	test_daemon_stop(&rig.d);
}

static void test_no_reconnect(void **state)
{
	struct rig rig;

	rig_start(&rig, KVC_NO_RECONNECT, 10000);
	assert_int_equal(append_block(rig.space, "k", NULL, 1, 32), KVC_OK);
	test_daemon_kill(&rig.d);
	test_daemon_restart(&rig.d);
	assert_int_equal(fetch_block(rig.space, "k", 1), -ENOTCONN);
	assert_int_equal(append_block(rig.space, "k", NULL, 1, 32), -ENOTCONN);
	assert_int_equal(reconnects(rig.client), 0);
	kvc_close(rig.client);
	test_daemon_stop(&rig.d);
}

/* A stopped process does not answer; the call ends with its time, and the next one finds the daemon again. */
static void test_timeout(void **state)
{
	struct rig rig;

	rig_start(&rig, 0, 1000);
	assert_int_equal(append_block(rig.space, "k", NULL, 1, 32), KVC_OK);
	assert_int_equal(kill(rig.d.pid, SIGSTOP), 0);
	assert_int_equal(fetch_block(rig.space, "k", 1), -ETIMEDOUT);
	assert_int_equal(kill(rig.d.pid, SIGCONT), 0);
	assert_int_equal(fetch_block(rig.space, "k", 1), KVC_OK);
	assert_int_equal(reconnects(rig.client), 1);
	kvc_close(rig.client);
	test_daemon_stop(&rig.d);
}

/* Appends that the daemon never answered end with an error, and the same descriptor serves the next connection. */
static void test_submitted_and_lost(void **state)
{
	struct epoll_event event = { .events = EPOLLIN };
	int loop = epoll_create1(EPOLL_CLOEXEC);
	struct kvc_completion done[8];
	size_t n = 0, total = 0;
	struct rig rig;
	int fd;

	rig_start(&rig, 0, 10000);
	fd = kvc_completion_fd(rig.client);
	assert_int_equal(epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event), 0);
	assert_int_equal(kill(rig.d.pid, SIGSTOP), 0);
	assert_int_equal(submit_block(rig.space, "a", NULL, 1, 32, 1), KVC_OK);
	assert_int_equal(submit_block(rig.space, "b", "a", 2, 32, 2), KVC_OK);
	assert_int_equal(epoll_wait(loop, &event, 1, 0), 0);
	test_daemon_kill(&rig.d);
	while (total < 2) {
		assert_int_equal(epoll_wait(loop, &event, 1, WAIT_MS), 1);
		assert_int_equal(kvc_reap(rig.client, done, 8, 0, &n), KVC_OK);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(done[i].status, -ECONNRESET);
		total += n;
	}
	/* The hang-up is told once; where transfers are cut and refused it may take another look. */
	if (!getenv("KVP_SHORT_IO_SEED"))
		assert_int_equal(epoll_wait(loop, &event, 1, 0), 0);
	test_daemon_restart(&rig.d);
	assert_int_equal(submit_block(rig.space, "a", NULL, 1, 32, 3), KVC_OK);
	assert_int_equal(kvc_completion_fd(rig.client), fd);
	do {
		assert_int_equal(epoll_wait(loop, &event, 1, WAIT_MS), 1);
		assert_int_equal(kvc_reap(rig.client, done, 8, 0, &n), KVC_OK);
	} while (n == 0);
	assert_int_equal(done[0].user_data, 3);
	assert_int_equal(done[0].status, KVC_OK);
	(void)close(loop);
	kvc_close(rig.client);
	test_daemon_stop(&rig.d);
}

/* An append call that the daemon dies under is done again with the next daemon, from its first block on. */
static void test_append_is_repeated(void **state)
{
	enum { N = 64 };
	struct kvc_append *blocks = calloc(N, sizeof(*blocks));
	static char names[N][16];
	struct box k, v;
	struct rig rig;

	rig_start(&rig, 0, 10000);
	box_new(&k, LAYOUT_HEAD_MAJOR, KVC_F32, 3, 4, 32, 64);
	box_new(&v, LAYOUT_HEAD_MAJOR, KVC_F32, 3, 4, 32, 64);
	box_fill(&k, 1, 'K', 0, 0);
	box_fill(&v, 1, 'V', 0, 0);
	for (unsigned i = 0; i < N; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "b%u", i);
		blocks[i] = (struct kvc_append){ .key = key_of(names[i]), .tokens = 32, .k = k.tensor, .v = v.tensor };
		if (i > 0)
			blocks[i].parent = key_of(names[i - 1]);
	}
	assert_int_equal(kvc_append(rig.space, blocks, N / 2), KVC_OK);
	test_daemon_kill(&rig.d);
	test_daemon_restart(&rig.d);
	assert_int_equal(kvc_append(rig.space, blocks, N), KVC_OK);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(blocks[i].status, KVC_OK);
	assert_int_equal(fetch_block(rig.space, names[N - 1], 1), KVC_OK);
	box_free(&k);
	box_free(&v);
	free(blocks);
	kvc_close(rig.client);
	test_daemon_stop(&rig.d);
}

struct busy {
	struct rig *rig;
	_Atomic bool stop;
	_Atomic unsigned rounds;
	int failed; /* the first result that was not right */
};

/* Appends chains and reads them back until told to stop. With a daemon that comes back every call works. */
static void *busy_run(void *data)
{
	struct busy *busy = data;
	char key[32], parent[32] = "";

	for (unsigned i = 0; !busy->stop && busy->failed == 0; i++, busy->rounds++) {
		int r;

		(void)snprintf(key, sizeof(key), "busy-%u", i);
		r = append_block(busy->rig->space, key, i % 8 ? parent : NULL, i, 32);
		if (r != KVC_OK && r != KVC_NO_PARENT && r != KVC_PRESENT)
			busy->failed = r;
		r = fetch_block(busy->rig->space, key, i);
		if (r != KVC_OK && r != KVC_MISS && r != KVC_STALE)
			busy->failed = r;
		memcpy(parent, key, sizeof(parent));
	}
	return NULL;
}

/* The daemon is killed again and again in the middle of whatever the client is doing. */
static void test_killed_under_work(void **state)
{
	struct busy busy = { 0 };
	pthread_t thread;
	struct rig rig;

	rig_start(&rig, 0, 10000);
	busy.rig = &rig;
	assert_int_equal(pthread_create(&thread, NULL, busy_run, &busy), 0);
	for (unsigned i = 0; i < 8; i++) {
		unsigned before = busy.rounds;

		while (busy.rounds < before + 5 && busy.failed == 0)
			pause_ms(1);
		pause_ms((long)i % 3);
		test_daemon_kill(&rig.d);
		test_daemon_restart(&rig.d);
	}
	busy.stop = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(busy.failed, 0);
	assert_true(reconnects(rig.client) >= 7);
	kvc_close(rig.client);
	test_daemon_stop(&rig.d);
}

/* kvc_unpin(), kvc_space_close() and kvc_close() need no daemon. */
static void test_ends_without_a_daemon(void **state)
{
	struct kvc_key key = key_of("k");
	kvc_block *block = NULL;
	struct rig rig;
	int status;

	rig_start(&rig, 0, 60000);
	assert_int_equal(append_block(rig.space, "k", NULL, 6, 32), KVC_OK);
	assert_int_equal(kvc_lease(rig.space, &key, 1, NULL, 0, &block, &status), KVC_OK);
	test_daemon_kill(&rig.d);
	kvc_unpin(block);
	kvc_space_close(rig.space);
	kvc_close(rig.client);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_restart),
	cmocka_unit_test(test_pins_over_a_restart),
	cmocka_unit_test(test_another_schema_after_a_restart),
	cmocka_unit_test(test_gone),
	cmocka_unit_test(test_no_reconnect),
	cmocka_unit_test(test_timeout),
	cmocka_unit_test(test_submitted_and_lost),
	cmocka_unit_test(test_append_is_repeated),
	cmocka_unit_test(test_killed_under_work),
	cmocka_unit_test(test_ends_without_a_daemon),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
