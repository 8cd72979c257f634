/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trellis codecs: every instruction set against the scalar kernels, bit by bit; the errors that
 * they are used for; that the path is the best one; and what a decoder may rely on.
 */
#include "tests/unit/test-codec.h"

#include "codec/trellis.h"

static const enum codec_id trellis_ids[] = {
	CODEC_T8,    CODEC_T6,	  CODEC_T5,    CODEC_T4,    CODEC_T8G32, CODEC_T6G32,
	CODEC_T5G32, CODEC_T4G32, CODEC_T8G16, CODEC_T6G16, CODEC_T5G16, CODEC_T4G16,
};

static unsigned trellis_bits(enum codec_id id)
{
	static const unsigned bits[] = { 8, 6, 5, 4 };

	return bits[id % 8];
}

struct shape {
	enum codec_id id;
	enum codec_role role;
	uint32_t tokens;
	uint32_t head_dim;
	ptrdiff_t stride; /* in values, at least head_dim */
	bool at_end;	  /* where the guard page is */
};

static uint32_t tile_bytes_of(const struct shape *shape)
{
	return codec_tile_bytes(shape->id, shape->role, shape->tokens, shape->head_dim);
}

static size_t extent_bytes(const struct shape *shape, enum codec_dtype dtype)
{
	return ((shape->tokens - 1) * (size_t)shape->stride + shape->head_dim) *
	       codec_dtype_bytes(dtype);
}

/* --- Instruction sets ------------------------------------------------------------------------ */

struct buffers {
	struct guarded source;
	struct guarded tile;
	struct guarded target;
	uint8_t *expected; /* of the scalar kernels */
};

static void buffers_init(struct buffers *buffers)
{
	guarded_init(&buffers->source);
	guarded_init(&buffers->tile);
	guarded_init(&buffers->target);
	buffers->expected = malloc(GUARD_BYTES);
	assert_non_null(buffers->expected);
}

/* Bit by bit, but that any NaN equals any NaN. */
static void check_values(const char *isa_name, const struct shape *shape, enum codec_dtype dtype,
			 const uint8_t *expected, const uint8_t *actual, size_t bytes)
{
	const size_t value_bytes = codec_dtype_bytes(dtype);

	if (memcmp(expected, actual, bytes) == 0)
		return;
	for (size_t i = 0; i < bytes / value_bytes; i++) {
		const float wanted = value_get(expected, dtype, (ptrdiff_t)i);
		const float got = value_get(actual, dtype, (ptrdiff_t)i);

		if (memcmp(expected + i * value_bytes, actual + i * value_bytes, value_bytes) == 0)
			continue;
		if (isnan(wanted) && isnan(got))
			continue;
		fail_msg("%s: %s role %d, %u x %u, stride %td, type %d: value %zu is %a, not %a",
			 isa_name, codec_name(shape->id), shape->role, shape->tokens,
			 shape->head_dim, shape->stride, dtype, i, (double)got, (double)wanted);
	}
}

/* Decodes the tile that lies in buffers->tile with every instruction set. */
static void check_decode(const struct shape *shape, enum codec_dtype dtype,
			 struct buffers *buffers)
{
	const size_t bytes = extent_bytes(shape, dtype);

	for (size_t i = 0; i < COUNT(isa_names); i++) {
		const struct codec_isa *isa = codec_isa_get(isa_names[i]);
		uint8_t *target;

		if (!isa)
			continue;
		target = guarded_place(&buffers->target, bytes, shape->at_end);
		codec_isa_decode(isa, shape->id, shape->role, shape->tokens, shape->head_dim,
				 buffers->tile.buffer, target, dtype, shape->stride);
		guarded_check(&buffers->target);
		if (i == 0)
			memcpy(buffers->expected, target, bytes);
		else
			check_values(isa_names[i], shape, dtype, buffers->expected, target, bytes);
	}
}

