/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each verb refuses, and with which status: lists that are too long, keys and names that are too short or
 * too long, times and sizes beyond their limits. After each refusal the session goes on, and nothing has changed.
 */
#include "tests/lib/core-rig.h"
#include "tests/lib/harness.h"

#include "proto/layout.h"
#include "proto/status.h"

#include <stdlib.h>
#include <string.h>

#define MANY (KVP_ITEMS_MAX + 1)
#define VERB(name) KVPAGED__V1__REQUEST__VERB_##name

struct scene {
	struct rig rig;
	struct rig_peer *peer;
	uint32_t space;
	ProtobufCBinaryData *keys; /* [MANY], all of them "root" */
};

static void scene_begin(struct scene *scene)
{
	Kvpaged__V1__OpenSpaceReply opened;
	struct core_limits limits = { .staging_bytes_per_uid_max = 128 << 10 };

	rig_start(&scene->rig, KVP_ARENA_BYTES_MIN, 64, &limits);
	scene->peer = rig_connect(&scene->rig, 0, 1000, 64 << 10);
	scene->space = rig_open_small(scene->peer, &opened);
	assert_int_equal(rig_append(scene->peer, scene->space, "root", NULL, 16, opened.page_bytes, 0, 4, 1), KVP_OK);
	scene->keys = calloc(MANY, sizeof(*scene->keys));
	assert_non_null(scene->keys);
	for (size_t i = 0; i < MANY; i++)
		scene->keys[i] = (ProtobufCBinaryData){ .data = (uint8_t *)"root", .len = 4 };
}

static void scene_end(struct scene *scene)
{
	free(scene->keys);
	rig_stop(&scene->rig);
}

/* The status of a request whose message this is. */
static unsigned ask(struct scene *scene, Kvpaged__V1__Request__VerbCase verb, void *message)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	unsigned status;

	request.verb_case = verb;
	request.stats = message; /* a union of pointers */
	status = rig_call(scene->peer, &request)->status;
	rig_audit(&scene->rig);
	assert_null(scene->peer->hung_up);
	return status;
}

/* The status of the first item. */
static unsigned item(const struct scene *scene)
{
	return scene->peer->last->items->item_status.data[0];
}

/* Each verb with a space and keys: @message is of it, with that many keys. */
#define KEYED(type, NAME, kind)                                                                     \
	static unsigned ask_##type(struct scene *scene, uint32_t space, size_t n)                   \
	{                                                                                           \
		kind message;                                                                       \
                                                                                                    \
		kvpaged__v1__##type##__init(&message);                                              \
		message.space_id = space;                                                           \
		message.keys = scene->keys;                                                         \
		message.n_keys = n;                                                                 \
		return ask(scene, VERB(NAME), &message);                                            \
	}
KEYED(fetch, FETCH, Kvpaged__V1__Fetch)
KEYED(match, MATCH, Kvpaged__V1__Match)
KEYED(delete, DELETE, Kvpaged__V1__Delete)
KEYED(touch, TOUCH, Kvpaged__V1__Touch)
KEYED(unpin, UNPIN, Kvpaged__V1__Unpin)

static unsigned ask_pin(struct scene *scene, uint32_t space, size_t n)
{
	Kvpaged__V1__Pin pin = KVPAGED__V1__PIN__INIT;

	pin.space_id = space;
	pin.keys = scene->keys;
	pin.n_keys = n;
	pin.priority = 1;
	pin.ttl_ms = 1000;
	return ask(scene, VERB(PIN), &pin);
}

typedef unsigned ask_fn(struct scene *scene, uint32_t space, size_t n);
static ask_fn *const keyed[] = { ask_fetch, ask_match, ask_touch, ask_pin, ask_unpin, ask_delete };

