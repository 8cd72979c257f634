/* SPDX-License-Identifier: Apache-2.0 */
/* The core through its requests: what each verb promises, and what it does with requests that are wrong. */
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

/* A space of 4 layers x 2 heads x 64 channels, 16 tokens: one page a layer. */
static uint32_t open_small(struct rig_peer *peer, Kvpaged__V1__OpenSpaceReply *ret_reply)
{
	Kvpaged__V1__Schema schema;

	rig_schema(&schema, 4, 2, 64);
	return rig_open(peer, "small", &schema, ret_reply);
}

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

/* A megabyte of empty submessages unfolds to 32 times its size: refused by the parser's bound, not by malloc.
 */
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

static void test_append_and_read(void **state)
{
	struct rig rig;
	struct rig_peer *peer;
	Kvpaged__V1__OpenSpaceReply space;
	Kvpaged__V1__FetchItem item;
	uint32_t id;
	const struct kvp_block *block;
	const struct kvp_page *map;

	rig_start(&rig, ARENA, 0, NULL);
	peer = rig_connect(&rig, 0, 1000, MIB);
	id = open_small(peer, &space);
	assert_int_equal(space.page_count, 4);
	assert_int_equal(rig_fetch(peer, id, "k", 0, NULL), KVP_MISS);
	assert_int_equal(rig_append(peer, id, "k", NULL, 16, space.page_bytes, 0, 4, 0xa5), KVP_OK);
	assert_true(peer->last->append->complete);
	assert_int_equal(rig_fetch(peer, id, "k", 0, &item), KVP_OK);
	assert_int_equal(item.tokens, 16);
	block = &rig.core->arena.blocks[item.block - 1];
	assert_int_equal(block->generation, item.generation);
	map = (const struct kvp_page *)((const uint8_t *)rig.arena + block->map_offset);
	for (unsigned page = 0; page < 4; page++) {
		const uint8_t *bytes = (const uint8_t *)rig.arena + (uint64_t)map[page].slot * KVP_SLOT_ALIGN;

		for (uint32_t i = 0; i < space.page_bytes; i++)
			assert_int_equal(bytes[i], 0xa5);
		assert_int_equal(map[page].checksum, kvp_page_checksum(bytes, space.page_bytes));
	}
	/* The same again: every page is present. */
	assert_int_equal(rig_append(peer, id, "k", NULL, 16, space.page_bytes, 0, 4, 0xa5), KVP_OK);
	for (unsigned page = 0; page < 4; page++)
		assert_int_equal(peer->last->append->page_status.data[page], KVP_PRESENT);
	/* 16 tokens x (64 + 64) channels x 2 heads x 4 layers x 2 bytes. */
	assert_int_equal(rig_counter(peer, "logical_f16_bytes"), 16 * 128 * 2 * 4 * 2);
	assert_int_equal(rig_counter(peer, "stored_bytes"), 4 * space.page_bytes);
	rig_stop(&rig);
}

