/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order of shared writes. Birth: every field, then generation even (release), then the index. Page: bytes, slot
 * and checksum, then READY (release). Death: out of the index, then resting, then generation odd, then a full fence,
 * and only then may memory be reused, of which the first sign is that the block rests no more. recover.c relies on it.
 */
#include "daemon/core/block.h"

#include "base/contract.h"
#include "daemon/core/curve.h"
#include "daemon/core/events.h"
#include "daemon/core/evict.h"
#include "daemon/core/hazard.h"
#include "daemon/core/index.h"
#include "daemon/core/loading.h"
#include "daemon/core/tiering.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint32_t block_find(struct core *core, uint32_t space_id, struct block_key key)
{
	uint64_t hash = kvp_key_hash(core->arena.header->hash_seed, space_id, key.bytes, key.n);

	return index_find(&core->arena, hash, space_id, key.bytes, key.n);
}

/* ---- Policy membership ---- */

bool block_complete(const struct core *core, uint32_t block)
{
	const struct kvp_block *shared = shared_block(core, block);

	return atomic_load_explicit(&shared->pages_ready, memory_order_relaxed) == shared->page_count;
}

static bool evictable(const struct core *core, uint32_t block)
{
	const struct block *b = &core->blocks[block];

	return b->state == BLOCK_LIVE && b->children == 0 && b->leases == 0 && b->ties == 0 && b->holds == 0 &&
	       block_complete(core, block);
}

/* Brings the policy in line after anything that evictable() looks at has changed. */
static void policy_refresh(struct core *core, uint32_t block)
{
	struct policy *policy = block_space(core, block)->policy;
	bool held = core->entries[block].place != POLICY_ABSENT;

	if (evictable(core, block) && !held)
		policy->ops->insert(policy, block);
	else if (!evictable(core, block) && held)
		policy->ops->remove(policy, block);
}

static void policy_update(struct core *core, uint32_t block)
{
	struct policy *policy = block_space(core, block)->policy;

	if (core->entries[block].place != POLICY_ABSENT)
		policy->ops->update(policy, block);
}

void block_use(struct core *core, uint32_t block)
{
	core->entries[block].used = ++core->tick;
	policy_update(core, block);
}

void block_touch(struct core *core, uint32_t block)
{
	core->blocks[block].used_ns = core->now_ns;
	block_use(core, block);
}

void block_set_priority(struct core *core, uint32_t block, uint32_t priority)
{
	kvp_assert(priority <= KVP_PIN_PRIORITY_MAX);
	core->entries[block].priority = priority;
	policy_update(core, block);
}

void block_hold(struct core *core, uint32_t block)
{
	core->blocks[block].holds++;
	policy_refresh(core, block);
}

void block_unhold(struct core *core, uint32_t block)
{
	kvp_assert(core->blocks[block].holds > 0 && core->blocks[block].state == BLOCK_LIVE);
	core->blocks[block].holds--;
	policy_refresh(core, block);
}

/* ---- Family ---- */

/* The parent is held: it is in no policy. */
static void child_link(struct core *core, uint32_t parent, uint32_t child)
{
	struct block *p = &core->blocks[parent];
	struct block *c = &core->blocks[child];

	c->parent = parent;
	c->next_sibling = p->first_child;
	c->prev_sibling = 0;
	if (p->first_child)
		core->blocks[p->first_child].prev_sibling = child;
	p->first_child = child;
	p->children++;
}

static void child_unlink(struct core *core, uint32_t child)
{
	struct block *c = &core->blocks[child];
	struct block *p = &core->blocks[c->parent];

	if (!c->parent)
		return;
	if (c->prev_sibling)
		core->blocks[c->prev_sibling].next_sibling = c->next_sibling;
	else
		p->first_child = c->next_sibling;
	if (c->next_sibling)
		core->blocks[c->next_sibling].prev_sibling = c->prev_sibling;
	p->children--;
	policy_refresh(core, c->parent);
	c->parent = 0;
}

/* ---- Writers ---- */

static void writer_free(struct writer *writer)
{
	list_unlink(&writer->by_block);
	list_unlink(&writer->by_session);
	free(writer);
}

/* A block that is complete or dead is not being written, and one that is loaded need not be. */
static void writing_ends(struct core *core, uint32_t block)
{
	struct block *b = &core->blocks[block];

	deadline_disarm(&core->deadlines, &b->partial);
	list_for_each_safe(node, after, &b->writers)
		writer_free(list_entry(node, struct writer, by_block));
}

/* ---- Birth ---- */

