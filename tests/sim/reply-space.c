/* SPDX-License-Identifier: Apache-2.0 */
/* Answers to Hello, OpenSpace, DropSpace, Stats, Config and Subscribe. */
#include "tests/sim/sim.h"

#include "base/checked.h"
#include "proto/fate.h"
#include "proto/status.h"

#include <inttypes.h>
#include <string.h>

/* ---- Hello ---- */

struct held_by_user {
	uint64_t bytes;
	uint32_t records;
};

static struct held_by_user user_holds(const struct sim_peer *peer)
{
	struct held_by_user held = { 0 };

	for (unsigned i = 0; i <= SIM_PEERS_MAX; i++) {
		const struct sim_peer *other = &peer->sim->peers[i];

		if (!other->session || other == peer || other->uid != peer->uid)
			continue;
		held.bytes += other->staging_bytes + other->control_bytes;
		held.records += other->records;
	}
	return held;
}

static uint32_t records_due(const struct sim_peer *peer, const struct held_by_user *held, uint32_t wanted)
{
	const struct core_limits *limits = &peer->sim->setup.limits;
	uint32_t most = limits->pins_max / KVP_HAZARDS, left = limits->pins_per_uid_max / KVP_HAZARDS;

	left = left > held->records ? left - held->records : 0;
	most = most < left ? most : left;
	most = most < wanted ? most : wanted;
	if (most > 0 && held->bytes + peer->staging_bytes + kvp_control_bytes(most) > limits->staging_bytes_per_uid_max)
		return 0;
	return most;
}

void sim_reply_hello(struct sim_peer *peer, struct sim_ask *ask, const Kvpaged__V1__Reply *reply)
{
	struct sim *sim = peer->sim;
	struct held_by_user held = user_holds(peer);

	if (reply->status == KVP_QUOTA) {
		if (held.bytes + sim->setup.limits.staging_bytes_max <= sim->setup.limits.staging_bytes_per_uid_max)
			sim_fail(sim, "staging memory within the quota was refused");
		peer->over = true;
		return;
	}
	sim_status_check(sim, ask, reply->status, KVP_OK);
	if (reply->hello->staging_bytes != peer->staging_bytes || reply->hello->incarnation != sim->incarnation)
		sim_fail(sim, "a Hello's answer is wrong");
	if (held.bytes + peer->staging_bytes + peer->control_bytes > sim->setup.limits.staging_bytes_per_uid_max)
		sim_fail(sim, "uid %u has more shared memory than its quota", peer->uid);
	if (reply->hello->records != records_due(peer, &held, ask->step.value))
		sim_fail(sim, "%u records were given for %u, instead of %u", reply->hello->records, ask->step.value,
			 records_due(peer, &held, ask->step.value));
	peer->records = reply->hello->records;
	peer->ready = true;
}

/* ---- Spaces ---- */

/* The live space of this name, + 1; 0: there is none. */
static uint32_t live_of_name(const struct sim *sim, uint32_t space)
{
	uint32_t first = space - space % SIM_SHAPES;

	for (uint32_t i = first; i < first + SIM_SHAPES; i++)
		if (sim->ids[i])
			return i + 1;
	return 0;
}

void sim_reply_open(struct sim_peer *peer, struct sim_ask *ask, const Kvpaged__V1__Reply *reply)
{
	struct sim *sim = peer->sim;
	const Kvpaged__V1__OpenSpaceReply *body = reply->open_space;
	uint32_t live = live_of_name(sim, ask->space);

	sim_status_check(sim, ask, reply->status, live && live - 1 != ask->space ? KVP_SCHEMA : KVP_OK);
	if (reply->status != KVP_OK)
		return;
	if (body->created != (live == 0) || (live && body->space_id != sim->ids[ask->space]))
		sim_fail(sim, "a space was made that is there, or found that is not");
	if (body->space_id < 1 || body->space_id > KVP_SPACES_MAX ||
	    (!live && sim->of_id[body->space_id] && sim->ids[sim->of_id[body->space_id] - 1] == body->space_id))
		sim_fail(sim, "a space's number is another's");
	if (body->page_count != page_count(sim_schema(sim, ask->space)))
		sim_fail(sim, "a space's pages are wrong");
	sim->ids[ask->space] = body->space_id;
	sim->of_id[body->space_id] = ask->space + 1;
	peer->open |= 1u << ask->space;
}

