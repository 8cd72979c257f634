/* SPDX-License-Identifier: Apache-2.0 */
/* f32, f16, bf16 with AVX2, by way of f32. */
#include "codec/raw.h"
#include "codec/vec-avx2.h"

/* All ones in lanes of which the magnitude is too large, or that are NaN. */
VEC_INLINE __m256 vec_refused(__m256 vector, __m256 magnitude_max)
{
	const __m256 magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), vector);

	return _mm256_cmp_ps(magnitude, magnitude_max, _CMP_NLE_UQ);
}

VEC_INLINE bool rows_encode_from(enum codec_dtype from, enum codec_dtype type,
				 const struct codec_layout *layout, const struct codec_source *src,
				 uint8_t *tile)
{
	const __m256 magnitude_max = _mm256_set1_ps(raw_magnitude_max(type));
	__m256 refused = _mm256_setzero_ps();

	for (uint32_t t = 0; t < layout->tokens; t++) {
		const uint8_t *in = source_row(src, t);
		uint8_t *out = tile_row(layout, tile, t);

		for (uint32_t c = 0; c < layout->head_dim; c += VEC_LANES) {
			const __m256 vector = vec_load(from, in + c * value_bytes(from));

			refused = _mm256_or_ps(refused, vec_refused(vector, magnitude_max));
			vec_store(type, out + c * value_bytes(type), vector);
		}
	}
	return !_mm256_movemask_ps(refused);
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

RAW_KERNELS(f32, CODEC_DTYPE_F32, avx2)
RAW_KERNELS(f16, CODEC_DTYPE_F16, avx2)
RAW_KERNELS(bf16, CODEC_DTYPE_BF16, avx2)
