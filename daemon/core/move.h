/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moving the slots of blocks from one extent to another, so that extents run empty.
 *
 * A block is moved as if it died and were born again with the same number: its generation becomes odd, a full fence and
 * a scan of hazards follow, and only if no reader names it, its pages and its map are copied, their places changed, and
 * its generation becomes the next even one. A reader that looks meanwhile does not find it and asks; one that read
 * without a pin (its lease is over, or its session) sees that the generation changed. A block that a reader names gets
 * its generation back and stays.
 */
#pragma once

#include "daemon/core/internal.h"

/*
 * Both go through the block table from *cursor on (1 at first) and do a slice of it. Result: whether the end was
 * reached.
 *
 * Marks extents as stuck that hold slots of blocks which could not be moved now.
 */
bool move_survey(struct core *core, uint32_t *cursor);

/* Moves what lies in extents that are drained, and adds the bytes to *moved. Ends early without free slots. */
bool move_slice(struct core *core, uint32_t *cursor, uint64_t *moved);