static bool others_have_it(const struct sim_peer *peer, uint32_t space)
{
	for (unsigned i = 0; i < SIM_PEERS_MAX; i++) {
		const struct sim_peer *other = &peer->sim->peers[i];

		if (other != peer && other->session && other->open >> space & 1)
			return true;
	}
	return false;
}

void sim_reply_drop(struct sim_peer *peer, struct sim_ask *ask, const Kvpaged__V1__Reply *reply)
{
	struct sim *sim = peer->sim;
	uint32_t live = live_of_name(sim, ask->space), space = live - 1;

	if (!live || others_have_it(peer, space)) {
		sim_status_check(sim, ask, reply->status, live ? KVP_BUSY : KVP_NO_SPACE_NAMED);
		return;
	}
	sim_status_check(sim, ask, reply->status, KVP_OK);
	for (uint32_t key = 0; key < sim->setup.keys; key++)
		sim_floor_raise(sim, space, key, ask->space_floors[space % SIM_SHAPES * sim->setup.keys + key]);
	sim->ids[space] = 0;
	sim->drops[space]++;
	peer->open &= ~(1u << space);
}

/* ---- Stats ---- */

void sim_reply_stats(struct sim_peer *peer, struct sim_ask *ask, const Kvpaged__V1__Reply *reply)
{
	struct sim *sim = peer->sim;
	uint32_t spaces = 0;

	sim_status_check(sim, ask, reply->status, KVP_OK);
	if (ask->verb != KVPAGED__V1__REQUEST__VERB_STATS)
		return;
	for (uint32_t space = 0; space < SIM_SPACES; space++)
		spaces += sim->ids[space] != 0;
	if (reply->stats->n_spaces != spaces || reply->stats->n_counters != KVP_COUNTERS ||
	    reply->stats->incarnation != sim->incarnation)
		sim_fail(sim, "Stats has %zu spaces of %u, %zu counters", reply->stats->n_spaces, spaces,
			 reply->stats->n_counters);
}

void sim_reply_resize(struct sim_peer *peer, struct sim_ask *ask, const Kvpaged__V1__Reply *reply)
{
	struct sim *sim = peer->sim;
	const Kvpaged__V1__ResizeReply *body = reply->resize;

	sim_status_check(sim, ask, reply->status, !ask->later && peer->resizing ? KVP_TOO_MANY : KVP_OK);
	if (reply->status != KVP_OK)
		return;
	if (body->held_bytes > sim->setup.arena_bytes || body->bytes > body->asked_bytes ||
	    (body->done && body->held_bytes > body->bytes))
		sim_fail(sim, "a Resize is said to be done that is not, or more than all");
	if (ask->later && !body->done && sim->now_ns < ask->until_ns)
		sim_fail(sim, "who waits for a Resize was told too early");
}

/* ---- Events ---- */

static void events_check(struct sim *sim, const struct sim_ask *ask, const Kvpaged__V1__SubscribeReply *body)
{
	uint64_t number = ask->after + body->lost;

	if (body->n_events > ask->max)
		sim_fail(sim, "more events than were asked for");
	if (body->lost > 0 && body->last < sim->setup.limits.events_kept)
		sim_fail(sim, "events were forgotten too early");
	for (size_t i = 0; i < body->n_events; i++)
		if (body->events[i]->number != ++number)
			sim_fail(sim, "event %" PRIu64 " came instead of %" PRIu64, body->events[i]->number, number);
	if (body->n_events < ask->max && number != body->last)
		sim_fail(sim, "events are missing up to %" PRIu64, body->last);
}

void sim_reply_subscribe(struct sim_peer *peer, struct sim_ask *ask, const Kvpaged__V1__Reply *reply)
{
	struct sim *sim = peer->sim;
	uint64_t last = core_counters(sim->core)->events_total;

	if (!ask->later && ask->after > last) {
		sim_status_check(sim, ask, reply->status, KVP_STALE);
		return;
	}
	if (!ask->later && peer->waiting) {
		sim_status_check(sim, ask, reply->status, KVP_TOO_MANY);
		return;
	}
	sim_status_check(sim, ask, reply->status, KVP_OK);
	if (ask->later && reply->subscribe->n_events == 0 && sim->now_ns < ask->until_ns)
		sim_fail(sim, "who waits for events was told of none before the time was over");
	events_check(sim, ask, reply->subscribe);
	if (peer->number != SIM_OBSERVER)
		return;
	sim->events_lost |= reply->subscribe->lost > 0;
	sim->events_last += reply->subscribe->lost;
	for (size_t i = 0; i < reply->subscribe->n_events; i++)
		sim_event(sim, reply->subscribe->events[i]);
}
