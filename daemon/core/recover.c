/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena is verified as if anybody could have written it, so that what is wrong in it costs the block or the space
 * that it is wrong in, and nothing else. What a process that was killed leaves is not wrong: each of its writes is in
 * an order that tells how far it came. It can have been killed between any two of these:
 *
 *	birth	fields, map cleared | generation even | index entry
 *		Before "even" the number is free: its generation is odd or 0, and it does not rest. After it the block
 *		is there, and its pages are not: it is unfinished, and goes.
 *	page	bytes | slot, checksum | READY | pages_ready
 *		Before READY there is no page, and the slot is no block's, so it is free. pages_ready is counted anew.
 *	death	index entry gone | resting | generation odd | (later) not resting | memory given to others
 *		Before "odd" the block is there: nobody was told that it went. Between "odd" and "not resting" it is
 *		dead, and everything that it leads to is as it was: it goes on resting. Then its number is free, and
 *		what is left in its entry means nothing.
 *	move	marked | generation odd | copy of a map or a page, then what leads to it | generation even | mark gone
 *		At any time all that leads to bytes leads to whole ones: the block is alive, wherever it was on its way.
 *	a removed tree	each block after all of its children: those that are there have their parents.
 *	index	sequence odd | entry or overflow | sequence even
 *		Of no consequence: the index is emptied and filled from the blocks.
 *	space	fields | LIVE (birth); FREE (death), only when no block of it is there. Its number is not given anew
 *		while one rests, so the fields of a FREE one tell how large the slots of those are.
 *	header	written when no block is there, its magic last; then only incarnation and number of counters change.
 *	this	incarnation first; then as above: blocks that are dropped die in the order of deaths.
 *
 * Blocks whose pages are not all there had writers, whose connections are gone: they are dropped as always then, with
 * what descends from them. Bytes of pages are not looked at: readers do, against the checksum, when they want to.
 *
 * When a block was used last is not in the arena. They count as used in the order of their numbers, but each after what
 * it descends from: as if every sequence had been read once.
 */
#include "daemon/core/recover.h"

#include "daemon/core/block.h"
#include "daemon/core/hazard.h"
#include "daemon/core/index.h"
#include "daemon/core/space.h"

#include <errno.h>
#include <stdlib.h>

enum finding {
	NOTHING,  /* free, or damaged */
	LIVE,     /* right, in the index, and its slots are taken */
	CLIMBED,  /* likewise; what it descends from is being looked at */
	RESIDENT, /* adopted */
	DROPPED,
};

struct recovery {
	struct core *core;
	uint8_t *findings; /* [blocks_count + 1], enum finding */
	uint32_t *path;    /* [blocks_count]: from a block up to what is known already */
};

/* ---- One block ---- */

static bool map_claim(struct core *core, uint32_t block, const struct space *space)
{
	const struct kvp_block *shared = shared_block(core, block);

	if (space->page_count > 1)
		return arena_slot_claim(&core->arena, space->map_class, shared->map_offset);
	return shared->map_offset == (uint64_t)((const uint8_t *)&shared->page - core->arena.base);
}

/* Takes the slots of pages [0, n) back, and the map's. */
static void claims_undo(struct core *core, uint32_t block, const struct space *space, uint32_t n)
{
	const struct kvp_page *map = shared_pages(core, block);

	for (uint32_t page = 0; page < n; page++)
		if (map[page].flags & KVP_PAGE_READY)
			(void)arena_slot_return(&core->arena, (uint64_t)map[page].slot * KVP_SLOT_ALIGN);
	if (space->page_count > 1)
		(void)arena_slot_return(&core->arena, shared_block(core, block)->map_offset);
}

