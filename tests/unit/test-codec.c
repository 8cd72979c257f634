/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codecs against their definition (docs/codecs.md): sizes, bytes, values, errors. Expected
 * values are computed here, in double, from the format; every instruction set of this processor is
 * held to them.
 *
 * With KVC_TEST_PRINT_ERRORS=1 in the environment the program prints the error table of
 * docs/codecs.md instead of running tests.
 */
#include "tests/unit/test-codec.h"

#include <stdio.h>

static float values[VALUES_MAX];
static float decoded[VALUES_MAX];
static uint8_t tile[VALUES_MAX * 4];

static uint16_t u16_at(const uint8_t *bytes)
{
	return (uint16_t)(bytes[0] | bytes[1] << 8);
}

/* --- Names and sizes ------------------------------------------------------------------------- */

static void test_names(void **state)
{
	static const struct {
		const char *name;
		uint32_t number;
	} known[] = {
		{ "f32", 1 },	 { "f16", 2 },	  { "bf16", 3 },   { "q8", 16 },    { "q6", 17 },
		{ "q5", 18 },	 { "q4", 19 },	  { "t8", 32 },	   { "t6", 33 },    { "t5", 34 },
		{ "t4", 35 },	 { "t8g32", 40 }, { "t6g32", 41 }, { "t5g32", 42 }, { "t4g32", 43 },
		{ "t8g16", 48 }, { "t6g16", 49 }, { "t5g16", 50 }, { "t4g16", 51 },
	};
	enum codec_id id = CODEC_Q4;
	size_t at = 0;

	for (size_t i = 0; i < COUNT(known); i++) {
		assert_true(codec_from_name(known[i].name, &id));
		assert_int_equal(id, known[i].number);
		assert_string_equal(codec_name(id), known[i].name);
	}
	id = CODEC_Q8;
	assert_false(codec_from_name("q7", &id));
	assert_false(codec_from_name("", &id));
	assert_false(codec_from_name("Q8", &id));
	assert_false(codec_from_name("q80", &id));
	assert_false(codec_from_name("t6g64", &id));
	assert_int_equal(id, CODEC_Q8);
	for (uint32_t n = 0; n < 300; n++) {
		const bool expected = at < COUNT(known) && n == known[at].number;

		assert_int_equal(codec_valid(n), expected);
		assert_int_equal(codec_name(n) != NULL, expected);
		at += expected;
	}
	assert_int_equal(at, COUNT(known));
	assert_false(codec_valid(UINT32_MAX));
	assert_int_equal(codec_dtype_bytes(CODEC_DTYPE_F32), 4);
	assert_int_equal(codec_dtype_bytes(CODEC_DTYPE_F16), 2);
	assert_int_equal(codec_dtype_bytes(CODEC_DTYPE_BF16), 2);
	assert_int_equal(codec_dtype_bytes(0), 0);
	assert_int_equal(codec_dtype_bytes(4), 0);
}

static void test_sizes(void **state)
{
	static const struct {
		uint32_t id, tokens, head_dim, k_bytes, v_bytes;
	} sizes[] = {
		{ CODEC_F32, 128, 128, 65536, 65536 },
		{ CODEC_F16, 128, 128, 32768, 32768 },
		{ CODEC_BF16, 128, 64, 16384, 16384 },
		{ CODEC_Q8, 128, 128, 16896, 16896 },
		{ CODEC_Q6, 128, 128, 12800, 12800 },
		{ CODEC_Q5, 128, 128, 10752, 10752 },
		{ CODEC_Q4, 128, 128, 8704, 8704 },
		{ CODEC_T6, 128, 128, 12800, 12800 },
		{ CODEC_T6G32, 128, 128, 12800, 12800 },
		{ CODEC_T6G16, 128, 128, 12800, 13312 },
		{ CODEC_Q8, 128, 64, 8448, 8704 },
		{ CODEC_Q6, 128, 64, 6400, 6656 },
		{ CODEC_Q4, 128, 64, 4352, 4608 },
		{ CODEC_Q8, 128, 96, 12672, 12800 },
		{ CODEC_Q6, 128, 96, 9600, 9728 },
		{ CODEC_Q4, 128, 96, 6528, 6656 },
		{ CODEC_Q6, 1, 8, 38, 10 },
		{ CODEC_Q4, 1, 8, 36, 8 },
		{ CODEC_Q8, 256, 256, 66560, 66560 },
		{ CODEC_F32, 256, 256, 262144, 262144 },
		{ CODEC_Q4, 7, 24, 180, 112 },
		{ CODEC_F32, 1, 8, 32, 32 },
	};

	for (size_t i = 0; i < COUNT(sizes); i++) {
		assert_int_equal(codec_tile_bytes(sizes[i].id, CODEC_ROLE_K, sizes[i].tokens,
						  sizes[i].head_dim),
				 sizes[i].k_bytes);
		assert_int_equal(codec_tile_bytes(sizes[i].id, CODEC_ROLE_V, sizes[i].tokens,
						  sizes[i].head_dim),
				 sizes[i].v_bytes);
	}
}

