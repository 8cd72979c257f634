/* SPDX-License-Identifier: Apache-2.0 */
/* The core through its requests: blocks from append to eviction, leases, soft pins, and work in slices. */
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
	id = rig_open_small(peer, &space);
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
	id = rig_open_small(peer, &space);
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
	id = rig_open_small(peer, &space);
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
	assert_int_equal(rig_open_small(reader, NULL), id);
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
	id = rig_open_small(a, &space);
	(void)rig_open_small(b, NULL);
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
	(void)rig_open_small(a, NULL);
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
	id = rig_open_small(a, &space);
	(void)rig_open_small(b, NULL);
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
	id = rig_open_small(peer, &space);
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
	id = rig_open_small(peer, &space);
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
	id = rig_open_small(peer, &space);
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
	id = rig_open_small(peer, &space);
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
	id = rig_open_small(a, &space);
	(void)rig_open_small(b, NULL);
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
	id = rig_open_small(a, &space);
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
	id = rig_open_small(a, &space);
	(void)rig_open_small(b, NULL);
	send_block(a, id, &space, "ka", 50);
	(void)core_run(rig.core, rig.now_ns);
	assert_int_equal(rig_delete(b, id, "ka"), KVP_OK);
	assert_int_equal(a->last->id, 50);
	assert_int_equal(a->last->status, KVP_STALE);
	assert_int_equal(rig_counter(b, "blocks"), 0);
	rig_stop(&rig);
}

/* Two spaces with different page sizes churn through one arena: memory moves between them and nothing is lost. */
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
	id_small = rig_open_small(peer, &small);
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

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_append_and_read),
		cmocka_unit_test(test_append_refusals),
		cmocka_unit_test(test_append_offsets_and_checksum),
		cmocka_unit_test(test_partial_blocks),
		cmocka_unit_test(test_eviction_order),
		cmocka_unit_test(test_eviction_is_prefix_closed),
		cmocka_unit_test(test_everything_leased),
		cmocka_unit_test(test_leases),
		cmocka_unit_test(test_delete_takes_descendants),
		cmocka_unit_test(test_match_and_ranges),
		cmocka_unit_test(test_soft_pins),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_slices_take_turns),
		cmocka_unit_test(test_fetch_overtakes_append),
		cmocka_unit_test(test_delete_during_append),
		cmocka_unit_test(test_size_classes_share),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
