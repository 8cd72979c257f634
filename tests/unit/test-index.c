/* SPDX-License-Identifier: Apache-2.0 */
/* The shared index against a plain array, with hashes that collide on purpose. */
#include "tests/lib/harness.h"

#include "base/units.h"
#include "daemon/core/index.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BLOCKS 300
#define ARENA (8 * MIB)

static void arena_open(struct arena *arena)
{
	void *base = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(base != MAP_FAILED);
	assert_int_equal(arena_init(arena, base, ARENA, BLOCKS, 1, 2), 0);
}

static void arena_close(struct arena *arena)
{
	arena_deinit(arena);
	assert_int_equal(munmap(arena->base, ARENA), 0);
}

static void block_put(struct arena *arena, uint32_t block, uint64_t hash)
{
	struct kvp_block *entry = &arena->blocks[block - 1];

	entry->key_hash = hash;
	entry->space_id = 1;
	entry->key_bytes = 4;
	memcpy(entry->key, &block, 4);
}

static uint32_t find(const struct arena *arena, uint32_t block, uint64_t hash)
{
	return index_find(arena, hash, 1, &block, 4);
}

static bool all_clear(const struct arena *arena)
{
	for (uint32_t i = 0; i <= arena->bucket_mask; i++)
		if (arena->buckets[i].overflow || arena->buckets[i].sequence % 2)
			return false;
	return true;
}

/* All blocks in one home bucket: the probe runs over many buckets, and removal leaves no trace. */
static void test_one_home(void **state)
{
	struct arena arena;

	arena_open(&arena);
	for (uint32_t block = 1; block <= BLOCKS; block++) {
		block_put(&arena, block, UINT64_C(7) | (uint64_t)block << 40);
		index_insert(&arena, arena.blocks[block - 1].key_hash, block);
	}
	for (uint32_t block = 1; block <= BLOCKS; block++)
		assert_int_equal(find(&arena, block, UINT64_C(7) | (uint64_t)block << 40), block);
	for (uint32_t block = 1; block <= BLOCKS; block += 2)
		index_remove(&arena, arena.blocks[block - 1].key_hash, block);
	for (uint32_t block = 1; block <= BLOCKS; block++)
		assert_int_equal(find(&arena, block, UINT64_C(7) | (uint64_t)block << 40), block % 2 ? 0 : block);
	for (uint32_t block = 2; block <= BLOCKS; block += 2)
		index_remove(&arena, arena.blocks[block - 1].key_hash, block);
	assert_true(all_clear(&arena));
	arena_close(&arena);
}

/* Equal hashes, different keys; equal keys, different spaces. */
static void test_equal_hashes(void **state)
{
	struct arena arena;
	uint32_t key = 1;

	arena_open(&arena);
	for (uint32_t block = 1; block <= 5; block++) {
		block_put(&arena, block, 99);
		index_insert(&arena, 99, block);
	}
	for (uint32_t block = 1; block <= 5; block++)
		assert_int_equal(find(&arena, block, 99), block);
	assert_int_equal(index_find(&arena, 99, 2, &key, 4), 0);
	assert_int_equal(index_find(&arena, 99, 1, &key, 3), 0);
	assert_int_not_equal(index_find_hash(&arena, 99, 1), 0);
	assert_int_equal(index_find_hash(&arena, 98, 1), 0);
	arena_close(&arena);
}

static void test_random_against_array(void **state)
{
	struct arena arena;
	bool there[BLOCKS + 1] = { false };

	arena_open(&arena);
	srandom(11);
	for (uint32_t block = 1; block <= BLOCKS; block++)
		block_put(&arena, block, ((uint64_t)random() << 33 | (uint64_t)(random() % 4)) + 1);
	for (unsigned step = 0; step < 20000; step++) {
		uint32_t block = 1 + (uint32_t)random() % BLOCKS;
		uint64_t hash = arena.blocks[block - 1].key_hash;

		assert_int_equal(find(&arena, block, hash), there[block] ? block : 0);
		if (there[block])
			index_remove(&arena, hash, block);
		else
			index_insert(&arena, hash, block);
		there[block] = !there[block];
	}
	for (uint32_t block = 1; block <= BLOCKS; block++)
		if (there[block])
			index_remove(&arena, arena.blocks[block - 1].key_hash, block);
	assert_true(all_clear(&arena));
	arena_close(&arena);
}

/* Whatever was there, a write cut short among it. */
static void test_clear(void **state)
{
	struct arena arena;

	arena_open(&arena);
	memset(arena.buckets, 0xff, (arena.bucket_mask + 1) * sizeof(*arena.buckets));
	arena.buckets[1].sequence = 8;
	index_clear(&arena);
	assert_true(all_clear(&arena));
	assert_int_equal(arena.buckets[1].sequence, 10);
	block_put(&arena, 1, 7);
	assert_int_equal(find(&arena, 1, 7), 0);
	index_insert(&arena, 7, 1);
	assert_int_equal(find(&arena, 1, 7), 1);
	arena_close(&arena);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_home),
		cmocka_unit_test(test_equal_hashes),
		cmocka_unit_test(test_random_against_array),
		cmocka_unit_test(test_clear),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