static void partial_expire(struct core *core, struct deadline *deadline)
{
	struct block *b = list_entry(deadline, struct block, partial);
	uint32_t block = (uint32_t)(b - core->blocks);
	uint32_t budget = UINT32_MAX;

	if (b->load) {
		writing_ends(core, block);
		return;
	}
	counter_add(core, dropped_partial_ttl_total, 1);
	(void)block_kill_tree(core, block, KVP_FATE_UNFINISHED, &budget);
}

static void keep_expire(struct core *core, struct deadline *deadline)
{
	struct block *b = list_entry(deadline, struct block, keep);

	block_set_priority(core, (uint32_t)(b - core->blocks), 0);
}

/* A free block number, evicting for it. Results as evict_for_slot(). */
static int number_take(struct core *core, uint32_t *ret_block)
{
	for (unsigned evicted = 0; !core->free_block;) {
		if (evicted >= EVICT_BATCH)
			return -EAGAIN;
		if (!evict_for_room(core, &evicted))
			return KVP_NO_SPACE;
	}
	*ret_block = core->free_block;
	core->free_block = core->blocks[*ret_block].free_next;
	core->free_blocks--;
	return KVP_OK;
}

static void number_return(struct core *core, uint32_t block)
{
	core->blocks[block].state = BLOCK_FREE;
	core->blocks[block].free_next = core->free_block;
	core->free_block = block;
	core->free_blocks++;
}

static void shared_fill(struct core *core, uint32_t block, uint32_t space_id, struct block_key key,
			uint32_t parent, uint32_t tokens, uint64_t map_offset)
{
	struct kvp_block *shared = shared_block(core, block);
	uint64_t generation = atomic_load_explicit(&shared->generation, memory_order_relaxed);

	kvp_assert(generation % 2 == 1 || generation == 0);
	shared->key_hash = kvp_key_hash(core->arena.header->hash_seed, space_id, key.bytes, key.n);
	shared->parent_hash = parent ? shared_block(core, parent)->key_hash : 0;
	shared->map_offset = map_offset;
	shared->space_id = space_id;
	shared->page_count = core->spaces[space_id].page_count;
	atomic_store_explicit(&shared->pages_ready, 0, memory_order_relaxed);
	shared->tokens = (uint16_t)tokens;
	shared->key_bytes = (uint8_t)key.n;
	memcpy(shared->key, key.bytes, key.n);
	memset(arena_at(&core->arena, map_offset), 0, shared->page_count * sizeof(struct kvp_page));
	/* 0 is the generation of an entry never used: the first life is 2. */
	atomic_store_explicit(&shared->generation, generation == 0 ? 2 : generation + 1, memory_order_release);
}

static void private_fill(struct core *core, uint32_t block, struct space *space)
{
	struct block *b = &core->blocks[block];

	*b = (struct block){
		.state = BLOCK_LIVE,
		.slot_bytes = map_slot_bytes(space),
		.partial = { .expire = partial_expire },
		.keep = { .expire = keep_expire },
	};
	list_init(&b->writers);
	list_init(&b->to_store);
	core->entries[block] = (struct policy_entry){ .place = POLICY_ABSENT };
}

/* A place for the block's page map. Results as evict_for_slot(). */
static int map_take(struct core *core, const struct space *space, uint32_t block, uint64_t *ret_offset)
{
	if (space->page_count > 1)
		return evict_for_slot(core, space->map_class, ret_offset);
	*ret_offset = (uint64_t)((uint8_t *)&shared_block(core, block)->page - core->arena.base);
	return KVP_OK;
}

void block_begun(struct core *core, uint32_t block)
{
	uint64_t when_ns;

	switch (past_find(&core->past, shared_block(core, block)->key_hash, &when_ns)) {
	case KVP_FATE_UNKNOWN:
		counter_add(core, begun_new_total, 1);
		break;
	case KVP_FATE_EVICTED:
	case KVP_FATE_DEMOTED:
		counter_add(core, begun_evicted_total, 1);
		break;
	default:
		counter_add(core, begun_removed_total, 1);
	}
	curve_birth(core, block);
}

