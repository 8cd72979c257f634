/* SPDX-License-Identifier: Apache-2.0 */
/* kvc_why() and kvc_events() on a real daemon: reasons, following, resuming, and a daemon that is another one. */
#include "tests/e2e/test-client-rig.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define EVENTS 16

struct rig {
	struct test_daemon d;
	kvc_client *client;
	kvc_client *follower;
	kvc_space *space;
};

static void rig_start(struct rig *rig)
{
	struct kvc_schema schema = schema_small();

	test_daemon_start(&rig->d, NULL);
	rig->client = open_client(&rig->d, 0);
	rig->follower = open_client(&rig->d, KVC_READ_ONLY);
	rig->space = open_space(rig->client, "s", &schema);
}

static void rig_stop(struct rig *rig)
{
	kvc_close(rig->follower);
	kvc_close(rig->client);
	test_daemon_stop(&rig->d);
}

static size_t follow(struct rig *rig, struct kvc_event_cursor *cursor, struct kvc_event *events, uint32_t timeout_ms)
{
	size_t n;

	assert_int_equal(kvc_events(rig->follower, cursor, events, EVENTS, timeout_ms, &n), KVC_OK);
	return n;
}

static void expect(const struct kvc_event *event, uint64_t number, int kind, const char *key, int reason)
{
	assert_int_equal(event->number, number);
	assert_int_equal(event->kind, kind);
	assert_int_equal(event->reason, reason);
	assert_int_equal(event->key_n, strlen(key));
	assert_memory_equal(event->key, key, event->key_n);
	assert_string_equal(event->space, "s");
}

static void test_why(void **state)
{
	struct kvc_key key = key_of("k"), empty = { NULL, 0 };
	struct kvc_why why;
	struct rig rig;

	rig_start(&rig);
	assert_int_equal(kvc_why(rig.space, &key, &why), KVC_OK);
	assert_int_equal(why.fate, KVC_FATE_UNKNOWN);
	assert_int_equal(append_block(rig.space, "k", NULL, 1, 32), KVC_OK);
	assert_int_equal(kvc_why(rig.space, &key, &why), KVC_OK);
	assert_int_equal(why.fate, KVC_FATE_PRESENT);
	assert_int_equal(why.tokens, 32);
	assert_int_equal(why.pages_ready, why.page_count);
	assert_int_equal(kvc_evict(rig.client, NULL, 0, 0, NULL, NULL), KVC_OK);
	assert_int_equal(kvc_why(rig.space, &key, &why), KVC_OK);
	assert_int_equal(why.fate, KVC_FATE_EVICTED_REQUEST);
	assert_string_equal(kvc_fate_word(why.fate), "evicted_request");
	assert_int_equal(kvc_why(rig.space, &empty, &why), KVC_INVALID);
	assert_int_equal(kvc_why(rig.space, NULL, &why), -EINVAL);
	assert_int_equal(kvc_why(NULL, &key, &why), -EINVAL);
	assert_string_equal(kvc_fate_word(-1), "?");
	rig_stop(&rig);
}

static void test_follow(void **state)
{
	struct kvc_event_cursor cursor = { 0 }, late = { .after = KVC_EVENTS_FROM_NOW };
	struct kvc_event events[EVENTS];
	struct kvc_key key = key_of("a");
	struct rig rig;

	rig_start(&rig);
	assert_int_equal(follow(&rig, &cursor, events, 0), 0);
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	assert_int_equal(append_block(rig.space, "b", "a", 1, 32), KVC_OK);
	assert_int_equal(follow(&rig, &late, events, 0), 0); /* what was is not told */
	assert_int_equal(follow(&rig, &cursor, events, 5000), 2);
	expect(&events[0], 1, KVC_EVENT_STORED, "a", KVC_FATE_PRESENT);
	expect(&events[1], 2, KVC_EVENT_STORED, "b", KVC_FATE_PRESENT);
	assert_int_equal(kvc_delete(rig.space, &key, 1, NULL), KVC_OK);
	assert_int_equal(follow(&rig, &late, events, 5000), 2);
	expect(&events[0], 3, KVC_EVENT_REMOVED, "b", KVC_FATE_DELETED);
	expect(&events[1], 4, KVC_EVENT_REMOVED, "a", KVC_FATE_DELETED);
	cursor.after = 1; /* again, from a number on */
	assert_int_equal(follow(&rig, &cursor, events, 0), 3);
	assert_int_equal(events[0].number, 2);
	assert_int_equal(cursor.lost, 0);
	rig_stop(&rig);
}

