/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvpaged through its client library. A value is a block of one page: one layer, one or two heads of 128 + 128
 * channels, as many tokens as the size asks for. Two classes: one keeps f16, so that the page is what the caller has,
 * byte by byte, and encoding is copying; the other packs to q6, and what it is compared by is decoding.
 *
 * A find pins and unpins; reading in place goes tile by tile and ends with the check that the library asks for. Blocks
 * are immutable: a put stores another block, and the old one is deleted outside of what is timed.
 */
#include "tests/bench/store.h"

#include "client/kvclient.h"
#include "tests/bench/bench.h"
#include "tests/bench/peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct state {
	kvc_client *client;
	kvc_space *space;
	kvc_reader *reader;
};

static int fail(const char *doing, int result)
{
	return bench_error("kvpaged: %s: %s", doing, kvc_strerror(result));
}

static struct kvc_schema schema_of(const struct store_shape *shape)
{
	return (struct kvc_schema){
		.model = "kvbench",
		.dtype = KVC_F16,
		.layers = 1,
		.kv_heads = shape->heads,
		.page_heads = shape->heads,
		.head_dim_k = STORE_HEAD_DIM,
		.head_dim_v = STORE_HEAD_DIM,
		.block_tokens = shape->tokens,
		.codec_k = shape->codec,
		.codec_v = shape->codec,
	};
}

static int open_store(struct store *store)
{
	struct kvc_options options = { .struct_bytes = sizeof(options),
				       .socket_path = store->shape.server->socket_path,
				       .client_name = "kvbench" };
	struct kvc_schema schema = schema_of(&store->shape);
	struct state *state = calloc(1, sizeof(*state));
	char reason[256] = "";
	int r;

	if (!state)
		return bench_error("out of memory");
	store->state = state;
	r = kvc_open(&options, &state->client, reason, sizeof(reason));
	if (r != KVC_OK)
		return bench_error("cannot connect: %s", reason);
	r = kvc_space_open(state->client, store->shape.space, &schema, &state->space);
	if (r == KVC_OK)
		r = kvc_reader_open(state->client, &state->reader);
	return r == KVC_OK ? 0 : fail("opening", r);
}

static void close_store(struct store *store)
{
	struct state *state = store->state;

	if (state)
		(void)kvc_close(state->client);
	free(state);
	store->state = NULL;
}

/* --- Reading ------------------------------------------------------------------------------------- */

static int pin(const struct state *state, kvc_reader *reader, const char *key, kvc_block **ret_block)
{
	struct kvc_key name = { key, STORE_KEY_BYTES };
	int status = KVC_OK;
	int r = kvc_pin(state->space, reader, &name, 1, NULL, ret_block, &status);

	if (r == KVC_OK)
		r = status;
	return r == KVC_OK ? 0 : fail("pin", r);
}

static int find(struct store *store, const struct store_item *item)
{
	const struct state *state = store->state;
	kvc_block *block;

	if (pin(state, state->reader, item->key, &block) != 0)
		return 1;
	(void)kvc_unpin(block);
	return 0;
}

/* As a worker pins all blocks of a prompt. */
static int find_batch(struct store *store, const struct store_item *items)
{
	const struct state *state = store->state;
	kvc_block *blocks[STORE_BATCH];
	struct kvc_key keys[STORE_BATCH] = { 0 };
	int statuses[STORE_BATCH];
	uint32_t n = store->set->batch;
	int r;

	for (uint32_t i = 0; i < n; i++)
		keys[i] = (struct kvc_key){ items[i].key, STORE_KEY_BYTES };
	r = kvc_pin(state->space, state->reader, keys, n, NULL, blocks, statuses);
	for (uint32_t i = 0; r == KVC_OK && i < n; i++)
		r = statuses[i];
	if (r != KVC_OK)
		return fail("pin", r);
	for (uint32_t i = 0; i < n; i++)
		(void)kvc_unpin(blocks[i]);
	return 0;
}

/* A fetch by asking that wants no values: the request, the pin and the checks. */
static int ask(struct store *store, const struct store_item *item)
{
	const struct state *state = store->state;
	struct kvc_fetch fetch = { .key = { item->key, STORE_KEY_BYTES } };
	int r = kvc_fetch(state->space, NULL, &fetch, 1);

	if (r == KVC_OK)
		r = fetch.status;
	return r == KVC_OK ? 0 : fail("asking", r);
}

static int touch(struct store *store, const struct store_item *item)
{
	const struct state *state = store->state;
	struct kvc_tile k;
	struct kvc_tile v;
	kvc_block *block;
	int r;

	if (pin(state, state->reader, item->key, &block) != 0)
		return 1;
	r = kvc_block_tile(block, 'K', 0, 0, &k);
	if (r == KVC_OK)
		r = kvc_block_tile(block, 'V', 0, 0, &v);
	if (r == KVC_OK) {
		store->sum += peer_read(k.bytes, k.n);
		store->sum += peer_read(v.bytes, v.n);
		r = kvc_block_check(block);
	}
	(void)kvc_unpin(block);
	return r == KVC_OK ? 0 : fail("reading", r);
}

