/* SPDX-License-Identifier: Apache-2.0 */
/* Pinned blocks: tiles in place, what ends a pin, and what stays of it afterwards. */
#include "tests/e2e/test-client-rig.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rig {
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;
};

static void rig_start(struct rig *rig, uint32_t codec)
{
	struct kvc_schema schema = schema_small();

	schema.codec_k = schema.codec_v = codec;
	test_daemon_start(&rig->d, NULL);
	rig->client = open_client(&rig->d, 0);
	rig->space = open_space(rig->client, "s", &schema);
}

static void rig_stop(struct rig *rig)
{
	kvc_close(rig->client);
	test_daemon_stop(&rig->d);
}

static kvc_block *pin(kvc_space *space, const char *key, uint32_t ttl_ms)
{
	struct kvc_key wanted = key_of(key);
	kvc_block *block = NULL;
	int status = -1;

	assert_int_equal(kvc_lease(space, &wanted, 1, NULL, ttl_ms, &block, &status), KVC_OK);
	assert_int_equal(status, KVC_OK);
	assert_non_null(block);
	return block;
}

/* Decodes every tile of a pinned block and compares it with the values of this seed. */
static void expect_values(const kvc_block *block, uint32_t seed, uint32_t codec)
{
	float rows[32 * 64];

	for (uint32_t layer = 0; layer < 3; layer++) {
		for (uint32_t head = 0; head < 4; head++) {
			for (unsigned value = 0; value < 2; value++) {
				char which = value ? 'V' : 'K';
				struct kvc_tile tile;
				struct box box = { .tensor = { .data = rows, .dtype = KVC_F32, .stride_token = 64 },
						   .layers = 1, .heads = 1, .head_dim = 64 };

				assert_int_equal(kvc_block_tile(block, which, layer, head, &tile), KVC_OK);
				assert_int_equal(tile.codec, codec);
				assert_int_equal(tile.head_dim, 64);
				assert_int_equal(tile.tokens, kvc_block_tokens(block));
				assert_int_equal(kvc_tile_decode(&tile, which, rows, KVC_F32, 64), KVC_OK);
				box_expect(&box, seed, which, layer, head, tile.tokens, codec_error_max(codec));
			}
		}
	}
}

static void test_tiles(void **state)
{
	static const uint32_t codecs[] = { KVC_CODEC_F32, KVC_CODEC_BF16, KVC_CODEC_Q8, KVC_CODEC_Q4 };

	for (unsigned i = 0; i < 4; i++) {
		kvc_block *block;
		struct rig rig;

		rig_start(&rig, codecs[i]);
		assert_int_equal(append_block(rig.space, "k", NULL, 11, 29), KVC_OK);
		block = pin(rig.space, "k", 0);
		assert_int_equal(kvc_block_tokens(block), 29);
		expect_values(block, 11, codecs[i]);
		assert_int_equal(kvc_block_check(block), KVC_OK);
		assert_int_equal(counter_of(rig.client, "leases"), 1);
		assert_null(kvc_unpin(block));
		assert_int_equal(counter_of(rig.client, "leases"), 0);
		rig_stop(&rig);
	}
}

/* A raw tile is the tensor itself. */
static void test_raw_tile_is_the_tensor(void **state)
{
	struct kvc_tile tile;
	kvc_block *block;
	struct rig rig;

	rig_start(&rig, KVC_CODEC_F32);
	assert_int_equal(append_block(rig.space, "k", NULL, 4, 32), KVC_OK);
	block = pin(rig.space, "k", 0);
	assert_int_equal(kvc_block_tile(block, 'V', 2, 3, &tile), KVC_OK);
	assert_int_equal(tile.n, 32 * 64 * 4);
	for (uint32_t t = 0; t < 32; t++)
		for (uint32_t c = 0; c < 64; c++)
			assert_true(((const float *)tile.bytes)[t * 64 + c] == value_at(4, 'V', 2, 3, t, c));
	kvc_unpin(block);
	rig_stop(&rig);
}

