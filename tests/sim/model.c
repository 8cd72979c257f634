/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bytes may be seen. The first words of a page say whose it is and of which version, all others follow from these,
 * so a page is checked without remembering it. Versions count the appends of all peers. Deleting a key raises its
 * floor: no older version may be seen again, but of appends that were under way at the time.
 */
#include "tests/sim/sim.h"

#include "base/checked.h"
#include "base/contract.h"
#include "base/units.h"

#include <inttypes.h>
#include <string.h>

#define PAGE_MAGIC UINT32_C(0x53494d50)

/* From a removal until it is in the log: daemon/core/tier.h. */
#define REMOVAL_NS (100 * NS_PER_MS)

struct page_name {
	uint32_t magic, space, key, number, version, bytes;
};

/* ---- Names ---- */

uint32_t sim_parent(const struct sim *sim, uint32_t key)
{
	return key < sim->setup.roots ? 0 : (key - sim->setup.roots) / sim->setup.branch + 1;
}

size_t sim_key_bytes(const struct sim *sim, uint32_t key, uint8_t bytes[KVP_KEY_BYTES_MAX])
{
	uint64_t random = sim_mix(sim->setup.seed, key + 77);
	size_t n = 2 + random % (KVP_KEY_BYTES_MAX - 1);

	memset(bytes, (int)(random >> 40), KVP_KEY_BYTES_MAX);
	bytes[n - 2] = (uint8_t)key;
	bytes[n - 1] = (uint8_t)(key >> 8);
	return n;
}

uint32_t sim_key_of(const struct sim *sim, const uint8_t *bytes, size_t n)
{
	uint8_t expected[KVP_KEY_BYTES_MAX];
	uint32_t key;

	if (n < 2)
		return SIM_KEYS_MAX;
	key = bytes[n - 2] | (uint32_t)bytes[n - 1] << 8;
	if (key >= sim->setup.keys || sim_key_bytes(sim, key, expected) != n || memcmp(bytes, expected, n) != 0)
		return SIM_KEYS_MAX;
	return key;
}

uint32_t sim_tokens(const struct sim *sim, uint32_t space, uint32_t key)
{
	return 1 + (uint32_t)(sim_mix(space, key) % sim_schema(sim, space)->block_tokens);
}

const struct page_schema *sim_schema(const struct sim *sim, uint32_t space)
{
	return &sim->setup.shapes[space % SIM_SHAPES];
}

void sim_space_name(uint32_t space, char name[16])
{
	(void)snprintf(name, 16, "space-%u", space / SIM_SHAPES % 10);
}

/* ---- What a reader finds ---- */

bool sim_find(const struct sim *sim, uint32_t space, uint32_t key, struct block_view *ret_view)
{
	uint8_t bytes[KVP_KEY_BYTES_MAX];
	size_t n = sim_key_bytes(sim, key, bytes);
	uint64_t hash;
	struct candidates candidates;
	uint32_t number;

	if (!sim->ids[space])
		return false;
	hash = kvp_key_hash(sim->layout.hash_seed, sim->ids[space], bytes, n);
	candidates = candidates_of(&sim->layout, hash);
	while ((number = candidates_next(&candidates)))
		if (block_view_match(&sim->layout, number, hash, sim->ids[space], bytes, n, false, ret_view) == 0)
			return true;
	return false;
}

bool sim_complete(const struct block_view *view)
{
	return view->descriptor->pages_ready == view->page_count;
}

bool sim_range_ready(const struct sim *sim, uint32_t space, const struct block_view *view, const struct sim_ask *ask)
{
	const struct page_schema *schema = sim_schema(sim, space);
	uint32_t groups = page_head_groups(schema);

	for (uint32_t layer = ask->layer_begin; layer < ask->layer_end; layer++)
		for (uint32_t head = ask->head_begin; head < ask->head_end; head++)
			if (!(view->map[layer * groups + head / schema->page_heads].flags & KVP_PAGE_READY))
				return false;
	return true;
}