static void test_append_refusals(void **state)
{
	struct rig rig;
	struct rig_peer *peer;
	Kvpaged__V1__OpenSpaceReply space;
	char long_key[KVP_KEY_BYTES_MAX + 2];
	uint32_t id;

	rig_start(&rig, ARENA, 0, NULL);
	peer = rig_connect(&rig, 0, 1000, MIB);
	id = open_small(peer, &space);
	memset(long_key, 'x', sizeof(long_key));
	long_key[KVP_KEY_BYTES_MAX + 1] = '\0';
	assert_int_equal(rig_append(peer, id + 1, "k", NULL, 16, space.page_bytes, 0, 1, 1),
			 KVP_NO_SPACE_NAMED);
	assert_int_equal(rig_append(peer, 0, "k", NULL, 16, space.page_bytes, 0, 1, 1), KVP_NO_SPACE_NAMED);
	assert_int_equal(rig_append(peer, UINT32_MAX, "k", NULL, 16, space.page_bytes, 0, 1, 1),
			 KVP_NO_SPACE_NAMED);
	assert_int_equal(rig_append(peer, id, "", NULL, 16, space.page_bytes, 0, 1, 1), KVP_INVALID);
	assert_int_equal(rig_append(peer, id, long_key, NULL, 16, space.page_bytes, 0, 1, 1), KVP_INVALID);
	assert_int_equal(rig_append(peer, id, "k", long_key, 16, space.page_bytes, 0, 1, 1), KVP_INVALID);
	assert_int_equal(rig_append(peer, id, "k", "k", 16, space.page_bytes, 0, 1, 1), KVP_INVALID);
	assert_int_equal(rig_append(peer, id, "k", NULL, 0, space.page_bytes, 0, 1, 1), KVP_RANGE);
	assert_int_equal(rig_append(peer, id, "k", NULL, 17, space.page_bytes, 0, 1, 1), KVP_RANGE);
	assert_int_equal(rig_append(peer, id, "k", NULL, 15, space.page_bytes, 0, 1, 1),
			 KVP_RANGE); /* length of 16 tokens */
	assert_int_equal(rig_append(peer, id, "k", NULL, 16, space.page_bytes - 1, 0, 1, 1), KVP_RANGE);
	assert_int_equal(rig_append(peer, id, "k", NULL, 16, space.page_bytes, 4, 1, 1), KVP_RANGE);
	assert_int_equal(rig_append(peer, id, "k", NULL, 16, space.page_bytes, UINT32_MAX, 1, 1), KVP_RANGE);
	assert_int_equal(rig_append(peer, id, "k", NULL, 16, space.page_bytes, 0, 0, 1), KVP_RANGE);
	assert_int_equal(rig_append(peer, id, "k", "nobody", 16, space.page_bytes, 0, 1, 1), KVP_NO_PARENT);
	long_key[KVP_KEY_BYTES_MAX] = '\0';
	assert_int_equal(rig_append(peer, id, long_key, NULL, 16, space.page_bytes, 0, 4, 1), KVP_OK);
	assert_int_equal(rig_append(peer, id, long_key, NULL, 8, space.page_bytes / 16 * 8, 0, 1, 1),
			 KVP_RANGE);
	assert_int_equal(rig_append(peer, id, "\xff\x01\xfe", NULL, 16, space.page_bytes, 0, 4, 1),
			 KVP_OK); /* keys are bytes */
	assert_int_equal(rig_append(peer, id, "\xff\x01\xfe", long_key, 16, space.page_bytes, 0, 4, 1),
			 KVP_CONFLICT);
	assert_int_equal(rig_counter(peer, "blocks"), 2);
	rig_stop(&rig);
}

static void send_page(struct rig_peer *peer, uint32_t id, uint64_t offset, uint32_t length, uint64_t checksum)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Append append = KVPAGED__V1__APPEND__INIT;
	Kvpaged__V1__PageRef page = KVPAGED__V1__PAGE_REF__INIT;
	Kvpaged__V1__PageRef *pages[] = { &page };

	page.offset = offset;
	page.length = length;
	page.checksum = checksum;
	append.space_id = id;
	append.key = (ProtobufCBinaryData){ .data = (uint8_t *)"c", .len = 1 };
	append.tokens = 16;
	append.n_pages = 1;
	append.pages = pages;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_APPEND;
	request.append = &append;
	(void)rig_call(peer, &request);
}

static void test_append_offsets_and_checksum(void **state)
{
	static const uint64_t offsets[] = { MIB, UINT64_MAX, UINT64_MAX - 100, MIB - 1 };
	struct rig rig;
	struct rig_peer *peer, *reader;
	Kvpaged__V1__OpenSpaceReply space;
	uint64_t checksum;
	uint32_t id;

	rig_start(&rig, ARENA, 0, NULL);
	peer = rig_connect(&rig, 0, 1000, MIB);
	reader = rig_connect(&rig, 1, 1000, 0);
	id = open_small(peer, &space);
	checksum = kvp_page_checksum(peer->staging, space.page_bytes);
	for (unsigned i = 0; i < 4; i++) {
		send_page(peer, id, offsets[i], space.page_bytes, checksum);
		assert_int_equal(peer->last->status, KVP_RANGE);
	}
	/* What does not match its checksum is not kept, nor is the block that got nothing else. */
	send_page(peer, id, 0, space.page_bytes, checksum ^ 1);
	assert_int_equal(peer->last->status, KVP_OK);
	assert_int_equal(peer->last->append->page_status.data[0], KVP_CORRUPT);
	assert_int_equal(rig_counter(peer, "blocks"), 0);
	/* The last page that fits. */
	send_page(peer, id, MIB - space.page_bytes, space.page_bytes, checksum);
	assert_int_equal(peer->last->append->page_status.data[0], KVP_OK);
	/* A session without staging memory cannot append. */
	assert_int_equal(open_small(reader, NULL), id);
	send_page(reader, id, 0, 0, 0);
	assert_int_equal(reader->last->status, KVP_PERMISSION);
	rig_stop(&rig);
}

