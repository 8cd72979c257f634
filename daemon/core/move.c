/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks are taken in batches, because every batch costs a scan of hazards. */
#include "daemon/core/move.h"

#include "daemon/core/block.h"
#include "daemon/core/hazard.h"
#include "daemon/core/loading.h"

#include <string.h>

/* Blocks, and pages of their maps, that are looked at in a slice. */
#define LOOK_BLOCKS_MAX 4096
#define LOOK_PAGES_MAX 4096

#define BATCH_MAX 32

static bool movable(const struct core *core, uint32_t block)
{
	const struct block *b = &core->blocks[block];

	/* Whom the process before us served may read anything. */
	return !hazard_grace(core) && b->state == BLOCK_LIVE && b->leases == 0 && b->ties == 0 && b->holds == 0 &&
	       block_complete(core, block) && !hazard_names(core, block);
}

/* What is done with each slot of a block. Returns whether to go on. */
typedef bool slot_fn(struct core *core, uint64_t offset, void *data);

static uint64_t page_offset(const struct kvp_page *page)
{
	return (uint64_t)page->slot * KVP_SLOT_ALIGN;
}

static bool page_ready(const struct kvp_page *page)
{
	return atomic_load_explicit(&page->flags, memory_order_relaxed) & KVP_PAGE_READY;
}

/* Returns the number of pages in the map. */
static uint32_t for_each_slot(struct core *core, uint32_t block, slot_fn *fn, void *data)
{
	const struct kvp_block *shared = shared_block(core, block);
	const struct kvp_page *map = shared_pages(core, block);

	if (shared->page_count > 1 && !fn(core, shared->map_offset, data))
		return shared->page_count;
	for (uint32_t page = 0; page < shared->page_count; page++)
		if (page_ready(&map[page]) && !fn(core, page_offset(&map[page]), data))
			break;
	return shared->page_count;
}

/* ---- Survey ---- */

static bool slot_stick(struct core *core, uint64_t offset, void *data)
{
	arena_stick(arena_extent_at(&core->arena, offset));
	return true;
}

/* What loads have taken and not published yet is no block's. */
static void loads_stick(struct core *core)
{
	list_for_each(node, &core->loads) {
		const struct load *load = list_entry(node, struct load, link);

		for (uint32_t page = 0; page < load->page_count; page++)
			if (load->slots[page])
				arena_stick(arena_extent_at(&core->arena, load->slots[page]));
	}
}

bool move_survey(struct core *core, uint32_t *cursor)
{
	uint32_t pages = 0;

	hazard_look(core);
	if (*cursor == 1)
		loads_stick(core);
	for (uint32_t n = 0; n < LOOK_BLOCKS_MAX && pages < LOOK_PAGES_MAX; n++, (*cursor)++) {
		if (*cursor > core->arena.blocks_count)
			return true;
		if (core->blocks[*cursor].state != BLOCK_FREE && !movable(core, *cursor))
			pages += for_each_slot(core, *cursor, slot_stick, NULL);
	}
	return false;
}

/* ---- Move ---- */

static bool slot_drained(struct core *core, uint64_t offset, void *data)
{
	bool *drained = data;

	*drained = arena_extent_at(&core->arena, offset)->draining;
	return !*drained;
}

struct batch {
	uint32_t blocks[BATCH_MAX];
	uint32_t n;
};

/* Blocks with a slot in an extent that is drained, from *cursor on. Whether the end was reached. */
static bool batch_fill(struct core *core, uint32_t *cursor, struct batch *batch)
{
	uint64_t bytes = 0;
	uint32_t pages = 0;

	for (uint32_t n = 0; n < LOOK_BLOCKS_MAX && pages < LOOK_PAGES_MAX; n++, (*cursor)++) {
		bool drained = false;

		if (*cursor > core->arena.blocks_count)
			return true;
		if (batch->n == BATCH_MAX || bytes >= core->limits.slice_bytes)
			return false;
		if (!movable(core, *cursor))
			continue;
		pages += for_each_slot(core, *cursor, slot_drained, &drained);
		if (!drained)
			continue;
		batch->blocks[batch->n++] = *cursor;
		bytes += core->blocks[*cursor].slot_bytes;
	}
	return false;
}

