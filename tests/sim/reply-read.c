/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of those who read, compared with what the shared memory shows at that moment. */
#include "tests/sim/sim.h"

#include "base/contract.h"
#include "base/units.h"
#include "proto/fate.h"
#include "proto/status.h"

#include <inttypes.h>

/* ---- Fetch ---- */

static struct sim_held *lease_room(struct sim_peer *peer)
{
	for (unsigned i = 0; i < SIM_LEASES_MAX; i++)
		if (!peer->leases[i].used)
			return &peer->leases[i];
	kvp_unreachable();
}

static uint32_t pages_ready(const struct block_view *view)
{
	uint32_t ready = 0;

	for (uint32_t page = 0; page < view->page_count; page++)
		ready += view->map[page].flags & KVP_PAGE_READY;
	return ready;
}

/* The lease of a fetch that waited began when the core was last called, or later. */
static void lease_note(struct sim_peer *peer, const struct sim_ask *ask, uint32_t key, const struct block_view *view,
		       const Kvpaged__V1__FetchItem *item)
{
	struct sim *sim = peer->sim;
	struct sim_held *lease = lease_room(peer);

	*lease = (struct sim_held){
		.id = item->lease_id,
		.until_least_ns = ask->sent_ns + ask->ttl_ms * NS_PER_MS,
		.until_most_ns = sim->now_ns + ask->ttl_ms * NS_PER_MS,
		.cost = sim_pin_cost(sim, ask->space, pages_ready(view)),
	};
	sim_hold(sim, lease, ask->space, key, view);
	if (sim_pinned(sim, peer->uid, false) > sim->setup.limits.pinned_bytes_per_uid_max)
		sim_fail(sim, "leases of uid %u hold more than its quota", peer->uid);
}

static void fetch_ok_check(struct sim_peer *peer, const struct sim_ask *ask, uint32_t i, bool found,
			   const struct block_view *view, const Kvpaged__V1__FetchItem *item)
{
	struct sim *sim = peer->sim;

	if (!found || !sim_range_ready(sim, ask->space, view, ask))
		sim_fail(sim, "a fetch gave a block that is not there, or not with the pages asked for");
	if (item->block != view->number || item->generation != view->generation || item->tokens != view->tokens)
		sim_fail(sim, "a fetch gave block %u generation %" PRIu64 " for block %u generation %" PRIu64,
			 item->block, item->generation, view->number, view->generation);
	sim->counts.fetch_hits++;
	if ((item->lease_id == 0) != ask->no_lease)
		sim_fail(sim, "a lease that was not asked for, or none that was");
	if (item->lease_id)
		lease_note(peer, ask, ask->keys[i], view, item);
}

/* Of an answer that came at once, all is known; of a later one, what it gives must be there. */
static void fetch_item_check(struct sim_peer *peer, const struct sim_ask *ask, uint32_t i,
			     const Kvpaged__V1__FetchItem *item)
{
	struct sim *sim = peer->sim;
	struct block_view view;
	bool found = sim_find(sim, ask->space, ask->keys[i], &view);
	uint32_t expected = !found ? KVP_MISS : sim_range_ready(sim, ask->space, &view, ask) ? KVP_OK : KVP_PARTIAL;

	sim->answer.items[i] = (uint8_t)item->status;
	if (item->status == KVP_OK && !ask->prefetch) {
		fetch_ok_check(peer, ask, i, found, &view, item);
		return;
	}
	if (item->status == KVP_QUOTA) {
		if (expected != KVP_OK || ask->no_lease ||
		    sim_pinned(sim, peer->uid, true) + sim_pin_cost(sim, ask->space, pages_ready(&view)) <=
			    sim->setup.limits.pinned_bytes_per_uid_max)
			sim_fail(sim, "a lease within the quota was refused");
		return;
	}
	if (!ask->later)
		sim_status_check(sim, ask, item->status, expected);
}

