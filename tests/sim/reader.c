/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers that do not ask: what client/reader-pin.c does, cut in two, so that everything can happen between naming a
 * block in a hazard and looking at its generation. The look-ups are the client's own (client/probe.h).
 */
#include "tests/sim/sim.h"

#include <stddef.h>

static struct kvp_record *record_of(const struct sim_peer *peer, uint32_t record)
{
	return &kvp_control_records(peer->control)[record];
}

static struct sim_held *pin_free(struct sim_peer *peer)
{
	for (unsigned i = 0; i < SIM_PINS_MAX; i++)
		if (!peer->pins[i].used)
			return &peer->pins[i];
	return NULL;
}

/* A hazard of a record that no pin of the peer has. */
static void hazard_choose(struct sim_peer *peer, struct sim_held *pin, uint32_t random)
{
	uint32_t used = peer->control->records_used;

	pin->record = random % peer->records;
	pin->hazard = (uint32_t)(pin - peer->pins);
	if (pin->record >= used)
		peer->control->records_used = pin->record + 1;
}

static void life(struct sim_peer *peer, struct kvp_record *record)
{
	record->beats++;
	peer->life_ns = peer->sim->now_ns;
}

/* Finds a number and names it. */
static void key_look(struct sim_peer *peer, uint32_t space, uint32_t key, uint32_t random)
{
	struct sim_held *pin = pin_free(peer);
	struct block_view view;

	if (!pin || !sim_find(peer->sim, space, key, &view))
		return;
	hazard_choose(peer, pin, random);
	pin->used = true;
	pin->settled = false;
	pin->space = space;
	pin->key = key;
	pin->number = view.number;
	record_of(peer, pin->record)->hazard[pin->hazard] = pin->number;
}

void sim_look(struct sim_peer *peer, const struct sim_step *step)
{
	uint32_t n = step->value / 2 % 4 ? 1 : SIM_PINS_MAX;

	if (peer->records == 0 || peer->control->over)
		return;
	for (uint32_t i = 0; i < n; i++)
		key_look(peer, step->space, (step->key + i) % peer->sim->setup.keys, step->order);
	if (step->value % 2)
		sim_settle_pin(peer, step);
}

static void touch(struct kvp_record *record, uint32_t number, bool aside)
{
	record->asides += aside;
	record->touched[record->touches % KVP_TOUCHES] = number | (aside ? KVP_TOUCH_ASIDE : 0);
	record->touches++;
}

/* Whether the named block is still the one; if so it is pinned. */
static void pin_settle(struct sim_peer *peer, struct sim_held *pin, bool aside)
{
	struct sim *sim = peer->sim;
	struct kvp_record *record = record_of(peer, pin->record);
	uint8_t bytes[KVP_KEY_BYTES_MAX];
	size_t n = sim_key_bytes(sim, pin->key, bytes);
	struct block_view view;
	uint64_t hash;

	life(peer, record);
	if (!sim->ids[pin->space] || !(peer->open >> pin->space & 1)) {
		record->hazard[pin->hazard] = 0;
		pin->used = false;
		return;
	}
	hash = kvp_key_hash(sim->layout.hash_seed, sim->ids[pin->space], bytes, n);
	if (block_view_match(&sim->layout, pin->number, hash, sim->ids[pin->space], bytes, n, true, &view) != 0 ||
	    peer->control->over) {
		record->hazard[pin->hazard] = 0;
		pin->used = false;
		record->misses++;
		return;
	}
	pin->settled = true;
	sim_hold(sim, pin, pin->space, pin->key, &view);
	touch(record, pin->number, aside);
}

void sim_settle_pin(struct sim_peer *peer, const struct sim_step *step)
{
	if (!peer->control || peer->control->over)
		return;
	for (unsigned i = 0; i < SIM_PINS_MAX; i++)
		if (peer->pins[i].used && !peer->pins[i].settled)
			pin_settle(peer, &peer->pins[i], step->order % 3 == 0);
}

void sim_let_go(struct sim_peer *peer, const struct sim_step *step)
{
	for (unsigned i = 0; i < SIM_PINS_MAX; i++) {
		struct sim_held *pin = &peer->pins[i];

		if (!pin->used || sim_mix(step->order, i) % 3 == 0)
			continue;
		if (pin->settled && !peer->control->over)
			sim_held_check(peer->sim, pin, true);
		record_of(peer, pin->record)->hazard[pin->hazard] = 0;
		life(peer, record_of(peer, pin->record));
		pin->used = false;
	}
}
