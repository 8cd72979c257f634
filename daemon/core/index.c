/* SPDX-License-Identifier: Apache-2.0 */
/* A write brackets itself with the bucket's sequence; loads by this thread need no order, it is the only
 * writer. */
#include "daemon/core/index.h"

#include "base/contract.h"

#include <string.h>

static struct kvp_bucket *bucket_at(const struct arena *arena, uint64_t hash, uint32_t step)
{
	return &arena->buckets[((uint32_t)hash + step) & arena->bucket_mask];
}

static void write_begin(struct kvp_bucket *bucket)
{
	uint32_t sequence = atomic_load_explicit(&bucket->sequence, memory_order_relaxed);

	atomic_store_explicit(&bucket->sequence, sequence + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

static void write_end(struct kvp_bucket *bucket)
{
	uint32_t sequence = atomic_load_explicit(&bucket->sequence, memory_order_relaxed);

	atomic_store_explicit(&bucket->sequence, sequence + 1, memory_order_release);
}

static uint32_t overflow_of(const struct kvp_bucket *bucket)
{
	return atomic_load_explicit(&bucket->overflow, memory_order_relaxed);
}

/* The place of an entry in the bucket, or -1. block 0 looks for an empty one. */
static int entry_find(const struct kvp_bucket *bucket, uint32_t block)
{
	for (int i = 0; i < KVP_BUCKET_ENTRIES; i++)
		if (atomic_load_explicit(&bucket->block[i], memory_order_relaxed) == block)
			return i;
	return -1;
}

static void entry_store(struct kvp_bucket *bucket, int at, uint16_t tag, uint32_t block)
{
	write_begin(bucket);
	atomic_store_explicit(&bucket->tag[at], tag, memory_order_relaxed);
	atomic_store_explicit(&bucket->block[at], block, memory_order_relaxed);
	write_end(bucket);
}

static void overflow_add(struct kvp_bucket *bucket, uint32_t amount)
{
	write_begin(bucket);
	atomic_store_explicit(&bucket->overflow, overflow_of(bucket) + amount, memory_order_relaxed);
	write_end(bucket);
}

static void bucket_clear(struct kvp_bucket *bucket)
{
	/* Odd when a write was cut short: then it is still open to readers, and becomes this write. */
	uint32_t open = atomic_load_explicit(&bucket->sequence, memory_order_relaxed) | 1;

	atomic_store_explicit(&bucket->sequence, open, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	for (int i = 0; i < KVP_BUCKET_ENTRIES; i++) {
		atomic_store_explicit(&bucket->tag[i], 0, memory_order_relaxed);
		atomic_store_explicit(&bucket->block[i], 0, memory_order_relaxed);
	}
	atomic_store_explicit(&bucket->overflow, 0, memory_order_relaxed);
	write_end(bucket);
}

void index_clear(struct arena *arena)
{
	for (uint32_t i = 0; i <= arena->bucket_mask; i++)
		bucket_clear(&arena->buckets[i]);
}

void index_insert(struct arena *arena, uint64_t hash, uint32_t block)
{
	for (uint32_t step = 0; step <= arena->bucket_mask; step++) {
		struct kvp_bucket *bucket = bucket_at(arena, hash, step);
		int at = entry_find(bucket, 0);

		if (at >= 0) {
			entry_store(bucket, at, kvp_hash_tag(hash), block);
			return;
		}
		overflow_add(bucket, 1);
	}
	kvp_unreachable();
}

void index_remove(struct arena *arena, uint64_t hash, uint32_t block)
{
	for (uint32_t step = 0; step <= arena->bucket_mask; step++) {
		struct kvp_bucket *bucket = bucket_at(arena, hash, step);
		int at = entry_find(bucket, block);

		if (at >= 0) {
			entry_store(bucket, at, 0, 0);
			return;
		}
		kvp_assert(overflow_of(bucket) > 0);
		overflow_add(bucket, UINT32_MAX);
	}
	kvp_unreachable();
}

static bool block_is(const struct arena *arena, uint32_t block, uint64_t hash, uint32_t space_id,
		     const void *key, size_t key_bytes)
{
	const struct kvp_block *entry = &arena->blocks[block - 1];

	if (entry->key_hash != hash || entry->space_id != space_id)
		return false;
	return !key || (entry->key_bytes == key_bytes && memcmp(entry->key, key, key_bytes) == 0);
}

static uint32_t find(const struct arena *arena, uint64_t hash, uint32_t space_id, const void *key,
		     size_t key_bytes)
{
	uint16_t tag = kvp_hash_tag(hash);

	for (uint32_t step = 0; step <= arena->bucket_mask; step++) {
		const struct kvp_bucket *bucket = bucket_at(arena, hash, step);

		for (int i = 0; i < KVP_BUCKET_ENTRIES; i++) {
			uint32_t block;

			if (atomic_load_explicit(&bucket->tag[i], memory_order_relaxed) != tag)
				continue;
			block = atomic_load_explicit(&bucket->block[i], memory_order_relaxed);
			if (block_is(arena, block, hash, space_id, key, key_bytes))
				return block;
		}
		if (overflow_of(bucket) == 0)
			return 0;
	}
	return 0;
}

uint32_t index_find(const struct arena *arena, uint64_t hash, uint32_t space_id, const void *key,
		    size_t key_bytes)
{
	kvp_assert(key);
	return find(arena, hash, space_id, key, key_bytes);
}

uint32_t index_find_hash(const struct arena *arena, uint64_t hash, uint32_t space_id)
{
	return find(arena, hash, space_id, NULL, 0);
}
