/* SPDX-License-Identifier: Apache-2.0 */
/* What the core tells of blocks: why one is not there, and what happened, in order, to whoever asks or waits. */
#include "tests/lib/core-rig.h"
#include "tests/lib/harness.h"

#include "base/units.h"
#include "proto/fate.h"
#include "proto/status.h"

#include <stdio.h>
#include <string.h>

#define ARENA (64 * MIB)
#define BLOCKS 4
#define KEPT 8

struct scene {
	struct rig rig;
	struct rig_peer *peer;
	struct rig_peer *other;
	uint32_t space;
	Kvpaged__V1__OpenSpaceReply reply;
};

/* Room for BLOCKS blocks, and for KEPT events. */
static void scene_start(struct scene *scene)
{
	struct core_limits limits = { .events_kept = KEPT };

	rig_start(&scene->rig, ARENA, BLOCKS, &limits);
	scene->peer = rig_connect(&scene->rig, 0, 1000, MIB);
	scene->other = rig_connect(&scene->rig, 1, 1001, MIB);
	scene->space = rig_open_small(scene->peer, &scene->reply);
	assert_int_equal(rig_open_small(scene->other, &scene->reply), scene->space);
}

static void store(struct scene *scene, struct rig_peer *peer, const char *key, const char *parent, uint32_t pages)
{
	assert_int_equal(rig_append(peer, scene->space, key, parent, 16, scene->reply.page_bytes, 0, pages, 1), KVP_OK);
}

static const Kvpaged__V1__WhyReply *why(struct scene *scene, const char *key)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Why body = KVPAGED__V1__WHY__INIT;
	const Kvpaged__V1__Reply *reply;

	body.space_id = scene->space;
	body.key = (ProtobufCBinaryData){ .len = strlen(key), .data = (uint8_t *)key };
	request.verb_case = KVPAGED__V1__REQUEST__VERB_WHY;
	request.why = &body;
	reply = rig_call(scene->peer, &request);
	assert_int_equal(reply->status, KVP_OK);
	return reply->why;
}

static void subscribe(struct rig_peer *peer, uint64_t after, uint32_t max, uint32_t wait_ms, bool from_now)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Subscribe body = KVPAGED__V1__SUBSCRIBE__INIT;

	body.after = after;
	body.max = max;
	body.wait_ms = wait_ms;
	body.from_now = from_now;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_SUBSCRIBE;
	request.subscribe = &body;
	rig_send(peer, &request);
}

static void expect_event(const Kvpaged__V1__SubscribeReply *reply, size_t i, uint64_t number, uint32_t kind,
			 const char *key, uint32_t reason)
{
	const Kvpaged__V1__Event *event;

	assert_true(i < reply->n_events);
	event = reply->events[i];
	assert_int_equal(event->number, number);
	assert_int_equal(event->kind, kind);
	assert_int_equal(event->reason, reason);
	assert_int_equal(event->key.len, strlen(key));
	if (event->key.len > 0)
		assert_memory_equal(event->key.data, key, event->key.len);
	assert_true(event->space.len > 0);
}

static void test_fates(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(why(&scene, "a")->fate, KVP_FATE_UNKNOWN);
	store(&scene, scene.peer, "a", NULL, 4);
	store(&scene, scene.peer, "b", "a", 2);
	rig_advance_ms(&scene.rig, 70);
	assert_int_equal(why(&scene, "a")->fate, KVP_FATE_PRESENT);
	assert_int_equal(why(&scene, "a")->children, 1);
	assert_true(why(&scene, "a")->ago_ms >= 70);
	assert_int_equal(why(&scene, "b")->fate, KVP_FATE_PARTIAL);
	assert_int_equal(why(&scene, "b")->pages_ready, 2);
	store(&scene, scene.other, "c", NULL, 1);
	rig_disconnect(scene.other);
	assert_int_equal(why(&scene, "c")->fate, KVP_FATE_WRITER_GONE);
	rig_advance_ms(&scene.rig, 61000); /* longer than a partial block may wait */
	assert_int_equal(why(&scene, "b")->fate, KVP_FATE_UNFINISHED);
	assert_int_equal(rig_delete(scene.peer, scene.space, "a"), KVP_OK);
	rig_advance_ms(&scene.rig, 30);
	assert_int_equal(why(&scene, "a")->fate, KVP_FATE_DELETED);
	assert_true(why(&scene, "a")->ago_ms >= 30);
	assert_true(why(&scene, "a")->remembered >= BLOCKS);
	rig_stop(&scene.rig);
}

