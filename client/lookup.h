/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks as a reader of the shared arena sees them (the innermost part is in probe.h). The functions read memory only;
 * they wait for nothing and may be called from any thread while the arena is mapped.
 *
 * A view is what was true at one generation. Pointers in it lie within the arena whatever happens; what they
 * point at is the block's while block_view_stands().
 */
#pragma once

#include "client/probe.h"

#include <stddef.h>
#include <stdint.h>

/*
 * The block of this number at this generation, as a lease names it. Results: 0; KVC_STALE (it is no more at
 * that generation); -EPROTO (the number or the descriptor is impossible).
 */
int block_view_at(const struct arena_layout *arena, uint32_t number, uint64_t generation, struct block_view *ret_view);

/*
 * The block of a key by the shared index, without asking the daemon. Results: 0; KVC_MISS: not found, which
 * includes blocks that change just now and chains too long to follow; only the daemon's answer is final.
 */
int block_view_find(const struct arena_layout *arena, uint32_t space_id, const void *key, size_t key_bytes,
		    struct block_view *ret_view);

/*
 * The page's encoded bytes, page_bytes of them; NULL when it is not ready (or its place is impossible). index
 * < page_count.
 */
const uint8_t *block_view_page(const struct arena_layout *arena, const struct block_view *view, uint32_t index,
			       uint32_t page_bytes);
