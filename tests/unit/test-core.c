/* SPDX-License-Identifier: Apache-2.0 */
/* The core through its requests: sessions, messages that are wrong, spaces, quotas. */
#include "tests/lib/core-rig.h"
#include "tests/lib/harness.h"

#include "base/units.h"
#include "daemon/core/internal.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA (16 * MIB)

static void test_hello_order(void **state)
{
	struct rig rig;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Stats stats = KVPAGED__V1__STATS__INIT;
	Kvpaged__V1__Hello hello = KVPAGED__V1__HELLO__INIT;

	rig_start(&rig, ARENA, 0, NULL);
	/* A request before Hello ends the session. */
	assert_int_equal(rig_connect_raw(&rig, 0, 1000), 0);
	request.verb_case = KVPAGED__V1__REQUEST__VERB_STATS;
	request.stats = &stats;
	assert_int_equal(rig_call(&rig.peers[0], &request)->status, KVP_PROTOCOL);
	assert_non_null(rig.peers[0].hung_up);
	/* A second Hello as well. */
	rig_connect(&rig, 1, 1000, 0);
	request = (Kvpaged__V1__Request)KVPAGED__V1__REQUEST__INIT;
	hello.version_min = hello.version_max = 1;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_HELLO;
	request.hello = &hello;
	assert_int_equal(rig_call(&rig.peers[1], &request)->status, KVP_PROTOCOL);
	assert_non_null(rig.peers[1].hung_up);
	/* So does no Hello at all. */
	assert_int_equal(rig_connect_raw(&rig, 2, 1000), 0);
	rig_advance_ms(&rig, 999);
	assert_null(rig.peers[2].hung_up);
	rig_advance_ms(&rig, 2);
	assert_non_null(rig.peers[2].hung_up);
	rig_stop(&rig);
}

static void test_hello_versions(void **state)
{
	static const uint32_t refused[][2] = { { 2, 9 }, { 0, 0 }, { 2, 1 } };
	struct rig rig;

	rig_start(&rig, ARENA, 0, NULL);
	for (unsigned i = 0; i < 3; i++) {
		Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
		Kvpaged__V1__Hello hello = KVPAGED__V1__HELLO__INIT;

		assert_int_equal(rig_connect_raw(&rig, i, 1000), 0);
		hello.version_min = refused[i][0];
		hello.version_max = refused[i][1];
		request.verb_case = KVPAGED__V1__REQUEST__VERB_HELLO;
		request.hello = &hello;
		assert_int_equal(rig_call(&rig.peers[i], &request)->status, KVP_VERSION);
		assert_non_null(rig.peers[i].hung_up);
	}
	rig_stop(&rig);
}

static void test_malformed_messages(void **state)
{
	/* Wrong wire type, cut varint, overlong varint, cut length, group. */
	static const char *const bad[] = { "\x0d\x01", "\x08\x80",
					   "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x12\x7f",
					   "\x0b" };
	struct rig rig;

	rig_start(&rig, ARENA, 0, NULL);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		rig_connect(&rig, i, 1000, 0);
		core_request(rig.peers[i].session, (const uint8_t *)bad[i], strlen(bad[i]), rig.now_ns);
		assert_int_equal(rig.peers[i].last->status, KVP_PROTOCOL);
		assert_non_null(rig.peers[i].hung_up);
		/* Deaf from now on. */
		core_request(rig.peers[i].session, (const uint8_t *)bad[i], strlen(bad[i]), rig.now_ns);
		assert_int_equal(rig.peers[i].n_replies, 2);
	}
	rig_stop(&rig);
}

