/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every instruction set of this processor against the scalar kernels: equal tiles, equal values, no
 * byte read or written beyond source, tile and destination, on any shape, stride and content.
 */
#include "tests/unit/test-codec.h"

#include <stdio.h>

struct buffers {
	struct guarded source;
	struct guarded tile;
	struct guarded target;
	uint8_t *expected_tile; /* of the scalar kernels */
	uint8_t *expected_target;
	uint8_t *source_copy;
};

static void buffers_init(struct buffers *buffers)
{
	guarded_init(&buffers->source);
	guarded_init(&buffers->tile);
	guarded_init(&buffers->target);
	buffers->expected_tile = malloc(GUARD_BYTES);
	buffers->expected_target = malloc(GUARD_BYTES);
	buffers->source_copy = malloc(GUARD_BYTES);
	assert_non_null(buffers->expected_tile);
	assert_non_null(buffers->expected_target);
	assert_non_null(buffers->source_copy);
}

static void buffers_deinit(struct buffers *buffers)
{
	free(buffers->expected_tile);
	free(buffers->expected_target);
	free(buffers->source_copy);
}

struct shape {
	enum codec_id id;
	enum codec_role role;
	uint32_t tokens;
	uint32_t head_dim;
	ptrdiff_t stride; /* in values, of source and destination */
	bool at_end;	  /* where the guard page is */
};

static size_t extent_bytes(const struct shape *shape, enum codec_dtype dtype)
{
	const size_t step = (size_t)(shape->stride < 0 ? -shape->stride : shape->stride);

	return ((shape->tokens - 1) * step + shape->head_dim) * codec_dtype_bytes(dtype);
}

/* Value (0, 0) in a buffer: with a negative stride, the first token is the last in memory. */
static uint8_t *first_value(const struct shape *shape, enum codec_dtype dtype, uint8_t *buffer)
{
	if (shape->stride >= 0)
		return buffer;
	return buffer + (ptrdiff_t)(shape->tokens - 1) * -shape->stride * codec_dtype_bytes(dtype);
}

static void source_fill(const struct shape *shape, enum codec_dtype dtype, enum pattern pattern,
			uint64_t *seed, uint8_t *buffer)
{
	uint8_t *first = first_value(shape, dtype, buffer);

	for (ptrdiff_t t = 0; t < shape->tokens; t++) {
		for (uint32_t c = 0; c < shape->head_dim; c++)
			value_put(first, dtype, t * shape->stride + c,
				  pattern_value(pattern, c, seed));
	}
}

static void tile_encode(const char *isa_name, const struct shape *shape, enum codec_dtype dtype,
			struct buffers *buffers, uint8_t *tile)
{
	const struct codec_isa *isa = codec_isa_get(isa_name);
	struct codec_fault fault = { 12345, 54321 };
	int r;

	r = codec_isa_encode(isa, shape->id, shape->role, shape->tokens, shape->head_dim,
			     first_value(shape, dtype, buffers->source.buffer), dtype,
			     shape->stride, tile, &fault);
	assert_int_equal(r, 0);
	assert_int_equal(fault.token, 12345);
	assert_int_equal(fault.channel, 54321);
}

static void tile_decode(const char *isa_name, const struct shape *shape, enum codec_dtype dtype,
			const uint8_t *tile, uint8_t *buffer)
{
	codec_isa_decode(codec_isa_get(isa_name), shape->id, shape->role, shape->tokens,
			 shape->head_dim, tile, first_value(shape, dtype, buffer), dtype,
			 shape->stride);
}

/* Bit by bit, but that any NaN equals any NaN; and that nothing was written between rows. */
static void check_target(const struct shape *shape, enum codec_dtype dtype, const uint8_t *expected,
			 const uint8_t *actual, size_t bytes)
{
	const size_t value_bytes = codec_dtype_bytes(dtype);

	if (memcmp(expected, actual, bytes) == 0)
		return;
	for (size_t i = 0; i < bytes / value_bytes; i++) {
		if (memcmp(expected + i * value_bytes, actual + i * value_bytes, value_bytes) == 0)
			continue;
		if (isnan(value_get(expected, dtype, (ptrdiff_t)i)) &&
		    isnan(value_get(actual, dtype, (ptrdiff_t)i)))
			continue;
		fail_msg("%s role %d, %u x %u, stride %td, type %d: value %zu is %a, not %a",
			 codec_name(shape->id), shape->role, shape->tokens, shape->head_dim,
			 shape->stride, dtype, i, (double)value_get(actual, dtype, (ptrdiff_t)i),
			 (double)value_get(expected, dtype, (ptrdiff_t)i));
	}
}

