/* SPDX-License-Identifier: Apache-2.0 */
/* Fetches that wait; see fetching.h. */
#include "daemon/core/fetching.h"

#include "base/contract.h"
#include "daemon/core/tiering.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Keys that one slice looks at. */
#define KEYS_PER_STEP 64

/* A chain of ancestors longer than this is not loaded for the sake of one block. */
#define ANCESTORS_MAX 16384

struct part {
	struct list by_load; /* load.parts, while it waits */
	struct fetching *fetching;
	uint32_t block; /* tied; 0: none */
	uint32_t missing; /* pages in range */
	uint8_t status;
	uint8_t key_bytes;
	uint8_t key[KVP_KEY_BYTES_MAX];
};

struct fetching {
	struct list link;       /* core.fetches until all keys were looked at */
	struct list by_session; /* session.fetches */
	struct core_session *session;
	uint64_t id;
	uint64_t begin_ns;
	uint32_t verb;
	uint32_t space_id;
	uint64_t space_life;
	uint32_t ttl_ms; /* 0: without leases */
	bool prefetch;
	bool for_ancestor; /* core.load_begun is an ancestor of its next key */
	struct page_range range;
	uint32_t next;    /* key to look at */
	uint32_t waiting; /* parts */
	uint32_t n;
	struct part parts[];
};

static struct block_key block_key_of(const struct part *part)
{
	return (struct block_key){ .bytes = part->key, .n = part->key_bytes };
}

/* ---- Life ---- */

enum verb_result fetching_begin(struct core_session *session, const Request *request, const struct page_range *range,
				uint32_t ttl_ms, Reply *reply)
{
	const Kvpaged__V1__Fetch *body = request->fetch;
	struct core *core = session->core;
	struct fetching *fetching = calloc(1, sizeof(*fetching) + body->n_keys * sizeof(struct part));

	if (!fetching)
		return reply_fail(reply, KVP_TOO_MANY, "out of memory");
	*fetching = (struct fetching){
		.session = session,
		.id = request->id,
		.begin_ns = core->now_ns,
		.verb = core->verb,
		.space_id = body->space_id,
		.space_life = core->spaces[body->space_id].life,
		.ttl_ms = ttl_ms,
		.prefetch = body->prefetch,
		.range = *range,
		.n = (uint32_t)body->n_keys,
	};
	for (uint32_t i = 0; i < fetching->n; i++) {
		struct part *part = &fetching->parts[i];

		list_init(&part->by_load);
		part->fetching = fetching;
		part->status = KVP_INVALID;
		if (!key_valid(body->keys[i]))
			continue;
		part->key_bytes = (uint8_t)body->keys[i].len;
		memcpy(part->key, body->keys[i].data, body->keys[i].len);
	}
	list_push_back(&session->fetches, &fetching->by_session);
	list_push_back(&core->fetches, &fetching->link);
	session->in_flight++;
	return VERB_QUEUED;
}

static void fetching_free(struct fetching *fetching)
{
	struct core *core = fetching->session->core;

	for (uint32_t i = 0; i < fetching->n; i++) {
		list_unlink(&fetching->parts[i].by_load);
		if (fetching->parts[i].block)
			block_untie(core, fetching->parts[i].block);
	}
	list_unlink(&fetching->link);
	list_unlink(&fetching->by_session);
	fetching->session->in_flight--;
	free(fetching);
}

void fetching_forget(struct core_session *session)
{
	list_for_each_safe(node, after, &session->fetches)
		fetching_free(list_entry(node, struct fetching, by_session));
}

bool fetching_waits(const struct core_session *session, uint64_t id)
{
	list_for_each(node, &session->fetches)
		if (list_entry(node, struct fetching, by_session)->id == id)
			return true;
	return false;
}

/* ---- Answers ---- */

static void part_answer(struct fetching *fetching, struct part *part, Kvpaged__V1__FetchItem *item)
{
	struct core *core = fetching->session->core;

	kvpaged__v1__fetch_item__init(item);
	if (part->status == KVP_OK && core->blocks[part->block].state != BLOCK_LIVE)
		part->status = KVP_MISS;
	if (fetching->prefetch)
		item->status = part->status;
	else if (part->status == KVP_OK)
		fetch_deliver(fetching->session, part->block, &fetching->range, fetching->ttl_ms, item);
	else
		item->status = part->status;
	if (item->status == KVP_MISS)
		fetch_count_miss(core, fetching->space_id, block_key_of(part));
}