/* A megabyte of empty submessages unfolds to 32 times its size: refused by the parser's bound, not by malloc. */
static void test_unfolding_is_bounded(void **state)
{
	struct rig rig;
	size_t n_refs = 400000, body = 2 * n_refs;
	uint8_t *message = malloc(body + 16);
	size_t at = 0;

	assert_non_null(message);
	rig_start(&rig, ARENA, 0, NULL);
	rig_connect(&rig, 0, 1000, MIB);
	message[at++] = 0x08;
	message[at++] = 0x09;
	message[at++] = 0x22; /* append */
	for (size_t left = body;; left >>= 7) {
		message[at++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
		if (left <= 0x7f)
			break;
	}
	for (size_t i = 0; i < n_refs; i++) {
		message[at++] = 0x2a; /* pages, empty */
		message[at++] = 0x00;
	}
	core_request(rig.peers[0].session, message, at, rig.now_ns);
	assert_int_equal(rig.peers[0].last->status, KVP_PROTOCOL);
	free(message);
	rig_stop(&rig);
}

static void test_unknown_request(void **state)
{
	struct rig rig;
	static const uint8_t unknown[] = { 0x08, 0x05, 0xfa, 0x06, 0x00 }; /* id 5, field 111 */

	rig_start(&rig, ARENA, 0, NULL);
	rig_connect(&rig, 0, 1000, 0);
	core_request(rig.peers[0].session, unknown, sizeof(unknown), rig.now_ns);
	assert_int_equal(rig.peers[0].last->status, KVP_UNSUPPORTED);
	assert_int_equal(rig.peers[0].last->id, 5);
	assert_null(rig.peers[0].hung_up);
	rig_stop(&rig);
}

static void test_id_zero_and_duplicate(void **state)
{
	struct rig rig;
	static const uint8_t zero[] = { 0x62, 0x00 }; /* Stats without id */
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Evict evict = KVPAGED__V1__EVICT__INIT;

	rig_start(&rig, ARENA, 0, NULL);
	rig_connect(&rig, 0, 1000, 0);
	core_request(rig.peers[0].session, zero, sizeof(zero), rig.now_ns);
	assert_int_equal(rig.peers[0].last->status, KVP_PROTOCOL);
	rig_connect(&rig, 1, 1000, 0);
	evict.all = true;
	request.id = 9;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_EVICT;
	request.evict = &evict;
	rig_send(&rig.peers[1], &request); /* queued */
	assert_null(rig.peers[1].hung_up);
	rig_send(&rig.peers[1], &request);
	assert_int_equal(rig.peers[1].last->status, KVP_PROTOCOL);
	assert_non_null(rig.peers[1].hung_up);
	rig_run(&rig);
	rig_stop(&rig);
}

static void test_in_flight_limit(void **state)
{
	struct rig rig;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Evict evict = KVPAGED__V1__EVICT__INIT;

	rig_start(&rig, ARENA, 0, NULL);
	rig_connect(&rig, 0, 1000, 0);
	evict.all = true;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_EVICT;
	request.evict = &evict;
	for (unsigned i = 0; i < KVP_REQUESTS_IN_FLIGHT_MAX; i++) {
		request.id = 100 + i;
		rig_send(&rig.peers[0], &request);
	}
	assert_null(rig.peers[0].hung_up);
	assert_int_equal(core_session_in_flight(rig.peers[0].session), KVP_REQUESTS_IN_FLIGHT_MAX);
	request.id = 99;
	rig_send(&rig.peers[0], &request);
	assert_non_null(rig.peers[0].hung_up);
	rig_stop(&rig);
}

static void test_space_mismatch_names_field(void **state)
{
	struct rig rig;
	struct rig_peer *peer;
	Kvpaged__V1__Schema schema, other;
	Kvpaged__V1__OpenSpace open = KVPAGED__V1__OPEN_SPACE__INIT;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	uint32_t *const fields[] = { &other.layers,     &other.kv_heads,     &other.head_dim_k,
				     &other.head_dim_v, &other.block_tokens, &other.codec_k,
				     &other.codec_v,    &other.dtype,        &other.page_heads };
	static const char *const names[] = { "layers",  "kv_heads", "head_dim_k", "head_dim_v", "block_tokens",
					     "codec_k", "codec_v",  "dtype",      "page_heads" };
	static const uint32_t values[] = { 5, 4, 72, 72, 17, 17, 17, 2, 1 };

	rig_start(&rig, ARENA, 0, NULL);
	peer = rig_connect(&rig, 0, 1000, 0);
	rig_schema(&schema, 4, 2, 64);
	rig_open(peer, "s", &schema, NULL);
	open.name = (ProtobufCBinaryData){ .data = (uint8_t *)"s", .len = 1 };
	open.schema = &other;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_OPEN_SPACE;
	request.open_space = &open;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const Kvpaged__V1__Reply *reply;

		other = schema;
		*fields[i] = values[i];
		request.id = 0;
		reply = rig_call(peer, &request);
		assert_int_equal(reply->status, KVP_SCHEMA);
		assert_non_null(memmem(reply->error.data, reply->error.len, names[i], strlen(names[i])));
	}
	other = schema;
	other.model = (ProtobufCBinaryData){ .data = (uint8_t *)"another", .len = 7 };
	request.id = 0;
	assert_int_equal(rig_call(peer, &request)->status, KVP_SCHEMA);
	rig_stop(&rig);
}