static void check_gaps(const struct shape *shape, enum codec_dtype dtype, const uint8_t *buffer)
{
	const size_t value_bytes = codec_dtype_bytes(dtype);
	const size_t step = (size_t)(shape->stride < 0 ? -shape->stride : shape->stride);

	for (uint32_t t = 0; t + 1 < shape->tokens; t++) {
		for (size_t b = shape->head_dim * value_bytes; b < step * value_bytes; b++)
			assert_int_equal(buffer[t * step * value_bytes + b], GUARD_FILL);
	}
}

/* Decodes the tile that lies in buffers->tile with every instruction set to every type. */
static void check_decode(const struct shape *shape, struct buffers *buffers)
{
	for (size_t d = 0; d < COUNT(dtypes); d++) {
		const enum codec_dtype dtype = dtypes[d];
		const size_t bytes = extent_bytes(shape, dtype);

		for (size_t i = 0; i < COUNT(isa_names); i++) {
			uint8_t *target;

			if (!codec_isa_get(isa_names[i]))
				continue;
			target = guarded_place(&buffers->target, bytes, shape->at_end);
			tile_decode(isa_names[i], shape, dtype, buffers->tile.buffer, target);
			guarded_check(&buffers->target);
			check_gaps(shape, dtype, target);
			if (i == 0)
				memcpy(buffers->expected_target, target, bytes);
			else
				check_target(shape, dtype, buffers->expected_target, target, bytes);
		}
	}
}

static void check_encode(const struct shape *shape, enum codec_dtype dtype, struct buffers *buffers)
{
	const size_t bytes =
		codec_tile_bytes(shape->id, shape->role, shape->tokens, shape->head_dim);

	memcpy(buffers->source_copy, buffers->source.buffer, buffers->source.bytes);
	for (size_t i = 0; i < COUNT(isa_names); i++) {
		uint8_t *tile;

		if (!codec_isa_get(isa_names[i]))
			continue;
		tile = guarded_place(&buffers->tile, bytes, shape->at_end);
		tile_encode(isa_names[i], shape, dtype, buffers, tile);
		guarded_check(&buffers->tile);
		guarded_check(&buffers->source);
		assert_memory_equal(buffers->source_copy, buffers->source.buffer,
				    buffers->source.bytes);
		if (i == 0)
			memcpy(buffers->expected_tile, tile, bytes);
		else if (memcmp(buffers->expected_tile, tile, bytes) != 0)
			fail_msg("%s: %s role %d, %u x %u, stride %td, type %d: another tile",
				 isa_names[i], codec_name(shape->id), shape->role, shape->tokens,
				 shape->head_dim, shape->stride, dtype);
	}
}

typedef void shape_fn(const struct shape *shape, unsigned turn, uint64_t *seed,
		      struct buffers *buffers);

/* Every codec, role and shape; strides and places take turns. */
static void each_shape(shape_fn *check, unsigned turns)
{
	struct buffers buffers;
	uint64_t seed = 3;
	unsigned turn = 0;

	buffers_init(&buffers);
	for (size_t n = 0; n < COUNT(codec_ids) * CODEC_ROLE_COUNT * COUNT(shape_tokens); n++) {
		for (size_t d = 0; d < COUNT(shape_dims); d++) {
			for (unsigned i = 0; i < turns; i++, turn++) {
				const ptrdiff_t dim = shape_dims[d];
				const ptrdiff_t strides[] = { dim, dim + 3, -dim, -dim - 8,
							      dim + 1 };
				const struct shape shape = {
					.id = codec_ids[n % COUNT(codec_ids)],
					.role = n / COUNT(codec_ids) % CODEC_ROLE_COUNT,
					.tokens = shape_tokens[n / COUNT(codec_ids) /
							       CODEC_ROLE_COUNT],
					.head_dim = shape_dims[d],
					.stride = strides[turn % COUNT(strides)],
					.at_end = turn % 4 != 0,
				};

				check(&shape, turn, &seed, &buffers);
			}
		}
	}
	buffers_deinit(&buffers);
}

static void encoded(const struct shape *shape, unsigned turn, uint64_t *seed,
		    struct buffers *buffers)
{
	const enum codec_dtype dtype = dtypes[turn / 7 % COUNT(dtypes)];
	enum pattern pattern = turn % PATTERN_COUNT;
	uint8_t *source =
		guarded_place(&buffers->source, extent_bytes(shape, dtype), shape->at_end);

	/* The bf16 next to 65504 is 65536, which most codecs refuse. */
	if (pattern == PATTERN_HUGE && dtype == CODEC_DTYPE_BF16)
		pattern = PATTERN_OUTLIERS;
	source_fill(shape, dtype, pattern, seed, source);
	check_encode(shape, dtype, buffers);
	check_decode(shape, buffers);
}

