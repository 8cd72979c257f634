/* SPDX-License-Identifier: Apache-2.0 */
/* From steps to requests. An ask remembers what was asked until the answer comes. */
#include "tests/sim/sim.h"

#include "base/checked.h"
#include "base/contract.h"
#include "base/units.h"

#include <stdlib.h>
#include <string.h>

#define IN_FLIGHT_MAX 40 /* of a peer; the daemon allows more */

struct sim_ask *sim_ask_new(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim_ask *ask = calloc(1, sizeof(*ask));

	kvp_assert(ask);
	ask->id = ++peer->next_id;
	ask->step = *step;
	ask->space = step->space;
	ask->sent_ns = peer->sim->now_ns;
	ask->drops = peer->sim->drops[step->space];
	ask->had_space = peer->open >> step->space & 1;
	list_push_back(&peer->asks, &ask->link);
	return ask;
}

void sim_ask_free(struct sim_ask *ask)
{
	list_unlink(&ask->link);
	free(ask->space_floors);
	free(ask);
}

void sim_send_bytes(struct sim_peer *peer, const uint8_t *bytes, size_t n)
{
	struct sim *sim = peer->sim;

	sim->asking = peer;
	sim->runnable = true;
	sim->counts.requests++;
	peer->life_ns = sim->now_ns;
	core_request(peer->session, bytes, n, sim->now_ns);
	sim->asking = NULL;
}

void sim_send(struct sim_peer *peer, struct sim_ask *ask, Kvpaged__V1__Request *request)
{
	size_t n;
	uint8_t *message;
	uint64_t id = ask->id;

	request->id = id;
	ask->verb = (int)request->verb_case;
	n = kvpaged__v1__request__get_packed_size(request);
	message = malloc(n);
	kvp_assert(message);
	(void)kvpaged__v1__request__pack(request, message);
	sim_send_bytes(peer, message, n);
	free(message);
	list_for_each(node, &peer->asks)
		if (list_entry(node, struct sim_ask, link)->id == id)
			list_entry(node, struct sim_ask, link)->later = true;
}

/* ---- Keys ---- */

/* The step's key with all its ancestors, the root first; or any keys. */
static uint32_t keys_choose(const struct sim *sim, const struct sim_step *step, bool chain, uint32_t *keys)
{
	uint64_t random = step->order;
	uint32_t chain_keys[SIM_KEYS_MAX];
	uint32_t n = 0;

	if (!chain) {
		keys[0] = step->key;
		for (n = 1; n < 1 + step->n % SIM_ITEMS_MAX; n++)
			keys[n] = (uint32_t)disk_memory_random(&random) % sim->setup.keys;
		return n;
	}
	for (uint32_t at = step->key + 1; at; at = sim_parent(sim, at - 1))
		chain_keys[n++] = at - 1;
	if (n > SIM_ITEMS_MAX)
		n = SIM_ITEMS_MAX;
	for (uint32_t i = 0; i < n; i++)
		keys[i] = chain_keys[n - 1 - i];
	return n;
}

struct keys_data {
	uint8_t bytes[SIM_ITEMS_MAX][KVP_KEY_BYTES_MAX];
	ProtobufCBinaryData data[SIM_ITEMS_MAX];
};

static void keys_fill(const struct sim *sim, const struct sim_ask *ask, struct keys_data *keys)
{
	for (uint32_t i = 0; i < ask->n; i++)
		keys->data[i] = (ProtobufCBinaryData){
			.data = keys->bytes[i],
			.len = sim_key_bytes(sim, ask->keys[i], keys->bytes[i]),
		};
}

/* The space's number; of one that is not there, a number that no space has. */
static uint32_t id_of(const struct sim *sim, uint32_t space)
{
	return sim->ids[space] ? sim->ids[space] : 200 + space;
}

/* Pages that are asked for: all, or some of the layers and heads. */
static void range_choose(const struct sim *sim, struct sim_ask *ask, Kvpaged__V1__Range *range)
{
	const struct page_schema *schema = sim_schema(sim, ask->space);
	uint64_t random = ask->step.order + 1;

	ask->layer_end = schema->layers;
	ask->head_end = schema->kv_heads;
	if (ask->step.order % 3 == 0) {
		ask->layer_begin = (uint32_t)disk_memory_random(&random) % schema->layers;
		ask->layer_end = ask->layer_begin + 1 +
				 (uint32_t)disk_memory_random(&random) % (schema->layers - ask->layer_begin);
		ask->head_begin = (uint32_t)disk_memory_random(&random) % schema->kv_heads;
		ask->head_end = ask->head_begin + 1 +
				(uint32_t)disk_memory_random(&random) % (schema->kv_heads - ask->head_begin);
	}
	range->layer_begin = ask->layer_begin;
	range->layer_count = ask->layer_end - ask->layer_begin;
	range->head_begin = ask->head_begin;
	range->head_count = ask->head_end - ask->head_begin;
}

