/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's view of the arena, on an arena that the test lays out itself: right answers, and none from
 * impossible bytes.
 */
#include "client/arena.h"
#include "client/kvclient.h"
#include "client/lookup.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_BYTES KVP_ARENA_BYTES_MIN
#define SPACES 4u
#define BUCKETS 8u
#define BLOCKS 64u
#define PAGES 6u
#define PAGE_BYTES 1000u
#define SPACE_ID 2u
#define EXTENTS_OFFSET KVP_EXTENT_BYTES

struct rig {
	uint8_t *memory;
	struct kvp_arena_header *header;
	struct kvp_bucket *buckets;
	struct kvp_block *blocks;
	struct arena_layout layout;
};

static void rig_start(struct rig *rig)
{
	rig->memory = aligned_alloc(4096, ARENA_BYTES);
	assert_non_null(rig->memory);
	memset(rig->memory, 0, ARENA_BYTES);
	rig->header = (void *)rig->memory;
	*rig->header = (struct kvp_arena_header){
		.magic = KVP_ARENA_MAGIC,
		.version = KVP_LAYOUT_VERSION,
		.header_bytes = KVP_HEADER_BYTES,
		.arena_bytes = ARENA_BYTES,
		.incarnation = 7,
		.hash_seed = 12345,
		.counters_offset = 4096,
		.spaces_offset = 8192,
		.index_offset = 16384,
		.blocks_offset = 32768,
		.extents_offset = EXTENTS_OFFSET,
		.counters_count = KVP_COUNTERS,
		.spaces_count = SPACES,
		.buckets_count = BUCKETS,
		.blocks_count = BLOCKS,
		.extents_count = 3,
	};
	rig->buckets = (void *)(rig->memory + rig->header->index_offset);
	rig->blocks = (void *)(rig->memory + rig->header->blocks_offset);
	assert_null(arena_layout_read(rig->memory, ARENA_BYTES, &rig->layout));
}

static void rig_stop(struct rig *rig)
{
	free(rig->memory);
}

static uint64_t hash_of(const struct rig *rig, const char *key)
{
	return kvp_key_hash(rig->header->hash_seed, SPACE_ID, key, strlen(key));
}

static struct kvp_page *map_of(struct rig *rig, uint32_t number)
{
	return (void *)(rig->memory + rig->blocks[number - 1].map_offset);
}

/* A live block of this number with PAGES pages, none ready. */
static void block_put(struct rig *rig, uint32_t number, const char *key)
{
	struct kvp_block *block = &rig->blocks[number - 1];

	block->generation = 2 * number;
	block->key_hash = hash_of(rig, key);
	block->parent_hash = 99;
	block->map_offset = EXTENTS_OFFSET + (uint64_t)number * KVP_SLOT_ALIGN;
	block->space_id = SPACE_ID;
	block->page_count = PAGES;
	block->tokens = 17;
	block->key_bytes = (uint8_t)strlen(key);
	memcpy(block->key, key, strlen(key));
}

/* Enters a block into the first bucket with room from its home on, as the daemon does. */
static void index_put(struct rig *rig, uint32_t number, uint64_t hash)
{
	for (uint32_t at = (uint32_t)hash;; at++) {
		struct kvp_bucket *bucket = &rig->buckets[at & (BUCKETS - 1)];

		for (unsigned i = 0; i < KVP_BUCKET_ENTRIES; i++) {
			if (bucket->block[i] != 0)
				continue;
			bucket->tag[i] = kvp_hash_tag(hash);
			bucket->block[i] = number;
			return;
		}
		bucket->overflow++;
	}
}

static int find(const struct rig *rig, const char *key, struct block_view *view)
{
	return block_view_find(&rig->layout, SPACE_ID, key, strlen(key), view);
}

