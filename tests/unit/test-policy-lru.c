/* SPDX-License-Identifier: Apache-2.0 */
/* The LRU heap against a scan of all entries. */
#include "tests/lib/harness.h"

#include "daemon/core/policy.h"

#include <stdlib.h>

#define N 200

static uint32_t scan(const struct policy_entry *entries)
{
	uint32_t best = 0;

	for (uint32_t block = 1; block <= N; block++)
		if (entries[block].place != POLICY_ABSENT && (!best || policy_before(&entries[block], &entries[best])))
			best = block;
	return best;
}

static void test_random_against_scan(void **state)
{
	static struct policy_entry entries[N + 1];
	struct policy *policy = policy_lru.create(entries, N);
	uint64_t tick = 0;

	assert_non_null(policy);
	srandom(3);
	for (uint32_t block = 1; block <= N; block++)
		entries[block].place = POLICY_ABSENT;
	for (unsigned step = 0; step < 20000; step++) {
		uint32_t block = 1 + (uint32_t)random() % N;
		bool held = entries[block].place != POLICY_ABSENT;

		switch (random() % 4) {
		case 0:
			if (!held)
				policy->ops->insert(policy, block);
			break;
		case 1:
			if (held)
				policy->ops->remove(policy, block);
			break;
		case 2:
			entries[block].used = ++tick;
			if (held)
				policy->ops->update(policy, block);
			break;
		default:
			entries[block].priority = random() % 8 == 0 ? (uint32_t)random() % 16 : 0;
			if (held)
				policy->ops->update(policy, block);
		}
		assert_true(policy->ops->audit(policy));
		if (scan(entries)) {
			uint32_t victim = policy->ops->victim(policy);

			/* Entries that were never used tie at tick 0. */
			assert_false(policy_before(&entries[scan(entries)], &entries[victim]));
		} else {
			assert_int_equal(policy->ops->victim(policy), 0);
		}
	}
	policy->ops->destroy(policy);
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(test_random_against_scan) };

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