/* ---- Append ---- */

/* A place for n bytes of staging memory that no request under way uses. */
static bool staging_take(struct sim_peer *peer, uint64_t n, uint64_t *ret_at)
{
	uint64_t at = peer->staging_at + n <= peer->staging_bytes ? peer->staging_at : 0;

	if (n > peer->staging_bytes)
		return false;
	list_for_each(node, &peer->asks) {
		const struct sim_ask *ask = list_entry(node, struct sim_ask, link);

		if (at < ask->staging_end && ask->staging_begin < at + n)
			return false;
	}
	peer->staging_at = at + n;
	*ret_at = at;
	return true;
}

/* Mostly the first block of the chain that is missing, so that trees grow. */
static uint32_t key_to_append(const struct sim *sim, const struct sim_step *step)
{
	uint32_t key = step->key;

	if (step->n < 4)
		return key;
	for (uint32_t at = key + 1; at; at = sim_parent(sim, at - 1))
		if (!sim->keys[step->space][at - 1].present)
			key = at - 1;
	return key;
}

static uint32_t pages_choose(const struct sim *sim, const struct sim_step *step, uint32_t *ret_first)
{
	uint32_t count = page_count(sim_schema(sim, step->space));

	if (step->value % 4 != 0) {
		*ret_first = 0;
		return count;
	}
	*ret_first = step->value / 4 % count;
	return 1 + step->value / 128 % (count - *ret_first);
}

struct append_data {
	Kvpaged__V1__PageRef refs[SIM_PAGES_MAX];
	Kvpaged__V1__PageRef *pointers[SIM_PAGES_MAX];
	uint8_t key[KVP_KEY_BYTES_MAX], parent[KVP_KEY_BYTES_MAX];
};

static void page_offer(struct sim_peer *peer, struct sim_ask *ask, uint32_t i, uint32_t bytes,
		       Kvpaged__V1__PageRef *ref)
{
	uint64_t offset = ask->staging_begin + (uint64_t)i * bytes;
	uint8_t *page = peer->staging + offset;
	bool bad = sim_mix(ask->step.order, i) % 32 == 0;

	sim_page_fill(page, bytes, ask->space, ask->keys[0], ask->pages[i],
		      ask->version | (bad ? SIM_BAD_VERSION : 0));
	kvpaged__v1__page_ref__init(ref);
	ref->index = ask->pages[i];
	ref->offset = offset;
	ref->length = bytes;
	ref->checksum = kvp_page_checksum(page, bytes) + bad;
	ask->bad[i] = bad;
}

/* Another parent, or none, than the key has otherwise. Never one that is younger, so there are no circles. */
static uint32_t parent_choose(const struct sim *sim, const struct sim_step *step, uint32_t key)
{
	if (step->order % 40 == 7)
		return 0;
	if (step->order % 40 == 8 && key > 0)
		return 1 + step->order / 40 % key;
	return sim_parent(sim, key);
}

void sim_append(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim *sim = peer->sim;
	const struct page_schema *schema = sim_schema(sim, step->space);
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Append body = KVPAGED__V1__APPEND__INIT;
	uint32_t key = key_to_append(sim, step), parent = parent_choose(sim, step, key), first;
	uint32_t n = pages_choose(sim, step, &first);
	struct append_data data;
	struct sim_ask *ask;
	uint32_t bytes;
	uint64_t at;

	body.tokens = sim_tokens(sim, step->space, key);
	if (step->order % 64 == 1)
		body.tokens = body.tokens % schema->block_tokens + 1;
	bytes = page_bytes(schema, body.tokens);
	if (!peer->staging || !staging_take(peer, (uint64_t)n * bytes, &at))
		return;
	ask = sim_ask_new(peer, step);
	ask->staging_begin = at;
	ask->staging_end = at + (uint64_t)n * bytes;
	ask->version = ++sim->version;
	ask->n = n;
	ask->keys[0] = key;
	ask->parent = parent;
	sim->keys[step->space][key].odd |= parent != sim_parent(sim, key);
	for (uint32_t i = 0; i < n; i++) {
		ask->pages[i] = first + i;
		page_offer(peer, ask, i, bytes, &data.refs[i]);
		data.pointers[i] = &data.refs[i];
	}
	body.space_id = id_of(sim, step->space);
	body.key = (ProtobufCBinaryData){ .data = data.key, .len = sim_key_bytes(sim, key, data.key) };
	if (parent)
		body.parent = (ProtobufCBinaryData){ .data = data.parent,
						     .len = sim_key_bytes(sim, parent - 1, data.parent) };
	body.n_pages = n;
	body.pages = data.pointers;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_APPEND;
	request.append = &body;
	sim_send(peer, ask, &request);
}

