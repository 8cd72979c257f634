/* SPDX-License-Identifier: Apache-2.0 */
/* Removal: descendants, whole spaces, restarts, and very many of them. */
#include "tests/lib/harness.h"
#include "tests/lib/tier-rig.h"

#include "base/units.h"
#include "proto/status.h"

static void store_all(struct tier_rig *rig, uint32_t space, uint32_t n)
{
	for (uint32_t i = 1; i <= n; i++) {
		while (tier_rig_store(rig, space, i, 1) != 0)
			assert_true(tier_rig_step(rig));
	}
	tier_rig_run(rig);
}

static bool descends(const struct tier_rig *rig, uint32_t number, uint32_t from)
{
	for (; number > 0; number = tier_rig_parent(rig, number))
		if (number == from)
			return true;
	return false;
}

static void assert_without(struct tier_rig *rig, uint32_t n, uint32_t removed)
{
	for (uint32_t i = 1; i <= n; i++)
		assert_int_equal(tier_rig_find(rig, 0, i), !descends(rig, i, removed));
}

static void test_descendants(void **state)
{
	struct tier_rig rig;

	tier_rig_init(&rig, MIB, 4);
	tier_rig_start(&rig);
	store_all(&rig, 0, 100);
	tier_rig_remove(&rig, 0, 2);
	assert_without(&rig, 100, 2);
	/* Its children are found without it, too. */
	tier_rig_remove(&rig, 0, 2);
	tier_rig_wait(&rig, 200 * 1000 * 1000);
	tier_rig_crash(&rig, false);
	tier_rig_start(&rig);
	assert_without(&rig, 100, 2);
	tier_rig_deinit(&rig);
}

static void test_absent_parent(void **state)
{
	struct tier_rig rig;

	tier_rig_init(&rig, MIB, 4);
	tier_rig_start(&rig);
	assert_int_equal(tier_rig_store(&rig, 0, 5, 1), 0); /* its parent, 2, was never there */
	tier_rig_run(&rig);
	tier_rig_remove(&rig, 0, 2);
	assert_false(tier_rig_find(&rig, 0, 5));
	tier_rig_deinit(&rig);
}

/* The removal is in the log before the block that is stored after it. */
static void test_stored_again(void **state)
{
	struct tier_rig rig;

	tier_rig_init(&rig, MIB, 4);
	tier_rig_start(&rig);
	store_all(&rig, 0, 10);
	tier_rig_remove(&rig, 0, 2);
	assert_int_equal(tier_rig_store(&rig, 0, 5, 2), 0);
	tier_rig_run(&rig);
	for (unsigned orderly = 0; orderly < 2; orderly++) {
		if (orderly)
			tier_rig_stop(&rig);
		else
			tier_rig_crash(&rig, false);
		tier_rig_start(&rig);
		assert_false(tier_rig_find(&rig, 0, 2));
		assert_false(tier_rig_find(&rig, 0, 4));
		assert_int_equal(tier_rig_load(&rig, 0, 5).version, 2);
		assert_true(tier_rig_find(&rig, 0, 3));
	}
	tier_rig_deinit(&rig);
}

/* Between the two the way from the ancestor to the descendant is reclaimed. */
static void test_way_reclaimed(void **state)
{
	struct tier_rig rig;

	tier_rig_init(&rig, 128 * KIB, 4);
	tier_rig_start(&rig);
	store_all(&rig, 0, 2); /* 2 -> 4 -> 8: 4 will be reclaimed, 8 not yet */
	assert_int_equal(tier_rig_store(&rig, 0, 4, 1), 0);
	for (uint32_t i = 0; tier_rig_stats(&rig).segments < 4 && i < 1000; i++) {
		(void)tier_rig_store(&rig, 1, 300 + i, 1);
		tier_rig_run(&rig);
	}
	assert_int_equal(tier_rig_store(&rig, 0, 8, 1), 0);
	tier_rig_run(&rig);
	assert_true(tier_rig_find(&rig, 0, 4));
	tier_rig_remove(&rig, 0, 2);
	tier_rig_wait(&rig, 200 * 1000 * 1000);
	for (uint32_t i = 0; tier_rig_stats(&rig).dropped_blocks_total == 0 && i < 1000; i++) {
		(void)tier_rig_store(&rig, 1, 400 + i, 1);
		tier_rig_run(&rig);
	}
	tier_rig_crash(&rig, false);
	tier_rig_start(&rig);
	assert_false(tier_rig_find(&rig, 0, 8));
	tier_rig_deinit(&rig);
}