static void test_partial_blocks(void **state)
{
	struct rig rig;
	struct rig_peer *a, *b;
	Kvpaged__V1__OpenSpaceReply space;
	uint32_t id;

	rig_start(&rig, ARENA, 0, NULL);
	a = rig_connect(&rig, 0, 1000, MIB);
	b = rig_connect(&rig, 1, 1000, MIB);
	id = open_small(a, &space);
	(void)open_small(b, NULL);
	/* Two writers, half a block each: whole. */
	assert_int_equal(rig_append(a, id, "k", NULL, 16, space.page_bytes, 0, 2, 1), KVP_OK);
	assert_false(a->last->append->complete);
	assert_int_equal(rig_fetch(b, id, "k", 0, NULL), KVP_PARTIAL);
	assert_int_equal(rig_append(b, id, "k", NULL, 16, space.page_bytes, 2, 2, 1), KVP_OK);
	assert_true(b->last->append->complete);
	/* A writer that leaves while another is there changes nothing; the last one takes the block along. */
	assert_int_equal(rig_append(a, id, "p", NULL, 16, space.page_bytes, 0, 1, 1), KVP_OK);
	assert_int_equal(rig_append(b, id, "p", NULL, 16, space.page_bytes, 1, 1, 1), KVP_OK);
	assert_int_equal(rig_append(b, id, "child", "p", 16, space.page_bytes, 0, 1, 1), KVP_OK);
	rig_audit(&rig);
	rig_disconnect(a);
	assert_int_equal(rig_counter(b, "blocks_partial"), 2);
	a = rig_connect(&rig, 0, 1000, MIB);
	rig_disconnect(b);
	assert_int_equal(rig_counter(a, "blocks_partial"), 0);
	assert_int_equal(rig_counter(a, "blocks"), 1);
	/* Time ends it too. */
	(void)open_small(a, NULL);
	assert_int_equal(rig_append(a, id, "q", NULL, 16, space.page_bytes, 0, 1, 1), KVP_OK);
	rig_advance_ms(&rig, 59999);
	assert_int_equal(rig_counter(a, "blocks_partial"), 1);
	rig_advance_ms(&rig, 2);
	assert_int_equal(rig_counter(a, "blocks_partial"), 0);
	assert_int_equal(rig_counter(a, "dropped_partial_ttl_total"), 1);
	rig_stop(&rig);
}

/* Blocks of 4 x 128 KiB pages: three fill the 6 MiB that a 8 MiB arena has for pages. */
static uint32_t open_large(struct rig_peer *peer, const char *name, Kvpaged__V1__OpenSpaceReply *ret_reply)
{
	Kvpaged__V1__Schema schema;

	rig_schema(&schema, 4, 4, 256);
	schema.block_tokens = 64;
	schema.page_heads = 4;
	return rig_open(peer, name, &schema, ret_reply);
}

static void test_eviction_order(void **state)
{
	struct rig rig;
	struct rig_peer *peer;
	Kvpaged__V1__OpenSpaceReply space;
	Kvpaged__V1__FetchItem item;
	uint32_t id;
	unsigned n = 0;
	char key[16];

	rig_start(&rig, 16 * MIB, 0, NULL);
	peer = rig_connect(&rig, 0, 1000, MIB);
	id = open_large(peer, "l", &space);
	/* Fill until something had to go: the oldest root. */
	for (; rig_counter(peer, "evictions_capacity_total") == 0; n++) {
		(void)snprintf(key, sizeof(key), "r%u", n);
		assert_int_equal(rig_append(peer, id, key, NULL, 64, space.page_bytes, 0, 4, (uint8_t)n),
				 KVP_OK);
		assert_true(peer->last->append->complete);
	}
	assert_true(n > 8);
	assert_int_equal(rig_fetch(peer, id, "r0", 1, NULL), KVP_MISS);
	/* Used ones stay, leased ones stay even if old. */
	assert_int_equal(rig_fetch(peer, id, "r2", 0, &item), KVP_OK);
	rig_advance_ms(&rig, 10);
	assert_int_equal(rig_append(peer, id, "x", NULL, 64, space.page_bytes, 0, 4, 1), KVP_OK);
	assert_int_equal(rig_fetch(peer, id, "r1", 1, NULL), KVP_MISS);
	assert_int_equal(rig_fetch(peer, id, "r2", 1, NULL), KVP_OK);
	rig_stop(&rig);
}

