/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's side of pins that nobody asks for: what is pinned stays, what is not goes, and who is stuck or lies. */
#include "tests/lib/core-rig.h"
#include "tests/lib/harness.h"

#include "base/units.h"
#include "daemon/core/block.h"
#include "daemon/core/hazard.h"
#include "proto/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA (64 * MIB)
#define BLOCKS 4
#define GRACE_MS 1000

/* A writer, peer 0, and a reader, peer 1, of another user, with blocks "a", "b", "c", "d" and room for no more. */
struct scene {
	struct rig rig;
	struct rig_peer *writer;
	struct rig_peer *reader;
	uint32_t space;
	Kvpaged__V1__OpenSpaceReply reply;
};

static struct kvp_record *record_of(const struct rig_peer *peer, uint32_t number)
{
	return &kvp_control_records(peer->control)[number];
}

static unsigned append(struct scene *scene, const char *key)
{
	return rig_append(scene->writer, scene->space, key, NULL, 16, scene->reply.page_bytes, 0, 4, (uint8_t)key[0]);
}

static void scene_open(struct scene *scene, uint32_t blocks_max, const struct core_limits *limits)
{
	struct core_limits defaults = { .pin_grace_ms = GRACE_MS, .pinned_bytes_per_uid_max = ARENA };

	rig_start(&scene->rig, ARENA, blocks_max, limits ? limits : &defaults);
	scene->writer = rig_connect(&scene->rig, 0, 1000, MIB);
	scene->reader = rig_connect_reader(&scene->rig, 1, 1001, 0, 4);
	scene->space = rig_open_small(scene->writer, &scene->reply);
	assert_int_equal(rig_open_small(scene->reader, &scene->reply), scene->space);
}

static void scene_start(struct scene *scene)
{
	scene_open(scene, BLOCKS, NULL);
	for (char key[2] = "a"; key[0] <= 'd'; key[0]++)
		assert_int_equal(append(scene, key), KVP_OK);
}

/* The number of a live block, or 0. */
static uint32_t number_of(const struct scene *scene, const char *key)
{
	const struct core *core = scene->rig.core;

	for (uint32_t block = 1; block <= core->arena.blocks_count; block++) {
		const struct kvp_block *shared = &core->arena.blocks[block - 1];

		if (core->blocks[block].state == BLOCK_LIVE && shared->key_bytes == strlen(key) &&
		    memcmp(shared->key, key, strlen(key)) == 0)
			return block;
	}
	return 0;
}

static void pin(struct scene *scene, unsigned hazard, const char *key)
{
	uint32_t number = number_of(scene, key);

	assert_int_not_equal(number, 0);
	scene->reader->control->records_used = 1;
	record_of(scene->reader, 0)->hazard[hazard] = number;
}

static void advance(struct scene *scene, unsigned ms)
{
	for (unsigned passed = 0; passed < ms; passed += 5) {
		rig_advance_ms(&scene->rig, 5);
		rig_audit(&scene->rig);
	}
}

static uint64_t counter(struct scene *scene, const char *name)
{
	return rig_counter(scene->writer, name);
}

/* ---- Control memory ---- */

static uint32_t hello(struct rig *rig, unsigned i, uint32_t uid, uint32_t records)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Hello message = KVPAGED__V1__HELLO__INIT;
	const Kvpaged__V1__Reply *reply;

	assert_int_equal(rig_connect_raw(rig, i, uid), 0);
	message.version_min = 1;
	message.version_max = 1;
	message.records = records;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_HELLO;
	request.hello = &message;
	reply = rig_call(&rig->peers[i], &request);
	assert_int_equal(reply->status, KVP_OK);
	assert_int_equal(reply->hello->records > 0, rig->peers[i].control != NULL);
	return reply->hello->records;
}