uint64_t sim_pin_cost(const struct sim *sim, uint32_t space, uint32_t pages)
{
	const struct page_schema *schema = sim_schema(sim, space);
	uint64_t share = sim->setup.arena_bytes / sim->layout.blocks_count;
	uint32_t count = page_count(schema);
	uint64_t bytes = (uint64_t)pages * align_up_u64(page_bytes(schema, schema->block_tokens), KVP_SLOT_ALIGN);

	if (count > 1)
		bytes += align_up_u64(count * sizeof(struct kvp_page), KVP_SLOT_ALIGN);
	return bytes > share ? bytes : share;
}

/* ---- Pages ---- */

static uint64_t word_of(const struct page_name *name, uint32_t i)
{
	uint64_t base = ((uint64_t)name->version << 32 | name->number << 16 | name->key) + name->space;

	return (base + i) * UINT64_C(0x9e3779b97f4a7c15);
}

void sim_page_fill(uint8_t *page, uint32_t bytes, uint32_t space, uint32_t key, uint32_t number, uint32_t version)
{
	struct page_name name = { PAGE_MAGIC, space, key, number, version, bytes };
	uint8_t whole[sizeof(name)];

	for (uint32_t at = 0; at < bytes; at += 8) {
		uint64_t word = word_of(&name, at);

		memcpy(page + at, &word, bytes - at < 8 ? bytes - at : 8);
	}
	memcpy(whole, &name, sizeof(name));
	memcpy(page, whole, bytes < sizeof(whole) ? bytes : sizeof(whole));
}

static bool page_is(const uint8_t *page, const struct page_name *name)
{
	uint32_t at = sizeof(*name);

	for (; at + 8 <= name->bytes; at += 8) {
		uint64_t word = word_of(name, at), found;

		memcpy(&found, page + at, 8);
		if (found != word)
			return false;
	}
	return true;
}

uint32_t sim_page_check(struct sim *sim, uint32_t space, uint32_t key, const struct block_view *view, uint32_t number,
			bool whole)
{
	uint64_t offset = (uint64_t)view->map[number].slot * KVP_SLOT_ALIGN;
	uint32_t bytes = page_bytes(sim_schema(sim, space), view->tokens);
	const uint8_t *page = sim->layout.base + offset;
	struct page_name name;

	if (offset < sim->layout.extents_offset || !checked_range(offset, bytes, sim->layout.bytes))
		sim_fail(sim, "a page lies outside the arena");
	kvp_assert(bytes >= sizeof(name));
	memcpy(&name, page, sizeof(name));
	sim->checks++;
	if (name.magic != PAGE_MAGIC || name.space != space || name.key != key || name.number != number ||
	    name.bytes != bytes || (whole && !page_is(page, &name)))
		sim_fail(sim,
			 "wrong bytes: page %u of space %u key %u, block %u, holds space %u key %u page %u version %u",
			 number, space, key, view->number, name.space, name.key, name.number, name.version);
	if (name.version > sim->version)
		sim_fail(sim, "a page whose checksum was wrong is there: space %u key %u", space, key);
	if (name.version < sim->keys[space][key].floor)
		sim_fail(sim, "a deleted block is back: space %u key %u has version %u, deleted before %u", space, key,
			 name.version, sim->keys[space][key].floor);
	return name.version;
}

/* ---- Held blocks ---- */

void sim_hold(struct sim *sim, struct sim_held *held, uint32_t space, uint32_t key, const struct block_view *view)
{
	held->used = true;
	held->dead = false;
	held->space = space;
	held->key = key;
	held->number = view->number;
	held->generation = view->generation;
	held->map = view->map;
	held->page_count = view->page_count;
	held->since_ns = sim->now_ns;
	kvp_assert(view->page_count <= SIM_PAGES_MAX);
	for (uint32_t page = 0; page < view->page_count; page++) {
		bool ready = view->map[page].flags & KVP_PAGE_READY;

		held->slots[page] = view->map[page].slot;
		held->versions[page] = ready ? sim_page_check(sim, space, key, view, page, true) : 0;
	}
}