static void test_bad_arguments(void **state)
{
	float rows[64];
	struct kvc_tile tile, changed;
	kvc_block *block;
	struct rig rig;

	rig_start(&rig, KVC_CODEC_Q8);
	assert_int_equal(append_block(rig.space, "k", NULL, 4, 1), KVC_OK);
	block = pin(rig.space, "k", 0);
	assert_int_equal(kvc_block_tile(block, 'K', 3, 0, &tile), KVC_RANGE);
	assert_int_equal(kvc_block_tile(block, 'K', 0, 4, &tile), KVC_RANGE);
	assert_int_equal(kvc_block_tile(block, 'K', UINT32_MAX, UINT32_MAX, &tile), KVC_RANGE);
	assert_int_equal(kvc_block_tile(block, 'k', 0, 0, &tile), KVC_INVALID);
	assert_int_equal(kvc_block_tile(NULL, 'K', 0, 0, &tile), -EINVAL);
	assert_int_equal(kvc_block_check(NULL), -EINVAL);
	assert_int_equal(kvc_block_tokens(NULL), 0);
	assert_null(kvc_unpin(NULL));
	assert_int_equal(kvc_block_tile(block, 'K', 0, 0, &tile), KVC_OK);
	assert_int_equal(kvc_tile_decode(&tile, 'K', rows, KVC_F32, 64), KVC_OK);
	assert_int_equal(kvc_tile_decode(&tile, 'X', rows, KVC_F32, 64), KVC_INVALID);
	assert_int_equal(kvc_tile_decode(&tile, 'V', rows, KVC_F32, 64), KVC_INVALID); /* of another size */
	assert_int_equal(kvc_tile_decode(&tile, 'K', NULL, KVC_F32, 64), KVC_INVALID);
	assert_int_equal(kvc_tile_decode(&tile, 'K', rows, 9, 64), KVC_INVALID);
	assert_int_equal(kvc_tile_decode(&tile, 'K', rows, KVC_F32, 63), KVC_INVALID);
	assert_int_equal(kvc_tile_decode(NULL, 'K', rows, KVC_F32, 64), KVC_INVALID);
	changed = tile;
	changed.tokens = 257;
	assert_int_equal(kvc_tile_decode(&changed, 'K', rows, KVC_F32, 64), KVC_INVALID);
	changed = tile;
	changed.codec = 18;
	assert_int_equal(kvc_tile_decode(&changed, 'K', rows, KVC_F32, 64), KVC_INVALID);
	changed = tile;
	changed.n--;
	assert_int_equal(kvc_tile_decode(&changed, 'K', rows, KVC_F32, 64), KVC_INVALID);
	kvc_unpin(block);
	rig_stop(&rig);
}

static void test_no_v(void **state)
{
	struct kvc_schema schema = schema_small();
	struct test_daemon d;
	struct kvc_tile tile;
	kvc_client *client;
	kvc_space *space;
	kvc_block *block;

	schema.head_dim_v = 0;
	test_daemon_start(&d, NULL);
	client = open_client(&d, 0);
	space = open_space(client, "mla", &schema);
	assert_int_equal(append_block(space, "k", NULL, 1, 32), KVC_OK);
	assert_int_equal(fetch_block(space, "k", 1), KVC_OK);
	block = pin(space, "k", 0);
	assert_int_equal(kvc_block_tile(block, 'K', 0, 0, &tile), KVC_OK);
	assert_int_equal(kvc_block_tile(block, 'V', 0, 0, &tile), KVC_INVALID);
	kvc_unpin(block);
	kvc_close(client);
	test_daemon_stop(&d);
}

/* Keys that are not there get no handle; the others do. A range asks for its own pages only. */
static void test_partial_and_missing(void **state)
{
	struct kvc_range low = { .head_count = 2 };
	struct kvc_key keys[3] = { key_of("whole"), key_of("none"), key_of("half") };
	kvc_block *blocks[3] = { (void *)&low, (void *)&low, (void *)&low };
	int statuses[3] = { -1, -1, -1 };
	struct kvc_append half = { .key = key_of("half"), .tokens = 32, .range = low };
	struct kvc_tile tile;
	struct box k, v;
	struct rig rig;

	rig_start(&rig, KVC_CODEC_Q8);
	box_new(&k, LAYOUT_HEAD_MAJOR, KVC_F32, 3, 2, 32, 64);
	box_new(&v, LAYOUT_HEAD_MAJOR, KVC_F32, 3, 2, 32, 64);
	box_fill(&k, 1, 'K', 0, 0);
	box_fill(&v, 1, 'V', 0, 0);
	half.k = k.tensor;
	half.v = v.tensor;
	assert_int_equal(kvc_append(rig.space, &half, 1), KVC_OK);
	assert_int_equal(half.status, KVC_OK);
	assert_int_equal(append_block(rig.space, "whole", NULL, 2, 32), KVC_OK);
	assert_int_equal(kvc_lease(rig.space, keys, 3, NULL, 1000, blocks, statuses), KVC_OK);
	assert_int_equal(statuses[0], KVC_OK);
	assert_int_equal(statuses[1], KVC_MISS);
	assert_int_equal(statuses[2], KVC_PARTIAL);
	assert_non_null(blocks[0]);
	assert_null(blocks[1]);
	assert_null(blocks[2]);
	kvc_unpin(blocks[0]);
	assert_int_equal(kvc_lease(rig.space, keys, 3, &low, 1000, blocks, statuses), KVC_OK);
	assert_int_equal(statuses[2], KVC_OK);
	assert_int_equal(kvc_block_tile(blocks[2], 'K', 0, 1, &tile), KVC_OK);
	assert_int_equal(kvc_block_tile(blocks[2], 'K', 0, 2, &tile), KVC_PARTIAL);
	kvc_unpin(blocks[0]);
	kvc_unpin(blocks[2]);
	box_free(&k);
	box_free(&v);
	rig_stop(&rig);
}