static int bare(struct store *store, const struct store_item *item)
{
	store->sum += peer_read(item->bare, store->set->value_bytes / 2);
	store->sum += peer_read((const uint8_t *)item->bare + store->set->value_bytes / 2, store->set->value_bytes / 2);
	return 0;
}

/* [heads, tokens, channels] of f16, of K and then of V. */
static struct kvc_tensor tensor_at(const struct store *store, const uint8_t *base, char which)
{
	const struct store_shape *shape = &store->shape;
	size_t values = (size_t)shape->heads * shape->tokens * STORE_HEAD_DIM;

	return (struct kvc_tensor){
		.data = (void *)(uintptr_t)(base + (which == 'V' ? values * sizeof(uint16_t) : 0)),
		.dtype = KVC_F16,
		.stride_layer = (int64_t)values,
		.stride_head = (int64_t)shape->tokens * STORE_HEAD_DIM,
		.stride_token = STORE_HEAD_DIM,
	};
}

static int copy(struct store *store, const struct store_item *item)
{
	const struct state *state = store->state;
	struct kvc_fetch fetch = {
		.key = { item->key, STORE_KEY_BYTES },
		.k = tensor_at(store, store->out, 'K'),
		.v = tensor_at(store, store->out, 'V'),
	};
	int r = kvc_fetch(state->space, state->reader, &fetch, 1);

	if (r == KVC_OK)
		r = fetch.status;
	return r == KVC_OK ? 0 : fail("fetch", r);
}

/* Where the tiles lie, for reads without a look-up. K and V of one head are neighbours. */
static int loaded(struct store *store)
{
	const struct state *state = store->state;

	store->bare = malloc(store->set->count * sizeof(*store->bare));
	if (!store->bare)
		return bench_error("out of memory");
	for (uint32_t i = 0; i < store->set->count; i++) {
		struct store_item item;
		struct kvc_tile tile;
		kvc_block *block;

		store->bare[i] = NULL;
		store_item(store, i, &item);
		if (pin(state, state->reader, item.key, &block) != 0)
			return 1;
		if (kvc_block_tile(block, 'K', 0, 0, &tile) == KVC_OK)
			store->bare[i] = tile.bytes;
		(void)kvc_unpin(block);
		if (!store->bare[i])
			return bench_error("kvpaged: a stored block cannot be read");
	}
	return 0;
}

/* --- Putting -------------------------------------------------------------------------------------- */

static struct kvc_append append_of(const struct store *store, const struct store_item *item)
{
	return (struct kvc_append){
		.key = { item->next, STORE_KEY_BYTES },
		.tokens = store->shape.tokens,
		.k = tensor_at(store, store->set->source, 'K'),
		.v = tensor_at(store, store->set->source, 'V'),
	};
}

static int put(struct store *store, const struct store_item *item)
{
	const struct state *state = store->state;
	struct kvc_append append = append_of(store, item);
	int r = kvc_append(state->space, &append, 1);

	if (r == KVC_OK)
		r = append.status;
	return r == KVC_OK ? 0 : fail("append", r);
}

static int put_batch(struct store *store, const struct store_item *items)
{
	const struct state *state = store->state;
	struct kvc_append appends[STORE_BATCH];
	uint32_t n = store->set->batch;
	int r;

	for (uint32_t i = 0; i < n; i++)
		appends[i] = append_of(store, &items[i]);
	r = kvc_append(state->space, appends, n);
	for (uint32_t i = 0; r == KVC_OK && i < n; i++)
		r = appends[i].status;
	return r == KVC_OK ? 0 : fail("append", r);
}

static int settle(struct store *store, const struct store_item *items, uint32_t n)
{
	const struct state *state = store->state;
	struct kvc_key keys[STORE_BATCH];
	int r;

	for (uint32_t i = 0; i < n; i++) {
		keys[i] = (struct kvc_key){ items[i].key, STORE_KEY_BYTES };
		atomic_fetch_add_explicit(&store->versions[items[i].index], 1, memory_order_relaxed);
	}
	r = kvc_delete(state->space, keys, n, NULL);
	return r == KVC_OK ? 0 : fail("delete", r);
}

#define KVPAGED_OPS                                                                                          \
	[STORE_FIND] = find, [STORE_FIND_BATCH] = find_batch, [STORE_TOUCH] = touch, [STORE_COPY] = copy,    \
	[STORE_PUT] = put, [STORE_PUT_BATCH] = put_batch, [STORE_ASK] = ask

const struct store_class store_kvpaged = {
	.name = "kvpaged",
	.immutable = true,
	.memory = true,
	.ops = { KVPAGED_OPS, [STORE_BARE] = bare },
	.open = open_store,
	.close = close_store,
	.loaded = loaded,
	.settle = settle,
};

const struct store_class store_kvpaged_packed = {
	.name = "kvpaged, packed",
	.immutable = true,
	.lossy = true,
	.memory = true,
	.ops = { KVPAGED_OPS },
	.open = open_store,
	.close = close_store,
	.settle = settle,
};