static void test_space(void **state)
{
	struct tier_rig rig;

	tier_rig_init(&rig, MIB, 4);
	tier_rig_start(&rig);
	store_all(&rig, 0, 30);
	store_all(&rig, 1, 30);
	tier_rig_remove_space(&rig, 0);
	assert_int_equal(tier_rig_store(&rig, 0, 7, 2), 0);
	tier_rig_run(&rig);
	tier_rig_stop(&rig);
	tier_rig_start(&rig);
	assert_int_equal(tier_rig_stats(&rig).recovered_blocks, 31);
	assert_int_equal(tier_rig_load(&rig, 0, 7).version, 2);
	tier_rig_deinit(&rig);
}

/* More than one turn does, and more than one record takes. */
static void test_very_many(void **state)
{
	struct tier_rig rig;
	uint32_t ticks = 0;

	tier_rig_init(&rig, 16 * MIB, 4);
	rig.options.blocks_max = 10000;
	rig.page_count = 1;
	tier_rig_start(&rig);
	for (uint32_t i = 1; i < RIG_NUMBERS; i++) /* 2 has a third of them below it */
		while (tier_rig_store(&rig, 0, i, 1) != 0)
			assert_true(tier_rig_step(&rig));
	tier_rig_run(&rig);
	tier_rig_remove_space(&rig, 0);
	assert_false(tier_rig_find(&rig, 0, 1));
	assert_int_equal(rig.tier->ops->deadline_ns(rig.tier), 0);
	for (; rig.tier->ops->deadline_ns(rig.tier) == 0; ticks++)
		rig.tier->ops->tick(rig.tier, rig.now_ns);
	assert_true(ticks >= 1 && ticks < 10);
	assert_int_equal(tier_rig_stats(&rig).blocks, 0);
	assert_int_equal(tier_rig_stats(&rig).used_bytes, 0);
	for (uint32_t i = 1; i < RIG_NUMBERS; i++)
		tier_rig_remove(&rig, 2, i);
	tier_rig_wait(&rig, 200 * 1000 * 1000);
	tier_rig_crash(&rig, false);
	tier_rig_start(&rig);
	assert_int_equal(tier_rig_stats(&rig).blocks, 0);
	tier_rig_deinit(&rig);
}

/* Removed while the log is still finding out what it holds. */
static void test_before_ready(void **state)
{
	struct tier_rig rig;

	tier_rig_init(&rig, MIB, 4);
	tier_rig_start(&rig);
	store_all(&rig, 0, 20);
	tier_rig_stop(&rig);
	rig.remove_at_start = 2;
	tier_rig_start(&rig);
	assert_without(&rig, 20, 2);
	tier_rig_deinit(&rig);
}

/* Even when the log is full at that moment. */
static void test_removed_and_stopped(void **state)
{
	struct tier_rig rig;

	for (uint32_t steps = 0; steps < 400; steps++) {
		tier_rig_init(&rig, 64 * KIB, 3);
		rig.flat = true;
		rig.page_count = 1;
		rig.page_bytes = steps % 2 ? 512 : 4096;
		rig.disk.seed = steps;
		tier_rig_start(&rig);
		for (uint32_t i = 1, left = steps; i < 60 && left > 0; i++)
			while (tier_rig_store(&rig, 0, i, 1) != 0 && left > 0 && tier_rig_step(&rig))
				left--;
		for (uint32_t i = 1; i < 60; i++)
			if (i % 2)
				tier_rig_remove(&rig, 0, i);
		tier_rig_stop(&rig);
		tier_rig_start(&rig);
		for (uint32_t i = 1; i < 60; i++)
			if (i % 2)
				assert_false(tier_rig_find(&rig, 0, i));
		tier_rig_deinit(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descendants),   cmocka_unit_test(test_absent_parent),
		cmocka_unit_test(test_stored_again),  cmocka_unit_test(test_way_reclaimed),
		cmocka_unit_test(test_space),         cmocka_unit_test(test_very_many),
		cmocka_unit_test(test_before_ready),  cmocka_unit_test(test_removed_and_stopped),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
