/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After each step: the core's own audit; what events told is what is there; the resident blocks are closed under
 * "parent of"; every page that can be seen is right; what is held does not change and is not evicted; counters only
 * grow, and are what the answers said.
 */
#include "tests/sim/sim.h"

#include "base/contract.h"
#include "base/units.h"
#include "proto/fate.h"
#include "proto/status.h"

#include <inttypes.h>
#include <string.h>

/* A pin that the last scan may not have seen does not keep its block from being evicted. */
#define PIN_SEEN_NS (2 * NS_PER_MS)

/* ---- Events ---- */

static uint32_t space_of_id(const struct sim *sim, uint32_t id)
{
	if (id < 1 || id > KVP_SPACES_MAX || !sim->of_id[id])
		sim_fail(sim, "an event of space number %u, which never was", id);
	return sim->of_id[id] - 1;
}

static void event_block(struct sim *sim, const Kvpaged__V1__Event *event, uint32_t space)
{
	uint32_t key = sim_key_of(sim, event->key.data, event->key.len);
	bool stored = event->kind == KVP_EVENT_STORED;

	if (key == SIM_KEYS_MAX)
		sim_fail(sim, "an event of a key that nobody has");
	if (!sim->events_lost && sim->keys[space][key].present == stored)
		sim_fail(sim, "event %" PRIu64 ": space %u key %u was %s twice", event->number, space, key,
			 stored ? "stored" : "removed");
	sim->keys[space][key].present = stored;
	if (!stored)
		sim->keys[space][key].priority_until_ns = 0;
	if (sim->n_events < SIM_EVENTS_MAX)
		sim->events[sim->n_events++] = (struct sim_event){ (uint8_t)event->kind, (uint8_t)event->reason, space,
								   key };
}

void sim_event(struct sim *sim, const Kvpaged__V1__Event *event)
{
	uint32_t space = space_of_id(sim, event->space_id);

	if (event->number != ++sim->events_last)
		sim_fail(sim, "event %" PRIu64 " instead of %" PRIu64, event->number, sim->events_last);
	if (event->kind == KVP_EVENT_CLEARED) {
		for (uint32_t key = 0; key < sim->setup.keys; key++)
			if (sim->keys[space][key].present && !sim->events_lost)
				sim_fail(sim, "a space was cleared with space %u key %u in it", space, key);
		return;
	}
	event_block(sim, event, space);
}

static void events_follow(struct sim *sim)
{
	struct sim_peer *observer = &sim->peers[SIM_OBSERVER];
	struct sim_step step = { .verb = SIM_SUBSCRIBE, .peer = SIM_OBSERVER };

	sim->n_events = 0;
	sim->events_lost = false;
	while (sim->events_last < core_counters(sim->core)->events_total && !sim->stopping) {
		Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
		Kvpaged__V1__Subscribe body = KVPAGED__V1__SUBSCRIBE__INIT;
		struct sim_ask *ask = sim_ask_new(observer, &step);

		body.after = ask->after = sim->events_last;
		body.max = ask->max = KVP_EVENTS_MAX;
		request.verb_case = KVPAGED__V1__REQUEST__VERB_SUBSCRIBE;
		request.subscribe = &body;
		sim_send(observer, ask, &request);
	}
}

/* ---- Blocks ---- */

static bool hash_is_there(const struct sim *sim, uint32_t space, uint64_t hash)
{
	struct candidates candidates = candidates_of(&sim->layout, hash);
	uint32_t number;

	while ((number = candidates_next(&candidates))) {
		const struct kvp_block *block = &sim->layout.blocks[number - 1];

		if (block->generation % 2 == 0 && block->key_hash == hash && block->space_id == sim->ids[space])
			return true;
	}
	return false;
}

static void block_watch(struct sim *sim, uint32_t space, uint32_t key)
{
	struct sim_key *known = &sim->keys[space][key];
	bool whole = sim_mix(sim->step, space * SIM_KEYS_MAX + key) % 16 == 0;
	struct block_view view;
	bool found = sim_find(sim, space, key, &view), complete = found && sim_complete(&view);

	if (sim->events_lost || sim->stopping)
		known->present = complete;
	if (known->present != complete)
		sim_fail(sim, "space %u key %u is %s, but events say that it is %s", space, key,
			 complete ? "there" : "not there", known->present ? "there" : "not there");
	/* A block that a Resize moves has another life, and is the same. */
	if (!found || (!complete && known->priority_life != sim_life(&view)))
		known->priority_until_ns = 0;
	else
		known->priority_life = sim_life(&view);
	known->parent_hash = found ? view.parent_hash : 0;
	if (!found)
		return;
	if (view.parent_hash && !hash_is_there(sim, space, view.parent_hash))
		sim_fail(sim, "space %u key %u is resident without its parent", space, key);
	for (uint32_t page = 0; page < view.page_count; page++)
		if (view.map[page].flags & KVP_PAGE_READY)
			(void)sim_page_check(sim, space, key, &view, page, whole);
}

