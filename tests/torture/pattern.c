/* SPDX-License-Identifier: Apache-2.0 */
/* See pattern.h. */
#include "tests/torture/pattern.h"

#include <math.h>
#include <string.h>

#define TABLE_BITS 13
#define HEAD_DIM_MAX 64
#define TOKENS_MAX 32

/*
 * Pages of 16 KiB, 6 KiB and 18 KiB. Together they are more than twice what fits the test's arena, and the page maps
 * and pages of all spaces come from the same extents in turn.
 */
const struct pattern_space pattern_spaces[PATTERN_SPACES] = {
	{
		.name = "f32",
		.schema = { .model = "torture", .dtype = KVC_F32, .layers = 2, .kv_heads = 2, .head_dim_k = 64,
			    .head_dim_v = 64, .block_tokens = 32, .codec_k = KVC_CODEC_F32, .codec_v = KVC_CODEC_F32,
			    .page_heads = 1 },
		.blocks = 256,
	},
	{
		.name = "f16",
		.schema = { .model = "torture", .dtype = KVC_F16, .layers = 3, .kv_heads = 4, .head_dim_k = 32,
			    .head_dim_v = 64, .block_tokens = 16, .codec_k = KVC_CODEC_F16, .codec_v = KVC_CODEC_F16,
			    .page_heads = 2 },
		.blocks = 256,
	},
	{
		.name = "q8",
		.schema = { .model = "torture", .dtype = KVC_F32, .layers = 2, .kv_heads = 2, .head_dim_k = 64,
			    .head_dim_v = 64, .block_tokens = 32, .codec_k = KVC_CODEC_Q8, .codec_v = KVC_CODEC_Q8,
			    .page_heads = 2 },
		.blocks = 384,
		.error_max = 1.0f / 255 + 0.01f, /* half a step, and f16 scale and min */
	},
};

static float table[(1 << TABLE_BITS) + HEAD_DIM_MAX];
static _Float16 table_half[(1 << TABLE_BITS) + HEAD_DIM_MAX];

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

void pattern_init(void)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		table[i] = (float)((int)(mix(i + 1) % 257) - 128) / 128;
		table_half[i] = (_Float16)table[i];
	}
}

void pattern_block_of(unsigned space, uint32_t number, struct pattern_block *ret_block)
{
	uint64_t bits = mix(UINT64_C(0x9e3779b97f4a7c15) * (space * 100000u + number + 1));
	uint32_t full = pattern_spaces[space].schema.block_tokens;
	bool last = number % PATTERN_CHAIN == PATTERN_CHAIN - 1;

	ret_block->space = &pattern_spaces[space];
	ret_block->number = number;
	ret_block->tokens = last && bits % 2 ? 1 + (uint32_t)(bits >> 8) % full : full;
	ret_block->key = (struct kvc_key){
		.bytes = ret_block->bytes,
		.n = sizeof(number) + mix(number + 1) % (KVC_KEY_BYTES_MAX + 1 - sizeof(number)),
	};
	memset(ret_block->bytes, 'k', sizeof(ret_block->bytes)); /* alike but for the first bytes, and in all spaces */
	memcpy(ret_block->bytes, &number, sizeof(number));
}

static uint32_t head_dim(const struct pattern_space *space, char which)
{
	return which == 'V' ? space->schema.head_dim_v : space->schema.head_dim_k;
}

/* Where the rows of a tile begin in the table. */
struct rows {
	uint64_t first;
};

static struct rows rows_of(const struct pattern_block *block, char which, uint32_t layer, uint32_t head)
{
	uint64_t place = (uint64_t)(block->space - pattern_spaces) << 56 | (uint64_t)(which == 'V') << 48 |
			 (uint64_t)layer << 40 | (uint64_t)head << 32 | block->number;

	return (struct rows){ .first = mix(place + 1) };
}

static size_t row_at(struct rows rows, uint32_t token)
{
	return (rows.first + token * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - TABLE_BITS);
}

struct kvc_tensor pattern_tensor(const struct pattern_space *space, char which, float *data)
{
	uint32_t row = head_dim(space, which);

	return (struct kvc_tensor){
		.data = data,
		.dtype = KVC_F32,
		.stride_token = row,
		.stride_head = (int64_t)row * space->schema.block_tokens,
		.stride_layer = (int64_t)row * space->schema.block_tokens * space->schema.kv_heads,
	};
}

