/* SPDX-License-Identifier: Apache-2.0 */
/* The client's staging ring: order, wrap-around, holes, and that chunks never overlap. */
#include "client/staging.h"
#include "tests/lib/harness.h"

#define RING_BYTES 4096u

static void expect_at(struct staging *staging, struct staging_chunk *chunk, uint64_t bytes, uint64_t offset)
{
	assert_true(staging_alloc(staging, chunk, bytes));
	assert_int_equal(chunk->offset, offset);
	assert_int_equal(chunk->bytes, bytes);
}

static void test_whole_ring(void **state)
{
	struct staging staging;
	struct staging_chunk all, none;

	staging_init(&staging, RING_BYTES);
	assert_true(staging_empty(&staging));
	assert_false(staging_alloc(&staging, &none, RING_BYTES + STAGING_ALIGN));
	expect_at(&staging, &all, RING_BYTES, 0);
	assert_false(staging_alloc(&staging, &none, STAGING_ALIGN));
	staging_free(&all);
	assert_true(staging_empty(&staging));
	expect_at(&staging, &all, STAGING_ALIGN, 0);
	staging_free(&all);
}

static void test_no_memory(void **state)
{
	struct staging staging;
	struct staging_chunk chunk;

	staging_init(&staging, 0);
	assert_false(staging_alloc(&staging, &chunk, STAGING_ALIGN));
}

static void test_round_the_end(void **state)
{
	struct staging staging;
	struct staging_chunk a, b, c, d, none;

	staging_init(&staging, RING_BYTES);
	expect_at(&staging, &a, 1024, 0);
	expect_at(&staging, &b, 2048, 1024);
	assert_false(staging_alloc(&staging, &none, 1088)); /* 1024 are left at the end, nothing at the beginning */
	staging_free(&a);
	expect_at(&staging, &c, 1024, 3072);
	expect_at(&staging, &d, 960, 0);
	assert_false(staging_alloc(&staging, &none, 128)); /* 64 are left before b */
	expect_at(&staging, &a, 64, 960);
	assert_false(staging_alloc(&staging, &none, 64));
	staging_free(&b);
	expect_at(&staging, &b, 2048, 1024);
	staging_free(&c);
	staging_free(&d);
	staging_free(&a);
	staging_free(&b);
}

/* A chunk freed in the middle is room again only when one end of the ring reaches it. */
static void test_hole(void **state)
{
	struct staging staging;
	struct staging_chunk a, b, c, none;

	staging_init(&staging, RING_BYTES);
	expect_at(&staging, &a, 1024, 0);
	expect_at(&staging, &b, 1024, 1024);
	expect_at(&staging, &c, 2048, 2048);
	staging_free(&b);
	assert_false(staging_alloc(&staging, &none, 1024));
	staging_free(&c);
	expect_at(&staging, &c, 3072, 1024);
	staging_free(&a);
	staging_free(&c);
}

struct taken {
	struct staging_chunk chunk;
	bool used;
};

static void expect_apart(const struct taken *taken, size_t n, size_t at)
{
	const struct staging_chunk *new = &taken[at].chunk;

	assert_true(new->offset + new->bytes <= RING_BYTES);
	for (size_t i = 0; i < n; i++) {
		const struct staging_chunk *old = &taken[i].chunk;

		if (i != at && taken[i].used)
			assert_true(old->offset + old->bytes <= new->offset || new->offset + new->bytes <= old->offset);
	}
}

/* Any order of taking and freeing, from a fixed seed: no overlap, and an empty ring takes everything. */
static void test_random(void **state)
{
	struct taken taken[24] = { 0 };
	struct staging staging;
	uint64_t seed = 88172645463325252u;
	unsigned allocated = 0;

	staging_init(&staging, RING_BYTES);
	for (unsigned step = 0; step < 200000; step++) {
		size_t at;

		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		at = seed % 24;
		if (taken[at].used) {
			staging_free(&taken[at].chunk);
			taken[at].used = false;
		} else if (staging_alloc(&staging, &taken[at].chunk, ((seed >> 32) % 12 + 1) * STAGING_ALIGN)) {
			taken[at].used = true;
			allocated++;
			expect_apart(taken, 24, at);
		}
	}
	assert_true(allocated > 10000);
	for (size_t i = 0; i < 24; i++)
		if (taken[i].used)
			staging_free(&taken[i].chunk);
	assert_true(staging_empty(&staging));
	assert_true(staging_alloc(&staging, &taken[0].chunk, RING_BYTES));
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_whole_ring),
	cmocka_unit_test(test_no_memory),
	cmocka_unit_test(test_round_the_end),
	cmocka_unit_test(test_hole),
	cmocka_unit_test(test_random),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
