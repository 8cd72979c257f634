/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arithmetic of grouped codecs, and what all their kernels share. The vector kernels do the
 * same f32 operations in the same order, lane by lane; that is why tiles are equal bit by bit.
 *
 *	min   = round_down_f16(smallest)           so that no value lies below it
 *	scale = round_up_f16((largest - min) / L)  L = 2^bits - 1; so that the largest code reaches
 *	                                           the largest value
 *	code  = rint((value - min) * (1 / scale))  0 when the scale is 0
 *	value = min + code * scale
 *
 * The product code * scale is exact in f32 (8 + 11 bits), so that a fused multiply-add gives the
 * same value as two operations.
 */
#pragma once

#include "codec/half.h"
#include "codec/kernel.h"

#define QUANT_GROUPS_MAX 256u

_Static_assert(QUANT_GROUPS_MAX >= CODEC_TOKENS_MAX && QUANT_GROUPS_MAX >= CODEC_HEAD_DIM_MAX,
	       "groups of both roles");

/* What decoding needs of the groups, as f32. */
struct quant_scales {
	_Alignas(64) float scale[QUANT_GROUPS_MAX];
	_Alignas(64) float min[QUANT_GROUPS_MAX];
};

/* What encoding needs of the groups. */
struct quant_steps {
	_Alignas(64) float inverse[QUANT_GROUPS_MAX]; /* 1 / scale, or 0 */
	_Alignas(64) float min[QUANT_GROUPS_MAX];
};

static inline float quant_code_max(unsigned bits)
{
	return (float)((1u << bits) - 1);
}

/*
 * The kernels of one codec in the table's form, from the functions that each quant-ISA.c has for
 * any number of bits: encode_k(), encode_v() and decode().
 */
#define QUANT_KERNELS(bits, isa)                                                                   \
	bool q##bits##_encode_k_##isa(const struct codec_layout *layout,                           \
				      const struct codec_source *src, uint8_t *tile)               \
	{                                                                                          \
		return encode_k(bits, layout, src, tile);                                          \
	}                                                                                          \
	bool q##bits##_encode_v_##isa(const struct codec_layout *layout,                           \
				      const struct codec_source *src, uint8_t *tile)               \
	{                                                                                          \
		return encode_v(bits, layout, src, tile);                                          \
	}                                                                                          \
	void q##bits##_decode_k_##isa(const struct codec_layout *layout, const uint8_t *tile,      \
				      const struct codec_target *dst)                              \
	{                                                                                          \
		decode(bits, CODEC_ROLE_K, layout, tile, dst);                                     \
	}                                                                                          \
	void q##bits##_decode_v_##isa(const struct codec_layout *layout, const uint8_t *tile,      \
				      const struct codec_target *dst)                              \
	{                                                                                          \
		decode(bits, CODEC_ROLE_V, layout, tile, dst);                                     \
	}