static void test_lists(void **state)
{
	struct scene scene;

	scene_begin(&scene);
	for (size_t i = 0; i < sizeof(keyed) / sizeof(keyed[0]); i++) {
		assert_int_equal(keyed[i](&scene, scene.space, MANY), KVP_RANGE);
		assert_int_equal(keyed[i](&scene, scene.space + 1, 1), KVP_NO_SPACE_NAMED);
		assert_int_equal(keyed[i](&scene, 0, 1), KVP_NO_SPACE_NAMED);
		assert_int_equal(keyed[i](&scene, UINT32_MAX, 1), KVP_NO_SPACE_NAMED);
		assert_int_equal(keyed[i](&scene, scene.space, 0), KVP_OK);
	}
	assert_int_equal(rig_fetch(scene.peer, scene.space, "root", 0, NULL), KVP_OK); /* still there */
	scene_end(&scene);
}

/* A bad key spoils its own item, and a Delete as a whole. */
static void test_keys(void **state)
{
	uint8_t longest[KVP_KEY_BYTES_MAX + 1] = { 0 };
	struct scene scene;

	scene_begin(&scene);
	for (unsigned i = 0; i < 2; i++) {
		scene.keys[0] = (ProtobufCBinaryData){ .data = longest, .len = i ? sizeof(longest) : 0 };
		assert_int_equal(ask_touch(&scene, scene.space, 2), KVP_OK);
		assert_int_equal(item(&scene), KVP_INVALID);
		assert_int_equal(scene.peer->last->items->item_status.data[1], KVP_OK);
		assert_int_equal(ask_fetch(&scene, scene.space, 2), KVP_OK);
		assert_int_equal(scene.peer->last->fetch->items[0]->status, KVP_INVALID);
		assert_int_equal(scene.peer->last->fetch->items[1]->status, KVP_OK);
		assert_int_equal(ask_match(&scene, scene.space, 2), KVP_OK);
		assert_int_equal(scene.peer->last->match->matched, 0);
		assert_int_equal(scene.peer->last->match->status, KVP_INVALID);
		assert_int_equal(ask_unpin(&scene, scene.space, 1), KVP_OK);
		assert_int_equal(item(&scene), KVP_INVALID);
	}
	scene.keys[0] = (ProtobufCBinaryData){ .data = longest, .len = KVP_KEY_BYTES_MAX };
	assert_int_equal(ask_pin(&scene, scene.space, 1), KVP_OK);
	assert_int_equal(item(&scene), KVP_MISS);
	scene.keys[0].len++;
	assert_int_equal(ask_delete(&scene, scene.space, 2), KVP_INVALID); /* all or nothing */
	assert_int_equal(rig_fetch(scene.peer, scene.space, "root", 0, NULL), KVP_OK);
	scene_end(&scene);
}

static void test_numbers(void **state)
{
	Kvpaged__V1__Pin pin = KVPAGED__V1__PIN__INIT;
	Kvpaged__V1__List list = KVPAGED__V1__LIST__INIT;
	Kvpaged__V1__Evict evict = KVPAGED__V1__EVICT__INIT;
	Kvpaged__V1__Release release = KVPAGED__V1__RELEASE__INIT;
	uint64_t leases[MANY] = { 0 };
	struct scene scene;

	scene_begin(&scene);
	pin.space_id = list.space_id = scene.space;
	pin.keys = scene.keys;
	pin.n_keys = 1;
	pin.priority = KVP_PIN_PRIORITY_MAX;
	assert_int_equal(ask(&scene, VERB(PIN), &pin), KVP_RANGE); /* no time */
	pin.ttl_ms = 86400001;
	assert_int_equal(ask(&scene, VERB(PIN), &pin), KVP_RANGE);
	pin.ttl_ms = 86400000;
	assert_int_equal(ask(&scene, VERB(PIN), &pin), KVP_OK);
	pin.priority++;
	assert_int_equal(ask(&scene, VERB(PIN), &pin), KVP_RANGE);
	assert_int_equal(ask(&scene, VERB(LIST), &list), KVP_OK); /* 0: the most */
	assert_int_equal(scene.peer->last->list->n_items, 1);
	list.limit = UINT32_MAX;
	assert_int_equal(ask(&scene, VERB(LIST), &list), KVP_OK);
	list.cursor = UINT64_MAX;
	assert_int_equal(ask(&scene, VERB(LIST), &list), KVP_OK); /* behind the end */
	assert_int_equal(scene.peer->last->list->n_items, 0);
	assert_int_equal(scene.peer->last->list->next_cursor, 0);
	evict.space_id = scene.space + 1;
	evict.all = true;
	assert_int_equal(ask(&scene, VERB(EVICT), &evict), KVP_NO_SPACE_NAMED);
	release.lease_ids = leases;
	release.n_lease_ids = MANY;
	assert_int_equal(ask(&scene, VERB(RELEASE), &release), KVP_RANGE);
	release.n_lease_ids = 1;
	assert_int_equal(ask(&scene, VERB(RELEASE), &release), KVP_OK);
	assert_int_equal(item(&scene), KVP_STALE);
	scene_end(&scene);
}