static void test_control_memory(void **state)
{
	struct core_limits limits = { .pins_max = 5 * KVP_HAZARDS, .pins_per_uid_max = 12 * KVP_HAZARDS };
	struct rig rig;

	rig_start(&rig, ARENA, 0, &limits);
	assert_int_equal(hello(&rig, 0, 1, 0), 0);
	assert_int_equal(hello(&rig, 1, 1, 3), 3);
	assert_int_equal(rig.peers[1].control->magic, KVP_CONTROL_MAGIC);
	assert_int_equal(rig.peers[1].control->records_count, 3);
	assert_int_equal(rig.peers[1].control->records_used, 0);
	assert_int_equal(rig_counter(&rig.peers[0], "control_bytes"), 4096);
	assert_int_equal(hello(&rig, 2, 1, UINT32_MAX), 5); /* a session's limit */
	assert_int_equal(hello(&rig, 3, 1, 5), 4);          /* a user's */
	assert_int_equal(hello(&rig, 4, 1, 1), 0);
	assert_int_equal(hello(&rig, 5, 2, 5), 5);
	rig_disconnect(&rig.peers[2]);
	assert_int_equal(hello(&rig, 2, 1, 5), 5);
	rig_disconnect(&rig.peers[5]);
	rig.refuse_control = true;
	assert_int_equal(hello(&rig, 5, 2, 5), 0);
	rig_stop(&rig);
}

/* Control memory counts as staging memory; without a quota left for it a session can still ask. */
static void test_control_quota(void **state)
{
	struct core_limits limits = { .staging_bytes_per_uid_max = KVP_STAGING_BYTES_MIN + 4096 };
	struct rig rig;

	rig_start(&rig, ARENA, 0, &limits);
	(void)rig_connect(&rig, 0, 1, KVP_STAGING_BYTES_MIN);
	assert_int_equal(hello(&rig, 1, 1, 1), 1);
	assert_int_equal(hello(&rig, 2, 1, 1), 0);
	rig_disconnect(&rig.peers[1]);
	assert_int_equal(hello(&rig, 1, 1, 7), 7);
	rig_stop(&rig);
}

/* ---- Pins ---- */

static void test_pinned_stays(void **state)
{
	struct scene scene;

	scene_start(&scene);
	pin(&scene, 7, "a");
	advance(&scene, 5); /* the look at the hazards is a moment old at most */
	assert_int_equal(append(&scene, "e"), KVP_OK);
	assert_int_not_equal(number_of(&scene, "a"), 0);
	assert_int_equal(number_of(&scene, "b"), 0);
	assert_int_equal(counter(&scene, "evictions_pinned_total"), 1);
	assert_int_equal(counter(&scene, "blocks_pinned"), 1);
	record_of(scene.reader, 0)->hazard[7] = 0;
	for (char key[2] = "f"; key[0] <= 'i'; key[0]++) {
		advance(&scene, 5);
		assert_int_equal(append(&scene, key), KVP_OK);
	}
	assert_int_equal(number_of(&scene, "a"), 0);
	assert_int_equal(counter(&scene, "blocks_limbo"), 0);
	rig_stop(&scene.rig);
}

/* A soft pin keeps a block longer than others, not for ever: when all those are pinned, it goes. */
static void test_priority_behind_pinned(void **state)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Pin body = KVPAGED__V1__PIN__INIT;
	ProtobufCBinaryData keys[1] = { { .data = (uint8_t *)"d", .len = 1 } };
	struct scene scene;

	scene_start(&scene);
	for (char key[2] = "a"; key[0] <= 'c'; key[0]++)
		pin(&scene, (unsigned)(key[0] - 'a'), key);
	body.space_id = scene.space;
	body.n_keys = 1;
	body.keys = keys;
	body.priority = 5;
	body.ttl_ms = 60000;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_PIN;
	request.pin = &body;
	assert_int_equal(rig_call(scene.writer, &request)->items->item_status.data[0], KVP_OK);
	advance(&scene, 5);
	assert_int_equal(append(&scene, "e"), KVP_OK);
	assert_int_equal(number_of(&scene, "d"), 0);
	assert_int_not_equal(number_of(&scene, "a"), 0);
	assert_int_equal(counter(&scene, "evictions_pinned_total"), 3);
	rig_stop(&scene.rig);
}