/* Every live block is one that the model knows. */
static void numbers_watch(struct sim *sim, uint64_t found)
{
	uint64_t live = 0;

	for (uint32_t number = 1; number <= sim->layout.blocks_count; number++) {
		uint64_t generation = sim->layout.blocks[number - 1].generation;

		live += generation != 0 && generation % 2 == 0;
	}
	if (live != found)
		sim_fail(sim, "%" PRIu64 " blocks live, %" PRIu64 " can be found", live, found);
}

static void blocks_watch(struct sim *sim)
{
	uint64_t found = 0;
	struct block_view view;

	for (uint32_t space = 0; space < SIM_SPACES; space++) {
		for (uint32_t key = 0; key < sim->setup.keys; key++) {
			block_watch(sim, space, key);
			found += sim_find(sim, space, key, &view);
		}
	}
	numbers_watch(sim, found);
}

/* ---- What is held ---- */

/* Whether the block, and no later one of its key, was evicted in this step. */
static bool was_evicted(const struct sim *sim, const struct sim_held *held)
{
	unsigned removals = 0;
	uint8_t reason = 0;

	for (uint32_t i = 0; i < sim->n_events; i++) {
		const struct sim_event *event = &sim->events[i];

		if (event->space != held->space || event->key != held->key || event->kind != KVP_EVENT_REMOVED)
			continue;
		reason = event->reason;
		removals++;
	}
	return removals == 1 && (reason == KVP_FATE_EVICTED || reason == KVP_FATE_EVICTED_REQUEST ||
				 reason == KVP_FATE_DEMOTED);
}

static void held_watch(struct sim *sim, struct sim_held *held, bool shields)
{
	sim_held_check(sim, held, sim_mix(sim->step, held->number) % 16 == 0);
	if (held->dead || sim->layout.blocks[held->number - 1].generation == held->generation)
		return;
	held->dead = true;
	if (shields && !sim->events_lost && was_evicted(sim, held))
		sim_fail(sim, "space %u key %u was evicted, though it is %s", held->space, held->key,
			 held->id ? "leased" : "pinned");
}

/* What pins and leases of the user hold at most. */
static uint64_t user_pins(const struct sim *sim, uint32_t uid)
{
	uint64_t sum = sim_pinned(sim, uid, true);

	for (unsigned i = 0; i < SIM_PEERS_MAX; i++)
		for (unsigned k = 0; sim->peers[i].session && sim->peers[i].uid == uid && k < SIM_PINS_MAX; k++)
			if (sim->peers[i].pins[k].used)
				sum += sim_pin_cost(sim, sim->peers[i].pins[k].space, SIM_PAGES_MAX);
	return sum;
}

/* Of a user within the quota, pins shield from eviction as well: when that was so for as long as a scan is old. */
static bool pin_shields(const struct sim *sim, const struct sim_peer *peer, const struct sim_held *pin)
{
	uint64_t since_ns = pin->since_ns > peer->greedy_ns ? pin->since_ns : peer->greedy_ns;

	if (since_ns < sim->released_ns)
		since_ns = sim->released_ns;
	return sim->step_ns > since_ns + PIN_SEEN_NS;
}

static void leases_watch(struct sim *sim, struct sim_peer *peer)
{
	for (unsigned i = 0; i < SIM_LEASES_MAX; i++) {
		struct sim_held *lease = &peer->leases[i];

		if (!lease->used)
			continue;
		if (lease->until_least_ns > sim->now_ns)
			held_watch(sim, lease, true);
		if (lease->until_most_ns > sim->ticked_ns)
			continue;
		lease->used = false;
		sim->released_ns = sim->now_ns;
	}
}

static void pins_watch(struct sim *sim, struct sim_peer *peer)
{
	if (!peer->control || peer->control->over)
		return;
	if (user_pins(sim, peer->uid) > sim->setup.limits.pinned_bytes_per_uid_max)
		peer->greedy_ns = sim->now_ns;
	for (unsigned i = 0; i < SIM_PINS_MAX; i++)
		if (peer->pins[i].used && peer->pins[i].settled)
			held_watch(sim, &peer->pins[i], pin_shields(sim, peer, &peer->pins[i]));
}

