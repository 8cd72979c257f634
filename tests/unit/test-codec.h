/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the codec tests share: the shapes, seeded data, values of any type, and buffers between two
 * pages that cannot be touched, so that one byte too far is a crash.
 */
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "codec/codec.h"
#include "codec/half.h"
#include "tests/lib/harness.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define VALUES_MAX (CODEC_TOKENS_MAX * CODEC_HEAD_DIM_MAX)

static const uint32_t shape_tokens[] = { 1, 2, 7, 128, 129, 256 };
static const uint32_t shape_dims[] = { 8, 16, 24, 64, 72, 96, 128, 248, 256 };
static const char *const isa_names[] = { "scalar", "neon", "avx2", "avx512" };
static const enum codec_id codec_ids[] = { CODEC_F32, CODEC_F16, CODEC_BF16,
					   CODEC_Q8,  CODEC_Q6,	 CODEC_Q5,
					   CODEC_Q4 };
static const enum codec_id grouped_ids[] = { CODEC_Q8, CODEC_Q6, CODEC_Q5, CODEC_Q4 };
static const enum codec_dtype dtypes[] = { CODEC_DTYPE_F32, CODEC_DTYPE_F16, CODEC_DTYPE_BF16 };

static inline unsigned bits_of(enum codec_id id)
{
	return id == CODEC_Q8 ? 8 : id == CODEC_Q6 ? 6 : id == CODEC_Q5 ? 5 : 4;
}

/* --- Random numbers -------------------------------------------------------------------------- */

static inline uint64_t random_u64(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* In (0, 1). */
static inline double random_unit(uint64_t *state)
{
	return ((double)(random_u64(state) >> 12) + 0.5) * 0x1p-52;
}

static inline float random_gaussian(uint64_t *state)
{
	const double radius = sqrt(-2 * log(random_unit(state)));

	return (float)(radius * cos(6.283185307179586 * random_unit(state)));
}

/* --- Data: one pattern to a number ----------------------------------------------------------- */

enum pattern {
	PATTERN_GAUSSIAN,
	PATTERN_HUGE,	   /* up to +-65504, both always there */
	PATTERN_TINY,	   /* around the smallest f16 */
	PATTERN_SUBNORMAL, /* f32 subnormals of both signs */
	PATTERN_EQUAL,	   /* one value that f16 does not have */
	PATTERN_ZEROS,	   /* +0 and -0 */
	PATTERN_EXPONENTS, /* every magnitude from 2^-30 to 2^15 */
	PATTERN_OUTLIERS,  /* a few channels a thousand times larger */
	PATTERN_STEPS,	   /* few distinct values, many ties when rounding */
	PATTERN_COUNT,
};

static inline float pattern_value(enum pattern pattern, uint32_t channel, uint64_t *state)
{
	const float gaussian = random_gaussian(state);
	const uint64_t bits = random_u64(state);

	switch (pattern) {
	case PATTERN_HUGE:
		return bits % 5 == 0   ? 65504.0f
		       : bits % 5 == 1 ? -65504.0f
				       : (float)(random_unit(state) * 131008 - 65504);
	case PATTERN_TINY:
		return gaussian * 0x1p-24f;
	case PATTERN_SUBNORMAL:
		return half_f32_of_bits((uint32_t)(bits & 0x807fffffu));
	case PATTERN_EQUAL:
		return 1.2345678f;
	case PATTERN_ZEROS:
		return bits & 1 ? -0.0f : 0.0f;
	case PATTERN_EXPONENTS:
		return ldexpf(bits & 1 ? 1.0f + (float)random_unit(state) : -1.5f,
			      (int)(bits / 2 % 45) - 30);
	case PATTERN_OUTLIERS:
		return channel % 11 == 3 ? gaussian * 300.0f + 900.0f : gaussian;
	case PATTERN_STEPS:
		return (float)(bits % 31) * 0.5f - 7.0f;
	default:
		return gaussian;
	}
}

/* --- Values of any type ---------------------------------------------------------------------- */

static inline float value_get(const void *values, enum codec_dtype dtype, ptrdiff_t index)
{
	const uint8_t *at = (const uint8_t *)values + index * (ptrdiff_t)codec_dtype_bytes(dtype);
	uint16_t half;
	float single;

	if (dtype == CODEC_DTYPE_F32) {
		memcpy(&single, at, sizeof(single));
		return single;
	}
	memcpy(&half, at, sizeof(half));
	return dtype == CODEC_DTYPE_F16 ? half_to_f32(half) : bf16_to_f32(half);
}

static inline void value_put(void *values, enum codec_dtype dtype, ptrdiff_t index, float value)
{
	uint8_t *at = (uint8_t *)values + index * (ptrdiff_t)codec_dtype_bytes(dtype);
	uint16_t half;

	if (dtype == CODEC_DTYPE_F32) {
		memcpy(at, &value, sizeof(value));
		return;
	}
	half = dtype == CODEC_DTYPE_F16 ? half_from_f32(value) : bf16_from_f32(value);
	memcpy(at, &half, sizeof(half));
}

/* --- Buffers between guard pages ------------------------------------------------------------- */

#define GUARD_FILL 0xa5
#define GUARD_MARGIN 256u /* bytes that are compared on the side that has no guard page */
#define GUARD_BYTES ((size_t)2 << 20)

struct guarded {
	uint8_t *start; /* GUARD_BYTES; the pages before and after cannot be touched */
	uint8_t *buffer;
	size_t bytes;
};

static inline void guarded_init(struct guarded *guarded)
{
	const size_t page = 65536; /* at least a page anywhere */
	uint8_t *map =
		mmap(NULL, GUARD_BYTES + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(mprotect(map + page, GUARD_BYTES, PROT_READ | PROT_WRITE), 0);
	*guarded = (struct guarded){ .start = map + page };
	memset(guarded->start, GUARD_FILL, GUARD_BYTES);
}

/* A buffer of @bytes that ends, or begins, at a guard page; filled with GUARD_FILL. */
static inline uint8_t *guarded_place(struct guarded *guarded, size_t bytes, bool at_end)
{
	assert_true(bytes + GUARD_MARGIN <= GUARD_BYTES);
	guarded->bytes = bytes;
	guarded->buffer = at_end ? guarded->start + GUARD_BYTES - bytes : guarded->start;
	memset(at_end ? guarded->buffer - GUARD_MARGIN : guarded->buffer, GUARD_FILL,
	       bytes + GUARD_MARGIN);
	return guarded->buffer;
}

/* The margin on the open side is as it was. */
static inline void guarded_check(const struct guarded *guarded)
{
	const uint8_t *margin = guarded->buffer == guarded->start ? guarded->buffer + guarded->bytes
								  : guarded->buffer - GUARD_MARGIN;

	for (size_t i = 0; i < GUARD_MARGIN; i++)
		assert_int_equal(margin[i], GUARD_FILL);
}
