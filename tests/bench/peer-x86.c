/* SPDX-License-Identifier: Apache-2.0 */
/* AVX-512, AVX2 with FMA and F16C, or what every x86-64 has; chosen at each call. */
#include "tests/bench/peer.h"

#include "codec/half.h"
#include "tests/bench/peer-read.h"

#include <immintrin.h>
#include <stdbool.h>

#define TARGET_AVX512 __attribute__((target("avx512f")))
#define TARGET_AVX2 __attribute__((target("avx2,fma,f16c")))

/* --- Reading ---------------------------------------------------------------------------------- */

TARGET_AVX512 static uint64_t read_avx512(const uint8_t *bytes, size_t n)
{
	return read_bytes(bytes, n);
}

TARGET_AVX2 static uint64_t read_avx2(const uint8_t *bytes, size_t n)
{
	return read_bytes(bytes, n);
}

uint64_t peer_read(const void *bytes, size_t n)
{
	if (__builtin_cpu_supports("avx512f"))
		return read_avx512(bytes, n);
	if (__builtin_cpu_supports("avx2"))
		return read_avx2(bytes, n);
	return read_bytes(bytes, n);
}

/* --- The product ------------------------------------------------------------------------------ */

#define ROWS_AVX512 16
#define ROWS_AVX2 8

/* The sums over the lanes of each of 16 vectors, in the order of the vectors. */
TARGET_AVX512 static __m512 sum_lanes_avx512(__m512 sums[ROWS_AVX512])
{
	for (unsigned i = 0; i < 8; i++)
		sums[i] = _mm512_add_ps(_mm512_unpacklo_ps(sums[2 * i], sums[2 * i + 1]),
					_mm512_unpackhi_ps(sums[2 * i], sums[2 * i + 1]));
	for (unsigned i = 0; i < 4; i++)
		sums[i] = _mm512_add_ps(_mm512_shuffle_ps(sums[2 * i], sums[2 * i + 1], 0x44),
					_mm512_shuffle_ps(sums[2 * i], sums[2 * i + 1], 0xee));
	for (unsigned i = 0; i < 2; i++)
		sums[i] = _mm512_add_ps(_mm512_shuffle_f32x4(sums[2 * i], sums[2 * i + 1], 0x88),
					_mm512_shuffle_f32x4(sums[2 * i], sums[2 * i + 1], 0xdd));
	return _mm512_add_ps(_mm512_shuffle_f32x4(sums[0], sums[1], 0x88),
			     _mm512_shuffle_f32x4(sums[0], sums[1], 0xdd));
}

/* Likewise of 8. */
TARGET_AVX2 static __m256 sum_lanes_avx2(__m256 sums[ROWS_AVX2])
{
	for (unsigned i = 0; i < 4; i++)
		sums[i] = _mm256_add_ps(_mm256_unpacklo_ps(sums[2 * i], sums[2 * i + 1]),
					_mm256_unpackhi_ps(sums[2 * i], sums[2 * i + 1]));
	for (unsigned i = 0; i < 2; i++)
		sums[i] = _mm256_add_ps(_mm256_shuffle_ps(sums[2 * i], sums[2 * i + 1], 0x44),
					_mm256_shuffle_ps(sums[2 * i], sums[2 * i + 1], 0xee));
	return _mm256_add_ps(_mm256_permute2f128_ps(sums[0], sums[1], 0x20),
			     _mm256_permute2f128_ps(sums[0], sums[1], 0x31));
}

/* Row by row, as they lie: the prefetcher does not follow sixteen rows at a time. */
TARGET_AVX512 static void rows_avx512(const uint16_t *rows, size_t head_dim, const float *query,
				      float *scores)
{
	__m512 sums[ROWS_AVX512];

	for (unsigned t = 0; t < ROWS_AVX512; t++) {
		const uint16_t *row = rows + t * head_dim;

		sums[t] = _mm512_setzero_ps();
		for (size_t c = 0; c < head_dim; c += 16) {
			const __m256i halves = _mm256_loadu_si256((const __m256i *)(row + c));

			sums[t] = _mm512_fmadd_ps(_mm512_cvtph_ps(halves), _mm512_loadu_ps(query + c),
						  sums[t]);
		}
	}
	_mm512_storeu_ps(scores, sum_lanes_avx512(sums));
}

TARGET_AVX2 static void rows_avx2(const uint16_t *rows, size_t head_dim, const float *query,
				  float *scores)
{
	__m256 sums[ROWS_AVX2];

	for (unsigned t = 0; t < ROWS_AVX2; t++) {
		const uint16_t *row = rows + t * head_dim;

		sums[t] = _mm256_setzero_ps();
		for (size_t c = 0; c < head_dim; c += 8) {
			const __m128i halves = _mm_loadu_si128((const __m128i *)(row + c));

			sums[t] = _mm256_fmadd_ps(_mm256_cvtph_ps(halves), _mm256_loadu_ps(query + c),
						  sums[t]);
		}
	}
	_mm256_storeu_ps(scores, sum_lanes_avx2(sums));
}

static float row_plain(const uint16_t *row, size_t head_dim, const float *query)
{
	float sum = 0;

	for (size_t c = 0; c < head_dim; c++)
		sum += half_to_f32(row[c]) * query[c];
	return sum;
}

void peer_f16_dot(const void *rows, size_t tokens, size_t head_dim, const float *query,
		  float *scores)
{
	const uint16_t *halves = rows;
	const bool avx512 = __builtin_cpu_supports("avx512f");
	const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");

	for (size_t t = 0; avx512 && t < tokens; t += ROWS_AVX512)
		rows_avx512(halves + t * head_dim, head_dim, query, scores + t);
	for (size_t t = 0; avx2 && !avx512 && t < tokens; t += ROWS_AVX2)
		rows_avx2(halves + t * head_dim, head_dim, query, scores + t);
	for (size_t t = 0; !avx2 && !avx512 && t < tokens; t++)
		scores[t] = row_plain(halves + t * head_dim, head_dim, query);
}
