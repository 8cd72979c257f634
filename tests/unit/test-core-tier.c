/* SPDX-License-Identifier: Apache-2.0 */
/* What goes down to a tier and comes up again, with one whose every step the test decides. */
#include "tests/lib/core-rig.h"
#include "tests/lib/harness.h"

#include "base/units.h"
#include "daemon/core/internal.h"
#include "proto/fate.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGES 4

struct scene {
	struct rig rig;
	struct tier_memory tier;
	struct rig_peer *peer;
	Kvpaged__V1__OpenSpaceReply space;
	uint32_t id;
};

static struct scene *scene_new(enum core_tier_admit admit, uint32_t free_percent)
{
	struct scene *scene = calloc(1, sizeof(*scene));

	assert_non_null(scene);
	rig_start_tier(&scene->rig, 16 * MIB, 32, &scene->tier, admit, free_percent);
	scene->peer = rig_connect(&scene->rig, 0, 1000, MIB);
	scene->id = rig_open_small(scene->peer, &scene->space);
	return scene;
}

static void scene_end(struct scene *scene)
{
	rig_stop(&scene->rig);
	free(scene);
}

static ProtobufCBinaryData text(const char *key)
{
	return (ProtobufCBinaryData){ .len = strlen(key), .data = (uint8_t *)key };
}

static void append(struct scene *scene, const char *key, const char *parent, uint8_t fill)
{
	assert_int_equal(rig_append(scene->peer, scene->id, key, parent, 16, scene->space.page_bytes, 0, PAGES, fill),
			 KVP_OK);
}

static void evict_all(struct scene *scene)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Evict body = KVPAGED__V1__EVICT__INIT;

	body.all = true;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_EVICT;
	request.evict = &body;
	assert_int_equal(rig_call(scene->peer, &request)->status, KVP_OK);
	rig_audit(&scene->rig);
}

static unsigned fate_of(struct scene *scene, const char *key)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Why body = KVPAGED__V1__WHY__INIT;

	body.space_id = scene->id;
	body.key = text(key);
	request.verb_case = KVPAGED__V1__REQUEST__VERB_WHY;
	request.why = &body;
	return rig_call(scene->peer, &request)->why->fate;
}

/* Sends a Fetch of one key without waiting for its answer. */
static void send_fetch(struct scene *scene, struct rig_peer *peer, const char *key, uint32_t layer, bool prefetch)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Fetch body = KVPAGED__V1__FETCH__INIT;
	Kvpaged__V1__Range range = KVPAGED__V1__RANGE__INIT;
	ProtobufCBinaryData keys[1] = { text(key) };

	range.layer_begin = layer;
	range.layer_count = layer ? 1 : 0;
	body.space_id = scene->id;
	body.n_keys = 1;
	body.keys = keys;
	body.range = &range;
	body.prefetch = prefetch;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_FETCH;
	request.fetch = &body;
	rig_send(peer, &request);
	rig_run(&scene->rig);
	rig_audit(&scene->rig);
}

static unsigned fetched(const struct rig_peer *peer)
{
	assert_int_equal(peer->last->verb_case, KVPAGED__V1__REPLY__VERB_FETCH);
	return peer->last->fetch->items[0]->status;
}

static Kvpaged__V1__MatchReply match(struct scene *scene, const char *const *names, size_t n)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Match body = KVPAGED__V1__MATCH__INIT;
	ProtobufCBinaryData keys[8];

	for (size_t i = 0; i < n; i++)
		keys[i] = text(names[i]);
	body.space_id = scene->id;
	body.n_keys = n;
	body.keys = keys;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_MATCH;
	request.match = &body;
	return *rig_call(scene->peer, &request)->match;
}