static void test_space_invalid(void **state)
{
	struct rig rig;
	struct rig_peer *peer;
	Kvpaged__V1__Schema schema;
	Kvpaged__V1__OpenSpace open = KVPAGED__V1__OPEN_SPACE__INIT;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	uint32_t *const fields[] = { &schema.layers,     &schema.layers,       &schema.kv_heads,
				     &schema.head_dim_k, &schema.head_dim_k,   &schema.head_dim_k,
				     &schema.head_dim_v, &schema.block_tokens, &schema.block_tokens,
				     &schema.codec_k,    &schema.dtype,        &schema.page_heads,
				     &schema.page_heads };
	static const uint32_t values[] = { 0, 1025, 0, 0, 12, 264, 4, 0, 257, 99, 7, 3, UINT32_MAX };
	static const struct {
		const char *name;
		size_t n;
	} bad_names[] = { { "", 0 }, { "a\0b", 3 }, { "\xff\xfe", 2 }, { "a\nb", 3 } };

	rig_start(&rig, ARENA, 0, NULL);
	peer = rig_connect(&rig, 0, 1000, 0);
	open.name = (ProtobufCBinaryData){ .data = (uint8_t *)"s", .len = 1 };
	open.schema = &schema;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_OPEN_SPACE;
	request.open_space = &open;
	for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		rig_schema(&schema, 4, 2, 64);
		*fields[i] = values[i];
		request.id = 0;
		assert_int_equal(rig_call(peer, &request)->status, KVP_INVALID);
	}
	rig_schema(&schema, 4, 2, 64);
	for (unsigned i = 0; i < sizeof(bad_names) / sizeof(bad_names[0]); i++) {
		open.name =
			(ProtobufCBinaryData){ .data = (uint8_t *)bad_names[i].name, .len = bad_names[i].n };
		request.id = 0;
		assert_int_equal(rig_call(peer, &request)->status, KVP_INVALID);
	}
	assert_int_equal(rig_counter(peer, "spaces"), 0);
	rig_stop(&rig);
}

static void test_spaces_run_out(void **state)
{
	struct rig rig;
	struct rig_peer *peer;
	Kvpaged__V1__Schema schema;
	Kvpaged__V1__OpenSpace open = KVPAGED__V1__OPEN_SPACE__INIT;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;

	rig_start(&rig, ARENA, 0, NULL);
	peer = rig_connect(&rig, 0, 1000, 0);
	rig_schema(&schema, 1, 1, 64);
	for (unsigned i = 0; i < KVP_SPACES_MAX; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "s%u", i);
		rig_open(peer, name, &schema, NULL);
	}
	open.name = (ProtobufCBinaryData){ .data = (uint8_t *)"more", .len = 4 };
	open.schema = &schema;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_OPEN_SPACE;
	request.open_space = &open;
	assert_int_equal(rig_call(peer, &request)->status, KVP_TOO_MANY);
	rig_stop(&rig);
}

static void test_quota_per_uid(void **state)
{
	struct rig rig;
	struct rig_peer *greedy, *other;
	Kvpaged__V1__OpenSpaceReply space;
	struct core_limits limits = { .sessions_max = 5,
				      .sessions_per_uid_max = 3,
				      .staging_bytes_per_uid_max = 3 * MIB };
	Kvpaged__V1__FetchItem item;
	uint32_t id;

	rig_start(&rig, ARENA, 0, &limits);
	greedy = rig_connect(&rig, 0, 1000, MIB);
	other = rig_connect(&rig, 1, 1001, MIB);
	id = rig_open_small(greedy, &space);
	(void)rig_open_small(other, NULL);
	assert_int_equal(rig_append(greedy, id, "k", NULL, 16, space.page_bytes, 0, 4, 1), KVP_OK);
	/* Half of the arena may be under one user's leases: the block is charged for each. */
	for (;;) {
		unsigned status = rig_fetch(greedy, id, "k", 0, &item);

		if (status == KVP_QUOTA)
			break;
		assert_int_equal(status, KVP_OK);
	}
	assert_int_equal(rig_fetch(other, id, "k", 0, &item), KVP_OK);
	assert_true(rig_counter(other, "quota_refused_total") > 0);
	/* Sessions of one user, and of all. */
	(void)rig_connect(&rig, 2, 1000, MIB);
	(void)rig_connect(&rig, 3, 1000, MIB);
	assert_int_equal(rig_connect_raw(&rig, 4, 1000), KVP_QUOTA);
	assert_int_equal(rig_connect_raw(&rig, 4, 1001), 0);
	assert_int_equal(rig_connect_raw(&rig, 5, 1002), KVP_QUOTA);
	rig_stop(&rig);
}

static void test_staging_refused(void **state)
{
	struct rig rig;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Hello hello = KVPAGED__V1__HELLO__INIT;

	rig_start(&rig, ARENA, 0, NULL);
	rig.refuse_staging = true;
	assert_int_equal(rig_connect_raw(&rig, 0, 1000), 0);
	hello.version_min = hello.version_max = 1;
	hello.staging_bytes = MIB;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_HELLO;
	request.hello = &hello;
	assert_int_equal(rig_call(&rig.peers[0], &request)->status, KVP_QUOTA);
	assert_non_null(rig.peers[0].hung_up);
	rig_stop(&rig);
}

