/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that a session sends behind its own DropSpace, before it has the answer. */
#include "tests/lib/core-rig.h"
#include "tests/lib/harness.h"

#include "base/units.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <string.h>

#define ARENA (16 * MIB)

static uint32_t open_large(struct rig_peer *peer, const char *name, Kvpaged__V1__OpenSpaceReply *ret_reply)
{
	Kvpaged__V1__Schema schema;

	rig_schema(&schema, 4, 4, 256);
	schema.block_tokens = 64;
	schema.page_heads = 4;
	return rig_open(peer, name, &schema, ret_reply);
}

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

static void send_drop_small(struct rig_peer *peer)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__DropSpace body = KVPAGED__V1__DROP_SPACE__INIT;

	body.name = (ProtobufCBinaryData){ .data = (uint8_t *)"small", .len = 5 };
	request.verb_case = KVPAGED__V1__REQUEST__VERB_DROP_SPACE;
	request.drop_space = &body;
	rig_send(peer, &request);
}

static void send_delete(struct rig_peer *peer, uint32_t id, const char *key, uint64_t request_id)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Delete body = KVPAGED__V1__DELETE__INIT;
	ProtobufCBinaryData keys[1] = { { .data = (uint8_t *)key, .len = strlen(key) } };

	body.space_id = id;
	body.n_keys = 1;
	body.keys = keys;
	request.id = request_id;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_DELETE;
	request.delete_ = &body;
	rig_send(peer, &request);
}

static void send_evict(struct rig_peer *peer, uint32_t id, uint64_t request_id)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Evict body = KVPAGED__V1__EVICT__INIT;

	body.space_id = id;
	body.all = true;
	request.id = request_id;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_EVICT;
	request.evict = &body;
	rig_send(peer, &request);
}

/*
 * Requests behind a DropSpace of their own session mean the space that is dropped, and no other that has its number by
 * the time that they are done.
 */
static void test_requests_behind_a_drop(void **state)
{
	struct rig rig;
	struct rig_peer *a, *b;
	Kvpaged__V1__OpenSpaceReply small, large;
	uint32_t id;

	for (unsigned i = 0; i < 3; i++) {
		rig_start(&rig, ARENA, 0, NULL);
		a = rig_connect(&rig, 0, 1000, MIB);
		b = rig_connect(&rig, 1, 1000, MIB);
		id = rig_open_small(a, &small);
		send_drop_small(a);
		if (i == 0)
			send_block(a, id, &small, "ka", 50);
		else if (i == 1)
			send_delete(a, id, "kb", 50);
		else
			send_evict(a, id, 50);
		(void)core_run(rig.core, rig.now_ns);
		assert_int_equal(open_large(b, "l", &large), id);
		assert_int_equal(a->last->id, 50);
		assert_int_equal(a->last->status, KVP_NO_SPACE_NAMED);
		rig_stop(&rig);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_behind_a_drop),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