static void test_eviction_is_prefix_closed(void **state)
{
	struct rig rig;
	struct rig_peer *peer;
	Kvpaged__V1__OpenSpaceReply space;
	uint32_t id;
	char key[16], parent[16] = "";

	rig_start(&rig, 16 * MIB, 0, NULL);
	peer = rig_connect(&rig, 0, 1000, MIB);
	id = open_large(peer, "l", &space);
	/* One chain longer than the arena: its end cannot be stored, since all before it are its ancestors. */
	for (unsigned i = 0; i < 40; i++) {
		unsigned status;

		(void)snprintf(key, sizeof(key), "c%u", i);
		status = rig_append(peer, id, key, i ? parent : NULL, 64, space.page_bytes, 0, 4, (uint8_t)i);
		rig_audit(&rig);
		if (status != KVP_OK || memchr(peer->last->append->page_status.data, KVP_NO_SPACE, 4))
			break;
		memcpy(parent, key, sizeof(key));
	}
	assert_int_equal(rig_counter(peer, "evictions_capacity_total"), 0);
	assert_int_equal(rig_counter(peer, "blocks_partial"), 0);
	/* Room is made from the chain's end, so what is left is a prefix. */
	assert_int_equal(rig_append(peer, id, "other", NULL, 64, space.page_bytes, 0, 4, 9), KVP_OK);
	assert_int_equal(rig_fetch(peer, id, parent, 1, NULL), KVP_MISS);
	assert_int_equal(rig_fetch(peer, id, "c0", 1, NULL), KVP_OK);
	rig_stop(&rig);
}

static void test_everything_leased(void **state)
{
	struct rig rig;
	struct rig_peer *peer;
	Kvpaged__V1__OpenSpaceReply space;
	struct core_limits limits = { .pinned_bytes_per_uid_max = GIB };
	uint32_t id;
	unsigned n = 0;
	char key[16];

	rig_start(&rig, 16 * MIB, 0, &limits);
	peer = rig_connect(&rig, 0, 1000, MIB);
	id = open_large(peer, "l", &space);
	for (;; n++) {
		(void)snprintf(key, sizeof(key), "r%u", n);
		if (rig_append(peer, id, key, NULL, 64, space.page_bytes, 0, 4, 1) != KVP_OK)
			break;
		if (memchr(peer->last->append->page_status.data, KVP_NO_SPACE, 4))
			break;
		assert_int_equal(rig_fetch(peer, id, key, 0, NULL), KVP_OK);
	}
	assert_int_equal(rig_counter(peer, "evictions_capacity_total"), 0);
	assert_int_equal(rig_counter(peer, "blocks"), n);
	/* When the leases are over, room can be made again. */
	rig_advance_ms(&rig, 30001);
	assert_int_equal(rig_counter(peer, "leases"), 0);
	assert_int_equal(rig_append(peer, id, "after", NULL, 64, space.page_bytes, 0, 4, 1), KVP_OK);
	assert_true(peer->last->append->complete);
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
	id = open_small(greedy, &space);
	(void)open_small(other, NULL);
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

static unsigned release(struct rig_peer *peer, uint64_t lease_id)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Release body = KVPAGED__V1__RELEASE__INIT;

	body.lease_ids = &lease_id;
	body.n_lease_ids = 1;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_RELEASE;
	request.release = &body;
	return rig_call(peer, &request)->items->item_status.data[0];
}

