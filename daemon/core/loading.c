/* SPDX-License-Identifier: Apache-2.0 */
/* Loads; see loading.h. */
#include "daemon/core/loading.h"

#include "base/contract.h"
#include "base/units.h"
#include "daemon/core/evict.h"
#include "daemon/core/fetching.h"
#include "daemon/core/hazard.h"
#include "daemon/core/stats.h"
#include "daemon/core/tiering.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Slots that wait for their pages: enough to keep a disk busy. */
#define LOADING_BYTES_MAX (128 * MIB)

/*
 * Blocks with pages still to come, whole, are at most this part of the arena: they cannot be evicted, so what others
 * use would have to go for them.
 */
#define LOADING_ARENA_SHARE 4

/* Under way at a time, of all loads: more than a disk's queue takes, so that it never runs dry. */
#define READING_BYTES_MAX (8 * MIB)

/* A disk gives more when it is asked for more at once; and the first layers shall come soon. */
#define READ_BYTES (UINT32_C(128) << 10)
#define READ_PAGES_MAX KVP_KV_HEADS_MAX
_Static_assert(READ_BYTES / KVP_SLOT_ALIGN <= READ_PAGES_MAX, "a portion is a layer or READ_BYTES");

bool loading_strays(const struct core *core)
{
	return core->strays && hazard_grace(core);
}

void loading_note(struct core *core)
{
	atomic_store_explicit(&core->arena.header->loading, !list_empty(&core->loads) || loading_strays(core),
			      memory_order_release);
}

bool loading_busy(const struct core *core)
{
	uint64_t share = arena_room_bytes(&core->arena) / LOADING_ARENA_SHARE;

	return core->loading_bytes >= LOADING_BYTES_MAX || core->loads_bytes >= share;
}

static struct size_class *page_class(struct load *load)
{
	return block_space(load->core, load->block)->page_class;
}

static struct block_key key_of_load(const struct load *load)
{
	return (struct block_key){ .bytes = load->key, .n = load->key_bytes };
}

static struct load *load_new(struct core *core, const struct tier_block *found, const struct page_range *first)
{
	struct load *load = calloc(1, sizeof(*load) + found->page_count * sizeof(load->slots[0]));

	if (!load)
		return NULL;
	load->order = calloc(found->page_count, sizeof(*load->order));
	if (!load->order) {
		free(load);
		return NULL;
	}
	load->core = core;
	load->space = found->space;
	load->first = *first;
	load->tokens = found->tokens;
	load->page_bytes = found->page_bytes;
	load->page_count = found->page_count;
	load->begin_ns = core->now_ns;
	load->key_bytes = (uint8_t)found->key.n;
	memcpy(load->key, found->key.bytes, found->key.n);
	list_init(&load->parts);
	return load;
}

static bool is_first(const struct load *load, uint32_t page)
{
	uint32_t layer = page / load->groups, group = page % load->groups;

	return layer >= load->first.layer_begin && layer < load->first.layer_end &&
	       group >= load->first.group_begin && group < load->first.group_end;
}

/* Pages in the order in which they are read: those wanted first, then the others. */
static void order_fill(struct load *load)
{
	uint32_t n = 0;

	for (unsigned pass = 0; pass < 2; pass++)
		for (uint32_t page = 0; page < load->page_count; page++)
			if (is_first(load, page) == (pass == 0))
				load->order[n++] = page;
	kvp_assert(n == load->page_count);
}

/* What is being written or loaded cannot be evicted; there may be room when a transfer has ended. */
static bool room_may_come(const struct core *core)
{
	if (core->storing_bytes > 0)
		return true;
	list_for_each(node, &core->loads)
		if (list_entry(node, struct load, link)->ready)
			return true;
	return false;
}

int load_begin(struct core *core, uint32_t space_id, const struct tier_block *found, uint32_t parent,
	       const struct page_range *first, struct load **ret_load)
{
	struct load *load = load_new(core, found, first);
	int r;

	if (!load)
		return -ENOMEM;
	/* Of the load, since making room may change what the tier points to. */
	r = block_create(core, space_id, key_of_load(load), parent, load->tokens, &load->block);
	if (r != KVP_OK) {
		free(load->order);
		free(load);
		return r == KVP_NO_SPACE && room_may_come(core) ? -EBUSY : r;
	}
	load->groups = page_head_groups(&core->spaces[space_id].schema);
	order_fill(load);
	load->bytes = (uint64_t)load->page_count * page_class(load)->slot_bytes;
	core->loads_bytes += load->bytes;
	core->blocks[load->block].load = load;
	core->blocks[load->block].below = true;
	list_push_back(&core->loads, &load->link);
	loading_note(core);
	*ret_load = load;
	return KVP_OK;
}

/* ---- The end ---- */

static void slots_return(struct load *load)
{
	for (uint32_t page = 0; page < load->page_count; page++)
		if (load->slots[page])
			load->core->loading_bytes -= arena_slot_return(&load->core->arena, load->slots[page]);
}

/* What is still partial now stays so: it goes, unless an append is bringing the rest. */
static void block_give_up(struct core *core, uint32_t block, enum kvp_fate fate)
{
	uint32_t budget = UINT32_MAX;

	if (!block_complete(core, block) && list_empty(&core->blocks[block].writers))
		(void)block_kill_tree(core, block, fate, &budget);
}

