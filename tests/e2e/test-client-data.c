/* SPDX-License-Identifier: Apache-2.0 */
/* libkvclient against the real daemon: what is appended comes back, and what cannot be stored is refused. */
#include "tests/e2e/test-client-rig.h"
#include "tests/lib/harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct shape {
	uint32_t layers;
	uint32_t kv_heads;
	uint32_t head_dim_k;
	uint32_t head_dim_v;
	uint32_t tokens;
};

/* Appends and fetches one block; values are exact at raw codecs and within half a step at others. */
static void round_trip(kvc_client *client, uint32_t codec, const struct shape *shape, uint32_t dtype_in,
		       enum layout layout_in, uint32_t dtype_out, enum layout layout_out)
{
	static uint32_t seed;
	struct kvc_schema schema = {
		.model = "m",
		.dtype = dtype_in,
		.layers = shape->layers,
		.kv_heads = shape->kv_heads,
		.head_dim_k = shape->head_dim_k,
		.head_dim_v = shape->head_dim_v,
		.block_tokens = 128,
		.codec_k = codec,
		.codec_v = codec,
	};
	struct kvc_append append = { .tokens = shape->tokens };
	struct kvc_fetch fetch = { .status = -1 };
	struct box k, v, k2, v2;
	kvc_space *space;
	char name[32];

	(void)snprintf(name, sizeof(name), "space-%u", ++seed);
	space = open_space(client, name, &schema);
	box_new(&k, layout_in, dtype_in, shape->layers, shape->kv_heads, shape->tokens, shape->head_dim_k);
	box_new(&v, layout_in, dtype_in, shape->layers, shape->kv_heads, shape->tokens, shape->head_dim_v);
	box_fill(&k, seed, 'K', 0, 0);
	box_fill(&v, seed, 'V', 0, 0);
	append.key = fetch.key = key_of("key");
	append.k = k.tensor;
	append.v = v.tensor;
	assert_int_equal(kvc_append(space, &append, 1), KVC_OK);
	assert_int_equal(append.status, KVC_OK);
	assert_int_equal(append.pages_stored, shape->layers * shape->kv_heads / kvc_space_schema(space)->page_heads);
	assert_int_equal(append.pages_present, 0);

	box_new(&k2, layout_out, dtype_out, shape->layers, shape->kv_heads, shape->tokens, shape->head_dim_k);
	box_new(&v2, layout_out, dtype_out, shape->layers, shape->kv_heads, shape->tokens, shape->head_dim_v);
	fetch.k = k2.tensor;
	fetch.v = v2.tensor;
	assert_int_equal(kvc_fetch(space, NULL, &fetch, 1), KVC_OK);
	assert_int_equal(fetch.status, KVC_OK);
	assert_int_equal(fetch.tokens, shape->tokens);
	box_expect(&k2, seed, 'K', 0, 0, shape->tokens, codec_error_max(codec));
	box_expect(&v2, seed, 'V', 0, 0, shape->tokens, codec_error_max(codec));
	box_free(&k);
	box_free(&v);
	box_free(&k2);
	box_free(&v2);
	assert_int_equal(kvc_space_drop(client, name), KVC_OK);
	kvc_space_close(space);
}

static void test_round_trips(void **state)
{
	static const uint32_t codecs[] = { KVC_CODEC_F32, KVC_CODEC_F16, KVC_CODEC_BF16, KVC_CODEC_Q8,
					   KVC_CODEC_Q6, KVC_CODEC_Q5, KVC_CODEC_Q4, KVC_CODEC_T6G32 };
	static const struct shape shapes[] = {
		{ 1, 1, 8, 8, 1 },    { 2, 3, 64, 64, 128 }, { 2, 2, 128, 64, 17 },
		{ 2, 1, 256, 0, 33 }, { 1, 2, 24, 256, 127 },
	};
	struct test_daemon d;
	kvc_client *client;

	test_daemon_start(&d, NULL);
	client = open_client(&d, 0);
	for (size_t c = 0; c < COUNT(codecs); c++)
		for (size_t s = 0; s < COUNT(shapes); s++)
			for (uint32_t dtype = KVC_F32; dtype <= KVC_BF16; dtype++)
				for (unsigned layout = 0; layout < LAYOUT_COUNT; layout++)
					round_trip(client, codecs[c], &shapes[s], dtype, layout, (dtype + s) % 3 + 1,
						   (layout + c) % LAYOUT_COUNT);
	kvc_close(client);
	test_daemon_stop(&d);
}