static void assert_bytes(struct scene *scene, const char *key, uint8_t fill)
{
	Kvpaged__V1__FetchItem item;
	const struct kvp_block *block;
	const struct kvp_page *map;

	assert_int_equal(rig_fetch(scene->peer, scene->id, key, 1000, &item), KVP_OK);
	block = &scene->rig.core->arena.blocks[item.block - 1];
	map = arena_at(&scene->rig.core->arena, block->map_offset);
	assert_int_equal(block->pages_ready, PAGES);
	for (uint32_t page = 0; page < PAGES; page++) {
		const uint8_t *bytes = arena_at(&scene->rig.core->arena, (uint64_t)map[page].slot * KVP_SLOT_ALIGN);

		for (uint32_t i = 0; i < scene->space.page_bytes; i++)
			assert_int_equal(bytes[i], fill);
		assert_int_equal(kvp_page_checksum(bytes, scene->space.page_bytes), map[page].checksum);
	}
}

static void test_down_and_up(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);

	append(scene, "a", NULL, 7);
	assert_int_equal(scene->tier.n_stores, 1);
	assert_int_equal(fate_of(scene, "a"), KVP_FATE_PRESENT);
	evict_all(scene);
	assert_int_equal(scene->tier.n_stores, 1); /* it was there already */
	assert_int_equal(rig_counter(scene->peer, "blocks"), 0);
	assert_int_equal(fate_of(scene, "a"), KVP_FATE_DEMOTED);
	assert_bytes(scene, "a", 7);
	assert_int_equal(rig_counter(scene->peer, "tier_loaded_blocks_total"), 1);
	assert_int_equal(rig_counter(scene->peer, "append_blocks_total"), 1);
	assert_int_equal(fate_of(scene, "a"), KVP_FATE_PRESENT);
	scene_end(scene);
}

/* What the tier lacks when it is evicted on request is written on its way; nothing is written before it must be. */
static void test_written_as_it_goes(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 10);

	append(scene, "a", NULL, 7);
	assert_int_equal(scene->tier.n_stores, 0);
	scene->rig.tier_held = true;
	evict_all(scene);
	assert_int_equal(scene->tier.n_stores, 1);
	assert_true(rig_counter(scene->peer, "limbo_bytes") > 0);
	assert_int_equal(fate_of(scene, "a"), KVP_FATE_DEMOTED);
	/* A fetch waits for the store and then loads. */
	send_fetch(scene, scene->peer, "a", 0, false);
	assert_int_not_equal(scene->peer->last->verb_case, KVPAGED__V1__REPLY__VERB_FETCH);
	scene->rig.tier_held = false;
	rig_run(&scene->rig);
	assert_int_equal(fetched(scene->peer), KVP_OK);
	assert_int_equal(rig_counter(scene->peer, "limbo_bytes"), 0);
	assert_bytes(scene, "a", 7);
	scene_end(scene);
}

static void test_read_before_admitted(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_READ, 100);
	Kvpaged__V1__FetchItem item;

	append(scene, "read", NULL, 1);
	append(scene, "unread", NULL, 2);
	assert_int_equal(scene->tier.n_stores, 0);
	assert_int_equal(rig_fetch(scene->peer, scene->id, "read", 1, &item), KVP_OK);
	rig_run(&scene->rig);
	assert_int_equal(scene->tier.n_stores, 1);
	rig_advance_ms(&scene->rig, 10);
	evict_all(scene);
	assert_int_equal(fate_of(scene, "read"), KVP_FATE_DEMOTED);
	assert_int_equal(fate_of(scene, "unread"), KVP_FATE_EVICTED_REQUEST);
	assert_int_equal(rig_counter(scene->peer, "tier_passed_blocks_total"), 1);
	scene_end(scene);
}