/* A block that is stored again, or missed, is counted by what became of it before. */
static void test_reasons_are_counted(void **state)
{
	struct scene scene;
	char key[2] = "a";

	scene_start(&scene);
	for (; key[0] < 'a' + BLOCKS + 1; key[0]++)
		store(&scene, scene.peer, key, NULL, 4);
	assert_int_equal(why(&scene, "a")->fate, KVP_FATE_EVICTED);
	assert_int_equal(rig_counter(scene.peer, "begun_new_total"), BLOCKS + 1);
	store(&scene, scene.peer, "a", NULL, 4);
	assert_int_equal(rig_counter(scene.peer, "begun_evicted_total"), 1);
	assert_int_equal(rig_delete(scene.peer, scene.space, "a"), KVP_OK);
	store(&scene, scene.peer, "a", NULL, 4);
	assert_int_equal(rig_counter(scene.peer, "begun_removed_total"), 1);
	rig_stop(&scene.rig);
}

static void test_elsewhere(void **state)
{
	struct scene scene;
	Kvpaged__V1__Schema schema;
	Kvpaged__V1__OpenSpaceReply reply;
	const Kvpaged__V1__WhyReply *answer;
	uint32_t second;

	scene_start(&scene);
	rig_schema(&schema, 2, 2, 64);
	second = rig_open(scene.peer, "second", &schema, &reply);
	assert_int_equal(rig_append(scene.peer, second, "k", NULL, 16, reply.page_bytes, 0, 1, 1), KVP_OK);
	answer = why(&scene, "k");
	assert_int_equal(answer->fate, KVP_FATE_UNKNOWN);
	assert_int_equal(answer->n_elsewhere, 1);
	assert_memory_equal(answer->elsewhere[0].data, "second", 6);
	rig_stop(&scene.rig);
}

static void test_events_in_order(void **state)
{
	struct scene scene;
	const Kvpaged__V1__SubscribeReply *reply;

	scene_start(&scene);
	store(&scene, scene.peer, "a", NULL, 4);
	store(&scene, scene.peer, "b", "a", 4);
	assert_int_equal(rig_delete(scene.peer, scene.space, "a"), KVP_OK);
	store(&scene, scene.peer, "c", NULL, 1); /* not complete: nobody is told */
	subscribe(scene.peer, 0, 512, 0, false);
	reply = scene.peer->last->subscribe;
	assert_int_equal(reply->n_events, 4);
	assert_int_equal(reply->last, 4);
	assert_int_equal(reply->lost, 0);
	expect_event(reply, 0, 1, KVP_EVENT_STORED, "a", KVP_FATE_PRESENT);
	expect_event(reply, 1, 2, KVP_EVENT_STORED, "b", KVP_FATE_PRESENT);
	expect_event(reply, 2, 3, KVP_EVENT_REMOVED, "b", KVP_FATE_DELETED);
	expect_event(reply, 3, 4, KVP_EVENT_REMOVED, "a", KVP_FATE_DELETED);
	subscribe(scene.peer, 2, 1, 0, false); /* from a number on, in parts */
	reply = scene.peer->last->subscribe;
	assert_int_equal(reply->n_events, 1);
	expect_event(reply, 0, 3, KVP_EVENT_REMOVED, "b", KVP_FATE_DELETED);
	rig_stop(&scene.rig);
}

static void test_forgotten_events_are_counted(void **state)
{
	struct scene scene;
	const Kvpaged__V1__SubscribeReply *reply;

	scene_start(&scene);
	for (unsigned i = 0; i < KEPT; i++) {
		store(&scene, scene.peer, "a", NULL, 4);
		assert_int_equal(rig_delete(scene.peer, scene.space, "a"), KVP_OK);
	}
	subscribe(scene.peer, 3, 512, 0, false);
	reply = scene.peer->last->subscribe;
	assert_int_equal(reply->last, 2 * KEPT);
	assert_int_equal(reply->lost, KEPT - 3);
	assert_int_equal(reply->n_events, KEPT);
	expect_event(reply, 0, KEPT + 1, KVP_EVENT_STORED, "a", KVP_FATE_PRESENT);
	rig_stop(&scene.rig);
}