/* A destination's gaps and its rows beyond the block's tokens stay as they were. */
static void test_fetch_writes_nothing_else(void **state)
{
	struct kvc_schema schema = schema_small();
	struct kvc_fetch fetch = { .key = key_of("k") };
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;
	struct box k, v;
	size_t untouched = 0;

	test_daemon_start(&d, NULL);
	client = open_client(&d, 0);
	space = open_space(client, "s", &schema);
	assert_int_equal(append_block(space, "k", NULL, 1, 5), KVC_OK);
	box_new(&k, LAYOUT_TOKEN_MAJOR, KVC_F32, 3, 4, 32, 64);
	box_new(&v, LAYOUT_HEAD_MAJOR, KVC_F32, 3, 4, 32, 64);
	fetch.k = k.tensor;
	assert_int_equal(kvc_fetch(space, NULL, &fetch, 1), KVC_OK); /* V is not wanted */
	assert_int_equal(fetch.status, KVC_OK);
	assert_int_equal(fetch.tokens, 5);
	box_expect(&k, 1, 'K', 0, 0, 5, codec_error_max(KVC_CODEC_Q8));
	for (size_t i = 0; i < k.bytes / 4; i++)
		untouched += memcmp(k.memory + 4 * i, "\xa5\xa5\xa5\xa5", 4) == 0;
	assert_int_equal(untouched, k.bytes / 4 - 3 * 4 * 5 * 64);
	for (size_t i = 0; i < v.bytes; i++)
		assert_int_equal(v.memory[i], 0xa5);
	fetch.k.data = NULL;
	assert_int_equal(kvc_fetch(space, NULL, &fetch, 1), KVC_OK); /* nothing wanted: is it there? */
	assert_int_equal(fetch.status, KVC_OK);
	assert_int_equal(fetch.tokens, 5);
	box_free(&k);
	box_free(&v);
	kvc_close(client);
	test_daemon_stop(&d);
}

/* One rank's part: heads [head_begin, + 2). */
static struct kvc_append rank_part(uint32_t head_begin, struct box *k, struct box *v)
{
	box_new(k, LAYOUT_HEAD_MAJOR, KVC_F32, 3, 2, 32, 64);
	box_new(v, LAYOUT_TOKEN_MAJOR, KVC_BF16, 3, 2, 32, 64);
	box_fill(k, 7, 'K', 0, head_begin);
	box_fill(v, 7, 'V', 0, head_begin);
	return (struct kvc_append){
		.key = key_of("shared"),
		.tokens = 32,
		.range = { .head_begin = head_begin, .head_count = 2 },
		.k = k->tensor,
		.v = v->tensor,
	};
}

static void test_two_ranks(void **state)
{
	struct kvc_schema schema = schema_small();
	struct kvc_range low = { .head_count = 2 }, high = { .head_begin = 2 };
	struct kvc_key key = key_of("shared");
	struct kvc_append part;
	struct test_daemon d;
	kvc_client *a, *b;
	kvc_space *sa, *sb;
	struct box k, v;
	size_t matched;

	test_daemon_start(&d, NULL);
	a = open_client(&d, 0);
	b = open_client(&d, 0);
	sa = open_space(a, "s", &schema);
	sb = open_space(b, "s", &schema);
	part = rank_part(0, &k, &v);
	assert_int_equal(kvc_append(sa, &part, 1), KVC_OK);
	assert_int_equal(part.status, KVC_OK);
	assert_int_equal(part.pages_stored, 3);
	box_free(&k);
	box_free(&v);
	assert_int_equal(kvc_match(sb, NULL, &key, 1, NULL, &matched), KVC_OK);
	assert_int_equal(matched, 0);
	assert_int_equal(kvc_match(sb, NULL, &key, 1, &low, &matched), KVC_OK);
	assert_int_equal(matched, 1);
	assert_int_equal(kvc_match(sb, NULL, &key, 1, &high, &matched), KVC_OK);
	assert_int_equal(matched, 0);
	assert_int_equal(fetch_block(sb, "shared", 7), KVC_PARTIAL);
	part = rank_part(2, &k, &v);
	assert_int_equal(kvc_append(sb, &part, 1), KVC_OK);
	assert_int_equal(part.status, KVC_OK);
	assert_int_equal(kvc_append(sb, &part, 1), KVC_OK);
	assert_int_equal(part.status, KVC_PRESENT);
	assert_int_equal(part.pages_present, 3);
	assert_int_equal(part.pages_stored, 0);
	box_free(&k);
	box_free(&v);
	assert_int_equal(fetch_block(sa, "shared", 7), KVC_OK);
	assert_int_equal(fetch_block(sb, "shared", 7), KVC_OK);
	assert_int_equal(append_block(sa, "shared", NULL, 7, 32), KVC_PRESENT);
	kvc_close(a);
	kvc_close(b);
	test_daemon_stop(&d);
}

