/* SPDX-License-Identifier: Apache-2.0 */
/* f32, f16, bf16 with AVX-512, by way of f32. */
#include "codec/raw.h"
#include "codec/vec-avx512.h"

VEC_INLINE void row_convert(enum codec_dtype from, const uint8_t *in, enum codec_dtype to,
			    uint8_t *out, uint32_t count)
{
	uint32_t c = 0;

	for (; c + VEC_LANES <= count; c += VEC_LANES)
		vec_store(to, out + c * value_bytes(to), 0xffff,
			  vec_load(from, in + c * value_bytes(from), 0xffff));
	if (c < count)
		vec_store(to, out + c * value_bytes(to), 0xff,
			  vec_load(from, in + c * value_bytes(from), 0xff));
}

/* Lanes of which the magnitude is too large, or that are NaN. */
VEC_INLINE __mmask16 vec_refused(__m512 vector, __m512 magnitude_max)
{
	return _mm512_cmp_ps_mask(_mm512_abs_ps(vector), magnitude_max, _CMP_NLE_UQ);
}

VEC_INLINE bool rows_encode_from(enum codec_dtype from, enum codec_dtype type,
				 const struct codec_layout *layout, const struct codec_source *src,
				 uint8_t *tile)
{
	const __m512 magnitude_max = _mm512_set1_ps(raw_magnitude_max(type));
	__mmask16 refused = 0;

	for (uint32_t t = 0; t < layout->tokens; t++) {
		const uint8_t *in = source_row(src, t);
		uint8_t *out = tile_row(layout, tile, t);
		uint32_t c = 0;

		for (; c + VEC_LANES <= layout->head_dim; c += VEC_LANES) {
			const __m512 vector = vec_load(from, in + c * value_bytes(from), 0xffff);

			refused |= vec_refused(vector, magnitude_max);
			vec_store(type, out + c * value_bytes(type), 0xffff, vector);
		}
		if (c < layout->head_dim) {
			const __m512 vector = vec_load(from, in + c * value_bytes(from), 0xff);

			refused |= vec_refused(vector, magnitude_max);
			vec_store(type, out + c * value_bytes(type), 0xff, vector);
		}
	}
	return !refused;
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
	for (uint32_t t = 0; t < layout->tokens; t++)
		row_convert(type, tile_row_const(layout, tile, t), to, target_row(dst, t),
			    layout->head_dim);
}

VEC_INLINE void rows_decode(enum codec_dtype type, const struct codec_layout *layout,
			    const uint8_t *tile, const struct codec_target *dst)
{
	DTYPE_CONSTANT(dst->dtype, rows_decode_to, type, layout, tile, dst);
}

RAW_KERNELS(f32, CODEC_DTYPE_F32, avx512)
RAW_KERNELS(f16, CODEC_DTYPE_F16, avx512)
RAW_KERNELS(bf16, CODEC_DTYPE_BF16, avx512)