static void test_leases(void **state)
{
	struct rig rig;
	struct rig_peer *a, *b;
	Kvpaged__V1__OpenSpaceReply space;
	Kvpaged__V1__FetchItem item;
	uint32_t id;

	rig_start(&rig, ARENA, 0, NULL);
	a = rig_connect(&rig, 0, 1000, MIB);
	b = rig_connect(&rig, 1, 1000, MIB);
	id = open_small(a, &space);
	(void)open_small(b, NULL);
	assert_int_equal(rig_append(a, id, "k", NULL, 16, space.page_bytes, 0, 4, 0x33), KVP_OK);
	assert_int_equal(rig_fetch(a, id, "k", 0, &item), KVP_OK);
	/* Nobody ends another's lease, and none ends twice. */
	assert_int_equal(release(b, item.lease_id), KVP_STALE);
	assert_int_equal(release(a, item.lease_id ^ (UINT64_C(1) << 40)), KVP_STALE);
	assert_int_equal(release(a, item.lease_id), KVP_OK);
	assert_int_equal(release(a, item.lease_id), KVP_STALE);
	/* Deleted under a lease: gone for others, its memory stays until the lease ends. */
	assert_int_equal(rig_fetch(a, id, "k", 0, &item), KVP_OK);
	assert_int_equal(rig_delete(b, id, "k"), KVP_OK);
	assert_int_equal(rig_fetch(b, id, "k", 0, NULL), KVP_MISS);
	assert_int_equal(rig_counter(b, "blocks_limbo"), 1);
	assert_int_not_equal(rig.core->arena.blocks[item.block - 1].generation, item.generation);
	rig_audit(&rig);
	assert_int_equal(rig_append(b, id, "k", NULL, 16, space.page_bytes, 0, 4, 0x44), KVP_OK);
	{
		const struct kvp_block *block = &rig.core->arena.blocks[item.block - 1];
		const struct kvp_page *map =
			(const struct kvp_page *)((const uint8_t *)rig.arena + block->map_offset);

		assert_int_equal(((const uint8_t *)rig.arena)[(uint64_t)map[0].slot * KVP_SLOT_ALIGN], 0x33);
	}
	rig_disconnect(a);
	assert_int_equal(rig_counter(b, "blocks_limbo"), 0);
	assert_int_equal(rig_counter(b, "limbo_bytes"), 0);
	rig_stop(&rig);
}

static void test_delete_takes_descendants(void **state)
{
	struct rig rig;
	struct rig_peer *peer;
	Kvpaged__V1__OpenSpaceReply space;
	uint32_t id;
	char key[16], parent[16];

	rig_start(&rig, 32 * MIB, 1024, NULL);
	peer = rig_connect(&rig, 0, 1000, MIB);
	id = open_small(peer, &space);
	assert_int_equal(rig_append(peer, id, "n0", NULL, 16, space.page_bytes, 0, 4, 1), KVP_OK);
	/* A tree of 200: more than one slice removes. */
	for (unsigned i = 1; i < 200; i++) {
		(void)snprintf(key, sizeof(key), "n%u", i);
		(void)snprintf(parent, sizeof(parent), "n%u", (i - 1) / 3);
		assert_int_equal(rig_append(peer, id, key, parent, 16, space.page_bytes, 0, 4, 1), KVP_OK);
	}
	rig_audit(&rig);
	assert_int_equal(rig_counter(peer, "blocks"), 200);
	assert_int_equal(rig_delete(peer, id, "n1"), KVP_OK);
	assert_int_equal(rig_fetch(peer, id, "n4", 1, NULL), KVP_MISS);
	assert_int_equal(rig_fetch(peer, id, "n2", 1, NULL), KVP_OK);
	assert_int_equal(rig_delete(peer, id, "n0"), KVP_OK);
	assert_int_equal(rig_delete(peer, id, "n0"), KVP_MISS);
	assert_int_equal(rig_counter(peer, "blocks"), 0);
	assert_int_equal(rig_counter(peer, "deleted_total"), 200);
	rig_advance_ms(&rig, 2);
	assert_int_equal(rig_counter(peer, "free_bytes"),
			 rig_counter(peer, "arena_bytes") - rig_counter(peer, "metadata_bytes"));
	rig_stop(&rig);
}