/* The index is asked first: what is there is not even sent. */
static void test_present_is_not_sent(void **state)
{
	struct kvc_schema schema = schema_small();
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;
	uint64_t requests;

	test_daemon_start(&d, NULL);
	client = open_client(&d, 0);
	space = open_space(client, "s", &schema);
	assert_int_equal(append_block(space, "k", NULL, 1, 32), KVC_OK);
	requests = counter_of(client, "requests_total");
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(append_block(space, "k", NULL, 1, 32), KVC_PRESENT);
	assert_int_equal(counter_of(client, "requests_total"), requests + 1); /* the first look itself */
	assert_int_equal(counter_of(client, "append_present_total"), 0);
	kvc_close(client);
	test_daemon_stop(&d);
}

static void test_fetch_part(void **state)
{
	struct kvc_schema schema = schema_small();
	struct kvc_range range = { .layer_begin = 1, .layer_count = 2, .head_begin = 2, .head_count = 2 };
	struct kvc_fetch fetch = { .key = key_of("k"), .range = range };
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;
	struct box k, v;

	test_daemon_start(&d, NULL);
	client = open_client(&d, 0);
	space = open_space(client, "s", &schema);
	assert_int_equal(append_block(space, "k", NULL, 3, 32), KVC_OK);
	box_new(&k, LAYOUT_BACKWARDS, KVC_F16, 2, 2, 32, 64);
	box_new(&v, LAYOUT_TOKEN_MAJOR, KVC_F32, 2, 2, 32, 64);
	fetch.k = k.tensor;
	fetch.v = v.tensor;
	assert_int_equal(kvc_fetch(space, NULL, &fetch, 1), KVC_OK);
	assert_int_equal(fetch.status, KVC_OK);
	box_expect(&k, 3, 'K', 1, 2, 32, codec_error_max(KVC_CODEC_Q8));
	box_expect(&v, 3, 'V', 1, 2, 32, codec_error_max(KVC_CODEC_Q8));
	box_free(&k);
	box_free(&v);
	kvc_close(client);
	test_daemon_stop(&d);
}