static void test_ancestors_first(void **state)
{
	static const char *const names[] = { "a", "b", "c", "d" };
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);
	Kvpaged__V1__MatchReply answer;

	append(scene, "a", NULL, 1);
	append(scene, "b", "a", 2);
	append(scene, "c", "b", 3);
	evict_all(scene);
	answer = match(scene, names, 4);
	assert_int_equal(answer.matched, 0);
	assert_int_equal(answer.loadable, 3);
	assert_true(answer.load_us > 0);
	assert_bytes(scene, "c", 3);
	assert_int_equal(scene->tier.n_pages, 3 * PAGES);
	answer = match(scene, names, 4);
	assert_int_equal(answer.matched, 3);
	assert_int_equal(answer.loadable, 0);
	scene_end(scene);
}

/* A block whose parent is nowhere cannot be had; when the parent comes back it can. */
static void test_orphan(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);

	append(scene, "a", NULL, 1);
	append(scene, "b", "a", 2);
	evict_all(scene);
	assert_true(tier_memory_drop(&scene->tier, 1)); /* the older: "a" */
	assert_int_equal(rig_fetch(scene->peer, scene->id, "b", 1, NULL), KVP_MISS);
	append(scene, "a", NULL, 1);
	assert_bytes(scene, "b", 2);
	scene_end(scene);
}

static void test_broken_page_is_a_miss(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);
	unsigned pages;

	append(scene, "flipped", NULL, 1);
	append(scene, "unreadable", NULL, 2);
	evict_all(scene);
	scene->tier.flip_pages = 1;
	assert_int_equal(rig_fetch(scene->peer, scene->id, "flipped", 1, NULL), KVP_MISS);
	scene->tier.fail_pages = 1;
	assert_int_equal(rig_fetch(scene->peer, scene->id, "unreadable", 1, NULL), KVP_MISS);
	rig_audit(&scene->rig);
	assert_int_equal(rig_counter(scene->peer, "tier_corrupt_pages_total"), 1);
	assert_int_equal(rig_counter(scene->peer, "tier_lost_blocks_total"), 2);
	pages = scene->tier.n_pages;
	assert_int_equal(rig_fetch(scene->peer, scene->id, "flipped", 1, NULL), KVP_MISS);
	assert_int_equal(scene->tier.n_pages, pages);
	assert_int_equal(fate_of(scene, "flipped"), KVP_FATE_LOST);
	assert_int_equal(rig_counter(scene->peer, "blocks"), 0);
	scene_end(scene);
}

static void test_failed_store(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);

	scene->tier.fail_stores = 1;
	append(scene, "a", NULL, 1);
	rig_audit(&scene->rig);
	evict_all(scene);
	assert_int_equal(fate_of(scene, "a"), KVP_FATE_EVICTED_REQUEST);
	assert_int_equal(rig_fetch(scene->peer, scene->id, "a", 1, NULL), KVP_MISS);
	scene_end(scene);
}

/* The pages asked for come first, and their coming answers. */
static void test_wanted_layer_first(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);

	append(scene, "a", NULL, 5);
	evict_all(scene);
	scene->rig.tier_held = true;
	send_fetch(scene, scene->peer, "a", 2, false);
	assert_int_equal(scene->tier.order[0], 2);
	assert_int_equal(scene->tier.order[1], 0);
	assert_true(tier_memory_step(&scene->tier, 0));
	rig_audit(&scene->rig);
	assert_int_equal(fetched(scene->peer), KVP_OK);
	assert_int_equal(fate_of(scene, "a"), KVP_FATE_PARTIAL);
	/* All of it: waits for the rest. */
	send_fetch(scene, scene->peer, "a", 0, false);
	assert_int_equal(scene->peer->last->verb_case, KVPAGED__V1__REPLY__VERB_WHY);
	scene->rig.tier_held = false;
	rig_run(&scene->rig);
	assert_int_equal(fetched(scene->peer), KVP_OK);
	assert_int_equal(scene->tier.n_pages, PAGES);
	scene_end(scene);
}

