/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention on tiles. The scalar kernels against sums in double precision over the decoded values;
 * every other instruction set against the scalar kernels, bit by bit, on any shape, number of
 * queries and content, with no byte touched beyond the tile.
 */
#include "tests/unit/test-codec.h"

#include <stdio.h>

#include "codec/trellis.h"

static const uint32_t packed_tokens[] = { 1, 3, 31, 33, 127, 128, 256 };
static const uint32_t packed_dims[] = { 8, 24, 64, 80, 96, 128, 136, 256 };
static const uint32_t query_counts[] = { 1, 2, 3, 5, 8, 32 };
static const enum codec_id packed_ids[] = {
	CODEC_F32,   CODEC_F16,	  CODEC_BF16,  CODEC_Q8,    CODEC_Q6,	 CODEC_Q5,    CODEC_Q4,
	CODEC_T8,    CODEC_T6,	  CODEC_T5,    CODEC_T4,    CODEC_T8G32, CODEC_T6G32, CODEC_T5G32,
	CODEC_T4G32, CODEC_T8G16, CODEC_T6G16, CODEC_T5G16, CODEC_T4G16,
};

#define STRIDE_MAX (CODEC_HEAD_DIM_MAX + 16)
#define ROWS_MAX (CODEC_QUERIES_MAX * STRIDE_MAX)

struct shape {
	enum codec_id id;
	enum codec_role role;
	uint32_t tokens;
	uint32_t head_dim;
	uint32_t n;
	ptrdiff_t in_stride; /* of queries or weights */
	ptrdiff_t out_stride;
};

static struct codec_layout layout_of(const struct shape *shape)
{
	struct codec_layout layout;

	assert_true(codec_layout_of(shape->id, shape->role, shape->tokens, shape->head_dim,
				    &layout));
	return layout;
}

/* Scores of K, the weighted sum of V. */
static void multiply(const char *isa_name, const struct shape *shape, const uint8_t *tile,
		     const float *in, float *out)
{
	const struct codec_isa *isa = codec_isa_get(isa_name);

	if (shape->role == CODEC_ROLE_K)
		codec_isa_scores(isa, shape->id, shape->tokens, shape->head_dim, tile, in,
				 shape->in_stride, shape->n, out, shape->out_stride);
	else
		codec_isa_accumulate(isa, shape->id, shape->tokens, shape->head_dim, tile, in,
				     shape->in_stride, shape->n, out, shape->out_stride);
}

static uint32_t in_count(const struct shape *shape)
{
	return shape->role == CODEC_ROLE_K ? shape->head_dim : shape->tokens;
}

static uint32_t out_count(const struct shape *shape)
{
	return shape->role == CODEC_ROLE_K ? shape->tokens : shape->head_dim;
}

/* --- Tiles and factors ----------------------------------------------------------------------- */

/* Any codes are a tile; scales and mins, unless they are to be wild, are finite. */
static void tile_fill(const struct shape *shape, bool wild, uint64_t *seed, uint8_t *tile)
{
	const struct codec_layout layout = layout_of(shape);
	const bool raw = shape->id < CODEC_Q8;
	const enum codec_dtype dtype = raw ? (enum codec_dtype)shape->id : CODEC_DTYPE_F32;

	_Static_assert((int)CODEC_BF16 == (int)CODEC_DTYPE_BF16, "raw codecs are numbered as types");
	for (uint32_t i = 0; i < layout.tile_bytes; i++)
		tile[i] = (uint8_t)random_u64(seed);
	if (wild)
		return;
	for (uint32_t i = 0; raw && i < shape->tokens * shape->head_dim; i++)
		value_put(tile, dtype, i, random_gaussian(seed));
	for (uint32_t g = 0; g < layout.groups; g++) {
		const float scale = random_u64(seed) % 16 ? fabsf(random_gaussian(seed)) / 16 : 0;

		value_put(tile + layout.scales_offset, CODEC_DTYPE_F16, g, scale);
		value_put(tile + layout.mins_offset, CODEC_DTYPE_F16, g, random_gaussian(seed));
	}
	for (uint32_t i = 0; layout.scale_channels && i < shape->tokens * layout.token_scales; i++)
		tile[layout.scales_offset + i] %= 200; /* below 2^5, and 0 among them */
}