/* Blocks with a value that cannot be stored say where it is, and are not stored; their neighbours are. */
static void test_bad_values(void **state)
{
	struct kvc_schema schema = schema_small();
	const char *keys[] = { "good", "nan", "large", "child" };
	struct kvc_append blocks[4];
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;
	struct box k[4], v[4];

	test_daemon_start(&d, NULL);
	client = open_client(&d, 0);
	space = open_space(client, "s", &schema);
	for (unsigned i = 0; i < 4; i++) {
		box_new(&k[i], LAYOUT_TOKEN_MAJOR, KVC_F32, 3, 4, 32, 64);
		box_new(&v[i], LAYOUT_HEAD_MAJOR, KVC_F32, 3, 4, 32, 64);
		box_fill(&k[i], i, 'K', 0, 0);
		box_fill(&v[i], i, 'V', 0, 0);
		blocks[i] = (struct kvc_append){ .key = key_of(keys[i]), .tokens = 32, .k = k[i].tensor,
						 .v = v[i].tensor };
	}
	blocks[3].parent = key_of("nan");
	box_set(&v[1], 2, 3, 31, 63, NAN);
	box_set(&k[2], 1, 2, 4, 5, -70000.0f);
	assert_int_equal(kvc_append(space, blocks, 4), KVC_OK);
	assert_int_equal(blocks[0].status, KVC_OK);
	assert_int_equal(blocks[1].status, KVC_NONFINITE);
	assert_int_equal(blocks[1].fault.tensor, 'V');
	assert_int_equal(blocks[1].fault.layer, 2);
	assert_int_equal(blocks[1].fault.head, 3);
	assert_int_equal(blocks[1].fault.token, 31);
	assert_int_equal(blocks[1].fault.channel, 63);
	assert_int_equal(blocks[2].status, KVC_VALUE_RANGE);
	assert_int_equal(blocks[2].fault.tensor, 'K');
	assert_int_equal(blocks[2].fault.layer, 1);
	assert_int_equal(blocks[2].fault.head, 2);
	assert_int_equal(blocks[2].fault.token, 4);
	assert_int_equal(blocks[2].fault.channel, 5);
	assert_int_equal(blocks[3].status, KVC_NO_PARENT);
	assert_int_equal(counter_of(client, "blocks"), 1);
	assert_int_equal(counter_of(client, "pages"), 6);
	box_set(&k[0], 0, 0, 0, 0, INFINITY);
	blocks[0].key = key_of("inf");
	assert_int_equal(kvc_submit(space, &blocks[0], 1), KVC_NONFINITE);
	assert_int_equal(blocks[0].fault.tensor, 'K');
	for (unsigned i = 0; i < 4; i++) {
		box_free(&k[i]);
		box_free(&v[i]);
	}
	kvc_close(client);
	test_daemon_stop(&d);
}

/* A block of several times the staging memory goes in parts; one with a NaN at its very end is not stored at all. */
static void test_block_larger_than_staging(void **state)
{
	struct kvc_schema schema = schema_large();
	struct kvc_options options = { .struct_bytes = sizeof(options), .staging_bytes = 64 << 10 };
	struct kvc_append block;
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;
	struct box k, v;

	test_daemon_start(&d, NULL);
	options.socket_path = d.socket_path;
	assert_int_equal(kvc_open(&options, &client, NULL, 0), KVC_OK);
	space = open_space(client, "s", &schema);
	assert_int_equal(append_block(space, "large", NULL, 5, 64), KVC_OK); /* 2 MiB through 64 KiB */
	assert_int_equal(fetch_block(space, "large", 5), KVC_OK);
	assert_int_equal(append_block(space, "small", "large", 6, 3), KVC_OK);
	assert_int_equal(fetch_block(space, "small", 6), KVC_OK);
	box_new(&k, LAYOUT_HEAD_MAJOR, KVC_F32, 8, 8, 64, 64);
	box_new(&v, LAYOUT_HEAD_MAJOR, KVC_F32, 8, 8, 64, 64);
	box_fill(&k, 1, 'K', 0, 0);
	box_fill(&v, 1, 'V', 0, 0);
	box_set(&v, 7, 7, 63, 63, NAN);
	block = (struct kvc_append){ .key = key_of("nan"), .tokens = 64, .k = k.tensor, .v = v.tensor };
	assert_int_equal(kvc_append(space, &block, 1), KVC_OK);
	assert_int_equal(block.status, KVC_NONFINITE);
	assert_int_equal(block.fault.layer, 7);
	assert_int_equal(kvc_submit(space, &block, 0), KVC_NONFINITE);
	assert_int_equal(counter_of(client, "blocks"), 2);
	assert_int_equal(counter_of(client, "blocks_partial"), 0);
	box_free(&k);
	box_free(&v);
	kvc_close(client);
	test_daemon_stop(&d);
}

