/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes and messages that no honest client sends, given to the real daemon: each gets the
 * documented answer, costs the daemon a bounded amount of memory, and leaves nothing behind. (What
 * frames do at the socket's level is in test-session.c.)
 */
#include "tests/e2e/wire.h"
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "proto/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BYTES(text) { .data = (uint8_t *)(text), .len = sizeof(text) - 1 }
#define STAGING (64u << 10)

static void connect_ready(const struct scene *scene, struct test_peer *peer, uint64_t staging_bytes)
{
	peer_connect(peer, scene->daemon.socket_path);
	peer_hello(peer, staging_bytes);
}

/* The answer is PROTOCOL and the session is over. */
static void expect_protocol_error(struct test_peer *peer)
{
	assert_int_equal(wire_receive_status(peer), KVP_PROTOCOL);
	peer_expect_end(peer);
	peer_close(peer);
}

/* ---- frames ---- */

static void test_refused_lengths_cost_nothing(void **state)
{
	static const uint32_t lengths[] = { 0, KVP_FRAME_BYTES_MAX + 1, INT32_MAX, UINT32_MAX };
	struct scene scene;

	scene_begin(&scene, NULL);
	for (unsigned i = 0; i < 400; i++) {
		struct test_peer peer;
		uint8_t header[FRAME_HEADER_BYTES];

		if (i % 2)
			connect_ready(&scene, &peer, 0);
		else
			peer_connect(&peer, scene.daemon.socket_path);
		frame_put_header(header, lengths[i / 2 % COUNT(lengths)]);
		assert_int_equal(peer_send_bytes(&peer, header, sizeof(header)), 0);
		peer_expect_end(&peer);
		peer_close(&peer);
	}
	scene_assert_memory(&scene, 4 * MIB);
	scene_end(&scene);
}

/* The longest length is fine, but it is a claim: memory comes with the bytes. */
static void test_claimed_length_costs_little(void **state)
{
	enum { PEERS = 64 };
	struct test_peer peers[PEERS];
	struct scene scene;

	scene_begin(&scene, NULL);
	for (unsigned i = 0; i < PEERS; i++) {
		uint8_t bytes[FRAME_HEADER_BYTES + 3] = { 0 };

		connect_ready(&scene, &peers[i], 0);
		frame_put_header(bytes, KVP_FRAME_BYTES_MAX);
		assert_int_equal(peer_send_bytes(&peers[i], bytes, sizeof(bytes)), 0);
	}
	scene_await(&scene, "sessions", PEERS + 1);
	pause_ms(50);
	scene_assert_memory(&scene, PEERS * (uint64_t)KVP_FRAME_BYTES_MAX / 3);
	for (unsigned i = 0; i < PEERS; i++)
		peer_close(&peers[i]);
	scene_end(&scene);
}

/* Cut in every place, by closing and by shutting down, before and after the hello. */
static void test_end_anywhere(void **state)
{
	static const uint8_t touch[] = {
		9, 0, 0, 0, 0x08, 0x07, 0x4a, 0x05, 0x08, 0x01, 0x12, 0x01, 'k',
	};
	struct scene scene;

	scene_begin(&scene, NULL);
	for (unsigned i = 0; i < 4 * sizeof(touch); i++) {
		struct test_peer peer;

		if (i & 1)
			connect_ready(&scene, &peer, STAGING);
		else
			peer_connect(&peer, scene.daemon.socket_path);
		assert_int_equal(peer_send_bytes(&peer, touch, i / 4), 0);
		if (i & 2) {
			assert_int_equal(shutdown(peer.fd, SHUT_WR), 0);
			peer_expect_end(&peer);
		}
		peer_close(&peer);
	}
	scene_end(&scene);
}

static void test_random_bytes(void **state)
{
	uint64_t seed = 20240607;
	time_t begin;
	unsigned lines;
	struct scene scene;

	scene_begin(&scene, "--session-hello-ttl-ms", "100ms", NULL);
	begin = time(NULL);
	for (unsigned i = 0; i < 300; i++) {
		uint64_t bytes[64];
		struct test_peer peer;

		for (unsigned j = 0; j < COUNT(bytes); j++)
			bytes[j] = random_next(&seed);
		/*
		 * Some lengths are made plausible, or else nothing beyond the header would be
		 * looked at.
		 */
		if (i % 3 == 0)
			frame_put_header((uint8_t *)bytes,
					 (uint32_t)random_next(&seed) %
							 (sizeof(bytes) - FRAME_HEADER_BYTES) +
						 1);
		if (i % 5 == 0)
			connect_ready(&scene, &peer, 0);
		else
			peer_connect(&peer, scene.daemon.socket_path);
		(void)peer_send_bytes(&peer, bytes, random_next(&seed) % sizeof(bytes) + 1);
		if (i % 5 != 0)
			peer_expect_end(&peer);
		peer_close(&peer);
	}
	lines = scene_log_lines(&scene, " ends: ");
	assert_true(lines > 0 && lines <= 300);
	/* At most ten in a second. */
	assert_true(lines <= 10 * ((unsigned)(time(NULL) - begin) + 2));
	scene_end(&scene);
}

static void test_other_protocols(void **state)
{
	static const ProtobufCBinaryData greetings[] = {
		BYTES(""),
		BYTES("\r\n"),
		BYTES("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
		BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		BYTES("*1\r\n$4\r\nPING\r\n"),
		BYTES("get key\r\nflush_all\r\n"),
		BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
		BYTES("SSH-2.0-OpenSSH_9.2\r\n"),
		BYTES("\x80\x00\x00\x00\x00\x00\x00\x00"),
		BYTES("\x00\x00\x00\x10" "big-endian frame"),
	};
	struct scene scene;

	scene_begin(&scene, NULL);
	for (unsigned i = 0; i < COUNT(greetings); i++) {
		struct test_peer peer;

		peer_connect(&peer, scene.daemon.socket_path);
		assert_int_equal(peer_send_bytes(&peer, greetings[i].data, greetings[i].len), 0);
		peer_expect_end(&peer);
		peer_close(&peer);
	}
	assert_true(scene_log_lines(&scene, " ends: ") <= COUNT(greetings));
	scene_end(&scene);
}

/* ---- order of messages ---- */

static void test_order(void **state)
{
	static const uint8_t stats[] = { 0x08, 0x01, 0x62, 0x00 }; /* id 1 */
	static const uint8_t no_id[] = { 0x62, 0x00 };
	static const uint8_t hello[] = { 0x08, 0x02, 0x12, 0x04, 0x08, 0x01, 0x10, 0x01 };
	struct test_peer peer;
	struct scene scene;

	scene_begin(&scene, NULL);
	peer_connect(&peer, scene.daemon.socket_path);
	assert_int_equal(wire_send_body(&peer, stats, sizeof(stats)), 0);
	expect_protocol_error(&peer);
	connect_ready(&scene, &peer, STAGING);
	assert_int_equal(wire_send_body(&peer, hello, sizeof(hello)), 0);
	expect_protocol_error(&peer);
	connect_ready(&scene, &peer, 0);
	assert_int_equal(wire_send_body(&peer, no_id, sizeof(no_id)), 0);
	expect_protocol_error(&peer);
	/* What follows the error in one write is not looked at. */
	connect_ready(&scene, &peer, 0);
	assert_int_equal(peer_send_bytes(&peer, "\2\0\0\0\x62\0\4\0\0\0\x08\1\x62\0", 14), 0);
	expect_protocol_error(&peer);
	scene_end(&scene);
}

/*
 * Two requests of one id at once: a Delete takes its turn in the loop, so it is unanswered when the
 * second comes.
 */
static void test_duplicate_id(void **state)
{
	Kvpaged__V1__Schema schema;
	struct wire_space space;
	struct test_peer peer;
	struct scene scene;
	uint8_t frame[64], twice[128];
	size_t n;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Delete delete = KVPAGED__V1__DELETE__INIT;
	ProtobufCBinaryData key = BYTES("k");

	scene_begin(&scene, NULL);
	connect_ready(&scene, &peer, STAGING);
	wire_schema(&schema, 1, 1);
	wire_open(&peer, "twice", &schema, &space);
	delete.space_id = space.id;
	delete.n_keys = 1;
	delete.keys = &key;
	request.id = 4711;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_DELETE;
	request.delete_ = &delete;
	n = kvpaged__v1__request__pack(&request, frame);
	frame_put_header(twice, (uint32_t)n);
	memcpy(twice + FRAME_HEADER_BYTES, frame, n);
	memcpy(twice + FRAME_HEADER_BYTES + n, twice, FRAME_HEADER_BYTES + n);
	assert_int_equal(peer_send_bytes(&peer, twice, 2 * (FRAME_HEADER_BYTES + n)), 0);
	expect_protocol_error(&peer);
	scene_end(&scene);
}

static void test_versions(void **state)
{
	static const struct {
		uint32_t min, max;
		bool fine;
	} ranges[] = {
		{ 1, 1, true },
		{ 0, 1, true },
		{ 1, 9, true },
		{ 2, 9, false },
		{ 0, 0, false },
		{ 2, 1, false },
		{ UINT32_MAX, UINT32_MAX, false },
	};
	struct scene scene;

	scene_begin(&scene, NULL);
	for (unsigned i = 0; i < COUNT(ranges); i++) {
		Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
		Kvpaged__V1__Hello hello = KVPAGED__V1__HELLO__INIT;
		Kvpaged__V1__Reply *reply;
		struct test_peer peer;

		hello.version_min = ranges[i].min;
		hello.version_max = ranges[i].max;
		request.verb_case = KVPAGED__V1__REQUEST__VERB_HELLO;
		request.hello = &hello;
		peer_connect(&peer, scene.daemon.socket_path);
		reply = peer_call(&peer, &request);
		assert_int_equal(reply->status, ranges[i].fine ? KVP_OK : KVP_VERSION);
		if (!ranges[i].fine) {
			/* It says what it speaks. */
			assert_non_null(
				memmem(reply->error.data, reply->error.len, "version 1", 9));
			peer_expect_end(&peer);
		}
		kvpaged__v1__reply__free_unpacked(reply, NULL);
		peer_close(&peer);
	}
	scene_end(&scene);
}

/* ---- messages ---- */

/* Unknown verbs are answered; unknown fields are ignored; either way the session goes on. */
static void test_unknown_parts(void **state)
{
	static const struct {
		ProtobufCBinaryData body;
		unsigned status;
	} cases[] = {
		/* No verb; 19, which is not there yet; 111; the greatest field number. */
		{ BYTES("\x08\x05"), KVP_UNSUPPORTED },
		{ BYTES("\x08\x05\x9a\x01\x00"), KVP_UNSUPPORTED },
		{ BYTES("\x08\x05\xfa\x06\x00"), KVP_UNSUPPORTED },
		{ BYTES("\x08\x05\xfa\xff\xff\xff\x0f\x01x"), KVP_UNSUPPORTED },
		/* Stats with an unknown field in it, and beside it. */
		{ BYTES("\x08\x05\x62\x02\x08\x07"), KVP_OK },
		{ BYTES("\x08\x05\x62\x00\xfa\x06\x03xyz"), KVP_OK },
		/* The id twice, a verb twice, two verbs: the last counts (Fetch, of no space). */
		{ BYTES("\x08\x05\x08\x06\x62\x00"), KVP_OK },
		{ BYTES("\x08\x05\x62\x00\x62\x00"), KVP_OK },
		{ BYTES("\x08\x05\x62\x00\x2a\x00"), KVP_NO_SPACE_NAMED },
	};
	struct test_peer peer;
	struct scene scene;

	scene_begin(&scene, NULL);
	connect_ready(&scene, &peer, 0);
	for (unsigned i = 0; i < COUNT(cases); i++) {
		assert_int_equal(wire_send_body(&peer, cases[i].body.data, cases[i].body.len), 0);
		assert_int_equal(wire_receive_status(&peer), cases[i].status);
	}
	(void)peer_counter(&peer, "sessions");
	peer_close(&peer);
	scene_end(&scene);
}

static size_t put_varint(uint8_t *at, uint64_t value)
{
	size_t n = 0;

	for (; value > 0x7f; value >>= 7)
		at[n++] = (uint8_t)(value | 0x80);
	at[n++] = (uint8_t)value;
	return n;
}

/* A message of id 5 whose one verb holds n times the same field bytes. */
static size_t repeat(uint8_t *at, uint8_t verb_tag, ProtobufCBinaryData field, size_t n)
{
	size_t used = 0;

	at[used++] = 0x08;
	at[used++] = 0x05;
	at[used++] = verb_tag;
	used += put_varint(at + used, n * field.len);
	for (size_t i = 0; i < n; i++, used += field.len)
		memcpy(at + used, field.data, field.len);
	return used;
}

/* Verb 111 in verb 111 in ..., as deep as a frame has room for, with lengths that fit. */
static size_t nest(uint8_t *at, size_t room)
{
	size_t begin = room;
	uint8_t length[10];

	while (begin > 32) {
		size_t n = put_varint(length, room - begin);

		begin -= n;
		memcpy(at + begin, length, n);
		at[--begin] = 0x06;
		at[--begin] = 0xfa;
	}
	at[--begin] = 0x05;
	at[--begin] = 0x08;
	memmove(at, at + begin, room - begin);
	return room - begin;
}

/* Messages that unfold to much more than they are, or would recurse deeply. */
static void test_bombs(void **state)
{
	static const struct {
		uint8_t verb;
		ProtobufCBinaryData field;
	} repeated[] = {
		{ 0x22, BYTES("\x2a\x00") },         /* Append: empty PageRefs */
		{ 0x2a, BYTES("\x12\x00") },         /* Fetch: empty keys */
		{ 0x32, BYTES("\x08\x01") },         /* Release: leases, not packed */
		{ 0x3a, BYTES("\x12\x01k") },        /* Match */
		{ 0x42, BYTES("\x12\x01k") },        /* Delete */
		{ 0x52, BYTES("\x18\x01") },         /* Pin: one scalar again and again */
		{ 0x1a, BYTES("\x12\x02\x0a\x00") }, /* OpenSpace: schemas that are merged */
		{ 0x62, BYTES("\xfa\x06\x00") },     /* Stats: unknown fields */
	};
	_cleanup_free_ uint8_t *body = malloc(KVP_FRAME_BYTES_MAX);
	struct scene scene;

	assert_non_null(body);
	scene_begin(&scene, NULL);
	for (unsigned i = 0; i < 4 * (COUNT(repeated) + 1); i++) {
		unsigned kind = i / 4;
		struct test_peer peer;
		size_t n;

		connect_ready(&scene, &peer, STAGING);
		n = kind == COUNT(repeated)
			    ? nest(body, KVP_FRAME_BYTES_MAX)
			    : repeat(body, repeated[kind].verb, repeated[kind].field,
				     (KVP_FRAME_BYTES_MAX - 16) / repeated[kind].field.len);
		assert_int_equal(wire_send_body(&peer, body, n), 0);
		(void)wire_receive_status(&peer); /* whatever it is: an answer */
		/* What is parsed goes to 8 MiB that are there from the start; a frame is 1 MiB. */
		scene_assert_memory(&scene, 16 * MIB);
		peer_close(&peer);
	}
	scene_end(&scene);
}

static void test_malformed(void **state)
{
	static const ProtobufCBinaryData bodies[] = {
		BYTES("\x08"), /* a field without value */
		BYTES("\x08\x80"), /* a cut varint */
		BYTES("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), /* an overlong one */
		BYTES("\x0d\x01\x00\x00\x00"), /* the wrong wire type */
		BYTES("\x62\x7f"), /* longer than the message */
		BYTES("\x62\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), /* longer than the memory */
		BYTES("\x0b\x0c"), /* a group */
		BYTES("\x0e"), /* wire type 6 */
		BYTES("\x00\x00"), /* field 0 */
		BYTES("\x08\x05\x2a\x02\x12\x7f"), /* a key longer than its request */
		BYTES("\x08\x05\x32\x03\x0a\x01\x80"), /* a packed list that ends in a varint */
	};
	struct scene scene;

	scene_begin(&scene, NULL);
	for (unsigned i = 0; i < COUNT(bodies); i++) {
		struct test_peer peer;

		connect_ready(&scene, &peer, 0);
		assert_int_equal(wire_send_body(&peer, bodies[i].data, bodies[i].len), 0);
		expect_protocol_error(&peer);
	}
	scene_end(&scene);
}

/* ---- keys and names ---- */

static void test_keys(void **state)
{
	char longest[KVP_KEY_BYTES_MAX + 1], too_long[KVP_KEY_BYTES_MAX + 2];
	const struct {
		const char *key;
		unsigned append, fetch, delete;
	} cases[] = {
		{ "k", KVP_OK, KVP_OK, KVP_OK },
		{ longest, KVP_OK, KVP_OK, KVP_OK },
		{ "\xff\xfe\x01\n\x1b[2J", KVP_OK, KVP_OK, KVP_OK }, /* keys are bytes, not text */
		{ "", KVP_INVALID, KVP_INVALID, KVP_INVALID },
		{ too_long, KVP_INVALID, KVP_INVALID, KVP_INVALID },
	};
	Kvpaged__V1__Schema schema;
	struct wire_space space;
	struct test_peer peer;
	struct scene scene;

	memset(longest, 'l', sizeof(longest));
	memset(too_long, 'l', sizeof(too_long));
	longest[KVP_KEY_BYTES_MAX] = '\0';
	too_long[KVP_KEY_BYTES_MAX + 1] = '\0';
	scene_begin(&scene, NULL);
	connect_ready(&scene, &peer, STAGING);
	wire_schema(&schema, 2, 1);
	wire_open(&peer, "keys", &schema, &space);
	for (unsigned i = 0; i < COUNT(cases); i++) {
		Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
		Kvpaged__V1__Delete delete = KVPAGED__V1__DELETE__INIT;
		ProtobufCBinaryData key = { .data = (uint8_t *)cases[i].key,
					    .len = strlen(cases[i].key) };

		assert_int_equal(wire_append(&peer, &space, cases[i].key, 0, 2, (uint8_t)i),
				 cases[i].append);
		assert_int_equal(wire_fetch(&peer, space.id, cases[i].key, 0, NULL),
				 cases[i].fetch);
		delete.space_id = space.id;
		delete.n_keys = 1;
		delete.keys = &key;
		request.verb_case = KVPAGED__V1__REQUEST__VERB_DELETE;
		request.delete_ = &delete;
		assert_int_equal(peer_call_status(&peer, &request), cases[i].delete);
	}
	assert_int_equal(peer_counter(&peer, "blocks"), 0);
	peer_close(&peer);
	scene_end(&scene);
}

/*
 * Names are text: what could end a line or move a cursor is no name, and none of it reaches the
 * log.
 */
static void test_names(void **state)
{
	static const ProtobufCBinaryData names[] = {
		BYTES(""), BYTES("a\0b"), BYTES("a\nb"), BYTES("\x1b[2J"), BYTES("\x7f"),
		BYTES("\xff"), BYTES("\xc0\x80"), BYTES("\xed\xa0\x80"), BYTES("\xc2\x9b"),
	};
	Kvpaged__V1__Schema schema;
	struct test_peer peer;
	struct scene scene;

	scene_begin(&scene, NULL);
	connect_ready(&scene, &peer, 0);
	wire_schema(&schema, 2, 1);
	for (unsigned i = 0; i < COUNT(names); i++) {
		Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
		Kvpaged__V1__OpenSpace open = KVPAGED__V1__OPEN_SPACE__INIT;
		Kvpaged__V1__Hello hello = KVPAGED__V1__HELLO__INIT;
		struct test_peer other;

		open.name = names[i];
		open.schema = &schema;
		request.verb_case = KVPAGED__V1__REQUEST__VERB_OPEN_SPACE;
		request.open_space = &open;
		assert_int_equal(peer_call_status(&peer, &request), KVP_INVALID);
		if (names[i].len == 0)
			continue; /* a client needs no name */
		hello.version_max = hello.version_min = 1;
		hello.client_name = names[i];
		request.id = 0;
		request.verb_case = KVPAGED__V1__REQUEST__VERB_HELLO;
		request.hello = &hello;
		peer_connect(&other, scene.daemon.socket_path);
		assert_int_equal(peer_call_status(&other, &request), KVP_INVALID);
		peer_expect_end(&other);
		peer_close(&other);
	}
	assert_int_equal(scene_log_lines(&scene, "\x1b"), 0);
	peer_close(&peer);
	scene_end(&scene);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_refused_lengths_cost_nothing),
	cmocka_unit_test(test_claimed_length_costs_little),
	cmocka_unit_test(test_end_anywhere),
	cmocka_unit_test(test_random_bytes),
	cmocka_unit_test(test_other_protocols),
	cmocka_unit_test(test_order),
	cmocka_unit_test(test_duplicate_id),
	cmocka_unit_test(test_versions),
	cmocka_unit_test(test_unknown_parts),
	cmocka_unit_test(test_bombs),
	cmocka_unit_test(test_malformed),
	cmocka_unit_test(test_keys),
	cmocka_unit_test(test_names),
};

int main(void)
{
	return harness_run(tests, COUNT(tests));
}