static void test_shapes_refused(void **state)
{
	struct codec_layout layout = { .tokens = 77 };
	static const uint32_t refused[][4] = {
		{ 0, 0, 128, 128 },
		{ 4, 0, 128, 128 },
		{ 20, 0, 128, 128 },
		{ 36, 0, 128, 128 },
		{ 52, 0, 128, 128 },
		{ UINT32_MAX, 0, 128, 8 },
		{ CODEC_Q8, 2, 128, 128 },
		{ CODEC_Q8, 0, 0, 128 },
		{ CODEC_Q8, 0, 257, 128 },
		{ CODEC_Q8, 0, 128, 0 },
		{ CODEC_Q8, 0, 128, 4 },
		{ CODEC_Q8, 0, 128, 100 },
		{ CODEC_Q8, 0, 128, 264 },
		{ CODEC_Q8, 0, 1u << 31, 8 },
		{ CODEC_F32, 0, 8, 1u << 31 },
		{ CODEC_F32, UINT32_MAX, 8, 8 },
	};

	for (size_t i = 0; i < COUNT(refused); i++) {
		const uint32_t *r = refused[i];

		assert_int_equal(codec_tile_bytes(r[0], r[1], r[2], r[3]), 0);
		assert_false(codec_layout_of(r[0], r[1], r[2], r[3], &layout));
	}
	assert_int_equal(layout.tokens, 77);
}

/* A head_dim of 0 is an absent V: nothing is touched. */
static void test_absent(void **state)
{
	const enum codec_dtype f32 = CODEC_DTYPE_F32;

	assert_int_equal(codec_encode(CODEC_Q8, CODEC_ROLE_V, 128, 0, NULL, f32, 0, NULL, NULL), 0);
	codec_decode(CODEC_Q8, CODEC_ROLE_V, 128, 0, NULL, NULL, f32, 0);
}

/* --- Bytes ----------------------------------------------------------------------------------- */

/* The worked example of docs/codecs.md. */
static void test_example_bytes(void **state)
{
	static const float v[8] = { -1.5f, -1.0f, -0.5f, 0.0f, 0.5f, 1.0f, 1.5f, 1.9f };
	static const uint8_t q8[] = { 0x00, 0x25, 0x4b, 0x70, 0x96, 0xbb,
				      0xe1, 0xff, 0xd4, 0x22, 0x00, 0xbe };
	static const uint8_t q6[] = { 0x40, 0x32, 0x71, 0xa5, 0x8b, 0xff, 0xe9, 0x2a, 0x00, 0xbe };
	static const uint8_t q4[] = { 0x20, 0x74, 0xb9, 0xfd, 0x41, 0x33, 0x00, 0xbe };
	/* Two tokens: v and its negative. Every channel has its own scale and min. */
	float k[16];
	static const uint8_t k4[] = {
		0x00, 0x00, 0xff, 0xff, /* codes of v: channels 0 to 3 have 0, the others 15 */
		0xff, 0x0f, 0x00, 0x00, /* codes of -v; channel 3 is 0 in both */
		0x67, 0x32, 0x45, 0x30, 0x45, 0x2c, 0x00, 0x00, 0x45, 0x2c, 0x45,
		0x30, 0x67, 0x32, 0x0e, 0x34, 0x00, 0xbe, 0x00, 0xbc, 0x00, 0xb8,
		0x00, 0x00, 0x00, 0xb8, 0x00, 0xbc, 0x00, 0xbe, 0x9a, 0xbf,
	};

	for (size_t i = 0; i < 8; i++) {
		k[i] = v[i];
		k[8 + i] = -v[i];
	}
	for (size_t i = 0; i < COUNT(isa_names); i++) {
		const struct codec_isa *isa = codec_isa_get(isa_names[i]);

		if (!isa)
			continue;
		assert_int_equal(codec_isa_encode(isa, CODEC_Q8, CODEC_ROLE_V, 1, 8, v,
						  CODEC_DTYPE_F32, 8, tile, NULL),
				 0);
		assert_memory_equal(tile, q8, sizeof(q8));
		assert_int_equal(codec_isa_encode(isa, CODEC_Q6, CODEC_ROLE_V, 1, 8, v,
						  CODEC_DTYPE_F32, 8, tile, NULL),
				 0);
		assert_memory_equal(tile, q6, sizeof(q6));
		assert_int_equal(codec_isa_encode(isa, CODEC_Q4, CODEC_ROLE_V, 1, 8, v,
						  CODEC_DTYPE_F32, 8, tile, NULL),
				 0);
		assert_memory_equal(tile, q4, sizeof(q4));
		assert_int_equal(codec_isa_encode(isa, CODEC_Q4, CODEC_ROLE_K, 2, 8, k,
						  CODEC_DTYPE_F32, 8, tile, NULL),
				 0);
		assert_memory_equal(tile, k4, sizeof(k4));
	}
}

