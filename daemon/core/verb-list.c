/* SPDX-License-Identifier: Apache-2.0 */
/*
 * List: the blocks of a space, a part at a time, in the order of block numbers. The cursor is the number to go
 * on from. A part also ends when enough entries of other spaces were looked at, so it may be short, or empty,
 * before the end.
 */
#include "daemon/core/verbs.h"

#include "base/units.h"

#define LOOK_MAX 4096

static void item_fill(struct core *core, uint32_t block, Kvpaged__V1__ListItem *item)
{
	const struct kvp_block *shared = shared_block(core, block);
	const struct block *b = &core->blocks[block];

	kvpaged__v1__list_item__init(item);
	item->key = (ProtobufCBinaryData){ .data = (uint8_t *)shared->key, .len = shared->key_bytes };
	item->tokens = shared->tokens;
	item->pages_ready = atomic_load_explicit(&shared->pages_ready, memory_order_relaxed);
	item->page_count = shared->page_count;
	item->stored_bytes = block_stored_bytes(core, block);
	item->leases = b->leases;
	item->children = b->children;
	item->priority = core->entries[block].priority;
	item->idle_ms = (core->now_ns - b->used_ns) / NS_PER_MS;
	item->root = b->parent == 0;
}

enum verb_result verb_list(struct core_session *session, const Request *request, Reply *reply)
{
	const Kvpaged__V1__List *body = request->list;
	struct core *core = session->core;
	struct reply_scratch *scratch = &core->scratch;
	Kvpaged__V1__ListReply answer = KVPAGED__V1__LIST_REPLY__INIT;
	uint64_t at = body->cursor ? body->cursor : 1;
	uint32_t limit = body->limit;

	if (!space_of(session, body->space_id, reply))
		return VERB_REPLY;
	if (limit == 0 || limit > KVP_LIST_ITEMS_MAX)
		limit = KVP_LIST_ITEMS_MAX;
	answer.items = scratch->list_item_pointers;
	for (unsigned looked = 0; at <= core->arena.blocks_count && answer.n_items < limit && looked < LOOK_MAX;
	     at++, looked++) {
		uint32_t block = (uint32_t)at;

		if (core->blocks[block].state != BLOCK_LIVE ||
		    shared_block(core, block)->space_id != body->space_id)
			continue;
		item_fill(core, block, &scratch->list_items[answer.n_items]);
		scratch->list_item_pointers[answer.n_items] = &scratch->list_items[answer.n_items];
		answer.n_items++;
	}
	answer.next_cursor = at <= core->arena.blocks_count ? at : 0;
	reply->verb_case = KVPAGED__V1__REPLY__VERB_LIST;
	reply->list = &answer;
	reply_send(session, reply, 0);
	return VERB_QUEUED;
}
