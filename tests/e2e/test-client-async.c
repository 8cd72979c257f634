/* SPDX-License-Identifier: Apache-2.0 */
/* kvc_submit(), kvc_reap() and the completion descriptor; threads and fork. */
#include "tests/e2e/test-client-rig.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 30000

struct rig {
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;
};

static void rig_start(struct rig *rig)
{
	struct kvc_schema schema = schema_small();

	test_daemon_start(&rig->d, NULL);
	rig->client = open_client(&rig->d, 0);
	rig->space = open_space(rig->client, "s", &schema);
}

static void rig_stop(struct rig *rig)
{
	kvc_close(rig->client);
	test_daemon_stop(&rig->d);
}

static bool readable(int fd, int wait_ms)
{
	struct pollfd wanted = { .fd = fd, .events = POLLIN };

	return poll(&wanted, 1, wait_ms) == 1;
}

/* One completion, waited for. */
static struct kvc_completion reap_one(kvc_client *client)
{
	struct kvc_completion completion;
	size_t n = 0;

	assert_int_equal(kvc_reap(client, &completion, 1, WAIT_MS, &n), KVC_OK);
	assert_int_equal(n, 1);
	return completion;
}

static size_t reap_none(kvc_client *client)
{
	struct kvc_completion completion;
	size_t n = 99;

	assert_int_equal(kvc_reap(client, &completion, 1, 0, &n), KVC_OK);
	return n;
}

static void test_submit_and_reap(void **state)
{
	struct kvc_completion done;
	struct rig rig;

	rig_start(&rig);
	assert_int_equal(reap_none(rig.client), 0);
	assert_int_equal(submit_block(rig.space, "a", NULL, 1, 32, 77), KVC_OK);
	done = reap_one(rig.client);
	assert_int_equal(done.user_data, 77);
	assert_int_equal(done.status, KVC_OK);
	assert_int_equal(done.pages_stored, 6);
	assert_int_equal(done.pages_present, 0);
	assert_int_equal(submit_block(rig.space, "a", NULL, 1, 32, 78), KVC_OK);
	done = reap_one(rig.client);
	assert_int_equal(done.user_data, 78);
	assert_int_equal(done.status, KVC_PRESENT);
	assert_int_equal(done.pages_present, 6);
	assert_int_equal(submit_block(rig.space, "c", "b", 1, 32, 79), KVC_OK);
	done = reap_one(rig.client);
	assert_int_equal(done.status, KVC_NO_PARENT);
	assert_int_equal(reap_none(rig.client), 0);
	assert_int_equal(fetch_block(rig.space, "a", 1), KVC_OK);
	assert_int_equal(kvc_reap(rig.client, NULL, 1, 0, NULL), -EINVAL);
	rig_stop(&rig);
}

/* An event loop that uses nothing but the descriptor sees every completion. */
static void test_completion_fd(void **state)
{
	enum { N = 60 };
	bool seen[N] = { false };
	struct epoll_event event = { .events = EPOLLIN };
	int loop = epoll_create1(EPOLL_CLOEXEC);
	unsigned submitted = 0, reaped = 0;
	struct rig rig;
	char key[16];
	int fd;

	rig_start(&rig);
	fd = kvc_completion_fd(rig.client);
	assert_true(fd >= 0);
	assert_int_equal(epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event), 0);
	assert_false(readable(fd, 0));
	while (reaped < N) {
		struct kvc_completion done[2];
		size_t n;
		int r = -EAGAIN;

		if (submitted < N) {
			(void)snprintf(key, sizeof(key), "k%u", submitted);
			r = submit_block(rig.space, key, NULL, submitted, 32, submitted);
			assert_true(r == KVC_OK || r == -EAGAIN);
			submitted += r == KVC_OK;
		}
		if (r == KVC_OK)
			continue;
		assert_int_equal(epoll_wait(loop, &event, 1, WAIT_MS), 1);
		assert_int_equal(kvc_reap(rig.client, done, 2, 0, &n), KVC_OK);
		for (size_t i = 0; i < n; i++, reaped++) {
			assert_int_equal(done[i].status, KVC_OK);
			assert_false(seen[done[i].user_data]);
			seen[done[i].user_data] = true;
		}
	}
	assert_int_equal(reap_none(rig.client), 0);
	assert_false(readable(fd, 0));
	(void)close(loop);
	rig_stop(&rig);
}