/* --- The definition, value by value ---------------------------------------------------------- */

struct group {
	uint16_t scale;
	uint16_t min;
};

static struct group group_at(const struct codec_layout *layout, enum codec_role role,
			     uint32_t token, uint32_t channel)
{
	const uint32_t group = role == CODEC_ROLE_K ? channel : token;

	assert_true(group < layout->groups);
	return (struct group){ u16_at(tile + layout->scales_offset + 2 * group),
			       u16_at(tile + layout->mins_offset + 2 * group) };
}

/* Bit by bit from the format: code i of a row has bits i * bits and up. */
static unsigned code_at(const struct codec_layout *layout, unsigned bits, uint32_t token,
			uint32_t channel)
{
	const uint8_t *row = tile + (size_t)token * layout->row_bytes;
	unsigned code = 0;

	for (unsigned b = 0; b < bits; b++) {
		const size_t bit = (size_t)channel * bits + b;

		code |= (row[bit / 8] >> bit % 8 & 1u) << b;
	}
	return code;
}

/* min is the largest f16 not above the smallest value; scale the smallest not below the step. */
static void check_group(struct group group, unsigned bits, float smallest, float largest)
{
	const double code_max = (1u << bits) - 1;
	const double min = half_to_f32(group.min);
	const double step = (largest - min) / code_max;

	assert_true(isfinite(min) && group.scale < 0x7c00);
	assert_true(group.min != 0x8000);
	assert_true(min <= smallest);
	/* The f16 after it toward plus infinity is above. */
	if (smallest != 0)
		assert_true((double)half_to_f32((uint16_t)(group.min & 0x8000 ? group.min - 1
									      : group.min + 1)) >
				    smallest ||
			    group.min == 0x8001);
	/* The step is computed in f32: two roundings. */
	assert_true((double)half_to_f32(group.scale) >= step * (1 - 0x1p-22));
	if (group.scale > 0)
		assert_true((double)half_to_f32((uint16_t)(group.scale - 1)) <
			    step * (1 + 0x1p-22));
}

static void check_values(enum codec_id id, enum codec_role role, uint32_t tokens, uint32_t dim)
{
	const unsigned bits = bits_of(id);
	struct codec_layout layout;

	assert_true(codec_layout_of(id, role, tokens, dim, &layout));
	for (uint32_t t = 0; t < tokens; t++) {
		for (uint32_t c = 0; c < dim; c++) {
			const struct group group = group_at(&layout, role, t, c);
			const double scale = half_to_f32(group.scale);
			const double min = half_to_f32(group.min);
			const double x = values[t * dim + c];
			const float y = decoded[t * dim + c];
			const unsigned code = code_at(&layout, bits, t, c);
			/* Half a step; the roundings of code and value in f32. */
			const double bound = scale * (0.5 + 1e-4) + 0x1p-23 * fabs(x) + 1e-30;

			if (y != (float)(min + code * scale) || fabs(x - (double)y) > bound)
				fail_msg("%s role %d %u x %u (%u, %u): %a gave code %u of %a + n "
					 "%a, %a",
					 codec_name(id), role, tokens, dim, t, c, x, code, min,
					 scale, (double)y);
		}
	}
}