/* Encodes buffers->source with every instruction set; the last one's tile stays. */
static void check_encode(const struct shape *shape, enum codec_dtype dtype,
			 struct buffers *buffers)
{
	const size_t bytes = tile_bytes_of(shape);

	for (size_t i = 0; i < COUNT(isa_names); i++) {
		const struct codec_isa *isa = codec_isa_get(isa_names[i]);
		uint8_t *tile;

		if (!isa)
			continue;
		tile = guarded_place(&buffers->tile, bytes, shape->at_end);
		assert_int_equal(codec_isa_encode(isa, shape->id, shape->role, shape->tokens,
						  shape->head_dim, buffers->source.buffer, dtype,
						  shape->stride, tile, NULL),
				 0);
		guarded_check(&buffers->tile);
		if (i == 0)
			memcpy(buffers->expected, tile, bytes);
		else if (memcmp(buffers->expected, tile, bytes) != 0)
			fail_msg("%s: %s role %d, %u x %u, stride %td, type %d: another tile",
				 isa_names[i], codec_name(shape->id), shape->role, shape->tokens,
				 shape->head_dim, shape->stride, dtype);
	}
}

static void check_shape(const struct shape *shape, unsigned turn, uint64_t *seed,
			struct buffers *buffers)
{
	const enum codec_dtype dtype = dtypes[turn % COUNT(dtypes)];
	enum pattern pattern = turn / COUNT(dtypes) % PATTERN_COUNT;
	uint8_t *source =
		guarded_place(&buffers->source, extent_bytes(shape, dtype), shape->at_end);

	/* The bf16 next to 65504 is 65536, which is refused. */
	if (pattern == PATTERN_HUGE && dtype == CODEC_DTYPE_BF16)
		pattern = PATTERN_OUTLIERS;
	for (ptrdiff_t t = 0; t < shape->tokens; t++)
		for (uint32_t c = 0; c < shape->head_dim; c++)
			value_put(source, dtype, t * shape->stride + c,
				  pattern_value(pattern, c, seed));
	check_encode(shape, dtype, buffers);
	for (size_t d = 0; d < COUNT(dtypes); d++)
		check_decode(shape, dtypes[d], buffers);
	guarded_check(&buffers->source);
}

/* Every codec and role: all of head_dim with few tokens, and many tokens with some of head_dim. */
static void test_same_tiles_and_values(void **state)
{
	static const uint32_t few[] = { 1, 2, 3, 4, 7, 8, 9, 16, 17, 33 };
	static const uint32_t many[][2] = { { 128, 64 }, { 129, 72 }, { 256, 24 }, { 255, 128 } };
	const size_t dims = CODEC_HEAD_DIM_MAX / CODEC_HEAD_DIM_MULTIPLE;
	struct buffers buffers;
	unsigned turn = 0;
	uint64_t seed = 5;

	buffers_init(&buffers);
	for (size_t n = 0; n < COUNT(trellis_ids) * CODEC_ROLE_COUNT; n++) {
		for (size_t i = 0; i < dims + COUNT(many); i++, turn++) {
			struct shape shape = {
				.id = trellis_ids[n / CODEC_ROLE_COUNT],
				.role = n % CODEC_ROLE_COUNT,
				.tokens = few[turn % COUNT(few)],
				.head_dim = (uint32_t)(i + 1) * CODEC_HEAD_DIM_MULTIPLE,
				.at_end = turn % 4 != 0,
			};

			if (i >= dims) {
				shape.tokens = many[i - dims][0];
				shape.head_dim = many[i - dims][1];
			}
			shape.stride = (ptrdiff_t)shape.head_dim + (turn % 3 == 0 ? 5 : 0);
			check_shape(&shape, turn, &seed, &buffers);
		}
	}
	free(buffers.expected);
}

