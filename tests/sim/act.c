/* SPDX-License-Identifier: Apache-2.0 */
/* What each step does. A step that has nothing to act on does nothing. */
#include "tests/sim/sim.h"

#include "base/units.h"
#include "proto/status.h"

#include <errno.h>
#include <string.h>

/* ---- Sessions ---- */

static void connect_one(struct sim *sim, const struct sim_step *step)
{
	static const uint32_t records[] = { 0, 1, 2, 4, 9 };
	uint64_t staging = step->value % 8 == 0 ? 0 : 65536 + step->value % 4 * 65536 + step->order % 2;

	if (sim->setup.large)
		staging *= 4;
	if (!sim->peers[step->peer].session)
		sim_connect(sim, step->peer, 1000 + step->peer % sim->setup.uids, staging,
			    sim->setup.readers ? records[step->order % 5] : 0, step->order % 32 != 3);
}

/* What no client of ours sends: bytes, no id, a second Hello, no verb, an id twice. */
static void garbage(struct sim_peer *peer, const struct sim_step *step)
{
	static const uint8_t bytes[] = { 0xff, 0xff, 0xff, 0x08 };
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Hello hello = KVPAGED__V1__HELLO__INIT;

	if (step->order % 4 == 0) {
		sim_send(peer, sim_ask_new(peer, step), &request);
		return;
	}
	peer->over = true;
	if (step->order % 4 == 1) {
		sim_send_bytes(peer, bytes, sizeof(bytes));
	} else if (step->order % 4 == 2) {
		hello.version_min = hello.version_max = 1;
		request.verb_case = KVPAGED__V1__REQUEST__VERB_HELLO;
		request.hello = &hello;
		sim_send(peer, sim_ask_new(peer, step), &request);
	} else {
		sim_send_bytes(peer, bytes, 0); /* a message without anything: id 0 */
	}
	if (!peer->hung_up)
		sim_fail(peer->sim, "garbage was forgiven");
}

/* ---- Requests with something to compare ---- */

/* What can be had of the keys is what was foretold, as long as the tier does not drop or lose it. */
static void forecast(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim *sim = peer->sim;
	const struct kvp_counters *now = core_counters(sim->core);
	uint32_t keys[SIM_ITEMS_MAX], n = 0, chain[SIM_KEYS_MAX], length = 0, expected;
	uint64_t dropped, faults = sim->faults;
	struct tier_stats stats;

	sim_settle(sim, true); /* lest what others have asked for makes room for itself in between */
	if (peer->hung_up)
		return;
	sim->answer = (struct sim_answer){ 0 };
	sim_request(peer, step);
	expected = sim->answer.matched + sim->answer.loadable;
	if (!sim->answer.came || sim->answer.status != KVP_OK || !sim->tier || peer->hung_up)
		return;
	sim->tier->ops->stats(sim->tier, &stats);
	dropped = stats.dropped_blocks_total;
	for (uint32_t at = step->key + 1; at; at = sim_parent(sim, at - 1))
		chain[length++] = at - 1;
	for (; n < length && n < SIM_ITEMS_MAX; n++) {
		keys[n] = chain[length - 1 - n];
		if (sim->keys[step->space][keys[n]].odd)
			return; /* its ancestors may be others */
	}
	sim_fetch_keys(peer, step, n, keys, false);
	sim_settle(sim, true);
	sim->tier->ops->stats(sim->tier, &stats);
	if (!sim->answer.came || sim->answer.n != n || faults > 0 || stats.dropped_blocks_total != dropped ||
	    now->tier_lost_blocks_total > 0 || peer->hung_up)
		return;
	for (uint32_t i = 0; i < expected; i++)
		if (sim->answer.items[i] == KVP_MISS)
			sim_fail(sim, "%u of %u keys were said to be there or loadable, but key %u is not", expected, n,
				 keys[i]);
}

struct victim {
	bool any;
	uint32_t priority;
};

static bool has_child(const struct sim *sim, uint32_t space, uint64_t hash)
{
	struct block_view view;

	for (uint32_t key = 0; key < sim->setup.keys; key++)
		if (sim_find(sim, space, key, &view) && view.parent_hash == hash)
			return true;
	return false;
}

