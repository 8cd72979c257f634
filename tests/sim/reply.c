/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an answer may be: one for each request, in order where order is promised, and each status as the model has it.
 * Here is what all have in common, and what changes blocks; reading is in reply-read.c, spaces and sessions are in
 * reply-space.c.
 */
#include "tests/sim/sim.h"

#include "proto/status.h"

#include <inttypes.h>

void sim_status_check(struct sim *sim, const struct sim_ask *ask, uint32_t status, uint32_t expected)
{
	if (status != expected)
		sim_fail(sim, "%s was answered %s instead of %s", sim_verb_name(ask->step.verb), status_name(status),
			 status_name(expected));
}

static struct sim_ask *ask_find(const struct sim_peer *peer, uint64_t id)
{
	list_for_each(node, &peer->asks)
		if (list_entry(node, struct sim_ask, link)->id == id)
			return list_entry(node, struct sim_ask, link);
	return NULL;
}

/* Done in the session's order. */
static bool in_order(const struct sim_ask *ask)
{
	return ask->later && (ask->verb == KVPAGED__V1__REQUEST__VERB_APPEND ||
			      ask->verb == KVPAGED__V1__REQUEST__VERB_DELETE ||
			      ask->verb == KVPAGED__V1__REQUEST__VERB_EVICT ||
			      ask->verb == KVPAGED__V1__REQUEST__VERB_DROP_SPACE);
}

static void order_check(struct sim_peer *peer, const struct sim_ask *ask)
{
	if (!in_order(ask))
		return;
	list_for_each(node, &peer->asks) {
		const struct sim_ask *other = list_entry(node, struct sim_ask, link);

		if (other == ask)
			return;
		if (in_order(other))
			sim_fail(peer->sim, "peer %u: request %" PRIu64 " was answered before request %" PRIu64,
				 peer->number, ask->id, other->id);
	}
}

/* ---- Append ---- */

static void append_page_check(struct sim_peer *peer, const struct sim_ask *ask, uint32_t i, uint8_t status,
			      const struct block_view *view)
{
	struct sim *sim = peer->sim;
	uint32_t page = ask->pages[i];

	sim->counts.append_pages += status == KVP_OK;
	sim->counts.append_present += status == KVP_PRESENT;
	sim->counts.append_corrupt += status == KVP_CORRUPT;
	sim->counts.append_no_space += status == KVP_NO_SPACE;
	if (status != KVP_OK && status != KVP_PRESENT && status != KVP_CORRUPT && status != KVP_NO_SPACE)
		sim_fail(sim, "a page was answered %s", status_name(status));
	if ((status == KVP_OK || status == KVP_CORRUPT) && (status == KVP_CORRUPT) != ask->bad[i])
		sim_fail(sim, "a page with a %s checksum was answered %s", ask->bad[i] ? "wrong" : "right",
			 status_name(status));
	if (!view || status != KVP_OK)
		return;
	if (!(view->map[page].flags & KVP_PAGE_READY) ||
	    sim_page_check(sim, ask->space, ask->keys[0], view, page, true) != ask->version)
		sim_fail(sim, "a page that was stored is not there");
}

static void append_done(struct sim_peer *peer, struct sim_ask *ask, const Kvpaged__V1__AppendReply *body)
{
	struct sim *sim = peer->sim;
	struct block_view view;
	bool found = sim_find(sim, ask->space, ask->keys[0], &view);
	bool given_up = false, any = false;
	uint32_t there = 0;

	if (body->page_status.len != ask->n)
		sim_fail(sim, "%zu page statuses for %u pages", body->page_status.len, ask->n);
	for (uint32_t i = 0; i < ask->n; i++) {
		uint8_t status = body->page_status.data[i];

		given_up |= status == KVP_NO_SPACE;
		any |= status == KVP_OK || status == KVP_PRESENT;
		there += status == KVP_OK || status == KVP_PRESENT;
		append_page_check(peer, ask, i, status, found ? &view : NULL);
	}
	if (!found && any && !given_up)
		sim_fail(sim, "a block that was stored is not there");
	if (body->complete && (!found || !sim_complete(&view)))
		sim_fail(sim, "a block is said to be complete that is not");
	if (there == page_count(sim_schema(sim, ask->space)) && !body->complete)
		sim_fail(sim, "a block whose pages were all stored is not complete");
}