/* A block deleted under a pin: the pin is stale, its bytes stay, and its memory is free only after the unpin. */
static void test_delete_under_pin(void **state)
{
	struct kvc_key key = key_of("k");
	uint8_t before[32 * 64 * 4];
	struct kvc_tile tile, none;
	kvc_client *other;
	kvc_space *space;
	kvc_block *block;
	struct rig rig;

	rig_start(&rig, KVC_CODEC_F32);
	other = open_client(&rig.d, 0);
	space = open_space(other, "s", NULL);
	assert_int_equal(append_block(rig.space, "k", NULL, 9, 32), KVC_OK);
	block = pin(rig.space, "k", 60000);
	assert_int_equal(kvc_block_tile(block, 'K', 1, 1, &tile), KVC_OK);
	assert_int_equal(tile.n, sizeof(before));
	memcpy(before, tile.bytes, sizeof(before));
	assert_int_equal(kvc_delete(space, &key, 1, NULL), KVC_OK);
	assert_int_equal(kvc_block_check(block), KVC_STALE);
	assert_int_equal(kvc_block_tile(block, 'K', 1, 1, &none), KVC_STALE);
	assert_int_equal(counter_of(other, "blocks_limbo"), 1);
	for (uint32_t i = 0; i < 300; i++) { /* more than the arena holds */
		char name[16];

		(void)snprintf(name, sizeof(name), "n%u", i);
		assert_int_equal(append_block(space, name, NULL, i, 32), KVC_OK);
	}
	assert_memory_equal(tile.bytes, before, sizeof(before));
	kvc_unpin(block);
	while (counter_of(rig.client, "blocks_limbo") > 0) /* until nobody else can be reading it */
		pause_ms(5);
	kvc_close(other);
	rig_stop(&rig);
}

static void test_lease_runs_out(void **state)
{
	kvc_block *block;
	struct rig rig;

	rig_start(&rig, KVC_CODEC_Q8);
	assert_int_equal(append_block(rig.space, "k", NULL, 9, 32), KVC_OK);
	block = pin(rig.space, "k", 50);
	while (kvc_block_check(block) == KVC_OK)
		pause_ms(5);
	assert_int_equal(kvc_block_check(block), KVC_STALE);
	while (counter_of(rig.client, "leases") > 0)
		pause_ms(5);
	kvc_unpin(block); /* gives back what is over already */
	assert_int_equal(fetch_block(rig.space, "k", 9), KVC_OK);
	rig_stop(&rig);
}

/* Space and client may go before their blocks. */
static void test_order_of_ends(void **state)
{
	kvc_block *block;
	struct rig rig;

	rig_start(&rig, KVC_CODEC_Q8);
	assert_int_equal(append_block(rig.space, "k", NULL, 9, 32), KVC_OK);
	block = pin(rig.space, "k", 0);
	(void)pin(rig.space, "k", 0); /* never unpinned: freed with the client */
	rig.space = kvc_space_close(rig.space);
	expect_values(block, 9, KVC_CODEC_Q8);
	assert_int_equal(kvc_block_check(block), KVC_OK);
	kvc_unpin(block);
	rig_stop(&rig);
}

struct reader {
	const kvc_block *block;
	unsigned rounds;
};

static void *reader_run(void *data)
{
	struct reader *reader = data;

	for (; reader->rounds < 50; reader->rounds++) {
		expect_values(reader->block, 9, KVC_CODEC_Q8);
		if (kvc_block_check(reader->block) != KVC_OK)
			break;
	}
	return NULL;
}

/* Pinned blocks are read by threads without the client's lock, which another holds in calls all the time. */
static void test_threads_read(void **state)
{
	struct reader readers[3] = { 0 };
	pthread_t threads[3];
	kvc_block *block;
	struct rig rig;

	rig_start(&rig, KVC_CODEC_Q8);
	assert_int_equal(append_block(rig.space, "k", NULL, 9, 32), KVC_OK);
	block = pin(rig.space, "k", 0);
	for (unsigned i = 0; i < 3; i++) {
		readers[i].block = block;
		assert_int_equal(pthread_create(&threads[i], NULL, reader_run, &readers[i]), 0);
	}
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(fetch_block(rig.space, "k", 9), KVC_OK);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(readers[i].rounds, 50);
	}
	kvc_unpin(block);
	rig_stop(&rig);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_tiles),
	cmocka_unit_test(test_raw_tile_is_the_tensor),
	cmocka_unit_test(test_bad_arguments),
	cmocka_unit_test(test_no_v),
	cmocka_unit_test(test_partial_and_missing),
	cmocka_unit_test(test_delete_under_pin),
	cmocka_unit_test(test_lease_runs_out),
	cmocka_unit_test(test_order_of_ends),
	cmocka_unit_test(test_threads_read),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