/* Of several blocks the first layers come first; small pages are not asked for one by one. */
static void test_layer_by_layer(void **state)
{
	static const uint32_t order[] = { 0, 0, 1, 1, 2, 2, 3, 3 }, small_order[] = { 0, 1, 2, 3, 0, 1, 2, 3 };
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);
	Kvpaged__V1__Schema schema;

	append(scene, "a", NULL, 5);
	append(scene, "b", "a", 6);
	evict_all(scene);
	assert_bytes(scene, "b", 6); /* needs both */
	assert_memory_equal(scene->tier.order, small_order, sizeof(small_order));
	rig_schema(&schema, 4, 16, 256);
	schema.page_heads = 16;
	scene->id = rig_open(scene->peer, "large", &schema, &scene->space);
	assert_true(scene->space.page_bytes > 64 * KIB);
	scene->tier.n_pages = 0;
	append(scene, "a", NULL, 5);
	append(scene, "b", "a", 6);
	evict_all(scene);
	assert_bytes(scene, "b", 6); /* needs both */
	assert_memory_equal(scene->tier.order, order, sizeof(order));
	scene_end(scene);
}

static void test_prefetch_does_not_wait(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);

	append(scene, "a", NULL, 5);
	evict_all(scene);
	scene->rig.tier_held = true;
	send_fetch(scene, scene->peer, "a", 0, true);
	assert_int_equal(fetched(scene->peer), KVP_OK);
	assert_int_equal(scene->peer->last->fetch->items[0]->lease_id, 0);
	assert_int_equal(fate_of(scene, "a"), KVP_FATE_PARTIAL);
	scene->rig.tier_held = false;
	rig_run(&scene->rig);
	assert_int_equal(fate_of(scene, "a"), KVP_FATE_PRESENT);
	scene_end(scene);
}

/* Another session may do what it likes with a block that is being loaded. */
static void test_deleted_while_loading(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);
	struct rig_peer *other = rig_connect(&scene->rig, 1, 1000, MIB);

	(void)rig_open_small(other, NULL);
	append(scene, "a", NULL, 5);
	evict_all(scene);
	scene->rig.tier_held = true;
	send_fetch(scene, scene->peer, "a", 0, false);
	assert_true(tier_memory_step(&scene->tier, 0));
	assert_int_equal(rig_delete(other, scene->id, "a"), KVP_OK);
	rig_audit(&scene->rig);
	assert_int_equal(fetched(scene->peer), KVP_MISS);
	assert_true(scene->rig.core->loading_bytes > 0); /* the tier still writes there */
	scene->tier.fail_pages = 1;
	scene->rig.tier_held = false;
	rig_run(&scene->rig);
	assert_int_equal(rig_counter(scene->peer, "tier_lost_blocks_total"), 0); /* it was deleted */
	rig_audit(&scene->rig);
	assert_int_equal(scene->rig.core->loading_bytes, 0);
	assert_int_equal(rig_fetch(scene->peer, scene->id, "a", 1, NULL), KVP_MISS);
	scene_end(scene);
}

/* Who stores a block that is being loaded brings the pages that have not come. */
static void test_appended_while_loading(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);
	struct rig_peer *other = rig_connect(&scene->rig, 1, 1000, MIB);

	(void)rig_open_small(other, NULL);
	append(scene, "a", NULL, 5);
	evict_all(scene);
	scene->rig.tier_held = true;
	send_fetch(scene, scene->peer, "a", 0, false);
	assert_true(tier_memory_step(&scene->tier, 0));
	assert_int_equal(rig_append(other, scene->id, "a", NULL, 16, scene->space.page_bytes, 2, 1, 5), KVP_OK);
	rig_audit(&scene->rig);
	rig_disconnect(other); /* its unfinished block stays: the load finishes it */
	rig_audit(&scene->rig);
	scene->rig.tier_held = false;
	rig_run(&scene->rig);
	assert_int_equal(fetched(scene->peer), KVP_OK);
	assert_bytes(scene, "a", 5);
	scene_end(scene);
}