/* ---- Reading ---- */

static void fetch_send(struct sim_peer *peer, struct sim_ask *ask)
{
	struct sim *sim = peer->sim;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Fetch body = KVPAGED__V1__FETCH__INIT;
	Kvpaged__V1__Range range = KVPAGED__V1__RANGE__INIT;
	struct keys_data keys;

	keys_fill(sim, ask, &keys);
	range_choose(sim, ask, &range);
	body.space_id = id_of(sim, ask->space);
	body.n_keys = ask->n;
	body.keys = keys.data;
	body.range = &range;
	body.no_lease = ask->no_lease;
	body.prefetch = ask->prefetch;
	body.resident_only = ask->resident_only;
	body.lease_ttl_ms = ask->step.value % 4000;
	ask->ttl_ms = body.lease_ttl_ms ? body.lease_ttl_ms : sim->setup.limits.lease_ttl_ms;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_FETCH;
	request.fetch = &body;
	sim_send(peer, ask, &request);
}

/* For those that this fetch may bring, and those under way. */
static bool room_for_leases(const struct sim_peer *peer)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SIM_LEASES_MAX; i++)
		n += peer->leases[i].used;
	list_for_each(node, &peer->asks)
		if (list_entry(node, struct sim_ask, link)->step.verb == SIM_FETCH)
			n += SIM_ITEMS_MAX;
	return n + SIM_ITEMS_MAX <= SIM_LEASES_MAX;
}

static void fetch(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim_ask *ask = sim_ask_new(peer, step);

	ask->n = keys_choose(peer->sim, step, step->value % 2, ask->keys);
	ask->no_lease = step->order % 5 == 0 || !room_for_leases(peer);
	ask->prefetch = step->order % 7 == 0;
	ask->resident_only = step->order % 11 == 0;
	fetch_send(peer, ask);
}

void sim_fetch_keys(struct sim_peer *peer, const struct sim_step *step, uint32_t n, const uint32_t *keys,
		    bool resident_only)
{
	struct sim_ask *ask = sim_ask_new(peer, step);

	ask->n = n;
	memcpy(ask->keys, keys, n * sizeof(*keys));
	ask->no_lease = true;
	ask->resident_only = resident_only;
	fetch_send(peer, ask);
}

static void match(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim_ask *ask = sim_ask_new(peer, step);
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Match body = KVPAGED__V1__MATCH__INIT;
	Kvpaged__V1__Range range = KVPAGED__V1__RANGE__INIT;
	struct keys_data keys;

	ask->n = keys_choose(peer->sim, step, step->verb == SIM_FORECAST || step->value % 4, ask->keys);
	keys_fill(peer->sim, ask, &keys);
	range_choose(peer->sim, ask, &range);
	body.space_id = id_of(peer->sim, step->space);
	body.n_keys = ask->n;
	body.keys = keys.data;
	body.range = &range;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_MATCH;
	request.match = &body;
	sim_send(peer, ask, &request);
}

/* Some of the leases, and one that is none. */
static void release(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim_ask *ask = sim_ask_new(peer, step);
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Release body = KVPAGED__V1__RELEASE__INIT;

	for (unsigned i = 0; i < SIM_LEASES_MAX && ask->n + 1 < SIM_ITEMS_MAX; i++)
		if (peer->leases[i].used && sim_mix(step->order, i) % 2)
			ask->leases[ask->n++] = peer->leases[i].id;
	if (step->value % 8 == 0)
		ask->leases[ask->n++] = (uint64_t)step->value << 32 | step->order % 300;
	body.n_lease_ids = ask->n;
	body.lease_ids = ask->leases;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_RELEASE;
	request.release = &body;
	sim_send(peer, ask, &request);
}

/* ---- Keys' fate ---- */

static void delete(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim_ask *ask = sim_ask_new(peer, step);
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Delete body = KVPAGED__V1__DELETE__INIT;
	struct keys_data keys;

	ask->n = keys_choose(peer->sim, step, false, ask->keys);
	if (step->value % 4)
		ask->n = 1;
	for (uint32_t i = 0; i < ask->n; i++)
		ask->floors[i] = sim_floor_now(peer->sim, step->space, ask->keys[i]);
	keys_fill(peer->sim, ask, &keys);
	body.space_id = id_of(peer->sim, step->space);
	body.n_keys = ask->n;
	body.keys = keys.data;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_DELETE;
	request.delete_ = &body;
	sim_send(peer, ask, &request);
}