static void fetching_answer(struct fetching *fetching)
{
	struct core_session *session = fetching->session;
	struct core *core = session->core;
	Kvpaged__V1__FetchReply answer = KVPAGED__V1__FETCH_REPLY__INIT;
	Reply reply = KVPAGED__V1__REPLY__INIT;

	for (uint32_t i = 0; i < fetching->n; i++) {
		part_answer(fetching, &fetching->parts[i], &core->scratch.fetch_items[i]);
		core->scratch.fetch_item_pointers[i] = &core->scratch.fetch_items[i];
	}
	reply.id = fetching->id;
	answer.n_items = fetching->n;
	answer.items = core->scratch.fetch_item_pointers;
	reply.verb_case = KVPAGED__V1__REPLY__VERB_FETCH;
	reply.fetch = &answer;
	reply_send(session, &reply, 0);
	session_note_request(core, fetching->verb, fetching->begin_ns);
	fetching_free(fetching);
}

static void answer_if_done(struct fetching *fetching)
{
	if (fetching->next == fetching->n && (fetching->waiting == 0 || fetching->prefetch))
		fetching_answer(fetching);
}

/* ---- Waiting ---- */

static uint32_t pages_missing(const struct core *core, uint32_t block, const struct page_range *range, uint32_t groups)
{
	uint32_t missing = 0;

	for (uint32_t layer = range->layer_begin; layer < range->layer_end; layer++)
		for (uint32_t group = range->group_begin; group < range->group_end; group++)
			missing += !block_page_ready(core, block, layer * groups + group);
	return missing;
}

static void part_wait(struct part *part, struct load *load)
{
	struct core *core = load->core;

	part->block = load->block;
	block_tie(core, part->block);
	part->missing = pages_missing(core, part->block, &part->fetching->range, load->groups);
	part->fetching->waiting++;
	list_push_back(&load->parts, &part->by_load);
}

static void part_settle(struct part *part, enum kvp_status status)
{
	part->status = (uint8_t)status;
	list_unlink(&part->by_load);
	part->fetching->waiting--;
	answer_if_done(part->fetching);
}

void fetching_page(struct load *load, uint32_t page)
{
	uint32_t layer = page / load->groups, group = page % load->groups;

	list_for_each_safe(node, after, &load->parts) {
		struct part *part = list_entry(node, struct part, by_load);
		const struct page_range *range = &part->fetching->range;

		if (layer >= range->layer_begin && layer < range->layer_end && group >= range->group_begin &&
		    group < range->group_end && --part->missing == 0)
			part_settle(part, KVP_OK);
	}
}

/* Pages that an append brought meanwhile count as well. */
void fetching_load_over(struct load *load, enum kvp_status status)
{
	list_for_each_safe(node, after, &load->parts) {
		struct part *part = list_entry(node, struct part, by_load);
		bool ready = load->block && range_ready(load->core, load->block, &part->fetching->range);

		part_settle(part, ready ? KVP_OK : status == KVP_OK ? KVP_MISS : status);
	}
}

/* ---- Preparing ---- */

/*
 * What has to be loaded first for the sake of key: itself, or its highest ancestor that is not resident; and that one's
 * parent, which is, or 0. false: the chain ends in a block that is nowhere.
 */
static bool first_to_load(struct core *core, uint32_t space_id, struct block_key key, struct tier_block *ret_found,
			  uint32_t *ret_parent)
{
	uint8_t bytes[KVP_KEY_BYTES_MAX];

	for (unsigned i = 0; i < ANCESTORS_MAX; i++) {
		struct tier_block found;
		uint32_t parent;

		if (!tiering_find(core, space_id, key, &found))
			return false;
		parent = found.parent.n == 0 ? 0 : block_find(core, space_id, found.parent);
		if (parent || found.parent.n == 0) {
			*ret_found = found;
			*ret_parent = parent;
			return true;
		}
		/* What the tier points to is valid until its next call only. */
		memcpy(bytes, found.parent.bytes, found.parent.n);
		key = (struct block_key){ .bytes = bytes, .n = found.parent.n };
	}
	return false;
}

