/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that are killed or stopped at any moment. A killed client leaves no memory behind,
 * whatever it was doing; a client that slept through the end of its lease can see that; a client of
 * a killed daemon keeps reading what it had mapped.
 */
#include "tests/e2e/wire.h"
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- killed clients ---- */

#define KILLS 1000
#define AT_ONCE 4
#define KEYS 48
#define VICTIM_STAGING (256u << 10)

/*
 * Blocks of 64 pages of 17,152 bytes, a little over 1 MiB: a copy takes several slices, and the
 * arena of 64 MiB evicts.
 */
static void victim_schema(Kvpaged__V1__Schema *schema)
{
	wire_schema(schema, 16, 4);
	schema->block_tokens = 128;
}

struct victim {
	const char *socket_path;
	uint64_t seed;
	bool daemon_may_end;
	_Atomic uint64_t *progress; /* requests that some victim has sent; shared by all */
	_Atomic uint64_t *begun; /* NULL, or victims that have a space; shared by all */
};

/*
 * Sends an Append of some pages of some block, without waiting. Now and then the pages are those
 * that make it whole.
 */
static int victim_append(struct test_peer *peer, const struct wire_space *space, uint64_t checksum,
			 uint64_t r)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Append append = KVPAGED__V1__APPEND__INIT;
	Kvpaged__V1__PageRef refs[64];
	Kvpaged__V1__PageRef *pages[64];
	char key[16], parent[16];
	uint32_t first = r % 3 == 0 ? 0 : (uint32_t)(r >> 8) % space->page_count;
	uint32_t n = space->page_count - first;
	unsigned number = (unsigned)(r >> 16) % KEYS;

	for (uint32_t i = 0; i < n; i++) {
		kvpaged__v1__page_ref__init(&refs[i]);
		refs[i].index = first + i;
		refs[i].length = space->page_bytes;
		refs[i].checksum = checksum;
		pages[i] = &refs[i];
	}
	append.space_id = space->id;
	append.key.len = (size_t)snprintf(key, sizeof(key), "key %u", number);
	append.key.data = (uint8_t *)key;
	if (number % 4 > 0) { /* chains of four */
		append.parent.len = (size_t)snprintf(parent, sizeof(parent), "key %u", number - 1);
		append.parent.data = (uint8_t *)parent;
	}
	append.tokens = space->tokens;
	append.n_pages = n;
	append.pages = pages;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_APPEND;
	request.append = &append;
	return peer_send(peer, &request);
}

static int victim_read(struct test_peer *peer, const struct wire_space *space, uint64_t r)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Fetch fetch = KVPAGED__V1__FETCH__INIT;
	Kvpaged__V1__Delete delete = KVPAGED__V1__DELETE__INIT;
	ProtobufCBinaryData keys;
	char key[16];

	keys.len = (size_t)snprintf(key, sizeof(key), "key %u", (unsigned)(r >> 16) % KEYS);
	keys.data = (uint8_t *)key;
	fetch.space_id = delete.space_id = space->id;
	fetch.n_keys = delete.n_keys = 1;
	fetch.keys = delete.keys = &keys;
	request.verb_case = r & 8 ? KVPAGED__V1__REQUEST__VERB_FETCH
				  : KVPAGED__V1__REQUEST__VERB_DELETE;
	if (r & 8)
		request.fetch = &fetch;
	else
		request.delete_ = &delete;
	return peer_send(peer, &request);
}

/* Takes one reply. Whether there was one. */
static bool victim_receive(struct test_peer *peer)
{
	Kvpaged__V1__Reply *reply = peer_receive(peer, NULL, NULL);

	if (!reply)
		return false;
	kvpaged__v1__reply__free_unpacked(reply, NULL);
	return true;
}

