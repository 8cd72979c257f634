/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels for AVX2 with FMA and F16C: the vector of 16 is a pair of registers. */
#include "client/worker/dot.h"

#include <immintrin.h>

typedef struct {
	__m256 lo;
	__m256 hi;
} v16;

/* Applies one intrinsic to both halves of one, two or three vectors. */
#define BOTH1(fn, a) ((v16){ fn((a).lo), fn((a).hi) })
#define BOTH2(fn, a, b) ((v16){ fn((a).lo, (b).lo), fn((a).hi, (b).hi) })
#define BOTH3(fn, a, b, c) ((v16){ fn((a).lo, (b).lo, (c).lo), fn((a).hi, (b).hi, (c).hi) })

static inline v16 v16_zero(void)
{
	return (v16){ _mm256_setzero_ps(), _mm256_setzero_ps() };
}

static inline v16 v16_set1(float x)
{
	return (v16){ _mm256_set1_ps(x), _mm256_set1_ps(x) };
}

static inline v16 v16_load(const float *p)
{
	return (v16){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) };
}

static inline void v16_store(float *p, v16 a)
{
	_mm256_storeu_ps(p, a.lo);
	_mm256_storeu_ps(p + 8, a.hi);
}

static inline v16 v16_add(v16 a, v16 b)
{
	return BOTH2(_mm256_add_ps, a, b);
}

static inline v16 v16_sub(v16 a, v16 b)
{
	return BOTH2(_mm256_sub_ps, a, b);
}

static inline v16 v16_mul(v16 a, v16 b)
{
	return BOTH2(_mm256_mul_ps, a, b);
}

static inline v16 v16_div(v16 a, v16 b)
{
	return BOTH2(_mm256_div_ps, a, b);
}

static inline v16 v16_fma(v16 a, v16 b, v16 c)
{
	return BOTH3(_mm256_fmadd_ps, a, b, c);
}

static inline v16 v16_max(v16 a, v16 b)
{
	return BOTH2(_mm256_max_ps, a, b);
}

static inline __m256 round_half(__m256 a)
{
	return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline v16 v16_round(v16 a)
{
	return BOTH1(round_half, a);
}

static inline __m256 pow2_half(__m256 n)
{
	__m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));

	return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}

static inline v16 v16_pow2(v16 n)
{
	return BOTH1(pow2_half, n);
}

static inline float fold_quarter(__m128 a)
{
	a = _mm_add_ps(a, _mm_movehl_ps(a, a));
	return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}

static inline float v16_fold_sum(v16 a)
{
	__m256 half = _mm256_add_ps(a.lo, a.hi);

	return fold_quarter(_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}

static inline v16 v16_from_f16(const void *p)
{
	const __m128i *half = p;

	return (v16){ _mm256_cvtph_ps(_mm_loadu_si128(half)),
		      _mm256_cvtph_ps(_mm_loadu_si128(half + 1)) };
}

/* 16 signed bytes; codes 0..15 count as signed too. */
static inline v16 from_bytes(__m128i bytes)
{
	return (v16){ _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
		      _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))) };
}

static inline v16 v16_from_i8(const void *p)
{
	return from_bytes(_mm_loadu_si128(p));
}

static inline v16 v16_from_low_nibbles(const void *p)
{
	return from_bytes(_mm_and_si128(_mm_loadu_si128(p), _mm_set1_epi8(15)));
}

static inline v16 v16_from_high_nibbles(const void *p)
{
	return from_bytes(_mm_and_si128(_mm_srli_epi16(_mm_loadu_si128(p), 4), _mm_set1_epi8(15)));
}

#define TILE_ROWS 2
#define TILE_VECTORS 2
#define KERNELS dot_kernels_avx2
#define KERNELS_NAME "avx2"
#include "client/worker/dot-template.h"
