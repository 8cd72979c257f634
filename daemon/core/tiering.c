/* SPDX-License-Identifier: Apache-2.0 */
/* Stores; see tiering.h. A store's cookie is its block's number, which the tie keeps from being given anew. */
#include "daemon/core/tiering.h"

#include "base/checked.h"
#include "base/contract.h"
#include "base/units.h"
#include "daemon/core/block.h"
#include "daemon/core/loading.h"
#include "daemon/core/tier-none.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What is written at once: enough to keep a disk busy, and little enough to be had back soon. */
#define STORING_BYTES_MAX (64 * MIB)
#define STORING_ARENA_SHARE 8

/* Stores that one slice starts; one is a few microseconds and a transfer for each page. */
#define STORES_PER_STEP 4

/* When the tier is asked again that took no more. */
#define STORE_PAUSE_MS 10

static const struct tier_client client = {
	.stored = tiering_stored,
	.page_loaded = loading_page_loaded,
	.loaded = loading_loaded,
	.resident = tiering_resident,
};

static void store_expire(struct core *core, struct deadline *deadline)
{
	core_wake(core);
}

int tiering_init(struct core *core, const struct core_options *options)
{
	core->tier = options->tier ? options->tier : tier_none();
	core->tier_admit = options->tier_admit;
	core->tier_free_percent = options->tier_free_percent;
	core->store_due.expire = store_expire;
	list_init(&core->to_store);
	core->tier->ops->bind(core->tier, &client, core);
	if (!options->tier)
		return 0;
	core->transfer = calloc(KVP_PAGES_PER_BLOCK_MAX, sizeof(*core->transfer));
	return core->transfer ? 0 : -ENOMEM;
}

void tiering_deinit(struct core *core)
{
	deadline_disarm(&core->deadlines, &core->store_due);
	free(core->transfer);
}

/* Whether there is a tier. */
static bool is_present(const struct core *core)
{
	return core->transfer != NULL;
}

/* ---- What is to be written ---- */

static void admit(struct core *core, uint32_t block)
{
	struct block *b = &core->blocks[block];

	if (!is_present(core) || b->below || !list_empty(&b->to_store))
		return;
	list_push_back(&core->to_store, &b->to_store);
	core_wake(core);
}

void tiering_completed(struct core *core, uint32_t block)
{
	if (core->tier_admit == CORE_TIER_ADMIT_ALL)
		admit(core, block);
}

void tiering_read(struct core *core, uint32_t block)
{
	if (!block_complete(core, block))
		return;
	core->blocks[block].read = true;
	admit(core, block);
}

void tiering_forget(struct core *core, uint32_t block)
{
	list_unlink(&core->blocks[block].to_store);
}

/* Whether so little is free, memory or block numbers, that what will have to go is better written now. */
static bool is_short(const struct core *core)
{
	const struct arena *arena = &core->arena;
	uint64_t percent = core->tier_free_percent;
	uint64_t bytes = arena_room_bytes(arena);
	uint64_t unused = arena->extents_free * KVP_EXTENT_BYTES + arena->free_slot_bytes;

	return percent >= 100 || unused < bytes / 100 * percent ||
	       core->free_blocks * UINT64_C(100) < arena->blocks_count * percent;
}

static bool is_busy(const struct core *core)
{
	uint64_t share = arena_room_bytes(&core->arena) / STORING_ARENA_SHARE;

	return core->storing_bytes >= (share < STORING_BYTES_MAX ? share : STORING_BYTES_MAX);
}

/* ---- Stores ---- */

static void describe(struct core *core, uint32_t block, struct tier_block *ret_block)
{
	const struct kvp_block *shared = shared_block(core, block);
	const struct space *space = block_space(core, block);
	uint32_t bytes = page_bytes(&space->schema, shared->tokens);
	uint32_t parent = core->blocks[block].parent;

	*ret_block = (struct tier_block){
		.space = space->digest,
		.key = key_of_block(core, block),
		.parent = parent ? key_of_block(core, parent) : (struct block_key){ 0 },
		.tokens = shared->tokens,
		.page_count = shared->page_count,
		.page_bytes = bytes,
		.slot_bytes = (uint32_t)align_up_u64(bytes, KVP_SLOT_ALIGN),
	};
}

/* A block that the process before left may have its copy: nobody noted it here. */
static bool is_below(struct core *core, uint32_t block)
{
	const struct kvp_block *shared = shared_block(core, block);
	struct block *b = &core->blocks[block];
	struct tier_block found;

	if (b->adopted && !b->below)
		b->below = tiering_find(core, shared->space_id, key_of_block(core, block), &found) &&
			   found.tokens == shared->tokens;
	return b->below;
}

/* Results: 0; KVP_NO_SPACE (not now). */
static int store(struct core *core, uint32_t block)
{
	const struct kvp_page *map = shared_pages(core, block);
	struct block *b = &core->blocks[block];
	struct tier_block described;
	int r;

	kvp_assert(b->state == BLOCK_LIVE && block_complete(core, block) && !b->below && !b->storing);
	if (is_below(core, block)) {
		list_unlink(&b->to_store);
		return 0;
	}
	describe(core, block, &described);
	for (uint32_t page = 0; page < described.page_count; page++)
		core->transfer[page] = (struct tier_page){
			.memory = arena_at(&core->arena, (uint64_t)map[page].slot * KVP_SLOT_ALIGN),
			.checksum = map[page].checksum,
		};
	r = core->tier->ops->store(core->tier, &described, core->transfer, block, core->now_ns);
	if (r != 0)
		return r;
	list_unlink(&b->to_store);
	b->below = true;
	b->storing = true;
	b->read = false;
	core->storing_bytes += b->slot_bytes;
	block_tie(core, block);
	return 0;
}