static void check_groups(enum codec_id id, enum codec_role role, uint32_t tokens, uint32_t dim)
{
	const uint32_t groups = role == CODEC_ROLE_K ? dim : tokens;
	const uint32_t members = role == CODEC_ROLE_K ? tokens : dim;
	struct codec_layout layout;

	assert_true(codec_layout_of(id, role, tokens, dim, &layout));
	for (uint32_t g = 0; g < groups; g++) {
		float smallest = INFINITY;
		float largest = -INFINITY;

		for (uint32_t i = 0; i < members; i++) {
			const float x =
				role == CODEC_ROLE_K ? values[i * dim + g] : values[g * dim + i];

			smallest = x < smallest ? x : smallest;
			largest = x > largest ? x : largest;
		}
		check_group(role == CODEC_ROLE_K ? group_at(&layout, role, 0, g)
						 : group_at(&layout, role, g, 0),
			    bits_of(id), smallest, largest);
	}
}

static void round_trip(const struct codec_isa *isa, enum codec_id id, enum codec_role role,
		       uint32_t tokens, uint32_t dim)
{
	assert_int_equal(codec_isa_encode(isa, id, role, tokens, dim, values, CODEC_DTYPE_F32, dim,
					  tile, NULL),
			 0);
	codec_isa_decode(isa, id, role, tokens, dim, tile, decoded, CODEC_DTYPE_F32, dim);
}

static void test_grouped_round_trip(void **state)
{
	uint64_t seed = 5;
	unsigned turn = 0;

	for (size_t n = 0; n < COUNT(shape_tokens) * COUNT(shape_dims); n++) {
		const uint32_t tokens = shape_tokens[n / COUNT(shape_dims)];
		const uint32_t dim = shape_dims[n % COUNT(shape_dims)];

		for (size_t q = 0; q < COUNT(grouped_ids) * CODEC_ROLE_COUNT; q++, turn++) {
			const enum codec_id id = grouped_ids[q / CODEC_ROLE_COUNT];
			const enum codec_role role = q % CODEC_ROLE_COUNT;

			for (uint32_t i = 0; i < tokens * dim; i++)
				values[i] = pattern_value(turn % PATTERN_COUNT, i % dim, &seed);
			for (size_t i = 0; i < COUNT(isa_names); i++) {
				const struct codec_isa *isa = codec_isa_get(isa_names[i]);

				if (!isa)
					continue;
				round_trip(isa, id, role, tokens, dim);
				check_groups(id, role, tokens, dim);
				check_values(id, role, tokens, dim);
			}
		}
	}
}

/* Groups of one value: exact when f16 has the value, and then the scale is 0. */
static void test_constant_groups(void **state)
{
	static const float exact[] = { 0,	  -0.0f,	  1, -1, 65504, -65504, 0x1p-24f,
				       -0x1p-24f, 0.333251953125f };
	static const float inexact[] = {
		0.1f, -0.1f, 1.2345678f, -3.3333333f, 1000.123f, -65503.9f
	};
	struct codec_layout layout;

	for (size_t q = 0; q < COUNT(grouped_ids) * CODEC_ROLE_COUNT; q++) {
		const enum codec_id id = grouped_ids[q / CODEC_ROLE_COUNT];
		const enum codec_role role = q % CODEC_ROLE_COUNT;

		assert_true(codec_layout_of(id, role, 7, 24, &layout));
		for (size_t v = 0; v < COUNT(exact); v++) {
			for (uint32_t i = 0; i < 7 * 24; i++)
				values[i] = exact[v];
			round_trip(codec_isa_get("scalar"), id, role, 7, 24);
			for (uint32_t i = 0; i < 7 * 24; i++)
				assert_true(decoded[i] == exact[v]);
			assert_int_equal(group_at(&layout, role, 0, 0).scale, 0);
			assert_int_equal(code_at(&layout, bits_of(id), 6, 23), 0);
		}
		for (size_t v = 0; v < COUNT(inexact); v++) {
			/* A group spans at most one f16 step of the value. */
			const float step = fabsf(inexact[v]) * 0x1p-10f;
			const float bound = step / (float)((1u << bits_of(id)) - 1) / 2 + 0x1p-25f;

			for (uint32_t i = 0; i < 7 * 24; i++)
				values[i] = inexact[v];
			round_trip(codec_isa_get("scalar"), id, role, 7, 24);
			for (uint32_t i = 0; i < 7 * 24; i++)
				assert_true(fabsf(decoded[i] - inexact[v]) <= bound * 1.01f);
		}
	}
}