static void peer_watch(struct sim *sim, struct sim_peer *peer)
{
	if (peer->waiting && peer->waiting->until_ns < sim->ticked_ns && !peer->hung_up)
		sim_fail(sim, "peer %u waits for events though its time is over", peer->number);
	if (peer->resizing && peer->resizing->until_ns < sim->ticked_ns && !peer->hung_up)
		sim_fail(sim, "peer %u waits for a Resize though its time is over", peer->number);
	leases_watch(sim, peer);
	pins_watch(sim, peer);
}

/* ---- Counters ---- */

const char *const sim_counter_names[KVP_COUNTERS] = {
#define VALUE(field, labels, sentence) #field,
#include "proto/metrics.def"
};

static bool is_total(const char *name)
{
	size_t n = strlen(name);

	return n > 6 && strcmp(name + n - 6, "_total") == 0;
}

static void counters_grow(struct sim *sim)
{
	const _Atomic uint64_t *words = (const void *)core_counters(sim->core);

	for (unsigned i = 0; i < KVP_COUNTERS; i++) {
		if (words[i] < sim->counters[i] && is_total(sim_counter_names[i]))
			sim_fail(sim, "%s shrank from %" PRIu64 " to %" PRIu64, sim_counter_names[i], sim->counters[i],
				 (uint64_t)words[i]);
		sim->counters[i] = words[i];
	}
}

static void count_check(const struct sim *sim, const char *name, uint64_t counter, uint64_t least, uint64_t most)
{
	if (counter < least || counter > most)
		sim_fail(sim, "%s is %" PRIu64 " instead of %" PRIu64 "..%" PRIu64, name, counter, least, most);
}

static void leases_count(struct sim *sim)
{
	uint64_t least = 0, most = 0;

	for (unsigned i = 0; i < SIM_PEERS_MAX; i++) {
		for (unsigned k = 0; sim->peers[i].session && k < SIM_LEASES_MAX; k++) {
			const struct sim_held *lease = &sim->peers[i].leases[k];

			most += lease->used;
			least += lease->used && lease->until_least_ns > sim->now_ns;
		}
	}
	count_check(sim, "leases", core_counters(sim->core)->leases, least, most);
}

static void counters_compare(struct sim *sim)
{
	const struct kvp_counters *now = core_counters(sim->core);
	const struct sim_counts *counts = &sim->counts;
	uint64_t sessions = 0, waiting = 0, unknown = counts->append_unknown;

	for (unsigned i = 0; i <= SIM_PEERS_MAX; i++) {
		sessions += sim->peers[i].session != NULL;
		waiting += sim->peers[i].waiting && !sim->peers[i].hung_up;
		unknown += sim_pages_under_way(&sim->peers[i]);
	}
#define COMPARE(field, count) count_check(sim, #field, now->field, count, (count) + unknown)
	COMPARE(append_pages_total, counts->append_pages);
	COMPARE(append_present_total, counts->append_present);
	COMPARE(append_corrupt_total, counts->append_corrupt);
	COMPARE(append_no_space_total, counts->append_no_space);
#undef COMPARE
	count_check(sim, "requests_total", now->requests_total, counts->requests, counts->requests);
	count_check(sim, "sessions", now->sessions, sessions, sessions);
	count_check(sim, "subscribers", now->subscribers, waiting, waiting);
	count_check(sim, "fetch_hits_total", now->fetch_hits_total, counts->fetch_hits, counts->fetch_hits);
	count_check(sim, "match_hits_total", now->match_hits_total, counts->match_hits, counts->match_hits);
	count_check(sim, "match_misses_total", now->match_misses_total, counts->match_misses, counts->match_misses);
	leases_count(sim);
	if (sim->faults > 0 || sim->disk.closed)
		return;
	count_check(sim, "tier_corrupt_pages_total", now->tier_corrupt_pages_total, 0, 0);
	count_check(sim, "tier_lost_blocks_total", now->tier_lost_blocks_total, 0, 0);
}

/* ---- All ---- */

void sim_watch(struct sim *sim)
{
	const char *wrong = core_audit(sim->core);

	if (wrong)
		sim_fail(sim, "audit: %s", wrong);
	events_follow(sim);
	blocks_watch(sim);
	sim_ghosts_check(sim);
	for (unsigned i = 0; i < SIM_PEERS_MAX; i++)
		if (sim->peers[i].session)
			peer_watch(sim, &sim->peers[i]);
	counters_grow(sim);
	counters_compare(sim);
	if (sim->ready_ns == 0 && core_counters(sim->core)->tier_ready)
		sim->ready_ns = sim->now_ns;
	if (sim->tier && sim->disk.queued == 0 && sim->ready_ns > 0 &&
	    sim->tier->ops->deadline_ns(sim->tier) > sim->now_ns)
		sim_floors_safe(sim);
}
