/* SPDX-License-Identifier: Apache-2.0 */
/*
 * q8, q6, q5, q4 with NEON, eight channels at a time. Everything is inlined into one kernel per
 * codec, role and type, so that bits, role and types are constants.
 */
#include "codec/codes-neon.h"
#include "codec/group-neon.h"

#define CODES_VECTOR 8u /* codes that are packed together */

/* Four codes, within their bits; the conversion rounds to nearest even, and makes negatives 0. */
VEC_INLINE uint16x4_t codes_of(float32x4_t values, float32x4_t min, float32x4_t inverse,
			       unsigned bits)
{
	const uint32x4_t steps = vcvtnq_u32_f32(vmulq_f32(vsubq_f32(values, min), inverse));

	return vmovn_u32(vminq_u32(steps, vdupq_n_u32((1u << bits) - 1)));
}

VEC_INLINE void row_encode(enum codec_dtype dtype, unsigned bits, enum codec_role role,
			   const struct codec_layout *layout, const struct codec_source *src,
			   uint32_t token, const struct quant_steps *steps, uint8_t *tile)
{
	const uint8_t *values = source_row(src, token);
	uint8_t *row = tile_row(layout, tile, token);

	for (uint32_t c = 0; c < layout->head_dim; c += CODES_VECTOR) {
		uint16x4_t codes[2];

#pragma GCC unroll 2
		for (unsigned j = 0; j < 2; j++) {
			const uint32_t channel = c + VEC_LANES * j;
			const float32x4_t value =
				vec_load(dtype, values + (size_t)channel * value_bytes(dtype));
			const float32x4_t min = role == CODEC_ROLE_K
							? vld1q_f32(&steps->min[channel])
							: vdupq_n_f32(steps->min[token]);
			const float32x4_t inverse = role == CODEC_ROLE_K
							    ? vld1q_f32(&steps->inverse[channel])
							    : vdupq_n_f32(steps->inverse[token]);

			codes[j] = codes_of(value, min, inverse, bits);
		}
		codes_store(bits, vcombine_u16(codes[0], codes[1]), row + c / 8 * bits);
	}
}

VEC_INLINE bool encode_k_from(enum codec_dtype dtype, unsigned bits,
			      const struct codec_layout *layout, const struct codec_source *src,
			      uint8_t *tile)
{
	struct quant_steps steps;

	if (!channels_close(dtype, quant_code_max(bits), layout, src, tile, &steps))
		return false;
	for (uint32_t t = 0; t < layout->tokens; t++)
		row_encode(dtype, bits, CODEC_ROLE_K, layout, src, t, &steps, tile);
	return true;
}

VEC_INLINE bool encode_v_from(enum codec_dtype dtype, unsigned bits,
			      const struct codec_layout *layout, const struct codec_source *src,
			      uint8_t *tile)
{
	struct quant_steps steps;

	for (uint32_t t = 0; t < layout->tokens; t++) {
		const struct range range = token_range(dtype, src, t, 0, layout->head_dim);

		if (!group_close(layout, &range, quant_code_max(bits), t, tile, &steps))
			return false;
		row_encode(dtype, bits, CODEC_ROLE_V, layout, src, t, &steps, tile);
	}
	return true;
}

VEC_INLINE void decode_to(enum codec_dtype dtype, unsigned bits, enum codec_role role,
			  const struct codec_layout *layout, const uint8_t *tile,
			  const struct codec_target *dst)
{
	struct quant_scales scales;

	scales_load(layout, tile, &scales);
	for (uint32_t t = 0; t < layout->tokens; t++) {
		const uint8_t *row = tile_row_const(layout, tile, t);
		uint8_t *values = target_row(dst, t);

		for (uint32_t c = 0; c < layout->head_dim; c += CODES_VECTOR) {
			const uint16x8_t codes = codes_load(bits, row + c / 8 * bits);

#pragma GCC unroll 2
			for (unsigned j = 0; j < 2; j++) {
				const uint32_t channel = c + VEC_LANES * j;
				const float32x4_t scale =
					role == CODEC_ROLE_K ? vld1q_f32(&scales.scale[channel])
							     : vdupq_n_f32(scales.scale[t]);
				const float32x4_t min = role == CODEC_ROLE_K
								? vld1q_f32(&scales.min[channel])
								: vdupq_n_f32(scales.min[t]);

				vec_store(dtype, values + (size_t)channel * value_bytes(dtype),
					  vfmaq_f32(min, half_f32(codes, j), scale));
			}
		}
	}
}

VEC_INLINE bool encode_k(unsigned bits, const struct codec_layout *layout,
			 const struct codec_source *src, uint8_t *tile)
{
	return DTYPE_CONSTANT(src->dtype, encode_k_from, bits, layout, src, tile);
}

VEC_INLINE bool encode_v(unsigned bits, const struct codec_layout *layout,
			 const struct codec_source *src, uint8_t *tile)
{
	return DTYPE_CONSTANT(src->dtype, encode_v_from, bits, layout, src, tile);
}

VEC_INLINE void decode(unsigned bits, enum codec_role role, const struct codec_layout *layout,
		       const uint8_t *tile, const struct codec_target *dst)
{
	DTYPE_CONSTANT(dst->dtype, decode_to, bits, role, layout, tile, dst);
}

QUANT_KERNELS(8, neon)
QUANT_KERNELS(6, neon)
QUANT_KERNELS(5, neon)
QUANT_KERNELS(4, neon)
