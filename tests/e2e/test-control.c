/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control memory in the hands of a client that means harm: whatever it writes there, it holds what it may hold, others
 * go on, and what they pinned stays as it is.
 */
#include "tests/e2e/wire.h"
#include "tests/lib/harness.h"

#include "proto/layout.h"
#include "proto/status.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define STAGING (64u << 10)
#define RECORDS 64

/* A client that has it, with the space of this scene. */
static void join(struct scene *scene, struct test_peer *peer, uint32_t records, struct wire_space *space)
{
	Kvpaged__V1__Schema schema;

	peer_connect(peer, scene->daemon.socket_path);
	peer_hello_reader(peer, STAGING, records);
	assert_int_equal(peer->records, records);
	wire_schema(&schema, 2, 2);
	wire_open(peer, "control", &schema, space);
}

static struct kvp_record *record_of(struct test_peer *peer, uint32_t number)
{
	return &kvp_control_records(peer->control)[number];
}

/* The number of a resident block. */
static uint32_t number_of(struct test_peer *peer, const struct wire_space *space, const char *key)
{
	Kvpaged__V1__FetchItem item;

	if (wire_fetch(peer, space->id, key, 0, &item) != KVP_OK)
		return 0;
	assert_int_equal(wire_release(peer, item.lease_id), KVP_OK);
	return item.block;
}

static bool page_is(const struct test_peer *peer, const struct wire_space *space, uint32_t block, uint8_t fill)
{
	const uint8_t *page = wire_page(peer, block, 0, NULL);
	bool same = page != NULL;

	for (uint32_t i = 0; same && i < space->page_bytes; i++)
		same = page[i] == fill;
	return same;
}

/* Random words all over it, for ever. */
static void scribble(struct test_peer *peer)
{
	uint32_t *words = (uint32_t *)(void *)peer->control;
	uint64_t state = 7;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		uint64_t random = random_next(&state);

		words[random % (peer->control_bytes / 4)] =
			random & (1u << 31) ? (uint32_t)(random >> 32) : (uint32_t)(random >> 40) % 64;
	}
}

static void test_noise(void **state)
{
	struct scene scene;
	struct test_peer honest, liar;
	struct wire_space space;
	uint32_t block;
	pid_t pid;

	scene_begin(&scene, "--reader-pin-grace-ms", "60s", NULL);
	join(&scene, &honest, 1, &space);
	join(&scene, &liar, RECORDS, &space);
	assert_int_equal(wire_append(&honest, &space, "pinned", 0, space.page_count, 0x77), KVP_OK);
	block = number_of(&honest, &space, "pinned");
	honest.control->records_used = 1;
	record_of(&honest, 0)->hazard[31] = block;
	assert_int_equal(wire_delete(&honest, space.id, "pinned"), KVP_OK);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		scribble(&liar);
	for (unsigned i = 0; i < 8000; i++) { /* more than the arena holds */
		char key[16];

		(void)snprintf(key, sizeof(key), "n%u", i);
		assert_int_equal(wire_append(&honest, &space, key, 0, space.page_count, (uint8_t)i), KVP_OK);
		if (i % 1000 == 0)
			scene_client_works(scene.daemon.socket_path);
	}
	assert_true(page_is(&honest, &space, block, 0x77));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	peer_close(&liar);
	peer_close(&honest);
	scene_end(&scene);
}

/* A client may take pages out of it; the daemon reads zeros there. */
static void test_holes(void **state)
{
	struct scene scene;
	struct test_peer peer;
	struct wire_space space;

	scene_begin(&scene, NULL);
	join(&scene, &peer, RECORDS, &space);
	peer.control->records_used = RECORDS;
	assert_int_equal(wire_append(&peer, &space, "a", 0, space.page_count, 1), KVP_OK);
	record_of(&peer, RECORDS - 1)->hazard[0] = number_of(&peer, &space, "a");
	assert_int_equal(madvise(peer.control, peer.control_bytes, MADV_REMOVE), 0);
	assert_int_equal(wire_delete(&peer, space.id, "a"), KVP_OK);
	scene_await(&scene, "blocks_limbo", 0);
	scene_client_works(scene.daemon.socket_path);
	peer_close(&peer);
	scene_end(&scene);
}