static void test_times(void **state)
{
	Kvpaged__V1__Fetch fetch = KVPAGED__V1__FETCH__INIT;
	Kvpaged__V1__Subscribe subscribe = KVPAGED__V1__SUBSCRIBE__INIT;
	Kvpaged__V1__Resize resize = KVPAGED__V1__RESIZE__INIT;
	struct scene scene;

	scene_begin(&scene);
	fetch.space_id = scene.space;
	fetch.keys = scene.keys;
	fetch.n_keys = 1;
	fetch.lease_ttl_ms = UINT32_MAX;
	assert_int_equal(ask(&scene, VERB(FETCH), &fetch), KVP_OK); /* for the longest time there is */
	rig_advance_ms(&scene.rig, 600001);
	assert_int_equal(rig_counter(scene.peer, "leases"), 0);
	subscribe.max = 0;
	assert_int_equal(ask(&scene, VERB(SUBSCRIBE), &subscribe), KVP_RANGE);
	subscribe.max = KVP_EVENTS_MAX + 1;
	assert_int_equal(ask(&scene, VERB(SUBSCRIBE), &subscribe), KVP_RANGE);
	subscribe.max = 1;
	subscribe.wait_ms = KVP_SUBSCRIBE_WAIT_MS_MAX + 1;
	assert_int_equal(ask(&scene, VERB(SUBSCRIBE), &subscribe), KVP_RANGE);
	subscribe.wait_ms = 0;
	subscribe.after = 1000;
	assert_int_equal(ask(&scene, VERB(SUBSCRIBE), &subscribe), KVP_STALE);
	assert_int_equal(ask(&scene, VERB(RESIZE), &resize), KVP_INVALID);
	resize.bytes = KVP_ARENA_BYTES_MIN + 1;
	assert_int_equal(ask(&scene, VERB(RESIZE), &resize), KVP_RANGE);
	resize.bytes = KVP_ARENA_BYTES_MIN;
	resize.wait_ms = KVP_RESIZE_WAIT_MS_MAX + 1;
	assert_int_equal(ask(&scene, VERB(RESIZE), &resize), KVP_RANGE);
	resize.wait_ms = 0;
	assert_int_equal(ask(&scene, VERB(RESIZE), &resize), KVP_OK); /* it is that large */
	scene_end(&scene);
}

