/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two arrays of rows and one of tiles. Tiles are ordered by layer, head, block, K before V, so that
 * a head's blocks follow each other. A decoded store has tiles for one block: it is encoded whole
 * before any value is replaced.
 */
#include "client/worker/kvstore.h"

#include "base/checked.h"
#include "base/contract.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

size_t kvstore_tile_bytes(const struct kvstore *store, enum codec_role role)
{
	enum codec_id codec = role == CODEC_ROLE_K ? store->codec_k : store->codec_v;
	size_t bytes = codec_tile_bytes(codec, role, store->block_tokens, store->head_dim);

	kvp_assert(bytes > 0);
	return bytes;
}

/* K and V of one head. */
static size_t pair_bytes(const struct kvstore *store)
{
	return kvstore_tile_bytes(store, CODEC_ROLE_K) + kvstore_tile_bytes(store, CODEC_ROLE_V);
}

static uint32_t head_count(const struct kvstore *store)
{
	return store->n_layers * store->n_heads;
}

/* Blocks that there are tiles for. */
static uint32_t block_slots(const struct kvstore *store)
{
	return store->packed ? store->capacity / store->block_tokens : 1;
}

static size_t row_values(const struct kvstore *store)
{
	return (size_t)head_count(store) * store->rows * store->head_dim;
}

size_t kvstore_block_bytes(const struct kvstore *store)
{
	return head_count(store) * pair_bytes(store);
}

size_t kvstore_bytes(const struct kvstore *store)
{
	return 2 * row_values(store) * sizeof(float) + block_slots(store) * kvstore_block_bytes(store);
}

const char *kvstore_form(const struct kvstore *store)
{
	return store->packed ? "packed" : "decoded";
}

/* --- Life ------------------------------------------------------------------------------------- */

/* Of each value of K and V: a row's f32, and in tiles at most twice that, with scale and min. */
static bool size_fits(const struct kvstore *store)
{
	uint64_t bytes;

	return checked_mul_u64((uint64_t)store->n_layers * store->n_heads,
			       (uint64_t)store->capacity + store->block_tokens, &bytes) &&
	       checked_mul_u64(bytes, store->head_dim, &bytes) &&
	       checked_mul_u64(bytes, 2 * 3 * sizeof(float), &bytes) && bytes <= SIZE_MAX;
}

int kvstore_init(struct kvstore *store)
{
	store->n_tokens = 0;
	store->first = 0;
	store->rows = store->packed ? store->block_tokens : store->capacity;
	store->k = NULL;
	store->v = NULL;
	store->tiles = NULL;
	store->exact = NULL;
	if (!size_fits(store))
		return -EOVERFLOW;
	store->k = malloc(row_values(store) * sizeof(float));
	store->v = malloc(row_values(store) * sizeof(float));
	/* A packed store may have room for no whole block. */
	store->tiles = malloc(block_slots(store) * kvstore_block_bytes(store) + 1);
	store->exact = calloc((size_t)block_slots(store) + 1, sizeof(*store->exact));
	return store->k && store->v && store->tiles && store->exact ? 0 : -ENOMEM;
}

void kvstore_clear(struct kvstore *store)
{
	for (uint32_t i = 0; store->exact && i < block_slots(store); i++) {
		free(store->exact[i]);
		store->exact[i] = NULL;
	}
	store->n_tokens = 0;
	store->first = 0;
}

void kvstore_done(struct kvstore *store)
{
	kvstore_clear(store);
	free(store->k);
	free(store->v);
	free(store->tiles);
	free(store->exact);
	*store = (struct kvstore){ 0 };
}

/* --- Reading ---------------------------------------------------------------------------------- */

/* The K and V tile of a slot for blocks. */
static uint8_t *tile_pair(const struct kvstore *store, uint32_t layer, uint32_t head, uint32_t slot)
{
	size_t at = ((size_t)layer * store->n_heads + head) * block_slots(store) + slot;

	return store->tiles + at * pair_bytes(store);
}

uint8_t *kvstore_tile(const struct kvstore *store, enum codec_role role, uint32_t layer,
		      uint32_t head, uint32_t index)
{
	uint8_t *pair = tile_pair(store, layer, head, index);

	kvp_assert(store->packed && index < block_slots(store));
	return role == CODEC_ROLE_K ? pair : pair + kvstore_tile_bytes(store, CODEC_ROLE_K);
}

void kvstore_filled(struct kvstore *store, uint32_t n_blocks)
{
	kvp_assert(store->n_tokens == 0 && n_blocks <= store->capacity / store->block_tokens);
	store->n_tokens = n_blocks * store->block_tokens;
	store->first = store->packed ? store->n_tokens : 0;
}

/* Rows of f32 are what an f32 tile is. */
static struct codec_span exact_span(uint32_t tokens, const float *k, const float *v)
{
	return (struct codec_span){
		.codec_k = CODEC_F32, .codec_v = CODEC_F32, .tokens = tokens, .k = k, .v = v };
}

/* Values of one head in a block that stayed exact: K, then V. */
static float *exact_head(const struct kvstore *store, uint32_t layer, uint32_t head, uint32_t index)
{
	size_t values = (size_t)store->block_tokens * store->head_dim;

	return store->exact[index] + ((size_t)layer * store->n_heads + head) * 2 * values;
}