static void keep(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim_ask *ask = sim_ask_new(peer, step);
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Touch touch = KVPAGED__V1__TOUCH__INIT;
	Kvpaged__V1__Pin pin = KVPAGED__V1__PIN__INIT;
	Kvpaged__V1__Unpin unpin = KVPAGED__V1__UNPIN__INIT;
	struct keys_data keys;

	ask->n = keys_choose(peer->sim, step, step->value % 2, ask->keys);
	keys_fill(peer->sim, ask, &keys);
	touch.space_id = pin.space_id = unpin.space_id = id_of(peer->sim, step->space);
	touch.n_keys = pin.n_keys = unpin.n_keys = ask->n;
	touch.keys = pin.keys = unpin.keys = keys.data;
	pin.priority = ask->max = 1 + step->order % 15;
	pin.ttl_ms = ask->ttl_ms = 1 + step->order % 20000;
	if (step->verb == SIM_TOUCH) {
		request.verb_case = KVPAGED__V1__REQUEST__VERB_TOUCH;
		request.touch = &touch;
	} else if (step->verb == SIM_PIN) {
		request.verb_case = KVPAGED__V1__REQUEST__VERB_PIN;
		request.pin = &pin;
	} else {
		request.verb_case = KVPAGED__V1__REQUEST__VERB_UNPIN;
		request.unpin = &unpin;
	}
	sim_send(peer, ask, &request);
}

static void why(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim_ask *ask = sim_ask_new(peer, step);
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Why body = KVPAGED__V1__WHY__INIT;
	struct keys_data keys;

	ask->n = 1;
	ask->keys[0] = step->key;
	keys_fill(peer->sim, ask, &keys);
	body.space_id = id_of(peer->sim, step->space);
	body.key = keys.data[0];
	request.verb_case = KVPAGED__V1__REQUEST__VERB_WHY;
	request.why = &body;
	sim_send(peer, ask, &request);
}

/* ---- Spaces ---- */

static void open_space(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim_ask *ask = sim_ask_new(peer, step);
	const struct page_schema *shape = sim_schema(peer->sim, step->space);
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__OpenSpace body = KVPAGED__V1__OPEN_SPACE__INIT;
	Kvpaged__V1__Schema schema = KVPAGED__V1__SCHEMA__INIT;
	char name[16];

	sim_space_name(step->space, name);
	schema.model = (ProtobufCBinaryData){ .data = (uint8_t *)"model", .len = 5 };
	/* Two shapes may be the same by chance: then they are told apart by their revision. */
	schema.revision = (ProtobufCBinaryData){ .data = (uint8_t *)(step->space % SIM_SHAPES ? "b" : "a"), .len = 1 };
	schema.dtype = 1;
	schema.layers = shape->layers;
	schema.kv_heads = shape->kv_heads;
	schema.head_dim_k = shape->head_dim_k;
	schema.head_dim_v = shape->head_dim_v;
	schema.block_tokens = shape->block_tokens;
	schema.codec_k = shape->codec_k;
	schema.codec_v = shape->codec_v;
	schema.page_heads = shape->page_heads;
	body.name = (ProtobufCBinaryData){ .data = (uint8_t *)name, .len = strlen(name) };
	body.schema = &schema;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_OPEN_SPACE;
	request.open_space = &body;
	sim_send(peer, ask, &request);
}

static void drop_space(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim *sim = peer->sim;
	struct sim_ask *ask = sim_ask_new(peer, step);
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__DropSpace body = KVPAGED__V1__DROP_SPACE__INIT;
	uint32_t first = step->space - step->space % SIM_SHAPES;
	char name[16];

	sim_space_name(step->space, name);
	ask->space_floors = calloc(SIM_SHAPES * sim->setup.keys, sizeof(*ask->space_floors));
	kvp_assert(ask->space_floors);
	for (uint32_t i = 0; i < SIM_SHAPES * sim->setup.keys; i++)
		ask->space_floors[i] = sim_floor_now(sim, first + i / sim->setup.keys, i % sim->setup.keys);
	body.name = (ProtobufCBinaryData){ .data = (uint8_t *)name, .len = strlen(name) };
	request.verb_case = KVPAGED__V1__REQUEST__VERB_DROP_SPACE;
	request.drop_space = &body;
	sim_send(peer, ask, &request);
}

