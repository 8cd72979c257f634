/* SPDX-License-Identifier: Apache-2.0 */
/* Every invariant of the core, looked at from scratch. Tests run it after each step. */
#include "daemon/core/index.h"
#include "daemon/core/internal.h"
#include "daemon/core/stats.h"

#include <stdlib.h>

struct audit {
	struct core *core;
	struct space_totals totals[KVP_SPACES_MAX + 1];
	uint64_t limbo_bytes;
	uint64_t taken_bytes;
	uint64_t leases;
};

static const char *block_audit_pages(struct audit *audit, uint32_t block)
{
	struct core *core = audit->core;
	const struct kvp_block *shared = shared_block(core, block);
	const struct kvp_page *map = shared_pages(core, block);
	const struct space *space = &core->spaces[shared->space_id];
	struct space_totals *totals = &audit->totals[shared->space_id];
	uint64_t stored = page_bytes(&space->schema, shared->tokens);
	uint32_t ready = 0;

	for (uint32_t page = 0; page < shared->page_count; page++) {
		uint64_t offset = (uint64_t)map[page].slot * KVP_SLOT_ALIGN;

		if (!(map[page].flags & KVP_PAGE_READY))
			continue;
		ready++;
		if (offset < core->arena.extents_offset ||
		    offset + space->page_class->slot_bytes > core->arena.bytes)
			return "a page lies outside the extents";
	}
	if (ready != shared->pages_ready)
		return "pages_ready is not the number of ready pages";
	if (core->blocks[block].slot_bytes !=
	    map_slot_bytes(space) + (uint64_t)ready * space->page_class->slot_bytes)
		return "a block's slot bytes are wrong";
	totals->pages += ready;
	totals->stored_bytes += ready * stored;
	totals->overhead_bytes += core->blocks[block].slot_bytes - ready * stored;
	totals->logical_f16_bytes += (uint64_t)ready * shared->tokens *
				     (space->schema.head_dim_k + space->schema.head_dim_v) *
				     space->schema.page_heads * 2;
	totals->blocks++;
	if (ready == shared->page_count)
		totals->tokens += shared->tokens;
	else
		totals->blocks_partial++;
	return NULL;
}

static const char *block_audit_family(const struct core *core, uint32_t block)
{
	const struct block *b = &core->blocks[block];
	uint32_t children = 0;

	if (b->parent && core->blocks[b->parent].state != BLOCK_LIVE)
		return "a live block's parent is not resident";
	if (b->parent && shared_block(core, b->parent)->key_hash != shared_block(core, block)->parent_hash)
		return "the shared parent is not the private one";
	for (uint32_t child = b->first_child; child; child = core->blocks[child].next_sibling) {
		if (core->blocks[child].parent != block)
			return "a child does not know its parent";
		if (children++ > core->arena.blocks_count)
			return "a list of children has a loop";
	}
	return children == b->children ? NULL : "a block's number of children is wrong";
}

static const char *live_audit(struct audit *audit, uint32_t block)
{
	struct core *core = audit->core;
	const struct kvp_block *shared = shared_block(core, block);
	const struct block *b = &core->blocks[block];
	bool complete = shared->pages_ready == shared->page_count;
	bool wanted = complete && b->children == 0 && b->leases == 0 && b->ties == 0 && b->holds == 0;

	if (shared->generation % 2 != 0)
		return "a live block's generation is odd";
	if (shared->space_id < 1 || shared->space_id > KVP_SPACES_MAX || !core->spaces[shared->space_id].live)
		return "a live block's space is not";
	if (index_find(&core->arena, shared->key_hash, shared->space_id, shared->key, shared->key_bytes) !=
	    block)
		return "a live block is not in the index";
	if (wanted != (core->entries[block].place != POLICY_ABSENT))
		return "the policy holds what cannot be evicted, or lacks what can";
	if (complete ? !list_empty(&b->writers) : list_empty(&b->writers) && !b->load)
		return "a block has writers though complete, or nobody who completes it";
	if (deadline_armed(&b->partial) == list_empty(&b->writers))
		return "a block has a time limit without writers, or none with them";
	if (!list_empty(&b->to_store) && (!complete || b->below))
		return "a block waits to be stored that cannot be or is";
	audit->taken_bytes += b->slot_bytes;
	audit->leases += b->leases;
	return block_audit_family(core, block);
}

/* What no lease holds is in the list that scans look through. */
static const char *limbo_audit(struct audit *audit, uint32_t block)
{
	const struct core *core = audit->core;
	const struct block *b = &core->blocks[block];

	if (b->children != 0)
		return "a block rests in limbo with children";
	if (b->leases > 0 || b->ties > 0)
		return NULL;
	for (uint32_t at = core->limbo_first; at; at = core->blocks[at].free_next)
		if (at == block)
			return NULL;
	return "a block rests in limbo for nobody";
}