enum factors {
	FACTORS_GAUSSIAN,
	FACTORS_ZERO,
	FACTORS_LARGE,
	FACTORS_SPARSE,
	FACTORS_TINY,
	FACTORS_COUNT,
};

static void factors_fill(enum factors kind, uint64_t *seed, float *factors)
{
	for (uint32_t i = 0; i < ROWS_MAX; i++) {
		const float gaussian = random_gaussian(seed);

		factors[i] = kind == FACTORS_ZERO     ? (i & 1 ? -0.0f : 0.0f)
			     : kind == FACTORS_LARGE  ? 1e4f * gaussian
			     : kind == FACTORS_SPARSE ? (i % 37 == 5 ? gaussian : 0.0f)
			     : kind == FACTORS_TINY   ? 0x1p-110f * gaussian
						      : gaussian;
	}
}

/* --- The scalar kernels against doubles ------------------------------------------------------ */

static unsigned code_bits(enum codec_id id)
{
	static const unsigned bits[] = { 8, 6, 5, 4 };

	return bits[id & 3];
}

static double level_max(enum codec_id id)
{
	return (double)((id >= CODEC_T8 ? 2u : 1u) << code_bits(id)) - 1;
}

/* The largest scale of a tile, and the largest magnitude that a min has. */
static void tile_largest(const struct shape *shape, const uint8_t *tile, double *ret_scale,
			 double *ret_min)
{
	const struct codec_layout layout = layout_of(shape);

	*ret_scale = *ret_min = 0;
	for (uint32_t g = 0; g < layout.groups; g++) {
		*ret_scale = fmax(*ret_scale, (double)value_get(tile + layout.scales_offset,
								CODEC_DTYPE_F16, g));
		*ret_min = fmax(*ret_min, fabs((double)value_get(tile + layout.mins_offset,
								 CODEC_DTYPE_F16, g)));
	}
	for (uint32_t i = 0; layout.scale_channels && i < shape->tokens * layout.token_scales; i++)
		*ret_scale = fmax(*ret_scale,
				  ldexp((double)trellis_log_scales[tile[layout.scales_offset + i]],
					-(int)code_bits(shape->id)));
	if (layout.scale_channels)
		*ret_min = *ret_scale * level_max(shape->id) / 2;
}

/*
 * How far a sum may be off: each rounded factor by half a unit (a little more, as its f32
 * arithmetic has an error too), times a level; and f32 by 2^-18 of what is summed.
 */
static double error_bound(const struct shape *shape, const uint8_t *tile, const float *in,
			  double value_max)
{
	double scale, min, level = 0, unit = 0, largest = 0, sum = 0;

	for (uint32_t k = 0; k < in_count(shape); k++) {
		largest = fmax(largest, fabs((double)in[k]));
		sum += fabs((double)in[k]);
	}
	if (shape->id >= CODEC_Q8) {
		tile_largest(shape, tile, &scale, &min);
		level = level_max(shape->id);
		unit = largest * scale / 16256;
		value_max = min + level * scale;
	}
	return 0.52 * unit * level * in_count(shape) + 0x1p-18 * sum * value_max + 0x1p-80;
}

/* The product of token or channel @i, as it should be. */
static double exact(const struct shape *shape, const float *decoded, const float *in, uint32_t i)
{
	double sum = 0;

	for (uint32_t k = 0; k < in_count(shape); k++) {
		const uint32_t token = shape->role == CODEC_ROLE_K ? i : k;
		const uint32_t channel = shape->role == CODEC_ROLE_K ? k : i;

		sum += (double)in[k] * (double)decoded[token * shape->head_dim + channel];
	}
	return sum;
}