static unsigned match(struct rig_peer *peer, uint32_t id, const char *const *names, size_t n,
		      Kvpaged__V1__Range *range)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Match body = KVPAGED__V1__MATCH__INIT;
	ProtobufCBinaryData keys[8];

	for (size_t i = 0; i < n; i++)
		keys[i] = (ProtobufCBinaryData){ .data = (uint8_t *)names[i], .len = strlen(names[i]) };
	body.space_id = id;
	body.keys = keys;
	body.n_keys = n;
	body.range = range;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_MATCH;
	request.match = &body;
	return rig_call(peer, &request)->status == KVP_OK ? peer->last->match->matched
							  : 1000 + peer->last->status;
}

static void test_match_and_ranges(void **state)
{
	static const char *const names[] = { "a", "b", "c", "d" };
	struct rig rig;
	struct rig_peer *peer;
	Kvpaged__V1__OpenSpaceReply space;
	Kvpaged__V1__Range range = KVPAGED__V1__RANGE__INIT;
	uint32_t id;

	rig_start(&rig, ARENA, 0, NULL);
	peer = rig_connect(&rig, 0, 1000, MIB);
	id = open_small(peer, &space);
	assert_int_equal(rig_append(peer, id, "a", NULL, 16, space.page_bytes, 0, 4, 1), KVP_OK);
	assert_int_equal(rig_append(peer, id, "b", "a", 16, space.page_bytes, 0, 2, 1), KVP_OK);
	assert_int_equal(rig_append(peer, id, "c", "b", 16, space.page_bytes, 0, 4, 1), KVP_OK);
	assert_int_equal(match(peer, id, names, 4, NULL), 1);
	assert_int_equal(peer->last->match->status, KVP_PARTIAL);
	range.layer_count = 2;
	assert_int_equal(match(peer, id, names, 4, &range), 3);
	assert_int_equal(peer->last->match->status, KVP_MISS);
	range.layer_begin = 1;
	assert_int_equal(match(peer, id, names, 4, &range), 1);
	range.layer_begin = 3;
	assert_int_equal(match(peer, id, names, 4, &range), 1000 + KVP_RANGE);
	range = (Kvpaged__V1__Range)KVPAGED__V1__RANGE__INIT;
	range.head_begin = 1;
	range.head_count = UINT32_MAX;
	assert_int_equal(match(peer, id, names, 4, &range), 1000 + KVP_RANGE);
	assert_int_equal(match(peer, id, names, 0, NULL), 0);
	rig_stop(&rig);
}

static unsigned pin(struct rig_peer *peer, uint32_t id, const char *key, uint32_t priority, uint64_t ttl_ms)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Pin body = KVPAGED__V1__PIN__INIT;
	ProtobufCBinaryData keys[1] = { { .data = (uint8_t *)key, .len = strlen(key) } };

	body.space_id = id;
	body.keys = keys;
	body.n_keys = 1;
	body.priority = priority;
	body.ttl_ms = ttl_ms;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_PIN;
	request.pin = &body;
	return rig_call(peer, &request)->status == KVP_OK ? peer->last->items->item_status.data[0]
							  : peer->last->status;
}

static void evict_blocks(struct rig_peer *peer, uint32_t id, uint64_t blocks)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Evict body = KVPAGED__V1__EVICT__INIT;

	body.space_id = id;
	body.blocks = blocks;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_EVICT;
	request.evict = &body;
	assert_int_equal(rig_call(peer, &request)->status, KVP_OK);
}

