/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core under seeded random work: appends, fetches, deletes, evictions, hang-ups and time, with every
 * invariant checked after each step, and contents against what the key says they must be. KVP_SEED chooses the
 * seed, KVP_STEPS the length.
 */
#include "tests/lib/core-rig.h"
#include "tests/lib/harness.h"

#include "base/units.h"
#include "daemon/core/block.h"
#include "proto/fate.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PEERS 5
#define KEYS 60

struct work {
	struct rig rig;
	Kvpaged__V1__OpenSpaceReply spaces[2];
	uint32_t ids[2];
	uint64_t seed;
	uint64_t after;        /* the last event that was followed */
	bool known[2][KEYS];   /* blocks that are there, as events tell */
};

static uint32_t draw(struct work *work, uint32_t n)
{
	work->seed = work->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(work->seed >> 33) % n;
}

static void connect_one(struct work *work, unsigned i)
{
	struct rig_peer *peer = rig_connect(&work->rig, i, 1000 + i % 2, MIB);
	Kvpaged__V1__Schema schema;

	rig_schema(&schema, 4, 2, 64);
	work->ids[0] = rig_open(peer, "a", &schema, &work->spaces[0]);
	rig_schema(&schema, 3, 4, 256);
	schema.block_tokens = 64;
	schema.page_heads = 2;
	work->ids[1] = rig_open(peer, "b", &schema, &work->spaces[1]);
}

/* A block's parent and bytes follow from its number: half of the blocks are in a tree. */
static void names(unsigned number, char key[8], char parent[8])
{
	(void)snprintf(key, 8, "k%u", number % 1000);
	parent[0] = '\0';
	if (number % 2)
		(void)snprintf(parent, 8, "k%u", number / 2 % 1000);
}

static void do_append(struct work *work, struct rig_peer *peer)
{
	unsigned s = draw(work, 2), number = draw(work, KEYS);
	uint32_t pages = work->spaces[s].page_count;
	uint32_t first = draw(work, 3) ? 0 : draw(work, pages);
	uint32_t n = draw(work, 3) ? pages - first : 1;
	char key[8], parent[8];

	names(number, key, parent);
	(void)rig_append(peer, work->ids[s], key, parent, s ? 64 : 16, work->spaces[s].page_bytes, first, n,
			 (uint8_t)(number + 100 * s));
}

static void do_fetch(struct work *work, struct rig_peer *peer)
{
	unsigned s = draw(work, 2), number = draw(work, KEYS);
	char key[8], parent[8];
	Kvpaged__V1__FetchItem item;
	const struct kvp_block *block;
	const struct kvp_page *map;

	names(number, key, parent);
	if (rig_fetch(peer, work->ids[s], key, 1 + draw(work, 2000), &item) != KVP_OK)
		return;
	block = &work->rig.core->arena.blocks[item.block - 1];
	assert_int_equal(block->generation, item.generation);
	map = (const struct kvp_page *)((const uint8_t *)work->rig.arena + block->map_offset);
	for (uint32_t page = 0; page < block->page_count; page++) {
		const uint8_t *bytes =
			(const uint8_t *)work->rig.arena + (uint64_t)map[page].slot * KVP_SLOT_ALIGN;

		assert_int_equal(bytes[0], (uint8_t)(number + 100 * s));
		assert_int_equal(bytes[work->spaces[s].page_bytes - 1], (uint8_t)(number + 100 * s));
	}
}

static void do_evict(struct work *work, struct rig_peer *peer)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Evict body = KVPAGED__V1__EVICT__INIT;

	body.space_id = draw(work, 2) ? work->ids[draw(work, 2)] : 0;
	body.blocks = 1 + draw(work, 5);
	request.verb_case = KVPAGED__V1__REQUEST__VERB_EVICT;
	request.evict = &body;
	(void)rig_call(peer, &request);
}