static void test_waiting(void **state)
{
	struct scene scene;
	unsigned before;

	scene_start(&scene);
	store(&scene, scene.peer, "a", NULL, 4);
	before = scene.other->n_replies;
	subscribe(scene.other, 0, 512, 1000, true);
	assert_int_equal(scene.other->n_replies, before); /* it waits */
	subscribe(scene.other, 0, 512, 1000, true);
	assert_int_equal(scene.other->last->status, KVP_TOO_MANY); /* once */
	before = scene.other->n_replies;
	store(&scene, scene.peer, "b", NULL, 4);
	store(&scene, scene.peer, "c", NULL, 4);
	rig_advance_ms(&scene.rig, 10);
	assert_int_equal(scene.other->n_replies, before + 1); /* both with one answer */
	assert_int_equal(scene.other->last->subscribe->n_events, 2);
	expect_event(scene.other->last->subscribe, 0, 2, KVP_EVENT_STORED, "b", KVP_FATE_PRESENT);
	subscribe(scene.other, 3, 512, 50, false);
	rig_advance_ms(&scene.rig, 60);
	assert_int_equal(scene.other->n_replies, before + 2); /* its time is over */
	assert_int_equal(scene.other->last->subscribe->n_events, 0);
	assert_int_equal(scene.other->last->subscribe->last, 3);
	subscribe(scene.other, 3, 512, 50, false);
	rig_disconnect(scene.other); /* while it waits */
	store(&scene, scene.peer, "d", NULL, 4);
	rig_advance_ms(&scene.rig, 100);
	assert_int_equal(rig_counter(scene.peer, "subscribers"), 0);
	rig_stop(&scene.rig);
}

/* A dropped space's events stay, under its name only as long as no other can have its number. */
static void test_cleared(void **state)
{
	struct scene scene;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__DropSpace body = KVPAGED__V1__DROP_SPACE__INIT;
	const Kvpaged__V1__SubscribeReply *reply;
	Kvpaged__V1__Schema schema;

	scene_start(&scene);
	rig_schema(&schema, 2, 2, 64);
	(void)rig_open(scene.peer, "gone", &schema, &scene.reply);
	body.name = (ProtobufCBinaryData){ .len = 4, .data = (uint8_t *)"gone" };
	request.verb_case = KVPAGED__V1__REQUEST__VERB_DROP_SPACE;
	request.drop_space = &body;
	assert_int_equal(rig_call(scene.peer, &request)->status, KVP_OK);
	subscribe(scene.peer, 0, 512, 0, false);
	reply = scene.peer->last->subscribe;
	assert_int_equal(reply->n_events, 1);
	assert_int_equal(reply->events[0]->kind, KVP_EVENT_CLEARED);
	assert_memory_equal(reply->events[0]->space.data, "gone", 4);
	rig_stop(&scene.rig);
}

static void test_bad_numbers(void **state)
{
	struct scene scene;

	scene_start(&scene);
	subscribe(scene.peer, 1, 1, 0, false);
	assert_int_equal(scene.peer->last->status, KVP_STALE);
	subscribe(scene.peer, 0, 0, 0, false);
	assert_int_equal(scene.peer->last->status, KVP_RANGE);
	subscribe(scene.peer, 0, KVP_EVENTS_MAX + 1, 0, false);
	assert_int_equal(scene.peer->last->status, KVP_RANGE);
	subscribe(scene.peer, 0, 1, KVP_SUBSCRIBE_WAIT_MS_MAX + 1, false);
	assert_int_equal(scene.peer->last->status, KVP_RANGE);
	rig_stop(&scene.rig);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fates),
		cmocka_unit_test(test_reasons_are_counted),
		cmocka_unit_test(test_elsewhere),
		cmocka_unit_test(test_events_in_order),
		cmocka_unit_test(test_forgotten_events_are_counted),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_cleared),
		cmocka_unit_test(test_bad_numbers),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