static void test_everything_pinned(void **state)
{
	struct scene scene;

	scene_start(&scene);
	for (char key[2] = "a"; key[0] <= 'd'; key[0]++)
		pin(&scene, (unsigned)(key[0] - 'a'), key);
	assert_int_equal(append(&scene, "e"), KVP_NO_SPACE);
	record_of(scene.reader, 0)->hazard[2] = 0;
	advance(&scene, 5);
	assert_int_equal(append(&scene, "e"), KVP_OK);
	assert_int_equal(number_of(&scene, "c"), 0);
	rig_stop(&scene.rig);
}

static void test_limbo(void **state)
{
	struct scene scene;
	const struct kvp_block *shared;
	uint64_t map_offset, generation;
	uint32_t number;

	scene_start(&scene);
	pin(&scene, 0, "b");
	number = number_of(&scene, "b");
	shared = &scene.rig.core->arena.blocks[number - 1];
	map_offset = shared->map_offset;
	generation = shared->generation;
	assert_int_equal(rig_delete(scene.writer, scene.space, "b"), KVP_OK);
	assert_int_equal(shared->generation, generation + 1);
	advance(&scene, GRACE_MS / 2);
	assert_int_equal(append(&scene, "x"), KVP_OK); /* for which another goes */
	assert_int_equal(counter(&scene, "blocks_limbo"), 1);
	assert_int_equal(shared->map_offset, map_offset); /* everything that it leads to is as it was */
	assert_int_equal(shared->generation, generation + 1);
	record_of(scene.reader, 0)->hazard[0] = 0;
	advance(&scene, 30);
	assert_int_equal(counter(&scene, "blocks_limbo"), 0);
	assert_int_equal(counter(&scene, "limbo_bytes"), 0);
	rig_stop(&scene.rig);
}

/* A lease and a pin hold one block: it goes with the last of them. */
static void test_lease_and_pin(void **state)
{
	struct scene scene;
	Kvpaged__V1__FetchItem item;

	scene_start(&scene);
	assert_int_equal(rig_fetch(scene.writer, scene.space, "a", 100, &item), KVP_OK);
	pin(&scene, 0, "a");
	assert_int_equal(rig_delete(scene.writer, scene.space, "a"), KVP_OK);
	advance(&scene, 200); /* the lease ran out */
	assert_int_equal(counter(&scene, "leases"), 0);
	assert_int_equal(counter(&scene, "blocks_limbo"), 1);
	record_of(scene.reader, 0)->hazard[0] = 0;
	advance(&scene, 30);
	assert_int_equal(counter(&scene, "blocks_limbo"), 0);
	rig_stop(&scene.rig);
}

static void test_end_of_session(void **state)
{
	struct scene scene;

	scene_start(&scene);
	pin(&scene, 0, "a");
	pin(&scene, 1, "b");
	assert_int_equal(rig_delete(scene.writer, scene.space, "a"), KVP_OK);
	rig_disconnect(scene.reader);
	advance(&scene, 5);
	assert_int_equal(counter(&scene, "blocks_limbo"), 0);
	assert_int_equal(append(&scene, "e"), KVP_OK);
	assert_int_equal(append(&scene, "f"), KVP_OK);
	assert_int_equal(number_of(&scene, "b"), 0);
	rig_stop(&scene.rig);
}

/* More in limbo than one scan looks at. */
static void test_many_in_limbo(void **state)
{
	enum { MANY = 1200, RECORDS = (MANY + KVP_HAZARDS - 1) / KVP_HAZARDS };
	struct scene scene;
	struct rig_peer *hoarder;
	char key[16];

	scene_open(&scene, MANY + 8, NULL);
	hoarder = rig_connect_reader(&scene.rig, 2, 1002, 0, RECORDS);
	hoarder->control->records_used = RECORDS;
	for (unsigned i = 0; i < MANY; i++) {
		(void)snprintf(key, sizeof(key), "k%u", i);
		assert_int_equal(append(&scene, key), KVP_OK);
		record_of(hoarder, i / KVP_HAZARDS)->hazard[i % KVP_HAZARDS] = number_of(&scene, key);
	}
	for (unsigned i = 0; i < MANY; i++) {
		(void)snprintf(key, sizeof(key), "k%u", i);
		assert_int_equal(rig_delete(scene.writer, scene.space, key), KVP_OK);
	}
	assert_int_equal(counter(&scene, "blocks_limbo"), MANY);
	for (unsigned i = 0; i < MANY; i += 2)
		record_of(hoarder, i / KVP_HAZARDS)->hazard[i % KVP_HAZARDS] = 0;
	advance(&scene, 200);
	assert_int_equal(counter(&scene, "blocks_limbo"), MANY / 2);
	rig_disconnect(hoarder);
	advance(&scene, 200);
	assert_int_equal(counter(&scene, "blocks_limbo"), 0);
	rig_stop(&scene.rig);
}

