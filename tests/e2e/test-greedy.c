/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that take more than their share: of replies, connections, leases, arena, staging memory.
 * They reach a limit, others are served meanwhile, and nothing is left of them afterwards.
 */
#include "tests/e2e/wire.h"
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOBODY 65534
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define STAGING (64u << 10)

static void connect_ready(const struct scene *scene, struct test_peer *peer, uint64_t staging_bytes)
{
	peer_connect(peer, scene->daemon.socket_path);
	peer_hello(peer, staging_bytes);
}

/* ---- replies ---- */

/* Many spaces make the reply to Stats large: tens of KiB for a request of eight bytes. */
static void fill_space_table(const struct scene *scene, unsigned n)
{
	Kvpaged__V1__Schema schema;
	struct wire_space space;
	struct test_peer peer;

	connect_ready(scene, &peer, 0);
	wire_schema(&schema, 2, 1);
	for (unsigned i = 0; i < n; i++) {
		char name[KVP_NAME_BYTES_MAX];

		(void)snprintf(name, sizeof(name),
			       "a space with a name that takes some room in each reply, number %u",
			       i);
		wire_open(&peer, name, &schema, &space);
	}
	peer_close(&peer);
}

/* Asks for as long as the socket takes it. Whether the connection lives. */
static bool ask_without_reading(struct test_peer *peer)
{
	static const uint8_t stats[] = { 4, 0, 0, 0, 0x08, 0x05, 0x62, 0x00 };

	for (;;) {
		ssize_t sent = send(peer->fd, stats, sizeof(stats), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0)
			return errno == EAGAIN || errno == EINTR;
		if ((size_t)sent < sizeof(stats))
			return true; /* the rest of a cut frame never comes */
	}
}

static void test_replies_are_never_read(void **state)
{
	struct test_peer greedy[8];
	unsigned left = COUNT(greedy);
	bool alive[COUNT(greedy)];
	struct scene scene;

	scene_begin(&scene, "--limits-reply-stall-ms", "400ms", NULL);
	fill_space_table(&scene, 200);
	for (unsigned i = 0; i < COUNT(greedy); i++) {
		connect_ready(&scene, &greedy[i], 0);
		alive[i] = true;
	}
	while (left > 0) {
		for (unsigned i = 0; i < COUNT(greedy); i++) {
			if (!alive[i] || ask_without_reading(&greedy[i]))
				continue;
			alive[i] = false;
			left--;
		}
		/*
		 * Others are answered, and what piles up is bounded: by 1 MiB and one reply, in a
		 * buffer that doubles.
		 */
		assert_true(peer_counter(&scene.watcher, "sessions") >= 1);
		scene_assert_memory(&scene, COUNT(greedy) * 3 * MIB);
		pause_ms(2);
	}
	assert_int_equal(scene_log_lines(&scene, "it does not read its replies"), COUNT(greedy));
	for (unsigned i = 0; i < COUNT(greedy); i++)
		peer_close(&greedy[i]);
	scene_end(&scene);
}

/*
 * Far more at once than may be unanswered: the daemon takes them as it gets done with others, and
 * answers all, in order.
 */
static void test_more_requests_than_may_wait(void **state)
{
	enum { REQUESTS = 10 * KVP_REQUESTS_IN_FLIGHT_MAX };
	static uint8_t bytes[REQUESTS * 64];
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Delete delete = KVPAGED__V1__DELETE__INIT;
	ProtobufCBinaryData key = { .data = (uint8_t *)"k", .len = 1 };
	Kvpaged__V1__Schema schema;
	struct wire_space space;
	struct test_peer peer;
	size_t used = 0;
	struct scene scene;

	scene_begin(&scene, NULL);
	connect_ready(&scene, &peer, 0);
	wire_schema(&schema, 1, 1);
	wire_open(&peer, "queue", &schema, &space);
	delete.space_id = space.id;
	delete.n_keys = 1;
	delete.keys = &key;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_DELETE;
	request.delete_ = &delete;
	for (request.id = 1000; request.id < 1000 + REQUESTS; request.id++) {
		size_t n = kvpaged__v1__request__pack(&request, bytes + used + FRAME_HEADER_BYTES);

		frame_put_header(bytes + used, (uint32_t)n);
		used += FRAME_HEADER_BYTES + n;
	}
	assert_int_equal(peer_send_bytes(&peer, bytes, used), 0);
	for (uint64_t id = 1000; id < 1000 + REQUESTS; id++) {
		Kvpaged__V1__Reply *reply = peer_receive(&peer, NULL, NULL);

		assert_non_null(reply);
		assert_int_equal(reply->id, id);
		assert_int_equal(reply->status, KVP_OK);
		kvpaged__v1__reply__free_unpacked(reply, NULL);
	}
	peer_close(&peer);
	scene_end(&scene);
}

