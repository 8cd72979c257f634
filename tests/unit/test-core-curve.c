/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The miss-ratio curve of the whole page server: what it is told (each need of a block once), and whether it comes
 * true. For that a real service's requests are replayed by Match, Fetch and Append into an arena, and then into others
 * of x0.25 .. x8 of it, whose real hit rates are held against what the first one's curve said.
 * KVP_TEST_VERBOSE=1 shows the rates, KVP_REQUESTS says how many requests are replayed.
 */
#include "tests/lib/core-rig.h"
#include "tests/lib/harness.h"
#include "tests/lib/trace.h"

#include "base/units.h"
#include "daemon/core/internal.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLES 8192
#define ERROR_MAX 0.02

static const char *const hits_names[MRC_SIZES] = { "mrc_hits_quarter_total", "mrc_hits_half_total",
						   "mrc_hits_one_total",     "mrc_hits_two_total",
						   "mrc_hits_four_total",    "mrc_hits_eight_total" };

/* ---- A scene: one client, small blocks ---- */

struct scene {
	struct rig rig;
	struct rig_peer *peer;
	Kvpaged__V1__OpenSpaceReply space;
	uint32_t id;
};

static void scene_open(struct scene *scene)
{
	rig_start_curve(&scene->rig, 32 * MIB, 256, NULL, SAMPLES);
	scene->peer = rig_connect_reader(&scene->rig, 0, 1000, MIB, 2);
	scene->id = rig_open_small(scene->peer, &scene->space);
}

static void store(struct scene *scene, const char *key, const char *parent)
{
	assert_int_equal(rig_append(scene->peer, scene->id, key, parent, 16, scene->space.page_bytes, 0,
				    scene->space.page_count, 1),
			 KVP_OK);
}

static uint64_t uses(struct scene *scene)
{
	return rig_counter(scene->peer, "mrc_references_total");
}

/* Hits in this arena, as the curve has them. */
static uint64_t hits(struct scene *scene)
{
	return rig_counter(scene->peer, "mrc_hits_one_total");
}

/* Asks for layers [begin, end) of a block without a lease. */
static void fetch_layers(struct scene *scene, const char *key, uint32_t begin, uint32_t end)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Fetch fetch = KVPAGED__V1__FETCH__INIT;
	Kvpaged__V1__Range range = KVPAGED__V1__RANGE__INIT;
	ProtobufCBinaryData keys[1] = { { .data = (uint8_t *)key, .len = strlen(key) } };

	range.layer_begin = begin;
	range.layer_count = end - begin;
	fetch.space_id = scene->id;
	fetch.keys = keys;
	fetch.n_keys = 1;
	fetch.range = &range;
	fetch.no_lease = true;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_FETCH;
	request.fetch = &fetch;
	assert_int_equal(rig_call(scene->peer, &request)->fetch->items[0]->status, KVP_OK);
}

static void match(struct scene *scene, const char *key)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Match body = KVPAGED__V1__MATCH__INIT;
	ProtobufCBinaryData keys[1] = { { .data = (uint8_t *)key, .len = strlen(key) } };

	body.space_id = scene->id;
	body.keys = keys;
	body.n_keys = 1;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_MATCH;
	request.match = &body;
	assert_int_equal(rig_call(scene->peer, &request)->match->matched, 1);
}

static void touch(struct scene *scene, const char *key)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Touch body = KVPAGED__V1__TOUCH__INIT;
	ProtobufCBinaryData keys[1] = { { .data = (uint8_t *)key, .len = strlen(key) } };

	body.space_id = scene->id;
	body.keys = keys;
	body.n_keys = 1;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_TOUCH;
	request.touch = &body;
	assert_int_equal(rig_call(scene->peer, &request)->status, KVP_OK);
}

/* ---- What counts ---- */