static size_t tile_begin(const struct pattern_space *space, char which, uint32_t layer, uint32_t head)
{
	return (size_t)(layer * space->schema.kv_heads + head) * space->schema.block_tokens * head_dim(space, which);
}

void pattern_fill(const struct pattern_block *block, char which, float *data)
{
	uint32_t row = head_dim(block->space, which);

	for (uint32_t layer = 0; layer < block->space->schema.layers; layer++)
		for (uint32_t head = 0; head < block->space->schema.kv_heads; head++) {
			struct rows rows = rows_of(block, which, layer, head);
			float *at = data + tile_begin(block->space, which, layer, head);

			for (uint32_t token = 0; token < block->tokens; token++, at += row)
				memcpy(at, &table[row_at(rows, token)], row * sizeof(*at));
		}
}

/* Whether the row is as wanted; if not, the place's channel and values. */
static bool row_holds(const float *got, const float *wanted, uint32_t n, float error_max,
		      struct pattern_place *ret_place)
{
	if (memcmp(got, wanted, n * sizeof(*got)) == 0)
		return true;
	for (uint32_t i = 0; i < n; i++)
		if (!(fabsf(got[i] - wanted[i]) <= error_max)) {
			ret_place->channel = i;
			ret_place->got = got[i];
			ret_place->wanted = wanted[i];
			return false;
		}
	return error_max > 0; /* exact values differ by bytes, or changed while they were compared */
}

static bool rows_hold(const struct pattern_block *block, char which, uint32_t layer, uint32_t head, const float *got,
		      struct pattern_place *ret_place)
{
	struct rows rows = rows_of(block, which, layer, head);
	uint32_t n = head_dim(block->space, which);

	*ret_place = (struct pattern_place){ .which = which, .layer = layer, .head = head };
	for (uint32_t token = 0; token < block->tokens; token++, got += n) {
		ret_place->token = token;
		if (!row_holds(got, &table[row_at(rows, token)], n, block->space->error_max, ret_place))
			return false;
	}
	return true;
}

bool pattern_holds(const struct pattern_block *block, char which, const float *data, struct pattern_place *ret_place)
{
	for (uint32_t layer = 0; layer < block->space->schema.layers; layer++)
		for (uint32_t head = 0; head < block->space->schema.kv_heads; head++)
			if (!rows_hold(block, which, layer, head, data + tile_begin(block->space, which, layer, head),
				       ret_place))
				return false;
	return true;
}

static bool half_rows_hold(const struct pattern_block *block, char which, uint32_t layer, uint32_t head,
			   const _Float16 *got, struct pattern_place *ret_place)
{
	struct rows rows = rows_of(block, which, layer, head);
	uint32_t n = head_dim(block->space, which);

	*ret_place = (struct pattern_place){ .which = which, .layer = layer, .head = head };
	for (uint32_t token = 0; token < block->tokens; token++, got += n) {
		const _Float16 *wanted = &table_half[row_at(rows, token)];

		if (memcmp(got, wanted, n * sizeof(*got)) == 0)
			continue;
		ret_place->token = token;
		for (uint32_t i = 0; i < n; i++)
			if (memcmp(&got[i], &wanted[i], sizeof(*got)) != 0) {
				ret_place->channel = i;
				ret_place->got = (float)got[i];
				ret_place->wanted = (float)wanted[i];
				return false;
			}
		return false; /* it changed while it was compared */
	}
	return true;
}

bool pattern_tile_holds(const struct pattern_block *block, char which, uint32_t layer, uint32_t head,
			const struct kvc_tile *tile, struct pattern_place *ret_place)
{
	const struct kvc_schema *schema = &block->space->schema;
	float rows[TOKENS_MAX * HEAD_DIM_MAX];

	*ret_place = (struct pattern_place){ .which = which, .layer = layer, .head = head };
	if (tile->codec != (which == 'V' ? schema->codec_v : schema->codec_k) || tile->tokens != block->tokens ||
	    tile->head_dim != head_dim(block->space, which))
		return false;
	if (tile->codec == KVC_CODEC_F32)
		return rows_hold(block, which, layer, head, tile->bytes, ret_place);
	if (tile->codec == KVC_CODEC_F16)
		return half_rows_hold(block, which, layer, head, tile->bytes, ret_place);
	return kvc_tile_decode(tile, which, rows, KVC_F32, tile->head_dim) == KVC_OK &&
	       rows_hold(block, which, layer, head, rows, ret_place);
}