static void list(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim_ask *ask = sim_ask_new(peer, step);
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__List body = KVPAGED__V1__LIST__INIT;

	body.space_id = id_of(peer->sim, step->space);
	request.verb_case = KVPAGED__V1__REQUEST__VERB_LIST;
	request.list = &body;
	sim_send(peer, ask, &request);
}

/* ---- All else ---- */

static void evict(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim_ask *ask = sim_ask_new(peer, step);
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Evict body = KVPAGED__V1__EVICT__INIT;

	ask->had_space |= step->value % 2;
	body.space_id = step->value % 2 ? 0 : id_of(peer->sim, step->space);
	body.all = step->verb == SIM_EVICT && step->n == 15;
	body.blocks = step->verb == SIM_EVICT ? 1 + step->n : 1;
	ask->max = body.all ? UINT32_MAX : (uint32_t)body.blocks;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_EVICT;
	request.evict = &body;
	sim_send(peer, ask, &request);
}

static void stats(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim_ask *ask = sim_ask_new(peer, step);
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Stats body = KVPAGED__V1__STATS__INIT;
	Kvpaged__V1__Config config = KVPAGED__V1__CONFIG__INIT;

	request.verb_case = step->order % 8 ? KVPAGED__V1__REQUEST__VERB_STATS : KVPAGED__V1__REQUEST__VERB_CONFIG;
	if (step->order % 8)
		request.stats = &body;
	else
		request.config = &config;
	sim_send(peer, ask, &request);
}

static void subscribe(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim *sim = peer->sim;
	struct sim_ask *ask = sim_ask_new(peer, step);
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Subscribe body = KVPAGED__V1__SUBSCRIBE__INIT;
	uint64_t id;

	body.after = step->value % 8 == 0 ? sim->events_last + step->n % 3 : step->value % (sim->events_last + 1);
	body.from_now = step->order % 2;
	body.max = 1 + step->order % 20;
	body.wait_ms = step->order % 3 ? 1 + step->order % 3000 : 0;
	ask->after = body.from_now ? sim->events_last : body.after;
	ask->max = body.max;
	id = ask->id;
	ask->until_ns = sim->now_ns + body.wait_ms * NS_PER_MS;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_SUBSCRIBE;
	request.subscribe = &body;
	sim_send(peer, ask, &request);
	list_for_each(node, &peer->asks)
		if (list_entry(node, struct sim_ask, link)->id == id)
			peer->waiting = list_entry(node, struct sim_ask, link);
}

static void resize(struct sim_peer *peer, const struct sim_step *step)
{
	struct sim *sim = peer->sim;
	struct sim_ask *ask = sim_ask_new(peer, step);
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Resize body = KVPAGED__V1__RESIZE__INIT;
	uint64_t id = ask->id;

	body.bytes = step->value % 3 ? 1 + step->value % sim->setup.arena_bytes : sim->setup.arena_bytes;
	body.wait_ms = step->order % 2 ? 1 + step->order % 500 : 0;
	ask->until_ns = sim->now_ns + body.wait_ms * NS_PER_MS;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_RESIZE;
	request.resize = &body;
	sim_send(peer, ask, &request);
	list_for_each(node, &peer->asks)
		if (list_entry(node, struct sim_ask, link)->id == id)
			peer->resizing = list_entry(node, struct sim_ask, link);
}

static unsigned asks_count(const struct sim_peer *peer)
{
	unsigned n = 0;

	list_for_each(node, &peer->asks)
		n++;
	return n;
}

void sim_request(struct sim_peer *peer, const struct sim_step *step)
{
	static void (*const requests[SIM_VERB_COUNT])(struct sim_peer *peer, const struct sim_step *step) = {
		[SIM_OPEN] = open_space, [SIM_APPEND] = sim_append, [SIM_FETCH] = fetch,   [SIM_RELEASE] = release,
		[SIM_MATCH] = match,	 [SIM_FORECAST] = match,    [SIM_DELETE] = delete, [SIM_TOUCH] = keep,
		[SIM_PIN] = keep,	 [SIM_UNPIN] = keep,	    [SIM_STATS] = stats,   [SIM_EVICT] = evict,
		[SIM_EVICT_ONE] = evict, [SIM_LIST] = list,	    [SIM_DROP] = drop_space, [SIM_WHY] = why,
		[SIM_SUBSCRIBE] = subscribe, [SIM_RESIZE] = resize,
	};

	if (asks_count(peer) < IN_FLIGHT_MAX && requests[step->verb])
		requests[step->verb](peer, step);
}