static void test_garbage_tiles(void **state)
{
	struct buffers buffers;
	uint64_t seed = 6;

	buffers_init(&buffers);
	for (unsigned n = 0; n < COUNT(trellis_ids) * CODEC_ROLE_COUNT * COUNT(shape_dims); n++) {
		const uint32_t head_dim = shape_dims[n % COUNT(shape_dims)];
		const struct shape shape = {
			.id = trellis_ids[n / COUNT(shape_dims) / CODEC_ROLE_COUNT],
			.role = n / COUNT(shape_dims) % CODEC_ROLE_COUNT,
			.tokens = 1 + n % 23,
			.head_dim = head_dim,
			.stride = head_dim,
			.at_end = n % 4 != 0,
		};
		const size_t bytes = tile_bytes_of(&shape);
		uint8_t *tile = guarded_place(&buffers.tile, bytes, shape.at_end);

		for (size_t i = 0; i < bytes; i++)
			tile[i] = (uint8_t)random_u64(&seed);
		for (size_t d = 0; d < COUNT(dtypes); d++)
			check_decode(&shape, dtypes[d], &buffers);
		guarded_check(&buffers.tile);
	}
	free(buffers.expected);
}

#define SHIFT_TOKENS 5u
#define SHIFT_DIM 88u
#define SHIFT_VALUES (SHIFT_TOKENS * SHIFT_DIM)

/* Any alignment of source, tile and destination. */
static void test_unaligned(void **state)
{
	uint8_t source[SHIFT_VALUES * 4 + 8], tile[SHIFT_VALUES * 2 + 8];
	uint8_t target[SHIFT_VALUES * 4 + 8], expected_tile[SHIFT_VALUES * 2];
	float values[SHIFT_VALUES], expected[SHIFT_VALUES];
	uint64_t seed = 4;

	for (size_t i = 0; i < COUNT(values); i++)
		values[i] = random_gaussian(&seed);
	for (size_t n = 0; n < COUNT(isa_names) * COUNT(trellis_ids) * CODEC_ROLE_COUNT * 7; n++) {
		const struct codec_isa *isa = codec_isa_get(isa_names[n % COUNT(isa_names)]);
		const enum codec_id id = trellis_ids[n / COUNT(isa_names) % COUNT(trellis_ids)];
		const size_t rest = n / COUNT(isa_names) / COUNT(trellis_ids);
		const enum codec_role role = rest % CODEC_ROLE_COUNT;
		const size_t shift = rest / CODEC_ROLE_COUNT + 1;

		if (!isa)
			continue;
		codec_isa_encode(codec_isa_get("scalar"), id, role, SHIFT_TOKENS, SHIFT_DIM, values,
				 CODEC_DTYPE_F32, SHIFT_DIM, expected_tile, NULL);
		codec_isa_decode(codec_isa_get("scalar"), id, role, SHIFT_TOKENS, SHIFT_DIM,
				 expected_tile, expected, CODEC_DTYPE_F32, SHIFT_DIM);
		memcpy(source + shift, values, sizeof values);
		assert_int_equal(codec_isa_encode(isa, id, role, SHIFT_TOKENS, SHIFT_DIM,
						  source + shift, CODEC_DTYPE_F32, SHIFT_DIM,
						  tile + shift, NULL),
				 0);
		assert_memory_equal(tile + shift, expected_tile,
				    codec_tile_bytes(id, role, SHIFT_TOKENS, SHIFT_DIM));
		codec_isa_decode(isa, id, role, SHIFT_TOKENS, SHIFT_DIM, tile + shift,
				 target + shift, CODEC_DTYPE_F32, SHIFT_DIM);
		assert_memory_equal(target + shift, expected, sizeof expected);
	}
}

/* --- Errors ---------------------------------------------------------------------------------- */

#define HEADS 32u
#define HEAD_TOKENS 128u
#define HEAD_DIM 96u
#define HEAD_VALUES (HEAD_TOKENS * HEAD_DIM)

