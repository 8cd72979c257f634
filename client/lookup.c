/* SPDX-License-Identifier: Apache-2.0 */
/* The reader's side of the index and of block descriptors; see lookup.h and docs/memory-model.md. */
#include "client/lookup.h"

#include "base/contract.h"

#include <errno.h>

int block_view_at(const struct arena_layout *arena, uint32_t number, uint64_t generation, struct block_view *ret_view)
{
	const struct kvp_block *descriptor = descriptor_at(arena, number);
	struct block_view view;
	bool possible;

	if (!descriptor || (generation & 1))
		return -EPROTO;
	view.number = number;
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

int block_view_find(const struct arena_layout *arena, uint32_t space_id, const void *key, size_t key_bytes,
		    struct block_view *ret_view)
{
	uint64_t hash = kvp_key_hash(arena->hash_seed, space_id, key, key_bytes);
	struct candidates candidates = candidates_of(arena, hash);
	struct block_view view;
	uint32_t number;

	while ((number = candidates_next(&candidates))) {
		if (block_view_match(arena, number, hash, space_id, key, key_bytes, false, &view) == 0) {
			*ret_view = view;
			return 0;
		}
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