static void test_soft_pins(void **state)
{
	struct rig rig;
	struct rig_peer *peer;
	Kvpaged__V1__OpenSpaceReply space;
	uint32_t id;

	rig_start(&rig, ARENA, 0, NULL);
	peer = rig_connect(&rig, 0, 1000, MIB);
	id = open_small(peer, &space);
	assert_int_equal(rig_append(peer, id, "old", NULL, 16, space.page_bytes, 0, 4, 1), KVP_OK);
	assert_int_equal(rig_append(peer, id, "mid", NULL, 16, space.page_bytes, 0, 4, 1), KVP_OK);
	assert_int_equal(rig_append(peer, id, "new", NULL, 16, space.page_bytes, 0, 4, 1), KVP_OK);
	assert_int_equal(pin(peer, id, "old", 0, 1000), KVP_RANGE);
	assert_int_equal(pin(peer, id, "old", 16, 1000), KVP_RANGE);
	assert_int_equal(pin(peer, id, "old", 1, 0), KVP_RANGE);
	assert_int_equal(pin(peer, id, "none", 1, 1000), KVP_MISS);
	assert_int_equal(pin(peer, id, "old", 5, 1000), KVP_OK);
	evict_blocks(peer, id, 1);
	assert_int_equal(peer->last->evict->blocks, 1);
	assert_int_equal(rig_fetch(peer, id, "mid", 1, NULL), KVP_MISS);
	assert_int_equal(rig_fetch(peer, id, "old", 1, NULL), KVP_OK);
	assert_int_equal(rig_fetch(peer, id, "new", 1, NULL), KVP_OK);
	rig_advance_ms(&rig, 1001); /* leases and the soft pin are over */
	evict_blocks(peer, id, 1);
	assert_int_equal(rig_fetch(peer, id, "old", 1, NULL), KVP_MISS);
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
	id = open_small(a, &space);
	(void)open_small(b, NULL);
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

static void test_list(void **state)
{
	struct rig rig;
	struct rig_peer *peer;
	Kvpaged__V1__OpenSpaceReply space;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__List body = KVPAGED__V1__LIST__INIT;
	uint32_t id;
	unsigned seen = 0;
	char key[16];

	rig_start(&rig, 32 * MIB, 0, NULL);
	peer = rig_connect(&rig, 0, 1000, MIB);
	id = open_small(peer, &space);
	for (unsigned i = 0; i < 50; i++) {
		(void)snprintf(key, sizeof(key), "k%u", i);
		assert_int_equal(rig_append(peer, id, key, i ? "k0" : NULL, 16, space.page_bytes, 0, 4, 1),
				 KVP_OK);
	}
	body.space_id = id;
	body.limit = 7;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_LIST;
	request.list = &body;
	do {
		request.id = 0;
		assert_int_equal(rig_call(peer, &request)->status, KVP_OK);
		assert_true(peer->last->list->n_items <= 7);
		for (size_t i = 0; i < peer->last->list->n_items; i++, seen++)
			assert_int_equal(peer->last->list->items[i]->root,
					 peer->last->list->items[i]->children == 49);
		body.cursor = peer->last->list->next_cursor;
	} while (body.cursor);
	assert_int_equal(seen, 50);
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
	id = open_small(peer, &space);
	core_stop(rig.core);
	assert_int_equal(rig_append(peer, id, "k", NULL, 16, space.page_bytes, 0, 4, 1), KVP_STOPPING);
	rig_stop(&rig);
}

/* Sends an Append of all four pages without running it. */
static void send_block(struct rig_peer *peer, uint32_t id, const Kvpaged__V1__OpenSpaceReply *space, const char *key,
		       uint64_t request_id)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Append append = KVPAGED__V1__APPEND__INIT;
	Kvpaged__V1__PageRef pages[4], *pointers[4];

	for (unsigned i = 0; i < 4; i++) {
		kvpaged__v1__page_ref__init(&pages[i]);
		pages[i].index = i;
		pages[i].length = space->page_bytes;
		pages[i].checksum = kvp_page_checksum(peer->staging, space->page_bytes);
		pointers[i] = &pages[i];
	}
	append.space_id = id;
	append.tokens = 16;
	append.key = (ProtobufCBinaryData){ .data = (uint8_t *)key, .len = strlen(key) };
	append.n_pages = 4;
	append.pages = pointers;
	request.id = request_id;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_APPEND;
	request.append = &append;
	rig_send(peer, &request);
}

/* Appends of one session take turns with those of another. */
static void test_slices_take_turns(void **state)
{
	struct core_limits limits = { .slice_bytes = 1 };
	struct rig rig;
	struct rig_peer *a, *b;
	Kvpaged__V1__OpenSpaceReply space;
	uint32_t id;
	unsigned slices = 0;

	rig_start(&rig, ARENA, 0, &limits);
	a = rig_connect(&rig, 0, 1000, MIB);
	b = rig_connect(&rig, 1, 1000, MIB);
	id = open_small(a, &space);
	(void)open_small(b, NULL);
	send_block(a, id, &space, "ka", 50);
	send_block(b, id, &space, "kb", 50);
	while (a->last->id != 50) {
		assert_true(core_run(rig.core, rig.now_ns));
		rig_audit(&rig);
		slices++;
	}
	assert_true(slices >= 4 + 3); /* b had its slices in between */
	rig_run(&rig);
	assert_int_equal(b->last->id, 50);
	rig_stop(&rig);
}