static void test_asking(void **state)
{
	struct scene scene;

	scene_open(&scene);
	store(&scene, "a", NULL);
	assert_int_equal(uses(&scene), 1);
	store(&scene, "a", NULL); /* is there */
	assert_int_equal(uses(&scene), 1);
	match(&scene, "a");
	assert_int_equal(uses(&scene), 1);
	for (uint32_t layer = 0; layer < 4; layer++)
		fetch_layers(&scene, "a", layer, layer + 1);
	assert_int_equal(uses(&scene), 2);
	touch(&scene, "a");
	assert_int_equal(uses(&scene), 3);
	assert_int_equal(hits(&scene), 2);
	assert_int_equal(rig_counter(scene.peer, "mrc_samples"), 1);
	rig_stop(&scene.rig);
}

static void test_removed(void **state)
{
	struct scene scene;

	scene_open(&scene);
	store(&scene, "a", NULL);
	store(&scene, "b", "a");
	assert_int_equal(rig_delete(scene.peer, scene.id, "a"), KVP_OK);
	assert_int_equal(rig_counter(scene.peer, "mrc_samples"), 0);
	store(&scene, "a", NULL);
	store(&scene, "b", "a");
	assert_int_equal(uses(&scene), 4);
	assert_int_equal(hits(&scene), 0);

	/* A block that does not become whole goes with its writer. */
	assert_int_equal(rig_append(scene.peer, scene.id, "c", NULL, 16, scene.space.page_bytes, 0, 1, 1), KVP_OK);
	assert_int_equal(rig_counter(scene.peer, "mrc_samples"), 3);
	rig_disconnect(scene.peer);
	scene.peer = rig_connect(&scene.rig, 0, 1000, MIB);
	assert_int_equal(rig_counter(scene.peer, "mrc_samples"), 2);
	rig_stop(&scene.rig);
}

static void evict_all(struct scene *scene)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Evict evict = KVPAGED__V1__EVICT__INIT;

	evict.all = true;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_EVICT;
	request.evict = &evict;
	assert_int_equal(rig_call(scene->peer, &request)->status, KVP_OK);
	assert_int_equal(rig_counter(scene->peer, "blocks"), 0);
}

/* What was evicted for room would be there in a larger arena. Deleting it is heard of nevertheless. */
static void test_evicted(void **state)
{
	struct scene scene;
	uint64_t evicted;
	char key[8];

	scene_open(&scene);
	for (unsigned i = 0; i < 300; i++) { /* there is room for 256 */
		(void)snprintf(key, sizeof(key), "k%u", i);
		store(&scene, key, NULL);
	}
	evicted = rig_counter(scene.peer, "evictions_capacity_total");
	assert_true(evicted >= 44);
	assert_int_equal(rig_counter(scene.peer, "mrc_samples"), 300);
	store(&scene, "k0", NULL);
	assert_int_equal(uses(&scene), 301);
	assert_int_equal(hits(&scene), 0);
	assert_int_equal(rig_counter(scene.peer, "mrc_hits_two_total"), 1);
	assert_int_equal(rig_delete(scene.peer, scene.id, "k1"), KVP_MISS);
	assert_int_equal(rig_counter(scene.peer, "mrc_samples"), 299);

	evict_all(&scene);
	assert_true(rig_counter(scene.peer, "mrc_samples") <= evicted);
	rig_stop(&scene.rig);
}

/* As a client's thread does it. */
static void read_without_asking(struct kvp_record *record, uint32_t block, bool aside)
{
	record->touched[record->touches % KVP_TOUCHES] = aside ? block | KVP_TOUCH_ASIDE : block;
	record->asides += aside;
	record->touches++;
}

