/* SPDX-License-Identifier: Apache-2.0 */
/* f32, f16, bf16 with NEON, by way of f32. */
#include "codec/raw.h"
#include "codec/vec-neon.h"

VEC_INLINE bool rows_encode_from(enum codec_dtype from, enum codec_dtype type,
				 const struct codec_layout *layout, const struct codec_source *src,
				 uint8_t *tile)
{
	const float32x4_t magnitude_max = vdupq_n_f32(raw_magnitude_max(type));
	uint32x4_t accepted = vdupq_n_u32(UINT32_MAX); /* false for NaN too */

	for (uint32_t t = 0; t < layout->tokens; t++) {
		const uint8_t *in = source_row(src, t);
		uint8_t *out = tile_row(layout, tile, t);

		for (uint32_t c = 0; c < layout->head_dim; c += VEC_LANES) {
			const float32x4_t vector = vec_load(from, in + c * value_bytes(from));

			accepted = vandq_u32(accepted, vcaleq_f32(vector, magnitude_max));
			vec_store(type, out + c * value_bytes(type), vector);
		}
	}
	return vminvq_u32(accepted) != 0;
}

VEC_INLINE bool rows_encode(enum codec_dtype type, const struct codec_layout *layout,
			    const struct codec_source *src, uint8_t *tile)
{
	return DTYPE_CONSTANT(src->dtype, rows_encode_from, type, layout, src, tile);
}

VEC_INLINE void rows_decode_to(enum codec_dtype to, enum codec_dtype type,
			       const struct codec_layout *layout, const uint8_t *tile,
			       const struct codec_target *dst)
{
	for (uint32_t t = 0; t < layout->tokens; t++) {
		const uint8_t *in = tile_row_const(layout, tile, t);
		uint8_t *out = target_row(dst, t);

		for (uint32_t c = 0; c < layout->head_dim; c += VEC_LANES)
			vec_store(to, out + c * value_bytes(to),
				  vec_load(type, in + c * value_bytes(type)));
	}
}

VEC_INLINE void rows_decode(enum codec_dtype type, const struct codec_layout *layout,
			    const uint8_t *tile, const struct codec_target *dst)
{
	DTYPE_CONSTANT(dst->dtype, rows_decode_to, type, layout, tile, dst);
}

RAW_KERNELS(f32, CODEC_DTYPE_F32, neon)
RAW_KERNELS(f16, CODEC_DTYPE_F16, neon)
RAW_KERNELS(bf16, CODEC_DTYPE_BF16, neon)
