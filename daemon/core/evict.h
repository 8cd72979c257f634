/* SPDX-License-Identifier: Apache-2.0 */
/* Eviction: the policies' best victim goes, through the tier if that takes it. */
#pragma once

#include "daemon/core/internal.h"

/* What may be evicted in one slice of work before the loop gets its turn. */
#define EVICT_BATCH 64

/*
 * Evicts one block, of any space (space_id 0) or of one, for this reason. Results: 1 and the stored bytes that went; 0
 * (nothing can go).
 */
int evict_one(struct core *core, uint32_t space_id, enum kvp_fate fate, uint64_t *ret_bytes);

/*
 * Makes room: frees what rests in limbo without need, or evicts some blocks, which *evicted counts. Returns whether
 * anything became free or was removed.
 */
bool evict_for_room(struct core *core, unsigned *evicted);

/*
 * A slot of the class, evicting what must go. Results: KVP_OK and its offset; KVP_NO_SPACE (nothing more can
 * go); -EAGAIN (EVICT_BATCH blocks went and it is not enough yet).
 */
int evict_for_slot(struct core *core, struct size_class *size_class, uint64_t *ret_offset);