static void append_failed(struct sim_peer *peer, struct sim_ask *ask, uint32_t status)
{
	struct sim *sim = peer->sim;
	struct block_view view;
	bool found = sim_find(sim, ask->space, ask->keys[0], &view);

	switch (status) {
	case KVP_NO_PARENT:
		if (found || !ask->parent || sim_find(sim, ask->space, ask->parent - 1, &view))
			sim_fail(sim, "no parent, though it is there");
		return;
	case KVP_CONFLICT:
		if (!found)
			sim_fail(sim, "a conflict with a block that is not there");
		return;
	case KVP_NO_SPACE:
	case KVP_STALE:
		return;
	}
	sim_fail(sim, "an append was answered %s", status_name(status));
}

static void reply_append(struct sim_peer *peer, struct sim_ask *ask, const Kvpaged__V1__Reply *reply)
{
	if (reply->status == KVP_OK)
		append_done(peer, ask, reply->append);
	else
		append_failed(peer, ask, reply->status);
	if (reply->status != KVP_OK)
		peer->sim->counts.append_unknown += ask->n;
}

/* ---- Delete, Evict ---- */

static void reply_delete(struct sim_peer *peer, struct sim_ask *ask, const Kvpaged__V1__Reply *reply)
{
	struct sim *sim = peer->sim;
	struct block_view view;

	sim_status_check(sim, ask, reply->status, KVP_OK);
	if (reply->items->item_status.len != ask->n)
		sim_fail(sim, "a Delete has %zu statuses for %u keys", reply->items->item_status.len, ask->n);
	for (uint32_t i = 0; i < ask->n; i++) {
		uint8_t status = reply->items->item_status.data[i];

		if (status != KVP_OK && status != KVP_MISS)
			sim_fail(sim, "a key was deleted with %s", status_name(status));
		sim_floor_raise(sim, ask->space, ask->keys[i], ask->floors[i]);
	}
	/* The others may have been appended again between slices. */
	if (sim_find(sim, ask->space, ask->keys[ask->n - 1], &view))
		sim_fail(sim, "a block that was just deleted is there");
}

static void reply_evict(struct sim_peer *peer, struct sim_ask *ask, const Kvpaged__V1__Reply *reply)
{
	sim_status_check(peer->sim, ask, reply->status, KVP_OK);
	if (reply->evict->blocks > ask->max)
		sim_fail(peer->sim, "more was evicted than was asked for");
	peer->sim->answer.blocks = reply->evict->blocks;
}

/* ---- All ---- */

