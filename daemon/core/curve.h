/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the miss-ratio curve (mrc.h) is told of the core's blocks, so that one need of a block counts once:
 *
 *   a block begins to be stored          a use: nobody had it
 *   Fetch of its first page by asking    a use
 *   a read of its first page without     a use, told by the client's touches (proto/control.h); when the ring did not
 *     asking                             hold them all, those that it did stand for the others
 *   Touch                                a use: the client has what it needs and says that the block was of use
 *   Match, kvc_match()                   none: what is matched and needed is fetched then, and a use right after
 *                                        another would be a hit in any cache. It moves the block in the order of
 *                                        eviction only
 *   Fetch or read of other pages         none: layers that are fetched one by one, and ranks of which each fetches its
 *                                        heads, are one need
 *   Append to a block that is there      none: stored once
 *   deleted, dropped, evicted by Evict   forgotten: gone whatever the size of the arena
 *   evicted for room                     not told: that is what the curve is about
 *
 * A block's size is its slots' share of their extents, or its share of the arena by number if that is more: block
 * numbers can run out as well as memory.
 */
#pragma once

#include "daemon/core/internal.h"

/* Results: 0, -ENOMEM. */
int curve_init(struct core *core, uint32_t samples_max, uint64_t secret);

/* A live block was used; weight is how many uses this stands for. */
void curve_use(struct core *core, uint32_t block, double weight);

/* A block begins to be stored. */
void curve_birth(struct core *core, uint32_t block);

/* The key, resident or not, was removed by request. */
void curve_forget(struct core *core, uint64_t key_hash);

/* Brings the shared counters up to date. */
void curve_refresh(struct core *core);