/* Blocks until the arena is full. Returns how many. */
static unsigned fill(struct test_peer *peer, const struct wire_space *space)
{
	unsigned n = 0;

	while (peer_counter(peer, "evictions_capacity_total") == 0) {
		for (unsigned i = 0; i < 100; i++) {
			char key[16];

			(void)snprintf(key, sizeof(key), "k%u", n++);
			assert_int_equal(wire_append(peer, space, key, 0, space->page_count, 1), KVP_OK);
		}
	}
	return n;
}

/*
 * Names every block there is in its hazards, and shows life: its user's share of the arena is shielded, the rest is
 * evicted all the same, and once that is wanted for the time of grace the session ends.
 */
static void test_hoarder(void **state)
{
	struct scene scene;
	struct test_peer writer, hoarder;
	struct wire_space space;
	unsigned tries = 0;
	uint32_t records;

	scene_begin(&scene, "--reader-pin-grace-ms", "300ms", NULL);
	join(&scene, &writer, 0, &space);
	records = (fill(&writer, &space) + 200) / KVP_HAZARDS;
	join(&scene, &hoarder, records, &space);
	hoarder.control->records_used = records;
	for (uint32_t i = 0; i < records * KVP_HAZARDS; i++)
		record_of(&hoarder, i / KVP_HAZARDS)->hazard[i % KVP_HAZARDS] = i + 1;
	while (hoarder.control->over == 0) {
		char key[16];
		unsigned status;

		(void)snprintf(key, sizeof(key), "x%u", tries++);
		status = wire_append(&writer, &space, key, 0, space.page_count, 2);
		assert_true(status == KVP_OK || status == KVP_NO_SPACE);
		record_of(&hoarder, 0)->beats++;
		pause_ms(2);
	}
	peer_expect_end(&hoarder);
	assert_int_equal(wire_append(&writer, &space, "after", 0, space.page_count, 2), KVP_OK);
	scene_await(&scene, "blocks_limbo", 0);
	assert_int_equal(peer_counter(&writer, "sessions_stuck_total"), 1);
	peer_close(&hoarder);
	peer_close(&writer);
	scene_end(&scene);
}

/* Within its share a client may pin for ever, and costs others that share and no more. */
static void test_never_unpins(void **state)
{
	struct scene scene;
	struct test_peer writer, holder;
	struct wire_space space;
	uint32_t blocks[KVP_HAZARDS];

	scene_begin(&scene, "--reader-pin-grace-ms", "200ms", NULL);
	join(&scene, &writer, 0, &space);
	join(&scene, &holder, 1, &space);
	holder.control->records_used = 1;
	for (uint32_t i = 0; i < KVP_HAZARDS; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "held %u", i);
		assert_int_equal(wire_append(&writer, &space, key, 0, space.page_count, (uint8_t)(i + 1)), KVP_OK);
		blocks[i] = number_of(&writer, &space, key);
		record_of(&holder, 0)->hazard[i] = blocks[i];
	}
	for (unsigned i = 0; i < 8000; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "n%u", i);
		assert_int_equal(wire_append(&writer, &space, key, 0, space.page_count, 0xee), KVP_OK);
		if (i % 50 == 0)
			record_of(&holder, 0)->beats++;
	}
	assert_int_equal(holder.control->over, 0);
	for (uint32_t i = 0; i < KVP_HAZARDS; i++)
		assert_true(page_is(&holder, &space, blocks[i], (uint8_t)(i + 1)));
	peer_close(&holder);
	peer_close(&writer);
	scene_end(&scene);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_noise),
	cmocka_unit_test(test_holes),
	cmocka_unit_test(test_hoarder),
	cmocka_unit_test(test_never_unpins),
};

int main(void)
{
	return harness_run(tests, COUNT(tests));
}