static void test_same_tiles_and_values(void **state)
{
	each_shape(encoded, 3);
}

static void garbage(const struct shape *shape, unsigned turn, uint64_t *seed,
		    struct buffers *buffers)
{
	const size_t bytes =
		codec_tile_bytes(shape->id, shape->role, shape->tokens, shape->head_dim);
	uint8_t *tile = guarded_place(&buffers->tile, bytes, shape->at_end);

	for (size_t i = 0; i < bytes; i++)
		tile[i] = (uint8_t)random_u64(seed);
	check_decode(shape, buffers);
	guarded_check(&buffers->tile);
}

static void test_garbage_tiles(void **state)
{
	each_shape(garbage, 1);
}

/* Any alignment of source, tile and destination. */
static void test_unaligned(void **state)
{
	static float values[16 * 72];
	uint8_t expected[16 * 72 * 4], source[16 * 72 * 4 + 64], tile[16 * 72 * 4 + 64];
	uint8_t decoded[16 * 72 * 4], target[16 * 72 * 4 + 64];
	uint64_t seed = 4;

	for (size_t i = 0; i < COUNT(values); i++)
		values[i] = random_gaussian(&seed);
	for (size_t n = 0; n < COUNT(isa_names) * COUNT(codec_ids) * CODEC_ROLE_COUNT * 7; n++) {
		const struct codec_isa *isa = codec_isa_get(isa_names[n % COUNT(isa_names)]);
		const enum codec_id id = codec_ids[n / COUNT(isa_names) % COUNT(codec_ids)];
		const size_t turn = n / COUNT(isa_names) / COUNT(codec_ids);
		const enum codec_role role = turn % CODEC_ROLE_COUNT;
		const size_t shift = turn / CODEC_ROLE_COUNT + 1;
		const size_t bytes = codec_tile_bytes(id, role, 16, 72);

		if (!isa)
			continue;
		codec_encode(id, role, 16, 72, values, CODEC_DTYPE_F32, 72, expected, NULL);
		codec_decode(id, role, 16, 72, expected, decoded, CODEC_DTYPE_F32, 72);
		memcpy(source + shift, values, sizeof(values));
		assert_int_equal(codec_isa_encode(isa, id, role, 16, 72, source + shift,
						  CODEC_DTYPE_F32, 72, tile + shift, NULL),
				 0);
		assert_memory_equal(tile + shift, expected, bytes);
		codec_isa_decode(isa, id, role, 16, 72, tile + shift, target + shift,
				 CODEC_DTYPE_F32, 72);
		assert_memory_equal(target + shift, decoded, sizeof(decoded));
	}
}

/* --- The choice ------------------------------------------------------------------------------ */

static const char *best_name(void)
{
	for (size_t i = COUNT(isa_names); i-- > 0;) {
		if (codec_isa_get(isa_names[i]))
			return isa_names[i];
	}
	fail();
	return NULL;
}

/* The choice is made once in a process, and each test has its own. */
static void check_choice(const char *wanted, const char *expected)
{
	if (wanted)
		setenv("KVC_ISA", wanted, 1);
	else
		unsetenv("KVC_ISA");
	assert_string_equal(codec_isa_name(), expected);
	setenv("KVC_ISA", "scalar", 1);
	assert_string_equal(codec_isa_name(), expected);
}

static void test_choice_automatic(void **state)
{
	check_choice(NULL, best_name());
}

static void test_choice_scalar(void **state)
{
	check_choice("scalar", "scalar");
}

static void test_choice_neon(void **state)
{
	check_choice("neon", codec_isa_get("neon") ? "neon" : best_name());
}

static void test_choice_avx2(void **state)
{
	check_choice("avx2", codec_isa_get("avx2") ? "avx2" : best_name());
}

static void test_choice_avx512(void **state)
{
	check_choice("avx512", codec_isa_get("avx512") ? "avx512" : best_name());
}

static void test_choice_unknown(void **state)
{
	assert_null(codec_isa_get("mmx"));
	assert_null(codec_isa_get(""));
	check_choice("mmx", best_name());
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_same_tiles_and_values),
	cmocka_unit_test(test_garbage_tiles),
	cmocka_unit_test(test_unaligned),
	cmocka_unit_test(test_choice_automatic),
	cmocka_unit_test(test_choice_scalar),
	cmocka_unit_test(test_choice_neon),
	cmocka_unit_test(test_choice_avx2),
	cmocka_unit_test(test_choice_avx512),
	cmocka_unit_test(test_choice_unknown),
};

int main(void)
{
	return harness_run(tests, COUNT(tests));
}
