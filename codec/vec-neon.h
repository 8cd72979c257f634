/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NEON as every aarch64 processor has it: values to and from f32, four at a time. head_dim is a
 * multiple of eight, so that rows have no tails. Loads and stores go by bytes: any alignment.
 */
#pragma once

#include <arm_neon.h>

#include "codec/kernel.h"

#define VEC_INLINE static inline __attribute__((always_inline))
#define VEC_LANES 4u

/* Rounds to nearest even in integers. NaN becomes quiet. */
VEC_INLINE uint16x4_t bf16_of(float32x4_t vector)
{
	const uint32x4_t bits = vreinterpretq_u32_f32(vector);
	const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
	const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
	const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));

	return vshrn_n_u32(vbslq_u32(vceqq_f32(vector, vector), rounded, quiet), 16);
}

VEC_INLINE float32x4_t vec_load(enum codec_dtype dtype, const uint8_t *values)
{
	if (dtype == CODEC_DTYPE_F32)
		return vreinterpretq_f32_u8(vld1q_u8(values));
	if (dtype == CODEC_DTYPE_F16)
		return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(values)));
	return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(values)), 16));
}

VEC_INLINE void vec_store(enum codec_dtype dtype, uint8_t *values, float32x4_t vector)
{
	if (dtype == CODEC_DTYPE_F32)
		vst1q_u8(values, vreinterpretq_u8_f32(vector));
	else if (dtype == CODEC_DTYPE_F16)
		vst1_u8(values, vreinterpret_u8_f16(vcvt_f16_f32(vector)));
	else
		vst1_u8(values, vreinterpret_u8_u16(bf16_of(vector)));
}

VEC_INLINE uint32_t value_bytes(enum codec_dtype dtype)
{
	return dtype == CODEC_DTYPE_F32 ? 4 : 2;
}

/* Four of eight integers as f32; half 0 has the first four. */
VEC_INLINE float32x4_t half_f32(uint16x8_t integers, unsigned half)
{
	return vcvtq_f32_u32(
		vmovl_u16(half ? vget_high_u16(integers) : vget_low_u16(integers)));
}