static void check_exact(const struct shape *shape, const uint8_t *tile, const float *in)
{
	static float decoded[VALUES_MAX], out[ROWS_MAX];

	memset(out, 0, sizeof(out));
	codec_isa_decode(codec_isa_get("scalar"), shape->id, shape->role, shape->tokens,
			 shape->head_dim, tile, decoded, CODEC_DTYPE_F32, shape->head_dim);
	multiply("scalar", shape, tile, in, out);
	for (uint32_t row = 0; row < shape->n; row++) {
		const float *factors = in + (ptrdiff_t)row * shape->in_stride;
		const float *sums = out + (ptrdiff_t)row * shape->out_stride;
		const double allowed = error_bound(shape, tile, factors, 8);

		for (uint32_t i = 0; i < out_count(shape); i++) {
			const double error =
				fabs((double)sums[i] - exact(shape, decoded, factors, i));

			if (!(error <= allowed))
				fail_msg("%s role %d, %u x %u, row %u: %u is off by %g, not %g",
					 codec_name(shape->id), shape->role, shape->tokens,
					 shape->head_dim, row, i, error, allowed);
		}
	}
}

typedef void shape_fn(const struct shape *shape, unsigned turn, uint64_t *seed);

/* Every codec, role and shape; numbers of queries and strides take turns. */
static void each_shape(shape_fn *check)
{
	uint64_t seed = 5;
	unsigned turn = 0;

	for (size_t n = 0; n < COUNT(packed_ids) * CODEC_ROLE_COUNT * COUNT(packed_tokens); n++) {
		for (size_t d = 0; d < COUNT(packed_dims); d++, turn++) {
			struct shape shape = {
				.id = packed_ids[n % COUNT(packed_ids)],
				.role = n / COUNT(packed_ids) % CODEC_ROLE_COUNT,
				.tokens = packed_tokens[n / COUNT(packed_ids) / CODEC_ROLE_COUNT],
				.head_dim = packed_dims[d],
				.n = query_counts[(turn + n) % COUNT(query_counts)],
			};

			/* Few queries where there is much else. */
			if (shape.n == 32 && shape.tokens * shape.head_dim > 4096)
				shape.n = 4;
			shape.in_stride = in_count(&shape) + turn % 3;
			shape.out_stride = out_count(&shape) + turn % 2 * 5;
			check(&shape, turn, &seed);
		}
	}
}

static void scalar_exact(const struct shape *shape, unsigned turn, uint64_t *seed)
{
	static uint8_t tile[VALUES_MAX * 4];
	static float in[ROWS_MAX];
	struct shape few = *shape;

	/* Two queries tell as much as more. */
	few.n = few.n > 2 ? 2 : few.n;
	factors_fill(turn % FACTORS_COUNT, seed, in);
	tile_fill(&few, false, seed, tile);
	check_exact(&few, tile, in);
}

static void test_scalar_near_doubles(void **state)
{
	each_shape(scalar_exact);
}

/* --- Instruction sets against each other ----------------------------------------------------- */

static void check_equal(const char *isa_name, const struct shape *shape, const float *expected,
			const float *actual)
{
	for (size_t i = 0; i < ROWS_MAX; i++) {
		if (memcmp(&expected[i], &actual[i], sizeof(*actual)) != 0)
			fail_msg("%s: %s role %d, %u x %u, %u queries: %td of row %td is %a, not %a",
				 isa_name, codec_name(shape->id), shape->role, shape->tokens,
				 shape->head_dim, shape->n, (ptrdiff_t)i % shape->out_stride,
				 (ptrdiff_t)i / shape->out_stride, (double)actual[i],
				 (double)expected[i]);
	}
}

static struct guarded guarded_tile;

/* A tile at either end of readable memory. */
static uint8_t *tile_place(const struct shape *shape, bool at_end)
{
	if (!guarded_tile.start)
		guarded_init(&guarded_tile);
	return guarded_place(&guarded_tile, layout_of(shape).tile_bytes, at_end);
}

static void isas_equal(const struct shape *shape, unsigned turn, uint64_t *seed)
{
	static float in[ROWS_MAX], before[ROWS_MAX], expected[ROWS_MAX], actual[ROWS_MAX];
	uint8_t *tile = tile_place(shape, turn % 4 != 0);

	factors_fill(turn % 3 ? FACTORS_GAUSSIAN : turn / 3 % FACTORS_COUNT, seed, in);
	tile_fill(shape, false, seed, tile);
	for (uint32_t i = 0; i < ROWS_MAX; i++)
		before[i] = (float)(i % 64) - 31.5f;
	memcpy(expected, before, sizeof(before));
	multiply("scalar", shape, tile, in, expected);
	for (size_t i = 1; i < COUNT(isa_names); i++) {
		if (!codec_isa_get(isa_names[i]))
			continue;
		memcpy(actual, before, sizeof(before));
		multiply(isa_names[i], shape, tile, in, actual);
		check_equal(isa_names[i], shape, expected, actual);
	}
}

