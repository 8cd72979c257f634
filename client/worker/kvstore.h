/* SPDX-License-Identifier: Apache-2.0 */
/*
 * K and V of one sequence, all layers: K after rotation. Positions [0, n_tokens) are filled.
 *
 * Positions are grouped in blocks of block_tokens. The open block at the end is exact: rows of f32.
 * A block that is full is *finished*: later tokens see what its codec gives back, as they would had
 * it come from the cache. A store keeps finished blocks in one of two forms:
 *
 *   decoded  rows of f32 in the place of the exact ones; k and v hold every position
 *   packed   tiles and nothing else; k and v hold the open block
 *
 * A block with a value that its codec cannot hold stays exact: a packed store keeps it as tiles of
 * f32.
 */
#pragma once

#include "codec/codec.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kvstore {
	uint32_t n_layers;
	uint32_t n_heads; /* K/V heads */
	uint32_t head_dim;
	uint32_t block_tokens;
	uint32_t capacity; /* positions */
	uint32_t n_tokens;
	enum codec_id codec_k;
	enum codec_id codec_v;
	bool packed;
	uint32_t first; /* the position of the first row: 0, or where the open block begins */
	uint32_t rows;  /* of a head */
	float *k;
	float *v;
	uint8_t *tiles; /* of all blocks when packed, otherwise of the one being finished */
	float **exact;  /* when packed, by block: NULL, or the values that its codec cannot hold */
};

/*
 * Fills in n_layers .. packed and allocates. The shape must be one that the codecs take
 * (codec_layout_of()). Results: 0; -EOVERFLOW when the sizes do not fit; -ENOMEM. kvstore_done()
 * afterwards in any case.
 */
int kvstore_init(struct kvstore *store);

void kvstore_done(struct kvstore *store);

/* "packed" or "decoded". */
const char *kvstore_form(const struct kvstore *store);

/* Bytes of one encoded block. */
size_t kvstore_block_bytes(const struct kvstore *store);

/* Bytes of rows and tiles that the store has allocated. */
size_t kvstore_bytes(const struct kvstore *store);

/* Forgets all tokens. */
void kvstore_clear(struct kvstore *store);

/* Where a head's first row is in k and v; rows of following positions follow it. */
static inline size_t kvstore_head(const struct kvstore *store, uint32_t layer, uint32_t head)
{
	return ((size_t)layer * store->n_heads + head) * store->rows * store->head_dim;
}

/* Where the row of a position, store->first or behind it, is in k and v. */
static inline size_t kvstore_offset(const struct kvstore *store, uint32_t layer, uint32_t head,
				    uint32_t position)
{
	return kvstore_head(store, layer, head) + (size_t)(position - store->first) * store->head_dim;
}

/* Bytes of a tile of the store's codec. */
size_t kvstore_tile_bytes(const struct kvstore *store, enum codec_role role);

/* The tile of a block of a packed store. */
uint8_t *kvstore_tile(const struct kvstore *store, enum codec_role role, uint32_t layer,
		      uint32_t head, uint32_t index);

/* The first n blocks of an empty store were filled in from elsewhere: they are finished. */
void kvstore_filled(struct kvstore *store, uint32_t n_blocks);

/* What kvstore_spans() writes at most. */
static inline size_t kvstore_spans_max(const struct kvstore *store)
{
	return store->capacity / store->block_tokens + 1;
}

/*
 * The positions [0, n) of one head of a packed store as spans for codec_attend(), of which the last
 * may be a part of the open block. Returns their number. They are valid until the store changes.
 */
size_t kvstore_spans(const struct kvstore *store, uint32_t layer, uint32_t head, uint32_t n,
		     struct codec_span *ret_spans);

/* Where in the sequence a value stands that a codec cannot hold. */
struct kvstore_fault {
	char tensor; /* 'K' or 'V' */
	uint32_t layer;
	uint32_t head;
	struct codec_fault at;
};

/*
 * Finishes block `index`, whose positions are all filled; of a packed store it is the one behind
 * the finished ones. Results: 0; the positive result of codec_encode() with its place in
 * *ret_fault, and then the block stays exact; -ENOMEM when a packed store has no room for that.
 */
int kvstore_finish_block(struct kvstore *store, uint32_t index, struct kvstore_fault *ret_fault);