static void test_chain_and_conflicts(void **state)
{
	static const char *const chain[] = { "a", "b", "c", "d" };
	struct kvc_schema schema = schema_small();
	struct kvc_key key = key_of("b");
	int status = -1;
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;

	test_daemon_start(&d, NULL);
	client = open_client(&d, 0);
	space = open_space(client, "s", &schema);
	assert_int_equal(append_block(space, "b", "a", 1, 32), KVC_NO_PARENT);
	assert_int_equal(append_block(space, "a", NULL, 1, 32), KVC_OK);
	assert_int_equal(append_block(space, "b", "a", 2, 32), KVC_OK);
	assert_int_equal(append_block(space, "c", "b", 3, 32), KVC_OK);
	assert_int_equal(match_keys(space, chain, 4), 3);
	assert_int_equal(match_keys(space, chain + 3, 1), 0);
	assert_int_equal(match_keys(space, chain, 0), 0);
	assert_int_equal(append_block(space, "c", "a", 3, 32), KVC_CONFLICT);
	assert_int_equal(append_block(space, "c", NULL, 3, 32), KVC_CONFLICT);
	assert_int_equal(append_block(space, "c", "b", 3, 31), KVC_CONFLICT);
	assert_int_equal(kvc_delete(space, &key, 1, &status), KVC_OK);
	assert_int_equal(status, KVC_OK);
	assert_int_equal(match_keys(space, chain, 4), 1);
	assert_int_equal(fetch_block(space, "c", 3), KVC_MISS);
	assert_int_equal(kvc_delete(space, &key, 1, &status), KVC_OK);
	assert_int_equal(status, KVC_MISS);
	kvc_close(client);
	test_daemon_stop(&d);
}

/* One append call of a chain, far more than the staging memory holds; then one fetch call of all. */
static void test_long_chain(void **state)
{
	enum { N = 200 };
	struct kvc_schema schema = schema_small();
	struct kvc_append *blocks = calloc(N, sizeof(*blocks));
	struct kvc_fetch *fetches = calloc(N, sizeof(*fetches));
	struct kvc_key keys[N];
	static char names[N][16];
	struct box k[4], v[4], fk, fv;
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;
	size_t matched;

	test_daemon_start(&d, NULL);
	client = open_client(&d, 0);
	space = open_space(client, "s", &schema);
	for (uint32_t i = 0; i < 4; i++) {
		box_new(&k[i], LAYOUT_HEAD_MAJOR, KVC_F32, 3, 4, 32, 64);
		box_new(&v[i], LAYOUT_HEAD_MAJOR, KVC_F32, 3, 4, 32, 64);
		box_fill(&k[i], i, 'K', 0, 0);
		box_fill(&v[i], i, 'V', 0, 0);
	}
	box_new(&fk, LAYOUT_HEAD_MAJOR, KVC_F32, 3, 4, 32 * N, 64);
	box_new(&fv, LAYOUT_HEAD_MAJOR, KVC_F32, 3, 4, 32 * N, 64);
	for (uint32_t i = 0; i < N; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "block-%u", i);
		keys[i] = key_of(names[i]);
		blocks[i] = (struct kvc_append){ .key = keys[i], .tokens = 32, .k = k[i % 4].tensor,
						 .v = v[i % 4].tensor };
		if (i > 0)
			blocks[i].parent = keys[i - 1];
		fetches[i] = (struct kvc_fetch){ .key = keys[i], .k = fk.tensor, .v = fv.tensor, .status = -1 };
		fetches[i].k.data = (float *)fk.tensor.data + (size_t)i * 32 * 64;
		fetches[i].v.data = (float *)fv.tensor.data + (size_t)i * 32 * 64;
	}
	assert_int_equal(kvc_append(space, blocks, N), KVC_OK);
	for (uint32_t i = 0; i < N; i++)
		assert_int_equal(blocks[i].status, KVC_OK);
	assert_int_equal(kvc_match(space, NULL, keys, N, NULL, &matched), KVC_OK);
	assert_int_equal(matched, N);
	fetches[20].key = key_of("not there");
	fetches[50].key.n = 0;
	fetches[60].range.layer_begin = 3;
	fetches[70].range.layer_count = 1; /* another range in the middle */
	assert_int_equal(kvc_fetch(space, NULL, fetches, N), KVC_OK);
	for (uint32_t i = 0; i < N; i++) {
		struct box part = { .tensor = fetches[i].k, .layers = i == 70 ? 1 : 3, .heads = 4,
				    .tokens = 32, .head_dim = 64 };
		int wanted = i == 20 ? KVC_MISS : i == 50 ? KVC_INVALID : i == 60 ? KVC_RANGE : KVC_OK;

		assert_int_equal(fetches[i].status, wanted);
		assert_int_equal(fetches[i].tokens, fetches[i].status == KVC_OK ? 32 : 0);
		if (fetches[i].status == KVC_OK)
			box_expect(&part, i % 4, 'K', 0, 0, 32, codec_error_max(KVC_CODEC_Q8));
	}
	assert_int_equal(counter_of(client, "leases"), 0);
	for (unsigned i = 0; i < 4; i++) {
		box_free(&k[i]);
		box_free(&v[i]);
	}
	box_free(&fk);
	box_free(&fv);
	free(blocks);
	free(fetches);
	kvc_close(client);
	test_daemon_stop(&d);
}