static void *append_later(void *context)
{
	struct rig *rig = context;

	pause_ms(100);
	assert_int_equal(append_block(rig->space, "late", NULL, 1, 32), KVC_OK);
	return NULL;
}

static void test_waiting(void **state)
{
	struct kvc_event_cursor cursor = { .after = KVC_EVENTS_FROM_NOW };
	struct kvc_event events[EVENTS];
	pthread_t thread;
	struct rig rig;

	rig_start(&rig);
	assert_int_equal(pthread_create(&thread, NULL, append_later, &rig), 0);
	assert_int_equal(follow(&rig, &cursor, events, 20000), 1);
	expect(&events[0], 1, KVC_EVENT_STORED, "late", KVC_FATE_PRESENT);
	assert_int_equal(pthread_join(thread, NULL), 0);
	rig_stop(&rig);
}

static void test_another_daemon(void **state)
{
	struct kvc_event_cursor cursor = { 0 };
	struct kvc_event events[EVENTS];
	struct rig rig;
	int restarted = 0;
	size_t n = 0;

	rig_start(&rig);
	for (unsigned i = 0; i < 3; i++) {
		char key[2] = { (char)('a' + i), '\0' };

		assert_int_equal(append_block(rig.space, key, NULL, 1, 32), KVC_OK);
	}
	assert_int_equal(follow(&rig, &cursor, events, 0), 3);
	test_daemon_kill(&rig.d);
	test_daemon_restart(&rig.d);
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	for (unsigned i = 0; i < 2 && n == 0; i++) {
		n = follow(&rig, &cursor, events, 5000);
		restarted |= cursor.restarted;
	}
	assert_true(restarted);
	assert_int_equal(n, 1);
	expect(&events[0], 1, KVC_EVENT_STORED, "a", KVC_FATE_PRESENT);
	rig_stop(&rig);
}

/* What clients say of their work reaches the counters. */
static void test_client_figures(void **state)
{
	struct kvc_schema schema = schema_small();
	kvc_reader *reader = NULL;
	struct kvc_key none = key_of("none");
	size_t matched;
	struct rig rig;

	rig_start(&rig);
	assert_int_equal(kvc_reader_open(rig.client, &reader), KVC_OK);
	assert_int_equal(append_block(rig.space, "a", NULL, 1, schema.block_tokens), KVC_OK); /* the first is timed */
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(fetch_block(rig.space, "a", 1), KVC_OK);
	assert_int_equal(kvc_match(rig.space, reader, &none, 1, NULL, &matched), KVC_OK);
	for (unsigned i = 0; i < 200 && counter_of(rig.client, "decode_bytes_total") == 0; i++)
		pause_ms(20);
	assert_true(counter_of(rig.client, "encode_bytes_total") > 0);
	assert_true(counter_of(rig.client, "decode_bytes_total") > 0);
	for (unsigned i = 0; i < 200 && counter_of(rig.client, "local_misses_total") == 0; i++)
		pause_ms(20);
	assert_int_equal(counter_of(rig.client, "local_misses_total"), 1);
	kvc_reader_close(reader);
	rig_stop(&rig);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_why),
		cmocka_unit_test(test_follow),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_another_daemon),
		cmocka_unit_test(test_client_figures),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