/* ---- Stuck and greedy ---- */

static void test_stuck(void **state)
{
	struct scene scene;

	scene_start(&scene);
	pin(&scene, 0, "a");
	advance(&scene, 3 * GRACE_MS); /* nobody wants it */
	assert_null(scene.reader->hung_up);
	assert_int_equal(rig_delete(scene.writer, scene.space, "a"), KVP_OK);
	advance(&scene, GRACE_MS - 50);
	assert_null(scene.reader->hung_up);
	advance(&scene, 150);
	assert_non_null(scene.reader->hung_up);
	assert_int_equal(scene.reader->control->over, 1);
	advance(&scene, 50);
	assert_int_equal(counter(&scene, "blocks_limbo"), 0);
	assert_int_equal(counter(&scene, "sessions_stuck_total"), 1);
	rig_stop(&scene.rig);
}

/* The same for a block that is wanted by eviction. */
static void test_stuck_on_victims(void **state)
{
	struct scene scene;

	scene_start(&scene);
	for (char key[2] = "a"; key[0] <= 'd'; key[0]++)
		pin(&scene, (unsigned)(key[0] - 'a'), key);
	for (unsigned tries = 0; tries < 15; tries++) {
		if (append(&scene, "e") == KVP_OK)
			break;
		advance(&scene, 100);
	}
	assert_non_null(scene.reader->hung_up);
	assert_int_not_equal(number_of(&scene, "e"), 0);
	rig_stop(&scene.rig);
}

static void test_signs_of_life(void **state)
{
	struct scene scene;

	scene_start(&scene);
	pin(&scene, 0, "a");
	assert_int_equal(rig_delete(scene.writer, scene.space, "a"), KVP_OK);
	for (unsigned i = 0; i < 5; i++) {
		advance(&scene, GRACE_MS - 100);
		record_of(scene.reader, 0)->beats++;
		advance(&scene, GRACE_MS - 100);
		record_of(scene.reader, 0)->touches++;
		advance(&scene, GRACE_MS - 100);
		(void)rig_fetch(scene.reader, scene.space, "nobody", 0, NULL);
	}
	assert_null(scene.reader->hung_up);
	assert_int_equal(counter(&scene, "blocks_limbo"), 1);
	advance(&scene, GRACE_MS + 100);
	assert_non_null(scene.reader->hung_up);
	rig_stop(&scene.rig);
}

static void test_greedy(void **state)
{
	struct core_limits limits = { .pin_grace_ms = GRACE_MS, .pinned_bytes_per_uid_max = ARENA / 2 };
	struct scene scene;

	scene_open(&scene, BLOCKS, &limits);
	for (char key[2] = "a"; key[0] <= 'd'; key[0]++) {
		assert_int_equal(append(&scene, key), KVP_OK);
		pin(&scene, (unsigned)(key[0] - 'a'), key);
	}
	/* Small as they are, each counts as a quarter of the arena: that is what there is of block numbers. */
	assert_int_equal(block_pin_cost(scene.rig.core, number_of(&scene, "a")), ARENA / BLOCKS);
	/* What is beyond may leave the cache; its memory stays while it is pinned. */
	for (unsigned i = 0; i < 10; i++) {
		(void)append(&scene, "e");
		advance(&scene, 5);
	}
	assert_true(counter(&scene, "blocks_limbo") >= 1);
	assert_null(scene.reader->hung_up);
	for (unsigned i = 0; i < 12; i++) { /* life does not help */
		record_of(scene.reader, 0)->beats++;
		advance(&scene, 100);
	}
	assert_non_null(scene.reader->hung_up);
	advance(&scene, 50);
	assert_int_equal(counter(&scene, "blocks_limbo"), 0);
	assert_int_equal(append(&scene, "e"), KVP_OK);
	rig_stop(&scene.rig);
}

