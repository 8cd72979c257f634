/* SPDX-License-Identifier: Apache-2.0 */
/* Touch, Pin and Unpin: hints to eviction, one status a key. */
#include "daemon/core/curve.h"
#include "daemon/core/verbs.h"

#include "base/units.h"

/* What is done to each block. Returns its status. */
typedef enum kvp_status keep_fn(struct core *core, uint32_t block, const Request *request);

static enum verb_result for_each_key(struct core_session *session, uint32_t space_id, size_t n_keys,
				     const ProtobufCBinaryData *keys, const Request *request, keep_fn *fn,
				     Reply *reply)
{
	struct core *core = session->core;

	if (!space_of(session, space_id, reply))
		return VERB_REPLY;
	if (n_keys > KVP_ITEMS_MAX)
		return reply_fail(reply, KVP_RANGE, "at most 1024 keys in a request");
	for (size_t i = 0; i < n_keys; i++) {
		uint32_t block = key_valid(keys[i]) ? block_find(core, space_id, key_of(keys[i])) : 0;

		if (block)
			core->scratch.item_status[i] = (uint8_t)fn(core, block, request);
		else
			core->scratch.item_status[i] = key_valid(keys[i]) ? KVP_MISS : KVP_INVALID;
	}
	return reply_items(session, reply, core->scratch.item_status, n_keys);
}

static enum kvp_status touch(struct core *core, uint32_t block, const Request *request)
{
	block_touch(core, block);
	curve_use(core, block, 1);
	return KVP_OK;
}

static enum kvp_status pin(struct core *core, uint32_t block, const Request *request)
{
	struct block *b = &core->blocks[block];

	if (deadline_arm(&core->deadlines, &b->keep, core->now_ns + request->pin->ttl_ms * NS_PER_MS) < 0)
		return KVP_TOO_MANY;
	block_set_priority(core, block, request->pin->priority);
	return KVP_OK;
}

static enum kvp_status unpin(struct core *core, uint32_t block, const Request *request)
{
	deadline_disarm(&core->deadlines, &core->blocks[block].keep);
	block_set_priority(core, block, 0);
	return KVP_OK;
}

enum verb_result verb_touch(struct core_session *session, const Request *request, Reply *reply)
{
	const Kvpaged__V1__Touch *body = request->touch;

	return for_each_key(session, body->space_id, body->n_keys, body->keys, request, touch, reply);
}

enum verb_result verb_pin(struct core_session *session, const Request *request, Reply *reply)
{
	const Kvpaged__V1__Pin *body = request->pin;

	if (body->priority < 1 || body->priority > KVP_PIN_PRIORITY_MAX)
		return reply_fail(reply, KVP_RANGE, "priority must be 1..15");
	if (body->ttl_ms < 1 || body->ttl_ms > session->core->limits.keep_ttl_ms_max)
		return reply_fail(reply, KVP_RANGE,
				  "ttl_ms must be 1 up to the daemon's block.keep_ttl_ms_max");
	return for_each_key(session, body->space_id, body->n_keys, body->keys, request, pin, reply);
}

enum verb_result verb_unpin(struct core_session *session, const Request *request, Reply *reply)
{
	const Kvpaged__V1__Unpin *body = request->unpin;

	return for_each_key(session, body->space_id, body->n_keys, body->keys, request, unpin, reply);
}
