/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tier in the test's memory: stores and loads end when the test says so, one step at a time, and go wrong when it
 * wishes. A store that has begun can be found, as the interface promises; a load of it waits until it has ended.
 */
#pragma once

#include "daemon/core/tier.h"

struct tier_memory {
	struct tier tier;
	struct tier_memory_block *blocks;
	struct tier_memory_job *jobs; /* under way, oldest first */
	const struct tier_client *client;
	void *context;
	uint64_t blocks_max; /* stores beyond it are refused */
	unsigned fail_stores; /* so many of the next */
	unsigned fail_pages;
	unsigned flip_pages;
	unsigned n_stores;
	unsigned n_pages;   /* asked for */
	uint32_t order[64]; /* the first of them */
};

void tier_memory_init(struct tier_memory *tier);

/* Nothing may be under way. */
void tier_memory_deinit(struct tier_memory *tier);

/* Ends the oldest job, or a load's next page; another than the oldest with skip. Whether there was one. */
bool tier_memory_step(struct tier_memory *tier, unsigned skip);

/* Drops a block that is not under way, as reclaiming does. Whether there was one. */
bool tier_memory_drop(struct tier_memory *tier, unsigned skip);

uint64_t tier_memory_blocks(const struct tier_memory *tier);
