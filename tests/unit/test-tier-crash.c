/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One piece of work, ended by a crash after each of its transfers in turn, in order and not, with and without torn
 * writes: afterwards all that was said to be stored is there, nothing that was removed, and the log goes on.
 */
#include "tests/lib/harness.h"
#include "tests/lib/tier-model.h"

#include "base/units.h"
#include "proto/status.h"

#include <stdio.h>

struct work {
	uint64_t segment_bytes;
	uint32_t segments;
	uint32_t stores;
};

static bool over(const struct tier_model *model, uint64_t until)
{
	return model->rig.disk.completed >= until;
}

static void go_on(struct tier_model *model, uint64_t until, uint32_t steps)
{
	for (uint32_t i = 0; i < steps && !over(model, until); i++)
		if (!tier_rig_step(&model->rig))
			break;
}

static void store(struct tier_model *model, uint64_t until, uint32_t number)
{
	for (uint32_t tries = 0; !over(model, until) && tries < 1000; tries++) {
		if (tier_model_store(model, number % 2, number) == 0)
			break;
		go_on(model, until, 1);
	}
}

static void perform(struct tier_model *model, const struct work *work, uint64_t until)
{
	for (uint32_t i = 1; i <= work->stores && !over(model, until); i++) {
		store(model, until, i);
		go_on(model, until, i % 5);
		if (i % 4 == 0)
			store(model, until, i / 2);
		if (i % 3 == 0)
			tier_model_load(model, 0, 2);
		if (i % 9 == 0) {
			tier_model_remove(model, 0, i - 3);
			model->rig.now_ns += i % 2 ? 150 * 1000 * 1000 : 0;
		}
		if (i == 16)
			tier_model_remove_space(model, 1);
	}
	while (!over(model, until) && tier_rig_step(&model->rig))
		continue;
	if (!over(model, until))
		tier_model_settle(model);
}

static uint64_t crash_after(const struct work *work, uint64_t until, uint64_t seed, bool torn)
{
	static struct tier_model model;
	uint64_t completed;

	tier_model_init(&model, work->segment_bytes, work->segments);
	model.rig.disk.seed = seed;
	tier_rig_start(&model.rig);
	perform(&model, work, until);
	completed = model.rig.disk.completed;
	tier_model_crash(&model, torn);
	for (uint32_t i = 1; i < 6; i++)
		store(&model, UINT64_MAX, i);
	tier_model_settle(&model);
	tier_model_check(&model);
	assert_int_equal(model.broken, 0);
	tier_model_restart(&model);
	tier_model_check(&model);
	tier_model_deinit(&model);
	return completed;
}

static void crash_everywhere(const struct work *work)
{
	uint64_t all = crash_after(work, UINT64_MAX, 0, false);

	(void)printf("%llu transfers\n", (unsigned long long)all);
	assert_true(all > 100);
	for (uint64_t until = 4; until < all; until++) {
		(void)crash_after(work, until, 0, false);
		(void)crash_after(work, until, until, true);
	}
}

static void test_without_reclaim(void **state)
{
	crash_everywhere(&(struct work){ 256 * KIB, 6, 40 });
}

static void test_with_reclaim(void **state)
{
	crash_everywhere(&(struct work){ 64 * KIB, 4, 40 });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_reclaim),
		cmocka_unit_test(test_with_reclaim),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