/* A fetch does not wait for an append that is under way. */
static void test_fetch_overtakes_append(void **state)
{
	struct core_limits limits = { .slice_bytes = 1 };
	struct rig rig;
	struct rig_peer *a;
	Kvpaged__V1__OpenSpaceReply space;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Fetch fetch = KVPAGED__V1__FETCH__INIT;
	ProtobufCBinaryData key = { .data = (uint8_t *)"ka", .len = 2 };
	uint32_t id;

	rig_start(&rig, ARENA, 0, &limits);
	a = rig_connect(&rig, 0, 1000, MIB);
	id = open_small(a, &space);
	send_block(a, id, &space, "ka", 50);
	(void)core_run(rig.core, rig.now_ns);
	fetch.space_id = id;
	fetch.keys = &key;
	fetch.n_keys = 1;
	request.id = 51;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_FETCH;
	request.fetch = &fetch;
	rig_send(a, &request);
	assert_int_equal(a->last->id, 51);
	assert_int_equal(a->last->fetch->items[0]->status, KVP_PARTIAL);
	rig_run(&rig);
	assert_int_equal(a->last->id, 50);
	rig_stop(&rig);
}

/* A block that is deleted between two slices of its own append. */
static void test_delete_during_append(void **state)
{
	struct core_limits limits = { .slice_bytes = 1 };
	struct rig rig;
	struct rig_peer *a, *b;
	Kvpaged__V1__OpenSpaceReply space;
	uint32_t id;

	rig_start(&rig, ARENA, 0, &limits);
	a = rig_connect(&rig, 0, 1000, MIB);
	b = rig_connect(&rig, 1, 1000, MIB);
	id = open_small(a, &space);
	(void)open_small(b, NULL);
	send_block(a, id, &space, "ka", 50);
	(void)core_run(rig.core, rig.now_ns);
	assert_int_equal(rig_delete(b, id, "ka"), KVP_OK);
	assert_int_equal(a->last->id, 50);
	assert_int_equal(a->last->status, KVP_STALE);
	assert_int_equal(rig_counter(b, "blocks"), 0);
	rig_stop(&rig);
}

/* Two spaces with different page sizes churn through one arena: memory moves between them and nothing is lost.
 */
static void test_size_classes_share(void **state)
{
	struct rig rig;
	struct rig_peer *peer;
	Kvpaged__V1__OpenSpaceReply large, small;
	uint32_t id_large, id_small;
	char key[16];

	rig_start(&rig, 16 * MIB, 0, NULL);
	peer = rig_connect(&rig, 0, 1000, MIB);
	id_large = open_large(peer, "l", &large);
	id_small = open_small(peer, &small);
	for (unsigned i = 0; i < 600; i++) {
		bool l = (i / 100) % 2 == 0;

		(void)snprintf(key, sizeof(key), "k%u", i);
		assert_int_equal(rig_append(peer, l ? id_large : id_small, key, NULL, l ? 64 : 16,
					    l ? large.page_bytes : small.page_bytes, 0, 4, (uint8_t)i),
				 KVP_OK);
		assert_true(peer->last->append->complete);
		if (i % 50 == 0)
			rig_audit(&rig);
	}
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
		cmocka_unit_test(test_append_and_read),
		cmocka_unit_test(test_append_refusals),
		cmocka_unit_test(test_append_offsets_and_checksum),
		cmocka_unit_test(test_partial_blocks),
		cmocka_unit_test(test_eviction_order),
		cmocka_unit_test(test_eviction_is_prefix_closed),
		cmocka_unit_test(test_everything_leased),
		cmocka_unit_test(test_quota_per_uid),
		cmocka_unit_test(test_staging_refused),
		cmocka_unit_test(test_leases),
		cmocka_unit_test(test_delete_takes_descendants),
		cmocka_unit_test(test_match_and_ranges),
		cmocka_unit_test(test_soft_pins),
		cmocka_unit_test(test_drop_space),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_slices_take_turns),
		cmocka_unit_test(test_fetch_overtakes_append),
		cmocka_unit_test(test_delete_during_append),
		cmocka_unit_test(test_size_classes_share),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_sizes_refused),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
