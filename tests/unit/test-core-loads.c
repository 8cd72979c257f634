/* SPDX-License-Identifier: Apache-2.0 */
/* What comes up from a tier: in which order, for whom, into what room, and what others do to it meanwhile. */
#include "tests/unit/test-core-tier.h"

/* "a" is on the tier alone, and the tier does nothing by itself. */
static void hold_a_below(struct scene *scene)
{
	append(scene, "a", NULL, 5);
	evict_all(scene);
	scene->rig.tier_held = true;
}

static void let_go(struct scene *scene)
{
	scene->rig.tier_held = false;
	rig_run(&scene->rig);
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

/* The pages asked for come first, and their coming answers. */
static void test_wanted_layer_first(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);

	hold_a_below(scene);
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
	let_go(scene);
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

	hold_a_below(scene);
	assert_int_equal(scene->rig.core->arena.header->loading, 0);
	send_fetch(scene, scene->peer, "a", 0, true);
	assert_int_equal(scene->rig.core->arena.header->loading, 1);
	assert_int_equal(fetched(scene->peer), KVP_OK);
	assert_int_equal(scene->peer->last->fetch->items[0]->lease_id, 0);
	assert_int_equal(fate_of(scene, "a"), KVP_FATE_PARTIAL);
	let_go(scene);
	assert_int_equal(fate_of(scene, "a"), KVP_FATE_PRESENT);
	assert_int_equal(scene->rig.core->arena.header->loading, 0);
	scene_end(scene);
}

/* Another session may do what it likes with a block that is being loaded. */
static void test_deleted_while_loading(void **state)
{
	struct scene *scene = scene_new(CORE_TIER_ADMIT_ALL, 100);
	struct rig_peer *other = rig_connect(&scene->rig, 1, 1000, MIB);

	(void)rig_open_small(other, NULL);
	hold_a_below(scene);
	send_fetch(scene, scene->peer, "a", 0, false);
	assert_true(tier_memory_step(&scene->tier, 0));
	assert_int_equal(rig_delete(other, scene->id, "a"), KVP_OK);
	rig_audit(&scene->rig);
	assert_int_equal(fetched(scene->peer), KVP_MISS);
	assert_true(scene->rig.core->loading_bytes > 0); /* the tier still writes there */
	scene->tier.fail_pages = 1;
	let_go(scene);
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
	hold_a_below(scene);
	send_fetch(scene, scene->peer, "a", 0, false);
	assert_true(tier_memory_step(&scene->tier, 0));
	assert_int_equal(rig_append(other, scene->id, "a", NULL, 16, scene->space.page_bytes, 2, 1, 5), KVP_OK);
	rig_audit(&scene->rig);
	rig_disconnect(other); /* its unfinished block stays: the load finishes it */
	rig_audit(&scene->rig);
	let_go(scene);
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
	let_go(scene);
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
	hold_a_below(scene);
	send_fetch(scene, other, "a", 0, false);
	rig_disconnect(other);
	rig_audit(&scene->rig);
	let_go(scene);
	assert_int_equal(fate_of(scene, "a"), KVP_FATE_PRESENT);
	scene_end(scene);
}

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

/* However much is wanted at once: what is partly there, and cannot be evicted, is a part of the arena only. */
static void test_loads_leave_the_rest(void **state)
{
	struct scene *scene = scene_empty(200, CORE_TIER_ADMIT_ALL, 100);
	Kvpaged__V1__Schema schema;
	uint64_t most = 0;
	char key[8];

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
	let_go(scene);
	assert_int_equal(fetched(scene->peer), KVP_OK);
	rig_audit(&scene->rig);
	scene_end(scene);
}

/* There is no room for an ancestor of what is asked for; it is memory that is short, and not numbers of blocks. */
static void test_no_room_for_an_ancestor(void **state)
{
	struct scene *scene = scene_empty(200, CORE_TIER_ADMIT_ALL, 100);
	struct rig_peer *other = rig_connect(&scene->rig, 1, 1001, MIB);
	Kvpaged__V1__Schema schema;
	char key[8];

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
		cmocka_unit_test(test_ancestors_first),
		cmocka_unit_test(test_orphan),
		cmocka_unit_test(test_broken_page_is_a_miss),
		cmocka_unit_test(test_wanted_layer_first),
		cmocka_unit_test(test_layer_by_layer),
		cmocka_unit_test(test_prefetch_does_not_wait),
		cmocka_unit_test(test_deleted_while_loading),
		cmocka_unit_test(test_appended_while_loading),
		cmocka_unit_test(test_reclaimed_while_loading),
		cmocka_unit_test(test_gone_while_waiting),
		cmocka_unit_test(test_closed_while_waiting),
		cmocka_unit_test(test_loads_leave_the_rest),
		cmocka_unit_test(test_no_room_to_load),
		cmocka_unit_test(test_waits_for_room),
		cmocka_unit_test(test_no_room_for_an_ancestor),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
