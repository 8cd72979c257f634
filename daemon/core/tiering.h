/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes down. A block that is complete and admitted (tier_admit: when it was read for the first time, or at once)
 * waits in core.to_store, oldest first. It is written while it is resident, as soon as less than tier_free_percent of
 * the arena is free: when its turn to be evicted comes the tier has it, and its memory is free at once. Its parent was
 * complete before it, so a prefix lies in the tier in the order in which it will be read.
 *
 *	complete --admitted--> to_store --store--> storing, below --stored--> below
 *
 * A victim that the tier lacks is dropped: nobody waits for a disk to store something. Only when somebody asked for the
 * eviction it is written as it goes, if it was admitted and not too much is being written; its memory follows then.
 *
 * The tier may drop a block at any time; one that is resident then waits to be stored again if it was read since it was
 * stored. Stores tie their block: its memory stays until the transfer ends, whatever becomes of it.
 */
#pragma once

#include "daemon/core/internal.h"

/* Results: 0, -ENOMEM. */
int tiering_init(struct core *core, const struct core_options *options);
void tiering_deinit(struct core *core);

/* An append completed the block. */
void tiering_completed(struct core *core, uint32_t block);

/* The block was read. */
void tiering_read(struct core *core, uint32_t block);

/* The block is going. */
void tiering_forget(struct core *core, uint32_t block);

/* The block is about to be evicted for this reason. Returns what becomes of it: the same, or KVP_FATE_DEMOTED. */
enum kvp_fate tiering_evict(struct core *core, uint32_t block, enum kvp_fate fate);

/* Somebody wants the block and its descendants gone, wherever they are. key.n == 0: the whole space. */
void tiering_remove(struct core *core, uint32_t space_id, struct block_key key);

/* What the tier has of this key, if it fits the space. */
bool tiering_find(struct core *core, uint32_t space_id, struct block_key key, struct tier_block *ret_block);

/* Starts some stores. Returns whether more can be started now. */
bool tiering_step(struct core *core);

/* Whether no store is under way, and the tier has written all. */
bool tiering_stopped(struct core *core);

/* Gauges and counters of the tier. */
void tiering_refresh(struct core *core);

/* Calls of struct tier_client. */
void tiering_stored(void *context, uint64_t cookie, int result);
bool tiering_resident(void *context, const struct tier_block *block);
