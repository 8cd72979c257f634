/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a tile: decoded, scored and summed by every instruction set of this machine, from a
 * buffer that ends where the tile ends, at any alignment; and any values encoded. Reading or
 * writing beyond is for the sanitizers to find; that the instruction sets agree is checked here.
 *
 * Input: a header of eight bytes (codec, role, tokens, head_dim, type, alignment, queries, kind),
 * then the tile, or the values; what is missing is filled by repeating what is there.
 */
#include "codec/codec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/contract.h"

#define HEADER_BYTES 8
#define ALIGNMENTS 64u

static const char *const isa_names[] = { "avx512", "avx2", "neon" };

struct input {
	enum codec_id id;
	enum codec_role role;
	uint32_t tokens;
	uint32_t head_dim;
	enum codec_dtype dtype;
	uint32_t alignment;
	uint32_t queries;
	bool encode;
	bool mild; /* values below 2, which every codec takes */
	const uint8_t *bytes;
	size_t n_bytes;
};

/* The codec of this number among those that there are. */
static enum codec_id codec_nth(unsigned n)
{
	unsigned ids[256], count = 0;

	for (unsigned id = 0; id < 256; id++)
		if (codec_valid(id))
			ids[count++] = id;
	return (enum codec_id)ids[n % count];
}

static bool input_read(const uint8_t *data, size_t size, struct input *ret)
{
	static const uint32_t query_counts[] = { 1, 2, 3, 4, 5, 8, 9, 32 };

	if (size <= HEADER_BYTES)
		return false;
	*ret = (struct input){
		.id = codec_nth(data[0]),
		.role = data[1] % CODEC_ROLE_COUNT,
		.tokens = data[2] + 1u,
		.head_dim = (data[3] % 32 + 1u) * CODEC_HEAD_DIM_MULTIPLE,
		.dtype = CODEC_DTYPE_F32 + data[4] % 3,
		.alignment = data[5] % ALIGNMENTS,
		.queries = query_counts[data[6] % 8],
		.encode = data[7] & 1,
		.mild = data[7] & 2,
		.bytes = data + HEADER_BYTES,
		.n_bytes = size - HEADER_BYTES,
	};
	return true;
}

/* @alignment unused bytes, then @count bytes from the input, up to the end of the allocation. */
static uint8_t *bytes_new(const struct input *input, size_t count)
{
	uint8_t *bytes = malloc(input->alignment + count);

	kvp_assert(bytes);
	for (size_t i = 0; i < count; i++)
		bytes[input->alignment + i] = input->bytes[i % input->n_bytes];
	return bytes;
}

/* Equal but for NaN, whose payload may differ. */
static void floats_check(const float *a, const float *b, size_t count)
{
	for (size_t i = 0; i < count; i++)
		kvp_assert(memcmp(&a[i], &b[i], sizeof a[i]) == 0 || (isnan(a[i]) && isnan(b[i])));
}

static void decode_check(const struct input *input, const uint8_t *tile)
{
	const struct codec_isa *scalar = codec_isa_get("scalar");
	const size_t values = (size_t)input->tokens * input->head_dim;
	_cleanup_free_ float *expected = malloc(values * sizeof *expected);
	_cleanup_free_ float *got = malloc(values * sizeof *got);

	kvp_assert(expected && got);
	codec_isa_decode(scalar, input->id, input->role, input->tokens, input->head_dim, tile,
			 expected, CODEC_DTYPE_F32, input->head_dim);
	for (size_t i = 0; i < sizeof isa_names / sizeof isa_names[0]; i++) {
		const struct codec_isa *isa = codec_isa_get(isa_names[i]);

		if (!isa)
			continue;
		codec_isa_decode(isa, input->id, input->role, input->tokens, input->head_dim, tile,
				 got, input->dtype, input->head_dim);
		if (input->dtype == CODEC_DTYPE_F32)
			floats_check(expected, got, values);
	}
}

/* Results are compared only where the tile's values are ordinary: others are unspecified. */
static bool values_ordinary(const struct input *input, const uint8_t *tile)
{
	const size_t values = (size_t)input->tokens * input->head_dim;
	_cleanup_free_ float *decoded = malloc(values * sizeof *decoded);
	bool ordinary = true;

	kvp_assert(decoded);
	codec_isa_decode(codec_isa_get("scalar"), input->id, input->role, input->tokens,
			 input->head_dim, tile, decoded, CODEC_DTYPE_F32, input->head_dim);
	for (size_t i = 0; i < values; i++)
		ordinary &= fabsf(decoded[i]) < 1e20f;
	return ordinary;
}