int block_create(struct core *core, uint32_t space_id, struct block_key key, uint32_t parent, uint32_t tokens,
		 uint32_t *ret_block)
{
	struct space *space = &core->spaces[space_id];
	uint64_t map_offset;
	uint32_t block;
	int r;

	kvp_assert(space->live && key.n >= 1 && key.n <= KVP_KEY_BYTES_MAX && tokens >= 1 &&
		   tokens <= space->schema.block_tokens);
	kvp_implies(parent, core->blocks[parent].state == BLOCK_LIVE);
	if (parent)
		block_hold(core, parent);
	r = number_take(core, &block);
	if (r == KVP_OK) {
		r = map_take(core, space, block, &map_offset);
		if (r != KVP_OK)
			number_return(core, block);
	}
	if (r == KVP_OK) {
		shared_fill(core, block, space_id, key, parent, tokens, map_offset);
		private_fill(core, block, space);
		index_insert(&core->arena, shared_block(core, block)->key_hash, block);
		if (parent)
			child_link(core, parent, block);
		space->totals.blocks++;
		space->totals.blocks_partial++;
		space->totals.overhead_bytes += map_slot_bytes(space);
		block_touch(core, block);
		*ret_block = block;
	}
	if (parent)
		block_unhold(core, parent);
	return r;
}

/* ---- Pages ---- */

bool block_page_ready(const struct core *core, uint32_t block, uint32_t page)
{
	const struct kvp_page *map = shared_pages(core, block);

	return atomic_load_explicit(&map[page].flags, memory_order_relaxed) & KVP_PAGE_READY;
}

static uint64_t page_logical_f16(const struct space *space, uint32_t tokens)
{
	return (uint64_t)tokens * (space->schema.head_dim_k + space->schema.head_dim_v) *
	       space->schema.page_heads * 2;
}

static void block_completed(struct core *core, uint32_t block)
{
	struct space *space = block_space(core, block);

	writing_ends(core, block);
	space->totals.blocks_partial--;
	space->totals.tokens += shared_block(core, block)->tokens;
	events_stored(core, block);
	policy_refresh(core, block);
}

void block_publish_page(struct core *core, uint32_t block, uint32_t page, uint64_t offset, uint32_t n,
			uint64_t checksum)
{
	struct kvp_block *shared = shared_block(core, block);
	struct kvp_page *entry = &shared_pages(core, block)[page];
	struct space *space = block_space(core, block);
	uint32_t ready = atomic_load_explicit(&shared->pages_ready, memory_order_relaxed) + 1;

	entry->slot = (uint32_t)(offset / KVP_SLOT_ALIGN);
	entry->checksum = checksum;
	atomic_store_explicit(&entry->flags, KVP_PAGE_READY, memory_order_release);
	atomic_store_explicit(&shared->pages_ready, ready, memory_order_release);
	core->blocks[block].slot_bytes += space->page_class->slot_bytes;
	space->totals.pages++;
	space->totals.stored_bytes += n;
	space->totals.overhead_bytes += space->page_class->slot_bytes - n;
	space->totals.logical_f16_bytes += page_logical_f16(space, shared->tokens);
	if (ready == shared->page_count)
		block_completed(core, block);
}

int block_store_page(struct core *core, uint32_t block, uint32_t page, const void *bytes, uint32_t n,
		     uint64_t checksum)
{
	struct space *space = block_space(core, block);
	uint64_t offset;
	int r;

	kvp_assert(page < space->page_count && n <= space->page_class->slot_bytes &&
		   !block_page_ready(core, block, page));
	r = evict_for_slot(core, space->page_class, &offset);
	if (r != KVP_OK)
		return r;
	if (intake_copy(&core->intake, arena_at(&core->arena, offset), bytes, n) != checksum) {
		(void)arena_slot_return(&core->arena, offset);
		counter_add(core, append_corrupt_total, 1);
		return KVP_CORRUPT;
	}
	block_publish_page(core, block, page, offset, n, checksum);
	counter_add(core, append_pages_total, 1);
	counter_add(core, append_bytes_total, n);
	if (block_complete(core, block)) {
		counter_add(core, append_blocks_total, 1);
		tiering_completed(core, block);
	}
	return KVP_OK;
}

static struct writer *writer_find(const struct core *core, uint32_t block, const struct core_session *session)
{
	const struct block *b = &core->blocks[block];

	list_for_each(node, &b->writers) {
		struct writer *writer = list_entry(node, struct writer, by_block);

		if (writer->session == session)
			return writer;
	}
	return NULL;
}

int block_add_writer(struct core *core, uint32_t block, struct core_session *session)
{
	struct block *b = &core->blocks[block];
	struct writer *writer;
	int r;

	kvp_assert(b->state == BLOCK_LIVE && !block_complete(core, block));
	r = deadline_arm(&core->deadlines, &b->partial,
			 core->now_ns + core->limits.partial_ttl_ms * UINT64_C(1000000));
	if (r < 0 || writer_find(core, block, session))
		return r;
	writer = calloc(1, sizeof(*writer));
	if (!writer)
		return -ENOMEM;
	writer->block = block;
	writer->session = session;
	list_push_back(&b->writers, &writer->by_block);
	list_push_back(&session->writers, &writer->by_session);
	return 0;
}

