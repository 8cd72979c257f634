/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: what the host does for them, how they begin and end, and whether the core may end them. */
#include "tests/sim/sim.h"

#include "base/contract.h"
#include "base/units.h"
#include "proto/status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* From being beyond the quota until a scan sees that it is not. */
#define GREEDY_SEEN_NS (2 * NS_PER_S)

static int memory_create(void *context, void *peer_pointer, enum core_memory kind, uint64_t bytes, void **ret_memory)
{
	struct sim_peer *peer = peer_pointer;
	void *memory = aligned_alloc(4096, bytes);

	kvp_assert(memory && bytes % 4096 == 0);
	memset(memory, 0, bytes);
	if (kind == CORE_MEMORY_CONTROL) {
		peer->control = memory;
		peer->control_bytes = bytes;
	} else {
		peer->staging = memory;
		peer->staging_bytes = bytes;
	}
	*ret_memory = memory;
	return 0;
}

static void reply(void *context, void *peer_pointer, const uint8_t *message, size_t n, unsigned flags)
{
	struct sim_peer *peer = peer_pointer;
	Kvpaged__V1__Reply *unpacked = kvpaged__v1__reply__unpack(NULL, n, message);

	if (!unpacked)
		sim_fail(peer->sim, "a reply that cannot be read");
	if (peer->hung_up)
		sim_fail(peer->sim, "a reply after the session was hung up");
	sim_reply(peer, unpacked, flags);
	kvpaged__v1__reply__free_unpacked(unpacked, NULL);
}

static bool pins_anything(const struct sim_peer *peer)
{
	for (unsigned i = 0; i < SIM_PINS_MAX; i++)
		if (peer->pins[i].used)
			return true;
	return false;
}

/* The core may end a session that is silent with pins, says no Hello in time, or broke the protocol. */
static void hang_up(void *context, void *peer_pointer, const char *reason)
{
	struct sim_peer *peer = peer_pointer;
	struct sim *sim = peer->sim;
	const struct core_limits *limits = &sim->setup.limits;
	uint64_t grace_ns = limits->pin_grace_ms * NS_PER_MS;
	bool silent = sim->now_ns - peer->life_ns >= grace_ns;
	bool greedy = peer->greedy_ns > 0 && sim->now_ns - peer->greedy_ns <= grace_ns + GREEDY_SEEN_NS;
	bool mute = !peer->ready && sim->now_ns - peer->opened_ns >= limits->hello_ttl_ms * NS_PER_MS;

	if (peer->hung_up)
		sim_fail(sim, "hung up twice");
	if (!peer->over && !mute && !(pins_anything(peer) && (silent || greedy)))
		sim_fail(sim, "peer %u was hung up for nothing: %s", peer->number, reason);
	peer->hung_up = reason;
}

/* Memory that is given back reads as zero. */
static int discard(void *context, uint64_t offset, uint64_t bytes)
{
	struct sim *sim = context;

	memset((uint8_t *)sim->arena + offset, 0, bytes);
	return 0;
}

static int restore(void *context, uint64_t offset, uint64_t bytes)
{
	return 0;
}

static void wake(void *context)
{
	struct sim *sim = context;

	sim->runnable = true;
}

const struct core_host sim_host = {
	.memory_create = memory_create,
	.reply = reply,
	.hang_up = hang_up,
	.wake = wake,
	.discard = discard,
	.restore = restore,
};

/* ---- Life ---- */

static unsigned sessions_count(const struct sim *sim, uint32_t uid, bool all)
{
	unsigned n = 0;

	for (unsigned i = 0; i <= SIM_PEERS_MAX; i++)
		n += sim->peers[i].session && (all || sim->peers[i].uid == uid);
	return n;
}

/* Whether there is a session now, as there has to be. */
static bool session_open(struct sim *sim, struct sim_peer *peer, uint32_t uid)
{
	const struct core_limits *limits = &sim->setup.limits;
	bool fits = sessions_count(sim, 0, true) < limits->sessions_max &&
		    sessions_count(sim, uid, false) < limits->sessions_per_uid_max;
	int r = core_session_open(sim->core, peer, uid, sim->now_ns, &peer->session);

	if (r != (fits ? 0 : KVP_QUOTA))
		sim_fail(sim, "opening a session of uid %u gave %d", uid, r);
	return fits;
}

void sim_connect(struct sim *sim, unsigned number, uint32_t uid, uint64_t staging_bytes, uint32_t records, bool hello)
{
	struct sim_peer *peer = &sim->peers[number];
	struct sim_step step = { .verb = SIM_CONNECT, .peer = number, .value = records };
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Hello body = KVPAGED__V1__HELLO__INIT;

	*peer = (struct sim_peer){ .sim = sim, .number = number, .uid = uid, .opened_ns = sim->now_ns };
	list_init(&peer->asks);
	peer->life_ns = sim->now_ns;
	if (!session_open(sim, peer, uid))
		return;
	sim->counts.sessions++;
	if (!hello)
		return;
	body.version_min = 1;
	body.version_max = 1;
	body.staging_bytes = staging_bytes;
	body.records = records;
	body.want_event = staging_bytes % 2;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_HELLO;
	request.hello = &body;
	sim_send(peer, sim_ask_new(peer, &step), &request);
}

uint32_t sim_pages_under_way(const struct sim_peer *peer)
{
	uint32_t n = 0;

	list_for_each(node, &peer->asks)
		if (list_entry(node, struct sim_ask, link)->verb == KVPAGED__V1__REQUEST__VERB_APPEND)
			n += list_entry(node, struct sim_ask, link)->n;
	return n;
}

static void asks_free(struct sim_peer *peer)
{
	list_for_each_safe(node, after, &peer->asks)
		sim_ask_free(list_entry(node, struct sim_ask, link));
}

void sim_disconnect(struct sim_peer *peer)
{
	struct sim *sim = peer->sim;
	unsigned number = peer->number;

	(void)core_session_close(peer->session);
	sim->counts.append_unknown += sim_pages_under_way(peer);
	asks_free(peer);
	sim->released_ns = sim->now_ns;
	free(peer->staging);
	free(peer->control);
	*peer = (struct sim_peer){ .sim = sim, .number = number };
	list_init(&peer->asks);
}

void sim_peers_reap(struct sim *sim)
{
	for (unsigned i = 0; i < SIM_PEERS_MAX; i++)
		if (sim->peers[i].session && sim->peers[i].hung_up)
			sim_disconnect(&sim->peers[i]);
}