/* Takes the slots of a block's map and pages, and counts the pages. Whether all were slots, and free. */
static bool slots_claim(struct core *core, uint32_t block, const struct space *space)
{
	const struct kvp_page *map;
	uint32_t ready = 0;

	if (!map_claim(core, block, space))
		return false;
	map = shared_pages(core, block);
	for (uint32_t page = 0; page < space->page_count; page++) {
		bool is_ready = map[page].flags == KVP_PAGE_READY;

		if (is_ready ? !arena_slot_claim(&core->arena, space->page_class,
						 (uint64_t)map[page].slot * KVP_SLOT_ALIGN)
			     : map[page].flags != 0) {
			claims_undo(core, block, space, page);
			return false;
		}
		ready += is_ready;
	}
	atomic_store_explicit(&shared_block(core, block)->pages_ready, ready, memory_order_release);
	return true;
}

/* The space that the block can be one of, or NULL. What is resting may be in one that was dropped. */
static const struct space *space_of(const struct core *core, uint32_t block, bool live)
{
	const struct kvp_block *shared = shared_block(core, block);
	const struct space *space;

	if (shared->space_id < 1 || shared->space_id > KVP_SPACES_MAX)
		return NULL;
	space = &core->spaces[shared->space_id];
	if (!space->page_class || (live && !space->live))
		return NULL;
	if (shared->page_count != space->page_count || shared->tokens < 1 ||
	    shared->tokens > space->schema.block_tokens)
		return NULL;
	return space;
}

static bool key_right(const struct core *core, uint32_t block)
{
	const struct kvp_block *shared = shared_block(core, block);

	return shared->key_bytes >= 1 && shared->key_bytes <= KVP_KEY_BYTES_MAX &&
	       shared->key_hash == kvp_key_hash(core->arena.header->hash_seed, shared->space_id, shared->key,
						shared->key_bytes);
}

/* Nobody can read what is being moved, so its next life is another one. */
static bool is_alive(const struct kvp_block *shared)
{
	uint64_t generation = atomic_load_explicit(&shared->generation, memory_order_relaxed);

	if (generation % 2 == 1)
		return atomic_load_explicit(&shared->resting, memory_order_relaxed) == KVP_RESTING_MOVED;
	return generation != 0;
}

static void arrive(struct kvp_block *shared)
{
	uint64_t generation = atomic_load_explicit(&shared->generation, memory_order_relaxed);

	if (generation % 2 == 1)
		atomic_store_explicit(&shared->generation, generation + 1, memory_order_release);
}

/* Whether a live block is right and the only one with its key; then its slots are its own, and the index has it. */
static bool live_take(struct core *core, uint32_t block)
{
	struct kvp_block *shared = shared_block(core, block);
	const struct space *space = space_of(core, block, true);

	if (!space || !key_right(core, block) ||
	    index_find(&core->arena, shared->key_hash, shared->space_id, shared->key, shared->key_bytes) ||
	    !slots_claim(core, block, space))
		return false;
	arrive(shared);
	index_insert(&core->arena, shared->key_hash, block);
	return true;
}

/* ---- All blocks ---- */

/* Nothing of this block can be told: it is dead, and its number free. */
static void damaged(struct core *core, uint32_t block)
{
	struct kvp_block *shared = shared_block(core, block);
	uint64_t generation = atomic_load_explicit(&shared->generation, memory_order_relaxed);

	atomic_store_explicit(&shared->resting, KVP_RESTING_NO, memory_order_relaxed);
	atomic_store_explicit(&shared->generation, generation | 1, memory_order_release);
	core->recovery.damaged++;
}

static void find_live(struct recovery *recovery)
{
	struct core *core = recovery->core;

	for (uint32_t block = 1; block <= core->arena.blocks_count; block++) {
		if (!is_alive(shared_block(core, block)))
			continue;
		if (live_take(core, block))
			recovery->findings[block] = LIVE;
		else
			damaged(core, block);
	}
}

static void find_resting(struct recovery *recovery)
{
	struct core *core = recovery->core;

	for (uint32_t block = 1; block <= core->arena.blocks_count; block++) {
		const struct kvp_block *shared = shared_block(core, block);
		const struct space *space;

		if (atomic_load_explicit(&shared->generation, memory_order_relaxed) % 2 == 0 ||
		    atomic_load_explicit(&shared->resting, memory_order_relaxed) != KVP_RESTING_DEAD)
			continue;
		space = space_of(core, block, false);
		if (space && slots_claim(core, block, space)) {
			block_adopt_resting(core, block);
			core->recovery.resting++;
		} else {
			damaged(core, block);
		}
	}
}

