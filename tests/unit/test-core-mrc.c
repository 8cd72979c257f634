/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The miss-ratio curve alone: against LRU caches of all six sizes that are simulated in full, on generated uses and on
 * those of a real service; and its promises (bounded memory, sums and order, totals that never fall) under random use.
 * KVP_TEST_VERBOSE=1 shows each error and what a call costs. KVP_SEED chooses the seed, KVP_SAMPLES another number of
 * samples for the real uses.
 */
#include "daemon/core/mrc.h"

#include "tests/lib/harness.h"
#include "tests/lib/trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SAMPLES 16384
#define ERROR_MAX 0.02
#define NONE UINT32_MAX

/* ---- Random numbers ---- */

static uint64_t seed_of_test(void)
{
	const char *text = getenv("KVP_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 10) : 1;

	printf("KVP_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static uint64_t draw(uint64_t *state)
{
	*state += UINT64_C(0x9e3779b97f4a7c15);
	return mix(*state);
}

/* ---- An LRU cache in full ---- */

struct lru_node {
	uint32_t before; /* used later; NONE at the ends */
	uint32_t after;
	uint64_t bytes; /* 0: not in it */
};

struct lru {
	struct lru_node *nodes; /* by key */
	uint32_t latest;
	uint32_t oldest;
	uint64_t bytes;
	uint64_t capacity;
	uint64_t hits;
};

static void lru_init(struct lru *lru, uint32_t keys, uint64_t capacity)
{
	*lru = (struct lru){ .latest = NONE, .oldest = NONE, .capacity = capacity };
	lru->nodes = calloc(keys, sizeof(*lru->nodes));
	assert_non_null(lru->nodes);
}

static void lru_remove(struct lru *lru, uint32_t key)
{
	struct lru_node *node = &lru->nodes[key];

	*(node->before == NONE ? &lru->latest : &lru->nodes[node->before].after) = node->after;
	*(node->after == NONE ? &lru->oldest : &lru->nodes[node->after].before) = node->before;
	lru->bytes -= node->bytes;
	node->bytes = 0;
}

static void lru_put(struct lru *lru, uint32_t key, uint64_t bytes)
{
	while (lru->oldest != NONE && lru->bytes + bytes > lru->capacity)
		lru_remove(lru, lru->oldest);
	lru->nodes[key] = (struct lru_node){ .before = NONE, .after = lru->latest, .bytes = bytes };
	*(lru->latest == NONE ? &lru->oldest : &lru->nodes[lru->latest].before) = key;
	lru->latest = key;
	lru->bytes += bytes;
}

static void lru_use(struct lru *lru, uint32_t key, uint64_t bytes)
{
	if (lru->nodes[key].bytes > 0) {
		lru->hits++;
		lru_remove(lru, key);
	}
	lru_put(lru, key, bytes);
}

static void lru_forget(struct lru *lru, uint32_t key)
{
	if (lru->nodes[key].bytes > 0)
		lru_remove(lru, key);
}

/* ---- Both side by side ---- */

struct pair {
	struct mrc mrc;
	struct lru lru[MRC_SIZES];
	uint64_t uses;
};

static void pair_init(struct pair *pair, uint32_t keys, uint64_t capacity, uint32_t samples, uint64_t secret)
{
	assert_int_equal(mrc_init(&pair->mrc, samples, capacity, secret), 0);
	for (unsigned size = 0; size < MRC_SIZES; size++)
		lru_init(&pair->lru[size], keys, capacity * mrc_quarters[size] / 4);
	pair->uses = 0;
}

static void pair_use(struct pair *pair, uint32_t key, uint64_t bytes)
{
	mrc_use(&pair->mrc, mix(key), bytes, 1, pair->lru[MRC_SIZE_ONE].nodes[key].bytes == 0);
	for (unsigned size = 0; size < MRC_SIZES; size++)
		lru_use(&pair->lru[size], key, bytes);
	pair->uses++;
}

static void pair_forget(struct pair *pair, uint32_t key)
{
	mrc_forget(&pair->mrc, mix(key));
	for (unsigned size = 0; size < MRC_SIZES; size++)
		lru_forget(&pair->lru[size], key);
}

/* Prints both curves. Returns the mean error of the five hit rates that are estimates. */
static double pair_compare(struct pair *pair, const char *name)
{
	double sum = 0;

	assert_true(mrc_audit(&pair->mrc));
	assert_int_equal(mrc_uses(&pair->mrc), pair->uses);
	printf("%-22s %6u samples:", name, pair->mrc.samples_max);
	for (unsigned size = 0; size < MRC_SIZES; size++) {
		double real = (double)pair->lru[size].hits / (double)pair->uses;
		double told = (double)mrc_hits(&pair->mrc, size) / (double)pair->uses;

		printf("  %.4f (%+.4f)", real, told - real);
		sum += fabs(told - real);
	}
	printf("  mean error %.4f\n", sum / (MRC_SIZES - 1));
	assert_int_equal(mrc_hits(&pair->mrc, MRC_SIZE_ONE), pair->lru[MRC_SIZE_ONE].hits);
	return sum / (MRC_SIZES - 1);
}

static void pair_deinit(struct pair *pair)
{
	mrc_deinit(&pair->mrc);
	for (unsigned size = 0; size < MRC_SIZES; size++)
		free(pair->lru[size].nodes);
}

/* ---- Generated uses ---- */

#define KEYS 200000u
#define USES 600000u

/* Key i is used 1/i as often as the first. */
static double *zipf_sums;

static void zipf_init(uint32_t keys)
{
	zipf_sums = calloc(keys, sizeof(*zipf_sums));
	assert_non_null(zipf_sums);
	for (uint32_t i = 0; i < keys; i++)
		zipf_sums[i] = (i > 0 ? zipf_sums[i - 1] : 0) + 1.0 / (i + 1);
}

static uint32_t zipf(uint64_t *state, uint32_t keys)
{
	double at = (double)(draw(state) >> 11) * 0x1p-53 * zipf_sums[keys - 1];
	uint32_t low = 0, high = keys - 1;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (zipf_sums[middle] < at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

typedef uint32_t next_fn(uint64_t *state, uint32_t i);

static uint32_t next_zipf(uint64_t *state, uint32_t i)
{
	return zipf(state, KEYS / 2);
}

/* Nothing fits before all of it does. */
static uint32_t next_loop(uint64_t *state, uint32_t i)
{
	return i % 12000;
}

/* Half is often used, the other half once. */
static uint32_t next_scan(uint64_t *state, uint32_t i)
{
	return i % 2 ? zipf(state, KEYS / 4) : KEYS / 4 + i / 2 % (KEYS * 3 / 4);
}

/* What is used changes. */
static uint32_t next_drift(uint64_t *state, uint32_t i)
{
	return (zipf(state, KEYS / 4) + i / 4) % KEYS;
}

/* Blocks of three spaces. */
static uint64_t bytes_of(uint32_t key)
{
	static const uint64_t bytes[] = { 40000, 200000, 1500000 };

	return bytes[mix(key) % 3];
}

static double compare_generated(const char *name, next_fn *next, uint64_t seed)
{
	struct pair pair;
	uint64_t state = seed;
	double error;

	pair_init(&pair, KEYS, UINT64_C(5000) * 580000, SAMPLES, seed);
	for (uint32_t i = 0; i < USES; i++) {
		uint32_t key = next(&state, i);

		pair_use(&pair, key, bytes_of(key));
	}
	error = pair_compare(&pair, name);
	pair_deinit(&pair);
	return error;
}

static void test_generated(void **state)
{
	static const struct {
		const char *name;
		next_fn *next;
	} uses[] = { { "zipf", next_zipf }, { "loop", next_loop }, { "scan", next_scan }, { "drift", next_drift } };
	uint64_t seed = seed_of_test();

	zipf_init(KEYS);
	for (size_t i = 0; i < sizeof(uses) / sizeof(uses[0]); i++)
		assert_true(compare_generated(uses[i].name, uses[i].next, seed) <= ERROR_MAX);
	free(zipf_sums);
}

/* ---- The uses of a real service ---- */

static double compare_trace(const struct trace *trace, uint32_t blocks, uint32_t samples, uint64_t seed)
{
	struct pair pair;
	char name[64];
	double error;

	pair_init(&pair, trace->n_distinct, (uint64_t)blocks << 20, samples, seed);
	for (size_t i = 0; i < trace->n_blocks; i++)
		pair_use(&pair, trace->blocks[i], 1 << 20);
	(void)snprintf(name, sizeof(name), "x1 = %u blocks", blocks);
	error = pair_compare(&pair, name);
	pair_deinit(&pair);
	return error;
}

static void test_trace(void **state)
{
	static const uint32_t capacities[] = { 2000, 8000, 32000 };
	const char *text = getenv("KVP_SAMPLES");
	uint32_t samples = text ? (uint32_t)strtoul(text, NULL, 10) : SAMPLES;
	uint64_t seed = seed_of_test();
	struct trace trace;
	double sum = 0;

	trace_load(&trace);
	assert_int_equal(trace.n_requests, 12031);
	assert_int_equal(trace.n_blocks, 288500);
	assert_int_equal(trace.n_distinct, 182790);
	for (size_t i = 0; i < 3; i++)
		sum += compare_trace(&trace, capacities[i], samples, seed) / 3;
	printf("%u samples: mean error %.4f\n", samples, sum);
	assert_true(sum <= ERROR_MAX);
	trace_free(&trace);
}

/* ---- Without sampling ---- */

/* As long as all blocks are followed, the curve is exact: of one size of block, deletes too where nothing is full. */
static void test_exact(void **state)
{
	uint64_t random = seed_of_test();
	struct pair pair;

	pair_init(&pair, 1000, 100 * 7, 2000, random);
	for (unsigned i = 0; i < 100000; i++)
		pair_use(&pair, (uint32_t)(draw(&random) % (1 + draw(&random) % 1000)), 7);
	for (unsigned size = 0; size < MRC_SIZES; size++)
		assert_int_equal(mrc_hits(&pair.mrc, size), pair.lru[size].hits);
	pair_deinit(&pair);

	pair_init(&pair, 1000, 4000 * 7, 2000, random);
	for (unsigned i = 0; i < 100000; i++) {
		if (draw(&random) % 4 == 0)
			pair_forget(&pair, (uint32_t)(draw(&random) % 1000));
		else
			pair_use(&pair, (uint32_t)(draw(&random) % 1000), 7);
	}
	for (unsigned size = 0; size < MRC_SIZES; size++)
		assert_int_equal(mrc_hits(&pair.mrc, size), pair.lru[size].hits);
	pair_deinit(&pair);
}

/* What the largest cache would have evicted makes room: blocks that come once do not lower the threshold for ever. */
static void test_old_blocks(void **state)
{
	struct mrc mrc;

	assert_int_equal(mrc_init(&mrc, 801, 100 * 7, 1), 0);
	for (uint64_t key = 0; key < 10000; key++)
		mrc_use(&mrc, key, 7, 1, true);
	assert_int_equal(mrc.n, 800);
	assert_true(mrc.threshold == UINT64_MAX);
	mrc_use(&mrc, 9200, 7, 1, true); /* the oldest that is there */
	mrc_use(&mrc, 9199, 7, 1, true);
	assert_int_equal(mrc_hits(&mrc, MRC_SIZES - 1), 1);
	mrc_deinit(&mrc);
}

/* Of two blocks that do not both find room the one with the lower hash is followed, and the other never again. */
static void test_threshold(void **state)
{
	for (uint64_t key = 1; key < 100; key++) {
		struct mrc mrc;
		uint64_t first, second;

		assert_int_equal(mrc_init(&mrc, 1, 1000, 1), 0);
		mrc_use(&mrc, 0, 7, 1, true);
		mrc_use(&mrc, key, 7, 1, true);
		first = mrc_mix(&mrc, 0);
		second = mrc_mix(&mrc, key);
		assert_int_equal(mrc.n, 1);
		assert_true(mrc.samples[mrc.root].hash == (first < second ? first : second));
		assert_true(mrc.threshold == (first < second ? second : first));
		mrc_deinit(&mrc);
	}
}

/* One use that stands for others counts as they would. */
static void test_weights(void **state)
{
	struct mrc mrc;

	assert_int_equal(mrc_init(&mrc, 16, 400, 1), 0);
	mrc_use(&mrc, 1, 100, 1, true);
	mrc_use(&mrc, 2, 100, 1, true);
	mrc_use(&mrc, 1, 100, 2.5, false);
	mrc_use(&mrc, 1, 100, 0, false);
	assert_int_equal(mrc_uses(&mrc), 4);
	assert_int_equal(mrc_hits(&mrc, 0), 0); /* one block alone */
	assert_int_equal(mrc_hits(&mrc, 1), 2); /* two */
	assert_int_equal(mrc_hits(&mrc, 5), 2);
	mrc_deinit(&mrc);
}

static void test_off(void **state)
{
	struct mrc mrc;

	assert_int_equal(mrc_init(&mrc, 0, 1000, 1), 0);
	for (uint64_t key = 0; key < 100; key++) {
		mrc_use(&mrc, key % 3, 10, 1, key < 3);
		mrc_forget(&mrc, key % 5);
	}
	assert_int_equal(mrc_uses(&mrc), 0);
	for (unsigned size = 0; size < MRC_SIZES; size++)
		assert_int_equal(mrc_hits(&mrc, size), 0);
	assert_true(mrc_audit(&mrc));
	assert_null(mrc.samples);
	mrc_deinit(&mrc);
}

/* ---- Promises ---- */

/* What was told before; nothing of it may fall, and more memory is never worse. */
struct told {
	uint64_t uses;
	uint64_t hits[MRC_SIZES];
	uint64_t threshold;
};

static void told_check(struct told *told, struct mrc *mrc)
{
	uint64_t uses = mrc_uses(mrc);

	assert_true(uses >= told->uses && mrc->threshold <= told->threshold && mrc->n <= mrc->samples_max);
	told->uses = uses;
	told->threshold = mrc->threshold;
	for (unsigned size = 0; size < MRC_SIZES; size++) {
		uint64_t hits = mrc_hits(mrc, size);

		assert_true(hits >= told->hits[size] && hits <= uses && (size == 0 || hits >= told->hits[size - 1]));
		told->hits[size] = hits;
	}
}

static void random_work(uint64_t *random, uint32_t samples, uint32_t keys)
{
	struct told told = { .threshold = UINT64_MAX };
	struct mrc mrc;

	assert_int_equal(mrc_init(&mrc, samples, 1 + draw(random) % 100000, draw(random)), 0);
	for (unsigned i = 0; i < 3000; i++) {
		uint64_t key = draw(random) % keys;

		if (draw(random) % 8 == 0)
			mrc_forget(&mrc, mix(key));
		else
			mrc_use(&mrc, mix(key), 1 + draw(random) % 2000, (double)(draw(random) % 40) / 8,
				draw(random) % 2);
		assert_true(mrc_audit(&mrc));
		told_check(&told, &mrc);
	}
	mrc_deinit(&mrc);
}

/* The samples' memory is given once: the address sanitizer sees what goes beyond it. */
static void test_random(void **state)
{
	uint64_t random = seed_of_test();

	for (unsigned round = 0; round < 40; round++)
		random_work(&random, 1 + (uint32_t)(draw(&random) % (round % 4 ? 60 : 3)),
			    1 + (uint32_t)(draw(&random) % 500));
}

/* Keys that come in the order of their hashes, which would make the tree a list, if it were ordered by these. */
static void test_chosen_keys(void **state)
{
	struct mrc mrc;
	unsigned deepest = 0;

	assert_int_equal(mrc_init(&mrc, SAMPLES, UINT64_C(1) << 40, seed_of_test()), 0);
	for (uint64_t key = 0; key < SAMPLES; key++)
		mrc_use(&mrc, key << 40, 1, 1, true);
	assert_int_equal(mrc.n, SAMPLES);
	for (uint32_t i = 1; i <= SAMPLES; i++) {
		unsigned depth = 0;

		for (uint32_t at = i; at; at = mrc.samples[at].parent)
			depth++;
		deepest = depth > deepest ? depth : deepest;
	}
	printf("depth of %u samples: %u\n", SAMPLES, deepest);
	assert_true(deepest < 100);
	mrc_deinit(&mrc);
}

/* ---- Cost ---- */

static double seconds(void)
{
	struct timespec now;

	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Nanoseconds a use of a block out of so many. */
static double time_uses(struct mrc *mrc, uint32_t keys)
{
	const unsigned n = 1000000;
	uint64_t random = 5;
	double begin = seconds();

	for (unsigned i = 0; i < n; i++) {
		random = random * UINT64_C(6364136223846793005) + 1;
		mrc_use(mrc, (random >> 32) % keys, 1, 1, false);
	}
	return (seconds() - begin) * 1e9 / n;
}

/* Only printed. */
static void test_cost(void **state)
{
	struct mrc mrc;

	assert_int_equal(mrc_init(&mrc, SAMPLES, UINT64_C(1) << 40, seed_of_test()), 0);
	printf("memory: %zu bytes\n",
	       (SAMPLES + 1) * sizeof(*mrc.samples) + ((size_t)mrc.bucket_mask + 1) * sizeof(*mrc.buckets));
	printf("ns a use, all of %u blocks followed: %.1f\n", SAMPLES, time_uses(&mrc, SAMPLES));
	for (uint64_t key = 0; key < 5000000; key++)
		mrc_use(&mrc, key, 1, 1, true);
	printf("ns a use, 1 of %.0f followed: %.1f\n", 1 / mrc.rate, time_uses(&mrc, 5000000));
	mrc.threshold = 0;
	printf("ns a use, none followed: %.1f\n", time_uses(&mrc, 5000000));
	mrc_deinit(&mrc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_generated),
		cmocka_unit_test(test_trace),
		cmocka_unit_test(test_exact),
		cmocka_unit_test(test_old_blocks),
		cmocka_unit_test(test_threshold),
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_off),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_chosen_keys),
		cmocka_unit_test(test_cost),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