/* A daemon that gives 32 MiB of leases at most, and a fetch of more than that. */
static void test_fetch_more_than_the_lease_quota(void **state)
{
	enum { N = 16 };
	struct kvc_schema schema = schema_large();
	struct kvc_fetch fetches[N];
	static char names[N][16];
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;
	struct box k, v;

	test_daemon_start(&d, "--limits-pinned-bytes-per-uid", "5MiB", NULL);
	client = open_client(&d, 0);
	space = open_space(client, "s", &schema);
	box_new(&k, LAYOUT_HEAD_MAJOR, KVC_F32, 8, 8, 64, 64);
	box_new(&v, LAYOUT_HEAD_MAJOR, KVC_F32, 8, 8, 64, 64);
	for (unsigned i = 0; i < N; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "block-%u", i);
		assert_int_equal(append_block(space, names[i], NULL, i, 64), KVC_OK);
		fetches[i] = (struct kvc_fetch){ .key = key_of(names[i]), .k = k.tensor, .v = v.tensor };
	}
	assert_int_equal(kvc_fetch(space, NULL, fetches, N), KVC_OK);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(fetches[i].status, KVC_OK);
	box_expect(&k, N - 1, 'K', 0, 0, 64, 0);
	box_free(&k);
	box_free(&v);
	kvc_close(client);
	test_daemon_stop(&d);
}

/* What a tier lacks when it is evicted is gone: it waits for no disk, so the test does. */
static void await_stored(kvc_client *client, uint64_t blocks)
{
	while (counter_of(client, "tier_stored_blocks_total") < blocks)
		pause_ms(1);
}

/* More than the arena holds: the oldest go, the newest is always there. A tier below the arena has them all. */
static void test_append_evicts(void **state)
{
	bool tier = getenv("KVP_TEST_TIER") != NULL;
	struct kvc_schema schema = schema_small();
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;
	char key[16];

	schema.codec_k = schema.codec_v = KVC_CODEC_F32;
	test_daemon_start(&d, "--arena-bytes", "8MiB", NULL);
	client = open_client(&d, 0);
	space = open_space(client, "s", &schema);
	for (unsigned i = 0; i < 100; i++) {
		(void)snprintf(key, sizeof(key), "k%u", i);
		assert_int_equal(append_block(space, key, NULL, i, 32), KVC_OK);
		assert_int_equal(fetch_block(space, key, i), KVC_OK);
		if (tier)
			await_stored(client, i + 1);
	}
	assert_true(counter_of(client, "evictions_capacity_total") > 0);
	assert_int_equal(fetch_block(space, "k0", 0), tier ? KVC_OK : KVC_MISS);
	kvc_close(client);
	test_daemon_stop(&d);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_round_trips),
	cmocka_unit_test(test_fetch_writes_nothing_else),
	cmocka_unit_test(test_two_ranks),
	cmocka_unit_test(test_present_is_not_sent),
	cmocka_unit_test(test_fetch_part),
	cmocka_unit_test(test_bad_values),
	cmocka_unit_test(test_block_larger_than_staging),
	cmocka_unit_test(test_chain_and_conflicts),
	cmocka_unit_test(test_long_chain),
	cmocka_unit_test(test_fetch_more_than_the_lease_quota),
	cmocka_unit_test(test_append_evicts),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
