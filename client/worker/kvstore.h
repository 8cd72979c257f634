/* SPDX-License-Identifier: Apache-2.0 */
/*
 * K and V of one sequence, all layers, in f32: K after rotation. Positions [0, n_tokens) are
 * filled.
 *
 * Positions are grouped in blocks of block_tokens. A block that is full is *finished*: its values
 * are replaced by what its codec gives back, so that every later token sees what the cache holds,
 * whether this process computed the block or fetched it. The open block at the end stays exact.
 *
 * Element (layer l, head h, position p, channel c) is at ((l * n_heads + h) * capacity + p) *
 * head_dim + c.
 */
#pragma once

#include "codec/codec.h"

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
	float *k;
	float *v;
	uint8_t *tiles; /* one encoded block */
};

/*
 * Fills in n_layers .. codec_v and allocates. The shape must be one that the codecs take
 * (codec_layout_of()). Results: 0; -EOVERFLOW when the sizes do not fit; -ENOMEM. kvstore_done()
 * afterwards in any case.
 */
int kvstore_init(struct kvstore *store);

void kvstore_done(struct kvstore *store);

/* Bytes of one encoded block. */
size_t kvstore_block_bytes(const struct kvstore *store);

/* Forgets all tokens. */
void kvstore_clear(struct kvstore *store);

/* Row of head_dim values; rows of following positions follow it. */
static inline size_t kvstore_offset(const struct kvstore *store, uint32_t layer, uint32_t head,
				    uint32_t position)
{
	return (((size_t)layer * store->n_heads + head) * store->capacity + position) * store->head_dim;
}

/* Where in the sequence a value stands that a codec cannot hold. */
struct kvstore_fault {
	char tensor; /* 'K' or 'V' */
	uint32_t layer;
	uint32_t head;
	struct codec_fault at;
};

/*
 * Passes block `index`, whose positions are all filled, through the codecs. Results: 0; or the
 * positive result of codec_encode() with its place in *ret_fault, and then the block stays as it
 * was.
 */
int kvstore_finish_block(struct kvstore *store, uint32_t index, struct kvstore_fault *ret_fault);