static float values[HEAD_VALUES];
static float decoded[HEAD_VALUES];
static uint8_t tile[HEAD_VALUES * 2];

static void round_trip(enum codec_id id, enum codec_role role, uint32_t tokens, uint32_t head_dim)
{
	assert_int_equal(codec_encode(id, role, tokens, head_dim, values, CODEC_DTYPE_F32,
				      head_dim, tile, NULL),
			 0);
	codec_decode(id, role, tokens, head_dim, tile, decoded, CODEC_DTYPE_F32, head_dim);
}

/* RMS of the error over RMS of the values, in percent, of V with normal values. */
static double gaussian_error(enum codec_id id)
{
	double error = 0;
	double power = 0;
	uint64_t seed = 1;

	for (unsigned head = 0; head < HEADS; head++) {
		for (size_t i = 0; i < HEAD_VALUES; i++)
			values[i] = random_gaussian(&seed);
		round_trip(id, CODEC_ROLE_V, HEAD_TOKENS, HEAD_DIM);
		for (size_t i = 0; i < HEAD_VALUES; i++) {
			error += pow((double)values[i] - (double)decoded[i], 2);
			power += pow((double)values[i], 2);
		}
	}
	return 100 * sqrt(error / power);
}

static void test_errors(void **state)
{
	static const struct {
		enum codec_id id;
		double bound; /* in percent */
	} bounds[] = {
		{ CODEC_T6G16, 1.72 },
		{ CODEC_T6G32, 1.93 },
		{ CODEC_T8G32, 0.482 },
		{ CODEC_T4G32, 7.75 },
	};

	for (size_t i = 0; i < COUNT(bounds); i++) {
		const double error = gaussian_error(bounds[i].id);

		if (!(error <= bounds[i].bound))
			fail_msg("%s: rms %.4f %%, more than %.4f %%", codec_name(bounds[i].id),
				 error, bounds[i].bound);
	}
}

/* The least squared error of one channel of t4, in steps, of all ways through the trellis. */
static double least_error(const double *positions, uint32_t tokens)
{
	double least = INFINITY;

	for (unsigned path = 0; path < 1u << tokens; path++) {
		double error = 0;

		for (uint32_t t = 0; t < tokens; t++) {
			const unsigned u = path >> t & 1;
			const unsigned u1 = t >= 1 ? path >> (t - 1) & 1 : 0;
			const unsigned u2 = t >= 2 ? path >> (t - 2) & 1 : 0;
			const unsigned u3 = t >= 3 ? path >> (t - 3) & 1 : 0;
			double nearest = INFINITY;

			for (unsigned k = 0; k < 8; k++) {
				const unsigned level = trellis_level(k << 1 | u, u1, u2, u3);

				nearest = fmin(nearest, pow(positions[t] - level, 2));
			}
			error += nearest;
		}
		least = fmin(least, error);
	}
	return least;
}

static void test_best_path(void **state)
{
	const uint32_t tokens = 9;
	const uint32_t head_dim = 64;
	uint64_t seed = 7;

	for (size_t i = 0; i < tokens * head_dim; i++)
		values[i] = random_gaussian(&seed);
	round_trip(CODEC_T4, CODEC_ROLE_K, tokens, head_dim);
	for (uint32_t c = 0; c < head_dim; c++) {
		double positions[9];
		double error = 0;
		uint16_t half;
		double scale, min;

		memcpy(&half, tile + tokens * head_dim / 2 + 2 * (size_t)c, sizeof half);
		scale = (double)half_to_f32(half);
		memcpy(&half, tile + tokens * head_dim / 2 + 2 * (size_t)(head_dim + c),
		       sizeof half);
		min = (double)half_to_f32(half);
		for (uint32_t t = 0; t < tokens; t++) {
			const size_t at = t * head_dim + c;

			positions[t] = ((double)values[at] - min) / scale;
			error += pow(((double)values[at] - (double)decoded[at]) / scale, 2);
		}
		assert_true(error <= least_error(positions, tokens) * (1 + 1e-4) + 1e-4);
	}
}