void sim_reply_fetch(struct sim_peer *peer, struct sim_ask *ask, const Kvpaged__V1__Reply *reply)
{
	struct sim *sim = peer->sim;

	sim_status_check(sim, ask, reply->status, KVP_OK);
	if (reply->fetch->n_items != ask->n)
		sim_fail(sim, "a fetch of %u keys has %zu items", ask->n, reply->fetch->n_items);
	if (ask->later && !sim->tier)
		sim_fail(sim, "a fetch waited for a tier that there is not");
	sim->answer.n = ask->n;
	for (uint32_t i = 0; i < ask->n; i++)
		fetch_item_check(peer, ask, i, reply->fetch->items[i]);
}

/* ---- Release ---- */

static struct sim_held *lease_find(struct sim_peer *peer, uint64_t id)
{
	for (unsigned i = 0; i < SIM_LEASES_MAX; i++)
		if (peer->leases[i].used && peer->leases[i].id == id)
			return &peer->leases[i];
	return NULL;
}

void sim_reply_release(struct sim_peer *peer, struct sim_ask *ask, const Kvpaged__V1__Reply *reply)
{
	struct sim *sim = peer->sim;

	sim_status_check(sim, ask, reply->status, KVP_OK);
	for (uint32_t i = 0; i < ask->n; i++) {
		struct sim_held *lease = lease_find(peer, ask->leases[i]);
		uint8_t status = reply->items->item_status.data[i];
		bool sure = lease && lease->until_least_ns > sim->now_ns;

		if (!lease || sure || (status != KVP_OK && status != KVP_STALE))
			sim_status_check(sim, ask, status, lease ? KVP_OK : KVP_STALE);
		if (lease && status == KVP_OK)
			sim_held_check(sim, lease, true);
		if (lease)
			lease->used = false;
		sim->released_ns = sim->now_ns;
	}
}

/* ---- Match ---- */

void sim_reply_match(struct sim_peer *peer, struct sim_ask *ask, const Kvpaged__V1__Reply *reply)
{
	struct sim *sim = peer->sim;
	uint32_t expected = KVP_OK, matched = 0;
	struct block_view view;

	sim_status_check(sim, ask, reply->status, KVP_OK);
	for (; matched < ask->n; matched++) {
		bool found = sim_find(sim, ask->space, ask->keys[matched], &view);

		if (found && sim_range_ready(sim, ask->space, &view, ask))
			continue;
		expected = found ? KVP_PARTIAL : KVP_MISS;
		break;
	}
	if (reply->match->matched != matched || reply->match->status != expected)
		sim_fail(sim, "%u keys matched, then %s; it should be %u, then %s", reply->match->matched,
			 status_name(reply->match->status), matched, status_name(expected));
	if (reply->match->loadable > ask->n - matched)
		sim_fail(sim, "more can be loaded than was asked for");
	sim->counts.match_hits += matched;
	sim->counts.match_misses += ask->n - matched;
	sim->answer.matched = matched;
	sim->answer.loadable = reply->match->loadable;
}

/* ---- Touch, Pin, Unpin ---- */

void sim_reply_keep(struct sim_peer *peer, struct sim_ask *ask, const Kvpaged__V1__Reply *reply)
{
	struct sim *sim = peer->sim;

	sim_status_check(sim, ask, reply->status, KVP_OK);
	for (uint32_t i = 0; i < ask->n; i++) {
		struct sim_key *known = &sim->keys[ask->space][ask->keys[i]];
		struct block_view view;
		bool found = sim_find(sim, ask->space, ask->keys[i], &view);

		sim_status_check(sim, ask, reply->items->item_status.data[i], found ? KVP_OK : KVP_MISS);
		if (!found || ask->step.verb == SIM_TOUCH)
			continue;
		known->priority = ask->step.verb == SIM_PIN ? ask->max : 0;
		known->priority_until_ns = sim->now_ns + ask->ttl_ms * NS_PER_MS;
		known->priority_life = sim_life(&view);
	}
}