static void test_layout(void **state)
{
	struct arena_layout layout;
	struct rig rig;

	rig_start(&rig);
	assert_int_equal(rig.layout.incarnation, 7);
	assert_int_equal(rig.layout.hash_seed, 12345);
	assert_ptr_equal(rig.layout.buckets, rig.buckets);
	assert_ptr_equal(rig.layout.blocks, rig.blocks);
	assert_int_equal(rig.layout.buckets_count, BUCKETS);
	assert_int_equal(rig.layout.blocks_count, BLOCKS);
	assert_non_null(arena_layout_read(rig.memory, ARENA_BYTES - KVP_EXTENT_BYTES, &layout));
	assert_non_null(arena_layout_read(rig.memory, 4096, &layout));
	assert_non_null(arena_layout_read(rig.memory, KVP_ARENA_BYTES_MAX + 1, &layout));
	rig_stop(&rig);
}

#define EXPECT_REFUSED(field, value)                                                                \
	do {                                                                                        \
		struct kvp_arena_header before = *rig.header;                                       \
		rig.header->field = (value);                                                        \
		assert_non_null(arena_layout_read(rig.memory, ARENA_BYTES, &layout));               \
		*rig.header = before;                                                               \
	} while (0)

static void test_layout_refused(void **state)
{
	struct arena_layout layout;
	struct rig rig;

	rig_start(&rig);
	EXPECT_REFUSED(magic, KVP_ARENA_MAGIC ^ 1);
	EXPECT_REFUSED(version, KVP_LAYOUT_VERSION + 1);
	EXPECT_REFUSED(header_bytes, 512);
	EXPECT_REFUSED(arena_bytes, ARENA_BYTES + 4096);
	EXPECT_REFUSED(incarnation, 0);
	EXPECT_REFUSED(counters_offset, 0);
	EXPECT_REFUSED(counters_offset, ARENA_BYTES);
	EXPECT_REFUSED(counters_count, UINT32_MAX);
	EXPECT_REFUSED(spaces_offset, UINT64_MAX - 63);
	EXPECT_REFUSED(spaces_count, UINT32_MAX);
	EXPECT_REFUSED(index_offset, 16384 + 8);
	EXPECT_REFUSED(index_offset, ARENA_BYTES - 64);
	EXPECT_REFUSED(buckets_count, 0);
	EXPECT_REFUSED(buckets_count, 3);
	EXPECT_REFUSED(buckets_count, UINT32_C(1) << 31);
	EXPECT_REFUSED(blocks_offset, ARENA_BYTES - 64);
	EXPECT_REFUSED(blocks_offset, UINT64_MAX - 127);
	EXPECT_REFUSED(blocks_count, UINT32_MAX);
	EXPECT_REFUSED(extents_offset, 0);
	EXPECT_REFUSED(extents_offset, 2 * KVP_EXTENT_BYTES);
	EXPECT_REFUSED(extents_count, 4);
	EXPECT_REFUSED(extents_count, UINT32_MAX);
	assert_null(arena_layout_read(rig.memory, ARENA_BYTES, &layout));
	rig_stop(&rig);
}

static void test_find(void **state)
{
	struct block_view view;
	struct rig rig;

	rig_start(&rig);
	assert_int_equal(find(&rig, "alpha", &view), KVC_MISS);
	block_put(&rig, 5, "alpha");
	index_put(&rig, 5, hash_of(&rig, "alpha"));
	assert_int_equal(find(&rig, "alpha", &view), 0);
	assert_int_equal(view.generation, 10);
	assert_int_equal(view.parent_hash, 99);
	assert_int_equal(view.page_count, PAGES);
	assert_int_equal(view.tokens, 17);
	assert_ptr_equal(view.descriptor, &rig.blocks[4]);
	assert_ptr_equal(view.map, map_of(&rig, 5));
	assert_true(block_view_is(&view, SPACE_ID, "alpha", 5));
	assert_false(block_view_is(&view, SPACE_ID + 1, "alpha", 5));
	assert_false(block_view_is(&view, SPACE_ID, "alphb", 5));
	assert_false(block_view_is(&view, SPACE_ID, "alph", 4));
	assert_true(block_view_stands(&view));
	assert_int_equal(block_view_find(&rig.layout, SPACE_ID + 1, "alpha", 5, &view), KVC_MISS);
	assert_int_equal(find(&rig, "alph", &view), KVC_MISS);
	rig_stop(&rig);
}