void block_remove_writer(struct core *core, struct writer *writer)
{
	uint32_t block = writer->block;
	uint32_t budget = UINT32_MAX;

	writer_free(writer);
	if (!list_empty(&core->blocks[block].writers))
		return;
	if (core->blocks[block].load) {
		writing_ends(core, block);
		return;
	}
	counter_add(core, dropped_writer_gone_total, 1);
	(void)block_kill_tree(core, block, KVP_FATE_WRITER_GONE, &budget);
}

bool block_sole_writer(const struct core *core, uint32_t block, const struct core_session *session)
{
	const struct list *writers = &core->blocks[block].writers;

	return writer_find(core, block, session) && writers->next->next == writers;
}

/* ---- Death ---- */

void block_lease(struct core *core, uint32_t block)
{
	core->blocks[block].leases++;
	policy_refresh(core, block);
}

static void block_bury(struct core *core, uint32_t block)
{
	struct kvp_block *shared = shared_block(core, block);
	const struct kvp_page *map = shared_pages(core, block);

	atomic_store_explicit(&shared->resting, KVP_RESTING_NO, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	for (uint32_t page = 0; page < shared->page_count; page++)
		if (atomic_load_explicit(&map[page].flags, memory_order_relaxed) & KVP_PAGE_READY)
			(void)arena_slot_return(&core->arena, (uint64_t)map[page].slot * KVP_SLOT_ALIGN);
	if (shared->page_count > 1)
		(void)arena_slot_return(&core->arena, shared->map_offset);
	number_return(core, block);
}

/* A removed block that nothing claims may be reused as soon as no reader names it. */
static void claims_settle(struct core *core, uint32_t block)
{
	struct block *b = &core->blocks[block];

	if (b->state == BLOCK_LIVE)
		policy_refresh(core, block);
	else if (b->leases > 0 || b->ties > 0)
		return;
	else if (hazard_possible(core))
		limbo_add(core, block);
	else
		block_leave_limbo(core, block);
}

void block_unlease(struct core *core, uint32_t block)
{
	kvp_assert(core->blocks[block].leases > 0);
	core->blocks[block].leases--;
	claims_settle(core, block);
}

void block_tie(struct core *core, uint32_t block)
{
	core->blocks[block].ties++;
	policy_refresh(core, block);
}

void block_untie(struct core *core, uint32_t block)
{
	kvp_assert(core->blocks[block].ties > 0);
	core->blocks[block].ties--;
	claims_settle(core, block);
}

uint64_t block_pin_cost(const struct core *core, uint32_t block)
{
	uint64_t share = core->arena.bytes / core->arena.blocks_count;
	uint64_t bytes = core->blocks[block].slot_bytes;

	return bytes > share ? bytes : share;
}

void block_leave_limbo(struct core *core, uint32_t block)
{
	kvp_assert(core->blocks[block].state == BLOCK_LIMBO && core->blocks[block].leases == 0 &&
		   core->blocks[block].ties == 0);
	core->limbo_bytes -= core->blocks[block].slot_bytes;
	counter_sub(core, blocks_limbo, 1);
	block_space(core, block)->limbo--;
	block_bury(core, block);
}

uint64_t block_stored_bytes(struct core *core, uint32_t block)
{
	const struct kvp_block *shared = shared_block(core, block);
	uint64_t pages = atomic_load_explicit(&shared->pages_ready, memory_order_relaxed);

	return pages * page_bytes(&block_space(core, block)->schema, shared->tokens);
}

/* What the space held in this block. Returns the stored bytes. */
static uint64_t totals_leave(struct core *core, uint32_t block)
{
	const struct kvp_block *shared = shared_block(core, block);
	struct space *space = block_space(core, block);
	uint64_t pages = atomic_load_explicit(&shared->pages_ready, memory_order_relaxed);
	uint64_t stored = block_stored_bytes(core, block);

	space->totals.blocks--;
	if (block_complete(core, block))
		space->totals.tokens -= shared->tokens;
	else
		space->totals.blocks_partial--;
	space->totals.pages -= pages;
	space->totals.stored_bytes -= stored;
	space->totals.overhead_bytes -= core->blocks[block].slot_bytes - stored;
	space->totals.logical_f16_bytes -= pages * page_logical_f16(space, shared->tokens);
	return stored;
}

static void rest_count(struct core *core, uint32_t block)
{
	core->blocks[block].state = BLOCK_LIMBO;
	core->limbo_bytes += core->blocks[block].slot_bytes;
	counter_add(core, blocks_limbo, 1);
	block_space(core, block)->limbo++;
}

/* It is out of the index. From the fence on memory could be used again if nobody may be reading it. */
static void rest_begin(struct core *core, uint32_t block)
{
	struct kvp_block *shared = shared_block(core, block);

	atomic_store_explicit(&shared->resting, KVP_RESTING_DEAD, memory_order_relaxed);
	(void)atomic_fetch_add_explicit(&shared->generation, 1, memory_order_release);
	atomic_thread_fence(memory_order_seq_cst);
	rest_count(core, block);
}

uint64_t block_kill(struct core *core, uint32_t block, enum kvp_fate fate)
{
	struct kvp_block *shared = shared_block(core, block);
	struct block *b = &core->blocks[block];
	struct policy *policy = block_space(core, block)->policy;
	uint64_t stored;

	kvp_assert(b->state == BLOCK_LIVE && b->children == 0 && b->holds == 0);
	if (fate == KVP_FATE_DELETED)
		tiering_remove(core, shared->space_id, key_of_block(core, block));
	loading_forget(core, block); /* first: who waited for it lets go of it while it lives */
	events_removed(core, block, fate);
	past_note(&core->past, shared->key_hash, fate, core->now_ns);
	if (fate != KVP_FATE_EVICTED && fate != KVP_FATE_DEMOTED)
		curve_forget(core, shared->key_hash);
	stored = totals_leave(core, block);
	if (core->entries[block].place != POLICY_ABSENT)
		policy->ops->remove(policy, block);
	writing_ends(core, block);
	tiering_forget(core, block);
	deadline_disarm(&core->deadlines, &b->keep);
	index_remove(&core->arena, shared->key_hash, block);
	rest_begin(core, block);
	child_unlink(core, block);
	claims_settle(core, block);
	return stored;
}

bool block_kill_tree(struct core *core, uint32_t block, enum kvp_fate fate, uint32_t *budget)
{
	uint32_t at = block;

	while (*budget > 0) {
		uint32_t parent;

		while (core->blocks[at].first_child)
			at = core->blocks[at].first_child;
		parent = core->blocks[at].parent;
		(*budget)--;
		counter_add(core, evicted_bytes_total, block_kill(core, at, fate));
		if (at == block)
			return true;
		at = parent;
	}
	return false;
}

/* ---- Recovery ---- */

static void adopted_fill(struct core *core, uint32_t block)
{
	struct space *space = block_space(core, block);
	const struct kvp_page *map = shared_pages(core, block);

	private_fill(core, block, space);
	for (uint32_t page = 0; page < space->page_count; page++)
		if (map[page].flags & KVP_PAGE_READY)
			core->blocks[block].slot_bytes += space->page_class->slot_bytes;
}

void block_adopt(struct core *core, uint32_t block, uint32_t parent)
{
	struct kvp_block *shared = shared_block(core, block);
	struct space *space = block_space(core, block);
	uint64_t stored = (uint64_t)space->page_count * page_bytes(&space->schema, shared->tokens);

	kvp_assert(core->blocks[block].state == BLOCK_FREE && block_complete(core, block));
	atomic_store_explicit(&shared->resting, KVP_RESTING_NO, memory_order_relaxed);
	adopted_fill(core, block);
	core->blocks[block].adopted = true;
	if (parent) {
		child_link(core, parent, block);
		policy_refresh(core, parent);
	}
	space->totals.blocks++;
	space->totals.pages += space->page_count;
	space->totals.tokens += shared->tokens;
	space->totals.stored_bytes += stored;
	space->totals.overhead_bytes += core->blocks[block].slot_bytes - stored;
	space->totals.logical_f16_bytes += space->page_count * page_logical_f16(space, shared->tokens);
	block_touch(core, block);
	policy_refresh(core, block);
	tiering_completed(core, block);
}

void block_adopt_resting(struct core *core, uint32_t block)
{
	kvp_assert(core->blocks[block].state == BLOCK_FREE);
	adopted_fill(core, block);
	rest_count(core, block);
	limbo_add(core, block);
}

void block_drop_unadopted(struct core *core, uint32_t block)
{
	kvp_assert(core->blocks[block].state == BLOCK_FREE);
	adopted_fill(core, block);
	index_remove(&core->arena, shared_block(core, block)->key_hash, block);
	rest_begin(core, block);
	limbo_add(core, block);
}
