/* SPDX-License-Identifier: Apache-2.0 */
/* What goes down to a tier, and is to be had from there. */
#include "tests/unit/test-core-tier.h"

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

/* Deleting reaches what is on the tier alone, with all that descends from it. */
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

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_down_and_up),
		cmocka_unit_test(test_written_as_it_goes),
		cmocka_unit_test(test_read_before_admitted),
		cmocka_unit_test(test_failed_store),
		cmocka_unit_test(test_deleted_below),
		cmocka_unit_test(test_reclaimed_while_resident),
		cmocka_unit_test(test_larger_than_ram),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
