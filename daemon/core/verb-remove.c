/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Delete, Evict and DropSpace. Removing may concern many blocks, so all are queued operations that remove
 * REMOVE_BATCH blocks a slice; what they look for is looked up again in each slice.
 */
#include "daemon/core/curve.h"
#include "daemon/core/evict.h"
#include "daemon/core/hazard.h"
#include "daemon/core/index.h"
#include "daemon/core/space.h"
#include "daemon/core/tiering.h"
#include "daemon/core/verbs.h"

#include <stdlib.h>
#include <string.h>

#define REMOVE_BATCH 32

/* ---- Delete ---- */

struct removal_key {
	uint8_t n;
	uint8_t bytes[KVP_KEY_BYTES_MAX];
};

struct removal {
	struct op op;
	uint32_t space_id;
	uint64_t space_life;
	uint32_t next;
	uint32_t n;
	uint8_t status[KVP_ITEMS_MAX];
	struct removal_key keys[];
};

static void removal_destroy(struct core *core, struct op *op)
{
	free(list_entry(op, struct removal, op));
}

/* One key. Whether it is done within the budget. */
static bool delete_one(struct core *core, struct removal *removal, uint32_t *budget)
{
	struct block_key key = { removal->keys[removal->next].bytes, removal->keys[removal->next].n };
	uint64_t hash = kvp_key_hash(core->arena.header->hash_seed, removal->space_id, key.bytes, key.n);
	uint32_t before = *budget;
	uint32_t block = index_find(&core->arena, hash, removal->space_id, key.bytes, key.n);
	struct tier_block found;
	bool below = tiering_find(core, removal->space_id, key, &found);
	bool gone = !block || block_kill_tree(core, block, KVP_FATE_DELETED, budget);

	/* Also what descends from it and is on the tier alone. */
	if (gone)
		tiering_remove(core, removal->space_id, key);
	curve_forget(core, hash);
	counter_add(core, deleted_total, before - *budget);
	/* A tree larger than a batch takes several turns: it was there in the first. */
	if (block || below)
		removal->status[removal->next] = KVP_OK;
	else if (removal->status[removal->next] != KVP_OK)
		removal->status[removal->next] = KVP_MISS;
	return gone;
}

/* The session dropped the space that it meant. */
static enum op_progress space_gone(struct core_session *session, const struct op *op)
{
	Reply reply = KVPAGED__V1__REPLY__INIT;

	reply.id = op->id;
	(void)reply_fail(&reply, KVP_NO_SPACE_NAMED, "the space was dropped by a request before this one");
	reply_send(session, &reply, 0);
	return OP_DONE;
}

static enum op_progress delete_step(struct core_session *session, struct op *op)
{
	struct removal *removal = list_entry(op, struct removal, op);
	Reply reply = KVPAGED__V1__REPLY__INIT;
	uint32_t budget = REMOVE_BATCH;

	if (!space_stands(session->core, removal->space_id, removal->space_life))
		return space_gone(session, op);
	for (; removal->next < removal->n; removal->next++)
		if (!delete_one(session->core, removal, &budget))
			return OP_MORE;
	(void)limbo_collect(session->core);
	reply.id = op->id;
	(void)reply_items(session, &reply, removal->status, removal->n);
	return OP_DONE;
}

enum verb_result verb_delete(struct core_session *session, const Request *request, Reply *reply)
{
	const Kvpaged__V1__Delete *body = request->delete_;
	const struct space *space = space_of(session, body->space_id, reply);
	struct removal *removal;

	if (!space)
		return VERB_REPLY;
	if (body->n_keys > KVP_ITEMS_MAX)
		return reply_fail(reply, KVP_RANGE, "at most 1024 keys in a request");
	for (size_t i = 0; i < body->n_keys; i++)
		if (!key_valid(body->keys[i]))
			return reply_fail(reply, KVP_INVALID, "a key is 1..64 bytes");
	removal = calloc(1, sizeof(*removal) + body->n_keys * sizeof(struct removal_key));
	if (!removal)
		return reply_fail(reply, KVP_TOO_MANY, "out of memory");
	removal->op = (struct op){ .id = request->id, .step = delete_step, .destroy = removal_destroy };
	removal->space_id = body->space_id;
	removal->space_life = space->life;
	removal->n = (uint32_t)body->n_keys;
	memset(removal->status, KVP_MISS, sizeof(removal->status));
	for (size_t i = 0; i < body->n_keys; i++) {
		removal->keys[i].n = (uint8_t)body->keys[i].len;
		memcpy(removal->keys[i].bytes, body->keys[i].data, body->keys[i].len);
	}
	op_queue(session, &removal->op);
	return VERB_QUEUED;
}

/* ---- Evict ---- */

struct eviction {
	struct op op;
	uint32_t space_id; /* 0: any */
	uint64_t space_life;
	uint64_t bytes_wanted;
	uint64_t blocks_wanted;
	uint64_t bytes;
	uint64_t blocks;
};

static void eviction_destroy(struct core *core, struct op *op)
{
	free(list_entry(op, struct eviction, op));
}

static enum op_progress evict_step(struct core_session *session, struct op *op)
{
	struct eviction *eviction = list_entry(op, struct eviction, op);
	struct core *core = session->core;
	Kvpaged__V1__EvictReply answer = KVPAGED__V1__EVICT_REPLY__INIT;
	Reply reply = KVPAGED__V1__REPLY__INIT;