/* --- Unusual input --------------------------------------------------------------------------- */

/* No value is further away than four steps, whatever the values are. */
static void check_bounded(enum codec_id id, enum codec_role role, const float *value_of, size_t n)
{
	const uint32_t tokens = 24;
	const uint32_t head_dim = 40;
	float largest = 0x1p-17f;

	for (size_t i = 0; i < tokens * head_dim; i++) {
		values[i] = value_of[i % n];
		largest = fmaxf(largest, fabsf(values[i]));
	}
	round_trip(id, role, tokens, head_dim);
	for (size_t i = 0; i < tokens * head_dim; i++) {
		const double step = 4 * (double)largest / (double)trellis_levels(trellis_bits(id));

		if (!(fabs((double)values[i] - (double)decoded[i]) <= 4 * step))
			fail_msg("%s role %d: %a became %a", codec_name(id), role,
				 (double)values[i], (double)decoded[i]);
	}
}

static void test_unusual(void **state)
{
	static const float constant[] = { 1.2345678f };
	static const float denormal[] = { 0x1p-149f, -0x1p-130f, 0x1p-127f };
	static const float huge[] = { 65504, -65504, 65504, 12345, 1 };
	static const float zero[] = { 0.0f, -0.0f };

	for (size_t n = 0; n < COUNT(trellis_ids) * CODEC_ROLE_COUNT; n++) {
		const enum codec_id id = trellis_ids[n / CODEC_ROLE_COUNT];
		const enum codec_role role = n % CODEC_ROLE_COUNT;

		check_bounded(id, role, constant, COUNT(constant));
		check_bounded(id, role, denormal, COUNT(denormal));
		check_bounded(id, role, huge, COUNT(huge));
		check_bounded(id, role, zero, COUNT(zero));
		for (size_t i = 0; i < (size_t)24 * 40; i++)
			assert_int_equal(half_f32_bits(decoded[i]), 0);
	}
}

static void check_refused(const struct codec_isa *isa, enum codec_id id, enum codec_role role,
			  float value, int expected)
{
	static const uint32_t places[][2] = { { 0, 0 },	  { 0, 103 }, { 1, 7 },	  { 15, 16 },
					      { 16, 63 }, { 18, 64 }, { 18, 103 } };
	const uint32_t tokens = 19;
	const uint32_t head_dim = 104;

	for (size_t i = 0; i < COUNT(places); i++) {
		float *at = &values[places[i][0] * head_dim + places[i][1]];
		const float good = *at;
		struct codec_fault fault = { 1000, 1000 };
		int r;

		*at = value;
		r = codec_isa_encode(isa, id, role, tokens, head_dim, values, CODEC_DTYPE_F32,
				     head_dim, tile, &fault);
		*at = good;
		assert_int_equal(r, expected);
		assert_int_equal(fault.token, places[i][0]);
		assert_int_equal(fault.channel, places[i][1]);
	}
}

static void test_refused(void **state)
{
	uint64_t seed = 9;

	for (size_t i = 0; i < HEAD_VALUES; i++)
		values[i] = random_gaussian(&seed);
	for (size_t n = 0; n < COUNT(trellis_ids) * CODEC_ROLE_COUNT * COUNT(isa_names); n++) {
		const struct codec_isa *isa = codec_isa_get(isa_names[n % COUNT(isa_names)]);
		const enum codec_id id =
			trellis_ids[n / COUNT(isa_names) / CODEC_ROLE_COUNT];
		const enum codec_role role = n / COUNT(isa_names) % CODEC_ROLE_COUNT;

		if (!isa)
			continue;
		check_refused(isa, id, role, NAN, CODEC_NONFINITE);
		check_refused(isa, id, role, -NAN, CODEC_NONFINITE);
		check_refused(isa, id, role, INFINITY, CODEC_NONFINITE);
		check_refused(isa, id, role, -INFINITY, CODEC_NONFINITE);
		check_refused(isa, id, role, 65505.0f, CODEC_RANGE);
		check_refused(isa, id, role, -65505.0f, CODEC_RANGE);
	}
}

