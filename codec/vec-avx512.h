/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX-512: values to and from f32, sixteen at a time. A mask says which of the sixteen exist;
 * memory of the others is not touched, and their lanes read as 0.
 */
#pragma once

#include <immintrin.h>

#include "codec/kernel.h"

#define VEC_INLINE static inline __attribute__((always_inline))
#define VEC_LANES 16u
#define VEC_CHUNK 64u /* channels that a kernel takes at once: four vectors */

/* Lanes of vector @j of a chunk of which @count channels exist; constant when count is. */
VEC_INLINE __mmask16 chunk_lanes(uint32_t count, unsigned j)
{
	if (count >= VEC_LANES * (j + 1))
		return 0xffff;
	return count > VEC_LANES * j ? (__mmask16)((1u << (count - VEC_LANES * j)) - 1) : 0;
}

VEC_INLINE unsigned chunk_vectors(uint32_t count)
{
	return (count + VEC_LANES - 1) / VEC_LANES;
}

VEC_INLINE __m256i words_load(const uint8_t *words, __mmask16 lanes)
{
	if (__builtin_constant_p(lanes) && lanes == 0xffff)
		return _mm256_loadu_si256((const void *)words);
	return _mm256_maskz_loadu_epi16(lanes, words);
}

VEC_INLINE void words_store(uint8_t *words, __mmask16 lanes, __m256i vector)
{
	if (__builtin_constant_p(lanes) && lanes == 0xffff)
		_mm256_storeu_si256((void *)words, vector);
	else
		_mm256_mask_storeu_epi16(words, lanes, vector);
}

/*
 * Rounds to nearest even in integers: AVX512_BF16's own conversion would flush subnormals. NaN
 * becomes quiet.
 */
VEC_INLINE __m256i bf16_of(__m512 vector)
{
	const __m512i bits = _mm512_castps_si512(vector);
	const __m512i high = _mm512_srli_epi32(bits, 16);
	const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
	const __m512i rounded =
		_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
	const __mmask16 nan = _mm512_cmp_ps_mask(vector, vector, _CMP_UNORD_Q);
	const __m512i quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));

	return _mm512_cvtepi32_epi16(
		_mm512_mask_mov_epi32(_mm512_srli_epi32(rounded, 16), nan, quiet));
}

VEC_INLINE __m512 vec_load(enum codec_dtype dtype, const uint8_t *values, __mmask16 lanes)
{
	if (dtype == CODEC_DTYPE_F32) {
		if (__builtin_constant_p(lanes) && lanes == 0xffff)
			return _mm512_loadu_ps(values);
		return _mm512_maskz_loadu_ps(lanes, values);
	}
	const __m256i words = words_load(values, lanes);

	if (dtype == CODEC_DTYPE_F16)
		return _mm512_cvtph_ps(words);
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16));
}

VEC_INLINE void vec_store(enum codec_dtype dtype, uint8_t *values, __mmask16 lanes, __m512 vector)
{
	if (dtype == CODEC_DTYPE_F32) {
		if (__builtin_constant_p(lanes) && lanes == 0xffff)
			_mm512_storeu_ps(values, vector);
		else
			_mm512_mask_storeu_ps(values, lanes, vector);
	} else if (dtype == CODEC_DTYPE_F16) {
		words_store(values, lanes,
			    _mm512_cvtps_ph(vector, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
	} else {
		words_store(values, lanes, bf16_of(vector));
	}
}

VEC_INLINE uint32_t value_bytes(enum codec_dtype dtype)
{
	return dtype == CODEC_DTYPE_F32 ? 4 : 2;
}