/* The same, and the tier drops its copy when the block is complete, before the load has ended. */
static void test_reclaimed_while_loading(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);
	struct core *core = scene->rig.core;
	struct tier_block found;
	unsigned stores;

	append(scene, "a", NULL, 5);
	evict_all(scene);
	stores = scene->tier.n_stores;
	scene->rig.tier_held = true;
	send_fetch(scene, scene->peer, "a", 0, false);
	append(scene, "a", NULL, 5);
	assert_int_equal(rig_fetch(scene->peer, scene->id, "a", 1, NULL), KVP_OK);
	assert_true(core->tier->ops->find(core->tier, &core->spaces[scene->id].digest,
					  (struct block_key){ (void *)"a", 1 }, &found));
	scene->tier.blocks_max = 0; /* it is to be stored again, and has to wait */
	assert_true(scene->tier.client->resident(scene->tier.context, &found));
	scene->rig.tier_held = false;
	rig_run(&scene->rig);
	rig_audit(&scene->rig);
	scene->tier.blocks_max = UINT64_MAX;
	rig_advance_ms(&scene->rig, 10);
	rig_run(&scene->rig);
	rig_audit(&scene->rig);
	assert_int_equal(scene->tier.n_stores, stores + 1);
	scene_end(scene);
}

static void test_gone_while_waiting(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);
	struct rig_peer *other = rig_connect(&scene->rig, 1, 1000, MIB);

	(void)rig_open_small(other, NULL);
	append(scene, "a", NULL, 5);
	evict_all(scene);
	scene->rig.tier_held = true;
	send_fetch(scene, other, "a", 0, false);
	rig_disconnect(other);
	rig_audit(&scene->rig);
	scene->rig.tier_held = false;
	rig_run(&scene->rig);
	assert_int_equal(fate_of(scene, "a"), KVP_FATE_PRESENT);
	scene_end(scene);
}

/* Deleting reaches what is on the tier alone, with all that descends from it. */
/*
 * A session goes that waits for a block and writes its parent: both go with it, and nobody is left who could be
 * answered or have a lease.
 */
static void test_closed_while_waiting(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);
	struct rig_peer *other = rig_connect(&scene->rig, 1, 1001, MIB);
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Fetch body = KVPAGED__V1__FETCH__INIT;
	ProtobufCBinaryData keys[2] = { text("other"), text("b") };

	(void)rig_open_small(other, NULL);
	append(scene, "a", NULL, 1);
	append(scene, "b", "a", 2);
	evict_all(scene);
	append(scene, "other", NULL, 3);
	scene->rig.tier_held = true;
	assert_int_equal(rig_append(other, scene->id, "a", NULL, 16, scene->space.page_bytes, 0, 1, 1), KVP_OK);
	body.space_id = scene->id;
	body.n_keys = 2;
	body.keys = keys;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_FETCH;
	request.fetch = &body;
	rig_send(other, &request);
	rig_run(&scene->rig);
	rig_disconnect(other);
	rig_audit(&scene->rig);
	assert_int_equal(rig_counter(scene->peer, "leases"), 0);
	scene_end(scene);
}

static void test_deleted_below(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);

	append(scene, "a", NULL, 1);
	append(scene, "b", "a", 2);
	append(scene, "other", NULL, 3);
	evict_all(scene);
	assert_int_equal(rig_delete(scene->peer, scene->id, "a"), KVP_OK);
	assert_int_equal(rig_delete(scene->peer, scene->id, "a"), KVP_MISS);
	assert_int_equal(tier_memory_blocks(&scene->tier), 1);
	append(scene, "a", NULL, 4);
	assert_int_equal(rig_fetch(scene->peer, scene->id, "b", 1, NULL), KVP_MISS);
	assert_bytes(scene, "other", 3);
	scene_end(scene);
}

/*
 * A copy that is reclaimed while its block is resident is written again, once for each time that it was read: a tier
 * smaller than what is resident would be written without end.
 */