/* A copy of the slot's bytes in another extent, if it is drained. Returns its offset; 0: there is no room. */
static uint64_t slot_copy(struct core *core, struct size_class *size_class, uint64_t from, uint64_t *moved)
{
	uint64_t to;

	if (!arena_extent_at(&core->arena, from)->draining)
		return from;
	to = arena_slot_take(&core->arena, size_class);
	if (!to)
		return 0;
	memcpy(arena_at(&core->arena, to), arena_at(&core->arena, from), size_class->slot_bytes);
	atomic_thread_fence(memory_order_release); /* whole before anything leads to it: we can be killed (recover.c) */
	*moved += size_class->slot_bytes;
	return to;
}

static void slot_leave(struct core *core, uint64_t from, uint64_t to)
{
	if (from != to)
		(void)arena_slot_return(&core->arena, from);
}

static bool map_move(struct core *core, uint32_t block, uint64_t *moved)
{
	struct kvp_block *shared = shared_block(core, block);
	uint64_t from = shared->map_offset;
	uint64_t to;

	if (shared->page_count == 1)
		return true;
	to = slot_copy(core, block_space(core, block)->map_class, from, moved);
	if (!to)
		return false;
	shared->map_offset = to;
	slot_leave(core, from, to);
	return true;
}

enum moved { MOVED_ALL, MOVED_PART, MOVED_NO_ROOM };

/* Nobody reads the block. */
static enum moved block_move(struct core *core, uint32_t block, uint64_t *moved)
{
	struct size_class *size_class = block_space(core, block)->page_class;
	struct kvp_page *map;

	if (!map_move(core, block, moved))
		return MOVED_NO_ROOM;
	map = shared_pages(core, block);
	for (uint32_t page = 0; page < shared_block(core, block)->page_count; page++) {
		uint64_t from = page_offset(&map[page]);
		uint64_t to;

		if (*moved >= core->limits.slice_bytes)
			return MOVED_PART;
		to = slot_copy(core, size_class, from, moved);
		if (!to)
			return MOVED_NO_ROOM;
		map[page].slot = (uint32_t)(to / KVP_SLOT_ALIGN);
		slot_leave(core, from, to);
	}
	return MOVED_ALL;
}

/* All can be found again; those whose turn did not come are as they were. *cursor goes back to what is not done. */
static enum moved batch_move(struct core *core, const struct batch *batch, uint32_t *cursor, uint64_t *moved)
{
	enum moved result = MOVED_ALL;

	for (uint32_t i = 0; i < batch->n; i++) {
		struct kvp_block *shared = shared_block(core, batch->blocks[i]);
		uint64_t odd = atomic_load_explicit(&shared->generation, memory_order_relaxed);
		uint64_t next = odd - 1;

		if (result == MOVED_ALL && movable(core, batch->blocks[i])) {
			result = block_move(core, batch->blocks[i], moved);
			if (result == MOVED_PART)
				*cursor = batch->blocks[i];
			next = odd + 1;
		}
		atomic_store_explicit(&shared->generation, next, memory_order_release);
		atomic_store_explicit(&shared->resting, KVP_RESTING_NO, memory_order_release);
	}
	return result;
}

bool move_slice(struct core *core, uint32_t *cursor, uint64_t *moved)
{
	struct batch batch = { .n = 0 };
	uint64_t bytes = 0;
	enum moved result;
	bool end;

	/* What is pinned already is left alone: not even for a moment does it look as if it were gone. */
	hazard_look(core);
	end = batch_fill(core, cursor, &batch);
	if (batch.n == 0)
		return end;
	for (uint32_t i = 0; i < batch.n; i++) {
		struct kvp_block *shared = shared_block(core, batch.blocks[i]);

		atomic_store_explicit(&shared->resting, KVP_RESTING_MOVED, memory_order_relaxed);
		(void)atomic_fetch_add_explicit(&shared->generation, 1, memory_order_release);
	}
	atomic_thread_fence(memory_order_seq_cst);
	hazard_scan(core);
	result = batch_move(core, &batch, cursor, &bytes);
	*moved += bytes;
	counter_add(core, moved_bytes_total, bytes);
	return result == MOVED_NO_ROOM || (end && result == MOVED_ALL);
}