/* What does not fit the staging memory is refused whole, and works after reaping. The daemon is stopped meanwhile. */
static void test_staging_full(void **state)
{
	struct kvc_completion done;
	unsigned submitted = 0;
	struct rig rig;
	char key[16];
	int r;

	rig_start(&rig);
	assert_int_equal(kill(rig.d.pid, SIGSTOP), 0);
	for (;;) {
		(void)snprintf(key, sizeof(key), "k%u", submitted);
		r = submit_block(rig.space, key, NULL, submitted, 32, submitted);
		if (r != KVC_OK)
			break;
		submitted++;
		assert_true(submitted < 100); /* 2 MiB of blocks of 60 KiB and more */
	}
	assert_int_equal(r, -EAGAIN);
	assert_true(submitted > 10);
	assert_int_equal(reap_none(rig.client), 0);
	assert_int_equal(kill(rig.d.pid, SIGCONT), 0);
	for (unsigned i = 0; i < submitted; i++) {
		done = reap_one(rig.client);
		assert_int_equal(done.status, KVC_OK);
	}
	assert_int_equal(reap_none(rig.client), 0);
	assert_int_equal(submit_block(rig.space, "last", NULL, 5, 32, 1), KVC_OK);
	assert_int_equal(reap_one(rig.client).status, KVC_OK);
	rig_stop(&rig);
}

/* Completions that other calls happened to collect are not lost, and make the descriptor readable. */
static void test_collected_by_another_call(void **state)
{
	struct rig rig;
	int fd;

	rig_start(&rig);
	fd = kvc_completion_fd(rig.client);
	assert_int_equal(submit_block(rig.space, "a", NULL, 1, 32, 1), KVC_OK);
	assert_int_equal(submit_block(rig.space, "b", "a", 2, 32, 2), KVC_OK);
	assert_int_equal(append_block(rig.space, "c", "b", 3, 32), KVC_OK); /* answered after them */
	assert_true(readable(fd, 0));
	assert_int_equal(reap_one(rig.client).user_data, 1);
	assert_true(readable(fd, 0)); /* one is left */
	assert_int_equal(reap_one(rig.client).user_data, 2);
	assert_int_equal(reap_none(rig.client), 0);
	assert_false(readable(fd, 0));
	rig_stop(&rig);
}

/* A submitted block is encoded when the call returns: its tensors may go. Closing with appends under way is fine. */
static void test_close_with_appends_under_way(void **state)
{
	struct rig rig;
	char key[16];

	rig_start(&rig);
	for (unsigned i = 0; i < 10; i++) {
		(void)snprintf(key, sizeof(key), "k%u", i);
		assert_int_equal(submit_block(rig.space, key, NULL, i, 32, i), KVC_OK);
	}
	rig_stop(&rig);
}

struct worker {
	struct rig *rig;
	unsigned id;
	bool failed;
};

static void *worker_run(void *data)
{
	struct worker *worker = data;
	char key[32];

	for (unsigned i = 0; i < 40; i++) {
		(void)snprintf(key, sizeof(key), "w%u-%u", worker->id, i);
		if (append_block(worker->rig->space, key, NULL, worker->id * 1000 + i, 32) != KVC_OK ||
		    fetch_block(worker->rig->space, key, worker->id * 1000 + i) != KVC_OK)
			worker->failed = true;
	}
	return NULL;
}

static void test_threads_share_a_client(void **state)
{
	struct worker workers[4];
	pthread_t threads[4];
	struct rig rig;

	rig_start(&rig);
	for (unsigned i = 0; i < 4; i++) {
		workers[i] = (struct worker){ .rig = &rig, .id = i };
		assert_int_equal(pthread_create(&threads[i], NULL, worker_run, &workers[i]), 0);
	}
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(submit_block(rig.space, "same", NULL, 1, 32, i), KVC_OK);
		assert_int_equal(reap_one(rig.client).user_data, i);
	}
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_false(workers[i].failed);
	}
	rig_stop(&rig);
}