void tiering_stored(void *context, uint64_t cookie, int result)
{
	struct core *core = context;
	uint32_t block = (uint32_t)cookie;
	struct block *b = &core->blocks[block];

	kvp_assert(b->storing && b->ties > 0);
	b->storing = false;
	core->storing_bytes -= b->slot_bytes;
	if (result == 0)
		counter_add(core, tier_stored_blocks_total, 1);
	else
		b->below = false;
	block_untie(core, block);
	core->fetches_blocked = false;
	core_wake(core);
}

bool tiering_step(struct core *core)
{
	for (unsigned i = 0; i < STORES_PER_STEP; i++) {
		struct list *first = list_first(&core->to_store);

		if (!first || core->stopping || is_busy(core) || !is_short(core))
			return false;
		if (store(core, (uint32_t)(list_entry(first, struct block, to_store) - core->blocks)) != 0) {
			(void)deadline_arm(&core->deadlines, &core->store_due,
					   core->now_ns + STORE_PAUSE_MS * NS_PER_MS);
			return false;
		}
	}
	return !list_empty(&core->to_store);
}

enum kvp_fate tiering_evict(struct core *core, uint32_t block, enum kvp_fate fate)
{
	const struct block *b = &core->blocks[block];

	if (!is_present(core))
		return fate;
	if (is_below(core, block))
		return KVP_FATE_DEMOTED;
	if (fate == KVP_FATE_EVICTED_REQUEST && !list_empty(&b->to_store) && !core->stopping && !is_busy(core) &&
	    store(core, block) == 0)
		return KVP_FATE_DEMOTED;
	counter_add(core, tier_passed_blocks_total, 1);
	return fate;
}

bool tiering_stopped(struct core *core)
{
	return core->storing_bytes == 0 && core->tier->ops->stop(core->tier);
}

/* ---- What the tier has ---- */

static uint32_t space_of_digest(const struct core *core, const struct tier_space *digest)
{
	for (uint32_t id = 1; id <= KVP_SPACES_MAX; id++)
		if (core->spaces[id].live && memcmp(&core->spaces[id].digest, digest, sizeof(*digest)) == 0)
			return id;
	return 0;
}

/*
 * The copy goes: it is written again, which costs no reading, if the block was read since the last time. What nobody
 * reads is not: a tier smaller than what is resident would be written for ever.
 */
bool tiering_resident(void *context, const struct tier_block *described)
{
	struct core *core = context;
	uint32_t space_id = space_of_digest(core, &described->space);
	uint32_t block = space_id ? block_find(core, space_id, described->key) : 0;
	struct block *b = &core->blocks[block];

	if (!block || !b->below || b->storing || !block_complete(core, block))
		return false;
	b->below = false;
	if (b->read)
		admit(core, block);
	return true;
}

bool tiering_find(struct core *core, uint32_t space_id, struct block_key key, struct tier_block *ret_block)
{
	const struct space *space = &core->spaces[space_id];
	struct tier_block found;

	if (!core->tier->ops->find(core->tier, &space->digest, key, &found))
		return false;
	/* The digest covers the schema: what does not fit is a file's damage that its checksums did not show. */
	if (found.page_count != space->page_count || found.tokens < 1 ||
	    found.tokens > space->schema.block_tokens ||
	    found.page_bytes != page_bytes(&space->schema, found.tokens)) {
		core->tier->ops->forget(core->tier, &space->digest, key);
		return false;
	}
	*ret_block = found;
	return true;
}

void tiering_remove(struct core *core, uint32_t space_id, struct block_key key)
{
	core->tier->ops->remove(core->tier, &core->spaces[space_id].digest, key, core->now_ns);
}

void tiering_refresh(struct core *core)
{
	struct tier_stats stats;

	core->tier->ops->stats(core->tier, &stats);
	counter_set(core, tier_capacity_bytes, stats.capacity_bytes);
	counter_set(core, tier_used_bytes, stats.used_bytes);
	counter_set(core, tier_blocks, stats.blocks);
	counter_set(core, tier_segments, stats.segments);
	counter_set(core, tier_ready, stats.ready);
	counter_set(core, tier_storing_bytes, core->storing_bytes);
	counter_set(core, tier_read_bytes_total, stats.read_bytes_total);
	counter_set(core, tier_written_bytes_total, stats.written_bytes_total);
	counter_set(core, tier_read_errors_total, stats.read_errors_total);
	counter_set(core, tier_write_errors_total, stats.write_errors_total);
	counter_set(core, tier_dropped_blocks_total, stats.dropped_blocks_total);
	counter_set(core, tier_moved_blocks_total, stats.moved_blocks_total);
	counter_set(core, tier_recovered_blocks, stats.recovered_blocks);
	counter_set(core, tier_broken_total, stats.broken_total);
}