/* Who pins within the quota what somebody beyond it pins as well has all that a pin gives. */
static void test_greedy_company(void **state)
{
	struct core_limits limits = { .pin_grace_ms = GRACE_MS, .pinned_bytes_per_uid_max = ARENA / 4 };
	struct scene scene;
	struct rig_peer *other;

	scene_open(&scene, BLOCKS, &limits);
	other = rig_connect_reader(&scene.rig, 2, 1002, 0, 1);
	for (char key[2] = "a"; key[0] <= 'd'; key[0]++)
		assert_int_equal(append(&scene, key), KVP_OK);
	pin(&scene, 0, "b");
	pin(&scene, 1, "a");
	other->control->records_used = 1;
	record_of(other, 0)->hazard[0] = number_of(&scene, "a");
	for (unsigned i = 0; i < 20; i++) {
		(void)append(&scene, i % 2 ? "e" : "f");
		record_of(other, 0)->beats++;
		advance(&scene, 100);
	}
	assert_int_not_equal(number_of(&scene, "a"), 0);
	assert_null(other->hung_up);
	rig_stop(&scene.rig);
}

/* ---- Touches ---- */

static void touch(struct scene *scene, uint32_t number)
{
	struct kvp_record *record = record_of(scene->reader, 0);

	scene->reader->control->records_used = 1;
	record->touched[record->touches % KVP_TOUCHES] = number;
	record->touches++;
}

static void test_touches(void **state)
{
	struct scene scene;

	scene_start(&scene);
	touch(&scene, number_of(&scene, "a"));
	touch(&scene, number_of(&scene, "b"));
	advance(&scene, 200);
	assert_int_equal(counter(&scene, "local_reads_total"), 2);
	assert_int_equal(append(&scene, "e"), KVP_OK);
	assert_int_equal(append(&scene, "f"), KVP_OK);
	assert_int_not_equal(number_of(&scene, "a"), 0);
	assert_int_not_equal(number_of(&scene, "b"), 0);
	assert_int_equal(number_of(&scene, "c"), 0);
	rig_stop(&scene.rig);
}

/* What a client read that came and went between two scans counts all the same. */
static void test_touches_of_a_short_session(void **state)
{
	struct scene scene;

	scene_start(&scene);
	advance(&scene, 200);
	touch(&scene, number_of(&scene, "a"));
	rig_disconnect(scene.reader);
	assert_int_equal(counter(&scene, "local_reads_total"), 1);
	assert_int_equal(append(&scene, "e"), KVP_OK);
	assert_int_not_equal(number_of(&scene, "a"), 0);
	rig_stop(&scene.rig);
}

/* Eviction looks at what was read up to this moment. */
static void test_touch_before_eviction(void **state)
{
	struct scene scene;

	scene_start(&scene);
	advance(&scene, 10);
	touch(&scene, number_of(&scene, "a"));
	assert_int_equal(append(&scene, "e"), KVP_OK);
	assert_int_not_equal(number_of(&scene, "a"), 0);
	rig_stop(&scene.rig);
}

/* ---- Lies ---- */

static void test_lies(void **state)
{
	struct scene scene;
	struct kvp_record *record;

	scene_start(&scene);
	record = record_of(scene.reader, 0);
	scene.reader->control->records_used = UINT32_MAX;
	scene.reader->control->records_count = UINT32_MAX;
	record->hazard[0] = UINT32_MAX;
	record->hazard[1] = BLOCKS + 1;
	record->hazard[2] = scene.rig.core->arena.blocks_count + 1;
	advance(&scene, 200);
	record->touches = 5;
	advance(&scene, 200);
	record->touches = 2; /* backwards */
	for (unsigned i = 0; i < KVP_TOUCHES; i++)
		record->touched[i] = i * UINT32_C(0x10000001);
	advance(&scene, 200);
	record->touches = UINT32_MAX;
	advance(&scene, 200);
	scene.reader->control->over = 7;
	scene.reader->control->magic = 0;
	assert_int_equal(append(&scene, "e"), KVP_OK);
	assert_null(scene.reader->hung_up);
	rig_stop(&scene.rig);
}