static void test_touches(void **state)
{
	struct scene scene;
	struct kvp_record *record;

	scene_open(&scene);
	store(&scene, "a", NULL);
	record = &kvp_control_records(scene.peer->control)[1];
	scene.peer->control->records_used = 2;
	read_without_asking(record, 1, true);
	rig_advance_ms(&scene.rig, 2000);
	assert_int_equal(rig_counter(scene.peer, "local_reads_total"), 1);
	assert_int_equal(uses(&scene), 1);

	/* The ring holds the last 64: 32 of 150 uses, and as many lookups. */
	for (unsigned i = 0; i < 118; i++)
		read_without_asking(record, 1, false);
	for (unsigned i = 0; i < 64; i++)
		read_without_asking(record, 1, i % 2);
	rig_advance_ms(&scene.rig, 2000);
	assert_int_equal(uses(&scene), 151);
	assert_int_equal(hits(&scene), 150);

	/* Uses that the ring does not show wait for one that it does. */
	for (unsigned i = 0; i < 10; i++)
		read_without_asking(record, 1, false);
	for (unsigned i = 0; i < KVP_TOUCHES; i++)
		read_without_asking(record, 1, true);
	rig_advance_ms(&scene.rig, 2000);
	assert_int_equal(uses(&scene), 151);
	read_without_asking(record, 1, false);
	rig_advance_ms(&scene.rig, 2000);
	assert_int_equal(uses(&scene), 162);

	/* A number that cannot be is believed up to a limit, for each use that the ring holds; or not at all. */
	record->touches += 1000 * KVP_TOUCHES;
	rig_advance_ms(&scene.rig, 2000);
	assert_int_equal(uses(&scene), 162 + 16);
	record->asides += 1000;
	read_without_asking(record, 1, false);
	rig_advance_ms(&scene.rig, 2000);
	assert_int_equal(uses(&scene), 178);
	rig_stop(&scene.rig);
}

static void test_off(void **state)
{
	struct rig rig;
	struct rig_peer *peer;
	Kvpaged__V1__OpenSpaceReply space;
	uint32_t id;

	rig_start_curve(&rig, 8 * MIB, 64, NULL, 0);
	peer = rig_connect(&rig, 0, 1000, MIB);
	id = rig_open_small(peer, &space);
	assert_int_equal(rig_append(peer, id, "a", NULL, 16, space.page_bytes, 0, 4, 1), KVP_OK);
	assert_int_equal(rig_counter(peer, "mrc_references_total"), 0);
	assert_int_equal(rig_counter(peer, "mrc_samples"), 0);
	rig_stop(&rig);
}

/* ---- Whether it comes true ---- */

/* Blocks of one page of 4.5 KiB; numbers are there for 4 KiB each, so memory runs out first. */
#define BLOCKS_PER_EXTENT 512

struct replay {
	struct rig rig;
	struct rig_peer *peer;
	Kvpaged__V1__OpenSpaceReply space;
	uint32_t id;
	uint64_t hits;
	uint64_t references;
};

/* An arena with so many extents for pages. */
static void replay_open(struct replay *replay, uint32_t extents)
{
	Kvpaged__V1__Schema schema;

	for (uint32_t tables = 1;; tables++) {
		*replay = (struct replay){ 0 };
		rig_start_curve(&replay->rig, (extents + tables) * KVP_EXTENT_BYTES, extents * BLOCKS_PER_EXTENT, NULL,
				SAMPLES);
		if (replay->rig.core->arena.extents_count == extents)
			break;
		rig_stop(&replay->rig);
	}
	replay->peer = rig_connect(&replay->rig, 0, 1000, MIB);
	rig_schema(&schema, 1, 2, 64);
	replay->id = rig_open(replay->peer, "replay", &schema, &replay->space);
	assert_int_equal(replay->space.page_count, 1);
}

#define REQUEST_BLOCKS_MAX 1024

struct names {
	char text[REQUEST_BLOCKS_MAX][12];
	ProtobufCBinaryData keys[REQUEST_BLOCKS_MAX];
};

static void names_of(const struct trace *trace, const struct trace_request *request, struct names *names)
{
	assert_true(request->n <= REQUEST_BLOCKS_MAX);
	for (uint32_t i = 0; i < request->n; i++) {
		(void)snprintf(names->text[i], sizeof(names->text[i]), "%u", trace->blocks[request->first + i]);
		names->keys[i] = (ProtobufCBinaryData){ .data = (uint8_t *)names->text[i],
							.len = strlen(names->text[i]) };
	}
}