/* ---- connections ---- */

/* Ten thousand that say nothing; up to 600 at a time are open, more than one user may have. */
static void test_silent_connections(void **state)
{
	enum { OPEN = 600, ALL = 10000 };
	static struct test_peer silent[OPEN];
	struct scene scene;

	scene_begin(&scene, "--session-hello-ttl-ms", "300ms", NULL);
	for (unsigned i = 0; i < ALL; i++) {
		struct test_peer *peer = &silent[i % OPEN];

		if (i >= OPEN)
			peer_close(peer);
		peer_connect(peer, scene.daemon.socket_path);
		if (i % 500 == 0) /* who is in stays in */
			assert_in_range(peer_counter(&scene.watcher, "sessions"), 1, 256);
	}
	assert_true(peer_counter(&scene.watcher, "sessions_refused_total") > 0);
	scene_assert_memory(&scene, 8 * MIB);
	for (unsigned i = 0; i < OPEN; i++) {
		peer_expect_end(&silent[i]);
		peer_close(&silent[i]);
	}
	scene_end(&scene);
}

/* ---- leases ---- */

#define HOARD_BLOCKS 40

struct hoarder {
	const char *socket_path;
	int ready[2]; /* a pipe to the test: it has what it can get */
	int go[2];    /* a pipe from the test: it may end */
};

static void open_hoard(struct test_peer *peer, struct wire_space *space)
{
	Kvpaged__V1__Schema schema;

	wire_schema(&schema, 4, 8);
	wire_open(peer, "hoard", &schema, space);
}

/*
 * Leases block after block until it is refused, then goes on trying; each lease is for as long as
 * it can be.
 */
static void hoard(void *context)
{
	struct hoarder *hoarder = context;
	struct wire_space space;
	struct test_peer peer;
	unsigned held = 0, refused = 0;

	peer_connect(&peer, hoarder->socket_path);
	peer_hello(&peer, STAGING);
	open_hoard(&peer, &space);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < HOARD_BLOCKS; i++) {
			char key[16];
			unsigned status;

			(void)snprintf(key, sizeof(key), "key %u", i);
			status = wire_append(&peer, &space, key, 0, space.page_count, (uint8_t)i);
			assert_true(status == KVP_OK || status == KVP_PRESENT);
			status = wire_fetch(&peer, space.id, key, UINT32_MAX, NULL);
			assert_true(status == KVP_OK || status == KVP_QUOTA);
			held += status == KVP_OK;
			refused += status == KVP_QUOTA;
		}
	}
	assert_true(held > 0 && refused > 0);
	assert_int_equal(peer_counter(&peer, "leases"), held);
	assert_int_equal(write(hoarder->ready[1], "r", 1), 1);
	assert_int_equal(read(hoarder->go[0], &(char){ 0 }, 1), 1);
}

