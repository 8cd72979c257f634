/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies below RAM. An evicted block is offered to the tier; a missing one is asked of it. Calls return at
 * once; what they started ends with a completion that the host delivers. A tier that loses a block makes it a
 * miss, never wrong bytes. tier_none keeps nothing.
 */
#pragma once

#include <stdint.h>

struct core;

enum tier_result { TIER_REFUSED, TIER_STARTED };

struct tier {
	const char *name;
	/* Writes the block's pages; its memory stays until the completion if this starts. */
	enum tier_result (*submit_store)(void *context, struct core *core, uint32_t block);
	/* Brings a block back into the slots that the core reserved for it. */
	enum tier_result (*submit_load)(void *context, struct core *core, uint32_t block);
	/* Ends a started operation early; its completion still comes. */
	void (*cancel)(void *context, struct core *core, uint32_t block);
	/* Bytes that it can hold. */
	uint64_t (*capacity_bytes)(void *context);
};

extern const struct tier tier_none;