static bool is_pinned(const struct sim *sim, uint32_t number)
{
	for (unsigned i = 0; i < SIM_PEERS_MAX; i++)
		for (unsigned k = 0; sim->peers[i].session && k < SIM_PINS_MAX; k++)
			if (sim->peers[i].pins[k].used && sim->peers[i].pins[k].number == number)
				return true;
	return false;
}

static uint32_t priority_of(const struct sim *sim, uint32_t space, uint32_t key)
{
	struct block_view view;

	return sim_find(sim, space, key, &view) ? sim_priority_of(sim, space, key, &view) : 0;
}

/* The lowest priority of those that can be evicted for sure. */
static struct victim victim_expected(const struct sim *sim, uint32_t space)
{
	struct victim victim = { 0 };

	for (uint32_t key = 0; key < sim->setup.keys; key++) {
		struct block_view view;

		if (!sim_find(sim, space, key, &view) || !sim_complete(&view) ||
		    sim_leases_of(sim, &view, true) > 0 || is_pinned(sim, view.number) ||
		    has_child(sim, space, view.descriptor->key_hash))
			continue;
		if (!victim.any || priority_of(sim, space, key) < victim.priority)
			victim = (struct victim){ true, priority_of(sim, space, key) };
	}
	return victim;
}

/* One block of one space goes: none of a higher priority than another has, and one if there is one. */
static void evict_one(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim *sim = peer->sim;
	struct sim_step exactly = *step;
	struct victim victim;
	uint32_t priorities[SIM_KEYS_MAX];

	exactly.value &= ~1u;
	sim_time(sim, 2 * NS_PER_MS, false); /* pins that a scan saw a moment ago count as well */
	sim_settle(sim, true);
	sim_peers_reap(sim);
	sim_watch(sim);
	if (!peer->session || !sim->ids[step->space] || !(peer->open >> step->space & 1))
		return;
	victim = victim_expected(sim, step->space);
	for (uint32_t key = 0; key < sim->setup.keys; key++)
		priorities[key] = priority_of(sim, step->space, key);
	sim->answer = (struct sim_answer){ 0 };
	sim_request(peer, &exactly);
	sim_run(sim, 100);
	if (!sim->answer.came || peer->hung_up)
		return;
	if (victim.any && sim->answer.blocks == 0)
		sim_fail(sim, "nothing was evicted, though something could be");
	sim_watch(sim);
	for (uint32_t i = 0; i < sim->n_events; i++)
		if (sim->events[i].reason == KVP_FATE_EVICTED_REQUEST && victim.any &&
		    sim->events[i].space == step->space && priorities[sim->events[i].key] > victim.priority)
			sim_fail(sim, "a block of priority %u was evicted before one of %u",
				 priorities[sim->events[i].key], victim.priority);
}

/* ---- The machine ---- */

static void disk(struct sim *sim, const struct sim_step *step)
{
	if (!sim->tier)
		return;
	sim->disk.seed = step->value % 3 ? step->order + 1 : 0;
	sim->disk.ns_per_transfer = step->value % 16 == 0 ? 5 * NS_PER_MS : 1000;
	for (uint32_t i = 0; i < 1 + step->n && sim_disk_step(sim); i++)
		if (step->order % 2)
			sim_run(sim, 1);
}

static void fault(struct sim *sim, const struct sim_step *step)
{
	static const int errors[] = { -EIO, -ENOSPC, -EIO, -EROFS };
	unsigned writes = 1u << DISK_WRITE | 1u << DISK_CREATE | 1u << DISK_SYNC;

	if (!sim->tier || !(sim->setup.write_faults || sim->setup.read_faults))
		return;
	sim->disk.fault = (struct disk_memory_fault){
		.verbs = sim->setup.write_faults && (step->value % 2 || !sim->setup.read_faults) ? writes
												 : 1u << DISK_READ,
		.first = sim->disk.counted + 1 + step->n,
		.n = 1 + step->order % 6,
		.result = errors[step->value / 2 % 4],
		.half = step->order % 2,
	};
	sim->disk.files_possible = step->value % 7 == 0 && sim->setup.write_faults ? 1 + step->n % sim->setup.segments
										  : sim->setup.segments;
	sim->faults++;
}