static void *reaper_run(void *data)
{
	struct kvc_completion *done = malloc(sizeof(*done));

	*done = reap_one(data);
	return done;
}

/* A thread that waits in kvc_reap() does not keep others from their calls. */
static void test_reap_waits_without_the_lock(void **state)
{
	struct kvc_completion *done = NULL;
	pthread_t reaper;
	struct rig rig;

	rig_start(&rig);
	assert_int_equal(pthread_create(&reaper, NULL, reaper_run, rig.client), 0);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(fetch_block(rig.space, "none", 0), KVC_MISS);
		pause_ms(1);
	}
	assert_int_equal(submit_block(rig.space, "a", NULL, 1, 32, 5), KVC_OK);
	assert_int_equal(pthread_join(reaper, (void **)&done), 0);
	assert_int_equal(done->user_data, 5);
	free(done);
	rig_stop(&rig);
}

/* In a child: every call is refused, and freeing works. Returns the number of the first check that failed, or 0. */
static int child_checks(struct rig *rig, kvc_block *block)
{
	struct kvc_completion completion;
	struct kvc_key key = key_of("k");
	struct kvc_stats *stats = NULL;
	struct kvc_info info;
	kvc_space *space = NULL;
	size_t n = 0;

	if (append_block(rig->space, "child", NULL, 1, 32) != -ECHILD)
		return 1;
	if (fetch_block(rig->space, "k", 1) != -ECHILD)
		return 2;
	if (kvc_match(rig->space, NULL, &key, 1, NULL, &n) != -ECHILD)
		return 3;
	if (kvc_stats_get(rig->client, &stats) != -ECHILD || stats)
		return 4;
	if (kvc_client_info(rig->client, &info) != -ECHILD)
		return 5;
	if (kvc_space_open(rig->client, "s", NULL, &space) != -ECHILD)
		return 6;
	if (kvc_reap(rig->client, &completion, 1, 0, &n) != -ECHILD)
		return 7;
	if (kvc_completion_fd(rig->client) != -ECHILD)
		return 8;
	if (kvc_match(rig->space, NULL, NULL, 1, NULL, &n) != -ECHILD)
		return 9;
	if (!strstr(kvc_error(rig->client), "another process"))
		return 10;
	kvc_unpin(block);
	kvc_space_close(rig->space);
	kvc_close(rig->client);
	return 0;
}

static void test_fork(void **state)
{
	kvc_block *block = NULL;
	struct kvc_key key = key_of("k");
	struct rig rig;
	int status;
	pid_t child;
	int fd;

	rig_start(&rig);
	fd = kvc_completion_fd(rig.client);
	assert_int_equal(append_block(rig.space, "k", NULL, 1, 32), KVC_OK);
	assert_int_equal(kvc_lease(rig.space, &key, 1, NULL, 0, &block, &status), KVC_OK);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(child_checks(&rig, block));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	/* Nothing of the parent's changed: the pin, the session, the watched descriptors. */
	assert_int_equal(kvc_block_check(block), KVC_OK);
	assert_int_equal(counter_of(rig.client, "leases"), 1);
	assert_int_equal(fetch_block(rig.space, "k", 1), KVC_OK);
	assert_int_equal(reap_none(rig.client), 0);
	assert_int_equal(submit_block(rig.space, "l", NULL, 1, 32, 1), KVC_OK);
	assert_true(readable(fd, WAIT_MS));
	assert_int_equal(reap_one(rig.client).status, KVC_OK);
	kvc_unpin(block);
	rig_stop(&rig);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_submit_and_reap),
	cmocka_unit_test(test_completion_fd),
	cmocka_unit_test(test_staging_full),
	cmocka_unit_test(test_collected_by_another_call),
	cmocka_unit_test(test_close_with_appends_under_way),
	cmocka_unit_test(test_threads_share_a_client),
	cmocka_unit_test(test_reap_waits_without_the_lock),
	cmocka_unit_test(test_fork),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