static void test_lease_hoarder(void **state)
{
	struct hoarder hoarder;
	struct wire_space space;
	struct test_peer peer;
	struct scene scene;
	pid_t pid;

	if (geteuid() != 0)
		harness_skip("only root can become another user");
	assert_int_equal(chmod(harness_directory(), 0755), 0);
	assert_int_equal(pipe2(hoarder.ready, O_CLOEXEC), 0);
	assert_int_equal(pipe2(hoarder.go, O_CLOEXEC), 0);
	scene_begin(&scene, "--socket-mode", "0666", "--limits-pinned-bytes-per-uid", "1MiB", NULL);
	hoarder.socket_path = scene.daemon.socket_path;
	pid = begin_process(NOBODY, hoard, &hoarder);
	(void)close(hoarder.ready[1]); /* so that its end is noticed */
	assert_int_equal(read(hoarder.ready[0], &(char){ 0 }, 1), 1);
	assert_true(peer_counter(&scene.watcher, "leases") > 0);
	/* Another user has a quota of its own, and can lease the very same blocks. */
	connect_ready(&scene, &peer, STAGING);
	open_hoard(&peer, &space);
	assert_int_equal(wire_fetch(&peer, space.id, "key 0", 0, NULL), KVP_OK);
	assert_int_equal(wire_append(&peer, &space, "mine", 0, space.page_count, 1), KVP_OK);
	assert_int_equal(wire_fetch(&peer, space.id, "mine", 0, NULL), KVP_OK);
	scene_client_works(scene.daemon.socket_path);
	assert_int_equal(write(hoarder.go[1], "g", 1), 1);
	end_process(pid);
	/* With the hoarder its leases are gone, at once. */
	scene_await(&scene, "leases", 2);
	peer_close(&peer);
	(void)close(hoarder.ready[0]);
	(void)close(hoarder.go[0]);
	(void)close(hoarder.go[1]);
	scene_end(&scene);
}

static void test_releases(void **state)
{
	Kvpaged__V1__FetchItem first, second;
	struct wire_space space;
	struct test_peer owner, thief;
	uint64_t seed = 5;
	struct scene scene;

	scene_begin(&scene, NULL);
	connect_ready(&scene, &owner, STAGING);
	connect_ready(&scene, &thief, STAGING);
	open_hoard(&owner, &space);
	open_hoard(&thief, &space);
	assert_int_equal(wire_append(&owner, &space, "k", 0, space.page_count, 1), KVP_OK);
	assert_int_equal(wire_fetch(&owner, space.id, "k", 0, &first), KVP_OK);
	assert_int_equal(wire_fetch(&owner, space.id, "k", 0, &second), KVP_OK);
	assert_int_not_equal(first.lease_id, second.lease_id);
	/* Another's, its neighbours, and any. */
	assert_int_equal(wire_release(&thief, first.lease_id), KVP_STALE);
	for (uint64_t i = 0; i < 2000; i++) {
		uint64_t guess = i < 1000 ? first.lease_id + i - 500 : random_next(&seed);

		assert_int_equal(wire_release(&thief, guess), KVP_STALE);
	}
	assert_int_equal(peer_counter(&owner, "leases"), 2);
	/* Twice. A new lease has another number, so the old number does not end it. */
	assert_int_equal(wire_release(&owner, first.lease_id), KVP_OK);
	assert_int_equal(wire_release(&owner, first.lease_id), KVP_STALE);
	assert_int_equal(wire_fetch(&owner, space.id, "k", 0, NULL), KVP_OK);
	assert_int_equal(wire_release(&owner, first.lease_id), KVP_STALE);
	assert_int_equal(wire_release(&owner, 0), KVP_STALE);
	assert_int_equal(wire_release(&owner, UINT64_MAX), KVP_STALE);
	assert_int_equal(peer_counter(&owner, "leases"), 2);
	peer_close(&owner);
	peer_close(&thief);
	scene_end(&scene);
}

/* ---- the arena ---- */

static uint64_t hash_block(const struct test_peer *peer, const struct wire_space *space,
			   uint32_t block)
{
	uint64_t hash = 0;

	for (uint32_t i = 0; i < space->page_count; i++) {
		const uint8_t *page = wire_page(peer, block, i, NULL);

		assert_non_null(page);
		hash = hash * 31 + kvp_page_checksum(page, space->page_bytes);
	}
	return hash;
}

/*
 * Everything leased: appends are refused, promptly, as often as one tries, and no leased byte
 * changes.
 */
