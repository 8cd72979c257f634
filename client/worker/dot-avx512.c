/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels for AVX-512 F, BW, DQ and VL: one register is the vector of 16. */
#include "client/worker/dot.h"

#include <immintrin.h>

typedef __m512 v16;

static inline v16 v16_zero(void)
{
	return _mm512_setzero_ps();
}

static inline v16 v16_set1(float x)
{
	return _mm512_set1_ps(x);
}

static inline v16 v16_load(const float *p)
{
	return _mm512_loadu_ps(p);
}

static inline void v16_store(float *p, v16 a)
{
	_mm512_storeu_ps(p, a);
}

static inline v16 v16_add(v16 a, v16 b)
{
	return _mm512_add_ps(a, b);
}

static inline v16 v16_sub(v16 a, v16 b)
{
	return _mm512_sub_ps(a, b);
}

static inline v16 v16_mul(v16 a, v16 b)
{
	return _mm512_mul_ps(a, b);
}

static inline v16 v16_div(v16 a, v16 b)
{
	return _mm512_div_ps(a, b);
}

static inline v16 v16_fma(v16 a, v16 b, v16 c)
{
	return _mm512_fmadd_ps(a, b, c);
}

static inline v16 v16_max(v16 a, v16 b)
{
	return _mm512_max_ps(a, b);
}

static inline v16 v16_round(v16 a)
{
	return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline v16 v16_pow2(v16 n)
{
	__m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));

	return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}

static inline float fold_quarter(__m128 a)
{
	a = _mm_add_ps(a, _mm_movehl_ps(a, a));
	return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}

static inline float v16_fold_sum(v16 a)
{
	__m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));

	return fold_quarter(_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}

static inline v16 v16_from_f16(const void *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

static inline v16 v16_from_i8(const void *p)
{
	return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
}

static inline v16 v16_from_low_nibbles(const void *p)
{
	__m128i low = _mm_and_si128(_mm_loadu_si128(p), _mm_set1_epi8(15));

	return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(low));
}

static inline v16 v16_from_high_nibbles(const void *p)
{
	__m128i high = _mm_and_si128(_mm_srli_epi16(_mm_loadu_si128(p), 4), _mm_set1_epi8(15));

	return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(high));
}

#define TILE_ROWS 6
#define TILE_VECTORS 4
#define KERNELS dot_kernels_avx512
#define KERNELS_NAME "avx512"
#include "client/worker/dot-template.h"