/* ---- List, Why ---- */

static uint32_t children_of(const struct sim *sim, uint32_t space, const struct block_view *view)
{
	uint32_t n = 0;

	for (uint32_t key = 0; key < sim->setup.keys; key++) {
		struct block_view child;

		n += sim_find(sim, space, key, &child) && child.parent_hash == view->descriptor->key_hash;
	}
	return n;
}

/* What List and Why tell of a block. */
struct told {
	uint32_t tokens, ready, leases, children, priority;
};

static void told_check(struct sim *sim, uint32_t space, uint32_t key, const struct block_view *view,
		       const struct told *told)
{
	if (told->tokens != view->tokens || told->ready != pages_ready(view))
		sim_fail(sim, "a block's tokens or pages are told wrong");
	if (told->leases < sim_leases_of(sim, view, false) ||
	    told->leases > sim_leases_of(sim, view, true))
		sim_fail(sim, "a block is said to have %u leases", told->leases);
	if (told->children != children_of(sim, space, view))
		sim_fail(sim, "a block is said to have %u children", told->children);
	/* One that is over by time stays until the next tick. */
	if (told->priority != sim_priority_of(sim, space, key, view) &&
	    !(sim->keys[space][key].priority_until_ns > sim->ticked_ns &&
	      told->priority == sim->keys[space][key].priority))
		sim_fail(sim, "a block is said to have priority %u instead of %u", told->priority,
			 sim_priority_of(sim, space, key, view));
}

static void list_item_check(struct sim *sim, uint32_t space, const Kvpaged__V1__ListItem *item)
{
	uint32_t key = sim_key_of(sim, item->key.data, item->key.len);
	struct told told = { item->tokens, item->pages_ready, item->leases, item->children, item->priority };
	struct block_view view;

	if (key == SIM_KEYS_MAX || !sim_find(sim, space, key, &view))
		sim_fail(sim, "a list has a block that nobody finds");
	told_check(sim, space, key, &view, &told);
	if (item->root != (view.parent_hash == 0))
		sim_fail(sim, "a list tells a root for none, or none for a root");
}

void sim_reply_list(struct sim_peer *peer, struct sim_ask *ask, const Kvpaged__V1__Reply *reply)
{
	struct sim *sim = peer->sim;
	uint32_t found = 0;
	struct block_view view;

	sim_status_check(sim, ask, reply->status, KVP_OK);
	for (uint32_t key = 0; key < sim->setup.keys; key++)
		found += sim_find(sim, ask->space, key, &view);
	if (reply->list->n_items != found || reply->list->next_cursor != 0)
		sim_fail(sim, "a list has %zu blocks of %u", reply->list->n_items, found);
	for (size_t i = 0; i < reply->list->n_items; i++)
		list_item_check(sim, ask->space, reply->list->items[i]);
}

void sim_reply_why(struct sim_peer *peer, struct sim_ask *ask, const Kvpaged__V1__Reply *reply)
{
	struct sim *sim = peer->sim;
	const Kvpaged__V1__WhyReply *why = reply->why;
	struct block_view view;
	bool found = sim_find(sim, ask->space, ask->keys[0], &view);

	sim_status_check(sim, ask, reply->status, KVP_OK);
	if ((why->fate == KVP_FATE_PRESENT) != (found && sim_complete(&view)) ||
	    (why->fate == KVP_FATE_PARTIAL) != (found && !sim_complete(&view)))
		sim_fail(sim, "fate %s of a block that is %s", fate_word(why->fate),
			 !found ? "not there" : sim_complete(&view) ? "complete" : "partial");
	if (found) {
		struct told told = { why->tokens, why->pages_ready, why->leases, why->children, why->priority };

		told_check(sim, ask->space, ask->keys[0], &view, &told);
	}
}