static void test_reclaimed_while_resident(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);

	append(scene, "a", NULL, 1);
	assert_bytes(scene, "a", 1);
	assert_true(tier_memory_drop(&scene->tier, 0));
	rig_run(&scene->rig);
	assert_int_equal(scene->tier.n_stores, 2);
	assert_true(tier_memory_drop(&scene->tier, 0));
	rig_run(&scene->rig);
	assert_int_equal(scene->tier.n_stores, 2);
	assert_bytes(scene, "a", 1);
	rig_run(&scene->rig);
	assert_int_equal(scene->tier.n_stores, 3);
	evict_all(scene);
	assert_bytes(scene, "a", 1);
	scene_end(scene);
}

/* A cache larger than the arena: everything is to be had, whatever is resident. */
static void test_larger_than_ram(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 50);
	char key[8];

	for (unsigned round = 0; round < 3; round++)
		for (unsigned i = 0; i < 100; i++) {
			(void)snprintf(key, sizeof(key), "k%u", i);
			if (round == 0)
				append(scene, key, NULL, (uint8_t)i);
			else
				assert_bytes(scene, key, (uint8_t)i);
			rig_advance_ms(&scene->rig, 2000);
			rig_audit(&scene->rig);
		}
	assert_true(rig_counter(scene->peer, "tier_loaded_blocks_total") >= 100);
	scene_end(scene);
}

/* However much is wanted at once: what is partly there, and cannot be evicted, is a part of the arena only. */
static void test_loads_leave_the_rest(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	Kvpaged__V1__Schema schema;
	uint64_t most = 0;
	char key[8];

	assert_non_null(scene);
	rig_start_tier(&scene->rig, 16 * MIB, 200, &scene->tier, CORE_TIER_ADMIT_ALL, 100);
	scene->peer = rig_connect(&scene->rig, 0, 1000, MIB);
	rig_schema(&schema, PAGES, 16, 256);
	schema.page_heads = 16;
	scene->id = rig_open(scene->peer, "large", &schema, &scene->space);
	assert_true(scene->space.page_bytes > 64 * KIB); /* a layer at a time is read */
	for (unsigned i = 0; i < 32; i++) {
		(void)snprintf(key, sizeof(key), "k%u", i);
		append(scene, key, NULL, 1);
	}
	evict_all(scene);
	scene->rig.tier_held = true;
	for (unsigned i = 0; i < 32; i++) {
		(void)snprintf(key, sizeof(key), "k%u", i);
		send_fetch(scene, scene->peer, key, 0, true);
	}
	do {
		uint64_t partial;

		rig_run(&scene->rig);
		partial = scene->rig.core->spaces[scene->id].totals.blocks_partial;
		most = partial > most ? partial : most;
	} while (tier_memory_step(&scene->tier, 0));
	assert_true(most > 1 && (most - 1) * PAGES * scene->space.page_bytes < 4 * MIB);
	scene->rig.tier_held = false;
	scene_end(scene);
}

/* Nothing can be evicted for what is asked for: that is said, and it stays on the tier. */
static void test_no_room_to_load(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);
	struct rig_peer *other = rig_connect(&scene->rig, 1, 1001, MIB);
	char key[8];

	(void)rig_open_small(other, NULL);
	append(scene, "wanted", NULL, 9);
	evict_all(scene);
	for (unsigned i = 0; i < 32; i++) {
		(void)snprintf(key, sizeof(key), "k%u", i);
		append(scene, key, NULL, 1);
		/* Each user may have half of the arena. */
		assert_int_equal(rig_fetch(i % 2 ? other : scene->peer, scene->id, key, 60000, NULL), KVP_OK);
	}
	assert_int_equal(rig_fetch(scene->peer, scene->id, "wanted", 1, NULL), KVP_NO_SPACE);
	rig_advance_ms(&scene->rig, 60000);
	assert_bytes(scene, "wanted", 9);
	scene_end(scene);
}