static const struct {
	sim_reply_fn *check;
	int verb; /* of the answer */
	bool of_space;
} checks[] = {
	[KVPAGED__V1__REQUEST__VERB_HELLO] = { sim_reply_hello, KVPAGED__V1__REPLY__VERB_HELLO, false },
	[KVPAGED__V1__REQUEST__VERB_OPEN_SPACE] = { sim_reply_open, KVPAGED__V1__REPLY__VERB_OPEN_SPACE, false },
	[KVPAGED__V1__REQUEST__VERB_APPEND] = { reply_append, KVPAGED__V1__REPLY__VERB_APPEND, true },
	[KVPAGED__V1__REQUEST__VERB_FETCH] = { sim_reply_fetch, KVPAGED__V1__REPLY__VERB_FETCH, true },
	[KVPAGED__V1__REQUEST__VERB_RELEASE] = { sim_reply_release, KVPAGED__V1__REPLY__VERB_ITEMS, false },
	[KVPAGED__V1__REQUEST__VERB_MATCH] = { sim_reply_match, KVPAGED__V1__REPLY__VERB_MATCH, true },
	[KVPAGED__V1__REQUEST__VERB_DELETE] = { reply_delete, KVPAGED__V1__REPLY__VERB_ITEMS, true },
	[KVPAGED__V1__REQUEST__VERB_TOUCH] = { sim_reply_keep, KVPAGED__V1__REPLY__VERB_ITEMS, true },
	[KVPAGED__V1__REQUEST__VERB_PIN] = { sim_reply_keep, KVPAGED__V1__REPLY__VERB_ITEMS, true },
	[KVPAGED__V1__REQUEST__VERB_UNPIN] = { sim_reply_keep, KVPAGED__V1__REPLY__VERB_ITEMS, true },
	[KVPAGED__V1__REQUEST__VERB_STATS] = { sim_reply_stats, KVPAGED__V1__REPLY__VERB_STATS, false },
	[KVPAGED__V1__REQUEST__VERB_EVICT] = { reply_evict, KVPAGED__V1__REPLY__VERB_EVICT, true },
	[KVPAGED__V1__REQUEST__VERB_LIST] = { sim_reply_list, KVPAGED__V1__REPLY__VERB_LIST, true },
	[KVPAGED__V1__REQUEST__VERB_DROP_SPACE] = { sim_reply_drop, 0, false },
	[KVPAGED__V1__REQUEST__VERB_CONFIG] = { sim_reply_stats, KVPAGED__V1__REPLY__VERB_CONFIG, false },
	[KVPAGED__V1__REQUEST__VERB_WHY] = { sim_reply_why, KVPAGED__V1__REPLY__VERB_WHY, true },
	[KVPAGED__V1__REQUEST__VERB_RESIZE] = { sim_reply_resize, KVPAGED__V1__REPLY__VERB_RESIZE, false },
	[KVPAGED__V1__REQUEST__VERB_SUBSCRIBE] = { sim_reply_subscribe, KVPAGED__V1__REPLY__VERB_SUBSCRIBE, false },
};

/* A request that ends the session, or one without a verb; see act.c. */
static bool is_protest(struct sim_peer *peer, const struct sim_ask *ask, const Kvpaged__V1__Reply *reply)
{
	if (reply->status == KVP_PROTOCOL && peer->over)
		return true;
	return ask && ask->step.verb == SIM_GARBAGE && reply->status == KVP_UNSUPPORTED;
}

/* The session itself dropped the space by a request before this one. */
static bool is_too_late(const struct sim_peer *peer, const struct sim_ask *ask)
{
	bool any_space = ask->verb == KVPAGED__V1__REQUEST__VERB_EVICT && ask->step.value % 2;

	return in_order(ask) && checks[ask->verb].of_space && !any_space &&
	       peer->sim->drops[ask->space] != ask->drops;
}

static void body_check(struct sim_peer *peer, const struct sim_ask *ask, const Kvpaged__V1__Reply *reply)
{
	int verb = reply->status == KVP_OK ? checks[ask->verb].verb : KVPAGED__V1__REPLY__VERB__NOT_SET;

	if ((int)reply->verb_case != verb)
		sim_fail(peer->sim, "%s was answered with part %d", sim_verb_name(ask->step.verb),
			 (int)reply->verb_case);
}

void sim_reply(struct sim_peer *peer, const Kvpaged__V1__Reply *reply, unsigned flags)
{
	struct sim *sim = peer->sim;
	struct sim_ask *ask = ask_find(peer, reply->id);

	if (is_protest(peer, ask, reply)) {
		if (ask)
			sim_ask_free(ask);
		return;
	}
	if (!ask)
		sim_fail(sim, "peer %u: an answer (%s) to request %" PRIu64 ", which is answered or was never sent",
			 peer->number, status_name(reply->status), reply->id);
	order_check(peer, ask);
	sim->answer = (struct sim_answer){ .came = true, .status = reply->status };
	body_check(peer, ask, reply);
	if (sim->stopping && !ask->later)
		sim_status_check(sim, ask, reply->status, KVP_STOPPING);
	else if (checks[ask->verb].of_space && !ask->later && !ask->had_space)
		sim_status_check(sim, ask, reply->status, KVP_NO_SPACE_NAMED);
	else if (is_too_late(peer, ask))
		sim_status_check(sim, ask, reply->status, KVP_NO_SPACE_NAMED);
	else
		checks[ask->verb].check(peer, ask, reply);
	if (peer->waiting == ask)
		peer->waiting = NULL;
	if (peer->resizing == ask)
		peer->resizing = NULL;
	sim_ask_free(ask);
}