static void held_page_check(struct sim *sim, const struct sim_held *held, uint32_t page, bool whole)
{
	uint64_t offset = (uint64_t)held->slots[page] * KVP_SLOT_ALIGN;
	struct page_name name;

	sim->checks++;
	memcpy(&name, sim->layout.base + offset, sizeof(name));
	if (held->map[page].slot != held->slots[page] || !(held->map[page].flags & KVP_PAGE_READY) ||
	    name.magic != PAGE_MAGIC || name.space != held->space || name.key != held->key || name.number != page ||
	    name.version != held->versions[page] || (whole && !page_is(sim->layout.base + offset, &name)))
		sim_fail(sim, "a held page changed: page %u of space %u key %u, block %u generation %" PRIu64 ", %s",
			 page, held->space, held->key, held->number, held->generation, held->id ? "leased" : "pinned");
}

void sim_held_check(struct sim *sim, struct sim_held *held, bool whole)
{
	uint64_t generation = sim->layout.blocks[held->number - 1].generation;

	if (generation != held->generation && generation != held->generation + 1)
		sim_fail(sim, "the number of a held block was given anew: block %u of space %u key %u", held->number,
			 held->space, held->key);
	if (held->dead && generation == held->generation)
		sim_fail(sim, "a dead block lives again");
	for (uint32_t page = 0; page < held->page_count; page++)
		if (held->versions[page])
			held_page_check(sim, held, page, whole);
}

void sim_ghosts_check(struct sim *sim)
{
	if (sim->now_ns >= sim->ghosts_until_ns)
		return;
	for (unsigned i = 0; i < SIM_GHOSTS_MAX; i++) {
		const struct sim_held *ghost = &sim->ghosts[i];

		for (uint32_t page = 0; ghost->used && page < ghost->page_count; page++) {
			struct page_name name;

			memcpy(&name, sim->layout.base + (uint64_t)ghost->slots[page] * KVP_SLOT_ALIGN, sizeof(name));
			if (ghost->versions[page] && (name.magic != PAGE_MAGIC || name.space != ghost->space ||
						      name.key != ghost->key || name.number != page ||
						      name.version != ghost->versions[page]))
				sim_fail(sim, "a page that clients of an earlier process may read changed: page %u of "
					      "space %u key %u, block %u", page, ghost->space, ghost->key,
					 ghost->number);
		}
	}
}

uint64_t sim_pinned(const struct sim *sim, uint32_t uid, bool most)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < SIM_PEERS_MAX; i++) {
		const struct sim_peer *peer = &sim->peers[i];

		for (unsigned k = 0; peer->session && peer->uid == uid && k < SIM_LEASES_MAX; k++)
			if (peer->leases[k].used && (most || peer->leases[k].until_least_ns > sim->now_ns))
				sum += peer->leases[k].cost;
	}
	return sum;
}

uint32_t sim_leases_of(const struct sim *sim, const struct block_view *view, bool most)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < SIM_PEERS_MAX; i++) {
		for (unsigned k = 0; sim->peers[i].session && k < SIM_LEASES_MAX; k++) {
			const struct sim_held *lease = &sim->peers[i].leases[k];

			n += lease->used && lease->number == view->number && lease->generation == view->generation &&
			     (most || lease->until_least_ns > sim->now_ns);
		}
	}
	return n;
}

uint32_t sim_priority_of(const struct sim *sim, uint32_t space, uint32_t key, const struct block_view *view)
{
	const struct sim_key *known = &sim->keys[space][key];

	if (!sim_complete(view) && known->priority_life != sim_life(view))
		return 0;
	return known->priority_until_ns > sim->now_ns ? known->priority : 0;
}