/* Larger or smaller, and some slices of that work; others come in between. */
static void do_resize(struct work *work, struct rig_peer *peer)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Resize body = KVPAGED__V1__RESIZE__INIT;

	if (draw(work, 3) == 0 && core_session_in_flight(peer->session) < 8) {
		body.bytes = 1 + (uint64_t)draw(work, 1000) * (work->rig.arena_bytes / 1000);
		body.wait_ms = draw(work, 2) ? draw(work, 5000) : 0;
		request.verb_case = KVPAGED__V1__REQUEST__VERB_RESIZE;
		request.resize = &body;
		rig_send(peer, &request);
	}
	for (unsigned i = draw(work, 30); i > 0; i--) {
		work->rig.now_ns++;
		core_tick(work->rig.core, work->rig.now_ns);
		rig_audit(&work->rig);
	}
}

static void do_delete(struct work *work, struct rig_peer *peer)
{
	char key[8], parent[8];

	names(draw(work, KEYS), key, parent);
	(void)rig_delete(peer, work->ids[draw(work, 2)], key);
}

static void event_follow(struct work *work, const Kvpaged__V1__Event *event)
{
	bool *known = work->known[event->space_id == work->ids[1]];
	char text[8] = "";
	unsigned number;

	assert_int_equal(event->number, work->after + 1);
	work->after = event->number;
	assert_true(event->key.len < sizeof(text));
	memcpy(text, event->key.data, event->key.len);
	assert_int_equal(sscanf(text, "k%u", &number), 1);
	assert_int_equal(known[number], event->kind == KVP_EVENT_REMOVED);
	known[number] = event->kind == KVP_EVENT_STORED;
}

/* Who follows events knows which complete blocks there are. */
static void do_follow(struct work *work, struct rig_peer *peer)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Subscribe body = KVPAGED__V1__SUBSCRIBE__INIT;
	const struct core *core = work->rig.core;
	const Kvpaged__V1__Reply *reply;
	unsigned there = 0, known = 0;

	if (!list_empty(&peer->session->wait.link))
		return; /* it follows already */
	body.after = work->after;
	body.max = KVP_EVENTS_MAX;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_SUBSCRIBE;
	request.subscribe = &body;
	do {
		body.after = work->after;
		reply = rig_call(peer, &request);
		assert_int_equal(reply->status, KVP_OK);
		assert_int_equal(reply->subscribe->lost, 0);
		for (size_t i = 0; i < reply->subscribe->n_events; i++)
			event_follow(work, reply->subscribe->events[i]);
	} while (reply->subscribe->n_events > 0);
	for (uint32_t block = 1; block <= core->arena.blocks_count; block++)
		there += core->blocks[block].state == BLOCK_LIVE && block_complete(core, block);
	for (unsigned i = 0; i < KEYS; i++)
		known += work->known[0][i] + work->known[1][i];
	assert_int_equal(known, there);
}

static void do_why(struct work *work, struct rig_peer *peer)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Why body = KVPAGED__V1__WHY__INIT;
	unsigned number = draw(work, KEYS), space = draw(work, 2);
	const Kvpaged__V1__Reply *reply;
	char key[8], parent[8];

	do_follow(work, peer);
	names(number, key, parent);
	body.space_id = work->ids[space];
	body.key = (ProtobufCBinaryData){ .len = strlen(key), .data = (uint8_t *)key };
	request.verb_case = KVPAGED__V1__REQUEST__VERB_WHY;
	request.why = &body;
	reply = rig_call(peer, &request);
	assert_int_equal(reply->status, KVP_OK);
	if (list_empty(&peer->session->wait.link))
		assert_int_equal(reply->why->fate == KVP_FATE_PRESENT, work->known[space][number]);
}

/* One that waits, and may be disconnected meanwhile. */
static void do_wait(struct work *work, struct rig_peer *peer)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Subscribe body = KVPAGED__V1__SUBSCRIBE__INIT;

	body.from_now = true;
	body.max = 1 + draw(work, 3);
	body.wait_ms = 1 + draw(work, 5000);
	request.verb_case = KVPAGED__V1__REQUEST__VERB_SUBSCRIBE;
	request.subscribe = &body;
	rig_send(peer, &request);
}