/* Nothing of it is under way. */
static void load_end(struct load *load)
{
	struct core *core = load->core;
	uint32_t block = load->block;
	struct block_key key = key_of_load(load);

	kvp_assert(load->reads == 0);
	slots_return(load);
	core->loads_bytes -= load->bytes;
	/* What was removed meanwhile is not lost, and what the tier has of this key by now is another block. */
	if (load->lost && block) {
		core->tier->ops->forget(core->tier, &load->space, key);
		counter_add(core, tier_lost_blocks_total, 1);
		load->status = KVP_MISS;
	} else if (load->status == KVP_OK && block) {
		counter_add(core, tier_loaded_blocks_total, 1);
		histogram_add(core->arena.counters->tier_load_seconds, core_clock_ns(core) - load->begin_ns);
	}
	list_unlink(&load->link);
	loading_note(core);
	if (block) {
		core->blocks[block].load = NULL;
		/* Otherwise as it is: the tier may have dropped its copy since an append brought the last page. */
		if (load->lost)
			core->blocks[block].below = false;
	}
	fetching_load_over(load, load->status);
	if (block)
		block_give_up(core, block, load->lost ? KVP_FATE_LOST : KVP_FATE_DEMOTED);
	free(load->order);
	free(load);
	core->fetches_blocked = false;
	stats_later(core);
	core_wake(core);
}

void loading_forget(struct core *core, uint32_t block)
{
	struct load *load = core->blocks[block].load;

	if (!load)
		return;
	core->blocks[block].load = NULL;
	load->block = 0;
	load->asked = load->page_count;
	load->status = KVP_MISS;
	fetching_load_over(load, KVP_MISS);
	if (load->ready && load->reads == 0)
		load_end(load);
}

/* ---- The begin ---- */

/* Results: KVP_OK, KVP_NO_SPACE, -EAGAIN, -EBUSY. */
static int slots_take(struct load *load)
{
	struct core *core = load->core;

	for (; load->taken < load->page_count; load->taken++) {
		int r = evict_for_slot(core, page_class(load), &load->slots[load->taken]);

		if (r != KVP_OK)
			return r == KVP_NO_SPACE && room_may_come(core) ? -EBUSY : r;
		core->loading_bytes += page_class(load)->slot_bytes;
	}
	return KVP_OK;
}

int load_continue(struct load *load)
{
	int r = load->block ? slots_take(load) : KVP_MISS;

	kvp_assert(!load->ready);
	if (r < 0)
		return r;
	load->ready = true;
	if (r == KVP_OK)
		return KVP_OK;
	load->status = (enum kvp_status)r;
	load_end(load);
	return r;
}

/* ---- Pages ---- */

/* The load that has come least far, of those that can go on; the oldest of several. */
static struct load *load_next(struct core *core)
{
	struct load *next = NULL;

	list_for_each(node, &core->loads) {
		struct load *load = list_entry(node, struct load, link);

		if (load->ready && !load->lost && load->asked < load->page_count &&
		    (!next || load->asked < next->asked))
			next = load;
	}
	return next;
}

/*
 * Pages that are asked for at once: a layer's, or of small ones those of some layers, which the tier may read as one.
 */
static uint32_t load_portion(struct load *load)
{
	uint32_t layers = READ_BYTES / (load->groups * page_class(load)->slot_bytes);

	return load->groups * (layers > 1 ? layers : 1);
}

static void load_read(struct core *core, struct load *load)
{
	struct block_key key = key_of_load(load);
	void *memory[READ_PAGES_MAX];
	uint32_t left = load->page_count - load->asked, portion = load_portion(load);
	uint32_t n = portion < left ? portion : left;
	const uint32_t *order = load->order + load->asked;
	int r;

	kvp_assert(n <= READ_PAGES_MAX);
	for (uint32_t i = 0; i < n; i++)
		memory[i] = arena_at(&core->arena, load->slots[order[i]]);
	r = core->tier->ops->load(core->tier, &load->space, key, order, memory, n, (uintptr_t)load, core->now_ns);
	if (r == KVP_OK) {
		load->asked += n;
		load->reads++;
		core->reading_bytes += (uint64_t)n * load->page_bytes;
		return;
	}
	/* Dropped meanwhile, or no memory: what has been read stays in vain. */
	load->asked = load->page_count;
	load->status = r == -ENOMEM ? KVP_TOO_MANY : KVP_MISS;
	if (load->reads == 0)
		load_end(load);
}

void loading_step(struct core *core)
{
	while (core->reading_bytes < READING_BYTES_MAX) {
		struct load *load = load_next(core);

		if (!load)
			return;
		load_read(core, load);
	}
}

void loading_page_loaded(void *context, uint64_t cookie, uint32_t page, uint64_t checksum, int result)
{
	struct core *core = context;
	struct load *load = (struct load *)(uintptr_t)cookie;
	uint64_t slot;
	bool good;

	kvp_assert(page < load->page_count && load->reads > 0 && load->slots[page]);
	slot = load->slots[page];
	core->reading_bytes -= load->page_bytes;
	good = result == 0 && kvp_page_checksum(arena_at(&core->arena, slot), load->page_bytes) == checksum;
	if (result == 0 && !good)
		counter_add(core, tier_corrupt_pages_total, 1);
	load->lost |= !good;
	if (!good || !load->block || block_page_ready(core, load->block, page))
		return; /* the slot goes back at the end */
	load->slots[page] = 0;
	core->loading_bytes -= page_class(load)->slot_bytes;
	block_publish_page(core, load->block, page, slot, load->page_bytes, checksum);
	fetching_page(load, page);
}

void loading_loaded(void *context, uint64_t cookie)
{
	struct core *core = context;
	struct load *load = (struct load *)(uintptr_t)cookie;

	load->reads--;
	if (load->reads == 0 && (load->lost || load->asked == load->page_count))
		load_end(load);
	loading_step(core);
}