/* ---- Floors ---- */

uint32_t sim_floor_now(const struct sim *sim, uint32_t space, uint32_t key)
{
	uint32_t floor = sim->version + 1;

	for (unsigned i = 0; i < SIM_PEERS_MAX; i++) {
		const struct sim_peer *peer = &sim->peers[i];

		if (!peer->session)
			continue;
		list_for_each(node, &peer->asks) {
			const struct sim_ask *ask = list_entry(node, struct sim_ask, link);

			if (ask->verb == KVPAGED__V1__REQUEST__VERB_APPEND && ask->space == space &&
			    ask->keys[0] == key && ask->version < floor)
				floor = ask->version;
		}
	}
	return floor;
}

void sim_floor_raise(struct sim *sim, uint32_t space, uint32_t key, uint32_t floor)
{
	struct sim_key *known = &sim->keys[space][key];

	if (floor <= known->floor)
		return;
	known->floor = floor;
	known->floor_ns = sim->now_ns;
}

/* What was deleted long enough ago is in the log, if the disk had the time and did not fail. */
void sim_floors_safe(struct sim *sim)
{
	for (uint32_t space = 0; space < SIM_SPACES; space++) {
		for (uint32_t key = 0; key < sim->setup.keys; key++) {
			struct sim_key *known = &sim->keys[space][key];

			if (known->floor > known->floor_safe && sim->now_ns >= known->floor_ns + REMOVAL_NS &&
			    sim->now_ns >= sim->ready_ns + REMOVAL_NS)
				known->floor_safe = known->floor;
		}
	}
}

void sim_floors_crash(struct sim *sim, bool crashed)
{
	bool unsafe = sim->setup.write_faults || sim->setup.damage;

	for (uint32_t space = 0; space < SIM_SPACES; space++) {
		for (uint32_t key = 0; key < sim->setup.keys; key++) {
			struct sim_key *known = &sim->keys[space][key];

			if (sim->setup.tier && unsafe)
				known->floor = 0;
			else if (sim->setup.tier && crashed)
				known->floor = known->floor_safe;
			known->floor_safe = known->floor;
			known->was_present = known->present;
			known->present = false;
			known->priority_until_ns = 0;
		}
	}
}

/* The key of this hash, as the arena has it. */
static uint32_t key_of_hash(const struct sim *sim, uint32_t space, uint64_t hash)
{
	uint8_t bytes[KVP_KEY_BYTES_MAX];

	for (uint32_t key = 0; key < sim->setup.keys; key++) {
		size_t n = sim_key_bytes(sim, key, bytes);

		if (kvp_key_hash(sim->layout.hash_seed, sim->ids[space], bytes, n) == hash)
			return key;
	}
	return SIM_KEYS_MAX;
}

static bool has_all_ancestors(const struct sim *sim, uint32_t space, uint32_t key)
{
	uint64_t parent_hash = sim->keys[space][key].parent_hash;
	uint32_t parent;

	if (!sim->keys[space][key].was_present)
		return false;
	if (parent_hash == 0)
		return true;
	parent = key_of_hash(sim, space, parent_hash);
	return parent < SIM_KEYS_MAX && has_all_ancestors(sim, space, parent);
}

void sim_taken_over(struct sim *sim)
{
	for (uint32_t space = 0; space < SIM_SPACES; space++) {
		for (uint32_t key = 0; key < sim->setup.keys && sim->ids[space]; key++) {
			bool expected = has_all_ancestors(sim, space, key);
			struct block_view view;
			bool found = sim_find(sim, space, key, &view);

			if (found != expected || (found && !sim_complete(&view)))
				sim_fail(sim, "space %u key %u is %s after its arena was taken over", space, key,
					 found ? "there" : "not there");
			sim->keys[space][key].present = found;
		}
	}
}
