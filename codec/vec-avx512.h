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

VEC_INLINE uint32_t value_bytes(enum codec_dtype dtype)
{
	return dtype == CODEC_DTYPE_F32 ? 4 : 2;
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
 * Thirty-two values as bf16, rounded to nearest even in integers: AVX512_BF16's own conversion
 * would flush subnormals, and not every processor with VBMI has it. NaN stays NaN only when its payload is
 * zero; others could be rounded into infinity or zero.
 */
VEC_INLINE __m512i bf16_of_numbers(__m512 first, __m512 second)
{
	const __m512i low_words = _mm512_set_epi16(
		62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28, 26, 24, 22,
		20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
	const __m512i high_words = _mm512_or_si512(low_words, _mm512_set1_epi16(1));
	const __m512i bits[2] = { _mm512_castps_si512(first), _mm512_castps_si512(second) };
	const __m512i low = _mm512_permutex2var_epi16(bits[0], low_words, bits[1]);
	const __m512i high = _mm512_permutex2var_epi16(bits[0], high_words, bits[1]);
	/* (high & 1) | 0x7ffe, as a truth table of three inputs. */
	const __m512i half = _mm512_ternarylogic_epi32(high, _mm512_set1_epi16(1),
						       _mm512_set1_epi16(0x7ffe), 0xea);
	/*
	 * The average is (low + half + 1) >> 1, computed in 17 bits: its highest bit is the carry of
	 * low + 0x7fff + (high & 1), which is what rounding adds to the high word.
	 */
	const __m512i carry = _mm512_srli_epi16(_mm512_avg_epu16(low, half), 15);

	return _mm512_add_epi16(high, carry);
}

/* As above; any NaN becomes a quiet NaN. */
VEC_INLINE __m512i bf16_of_any(__m512 first, __m512 second)
{
	const __m512 quiet = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000));
	const __mmask16 first_nan = _mm512_cmp_ps_mask(first, first, _CMP_UNORD_Q);
	const __mmask16 second_nan = _mm512_cmp_ps_mask(second, second, _CMP_UNORD_Q);

	return bf16_of_numbers(_mm512_mask_mov_ps(first, first_nan, quiet),
			       _mm512_mask_mov_ps(second, second_nan, quiet));
}

VEC_INLINE __m256i bf16_of(__m512 vector)
{
	return _mm512_castsi512_si256(bf16_of_any(vector, vector));
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

/*
 * @count values, as far as they exist, of a chunk whose NaNs have no payload. A full chunk is
 * stored in whole cache lines when the rows are aligned.
 */
VEC_INLINE void chunk_store(enum codec_dtype dtype, uint8_t *values, uint32_t count,
			    const __m512 vectors[4])
{
	if (dtype == CODEC_DTYPE_BF16 && count == VEC_CHUNK) {
		_mm512_storeu_si512(values, bf16_of_numbers(vectors[0], vectors[1]));
		_mm512_storeu_si512(values + 64, bf16_of_numbers(vectors[2], vectors[3]));
		return;
	}
#pragma GCC unroll 4
	for (unsigned j = 0; j < chunk_vectors(count); j++)
		vec_store(dtype, values + (size_t)VEC_LANES * j * value_bytes(dtype),
			  chunk_lanes(count, j), vectors[j]);
}
