/* SPDX-License-Identifier: Apache-2.0 */
/* AVX2: eight codes, which are @bits bytes, between their packed form and eight integers. */
#pragma once

#include <immintrin.h>
#include <string.h>

#include "codec/vec-avx2.h"

/*
 * Reads eight bytes for six-bit codes, of which the last two are the next codes or, after the last
 * row, scales: a tile has at least four bytes after its codes.
 */
VEC_INLINE __m256 codes_f32(unsigned bits, const uint8_t *packed)
{
	__m256i codes;

	if (bits == 8) {
		codes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)packed));
	} else if (bits == 6) {
		/* Four codes are three bytes: put them in each of four dwords, and shift each to
		 * its place. */
		const __m256i triples =
			_mm256_setr_epi8(0, 1, 2, -1, 0, 1, 2, -1, 0, 1, 2, -1, 0, 1, 2, -1, 3, 4,
					 5, -1, 3, 4, 5, -1, 3, 4, 5, -1, 3, 4, 5, -1);
		const __m256i shifts = _mm256_setr_epi32(0, 6, 12, 18, 0, 6, 12, 18);
		const __m256i bytes =
			_mm256_broadcastq_epi64(_mm_loadl_epi64((const void *)packed));

		codes = _mm256_srlv_epi32(_mm256_shuffle_epi8(bytes, triples), shifts);
		codes = _mm256_and_si256(codes, _mm256_set1_epi32(0x3f));
	} else {
		const __m256i shifts = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
		int word;

		memcpy(&word, packed, sizeof word);
		codes = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(word), shifts),
					 _mm256_set1_epi32(0x0f));
	}
	return _mm256_cvtepi32_ps(codes);
}

/* Bounds eight integers to 0..2^bits - 1, packs and stores them. */
VEC_INLINE void codes_store(unsigned bits, __m256i steps, uint8_t *packed)
{
	const __m128i words =
		_mm_packs_epi32(_mm256_castsi256_si128(steps), _mm256_extracti128_si256(steps, 1));
	__m128i codes = _mm_packus_epi16(words, words);

	codes = _mm_min_epu8(codes, _mm_set1_epi8((char)((1u << bits) - 1)));
	if (bits == 8) {
		_mm_storel_epi64((void *)packed, codes);
	} else if (bits == 6) {
		const __m128i pairs = _mm_maddubs_epi16(codes, _mm_set1_epi16(0x4001));
		const __m128i quads = _mm_madd_epi16(pairs, _mm_set1_epi32(0x10000001));
		const uint64_t word = (uint64_t)_mm_cvtsi128_si64(quads);
		const uint64_t dense = (word & 0xffffff) | word >> 32 << 24;

		memcpy(packed, &dense, 6);
	} else {
		const __m128i pairs = _mm_maddubs_epi16(codes, _mm_set1_epi16(0x1001));
		const int word = _mm_cvtsi128_si32(_mm_packus_epi16(pairs, pairs));

		memcpy(packed, &word, sizeof word);
	}
}