/* How many of a prompt's blocks are there, by Match. */
static size_t replay_match(struct replay *replay, struct names *names, uint32_t n)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Match body = KVPAGED__V1__MATCH__INIT;

	body.space_id = replay->id;
	body.keys = names->keys;
	body.n_keys = n;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_MATCH;
	request.match = &body;
	return rig_call(replay->peer, &request)->match->matched;
}

static void replay_fetch(struct replay *replay, struct names *names, size_t n)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Fetch body = KVPAGED__V1__FETCH__INIT;
	const Kvpaged__V1__Reply *reply;

	body.space_id = replay->id;
	body.keys = names->keys;
	body.n_keys = n;
	body.no_lease = true;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_FETCH;
	request.fetch = &body;
	reply = rig_call(replay->peer, &request);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(reply->fetch->items[i]->status, KVP_OK);
}

/* As a worker does: what is there is fetched, the rest is computed and appended. */
static void replay_request(struct replay *replay, const struct trace *trace, const struct trace_request *request)
{
	static struct names names;
	size_t matched;

	names_of(trace, request, &names);
	matched = replay_match(replay, &names, request->n);
	if (matched > 0)
		replay_fetch(replay, &names, matched);
	for (size_t i = matched; i < request->n; i++)
		assert_int_equal(rig_append(replay->peer, replay->id, names.text[i], i > 0 ? names.text[i - 1] : NULL,
					    16, replay->space.page_bytes, 0, 1, 1),
				 KVP_OK);
	replay->hits += matched;
	replay->references += request->n;
}

/* The real hit rate; the curve goes to ret_curve. */
static double replay_run(const struct trace *trace, size_t n_requests, uint32_t extents, double ret_curve[MRC_SIZES])
{
	struct replay replay;
	double rate;

	replay_open(&replay, extents);
	for (size_t i = 0; i < n_requests; i++)
		replay_request(&replay, trace, &trace->requests[i]);
	assert_int_equal(rig_counter(replay.peer, "mrc_references_total"), replay.references);
	for (unsigned size = 0; size < MRC_SIZES; size++)
		ret_curve[size] = (double)rig_counter(replay.peer, hits_names[size]) / (double)replay.references;
	rate = (double)replay.hits / (double)replay.references;
	rig_stop(&replay.rig);
	return rate;
}

/* Prints and returns the mean error of what the base's curve says of the others. Of itself it says what happened. */
static double foretell(const struct trace *trace, size_t n_requests, uint32_t base)
{
	double curve[MRC_SIZES], other[MRC_SIZES];
	double sum = 0;

	double rate = replay_run(trace, n_requests, base, curve);

	printf("x1 = %u extents, %zu requests:", base, n_requests);
	for (unsigned size = 0; size < MRC_SIZES; size++) {
		uint32_t extents = base * mrc_quarters[size] / 4;
		double real = size == MRC_SIZE_ONE ? rate : replay_run(trace, n_requests, extents, other);

		printf("  x%.2f %.4f (%+.4f)", mrc_quarters[size] / 4.0, real, curve[size] - real);
		sum += fabs(curve[size] - real);
	}
	printf("  mean error %.4f\n", sum / (MRC_SIZES - 1));
	assert_true(fabs(curve[MRC_SIZE_ONE] - rate) < 1e-9);
	return sum / (MRC_SIZES - 1);
}

static void foretell_trace(uint32_t base)
{
	const char *requests = getenv("KVP_REQUESTS");
	size_t n = requests ? strtoull(requests, NULL, 10) : 1000;
	struct trace trace;

	trace_load(&trace);
	if (n > trace.n_requests)
		n = trace.n_requests;
	assert_true(foretell(&trace, n, base) <= ERROR_MAX);
	trace_free(&trace);
}

static void test_comes_true(void **state)
{
	foretell_trace(12);
}

static void test_comes_true_larger(void **state)
{
	foretell_trace(24);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_asking),
		cmocka_unit_test(test_removed),
		cmocka_unit_test(test_evicted),
		cmocka_unit_test(test_touches),
		cmocka_unit_test(test_off),
		cmocka_unit_test(test_comes_true),
		cmocka_unit_test(test_comes_true_larger),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
