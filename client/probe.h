/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every look-up runs, inline: a walk over the block numbers that the index has under a hash, and a look at one
 * block. Every number is read once, checked against the arena's bounds, and believed only if the block's generation is
 * the same afterwards, or cannot change since the block is pinned. See docs/memory-model.md.
 */
#pragma once

#include "base/checked.h"
#include "client/arena.h"
#include "client/kvclient.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Without a find, a bucket that the writer had open is read again so often, then given up. */
#define BUCKET_TRIES 64

/* A probe goes no further than this; at the index's load factors chains are a few buckets long. */
#define PROBE_BUCKETS_MAX 64

#define READ_ONCE(value) (*(const volatile __typeof__(value) *)&(value))

/* What was true of a block at one generation. */
struct block_view {
	const struct kvp_block *descriptor;
	uint32_t number;
	uint64_t generation;
	uint64_t parent_hash;
	const struct kvp_page *map; /* page_count entries */
	uint32_t page_count;
	uint32_t tokens;
};

/* A walk over the block numbers that the index has under a hash: likely the block of the key, never surely. */
struct candidates {
	const struct arena_layout *arena;
	uint64_t hash;
	uint32_t probe;
	unsigned entry;
	unsigned tries;
	uint32_t sequence; /* of the bucket, when its reading began */
};

static inline struct candidates candidates_of(const struct arena_layout *arena, uint64_t hash)
{
	return (struct candidates){ .arena = arena, .hash = hash };
}

/* Whether the descriptor is that of this space and key. Meaningful if the view still stands afterwards. */
static inline bool block_view_is(const struct block_view *view, uint32_t space_id, const void *key, size_t key_bytes)
{
	const struct kvp_block *descriptor = view->descriptor;

	return READ_ONCE(descriptor->space_id) == space_id && READ_ONCE(descriptor->key_bytes) == key_bytes &&
	       key_bytes <= KVP_KEY_BYTES_MAX && memcmp(descriptor->key, key, key_bytes) == 0;
}

/* Whether all that was read through the view before this call was the block's. */
static inline bool block_view_stands(const struct block_view *view)
{
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&view->descriptor->generation, memory_order_relaxed) == view->generation;
}

/* Reads the descriptor's fields; they are coherent if the view stands afterwards. Returns whether they are possible. */
static inline bool descriptor_read(const struct arena_layout *arena, const struct kvp_block *descriptor,
				   struct block_view *view)
{
	uint64_t map_offset = READ_ONCE(descriptor->map_offset);
	uint64_t map_bytes;

	view->descriptor = descriptor;
	view->parent_hash = READ_ONCE(descriptor->parent_hash);
	view->page_count = READ_ONCE(descriptor->page_count);
	view->tokens = READ_ONCE(descriptor->tokens);
	map_bytes = (uint64_t)view->page_count * sizeof(struct kvp_page);
	if (view->page_count == 0 || view->page_count > KVP_PAGES_PER_BLOCK_MAX)
		return false;
	if (view->tokens == 0 || view->tokens > KVP_BLOCK_TOKENS_MAX)
		return false;
	if (view->page_count == 1) {
		view->map = &descriptor->page;
		return true;
	}
	if (map_offset < arena->extents_offset || map_offset % KVP_SLOT_ALIGN != 0 ||
	    !checked_range(map_offset, map_bytes, arena->bytes))
		return false;
	view->map = (const void *)(arena->base + map_offset);
	return true;
}

static inline const struct kvp_block *descriptor_at(const struct arena_layout *arena, uint32_t number)
{
	return number >= 1 && number <= arena->blocks_count ? &arena->blocks[number - 1] : NULL;
}

/*
 * The block of this number if it is live now and has this hash, space and key, and its fields, read between two equal
 * generations unless pinned. Results: 0; KVC_MISS (another block, or none; the view is unspecified then).
 */
