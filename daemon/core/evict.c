/* SPDX-License-Identifier: Apache-2.0 */
/* The oldest victim of all spaces' policies goes first, whatever size class is short: the arena is one cache. */
#include "daemon/core/evict.h"

#include "daemon/core/block.h"

#include <errno.h>

static uint32_t victim_of(struct core *core, uint32_t space_id)
{
	const struct space *space = &core->spaces[space_id];

	return space->live ? space->policy->ops->victim(space->policy) : 0;
}

static uint32_t victim_any(struct core *core)
{
	uint32_t best = 0;

	for (uint32_t id = 1; id <= KVP_SPACES_MAX; id++) {
		uint32_t block = victim_of(core, id);

		if (block && (!best || policy_before(&core->entries[block], &core->entries[best])))
			best = block;
	}
	return best;
}

int evict_one(struct core *core, uint32_t space_id, uint64_t *ret_bytes)
{
	uint32_t block = space_id ? victim_of(core, space_id) : victim_any(core);

	if (!block)
		return 0;
	if (core->tier->submit_store(core->context, core, block) == TIER_STARTED)
		return 0;
	*ret_bytes = block_kill(core, block);
	counter_add(core, evicted_bytes_total, *ret_bytes);
	return 1;
}

int evict_for_slot(struct core *core, struct size_class *size_class, uint64_t *ret_offset)
{
	for (unsigned evicted = 0; evicted <= EVICT_BATCH; evicted++) {
		uint64_t offset = arena_slot_take(&core->arena, size_class);
		uint64_t bytes;

		if (offset) {
			*ret_offset = offset;
			return KVP_OK;
		}
		if (!evict_one(core, 0, &bytes))
			return KVP_NO_SPACE;
		counter_add(core, evictions_capacity_total, 1);
	}
	return -EAGAIN;
}
