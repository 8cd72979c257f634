/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fetch, Release and Match: what readers ask. All but a Fetch that waits for the tier are done at once; none copies a
 * page.
 */
#include "daemon/core/curve.h"
#include "daemon/core/fetching.h"
#include "daemon/core/lease.h"
#include "daemon/core/tiering.h"
#include "daemon/core/verbs.h"

#include "base/units.h"

/* Whether the block at this key, which goes to ret_block (0: there is none), has the wanted pages. */
static enum kvp_status look_up(struct core *core, uint32_t space_id, ProtobufCBinaryData key,
			       const struct page_range *range, uint32_t *ret_block)
{
	*ret_block = 0;
	if (!key_valid(key))
		return KVP_INVALID;
	*ret_block = block_find(core, space_id, key_of(key));
	if (!*ret_block)
		return KVP_MISS;
	return range_ready(core, *ret_block, range) ? KVP_OK : KVP_PARTIAL;
}

/* Whether a key that look_up() found like this is being brought up, or is on the tier: ret_found, with KVP_MISS. */
static bool is_loadable(struct core *core, uint32_t space_id, ProtobufCBinaryData key, enum kvp_status status,
			uint32_t block, struct tier_block *ret_found)
{
	if (status == KVP_PARTIAL)
		return core->blocks[block].load;
	return status == KVP_MISS && tiering_find(core, space_id, key_of(key), ret_found);
}

/* Checks what Fetch and Match share. NULL with the reply failed. */
static struct space *read_space(struct core_session *session, uint32_t space_id, size_t n_keys,
				const Kvpaged__V1__Range *range, struct page_range *ret_range, Reply *reply)
{
	struct space *space = space_of(session, space_id, reply);

	if (!space)
		return NULL;
	if (n_keys > KVP_ITEMS_MAX) {
		(void)reply_fail(reply, KVP_RANGE, "at most 1024 keys in a request");
		return NULL;
	}
	if (!range_resolve(space, range, ret_range)) {
		(void)reply_fail(reply, KVP_RANGE, "the range is beyond the space's layers or heads");
		return NULL;
	}
	return space;
}

void fetch_count_miss(struct core *core, uint32_t space_id, struct block_key key)
{
	uint64_t hash = kvp_key_hash(core->arena.header->hash_seed, space_id, key.bytes, key.n);
	uint64_t when_ns;

	switch (past_find(&core->past, hash, &when_ns)) {
	case KVP_FATE_UNKNOWN:
		counter_add(core, fetch_miss_never_total, 1);
		break;
	case KVP_FATE_EVICTED:
	case KVP_FATE_DEMOTED:
	case KVP_FATE_LOST:
		counter_add(core, fetch_miss_evicted_total, 1);
		break;
	default:
		counter_add(core, fetch_miss_removed_total, 1);
	}
}

void fetch_deliver(struct core_session *session, uint32_t block, const struct page_range *range, uint32_t ttl_ms,
		   Kvpaged__V1__FetchItem *item)
{
	struct core *core = session->core;

	item->status = KVP_OK;
	if (ttl_ms > 0)
		item->status = (uint32_t)lease_take(session, block, ttl_ms, &item->lease_id);
	if (item->status != KVP_OK) {
		counter_add(core, quota_refused_total, 1);
		return;
	}
	block_touch(core, block);
	tiering_read(core, block);
	if (range->layer_begin == 0 && range->group_begin == 0)
		curve_use(core, block, 1);
	counter_add(core, fetch_hits_total, 1);
	item->block = block;
	item->generation = atomic_load_explicit(&shared_block(core, block)->generation, memory_order_relaxed);
	item->tokens = shared_block(core, block)->tokens;
}

/* Looks all keys up, into the reply that is being made. false: some have to be waited for, and are to be. */
static bool fetch_look(struct core *core, const Kvpaged__V1__Fetch *fetch, const struct page_range *range)
{
	for (size_t i = 0; i < fetch->n_keys; i++) {
		Kvpaged__V1__FetchItem *item = &core->scratch.fetch_items[i];
		struct tier_block found;
		enum kvp_status status;

		kvpaged__v1__fetch_item__init(item);
		status = look_up(core, fetch->space_id, fetch->keys[i], range, &item->block);
		if (!fetch->resident_only &&
		    is_loadable(core, fetch->space_id, fetch->keys[i], status, item->block, &found))
			return false;
		item->status = status;
		core->scratch.fetch_item_pointers[i] = item;
	}
	return true;
}

