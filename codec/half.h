/* SPDX-License-Identifier: Apache-2.0 */
/*
 * f16 (IEEE binary16) and bf16 in plain integer arithmetic: the same results on every processor,
 * whatever its denormals-are-zero setting. NaN stays NaN (made quiet, as the hardware conversions
 * do), subnormals are kept.
 */
#pragma once

#include <stdint.h>
#include <string.h>

#define HALF_MAX 65504.0f     /* the largest finite f16 */
#define BF16_MAX 0x1.fep+127f /* the largest finite bf16 */

enum half_rounding {
	HALF_NEAREST, /* ties to even */
	HALF_DOWN,    /* toward minus infinity */
	HALF_UP,      /* toward plus infinity */
};

static inline uint32_t half_f32_bits(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof bits);
	return bits;
}

static inline float half_f32_of_bits(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof value);
	return value;
}

/* Exact. */
static inline float half_to_f32(uint16_t half)
{
	const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
	const uint32_t magnitude = half & 0x7fffu;

	if (magnitude > 0x7c00u)
		return half_f32_of_bits(sign | 0x7fc00000u | magnitude << 13);
	if (magnitude == 0x7c00u)
		return half_f32_of_bits(sign | 0x7f800000u);
	if (magnitude >= 0x0400u)
		return half_f32_of_bits(sign | ((magnitude << 13) + 0x38000000u));
	/* A subnormal is the fraction of a number in [2^-14, 2^-13), less 2^-14: no f32 subnormal
	 * occurs on the way. */
	const float value = half_f32_of_bits(0x38800000u | magnitude << 13) - 0x1p-14f;

	return half_f32_of_bits(sign | half_f32_bits(value));
}

/*
 * Rounds to f16. Beyond the range: infinity, or the largest finite number of that sign where the
 * rounding points inward.
 */
static inline uint16_t half_from_f32_rounded(float value, enum half_rounding rounding)
{
	const uint32_t bits = half_f32_bits(value);
	const uint32_t magnitude = bits & 0x7fffffffu;
	const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
	uint32_t cut, rest, tie; /* the result toward zero; what was cut off, and what half a step
				    is, in the same unit */

	if (magnitude > 0x7f800000u)
		return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x1ffu));
	if (magnitude == 0x7f800000u)
		return (uint16_t)(sign | 0x7c00u);
	if (magnitude >= 0x47800000u) { /* 65536 and more */
		cut = 0x7bffu;
		rest = 2;
		tie = 1;
	} else if (magnitude >= 0x38800000u) { /* normal in f16 */
		cut = (magnitude - 0x38000000u) >> 13;
		rest = magnitude & 0x1fffu;
		tie = 0x1000u;
	} else if (magnitude >= 0x33000000u) { /* 2^-25 and more */
		const uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u;
		const uint32_t shift = 126 - (magnitude >> 23);

		cut = significand >> shift;
		rest = significand & ((1u << shift) - 1);
		tie = 1u << (shift - 1);
	} else {
		cut = 0;
		rest = magnitude ? 1 : 0;
		tie = 2;
	}

	if (rounding == HALF_NEAREST)
		cut += rest > tie || (rest == tie && (cut & 1));
	else if (rounding == (sign ? HALF_DOWN : HALF_UP))
		cut += rest > 0;
	return (uint16_t)(sign | cut);
}

static inline uint16_t half_from_f32(float value)
{
	return half_from_f32_rounded(value, HALF_NEAREST);
}

/* Exact. */
static inline float bf16_to_f32(uint16_t bf16)
{
	return half_f32_of_bits((uint32_t)bf16 << 16);
}

/* Rounds to nearest, ties to even; beyond the range: infinity. */
static inline uint16_t bf16_from_f32(float value)
{
	const uint32_t bits = half_f32_bits(value);

	if ((bits & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t)(bits >> 16 | 0x40u);
	return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