static void test_same_bits(void **state)
{
	each_shape(isas_equal);
}

/* Scales may be NaN or infinite: what comes out is not said, but nothing else happens. */
static void wild(const struct shape *shape, unsigned turn, uint64_t *seed)
{
	static float in[ROWS_MAX], out[ROWS_MAX];
	uint8_t *tile = tile_place(shape, turn % 4 != 0);

	factors_fill(turn % FACTORS_COUNT, seed, in);
	tile_fill(shape, true, seed, tile);
	for (size_t i = 0; i < COUNT(isa_names); i++) {
		if (!codec_isa_get(isa_names[i]))
			continue;
		memset(out, 0x5a, sizeof(out));
		multiply(isa_names[i], shape, tile, in, out);
		for (size_t k = (size_t)(shape->n - 1) * (size_t)shape->out_stride +
				out_count(shape);
		     k < ROWS_MAX; k++)
			assert_int_equal(half_f32_bits(out[k]), 0x5a5a5a5a);
	}
	guarded_check(&guarded_tile);
}

static void test_wild_tiles(void **state)
{
	each_shape(wild);
}

/* Tiles of exactly their size, at any alignment. */
static void unaligned(const struct shape *shape, unsigned turn, uint64_t *seed)
{
	static float in[ROWS_MAX], expected[ROWS_MAX], actual[ROWS_MAX];
	const size_t bytes = layout_of(shape).tile_bytes;
	const size_t shift = turn % 15 + 1;
	uint8_t *tile = malloc(bytes);
	uint8_t *shifted = malloc(bytes + shift);

	assert_non_null(tile);
	assert_non_null(shifted);
	factors_fill(FACTORS_GAUSSIAN, seed, in);
	tile_fill(shape, false, seed, tile);
	memcpy(shifted + shift, tile, bytes);
	for (size_t i = 0; i < COUNT(isa_names); i++) {
		if (!codec_isa_get(isa_names[i]))
			continue;
		memset(expected, 0, sizeof(expected));
		memset(actual, 0, sizeof(actual));
		multiply(isa_names[i], shape, tile, in, expected);
		multiply(isa_names[i], shape, shifted + shift, in, actual);
		check_equal(isa_names[i], shape, expected, actual);
	}
	free(tile);
	free(shifted);
}

static void test_unaligned(void **state)
{
	each_shape(unaligned);
}

/* A query alone gives the bits that it gives among others. */
static void alone(const struct shape *shape, unsigned turn, uint64_t *seed)
{
	static uint8_t tile[VALUES_MAX * 4];
	static float in[ROWS_MAX], among[ROWS_MAX], single[CODEC_TOKENS_MAX];
	const size_t bytes = out_count(shape) * sizeof(*single);
	struct shape one = *shape;

	one.n = 1;
	factors_fill(FACTORS_GAUSSIAN, seed, in);
	tile_fill(shape, false, seed, tile);
	for (size_t i = 0; i < COUNT(isa_names); i++) {
		if (!codec_isa_get(isa_names[i]))
			continue;
		memset(among, 0, sizeof(among));
		multiply(isa_names[i], shape, tile, in, among);
		for (uint32_t row = 0; row < shape->n; row += 1 + turn % 3) {
			memset(single, 0, sizeof(single));
			multiply(isa_names[i], &one, tile, in + (ptrdiff_t)row * shape->in_stride,
				 single);
			assert_memory_equal(single, among + (ptrdiff_t)row * shape->out_stride,
					    bytes);
		}
	}
}

static void test_alone_as_among_others(void **state)
{
	each_shape(alone);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_scalar_near_doubles),
	cmocka_unit_test(test_same_bits),
	cmocka_unit_test(test_wild_tiles),
	cmocka_unit_test(test_unaligned),
	cmocka_unit_test(test_alone_as_among_others),
};

int main(void)
{
	return harness_run(tests, COUNT(tests));
}