static inline int block_view_match(const struct arena_layout *arena, uint32_t number, uint64_t hash, uint32_t space_id,
				   const void *key, size_t key_bytes, bool pinned, struct block_view *view)
{
	const struct kvp_block *descriptor = descriptor_at(arena, number);
	bool same;

	if (!descriptor)
		return KVC_MISS;
	view->generation = atomic_load_explicit(&descriptor->generation, memory_order_acquire);
	if (view->generation & 1)
		return KVC_MISS;
	view->number = number;
	same = READ_ONCE(descriptor->key_hash) == hash && descriptor_read(arena, descriptor, view) &&
	       block_view_is(view, space_id, key, key_bytes);
	return same && (pinned || block_view_stands(view)) ? 0 : KVC_MISS;
}

/* The number of the bucket's next entry with the tag; 0: none is left. */
static inline uint32_t bucket_next(struct candidates *candidates, const struct kvp_bucket *bucket)
{
	uint16_t tag = kvp_hash_tag(candidates->hash);

	while (candidates->entry < KVP_BUCKET_ENTRIES) {
		unsigned entry = candidates->entry++;
		uint32_t number;

		if (atomic_load_explicit(&bucket->tag[entry], memory_order_relaxed) != tag)
			continue;
		/* A number that was never used has an even generation: its birth must be seen with it. */
		number = atomic_load_explicit(&bucket->block[entry], memory_order_acquire);
		if (number >= 1 && number <= candidates->arena->blocks_count)
			return number;
	}
	return 0;
}

/* Asks for a descriptor's memory: both lines, the key's end and a page's place are in the second. */
static inline void descriptor_ask(const struct arena_layout *arena, uint32_t number)
{
	const uint8_t *descriptor = (const uint8_t *)&arena->blocks[number - 1];

	__builtin_prefetch(descriptor);
	__builtin_prefetch(descriptor + 64);
}

/* Asks for the memory of a bucket, or of the block that it likely has for this hash, ahead of the look-up. */
static inline void bucket_ask(const struct arena_layout *arena, uint64_t hash)
{
	__builtin_prefetch(&arena->buckets[(uint32_t)hash & (arena->buckets_count - 1)]);
}

static inline void block_ask(const struct arena_layout *arena, uint64_t hash)
{
	struct candidates candidates = candidates_of(arena, hash);
	uint32_t number = bucket_next(&candidates, &arena->buckets[(uint32_t)hash & (arena->buckets_count - 1)]);

	if (number)
		descriptor_ask(arena, number);
}

/* Whether the bucket did not change since its reading began. */
static inline bool bucket_was_still(const struct candidates *candidates, const struct kvp_bucket *bucket)
{
	atomic_thread_fence(memory_order_acquire);
	return !(candidates->sequence & 1) &&
	       atomic_load_explicit(&bucket->sequence, memory_order_relaxed) == candidates->sequence;
}

/*
 * The next number, within the block table; 0: there is none. A number may come twice. A block that is in the index all
 * the while comes, except behind buckets that the daemon is changing without end and in chains too long to follow.
 * What a tag promises holds or does not, so a bucket in change is searched too; only its end must be certain.
 */
static inline uint32_t candidates_next(struct candidates *candidates)
{
	const struct arena_layout *arena = candidates->arena;

	while (candidates->probe < PROBE_BUCKETS_MAX && candidates->probe < arena->buckets_count) {
		const struct kvp_bucket *bucket =
			&arena->buckets[(uint32_t)(candidates->hash + candidates->probe) & (arena->buckets_count - 1)];
		uint32_t overflow, number;

		if (candidates->entry == 0)
			candidates->sequence = atomic_load_explicit(&bucket->sequence, memory_order_acquire);
		number = bucket_next(candidates, bucket);
		if (number)
			return number;
		candidates->entry = 0;
		overflow = atomic_load_explicit(&bucket->overflow, memory_order_relaxed);
		if (!bucket_was_still(candidates, bucket)) {
			if (++candidates->tries == BUCKET_TRIES)
				return 0;
			continue;
		}
		if (overflow == 0)
			return 0;
		candidates->tries = 0;
		candidates->probe++;
	}
	return 0;
}