static const char *block_audit(struct audit *audit, uint32_t block)
{
	struct core *core = audit->core;
	const struct block *b = &core->blocks[block];
	const char *wrong;

	switch (b->state) {
	case BLOCK_FREE:
		return core->arena.blocks[block - 1].generation % 2 == 0 &&
				       core->arena.blocks[block - 1].generation != 0
			       ? "a free block's generation is even"
			       : NULL;
	case BLOCK_LIMBO:
		audit->limbo_bytes += b->slot_bytes;
		audit->taken_bytes += b->slot_bytes;
		audit->leases += b->leases;
		return limbo_audit(audit, block);
	case BLOCK_LIVE:
		wrong = live_audit(audit, block);
		return wrong ? wrong : block_audit_pages(audit, block);
	}
	return "a block is in no state";
}

static const char *space_audit(const struct audit *audit, uint32_t id)
{
	const struct space *space = &audit->core->spaces[id];
	const struct space_totals *seen = &audit->totals[id];

	if (!space->live)
		return NULL;
	if (!space->policy->ops->audit(space->policy))
		return "a policy's order is broken";
	if (seen->blocks != space->totals.blocks || seen->blocks_partial != space->totals.blocks_partial ||
	    seen->pages != space->totals.pages || seen->tokens != space->totals.tokens)
		return "a space's counts are wrong";
	if (seen->stored_bytes != space->totals.stored_bytes ||
	    seen->overhead_bytes != space->totals.overhead_bytes ||
	    seen->logical_f16_bytes != space->totals.logical_f16_bytes)
		return "a space's bytes are wrong";
	return NULL;
}

static const char *waits_audit(struct core *core)
{
	uint64_t waits = 0;

	list_for_each(node, &core->waits) {
		const struct wait *wait = list_entry(node, struct wait, link);

		if (wait->session->state != SESSION_READY || !deadline_armed(&wait->over))
			return "somebody waits for events who cannot be told";
		waits++;
	}
	return waits == counter_get(core, subscribers) ? NULL : "the count of subscribers is wrong";
}

static const char *users_audit(struct core *core)
{
	list_for_each(user_node, &core->users) {
		const struct user *user = list_entry(user_node, struct user, link);
		uint64_t staging = 0, pinned = 0;
		uint32_t sessions = 0, records = 0;

		list_for_each(node, &core->sessions) {
			struct core_session *session = list_entry(node, struct core_session, link);

			if (session->user != user)
				continue;
			sessions++;
			staging += session->staging_bytes + session->control.bytes;
			records += session->control.records;
			list_for_each(lease, &session->leases)
				pinned += list_entry(lease, struct lease, by_session)->charged_bytes;
		}
		if (sessions != user->sessions || staging != user->staging_bytes ||
		    pinned != user->pinned_bytes || records != user->records)
			return "a user's account is wrong";
	}
	return NULL;
}

static const char *sums_audit(const struct audit *audit)
{
	struct core *core = audit->core;

	uint32_t unused = 0;

	for (uint32_t block = core->free_block; block && unused <= core->free_blocks;
	     block = core->blocks[block].free_next)
		unused++;
	if (unused != core->free_blocks)
		return "the number of free blocks is wrong";
	if (audit->limbo_bytes != core->limbo_bytes)
		return "limbo bytes are wrong";
	if (audit->taken_bytes + core->loading_bytes != core->arena.taken_bytes)
		return "slots are taken that no block and no load has";
	if (audit->leases != counter_get(core, leases))
		return "the number of leases is wrong";
	stats_refresh(core);
	if (counter_get(core, metadata_bytes) + counter_get(core, stored_bytes) +
		    counter_get(core, overhead_bytes) + counter_get(core, limbo_bytes) +
		    counter_get(core, loading_bytes) + counter_get(core, free_bytes) +
		    counter_get(core, retired_bytes) !=
	    core->arena.bytes)
		return "the memory gauges do not add up to the arena";
	return NULL;
}

const char *core_audit(struct core *core)
{
	struct audit *audit = calloc(1, sizeof(*audit));
	const char *wrong = NULL;

	if (!audit)
		return "out of memory";
	audit->core = core;
	if (!arena_audit(&core->arena))
		wrong = "the arena's books are wrong";
	if (!wrong && !mrc_audit(&core->mrc))
		wrong = "the sample of the miss-ratio curve is broken";
	for (uint32_t block = 1; !wrong && block <= core->arena.blocks_count; block++)
		wrong = block_audit(audit, block);
	for (uint32_t id = 1; !wrong && id <= KVP_SPACES_MAX; id++)
		wrong = space_audit(audit, id);
	if (!wrong)
		wrong = users_audit(core);
	if (!wrong)
		wrong = waits_audit(core);
	if (!wrong)
		wrong = sums_audit(audit);
	free(audit);
	return wrong;
}