/*
 * Every bucket is full of others: the probe goes on past full buckets, round the end, and stops where nothing
 * went past.
 */
static void test_find_in_full_index(void **state)
{
	struct block_view view;
	char key[16];
	struct rig rig;

	rig_start(&rig);
	for (uint32_t number = 1; number <= 50; number++) {
		(void)snprintf(key, sizeof(key), "key-%u", number);
		block_put(&rig, number, key);
		index_put(&rig, number, hash_of(&rig, key));
	}
	for (uint32_t number = 1; number <= 50; number++) {
		(void)snprintf(key, sizeof(key), "key-%u", number);
		assert_int_equal(find(&rig, key, &view), 0);
		assert_ptr_equal(view.descriptor, &rig.blocks[number - 1]);
	}
	assert_int_equal(find(&rig, "key-51", &view), KVC_MISS);
	/* All buckets say that something went past: the probe still ends. */
	for (unsigned i = 0; i < BUCKETS; i++)
		rig.buckets[i].overflow = 1;
	assert_int_equal(find(&rig, "key-51", &view), KVC_MISS);
	rig_stop(&rig);
}

/* Entries with the right tag that lead nowhere, or to another block. */
static void test_find_impossible(void **state)
{
	struct block_view view;
	struct rig rig;
	struct kvp_bucket *bucket;
	uint64_t hash;

	rig_start(&rig);
	hash = hash_of(&rig, "alpha");
	bucket = &rig.buckets[hash & (BUCKETS - 1)];
	bucket->tag[0] = kvp_hash_tag(hash);
	bucket->block[0] = UINT32_MAX;
	bucket->tag[1] = kvp_hash_tag(hash);
	bucket->block[1] = BLOCKS + 1;
	bucket->tag[2] = kvp_hash_tag(hash); /* block 0 */
	assert_int_equal(find(&rig, "alpha", &view), KVC_MISS);
	block_put(&rig, 9, "other");
	bucket->tag[3] = kvp_hash_tag(hash);
	bucket->block[3] = 9;
	assert_int_equal(find(&rig, "alpha", &view), KVC_MISS);
	rig.blocks[8].key_hash = hash; /* the same hash, another key */
	assert_int_equal(find(&rig, "alpha", &view), KVC_MISS);
	block_put(&rig, 10, "alpha");
	bucket->tag[4] = kvp_hash_tag(hash);
	bucket->block[4] = 10;
	assert_int_equal(find(&rig, "alpha", &view), 0);
	bucket->sequence = 1; /* a writer that never ends: what is found is believed for its own sake */
	assert_int_equal(find(&rig, "alpha", &view), 0);
	bucket->tag[4] = 0;
	assert_int_equal(find(&rig, "alpha", &view), KVC_MISS);
	bucket->tag[4] = kvp_hash_tag(hash);
	bucket->sequence = 2;
	rig.blocks[9].generation |= 1;
	assert_int_equal(find(&rig, "alpha", &view), KVC_MISS);
	rig_stop(&rig);
}

#define EXPECT_IMPOSSIBLE(field, value)                                                             \
	do {                                                                                        \
		block_put(&rig, 5, "alpha");                                                        \
		rig.blocks[4].field = (value);                                                      \
		assert_int_equal(block_view_at(&rig.layout, 5, 10, &view), -EPROTO);                \
		assert_int_equal(find(&rig, "alpha", &view), KVC_MISS);                             \
	} while (0)

