/* SPDX-License-Identifier: Apache-2.0 */
/* The reader's side of the index and of block descriptors; see lookup.h and docs/memory-model.md. */
#include "client/lookup.h"

#include "base/checked.h"
#include "base/contract.h"
#include "client/kvclient.h"

#include <errno.h>
#include <string.h>

/* A bucket that the writer has open is read again so often, then given up. */
#define BUCKET_TRIES 64

/* A probe goes no further than this; at the index's load factors chains are a few buckets long. */
#define PROBE_BUCKETS_MAX 64

#define READ_ONCE(value) (*(const volatile __typeof__(value) *)&(value))

struct bucket_copy {
	uint32_t overflow;
	uint16_t tag[KVP_BUCKET_ENTRIES];
	uint32_t block[KVP_BUCKET_ENTRIES];
};

static bool bucket_copy_try(const struct kvp_bucket *bucket, struct bucket_copy *copy)
{
	uint32_t before = atomic_load_explicit(&bucket->sequence, memory_order_acquire);

	if (before & 1)
		return false;
	copy->overflow = atomic_load_explicit(&bucket->overflow, memory_order_relaxed);
	for (unsigned i = 0; i < KVP_BUCKET_ENTRIES; i++) {
		copy->tag[i] = atomic_load_explicit(&bucket->tag[i], memory_order_relaxed);
		copy->block[i] = atomic_load_explicit(&bucket->block[i], memory_order_relaxed);
	}
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&bucket->sequence, memory_order_relaxed) == before;
}

static bool bucket_read(const struct kvp_bucket *bucket, struct bucket_copy *ret_copy)
{
	for (unsigned tries = 0; tries < BUCKET_TRIES; tries++)
		if (bucket_copy_try(bucket, ret_copy))
			return true;
	return false;
}

/* Reads the descriptor's fields; they are coherent if the view stands afterwards. Returns whether they are possible. */
static bool descriptor_read(const struct arena_layout *arena, const struct kvp_block *descriptor,
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
	if (map_offset < arena->extents_offset || map_offset % KVP_SLOT_ALIGN != 0 ||
	    !checked_range(map_offset, map_bytes, arena->bytes))
		return false;
	view->map = (const void *)(arena->base + map_offset);
	return true;
}

static const struct kvp_block *descriptor_at(const struct arena_layout *arena, uint32_t number)
{
	return number >= 1 && number <= arena->blocks_count ? &arena->blocks[number - 1] : NULL;
}

int block_view_at(const struct arena_layout *arena, uint32_t number, uint64_t generation, struct block_view *ret_view)
{
	const struct kvp_block *descriptor = descriptor_at(arena, number);
	struct block_view view;
	bool possible;

	if (!descriptor || (generation & 1))
		return -EPROTO;
	view.generation = generation;
	if (atomic_load_explicit(&descriptor->generation, memory_order_acquire) != generation)
		return KVC_STALE;
	possible = descriptor_read(arena, descriptor, &view);
	if (!block_view_stands(&view))
		return KVC_STALE;
	if (!possible)
		return -EPROTO;
	*ret_view = view;
	return 0;
}

bool block_view_is(const struct block_view *view, uint32_t space_id, const void *key, size_t key_bytes)
{
	const struct kvp_block *descriptor = view->descriptor;

	return READ_ONCE(descriptor->space_id) == space_id && READ_ONCE(descriptor->key_bytes) == key_bytes &&
	       key_bytes <= KVP_KEY_BYTES_MAX && memcmp(descriptor->key, key, key_bytes) == 0;
}

bool block_view_stands(const struct block_view *view)
{
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&view->descriptor->generation, memory_order_relaxed) == view->generation;
}

/* The block of this number if it is live and of this hash and key. */
static bool candidate_view(const struct arena_layout *arena, uint32_t number, uint64_t hash, uint32_t space_id,
			   const void *key, size_t key_bytes, struct block_view *view)
{
	const struct kvp_block *descriptor = descriptor_at(arena, number);
	bool same;

	if (!descriptor)
		return false;
	view->descriptor = descriptor;
	view->generation = atomic_load_explicit(&descriptor->generation, memory_order_acquire);
	if (view->generation & 1)
		return false;
	same = READ_ONCE(descriptor->key_hash) == hash && descriptor_read(arena, descriptor, view) &&
	       block_view_is(view, space_id, key, key_bytes);
	return same && block_view_stands(view);
}

int block_view_find(const struct arena_layout *arena, uint32_t space_id, const void *key, size_t key_bytes,
		    struct block_view *ret_view)
{
	uint64_t hash = kvp_key_hash(arena->hash_seed, space_id, key, key_bytes);
	uint16_t tag = kvp_hash_tag(hash);
	struct block_view view;

	for (uint32_t probe = 0; probe < PROBE_BUCKETS_MAX && probe < arena->buckets_count; probe++) {
		uint32_t home = (uint32_t)(hash + probe) & (arena->buckets_count - 1);
		struct bucket_copy copy;

		if (!bucket_read(&arena->buckets[home], &copy))
			return KVC_MISS;
		for (unsigned i = 0; i < KVP_BUCKET_ENTRIES; i++) {
			if (copy.tag[i] == tag &&
			    candidate_view(arena, copy.block[i], hash, space_id, key, key_bytes, &view)) {
				*ret_view = view;
				return 0;
			}
		}
		if (copy.overflow == 0)
			return KVC_MISS;
	}
	return KVC_MISS;
}

const uint8_t *block_view_page(const struct arena_layout *arena, const struct block_view *view, uint32_t index,
			       uint32_t page_bytes)
{
	const struct kvp_page *page = &view->map[index];
	uint64_t offset;

	kvp_assert(index < view->page_count);
	if (!(atomic_load_explicit(&page->flags, memory_order_acquire) & KVP_PAGE_READY))
		return NULL;
	offset = (uint64_t)READ_ONCE(page->slot) * KVP_SLOT_ALIGN;
	if (offset < arena->extents_offset || !checked_range(offset, page_bytes, arena->bytes))
		return NULL;
	return arena->base + offset;
}
