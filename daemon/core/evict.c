/* SPDX-License-Identifier: Apache-2.0 */
/* The oldest victim of all spaces' policies goes first, whatever size class is short: the arena is one cache. */
#include "daemon/core/evict.h"

#include "base/contract.h"
#include "daemon/core/block.h"
#include "daemon/core/hazard.h"
#include "daemon/core/loading.h"
#include "daemon/core/tiering.h"

#include <errno.h>

/* What is looked at before eviction gives up: the rest is for the next request. */
#define PINNED_VICTIMS_MAX 1024

static uint32_t victim_of(struct core *core, uint32_t space_id)
{
	const struct space *space = &core->spaces[space_id];

	return space->live ? space->policy->ops->victim(space->policy) : 0;
}

static uint32_t victim_any(struct core *core)
{
	uint64_t left = counter_get(core, spaces);
	uint32_t best = 0;

	/* The lowest free number is given out, so live ones are at the front. */
	for (uint32_t id = 1; left > 0; id++) {
		uint32_t block;

		kvp_assert(id <= KVP_SPACES_MAX);
		block = victim_of(core, id);
		left -= core->spaces[id].live;
		if (block && (!best || policy_before(&core->entries[block], &core->entries[best])))
			best = block;
	}
	return best;
}

/*
 * The best victim that nobody pins, or 0. Pinned ones are in use: they go to the end of their policy's order, of their
 * priority, so they are held until one was found, lest they hide those of higher priorities.
 */
static uint32_t victim_unpinned(struct core *core, uint32_t space_id)
{
	uint32_t passed[PINNED_VICTIMS_MAX], n = 0, block;

	hazard_look(core);
	for (;;) {
		block = space_id ? victim_of(core, space_id) : victim_any(core);
		if (!block || !hazard_shields(core, block) || n == PINNED_VICTIMS_MAX)
			break;
		block_hold(core, block);
		passed[n++] = block;
	}
	for (uint32_t i = 0; i < n; i++) {
		block_use(core, passed[i]);
		block_unhold(core, passed[i]);
	}
	counter_add(core, evictions_pinned_total, n);
	return block && !hazard_shields(core, block) ? block : 0;
}

int evict_one(struct core *core, uint32_t space_id, enum kvp_fate fate, uint64_t *ret_bytes)
{
	uint32_t block = victim_unpinned(core, space_id);

	if (!block)
		return 0;
	*ret_bytes = block_kill(core, block, tiering_evict(core, block, fate));
	counter_add(core, evicted_bytes_total, *ret_bytes);
	return 1;
}

bool evict_for_room(struct core *core, unsigned *evicted)
{
	unsigned batch = hazard_batch(core);
	unsigned n = 0;
	uint64_t bytes;

	if (hazard_grace(core))
		return false; /* what went now could not be used: it would be lost for nothing */
	if (limbo_collect(core))
		return true;
	while (n < batch && evict_one(core, 0, KVP_FATE_EVICTED, &bytes))
		n++;
	counter_add(core, evictions_capacity_total, n);
	*evicted += n;
	(void)limbo_collect(core);
	return n > 0;
}

int evict_for_slot(struct core *core, struct size_class *size_class, uint64_t *ret_offset)
{
	if (loading_strays(core))
		return KVP_NO_SPACE;
	for (unsigned evicted = 0; evicted <= EVICT_BATCH;) {
		uint64_t offset = arena_slot_take(&core->arena, size_class);

		if (offset) {
			*ret_offset = offset;
			return KVP_OK;
		}
		if (!evict_for_room(core, &evicted))
			return KVP_NO_SPACE;
	}
	return -EAGAIN;
}