/* f16 or bf16 in: the tile of the same values as f32. f16 or bf16 out: rounded once. */
static void test_types(void **state)
{
	static uint8_t typed[VALUES_MAX * 4];
	static uint8_t other[VALUES_MAX * 4];
	const uint32_t tokens = 129;
	const uint32_t dim = 72;
	uint64_t seed = 6;

	for (size_t n = 0; n < COUNT(codec_ids) * CODEC_ROLE_COUNT * COUNT(dtypes); n++) {
		const enum codec_id id = codec_ids[n % COUNT(codec_ids)];
		const enum codec_role role = n / COUNT(codec_ids) % CODEC_ROLE_COUNT;
		const enum codec_dtype dtype = dtypes[n / COUNT(codec_ids) / CODEC_ROLE_COUNT];
		const uint32_t bytes = codec_tile_bytes(id, role, tokens, dim);

		for (uint32_t i = 0; i < tokens * dim; i++) {
			value_put(typed, dtype, i, random_gaussian(&seed) * 3);
			values[i] = value_get(typed, dtype, i);
		}
		round_trip(codec_isa_get("scalar"), id, role, tokens, dim);
		assert_int_equal(
			codec_encode(id, role, tokens, dim, typed, dtype, dim, other, NULL), 0);
		assert_memory_equal(tile, other, bytes);
		codec_decode(id, role, tokens, dim, tile, other, dtype, dim);
		for (uint32_t i = 0; i < tokens * dim; i++) {
			value_put(typed, dtype, i, decoded[i]);
			assert_true(value_get(other, dtype, i) == value_get(typed, dtype, i));
		}
	}
}

/* A raw tile holds the values of its own type bit by bit, in token-major order. */
static void check_raw(const struct codec_isa *isa, enum codec_id id, enum codec_dtype dtype,
		      const uint8_t *anything, const uint8_t *finite, uint32_t bytes)
{
	static uint8_t back[VALUES_MAX * 4];
	int r;

	r = codec_isa_encode(isa, id, CODEC_ROLE_K, 129, 72, finite, dtype, 72, tile, NULL);
	assert_int_equal(r, 0);
	assert_memory_equal(tile, finite, bytes);
	memset(back, 0, bytes);
	codec_isa_decode(isa, id, CODEC_ROLE_K, 129, 72, anything, back, dtype, 72);
	assert_memory_equal(back, anything, bytes);
}

static void test_raw_exact(void **state)
{
	static uint8_t anything[VALUES_MAX * 4];
	static uint8_t finite[VALUES_MAX * 4];
	uint64_t seed = 7;

	for (size_t r = 0; r < COUNT(dtypes); r++) {
		const uint32_t bytes = codec_tile_bytes(codec_ids[r], CODEC_ROLE_K, 129, 72);

		assert_int_equal(bytes, 129 * 72 * codec_dtype_bytes(dtypes[r]));
		for (uint32_t i = 0; i < bytes; i++)
			anything[i] = (uint8_t)random_u64(&seed);
		memcpy(finite, anything, bytes);
		for (uint32_t i = 0; i < 129 * 72; i++) {
			if (!isfinite(value_get(finite, dtypes[r], i)))
				value_put(finite, dtypes[r], i, -0.0f);
		}
		/* A NaN that is not quiet, which a conversion would change. */
		value_put(anything, dtypes[r], 5, INFINITY);
		anything[5 * codec_dtype_bytes(dtypes[r])] |= 1;
		for (size_t i = 0; i < COUNT(isa_names); i++) {
			const struct codec_isa *isa = codec_isa_get(isa_names[i]);

			if (isa)
				check_raw(isa, codec_ids[r], dtypes[r], anything, finite, bytes);
		}
	}
}