/* One that may have to wait for the tier, and be overtaken by anything. */
static void do_fetch_later(struct work *work, struct rig_peer *peer)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Fetch body = KVPAGED__V1__FETCH__INIT;
	Kvpaged__V1__Range range = KVPAGED__V1__RANGE__INIT;
	ProtobufCBinaryData keys[3];
	char names_of_keys[3][8], parent[8];

	if (core_session_in_flight(peer->session) > 8)
		return;
	for (unsigned i = 0; i < 3; i++) {
		names(draw(work, KEYS), names_of_keys[i], parent);
		keys[i] = (ProtobufCBinaryData){ .len = strlen(names_of_keys[i]),
						 .data = (uint8_t *)names_of_keys[i] };
	}
	range.layer_begin = draw(work, 3);
	body.space_id = work->ids[draw(work, 2)];
	body.n_keys = 1 + draw(work, 3);
	body.keys = keys;
	body.range = &range;
	body.prefetch = draw(work, 4) == 0;
	body.lease_ttl_ms = 1 + draw(work, 2000);
	request.verb_case = KVPAGED__V1__REQUEST__VERB_FETCH;
	request.fetch = &body;
	rig_send(peer, &request);
}

/* The tier does a part of its work, well or badly, in any order. */
static void do_tier(struct work *work, struct rig_peer *peer)
{
	struct tier_memory *tier = work->rig.tier;

	tier->fail_stores += draw(work, 8) == 0;
	tier->fail_pages += draw(work, 16) == 0;
	tier->flip_pages += draw(work, 16) == 0;
	for (unsigned i = draw(work, 6); i > 0; i--)
		(void)tier_memory_step(tier, draw(work, 4));
	if (draw(work, 4) == 0)
		(void)tier_memory_drop(tier, draw(work, 20));
	if (draw(work, 2))
		rig_run(&work->rig);
}

static void step(struct work *work)
{
	unsigned i = draw(work, PEERS);
	struct rig_peer *peer = &work->rig.peers[i];
	uint32_t what = draw(work, 100);

	if (!peer->session) {
		connect_one(work, i);
		return;
	}
	if (work->rig.tier && draw(work, 3) == 0) {
		(draw(work, 2) ? do_tier : do_fetch_later)(work, peer);
		return;
	}
	if (what < 44)
		do_append(work, peer);
	else if (what < 47)
		do_why(work, peer);
	else if (what < 50)
		do_wait(work, peer);
	else if (what < 75)
		do_fetch(work, peer);
	else if (what < 80)
		do_delete(work, peer);
	else if (what < 83)
		do_evict(work, peer);
	else if (what < 87)
		do_resize(work, peer);
	else if (what < 95)
		rig_advance_ms(&work->rig, draw(work, 3000));
	else if (what < 98)
		rig_disconnect(peer);
	else
		rig_advance_ms(&work->rig, 61000);
}

static void random_work(struct work *work)
{
	const char *seed = getenv("KVP_SEED"), *steps = getenv("KVP_STEPS");
	uint64_t n = steps ? strtoull(steps, NULL, 10) : 20000;

	work->seed = seed ? strtoull(seed, NULL, 10) : 1;
	print_message("seed %llu, %llu steps\n", (unsigned long long)work->seed, (unsigned long long)n);
	for (uint64_t i = 0; i < n; i++) {
		step(work);
		rig_audit(&work->rig);
	}
	rig_stop(&work->rig);
	free(work);
}

static void test_random_work(void **state)
{
	struct core_limits limits = { .slice_bytes = 4096 };
	struct work *work = calloc(1, sizeof(*work));

	assert_non_null(work);
	rig_start(&work->rig, 16 * MIB, 48, &limits);
	random_work(work);
}

/* Requests that wait for their answer let the tier do all its work; others leave it as it is. */
static void test_random_work_on_a_tier(void **state)
{
	struct work *work = calloc(1, sizeof(*work));
	struct tier_memory tier;

	assert_non_null(work);
	rig_start_tier(&work->rig, 16 * MIB, 48, &tier, CORE_TIER_ADMIT_READ, 60);
	random_work(work);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_work),
		cmocka_unit_test(test_random_work_on_a_tier),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