	if (eviction->space_id != 0 && !space_stands(core, eviction->space_id, eviction->space_life))
		return space_gone(session, op);
	for (unsigned i = 0;
	     eviction->bytes < eviction->bytes_wanted && eviction->blocks < eviction->blocks_wanted; i++) {
		uint64_t bytes;

		if (i == REMOVE_BATCH)
			return OP_MORE;
		if (!evict_one(core, eviction->space_id, KVP_FATE_EVICTED_REQUEST, &bytes))
			break;
		counter_add(core, evictions_request_total, 1);
		eviction->blocks++;
		eviction->bytes += bytes;
	}
	(void)limbo_collect(core);
	reply.id = op->id;
	answer.blocks = eviction->blocks;
	answer.bytes = eviction->bytes;
	reply.verb_case = KVPAGED__V1__REPLY__VERB_EVICT;
	reply.evict = &answer;
	reply_send(session, &reply, 0);
	return OP_DONE;
}

enum verb_result verb_evict(struct core_session *session, const Request *request, Reply *reply)
{
	const Kvpaged__V1__Evict *body = request->evict;
	struct eviction *eviction;

	if (body->space_id != 0 && !space_of(session, body->space_id, reply))
		return VERB_REPLY;
	if (!body->all && body->bytes == 0 && body->blocks == 0)
		return reply_fail(reply, KVP_INVALID, "Evict needs bytes, blocks or all");
	eviction = calloc(1, sizeof(*eviction));
	if (!eviction)
		return reply_fail(reply, KVP_TOO_MANY, "out of memory");
	eviction->op = (struct op){ .id = request->id, .step = evict_step, .destroy = eviction_destroy };
	eviction->space_id = body->space_id;
	eviction->space_life = session->core->spaces[body->space_id].life;
	eviction->bytes_wanted = body->all || body->bytes == 0 ? UINT64_MAX : body->bytes;
	eviction->blocks_wanted = body->all || body->blocks == 0 ? UINT64_MAX : body->blocks;
	op_queue(session, &eviction->op);
	return VERB_QUEUED;
}

/* ---- DropSpace ---- */

struct drop {
	struct op op;
	uint32_t next; /* block number to look at */
	uint8_t name_bytes;
	uint8_t name[KVP_NAME_BYTES_MAX];
};

static void drop_destroy(struct core *core, struct op *op)
{
	free(list_entry(op, struct drop, op));
}

static bool others_have_it(const struct core_session *session, uint32_t id)
{
	return session->core->spaces[id].sessions > (session_space_open(session, id) ? 1u : 0u);
}

/* Kills what lives in the space, REMOVE_BATCH blocks or 4096 entries a slice. Whether all of it is gone. */
static bool drop_blocks(struct core *core, uint32_t id, struct drop *drop)
{
	uint32_t budget = REMOVE_BATCH;

	for (unsigned looked = 0; core->spaces[id].totals.blocks > 0; looked++) {
		uint32_t before = budget;
		uint32_t block = drop->next;

		if (looked == 4096 || budget == 0)
			return false;
		if (core->blocks[block].state == BLOCK_LIVE && shared_block(core, block)->space_id == id) {
			bool gone = block_kill_tree(core, block, KVP_FATE_SPACE_DROPPED, &budget);

			counter_add(core, deleted_total, before - budget);
			if (!gone)
				return false;
		}
		drop->next = block == core->arena.blocks_count ? 1 : block + 1;
	}
	return true;
}

static enum op_progress drop_step(struct core_session *session, struct op *op)
{
	struct drop *drop = list_entry(op, struct drop, op);
	struct core *core = session->core;
	uint32_t id = space_find(core, drop->name, drop->name_bytes);
	Reply reply = KVPAGED__V1__REPLY__INIT;

	if (!id) {
		(void)reply_fail(&reply, KVP_NO_SPACE_NAMED, "no such space");
	} else if (others_have_it(session, id)) {
		(void)reply_fail(&reply, KVP_BUSY, "another session has the space open");
	} else {
		if (!drop_blocks(core, id, drop))
			return OP_MORE;
		tiering_remove(core, id, (struct block_key){ 0 });
		session_close_space(session, id);
		space_drop(core, id);
		(void)limbo_collect(core);
	}
	reply.id = op->id;
	reply_send(session, &reply, 0);
	return OP_DONE;
}

enum verb_result verb_drop_space(struct core_session *session, const Request *request, Reply *reply)
{
	const Kvpaged__V1__DropSpace *body = request->drop_space;
	struct drop *drop;

	if (body->name.len < 1 || body->name.len > KVP_NAME_BYTES_MAX)
		return reply_fail(reply, KVP_INVALID, "name must be 1..128 bytes");
	drop = calloc(1, sizeof(*drop));
	if (!drop)
		return reply_fail(reply, KVP_TOO_MANY, "out of memory");
	drop->op = (struct op){ .id = request->id, .step = drop_step, .destroy = drop_destroy };
	drop->next = 1;
	drop->name_bytes = (uint8_t)body->name.len;
	memcpy(drop->name, body->name.data, body->name.len);
	op_queue(session, &drop->op);
	return VERB_QUEUED;
}
