/* SPDX-License-Identifier: Apache-2.0 */
/* Why: one key, from every side. */
#include "daemon/core/tiering.h"
#include "daemon/core/verbs.h"

#include "base/units.h"

static void block_fill(struct core *core, uint32_t block, Kvpaged__V1__WhyReply *answer)
{
	const struct kvp_block *shared = shared_block(core, block);
	const struct block *b = &core->blocks[block];

	answer->fate = block_complete(core, block) ? KVP_FATE_PRESENT : KVP_FATE_PARTIAL;
	answer->ago_ms = (core->now_ns - b->used_ns) / NS_PER_MS;
	answer->tokens = shared->tokens;
	answer->pages_ready = atomic_load_explicit(&shared->pages_ready, memory_order_relaxed);
	answer->page_count = shared->page_count;
	answer->leases = b->leases;
	answer->children = b->children;
	answer->priority = core->entries[block].priority;
	answer->stored_bytes = block_stored_bytes(core, block);
}

static void past_fill(struct core *core, uint32_t space_id, ProtobufCBinaryData key, Kvpaged__V1__WhyReply *answer)
{
	uint64_t hash = kvp_key_hash(core->arena.header->hash_seed, space_id, key.data, key.len);
	uint64_t when_ns = core->now_ns;
	struct tier_block found;

	answer->fate = past_find(&core->past, hash, &when_ns);
	if (tiering_find(core, space_id, key_of(key), &found)) {
		answer->fate = KVP_FATE_DEMOTED;
		answer->tokens = found.tokens;
		answer->page_count = found.page_count;
	} else if (answer->fate == KVP_FATE_DEMOTED) {
		answer->fate = KVP_FATE_EVICTED; /* the tier had it, and dropped it */
	}
	answer->ago_ms = core->now_ns > when_ns ? (core->now_ns - when_ns) / NS_PER_MS : 0;
}

/* Names of other spaces with a block of this key. */
static size_t elsewhere_find(struct core *core, uint32_t space_id, ProtobufCBinaryData key,
			     ProtobufCBinaryData names[KVP_WHY_ELSEWHERE_MAX])
{
	size_t n = 0;

	for (uint32_t id = 1; id <= KVP_SPACES_MAX && n < KVP_WHY_ELSEWHERE_MAX; id++) {
		const struct kvp_space_entry *entry = &core->arena.spaces[id - 1];

		if (id != space_id && core->spaces[id].live && block_find(core, id, key_of(key)))
			names[n++] = text_data(entry->name, entry->name_bytes);
	}
	return n;
}

enum verb_result verb_why(struct core_session *session, const Request *request, Reply *reply)
{
	const Kvpaged__V1__Why *body = request->why;
	struct core *core = session->core;
	Kvpaged__V1__WhyReply answer = KVPAGED__V1__WHY_REPLY__INIT;
	ProtobufCBinaryData names[KVP_WHY_ELSEWHERE_MAX];
	uint32_t block;

	if (!space_of(session, body->space_id, reply))
		return VERB_REPLY;
	if (!key_valid(body->key))
		return reply_fail(reply, KVP_INVALID, "a key is 1..64 bytes");
	block = block_find(core, body->space_id, key_of(body->key));
	if (block)
		block_fill(core, block, &answer);
	else
		past_fill(core, body->space_id, body->key, &answer);
	answer.remembered = past_capacity(&core->past);
	answer.n_elsewhere = elsewhere_find(core, body->space_id, body->key, names);
	answer.elsewhere = names;
	reply->verb_case = KVPAGED__V1__REPLY__VERB_WHY;
	reply->why = &answer;
	reply_send(session, reply, 0);
	return VERB_QUEUED;
}