static void test_descriptor_impossible(void **state)
{
	struct block_view view;
	struct rig rig;

	rig_start(&rig);
	block_put(&rig, 5, "alpha");
	index_put(&rig, 5, hash_of(&rig, "alpha"));
	EXPECT_IMPOSSIBLE(map_offset, 0);
	EXPECT_IMPOSSIBLE(map_offset, EXTENTS_OFFSET - KVP_SLOT_ALIGN);
	EXPECT_IMPOSSIBLE(map_offset, EXTENTS_OFFSET + 8);
	EXPECT_IMPOSSIBLE(map_offset, ARENA_BYTES);
	EXPECT_IMPOSSIBLE(map_offset, UINT64_MAX - 511);
	EXPECT_IMPOSSIBLE(page_count, 0);
	EXPECT_IMPOSSIBLE(page_count, KVP_PAGES_PER_BLOCK_MAX + 1);
	EXPECT_IMPOSSIBLE(page_count, UINT32_MAX);
	EXPECT_IMPOSSIBLE(tokens, 0);
	EXPECT_IMPOSSIBLE(tokens, KVP_BLOCK_TOKENS_MAX + 1);
	block_put(&rig, 5, "alpha");
	assert_int_equal(block_view_at(&rig.layout, 5, 10, &view), 0);
	rig.blocks[4].map_offset = ARENA_BYTES - KVP_SLOT_ALIGN; /* the last one fits with 32 pages and no more */
	rig.blocks[4].page_count = 32;
	assert_int_equal(block_view_at(&rig.layout, 5, 10, &view), 0);
	rig.blocks[4].page_count = 33;
	assert_int_equal(block_view_at(&rig.layout, 5, 10, &view), -EPROTO);
	rig_stop(&rig);
}

static void test_view_at(void **state)
{
	struct block_view view;
	struct rig rig;

	rig_start(&rig);
	block_put(&rig, BLOCKS, "last");
	assert_int_equal(block_view_at(&rig.layout, BLOCKS, 2 * BLOCKS, &view), 0);
	assert_int_equal(block_view_at(&rig.layout, BLOCKS, 2 * BLOCKS + 2, &view), KVC_STALE);
	assert_int_equal(block_view_at(&rig.layout, BLOCKS, 2 * BLOCKS + 1, &view), -EPROTO);
	assert_int_equal(block_view_at(&rig.layout, 0, 0, &view), -EPROTO);
	assert_int_equal(block_view_at(&rig.layout, BLOCKS + 1, 0, &view), -EPROTO);
	assert_int_equal(block_view_at(&rig.layout, UINT32_MAX, 0, &view), -EPROTO);
	rig.blocks[BLOCKS - 1].generation++;
	assert_int_equal(block_view_at(&rig.layout, BLOCKS, 2 * BLOCKS, &view), KVC_STALE);
	rig_stop(&rig);
}

static void test_pages(void **state)
{
	struct block_view view;
	struct kvp_page *map;
	struct rig rig;

	rig_start(&rig);
	block_put(&rig, 5, "alpha");
	map = map_of(&rig, 5);
	assert_int_equal(block_view_at(&rig.layout, 5, 10, &view), 0);
	assert_null(block_view_page(&rig.layout, &view, 2, PAGE_BYTES));
	map[2].slot = EXTENTS_OFFSET / KVP_SLOT_ALIGN + 100;
	map[2].flags = KVP_PAGE_READY;
	assert_ptr_equal(block_view_page(&rig.layout, &view, 2, PAGE_BYTES),
			 rig.memory + EXTENTS_OFFSET + 100 * KVP_SLOT_ALIGN);
	map[2].slot = EXTENTS_OFFSET / KVP_SLOT_ALIGN - 1;
	assert_null(block_view_page(&rig.layout, &view, 2, PAGE_BYTES));
	map[2].slot = ARENA_BYTES / KVP_SLOT_ALIGN - 1; /* 512 bytes before the end */
	assert_null(block_view_page(&rig.layout, &view, 2, PAGE_BYTES));
	assert_non_null(block_view_page(&rig.layout, &view, 2, KVP_SLOT_ALIGN));
	map[2].slot = UINT32_MAX;
	assert_null(block_view_page(&rig.layout, &view, 2, PAGE_BYTES));
	assert_true(block_view_stands(&view));
	rig.blocks[4].generation++;
	assert_false(block_view_stands(&view));
	rig_stop(&rig);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_layout),
	cmocka_unit_test(test_layout_refused),
	cmocka_unit_test(test_find),
	cmocka_unit_test(test_find_in_full_index),
	cmocka_unit_test(test_find_impossible),
	cmocka_unit_test(test_descriptor_impossible),
	cmocka_unit_test(test_view_at),
	cmocka_unit_test(test_pages),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