/* --- What a decoder may rely on -------------------------------------------------------------- */

/* A row's codes count in this row and the next three, and nowhere else. */
static void test_four_rows(void **state)
{
	static float other[HEAD_VALUES];
	const uint32_t tokens = 21;
	const uint32_t head_dim = 72;
	const size_t row_bytes = head_dim * sizeof(float);
	uint64_t seed = 10;

	for (size_t i = 0; i < tokens * head_dim; i++)
		values[i] = random_gaussian(&seed);
	for (size_t n = 0; n < COUNT(trellis_ids) * CODEC_ROLE_COUNT * tokens; n++) {
		const enum codec_id id = trellis_ids[n / tokens / CODEC_ROLE_COUNT];
		const enum codec_role role = n / tokens % CODEC_ROLE_COUNT;
		const uint32_t token = (uint32_t)(n % tokens);
		const uint32_t code_bytes = head_dim / 8 * trellis_bits(id);
		const uint32_t bit = (uint32_t)(random_u64(&seed) % (code_bytes * 8));

		round_trip(id, role, tokens, head_dim);
		tile[token * code_bytes + bit / 8] ^= (uint8_t)(1u << bit % 8);
		codec_decode(id, role, tokens, head_dim, tile, other, CODEC_DTYPE_F32, head_dim);
		for (uint32_t t = 0; t < tokens; t++) {
			const bool same = memcmp(decoded + (size_t)t * head_dim,
						 other + (size_t)t * head_dim, row_bytes) == 0;

			if (t < token || t > token + 3)
				assert_true(same);
			if (t == token)
				assert_false(same);
		}
	}
}

static unsigned log_scale_by_search(float amplitude)
{
	unsigned e = 0;

	while (trellis_log_scales[e] < amplitude)
		e++;
	return e;
}

static void test_log_scales(void **state)
{
	uint64_t seed = 11;

	assert_true(trellis_log_scales[0] == 0 && trellis_log_scales[1] == 0x1p-16f);
	assert_true(trellis_log_scales[255] == 0x1p17f);
	for (unsigned e = 0; e < 256; e++) {
		const float scale = trellis_log_scales[e];

		assert_true(e == 0 || scale > trellis_log_scales[e - 1]);
		assert_int_equal(trellis_log_scale_of(scale), e);
		if (e > 0)
			assert_int_equal(trellis_log_scale_of(nextafterf(scale, 0)), e);
		if (e < 255)
			assert_int_equal(trellis_log_scale_of(nextafterf(scale, INFINITY)), e + 1);
	}
	for (unsigned i = 0; i < 100000; i++) {
		const uint32_t bits = (uint32_t)random_u64(&seed) % (half_f32_bits(0x1p17f) + 1);
		const float amplitude = half_f32_of_bits(bits);

		assert_int_equal(trellis_log_scale_of(amplitude), log_scale_by_search(amplitude));
	}
	assert_int_equal(trellis_log_scale_of(0x1p-149f), 1);
	assert_int_equal(trellis_log_scale_of(-0.0f), 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_same_tiles_and_values),
	cmocka_unit_test(test_garbage_tiles),
	cmocka_unit_test(test_unaligned),
	cmocka_unit_test(test_errors),
	cmocka_unit_test(test_best_path),
	cmocka_unit_test(test_unusual),
	cmocka_unit_test(test_refused),
	cmocka_unit_test(test_four_rows),
	cmocka_unit_test(test_log_scales),
};

int main(void)
{
	return harness_run(tests, COUNT(tests));
}
