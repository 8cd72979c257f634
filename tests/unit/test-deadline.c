/* SPDX-License-Identifier: Apache-2.0 */
/* Deadlines come due in order, once, and not when they were disarmed. */
#include "tests/lib/harness.h"

#include "daemon/core/deadline.h"

#include <stdlib.h>

#define N 300

static void expire(struct core *core, struct deadline *deadline)
{
}

static void test_order(void **state)
{
	static struct deadline deadlines[N];
	struct deadline_heap heap = { 0 };
	uint64_t last = 0;
	unsigned armed = 0;

	srandom(9);
	assert_int_equal(deadline_next_ns(&heap), UINT64_MAX);
	for (unsigned i = 0; i < N; i++) {
		deadlines[i].expire = expire;
		assert_int_equal(deadline_arm(&heap, &deadlines[i], (uint64_t)random() % 1000), 0);
	}
	for (unsigned i = 0; i < N; i += 3) /* moved */
		assert_int_equal(deadline_arm(&heap, &deadlines[i], (uint64_t)random() % 1000), 0);
	for (unsigned i = 0; i < N; i += 5)
		deadline_disarm(&heap, &deadlines[i]);
	deadline_disarm(&heap, &deadlines[0]); /* not armed is fine */
	for (unsigned i = 0; i < N; i++)
		armed += deadline_armed(&deadlines[i]);
	assert_int_equal(armed, N - N / 5);
	while (deadline_next_ns(&heap) != UINT64_MAX) {
		uint64_t next = deadline_next_ns(&heap);
		struct deadline *due;

		assert_true(next >= last);
		assert_null(next > 0 ? deadline_pop_due(&heap, next - 1) : NULL);
		due = deadline_pop_due(&heap, next);
		assert_non_null(due);
		assert_int_equal(due->when_ns, next);
		assert_false(deadline_armed(due));
		last = next;
	}
	deadline_heap_deinit(&heap);
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(test_order) };

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