static void test_names(void **state)
{
	static uint8_t letters[KVP_NAME_BYTES_MAX + 1];
	static const char *const bad[] = { "a\nb", "\x1b[1m", "\xff\xfe" };
	Kvpaged__V1__DropSpace drop = KVPAGED__V1__DROP_SPACE__INIT;
	Kvpaged__V1__OpenSpace open = KVPAGED__V1__OPEN_SPACE__INIT;
	Kvpaged__V1__Why why = KVPAGED__V1__WHY__INIT;
	Kvpaged__V1__Schema schema;
	struct scene scene;

	scene_begin(&scene);
	memset(letters, 'a', sizeof(letters));
	rig_schema(&schema, 1, 1, 64);
	open.schema = &schema;
	assert_int_equal(ask(&scene, VERB(DROP_SPACE), &drop), KVP_INVALID);
	assert_int_equal(ask(&scene, VERB(OPEN_SPACE), &open), KVP_INVALID);
	open.name = drop.name = (ProtobufCBinaryData){ .data = letters, .len = sizeof(letters) };
	assert_int_equal(ask(&scene, VERB(DROP_SPACE), &drop), KVP_INVALID);
	assert_int_equal(ask(&scene, VERB(OPEN_SPACE), &open), KVP_INVALID);
	open.name.len = drop.name.len = KVP_NAME_BYTES_MAX;
	assert_int_equal(ask(&scene, VERB(DROP_SPACE), &drop), KVP_NO_SPACE_NAMED);
	schema.revision = (ProtobufCBinaryData){ .data = letters, .len = KVP_REVISION_BYTES_MAX + 1 };
	assert_int_equal(ask(&scene, VERB(OPEN_SPACE), &open), KVP_INVALID);
	schema.revision.len--;
	assert_int_equal(ask(&scene, VERB(OPEN_SPACE), &open), KVP_OK);
	schema.revision.len--;
	assert_int_equal(ask(&scene, VERB(OPEN_SPACE), &open), KVP_SCHEMA);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		open.name = (ProtobufCBinaryData){ .data = (uint8_t *)bad[i], .len = strlen(bad[i]) };
		assert_int_equal(ask(&scene, VERB(OPEN_SPACE), &open), KVP_INVALID);
	}
	why.space_id = scene.space;
	assert_int_equal(ask(&scene, VERB(WHY), &why), KVP_INVALID); /* no key */
	assert_int_equal(ask(&scene, VERB(DROP_SPACE), &drop), KVP_OK);
	scene_end(&scene);
}

/* A request that waits keeps its number. */
static void test_numbers_in_use(void **state)
{
	Kvpaged__V1__Subscribe subscribe = KVPAGED__V1__SUBSCRIBE__INIT;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Stats stats = KVPAGED__V1__STATS__INIT;
	struct scene scene;

	scene_begin(&scene);
	subscribe.from_now = true;
	subscribe.max = 1;
	subscribe.wait_ms = 1000;
	request.id = 777;
	request.verb_case = VERB(SUBSCRIBE);
	request.subscribe = &subscribe;
	rig_send(scene.peer, &request);
	assert_int_equal(ask(&scene, VERB(SUBSCRIBE), &subscribe), KVP_TOO_MANY); /* one at a time */
	request.verb_case = VERB(STATS);
	request.stats = &stats;
	rig_send(scene.peer, &request);
	assert_non_null(scene.peer->hung_up);
	assert_int_equal(scene.peer->last->status, KVP_PROTOCOL);
	rig_send(scene.peer, &request); /* nobody listens any more */
	rig_audit(&scene.rig);
	scene_end(&scene);
}

/* What one user's sessions may have of staging memory is used up. */
static void test_staging_of_a_user(void **state)
{
	Kvpaged__V1__Hello hello = KVPAGED__V1__HELLO__INIT;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	struct scene scene;

	scene_begin(&scene);
	(void)rig_connect(&scene.rig, 1, 1000, 64 << 10);
	assert_int_equal(rig_connect_raw(&scene.rig, 2, 1000), 0);
	scene.peer = &scene.rig.peers[2];
	hello.version_min = hello.version_max = 1;
	hello.staging_bytes = 64 << 10;
	request.verb_case = VERB(HELLO);
	request.hello = &hello;
	assert_int_equal(rig_call(scene.peer, &request)->status, KVP_QUOTA);
	assert_non_null(scene.peer->hung_up);
	(void)rig_connect(&scene.rig, 3, 1001, 64 << 10); /* another user's is untouched */
	rig_audit(&scene.rig);
	scene_end(&scene);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_lists),
	cmocka_unit_test(test_keys),
	cmocka_unit_test(test_numbers),
	cmocka_unit_test(test_times),
	cmocka_unit_test(test_names),
	cmocka_unit_test(test_numbers_in_use),
	cmocka_unit_test(test_staging_of_a_user),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