/* Random bytes all over while the writer works; a second reader's pin holds all the while. */
static void test_noise(void **state)
{
	const char *seed_text = getenv("KVP_SEED");
	unsigned seed = seed_text ? (unsigned)strtoul(seed_text, NULL, 10) : 20261125;
	struct scene scene;
	struct rig_peer *honest;
	uint32_t number;
	char key[16];

	print_message("seed %u\n", seed);
	srand(seed);
	scene_start(&scene);
	honest = rig_connect_reader(&scene.rig, 2, 1002, 0, 1);
	number = number_of(&scene, "a");
	honest->control->records_used = 1;
	record_of(honest, 0)->hazard[3] = number;
	for (unsigned round = 0; round < 400; round++) {
		uint32_t *words = (uint32_t *)(void *)scene.reader->control;

		for (unsigned i = 0; i < 40; i++)
			words[(unsigned)rand() % (kvp_control_bytes(4) / 4)] =
				rand() % 2 ? (uint32_t)rand() % (BLOCKS + 2) : (uint32_t)rand() * 3;
		(void)snprintf(key, sizeof(key), "n%u", round % 7);
		(void)append(&scene, key);
		if (round % 3 == 0)
			(void)rig_delete(scene.writer, scene.space, key);
		record_of(honest, 0)->beats++;
		advance(&scene, 5);
		assert_int_equal(number_of(&scene, "a"), number);
	}
	assert_null(honest->hung_up);
	assert_null(scene.writer->hung_up);
	rig_stop(&scene.rig);
}

/* A client's figures are its own word: what shrinks or leaps is not counted, and what follows is. */
static void test_lies_about_codecs(void **state)
{
	struct kvp_codec_tally *tally;
	struct scene scene;

	scene_start(&scene);
	tally = &scene.reader->control->tally;
	tally->encode_bytes = 1000;
	tally->encode_ns = 5000;
	rig_advance_ms(&scene.rig, 2000);
	assert_int_equal(rig_counter(scene.writer, "encode_bytes_total"), 1000);
	assert_int_equal(rig_counter(scene.writer, "encode_us_total"), 5);
	tally->encode_bytes = 10;
	rig_advance_ms(&scene.rig, 2000);
	tally->encode_bytes = UINT64_MAX;
	rig_advance_ms(&scene.rig, 2000);
	assert_int_equal(rig_counter(scene.writer, "encode_bytes_total"), 1000);
	tally->encode_bytes = 0;
	rig_advance_ms(&scene.rig, 2000);
	tally->encode_bytes = 24;
	rig_advance_ms(&scene.rig, 2000);
	assert_int_equal(rig_counter(scene.writer, "encode_bytes_total"), 1024);
	rig_stop(&scene.rig);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_control_memory),
	cmocka_unit_test(test_control_quota),
	cmocka_unit_test(test_pinned_stays),
	cmocka_unit_test(test_priority_behind_pinned),
	cmocka_unit_test(test_everything_pinned),
	cmocka_unit_test(test_limbo),
	cmocka_unit_test(test_lease_and_pin),
	cmocka_unit_test(test_end_of_session),
	cmocka_unit_test(test_many_in_limbo),
	cmocka_unit_test(test_stuck),
	cmocka_unit_test(test_stuck_on_victims),
	cmocka_unit_test(test_signs_of_life),
	cmocka_unit_test(test_greedy),
	cmocka_unit_test(test_greedy_company),
	cmocka_unit_test(test_touches),
	cmocka_unit_test(test_touches_of_a_short_session),
	cmocka_unit_test(test_touch_before_eviction),
	cmocka_unit_test(test_lies),
	cmocka_unit_test(test_lies_about_codecs),
	cmocka_unit_test(test_noise),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