/* What is being written cannot be evicted, but soon: a fetch waits for that. */
static void test_waits_for_room(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);
	struct rig_peer *other = rig_connect(&scene->rig, 1, 1001, MIB);
	unsigned replies;
	char key[8];

	(void)rig_open_small(other, NULL);
	append(scene, "wanted", NULL, 9);
	evict_all(scene);
	scene->rig.tier_held = true;
	for (unsigned i = 0; i < 32; i++) {
		(void)snprintf(key, sizeof(key), "k%u", i);
		append(scene, key, NULL, 1);
		if (i < 31) /* each user may have half of the arena, "wanted" included */
			assert_int_equal(rig_fetch(i % 2 ? scene->peer : other, scene->id, key, 60000, NULL), KVP_OK);
	}
	replies = scene->peer->n_replies;
	send_fetch(scene, scene->peer, "wanted", 0, false);
	assert_int_equal(scene->peer->n_replies, replies);
	scene->rig.tier_held = false;
	rig_run(&scene->rig);
	assert_int_equal(fetched(scene->peer), KVP_OK);
	rig_audit(&scene->rig);
	scene_end(scene);
}

/* The same for an ancestor of what is asked for, when it is memory that is short, and not numbers of blocks. */
static void test_no_room_for_an_ancestor(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	struct rig_peer *other;
	Kvpaged__V1__Schema schema;
	char key[8];

	assert_non_null(scene);
	rig_start_tier(&scene->rig, 16 * MIB, 200, &scene->tier, CORE_TIER_ADMIT_ALL, 100);
	scene->peer = rig_connect(&scene->rig, 0, 1000, MIB);
	other = rig_connect(&scene->rig, 1, 1001, MIB);
	rig_schema(&schema, PAGES, 4, 256);
	schema.block_tokens = 16;
	schema.page_heads = 4;
	scene->id = rig_open(scene->peer, "large", &schema, &scene->space);
	assert_int_equal(rig_open(other, "large", &schema, NULL), scene->id);
	append(scene, "a", NULL, 1);
	append(scene, "b", "a", 2);
	evict_all(scene);
	for (unsigned i = 0; i < 150; i++) {
		(void)snprintf(key, sizeof(key), "k%u", i);
		append(scene, key, NULL, 1);
		(void)rig_fetch(i % 2 ? other : scene->peer, scene->id, key, 60000, NULL);
	}
	assert_int_equal(rig_fetch(scene->peer, scene->id, "b", 1, NULL), KVP_NO_SPACE);
	rig_audit(&scene->rig);
	rig_advance_ms(&scene->rig, 60000);
	assert_bytes(scene, "b", 2);
	scene_end(scene);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_down_and_up),
		cmocka_unit_test(test_written_as_it_goes),
		cmocka_unit_test(test_read_before_admitted),
		cmocka_unit_test(test_ancestors_first),
		cmocka_unit_test(test_orphan),
		cmocka_unit_test(test_broken_page_is_a_miss),
		cmocka_unit_test(test_failed_store),
		cmocka_unit_test(test_wanted_layer_first),
		cmocka_unit_test(test_layer_by_layer),
		cmocka_unit_test(test_prefetch_does_not_wait),
		cmocka_unit_test(test_deleted_while_loading),
		cmocka_unit_test(test_appended_while_loading),
		cmocka_unit_test(test_reclaimed_while_loading),
		cmocka_unit_test(test_gone_while_waiting),
		cmocka_unit_test(test_closed_while_waiting),
		cmocka_unit_test(test_deleted_below),
		cmocka_unit_test(test_reclaimed_while_resident),
		cmocka_unit_test(test_larger_than_ram),
		cmocka_unit_test(test_loads_leave_the_rest),
		cmocka_unit_test(test_no_room_to_load),
		cmocka_unit_test(test_waits_for_room),
		cmocka_unit_test(test_no_room_for_an_ancestor),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