/* Delivers one that was looked up, or counts it. ttl_ms 0: without a lease. */
static void fetch_one(struct core_session *session, const Kvpaged__V1__Fetch *fetch, ProtobufCBinaryData key,
		      const struct page_range *range, uint32_t ttl_ms, Kvpaged__V1__FetchItem *item)
{
	struct core *core = session->core;
	uint32_t block = item->block;

	item->block = 0;
	if (item->status == KVP_MISS)
		fetch_count_miss(core, fetch->space_id, key_of(key));
	if (item->status == KVP_PARTIAL)
		counter_add(core, fetch_partial_total, 1);
	if (item->status == KVP_OK && !fetch->prefetch)
		fetch_deliver(session, block, range, ttl_ms, item);
}

enum verb_result verb_fetch(struct core_session *session, const Request *request, Reply *reply)
{
	const Kvpaged__V1__Fetch *fetch = request->fetch;
	struct core *core = session->core;
	Kvpaged__V1__FetchReply answer = KVPAGED__V1__FETCH_REPLY__INIT;
	uint32_t ttl_ms = fetch->lease_ttl_ms ? fetch->lease_ttl_ms : core->limits.lease_ttl_ms;
	struct page_range range;

	if (!read_space(session, fetch->space_id, fetch->n_keys, fetch->range, &range, reply))
		return VERB_REPLY;
	if (ttl_ms > core->limits.lease_ttl_ms_max)
		ttl_ms = core->limits.lease_ttl_ms_max;
	if (fetch->no_lease)
		ttl_ms = 0;
	if (!fetch_look(core, fetch, &range))
		return fetching_begin(session, request, &range, ttl_ms, reply);
	for (size_t i = 0; i < fetch->n_keys; i++)
		fetch_one(session, fetch, fetch->keys[i], &range, ttl_ms, &core->scratch.fetch_items[i]);
	answer.n_items = fetch->n_keys;
	answer.items = core->scratch.fetch_item_pointers;
	reply->verb_case = KVPAGED__V1__REPLY__VERB_FETCH;
	reply->fetch = &answer;
	reply_send(session, reply, 0);
	return VERB_QUEUED;
}

enum verb_result verb_release(struct core_session *session, const Request *request, Reply *reply)
{
	const Kvpaged__V1__Release *release = request->release;
	struct core *core = session->core;

	if (release->n_lease_ids > KVP_ITEMS_MAX)
		return reply_fail(reply, KVP_RANGE, "at most 1024 leases in a request");
	for (size_t i = 0; i < release->n_lease_ids; i++) {
		struct lease *lease = lease_find(session, release->lease_ids[i]);

		core->scratch.item_status[i] = lease ? KVP_OK : KVP_STALE;
		if (lease)
			lease_end(core, lease);
	}
	return reply_items(session, reply, core->scratch.item_status, release->n_lease_ids);
}

static void match_count(struct core *core, size_t asked, size_t matched)
{
	counter_add(core, match_hits_total, matched);
	counter_add(core, match_misses_total, asked - matched);
	if (matched == asked)
		counter_add(core, matches_full_total, 1);
	else if (matched > 0)
		counter_add(core, matches_partial_total, 1);
	else
		counter_add(core, matches_none_total, 1);
}

/* How many of the keys behind the resident ones a fetch would bring up, and how long that would take. */
static void loadable_count(struct core *core, const Kvpaged__V1__Match *match, const struct page_range *range,
			   Kvpaged__V1__MatchReply *answer)
{
	uint64_t bytes = 0;

	for (size_t i = answer->matched; i < match->n_keys; i++, answer->loadable++) {
		struct tier_block found;
		uint32_t block;
		enum kvp_status status = look_up(core, match->space_id, match->keys[i], range, &block);

		if (status == KVP_OK)
			continue;
		if (!is_loadable(core, match->space_id, match->keys[i], status, block, &found))
			break;
		if (status == KVP_MISS)
			bytes += (uint64_t)found.page_count * found.slot_bytes;
	}
	if (answer->loadable > 0)
		answer->load_us = core->tier->ops->forecast_ns(core->tier, bytes) / NS_PER_US;
}

enum verb_result verb_match(struct core_session *session, const Request *request, Reply *reply)
{
	const Kvpaged__V1__Match *match = request->match;
	struct core *core = session->core;
	Kvpaged__V1__MatchReply answer = KVPAGED__V1__MATCH_REPLY__INIT;
	struct page_range range;

	if (!read_space(session, match->space_id, match->n_keys, match->range, &range, reply))
		return VERB_REPLY;
	for (size_t i = 0; i < match->n_keys; i++) {
		uint32_t block;

		answer.status = look_up(core, match->space_id, match->keys[i], &range, &block);
		if (answer.status != KVP_OK)
			break;
		block_touch(core, block);
		answer.matched++;
	}
	match_count(core, match->n_keys, answer.matched);
	loadable_count(core, match, &range, &answer);
	reply->verb_case = KVPAGED__V1__REPLY__VERB_MATCH;
	reply->match = &answer;
	reply_send(session, reply, 0);
	return VERB_QUEUED;
}
