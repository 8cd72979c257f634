/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two flat arrays, and room for one encoded block: it is encoded whole before any value is
 * replaced.
 */
#include "client/worker/kvstore.h"

#include "base/checked.h"
#include "base/contract.h"

#include <errno.h>
#include <stdlib.h>

/* K, then V, of one layer and head. */
struct tile_pair {
	size_t k_bytes;
	size_t v_bytes;
};

static struct tile_pair tile_sizes(const struct kvstore *store)
{
	struct tile_pair sizes = {
		codec_tile_bytes(store->codec_k, CODEC_ROLE_K, store->block_tokens, store->head_dim),
		codec_tile_bytes(store->codec_v, CODEC_ROLE_V, store->block_tokens, store->head_dim),
	};

	kvp_assert(sizes.k_bytes > 0 && sizes.v_bytes > 0);
	return sizes;
}

size_t kvstore_block_bytes(const struct kvstore *store)
{
	struct tile_pair sizes = tile_sizes(store);

	return (size_t)store->n_layers * store->n_heads * (sizes.k_bytes + sizes.v_bytes);
}

int kvstore_init(struct kvstore *store)
{
	uint64_t rows = (uint64_t)store->n_layers * store->n_heads;
	uint64_t values;
	uint64_t bytes;

	store->n_tokens = 0;
	store->k = NULL;
	store->v = NULL;
	store->tiles = NULL;
	if (!checked_mul_u64(rows, store->capacity, &values) ||
	    !checked_mul_u64(values, store->head_dim, &values) ||
	    !checked_mul_u64(values, sizeof(float), &bytes) || bytes > SIZE_MAX)
		return -EOVERFLOW;
	store->k = malloc((size_t)bytes);
	store->v = malloc((size_t)bytes);
	store->tiles = malloc(kvstore_block_bytes(store));
	return store->k && store->v && store->tiles ? 0 : -ENOMEM;
}

void kvstore_done(struct kvstore *store)
{
	free(store->k);
	free(store->v);
	free(store->tiles);
	*store = (struct kvstore){ 0 };
}

void kvstore_clear(struct kvstore *store)
{
	store->n_tokens = 0;
}

static int encode_block(struct kvstore *store, uint32_t begin, struct kvstore_fault *ret_fault)
{
	struct tile_pair sizes = tile_sizes(store);
	ptrdiff_t stride = (ptrdiff_t)store->head_dim;
	uint8_t *tile = store->tiles;

	for (uint32_t row = 0; row < store->n_layers * store->n_heads; row++) {
		struct kvstore_fault fault = {
			.tensor = 'K', .layer = row / store->n_heads, .head = row % store->n_heads };
		size_t at = kvstore_offset(store, fault.layer, fault.head, begin);
		int r = codec_encode(store->codec_k, CODEC_ROLE_K, store->block_tokens, store->head_dim,
				     store->k + at, CODEC_DTYPE_F32, stride, tile, &fault.at);

		if (r == 0) {
			fault.tensor = 'V';
			r = codec_encode(store->codec_v, CODEC_ROLE_V, store->block_tokens, store->head_dim,
					 store->v + at, CODEC_DTYPE_F32, stride, tile + sizes.k_bytes,
					 &fault.at);
		}
		if (r != 0) {
			*ret_fault = fault;
			return r;
		}
		tile += sizes.k_bytes + sizes.v_bytes;
	}
	return 0;
}

static void decode_block(struct kvstore *store, uint32_t begin)
{
	struct tile_pair sizes = tile_sizes(store);
	ptrdiff_t stride = (ptrdiff_t)store->head_dim;
	const uint8_t *tile = store->tiles;

	for (uint32_t row = 0; row < store->n_layers * store->n_heads; row++) {
		size_t at = kvstore_offset(store, row / store->n_heads, row % store->n_heads, begin);

		codec_decode(store->codec_k, CODEC_ROLE_K, store->block_tokens, store->head_dim, tile,
			     store->k + at, CODEC_DTYPE_F32, stride);
		codec_decode(store->codec_v, CODEC_ROLE_V, store->block_tokens, store->head_dim,
			     tile + sizes.k_bytes, store->v + at, CODEC_DTYPE_F32, stride);
		tile += sizes.k_bytes + sizes.v_bytes;
	}
}

int kvstore_finish_block(struct kvstore *store, uint32_t index, struct kvstore_fault *ret_fault)
{
	uint32_t begin = index * store->block_tokens;
	int r;

	kvp_assert(begin + store->block_tokens <= store->n_tokens);
	r = encode_block(store, begin, ret_fault);
	if (r == 0)
		decode_block(store, begin);
	return r;
}