static struct codec_span block_span(const struct kvstore *store, uint32_t layer, uint32_t head,
				    uint32_t index)
{
	if (store->exact[index]) {
		const float *values = exact_head(store, layer, head, index);

		return exact_span(store->block_tokens, values,
				  values + (size_t)store->block_tokens * store->head_dim);
	}
	return (struct codec_span){
		.codec_k = store->codec_k,
		.codec_v = store->codec_v,
		.tokens = store->block_tokens,
		.k = kvstore_tile(store, CODEC_ROLE_K, layer, head, index),
		.v = kvstore_tile(store, CODEC_ROLE_V, layer, head, index),
	};
}

size_t kvstore_spans(const struct kvstore *store, uint32_t layer, uint32_t head, uint32_t n,
		     struct codec_span *ret_spans)
{
	uint32_t n_finished = store->first / store->block_tokens;
	size_t open = kvstore_head(store, layer, head);

	kvp_assert(store->packed && n >= store->first && n - store->first <= store->block_tokens);
	for (uint32_t i = 0; i < n_finished; i++)
		ret_spans[i] = block_span(store, layer, head, i);
	if (n == store->first)
		return n_finished;
	ret_spans[n_finished] = exact_span(n - store->first, store->k + open, store->v + open);
	return (size_t)n_finished + 1;
}

/* --- Finishing -------------------------------------------------------------------------------- */

static int encode_head(struct kvstore *store, uint32_t begin, uint32_t slot,
		       struct kvstore_fault *fault)
{
	ptrdiff_t stride = (ptrdiff_t)store->head_dim;
	size_t at = kvstore_offset(store, fault->layer, fault->head, begin);
	uint8_t *tile = tile_pair(store, fault->layer, fault->head, slot);
	int r;

	fault->tensor = 'K';
	r = codec_encode(store->codec_k, CODEC_ROLE_K, store->block_tokens, store->head_dim,
			 store->k + at, CODEC_DTYPE_F32, stride, tile, &fault->at);
	if (r != 0)
		return r;
	fault->tensor = 'V';
	return codec_encode(store->codec_v, CODEC_ROLE_V, store->block_tokens, store->head_dim,
			    store->v + at, CODEC_DTYPE_F32, stride,
			    tile + kvstore_tile_bytes(store, CODEC_ROLE_K), &fault->at);
}

static int encode_block(struct kvstore *store, uint32_t begin, uint32_t slot,
			struct kvstore_fault *ret_fault)
{
	for (uint32_t i = 0; i < head_count(store); i++) {
		struct kvstore_fault fault = { .layer = i / store->n_heads, .head = i % store->n_heads };
		int r = encode_head(store, begin, slot, &fault);

		if (r != 0) {
			*ret_fault = fault;
			return r;
		}
	}
	return 0;
}

static void decode_block(struct kvstore *store, uint32_t begin)
{
	ptrdiff_t stride = (ptrdiff_t)store->head_dim;

	for (uint32_t i = 0; i < head_count(store); i++) {
		uint32_t layer = i / store->n_heads;
		uint32_t head = i % store->n_heads;
		const uint8_t *tile = tile_pair(store, layer, head, 0);
		size_t at = kvstore_offset(store, layer, head, begin);

		codec_decode(store->codec_k, CODEC_ROLE_K, store->block_tokens, store->head_dim, tile,
			     store->k + at, CODEC_DTYPE_F32, stride);
		codec_decode(store->codec_v, CODEC_ROLE_V, store->block_tokens, store->head_dim,
			     tile + kvstore_tile_bytes(store, CODEC_ROLE_K), store->v + at,
			     CODEC_DTYPE_F32, stride);
	}
}

/* Keeps the open block of a packed store as it is. */
static int keep_exact(struct kvstore *store, uint32_t index)
{
	size_t values = (size_t)store->block_tokens * store->head_dim;

	store->exact[index] = malloc(head_count(store) * 2 * values * sizeof(float));
	if (!store->exact[index])
		return -ENOMEM;
	for (uint32_t i = 0; i < head_count(store); i++) {
		uint32_t layer = i / store->n_heads;
		uint32_t head = i % store->n_heads;
		float *to = exact_head(store, layer, head, index);

		memcpy(to, store->k + kvstore_head(store, layer, head), values * sizeof(float));
		memcpy(to + values, store->v + kvstore_head(store, layer, head), values * sizeof(float));
	}
	return 0;
}

static int finish_packed(struct kvstore *store, uint32_t index, struct kvstore_fault *ret_fault)
{
	int r;

	kvp_assert(index * store->block_tokens == store->first);
	r = encode_block(store, store->first, index, ret_fault);
	if (r != 0 && keep_exact(store, index) < 0)
		return -ENOMEM;
	store->first += store->block_tokens;
	return r;
}

int kvstore_finish_block(struct kvstore *store, uint32_t index, struct kvstore_fault *ret_fault)
{
	uint32_t begin = index * store->block_tokens;
	int r;

	kvp_assert(begin + store->block_tokens <= store->n_tokens);
	if (store->packed)
		return finish_packed(store, index, ret_fault);
	r = encode_block(store, begin, 0, ret_fault);
	if (r == 0)
		decode_block(store, begin);
	return r;
}
