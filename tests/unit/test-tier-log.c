/* SPDX-License-Identifier: Apache-2.0 */
/* The log on a disk in RAM, where nothing goes wrong: what is stored is found and loaded, now and after a restart. */
#include "tests/lib/harness.h"
#include "tests/lib/tier-rig.h"

#include "base/units.h"
#include "proto/status.h"

#include <errno.h>

static void assert_loads(struct tier_rig *rig, uint32_t space, uint32_t number, uint32_t version)
{
	struct tier_rig_outcome outcome = tier_rig_load(rig, space, number);

	assert_int_equal(outcome.result, 0);
	assert_int_equal(outcome.version, version);
}

static void test_round_trip(void **state)
{
	struct tier_rig rig;

	tier_rig_init(&rig, MIB, 4);
	tier_rig_start(&rig);
	for (uint32_t i = 0; i < 20; i++)
		assert_int_equal(tier_rig_store(&rig, i % 3, i, 1), 0);
	assert_true(tier_rig_find(&rig, 0, 3));
	assert_false(tier_rig_find(&rig, 1, 3));
	tier_rig_run(&rig);
	assert_int_equal(rig.last_stored, 0);
	for (uint32_t i = 0; i < 20; i++)
		assert_loads(&rig, i % 3, i, 1);
	assert_int_equal(tier_rig_stats(&rig).blocks, 20);
	tier_rig_deinit(&rig);
}

static uint64_t transfers(struct tier_rig *rig, uint32_t number, bool loads)
{
	uint64_t before = rig->disk.completed;

	if (loads) {
		assert_loads(rig, 0, number, 1);
	} else {
		assert_int_equal(tier_rig_store(rig, 0, number, 1), 0);
		tier_rig_run(rig);
	}
	return rig->disk.completed - before;
}

/* Neighbours in memory and in the file are transferred together, as long as that is not too much. */
static void test_runs(void **state)
{
	struct tier_rig rig;

	tier_rig_init(&rig, 4 * MIB, 4);
	tier_rig_start(&rig);
	tier_rig_run(&rig);
	rig.page_count = 5;
	rig.page_bytes = 4000;
	rig.hole = 5;
	assert_int_equal(transfers(&rig, 5, false), 1 + 1); /* and the head */
	assert_int_equal(transfers(&rig, 5, true), 1);
	rig.hole = 3;
	assert_int_equal(transfers(&rig, 5, true), 2);
	assert_int_equal(transfers(&rig, 10, false), 2 + 1);
	rig.hole = 0;
	assert_int_equal(transfers(&rig, 11, false), 1 + 1);
	assert_int_equal(transfers(&rig, 11, true), 2); /* from the second page on, then the first */
	rig.page_bytes = 100 * KIB;
	assert_int_equal(transfers(&rig, 20, false), 3 + 1);
	assert_int_equal(transfers(&rig, 20, true), 3);
	tier_rig_deinit(&rig);
}

static void test_load_waits_for_store(void **state)
{
	struct tier_rig rig;

	tier_rig_init(&rig, MIB, 4);
	tier_rig_start(&rig);
	assert_int_equal(tier_rig_store(&rig, 0, 5, 7), 0);
	assert_int_equal(rig.stores_n, 1);
	assert_loads(&rig, 0, 5, 7);
	assert_int_equal(rig.stores_n, 0);
	tier_rig_deinit(&rig);
}

static void test_replace(void **state)
{
	struct tier_rig rig;

	tier_rig_init(&rig, MIB, 4);
	tier_rig_start(&rig);
	assert_int_equal(tier_rig_store(&rig, 0, 5, 1), 0);
	tier_rig_run(&rig);
	assert_int_equal(tier_rig_store(&rig, 0, 5, 2), 0);
	assert_int_equal(tier_rig_store(&rig, 0, 5, 3), 0);
	assert_loads(&rig, 0, 5, 3);
	assert_int_equal(tier_rig_stats(&rig).blocks, 1);
	tier_rig_crash(&rig, false);
	tier_rig_start(&rig);
	assert_loads(&rig, 0, 5, 3);
	tier_rig_deinit(&rig);
}

static void fill(struct tier_rig *rig, uint32_t from, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		while (tier_rig_store(rig, 0, from + i, 1) == KVP_NO_SPACE)
			assert_true(tier_rig_step(rig));
		while (rig->stores_n > 4)
			assert_true(tier_rig_step(rig));
	}
	tier_rig_run(rig);
}

/* By footers, by scanning what has none, and both. */
static void test_restart(void **state)
{
	struct tier_rig rig;

	for (unsigned orderly = 0; orderly < 2; orderly++) {
		tier_rig_init(&rig, 256 * KIB, 8);
		tier_rig_start(&rig);
		fill(&rig, 0, 60);
		assert_true(tier_rig_stats(&rig).segments > 3);
		if (orderly)
			tier_rig_stop(&rig);
		else
			tier_rig_crash(&rig, false);
		tier_rig_start(&rig);
		assert_int_equal(tier_rig_stats(&rig).recovered_blocks, 60);
		assert_int_equal(tier_rig_stats(&rig).broken_total, 0);
		for (uint32_t i = 0; i < 60; i++)
			assert_loads(&rig, 0, i, 1);
		tier_rig_deinit(&rig);
	}
}

static void test_reclaim_cold(void **state)
{
	struct tier_rig rig;
	uint32_t there = 0;

	tier_rig_init(&rig, 256 * KIB, 4);
	tier_rig_start(&rig);
	rig.resident[0][3] = true;
	fill(&rig, 0, 300);
	assert_true(tier_rig_stats(&rig).dropped_blocks_total > 100);
	assert_int_equal(rig.asked, tier_rig_stats(&rig).dropped_blocks_total);
	assert_int_equal(tier_rig_stats(&rig).moved_blocks_total, 0);
	for (uint32_t i = 0; i < 300; i++)
		there += tier_rig_find(&rig, 0, i);
	assert_int_equal(there, tier_rig_stats(&rig).blocks);
	/* The oldest went. */
	for (uint32_t i = 300 - there; i < 300; i++)
		assert_loads(&rig, 0, i, 1);
	tier_rig_deinit(&rig);
}

/* What is loaded again and again stays, however much is written. */
static void test_reclaim_hot(void **state)
{
	struct tier_rig rig;

	tier_rig_init(&rig, 256 * KIB, 4);
	tier_rig_start(&rig);
	fill(&rig, 1, 5);
	for (uint32_t i = 0; i < 300; i++) {
		fill(&rig, 10 + i, 1);
		for (uint32_t hot = 1; hot <= 5; hot++)
			assert_loads(&rig, 0, hot, 1);
	}
	assert_true(tier_rig_stats(&rig).moved_blocks_total >= 5);
	tier_rig_crash(&rig, false);
	tier_rig_start(&rig);
	for (uint32_t hot = 1; hot <= 5; hot++)
		assert_loads(&rig, 0, hot, 1);
	tier_rig_deinit(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_load_waits_for_store),
		cmocka_unit_test(test_replace),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_reclaim_cold),
		cmocka_unit_test(test_reclaim_hot),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