static void test_arena_full_of_leases(void **state)
{
	static struct {
		Kvpaged__V1__FetchItem item;
		uint64_t hash;
	} held[4096];
	struct wire_space space;
	struct test_peer peer;
	unsigned n = 0;
	char key[16];
	struct scene scene;

	scene_begin(&scene, "--arena-bytes", "8MiB", "--limits-pinned-bytes-per-uid", "8MiB", NULL);
	connect_ready(&scene, &peer, STAGING);
	open_hoard(&peer, &space);
	for (;; n++) {
		unsigned status;

		assert_true(n < COUNT(held));
		(void)snprintf(key, sizeof(key), "key %u", n);
		status = wire_append(&peer, &space, key, 0, space.page_count, (uint8_t)n);
		if (status == KVP_NO_SPACE)
			break;
		assert_int_equal(status, KVP_OK);
		assert_int_equal(wire_fetch(&peer, space.id, key, 0, &held[n].item), KVP_OK);
		held[n].hash = hash_block(&peer, &space, held[n].item.block);
	}
	assert_true(n > 10);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(wire_append(&peer, &space, "one more", 0, space.page_count, 0xee),
				 KVP_NO_SPACE);
	assert_int_equal(wire_evict_all(&scene.watcher), 0);
	assert_int_equal(peer_counter(&peer, "evictions_capacity_total"), 0);
	assert_int_equal(peer_counter(&peer, "blocks"), n);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(wire_generation(&peer, held[i].item.block),
				 held[i].item.generation);
		assert_int_equal(hash_block(&peer, &space, held[i].item.block), held[i].hash);
	}
	/* One lease less, and there is room. */
	assert_int_equal(wire_release(&peer, held[n / 2].item.lease_id), KVP_OK);
	assert_int_equal(wire_append(&peer, &space, "one more", 0, space.page_count, 0xee), KVP_OK);
	assert_int_equal(peer_counter(&peer, "evictions_capacity_total"), 1);
	peer_close(&peer);
	scene_end(&scene);
}

/* ---- staging memory ---- */

static unsigned hello_status(const struct scene *scene, uint64_t staging_bytes)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Hello hello = KVPAGED__V1__HELLO__INIT;
	struct test_peer peer;
	unsigned status;

	hello.version_min = hello.version_max = KVP_PROTOCOL_VERSION_MAX;
	hello.staging_bytes = staging_bytes;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_HELLO;
	request.hello = &hello;
	peer_connect(&peer, scene->daemon.socket_path);
	status = peer_call_status(&peer, &request);
	if (status != KVP_OK)
		peer_expect_end(&peer);
	peer_close(&peer);
	return status;
}

static void ordinary_client(void *context)
{
	scene_client_works(context);
}

static void test_staging_quota(void **state)
{
	struct test_peer peers[4];
	struct scene scene;

	assert_int_equal(chmod(harness_directory(), 0755), 0);
	scene_begin(&scene, "--socket-mode", "0666", "--limits-staging-bytes", "1MiB",
		    "--limits-staging-bytes-per-uid", "4MiB", NULL);
	for (unsigned i = 0; i < COUNT(peers); i++)
		connect_ready(&scene, &peers[i], UINT64_MAX); /* gets what one session can have */
	for (unsigned i = 0; i < COUNT(peers); i++)
		assert_int_equal(peers[i].staging_bytes, MIB);
	assert_int_equal(hello_status(&scene, STAGING), KVP_QUOTA);
	assert_int_equal(hello_status(&scene, 0), KVP_OK);
	if (geteuid() == 0)
		end_process(begin_process(NOBODY, ordinary_client, scene.daemon.socket_path));
	for (unsigned i = 0; i < COUNT(peers); i++)
		peer_close(&peers[i]);
	scene_end(&scene);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_replies_are_never_read),
	cmocka_unit_test(test_more_requests_than_may_wait),
	cmocka_unit_test(test_silent_connections),
	cmocka_unit_test(test_lease_hoarder),
	cmocka_unit_test(test_releases),
	cmocka_unit_test(test_arena_full_of_leases),
	cmocka_unit_test(test_staging_quota),
};

int main(void)
{
	return harness_run(tests, COUNT(tests));
}
