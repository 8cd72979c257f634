/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log under seeded random work against the model: stores, loads, removals, time, crashes and restarts, transfers
 * ending in any order. KVP_SEED chooses the seed, KVP_STEPS the length.
 */
#include "tests/lib/harness.h"
#include "tests/lib/tier-model.h"

#include "base/units.h"

#include <stdio.h>
#include <stdlib.h>

struct shape {
	uint64_t segment_bytes;
	uint32_t segments;
	uint32_t blocks_max;
	uint32_t page_count; /* 0: they differ */
};

static uint64_t setting(const char *name, uint64_t normal)
{
	const char *value = getenv(name);

	return value ? strtoull(value, NULL, 0) : normal;
}

static void rare(struct tier_model *model, uint64_t *seed, uint32_t space)
{
	uint32_t choice = (uint32_t)(disk_memory_random(seed) % 4);

	if (choice == 0)
		tier_model_remove_space(model, space);
	else if (choice == 1)
		tier_model_restart(model);
	else
		tier_model_crash(model, choice % 2);
}

static void act(struct tier_model *model, uint64_t *seed, uint32_t wild)
{
	uint32_t choice = (uint32_t)(disk_memory_random(seed) % 1000);
	uint32_t space = (uint32_t)(disk_memory_random(seed) % RIG_SPACES);
	uint32_t number = 1 + (uint32_t)(disk_memory_random(seed) % (MODEL_NUMBERS - 1));

	if (choice < 200)
		(void)tier_model_store(model, space, number);
	else if (choice < 400)
		tier_model_load(model, space, number % 8 ? number : 8); /* one is loaded often */
	else if (choice < 400 + 4 * wild)
		tier_model_remove(model, space, number);
	else if (choice < 400 + 5 * wild)
		rare(model, seed, space);
	else if (choice < 425)
		model->rig.now_ns += 50 * 1000 * 1000;
	else if (choice < 430)
		tier_model_settle(model);
	else if (choice < 435)
		model->rig.resident[space][number] = !model->rig.resident[space][number];
	else
		for (uint32_t i = wild == 4 ? 1 : choice % 16; i > 0 && tier_rig_step(&model->rig);)
			i--;
}

static void work(const struct shape *shape, uint64_t seed)
{
	static struct tier_model model;
	uint64_t steps = setting("KVP_STEPS", 30000);
	uint32_t wild; /* how often something is removed, or all ends */

	seed = setting("KVP_SEED", seed);
	wild = 1 + (uint32_t)(seed % 4);
	(void)printf("seed %llu\n", (unsigned long long)seed);
	tier_model_init(&model, shape->segment_bytes, shape->segments);
	model.rig.options.blocks_max = shape->blocks_max;
	model.forgetful = shape->blocks_max < MODEL_NUMBERS;
	model.rig.page_count = shape->page_count;
	model.rig.disk.seed = seed;
	tier_rig_start(&model.rig);
	for (uint64_t i = 0; i < steps; i++)
		act(&model, &seed, wild);
	tier_model_settle(&model);
	tier_model_check(&model);
	(void)printf("%llu loads, %llu restarts, %llu blocks found again, %llu dropped, %llu moved\n",
		     (unsigned long long)model.loads_ok, (unsigned long long)model.restarts,
		     (unsigned long long)model.found_again, (unsigned long long)model.dropped,
		     (unsigned long long)model.moved);
	assert_true(model.loads_ok > 0 && model.restarts > 0 && model.found_again > 0);
	assert_int_equal(model.broken, 0);
	tier_model_deinit(&model);
}

static void test_roomy(void **state)
{
	work(&(struct shape){ MIB, 64, 4000, 0 }, 1);
}

static void test_small(void **state)
{
	work(&(struct shape){ 256 * KIB, 5, 4000, 0 }, 2);
}

static void test_tiny(void **state)
{
	work(&(struct shape){ 64 * KIB, 3, 4000, 0 }, 3);
}

static void test_few_blocks(void **state)
{
	work(&(struct shape){ 256 * KIB, 8, 30, 0 }, 4);
}

static void test_long_heads(void **state)
{
	work(&(struct shape){ 512 * KIB, 6, 4000, 40 }, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_roomy),      cmocka_unit_test(test_small),      cmocka_unit_test(test_tiny),
		cmocka_unit_test(test_few_blocks), cmocka_unit_test(test_long_heads),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