/* Works until it is killed or the daemon hangs up, with up to three requests on their way. */
static void victim_work(void *context)
{
	const struct victim *victim = context;
	Kvpaged__V1__Schema schema;
	struct wire_space space;
	struct test_peer peer;
	uint64_t seed = victim->seed;
	uint64_t checksum;

	peer_connect(&peer, victim->socket_path);
	atomic_fetch_add(victim->progress, 1);
	peer_hello(&peer, VICTIM_STAGING);
	victim_schema(&schema);
	wire_open(&peer, "victims", &schema, &space);
	if (victim->begun)
		atomic_fetch_add(victim->begun, 1);
	memset(peer.staging, (int)seed, space.page_bytes);
	checksum = kvp_page_checksum(peer.staging, space.page_bytes);
	for (unsigned sent = 0;; sent++) {
		uint64_t r = random_next(&seed);
		int sending = (r & 7) < 6 ? victim_append(&peer, &space, checksum, r)
					  : victim_read(&peer, &space, r);

		atomic_fetch_add(victim->progress, 1);
		if (sending < 0 || (sent >= 3 && !victim_receive(&peer)))
			break;
	}
	assert_true(victim->daemon_may_end);
	peer_close(&peer);
}

static void kill_victim(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* It must not have ended by itself, for then it died of an assertion. */
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Until the victims together have sent so much more, then a moment longer. */
static void wait_for_moment(_Atomic uint64_t *progress, uint64_t r)
{
	uint64_t target = atomic_load(progress) + r % 8;
	const struct timespec moment = { .tv_nsec = (long)(r >> 32) % 1500000 };

	while (atomic_load(progress) < target)
		(void)sched_yield();
	(void)nanosleep(&moment, NULL);
}

static void test_killed_in_the_middle_of_an_append(void **state)
{
	_Atomic uint64_t *progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const char *text = getenv("KVP_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 10) : 1;
	pid_t pids[AT_ONCE] = { 0 };
	struct victim victim;
	struct scene scene;

	(void)printf("KVP_SEED=%" PRIu64 "\n", seed);
	assert_ptr_not_equal(progress, MAP_FAILED);
	scene_begin(&scene, NULL);
	victim = (struct victim){ .socket_path = scene.daemon.socket_path, .progress = progress };
	for (unsigned i = 0; i < KILLS + AT_ONCE; i++) {
		pid_t *pid = &pids[i % AT_ONCE];

		if (*pid) {
			wait_for_moment(progress, random_next(&seed));
			kill_victim(*pid);
		}
		*pid = 0;
		victim.seed = random_next(&seed);
		if (i < KILLS)
			*pid = begin_process(USER_SELF, victim_work, &victim);
	}
	scene_await(&scene, "sessions", 1);
	(void)printf("%" PRIu64 " requests, %" PRIu64 " blocks completed, %" PRIu64
		     " partial ones dropped with their writers\n",
		     atomic_load(progress), peer_counter(&scene.watcher, "append_blocks_total"),
		     peer_counter(&scene.watcher, "dropped_writer_gone_total"));
	/* They did reach everything: blocks were stored, and halves were dropped. */
	assert_int_equal(peer_counter(&scene.watcher, "protocol_errors_total"), 0);
	assert_true(peer_counter(&scene.watcher, "append_blocks_total") > KILLS / 10);
	assert_true(peer_counter(&scene.watcher, "dropped_writer_gone_total") > KILLS / 10);
	assert_true(peer_counter(&scene.watcher, "evictions_capacity_total") > 0 ||
		    peer_counter(&scene.watcher, "deleted_total") > 0);
	/* With their writers gone no partial block is left, and no lease. */
	scene_await(&scene, "blocks_partial", 0);
	scene_await(&scene, "leases", 0);
	scene_await(&scene, "limbo_bytes", 0);
	scene_await(&scene, "staging_bytes", 0);
	/* What is left are whole blocks; when they are gone, too, nothing is held at all. */
	(void)wire_evict_all(&scene.watcher);
	scene_await(&scene, "stored_bytes", 0);
	scene_await(&scene, "overhead_bytes", 0);
	scene_await(&scene, "free_bytes",
		    peer_counter(&scene.watcher, "arena_bytes") -
			    peer_counter(&scene.watcher, "metadata_bytes"));
	(void)munmap((void *)progress, sizeof(*progress));
	scene_end(&scene);
}

/* ---- a client that sleeps ---- */

struct sleeper {
	const char *socket_path;
	_Atomic uint64_t generation; /* what the lease said; 0: no lease yet */
	_Atomic uint32_t block;
	_Atomic bool woken; /* set by the test before it lets the sleeper go on */
};

/* Leases a block for a short time, then looks only when it has been stopped and woken. */
static void sleeper_work(void *context)
{
	struct sleeper *sleeper = context;
	Kvpaged__V1__Schema schema;
	Kvpaged__V1__FetchItem item;
	struct wire_space space;
	struct test_peer peer;

	peer_connect(&peer, sleeper->socket_path);
	peer_hello(&peer, 64 << 10);
	wire_schema(&schema, 2, 2);
	wire_open(&peer, "sleep", &schema, &space);
	assert_int_equal(wire_append(&peer, &space, "k", 0, space.page_count, 0x11), KVP_OK);
	assert_int_equal(wire_fetch(&peer, space.id, "k", 200, &item), KVP_OK);
	assert_int_equal(item.generation % 2, 0);
	atomic_store(&sleeper->block, item.block);
	atomic_store(&sleeper->generation, item.generation);
	while (!atomic_load(&sleeper->woken))
		(void)sched_yield();
	/* The handle tells, without a call to the daemon; and so does the daemon. */
	assert_int_not_equal(wire_generation(&peer, item.block), item.generation);
	assert_int_equal(wire_release(&peer, item.lease_id), KVP_STALE);
	/* The connection has lived through it. */
	assert_int_equal(wire_fetch(&peer, space.id, "k", 0, &item), KVP_OK);
	assert_int_equal(wire_release(&peer, item.lease_id), KVP_OK);
}

static void test_stopped_beyond_its_lease(void **state)
{
	struct sleeper *sleeper = mmap(NULL, sizeof(*sleeper), PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	Kvpaged__V1__Schema schema;
	struct wire_space space;
	struct test_peer peer;
	struct scene scene;
	int status;
	pid_t pid;

	assert_ptr_not_equal(sleeper, MAP_FAILED);
	scene_begin(&scene, NULL);
	sleeper->socket_path = scene.daemon.socket_path;
	pid = begin_process(USER_SELF, sleeper_work, sleeper);
	while (atomic_load(&sleeper->generation) == 0)
		pause_ms(1);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	scene_await(&scene, "leases", 0);
	assert_int_equal(peer_counter(&scene.watcher, "leases_expired_total"), 1);
	/* Its memory is used again, for other bytes under the same key. */
	peer_connect(&peer, scene.daemon.socket_path);
	peer_hello(&peer, 64 << 10);
	wire_schema(&schema, 2, 2);
	wire_open(&peer, "sleep", &schema, &space);
	assert_int_equal(wire_delete(&peer, space.id, "k"), KVP_OK);
	assert_int_equal(peer_counter(&peer, "limbo_bytes"), 0);
	assert_int_equal(wire_append(&peer, &space, "k", 0, space.page_count, 0x22), KVP_OK);
	assert_true(wire_generation(&peer, atomic_load(&sleeper->block)) >
		    atomic_load(&sleeper->generation));
	atomic_store(&sleeper->woken, true);
	assert_int_equal(kill(pid, SIGCONT), 0);
	end_process(pid);
	peer_close(&peer);
	(void)munmap(sleeper, sizeof(*sleeper));
	scene_end(&scene);
}

/*
 * A lease that holds: what was deleted meanwhile is marked, but its bytes stay until the lease
 * ends.
 */
static void test_deleted_under_a_lease(void **state)
{
	Kvpaged__V1__Schema schema;
	Kvpaged__V1__FetchItem item;
	struct wire_space space;
	struct test_peer peer;
	const uint8_t *page;
	uint64_t hash;
	struct scene scene;

	scene_begin(&scene, "--arena-bytes", "8MiB", NULL);
	peer_connect(&peer, scene.daemon.socket_path);
	peer_hello(&peer, 64 << 10);
	wire_schema(&schema, 4, 8);
	wire_open(&peer, "limbo", &schema, &space);
	assert_int_equal(wire_append(&peer, &space, "k", 0, space.page_count, 0x11), KVP_OK);
	assert_int_equal(wire_fetch(&peer, space.id, "k", 0, &item), KVP_OK);
	page = wire_page(&peer, item.block, 5, NULL);
	assert_non_null(page);
	hash = kvp_page_checksum(page, space.page_bytes);
	assert_int_equal(wire_delete(&peer, space.id, "k"), KVP_OK);
	assert_int_equal(wire_generation(&peer, item.block) % 2, 1);
	assert_true(peer_counter(&peer, "limbo_bytes") > 0);
	/* Many times the arena's size goes through it. */
	for (unsigned i = 0; i < 500; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "key %u", i);
		assert_int_equal(wire_append(&peer, &space, key, 0, space.page_count, (uint8_t)i),
				 KVP_OK);
	}
	assert_true(peer_counter(&peer, "evictions_capacity_total") > 0);
	assert_int_equal(kvp_page_checksum(page, space.page_bytes), hash);
	assert_int_equal(wire_release(&peer, item.lease_id), KVP_OK);
	assert_int_equal(peer_counter(&peer, "limbo_bytes"), 0);
	peer_close(&peer);
	scene_end(&scene);
}

/* ---- a killed daemon ---- */

static void test_killed_daemon(void **state)
{
	struct test_peer peers[4];
	Kvpaged__V1__FetchItem items[COUNT(peers)];
	uint64_t hashes[COUNT(peers)];
	Kvpaged__V1__Schema schema;
	struct wire_space space;
	struct test_daemon d;
	struct test_peer fresh;

	test_daemon_start(&d, NULL);
	wire_schema(&schema, 2, 2);
	for (unsigned i = 0; i < COUNT(peers); i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "key %u", i);
		peer_connect(&peers[i], d.socket_path);
		peer_hello(&peers[i], 64 << 10);
		wire_open(&peers[i], "survivors", &schema, &space);
		assert_int_equal(
			wire_append(&peers[i], &space, key, 0, space.page_count, (uint8_t)i),
			KVP_OK);
		assert_int_equal(wire_fetch(&peers[i], space.id, key, 0, &items[i]), KVP_OK);
		hashes[i] = kvp_page_checksum(wire_page(&peers[i], items[i].block, 1, NULL),
					      space.page_bytes);
	}
	test_daemon_kill(&d);
	test_daemon_restart(&d); /* on the same name: the dead socket is taken over */
	for (unsigned i = 0; i < COUNT(peers); i++) {
		peer_expect_end(&peers[i]);
		/* All pages of the mapping can be read, and what was leased is what it was. */
		(void)kvp_page_checksum(peers[i].arena, peers[i].arena_bytes);
		assert_int_equal(wire_generation(&peers[i], items[i].block), items[i].generation);
		assert_int_equal(kvp_page_checksum(wire_page(&peers[i], items[i].block, 1, NULL),
						   space.page_bytes),
				 hashes[i]);
	}
	scene_client_works(d.socket_path);
	peer_connect(&fresh, d.socket_path);
	peer_hello(&fresh, 0);
	assert_int_not_equal(fresh.incarnation, peers[0].incarnation);
	assert_int_not_equal(fresh.incarnation, 0);
	peer_close(&fresh);
	for (unsigned i = 0; i < COUNT(peers); i++)
		peer_close(&peers[i]);
	test_daemon_stop(&d);
}

/*
 * SIGTERM while clients append as fast as they can: what was accepted is answered, and the daemon
 * ends in order.
 */
static void test_stop_under_load(void **state)
{
	_Atomic uint64_t *shared = mmap(NULL, 2 * sizeof(*shared), PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct victim victim = { .progress = &shared[0], .begun = &shared[1], .daemon_may_end = true };
	pid_t pids[AT_ONCE];
	struct test_daemon d;

	assert_ptr_not_equal(shared, MAP_FAILED);
	test_daemon_start(&d, "--stop-drain-ms", "15s", NULL);
	victim.socket_path = d.socket_path;
	for (unsigned i = 0; i < AT_ONCE; i++) {
		victim.seed = i;
		pids[i] = begin_process(USER_SELF, victim_work, &victim);
	}
	while (atomic_load(victim.progress) < 200 || atomic_load(victim.begun) < AT_ONCE)
		pause_ms(1);
	test_daemon_stop(&d);
	assert_true(test_daemon_logged(&d, "stopped"));
	assert_false(test_daemon_logged(&d, "not everything was done within stop.drain_ms"));
	for (unsigned i = 0; i < AT_ONCE; i++)
		end_process(pids[i]);
	(void)munmap((void *)shared, 2 * sizeof(*shared));
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_killed_in_the_middle_of_an_append),
	cmocka_unit_test(test_stopped_beyond_its_lease),
	cmocka_unit_test(test_deleted_under_a_lease),
	cmocka_unit_test(test_killed_daemon),
	cmocka_unit_test(test_stop_under_load),
};

int main(void)
{
	return harness_run(tests, COUNT(tests));
}