/* Some bits of a file turn. */
static void damage(struct sim *sim, const struct sim_step *step)
{
	struct disk_memory_file *file;

	if (!sim->tier)
		return;
	file = &sim->disk.files[step->value % sim->setup.segments];
	if (!file->bytes)
		return;
	for (uint32_t i = 0; i < 1u << step->n % 6; i++)
		file->bytes[sim_mix(step->order, i) % sim->setup.segment_bytes] ^= (uint8_t)(1u << i % 8);
	sim->faults++;
}

static uint64_t duration(const struct sim_step *step)
{
	static const uint64_t units[] = { NS_PER_US, NS_PER_US, NS_PER_MS,	NS_PER_MS,
					  NS_PER_MS, NS_PER_MS, 10 * NS_PER_MS, 200 * NS_PER_MS };

	return (1 + step->value % 16) * units[step->order % 8];
}

static void machine(struct sim *sim, const struct sim_step *step)
{
	switch (step->verb) {
	case SIM_CONNECT:
		connect_one(sim, step);
		return;
	case SIM_RUN:
		sim_run(sim, 1 + step->n);
		return;
	case SIM_SETTLE:
		sim_settle(sim, step->order % 2);
		return;
	case SIM_TIME:
		sim_time(sim, duration(step), step->n % 4 == 0);
		return;
	case SIM_DISK:
		disk(sim, step);
		return;
	case SIM_FAULT:
		fault(sim, step);
		return;
	case SIM_DAMAGE:
		damage(sim, step);
		return;
	case SIM_STOP:
		sim_stop(sim, step->n % 2);
		return;
	case SIM_CRASH:
		sim->disk.seed = step->order + 1;
		sim_crash(sim, sim->setup.torn, step->n % 2);
		if (step->value % 4)
			sim_settle(sim, true);
		return;
	default:
		return;
	}
}

static void client(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim *sim = peer->sim;

	sim->answer = (struct sim_answer){ 0 };
	switch (step->verb) {
	case SIM_HANG_UP:
		sim_disconnect(peer);
		break;
	case SIM_LOOK:
		sim_look(peer, step);
		break;
	case SIM_SETTLE_PIN:
		sim_settle_pin(peer, step);
		break;
	case SIM_LET_GO:
		sim_let_go(peer, step);
		break;
	case SIM_GARBAGE:
		garbage(peer, step);
		break;
	case SIM_FORECAST:
		forecast(peer, step);
		break;
	case SIM_EVICT_ONE:
		evict_one(peer, step);
		break;
	default:
		sim_request(peer, step);
	}
	if (sim_mix(step->order, 5) % 100 < sim->setup.prompt_percent)
		sim_settle(sim, false);
}

/* As a client does that wants something: mostly there is a session before, with the space open. */
static bool prepare(struct sim *sim, const struct sim_step *step)
{
	struct sim_peer *peer = &sim->peers[step->peer % SIM_PEERS_MAX];
	struct sim_step first = *step;

	if (!peer->session && sim_mix(step->order, 6) % 16 > 0)
		connect_one(sim, step);
	if (!peer->session || !peer->ready || peer->hung_up)
		return false;
	first.verb = SIM_OPEN;
	if (!(peer->open >> step->space & 1) && sim_mix(step->order, 7) % 16 > 0)
		sim_request(peer, &first);
	return !peer->hung_up;
}

void sim_act(struct sim *sim, const struct sim_step *step)
{
	sim_peers_reap(sim);
	sim->now_ns += 1 + step->order % 2000;
	sim->step_ns = sim->now_ns;
	if (step->verb == SIM_CONNECT || step->verb >= SIM_RUN)
		machine(sim, step);
	else if (prepare(sim, step))
		client(&sim->peers[step->peer % SIM_PEERS_MAX], step);
}