static void test_drop_space(void **state)
{
	struct rig rig;
	struct rig_peer *a, *b;
	Kvpaged__V1__OpenSpaceReply space;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__DropSpace body = KVPAGED__V1__DROP_SPACE__INIT;
	uint32_t id;
	char key[16];

	rig_start(&rig, ARENA, 0, NULL);
	a = rig_connect(&rig, 0, 1000, MIB);
	b = rig_connect(&rig, 1, 1000, 0);
	id = rig_open_small(a, &space);
	(void)rig_open_small(b, NULL);
	for (unsigned i = 0; i < 100; i++) {
		(void)snprintf(key, sizeof(key), "k%u", i);
		assert_int_equal(rig_append(a, id, key, NULL, 16, space.page_bytes, 0, 4, 1), KVP_OK);
	}
	body.name = (ProtobufCBinaryData){ .data = (uint8_t *)"small", .len = 5 };
	request.verb_case = KVPAGED__V1__REQUEST__VERB_DROP_SPACE;
	request.drop_space = &body;
	assert_int_equal(rig_call(b, &request)->status, KVP_BUSY);
	rig_disconnect(a);
	request.id = 0;
	assert_int_equal(rig_call(b, &request)->status, KVP_OK);
	assert_int_equal(rig_counter(b, "spaces"), 0);
	assert_int_equal(rig_counter(b, "blocks"), 0);
	assert_int_equal(rig_counter(b, "free_bytes"),
			 rig_counter(b, "arena_bytes") - rig_counter(b, "metadata_bytes"));
	request.id = 0;
	assert_int_equal(rig_call(b, &request)->status, KVP_NO_SPACE_NAMED);
	/* The id that the session had open names nothing now. */
	assert_int_equal(rig_fetch(b, id, "k1", 0, NULL), KVP_NO_SPACE_NAMED);
	rig_stop(&rig);
}

static void test_stop(void **state)
{
	struct rig rig;
	struct rig_peer *peer;
	Kvpaged__V1__OpenSpaceReply space;
	uint32_t id;

	rig_start(&rig, ARENA, 0, NULL);
	peer = rig_connect(&rig, 0, 1000, MIB);
	id = rig_open_small(peer, &space);
	core_stop(rig.core);
	assert_int_equal(rig_append(peer, id, "k", NULL, 16, space.page_bytes, 0, 4, 1), KVP_STOPPING);
	rig_stop(&rig);
}

/* Turns of the host's loop are kept by the clock and by CPU time. */
static void test_turns(void **state)
{
	struct rig rig;
	struct rig_peer *peer;

	rig_start(&rig, ARENA, 0, NULL);
	peer = rig_connect(&rig, 0, 1000, 0);
	core_note_turn(rig.core, 5 * NS_PER_MS, 20000);
	core_note_turn(rig.core, 2 * NS_PER_MS, 2 * NS_PER_MS);
	core_note_turn(rig.core, 1000, 1000);
	assert_int_equal(rig_counter(peer, "loop_turns_total"), 3);
	assert_int_equal(rig_counter(peer, "loop_turns_slow_total"), 2);
	assert_int_equal(rig_counter(peer, "loop_turns_busy_total"), 1);
	assert_int_equal(rig_counter(peer, "loop_lag_max_us"), 5000);
	assert_int_equal(rig_counter(peer, "loop_work_max_us"), 2000);
	rig_stop(&rig);
}

static void test_sizes_refused(void **state)
{
	struct core_options options = {
		.arena_bytes = 8 * MIB, .incarnation = 1, .host = (const struct core_host *)1, .version = "0"
	};
	static const uint64_t bad[] = { 0, MIB, 8 * MIB + 4096, UINT64_C(2) << 40, UINT64_MAX };
	struct core *core = NULL;
	void *memory = calloc(1, 4096);

	options.arena = memory;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		options.arena_bytes = bad[i];
		assert_int_equal(core_new(&options, &core), -22);
	}
	options.arena_bytes = 8 * MIB;
	options.blocks_max = 1u << 20; /* its table would not leave an extent */
	assert_int_equal(core_new(&options, &core), -22);
	assert_null(core);
	free(memory);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hello_order),
		cmocka_unit_test(test_hello_versions),
		cmocka_unit_test(test_malformed_messages),
		cmocka_unit_test(test_unfolding_is_bounded),
		cmocka_unit_test(test_unknown_request),
		cmocka_unit_test(test_id_zero_and_duplicate),
		cmocka_unit_test(test_in_flight_limit),
		cmocka_unit_test(test_space_mismatch_names_field),
		cmocka_unit_test(test_space_invalid),
		cmocka_unit_test(test_spaces_run_out),
		cmocka_unit_test(test_quota_per_uid),
		cmocka_unit_test(test_staging_refused),
		cmocka_unit_test(test_drop_space),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_sizes_refused),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
