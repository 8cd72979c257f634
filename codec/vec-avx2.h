/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX2 with F16C: values to and from f32, eight at a time. head_dim is a multiple of eight, so that
 * no tails exist.
 */
#pragma once

#include <immintrin.h>

#include "codec/kernel.h"

#define VEC_INLINE static inline __attribute__((always_inline))
#define VEC_LANES 8u
#define VEC_CHUNK 32u /* channels that a kernel takes at once: four vectors */

VEC_INLINE uint32_t value_bytes(enum codec_dtype dtype)
{
	return dtype == CODEC_DTYPE_F32 ? 4 : 2;
}

/*
 * The words of bf16, in dwords, rounded to nearest even in integers. NaN stays NaN only when its
 * payload is zero; others could be rounded into infinity or zero.
 */
VEC_INLINE __m256i bf16_words_of_numbers(__m256 vector)
{
	const __m256i bits = _mm256_castps_si256(vector);
	const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
	const __m256i rounded =
		_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);

	return _mm256_srli_epi32(rounded, 16);
}

/* Any NaN becomes a quiet NaN. */
VEC_INLINE __m128i bf16_of(__m256 vector)
{
	const __m256 quiet = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));
	const __m256 nan = _mm256_cmp_ps(vector, vector, _CMP_UNORD_Q);
	const __m256i words = bf16_words_of_numbers(_mm256_blendv_ps(vector, quiet, nan));

	return _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

/* Sixteen values, of which NaNs have no payload. */
VEC_INLINE __m256i bf16_of_numbers(__m256 first, __m256 second)
{
	const __m256i words = _mm256_packus_epi32(bf16_words_of_numbers(first),
						  bf16_words_of_numbers(second));

	return _mm256_permute4x64_epi64(words, 0xd8); /* the pack works within 128-bit lanes */
}

VEC_INLINE __m256 vec_load(enum codec_dtype dtype, const uint8_t *values)
{
	if (dtype == CODEC_DTYPE_F32)
		return _mm256_loadu_ps((const void *)values);
	const __m128i words = _mm_loadu_si128((const void *)values);

	if (dtype == CODEC_DTYPE_F16)
		return _mm256_cvtph_ps(words);
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16));
}

VEC_INLINE void vec_store(enum codec_dtype dtype, uint8_t *values, __m256 vector)
{
	if (dtype == CODEC_DTYPE_F32)
		_mm256_storeu_ps((void *)values, vector);
	else if (dtype == CODEC_DTYPE_F16)
		_mm_storeu_si128(
			(void *)values,
			_mm256_cvtps_ph(vector, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
	else
		_mm_storeu_si128((void *)values, bf16_of(vector));
}

/* Four vectors whose NaNs have no payload. */
VEC_INLINE void chunk_store(enum codec_dtype dtype, uint8_t *values, const __m256 vectors[4])
{
	if (dtype == CODEC_DTYPE_BF16) {
		_mm256_storeu_si256((void *)values, bf16_of_numbers(vectors[0], vectors[1]));
		_mm256_storeu_si256((void *)(values + 32),
				    bf16_of_numbers(vectors[2], vectors[3]));
		return;
	}
#pragma GCC unroll 4
	for (unsigned j = 0; j < 4; j++)
		vec_store(dtype, values + (size_t)VEC_LANES * j * value_bytes(dtype), vectors[j]);
}