/*
 * Begins the load that this part needs next. Results: KVP_OK (the part waits for it); -EAGAIN (come again: more is to
 * be loaded before, or room to be made); -EBUSY (when a transfer has ended); or the part's status.
 */
static int part_load(struct core *core, struct part *part)
{
	struct fetching *fetching = part->fetching;
	struct tier_block found;
	struct load *load;
	uint32_t parent;
	bool own;
	int r;

	if (!first_to_load(core, fetching->space_id, block_key_of(part), &found, &parent))
		return KVP_MISS;
	if (loading_busy(core))
		return -EBUSY;
	own = found.key.n == part->key_bytes && memcmp(found.key.bytes, part->key, part->key_bytes) == 0;
	r = load_begin(core, fetching->space_id, &found, parent, &fetching->range, &load);
	if (r != KVP_OK)
		return r == -ENOMEM ? KVP_TOO_MANY : r;
	core->load_begun = load;
	fetching->for_ancestor = !own;
	if (!own)
		return -EAGAIN;
	part_wait(part, load);
	return KVP_OK;
}

/* Results as part_load()'s. */
static int part_prepare(struct core *core, struct part *part)
{
	struct fetching *fetching = part->fetching;
	uint32_t block;

	if (part->key_bytes == 0)
		return KVP_INVALID;
	if (!space_stands(core, fetching->space_id, fetching->space_life))
		return KVP_MISS;
	block = block_find(core, fetching->space_id, block_key_of(part));
	if (!block)
		return part_load(core, part);
	if (range_ready(core, block, &fetching->range)) {
		part->block = block;
		block_tie(core, block);
		return KVP_OK;
	}
	if (!core->blocks[block].load)
		return KVP_PARTIAL;
	part_wait(part, core->blocks[block].load);
	return KVP_OK;
}

/* The fetch's next key is prepared, with this result. */
static void next_end(struct fetching *fetching, enum kvp_status status)
{
	fetching->for_ancestor = false;
	fetching->parts[fetching->next++].status = (uint8_t)status;
	if (fetching->next == fetching->n)
		list_unlink(&fetching->link);
	answer_if_done(fetching);
}

/*
 * Continues the load that is being begun, if there is one. Results: KVP_OK (none is now); -EAGAIN, -EBUSY as
 * part_load()'s. An ancestor without room ends the key that it was to be loaded for, which would ask for it again and
 * again.
 */
static int begun_continue(struct core *core)
{
	struct load *load = core->load_begun;
	struct list *first;
	int r;

	if (!load)
		return KVP_OK;
	r = load_continue(load);
	if (r < 0)
		return r;
	core->load_begun = NULL;
	first = list_first(&core->fetches);
	if (r == KVP_NO_SPACE && first && list_entry(first, struct fetching, link)->for_ancestor)
		next_end(list_entry(first, struct fetching, link), KVP_NO_SPACE);
	return KVP_OK;
}

/* Prepares the next key of the first fetch. Results: KVP_OK; -ENOENT (there is none); -EAGAIN, -EBUSY. */
static int next_prepare(struct core *core)
{
	struct list *first = list_first(&core->fetches);
	struct fetching *fetching;
	int r;

	if (!first)
		return -ENOENT;
	fetching = list_entry(first, struct fetching, link);
	r = part_prepare(core, &fetching->parts[fetching->next]);
	if (r >= 0)
		next_end(fetching, (enum kvp_status)r);
	return r < 0 ? r : KVP_OK;
}

bool fetching_step(struct core *core)
{
	if (core->fetches_blocked)
		return false;
	for (unsigned i = 0; i < KEYS_PER_STEP; i++) {
		int r = begun_continue(core);

		if (r == KVP_OK)
			r = next_prepare(core);
		core->fetches_blocked = r == -EBUSY;
		if (r < 0)
			return r == -EAGAIN;
	}
	return true;
}