/* ---- Families ---- */

/*
 * The path from a live block upwards until it is known whether what comes next is resident. Returns its length; whether
 * the last on it can be resident, and its parent, go to ret_rooted and ret_parent.
 */
static uint32_t climb(struct recovery *recovery, uint32_t block, bool *ret_rooted, uint32_t *ret_parent)
{
	struct core *core = recovery->core;
	uint32_t n = 0;

	for (;;) {
		const struct kvp_block *shared = shared_block(core, block);
		uint32_t parent;

		recovery->findings[block] = CLIMBED;
		recovery->path[n++] = block;
		parent = shared->parent_hash ? index_find_hash(&core->arena, shared->parent_hash, shared->space_id) : 0;
		*ret_parent = parent;
		*ret_rooted = parent ? recovery->findings[parent] == RESIDENT : shared->parent_hash == 0;
		if (!parent || recovery->findings[parent] != LIVE)
			return n; /* CLIMBED: it would be its own ancestor */
		block = parent;
	}
}

static void keep(struct recovery *recovery, uint32_t block, uint32_t parent)
{
	struct core *core = recovery->core;

	block_adopt(core, block, parent);
	recovery->findings[block] = RESIDENT;
	core->recovery.blocks++;
	core->recovery.pages += shared_block(core, block)->page_count;
	core->recovery.stored_bytes += block_stored_bytes(core, block);
}

static void drop(struct recovery *recovery, uint32_t block)
{
	struct core *core = recovery->core;

	past_note(&core->past, shared_block(core, block)->key_hash, KVP_FATE_WRITER_GONE, core->now_ns);
	block_drop_unadopted(core, block);
	recovery->findings[block] = DROPPED;
	core->recovery.unfinished++;
}

/* Down the path again: what is complete, and whose parent stays, stays. */
static void settle(struct recovery *recovery, uint32_t block)
{
	uint32_t parent;
	bool rooted;
	uint32_t n = climb(recovery, block, &rooted, &parent);

	while (n > 0) {
		uint32_t at = recovery->path[--n];

		rooted = rooted && block_complete(recovery->core, at);
		if (rooted)
			keep(recovery, at, parent);
		else
			drop(recovery, at);
		parent = at;
	}
}

/* ---- All of it ---- */

static void counters_clear(struct core *core)
{
	_Atomic uint64_t *words = (_Atomic uint64_t *)core->arena.counters;

	for (size_t i = 0; i < sizeof(*core->arena.counters) / sizeof(*words); i++)
		atomic_store_explicit(&words[i], 0, memory_order_relaxed);
}

static void spaces_take(struct core *core)
{
	for (uint32_t id = 1; id <= KVP_SPACES_MAX; id++) {
		if (!space_adopt(core, id))
			core->recovery.spaces_damaged++;
		core->recovery.spaces += core->spaces[id].live;
	}
}

int recover(struct core *core)
{
	struct recovery recovery = { .core = core };
	uint32_t count = core->arena.blocks_count;
	int r = -ENOMEM;

	recovery.findings = calloc(count + 1, sizeof(*recovery.findings));
	recovery.path = calloc(count, sizeof(*recovery.path));
	if (recovery.findings && recovery.path)
		r = hazard_grace_begin(core);
	if (r == 0) {
		core->strays = core->arena.header->loading;
		counters_clear(core);
		spaces_take(core);
		index_clear(&core->arena);
		find_live(&recovery);
		find_resting(&recovery);
		for (uint32_t block = 1; block <= count; block++)
			if (recovery.findings[block] == LIVE)
				settle(&recovery, block);
		space_adopt_end(core);
	}
	free(recovery.findings);
	free(recovery.path);
	return r;
}