static void products(const struct codec_isa *isa, const struct input *input, const uint8_t *tile,
		     const float *rows, float *results)
{
	if (input->role == CODEC_ROLE_K) {
		codec_isa_scores(isa, input->id, input->tokens, input->head_dim, tile, rows,
				 input->head_dim, input->queries, results, input->tokens);
		return;
	}
	memset(results, 0, (size_t)input->queries * input->head_dim * sizeof *results);
	codec_isa_accumulate(isa, input->id, input->tokens, input->head_dim, tile, rows,
			     input->tokens, input->queries, results, input->head_dim);
}

static void products_check(const struct input *input, const uint8_t *tile)
{
	const bool keys = input->role == CODEC_ROLE_K;
	const size_t n_rows = (size_t)input->queries * (keys ? input->head_dim : input->tokens);
	const size_t n_results = (size_t)input->queries * (keys ? input->tokens : input->head_dim);
	_cleanup_free_ float *rows = malloc(n_rows * sizeof *rows);
	_cleanup_free_ float *expected = malloc(n_results * sizeof *expected);
	_cleanup_free_ float *got = malloc(n_results * sizeof *got);

	kvp_assert(rows && expected && got);
	for (size_t i = 0; i < n_rows; i++)
		rows[i] = (float)(int8_t)input->bytes[(i * 7) % input->n_bytes] / 16;
	products(codec_isa_get("scalar"), input, tile, rows, expected);
	for (size_t i = 0; i < sizeof isa_names / sizeof isa_names[0]; i++) {
		const struct codec_isa *isa = codec_isa_get(isa_names[i]);

		if (!isa)
			continue;
		products(isa, input, tile, rows, got);
		if (values_ordinary(input, tile))
			floats_check(expected, got, n_results);
	}
}

/* Clears the upper bit of every exponent. */
static void values_soften(const struct input *input, uint8_t *values, size_t count)
{
	const uint32_t value_bytes = codec_dtype_bytes(input->dtype);

	for (size_t i = 0; i < count; i++)
		values[i * value_bytes + value_bytes - 1] &= 0xbf;
}

static void encode_check(const struct input *input)
{
	const uint32_t tile_bytes =
		codec_tile_bytes(input->id, input->role, input->tokens, input->head_dim);
	const size_t values = (size_t)input->tokens * input->head_dim;
	_cleanup_free_ uint8_t *source =
		bytes_new(input, values * codec_dtype_bytes(input->dtype));
	_cleanup_free_ uint8_t *expected = malloc(tile_bytes);
	_cleanup_free_ uint8_t *got = malloc(tile_bytes);
	struct codec_fault fault = { 0 }, other = { 0 };
	int r;

	kvp_assert(expected && got);
	if (input->mild)
		values_soften(input, source + input->alignment, values);
	r = codec_isa_encode(codec_isa_get("scalar"), input->id, input->role, input->tokens,
			     input->head_dim, source + input->alignment, input->dtype,
			     input->head_dim, expected, &fault);
	for (size_t i = 0; i < sizeof isa_names / sizeof isa_names[0]; i++) {
		const struct codec_isa *isa = codec_isa_get(isa_names[i]);

		if (!isa)
			continue;
		kvp_assert(r == codec_isa_encode(isa, input->id, input->role, input->tokens,
						 input->head_dim, source + input->alignment,
						 input->dtype, input->head_dim, got, &other));
		kvp_assert(memcmp(&fault, &other, sizeof fault) == 0);
		kvp_assert(r != 0 || memcmp(expected, got, tile_bytes) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input;
	uint8_t *tile;

	if (!input_read(data, size, &input))
		return 0;
	if (input.encode) {
		encode_check(&input);
		return 0;
	}
	tile = bytes_new(&input,
			 codec_tile_bytes(input.id, input.role, input.tokens, input.head_dim));
	decode_check(&input, tile + input.alignment);
	products_check(&input, tile + input.alignment);
	free(tile);
	return 0;
}