/* --- Errors on Gaussian data ----------------------------------------------------------------- */

#define ERROR_HEADS 32u
#define ERROR_TOKENS 128u
#define ERROR_DIM 96u

struct error {
	double bits_per_value;
	double mean_abs; /* mean |x - y| / mean |x| */
	double rms;	 /* RMS of x - y / RMS of x */
};

/* iid N(0, 1) of shape (1, 32, 128, 96), the same for every codec. */
static struct error error_measure(enum codec_id id, enum codec_role role)
{
	double abs_x = 0, abs_error = 0, square_x = 0, square_error = 0;
	uint64_t seed = 9;

	for (unsigned head = 0; head < ERROR_HEADS; head++) {
		for (uint32_t i = 0; i < ERROR_TOKENS * ERROR_DIM; i++)
			values[i] = random_gaussian(&seed);
		round_trip(codec_isa_get("scalar"), id, role, ERROR_TOKENS, ERROR_DIM);
		for (uint32_t i = 0; i < ERROR_TOKENS * ERROR_DIM; i++) {
			const double x = values[i];
			const double e = x - (double)decoded[i];

			abs_x += fabs(x);
			abs_error += fabs(e);
			square_x += x * x;
			square_error += e * e;
		}
	}
	return (struct error){
		.bits_per_value = 8.0 * codec_tile_bytes(id, role, ERROR_TOKENS, ERROR_DIM) /
				  (ERROR_TOKENS * ERROR_DIM),
		.mean_abs = abs_error / abs_x,
		.rms = sqrt(square_error / square_x),
	};
}

static void errors_print(void)
{
	printf("iid N(0,1), shape (1, %u, %u, %u)\n", ERROR_HEADS, ERROR_TOKENS, ERROR_DIM);
	printf("%-6s %-4s %10s %18s %14s\n", "codec", "role", "bits/value", "mean-abs error, %",
	       "RMS error, %");
	for (size_t i = 0; i < COUNT(codec_ids); i++) {
		for (enum codec_role role = CODEC_ROLE_K; role <= CODEC_ROLE_V; role++) {
			const struct error error = error_measure(codec_ids[i], role);

			printf("%-6s %-4s %10.3f %18.4f %14.4f\n", codec_name(codec_ids[i]),
			       role == CODEC_ROLE_K ? "K" : "V", error.bits_per_value,
			       100 * error.mean_abs, 100 * error.rms);
		}
	}
}

/* Above what rate-distortion theory allows, and not far from what uniform steps must give. */
static void test_gaussian_errors(void **state)
{
	for (size_t q = 0; q < COUNT(grouped_ids) * CODEC_ROLE_COUNT; q++) {
		const enum codec_id id = grouped_ids[q / CODEC_ROLE_COUNT];
		const struct error error = error_measure(id, q % CODEC_ROLE_COUNT);
		const double steps = (1u << bits_of(id)) - 1;

		assert_true(error.rms > exp2(-error.bits_per_value));
		/* A range of 4.5 to 5.5 standard deviations, an error uniform over a step. */
		assert_true(error.rms > 4.5 / steps / sqrt(12) &&
			    error.rms < 5.5 / steps / sqrt(12));
		/* Mean |x| of N(0, 1) is 0.798; mean |error| a quarter of a step. */
		assert_true(error.mean_abs > 4.5 / steps / 4 / 0.798);
		assert_true(error.mean_abs < 5.5 / steps / 4 / 0.798);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_names),
	cmocka_unit_test(test_sizes),
	cmocka_unit_test(test_shapes_refused),
	cmocka_unit_test(test_absent),
	cmocka_unit_test(test_example_bytes),
	cmocka_unit_test(test_grouped_round_trip),
	cmocka_unit_test(test_constant_groups),
	cmocka_unit_test(test_types),
	cmocka_unit_test(test_raw_exact),
	cmocka_unit_test(test_gaussian_errors),
};

int main(void)
{
	if (getenv("KVC_TEST_PRINT_ERRORS")) {
		errors_print();
		return 0;
	}
	return harness_run(tests, COUNT(tests));
}
