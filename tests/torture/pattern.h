/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the torture test stores: a fixed population of blocks in three spaces, of which everything follows from the
 * space and the block's number: key, parent, tokens and every value. So whoever reads a byte knows what it must be.
 * Blocks of one number have the same key in all spaces.
 *
 * Values are rows out of one table of multiples of 1/128 in [-1, 1], which f32 and f16 hold exactly: a row of a block
 * is a piece of the table, and comparing is memcmp().
 */
#pragma once

#include "client/kvclient.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PATTERN_SPACES 3
#define PATTERN_CHAIN 4       /* blocks, each the parent of the next; the last may be short */
#define PATTERN_TILES_MAX 24  /* of a block */
#define PATTERN_TENSOR_MAX (16u << 10) /* values of K, or V, of a block */

struct pattern_space {
	const char *name;
	struct kvc_schema schema;
	uint32_t blocks;  /* numbers [0, blocks) */
	float error_max;  /* 0: exact */
};

extern const struct pattern_space pattern_spaces[PATTERN_SPACES];

struct pattern_block {
	const struct pattern_space *space;
	uint32_t number;
	uint32_t tokens;
	uint8_t bytes[KVC_KEY_BYTES_MAX];
	struct kvc_key key; /* in bytes */
};

/* Where a value differs. */
struct pattern_place {
	char which;
	uint32_t layer, head, token, channel;
	float got, wanted;
};

/* Before anything else, once. */
void pattern_init(void);

/* ret_block must stay where it is. */
void pattern_block_of(unsigned space, uint32_t number, struct pattern_block *ret_block);

/* A tensor over the space's layers and heads with room for whole blocks, f32, without gaps. */
struct kvc_tensor pattern_tensor(const struct pattern_space *space, char which, float *data);

/* Fills the tensor, of pattern_tensor(), with the block's values. */
void pattern_fill(const struct pattern_block *block, char which, float *data);

/* Whether the first tokens in such a tensor are the block's; if not, the first place where they differ. */
bool pattern_holds(const struct pattern_block *block, char which, const float *data, struct pattern_place *ret_place);

/* Likewise one tile. A tile of another codec, size or number of tokens differs, too. */
bool pattern_tile_holds(const struct pattern_block *block, char which, uint32_t layer, uint32_t head,
			const struct kvc_tile *tile, struct pattern_place *ret_place);
