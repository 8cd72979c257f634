/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX2: codes between their packed form and integers, eight, which are @bits bytes, or a chunk of
 * 32 at a time. No byte beyond them is touched.
 */
#pragma once

#include <immintrin.h>
#include <string.h>

#include "codec/vec-avx2.h"

/*
 * Eight codes, which begin @skip bytes after the lowest of @word, in each qword of which are the
 * same eight bytes.
 */
VEC_INLINE __m256i codes_of_word(unsigned bits, unsigned skip, __m256i word)
{
	if (bits == 6) {
		/* Four codes are three bytes: put them in each of four dwords, and shift each to
		 * its place. */
		const __m256i triples =
			_mm256_setr_epi8(0, 1, 2, -1, 0, 1, 2, -1, 0, 1, 2, -1, 0, 1, 2, -1, 3, 4,
					 5, -1, 3, 4, 5, -1, 3, 4, 5, -1, 3, 4, 5, -1);
		const __m256i shifts = _mm256_setr_epi32(0, 6, 12, 18, 0, 6, 12, 18);
		const __m256i bytes = _mm256_shuffle_epi8(
			word, _mm256_add_epi8(triples, _mm256_set1_epi8((char)skip)));

		/* What the sum makes of -1 does not matter: those bytes are beyond the mask. */
		return _mm256_and_si256(_mm256_srlv_epi32(bytes, shifts), _mm256_set1_epi32(0x3f));
	}
	/* Code k of five bits begins in byte 5k/8, and the byte after it has its end. */
	const __m256i pairs = _mm256_setr_epi8(0, 1, -1, -1, 0, 1, -1, -1, 1, 2, -1, -1, 1, 2, -1,
					       -1, 2, 3, -1, -1, 3, 4, -1, -1, 3, 4, -1, -1, 4, 4,
					       -1, -1);
	const __m256i shifts = _mm256_setr_epi32(0, 5, 2, 7, 4, 1, 6, 3);
	const __m256i bytes = _mm256_shuffle_epi8(
		word, _mm256_add_epi8(pairs, _mm256_set1_epi8((char)skip)));

	return _mm256_and_si256(_mm256_srlv_epi32(bytes, shifts), _mm256_set1_epi32(0x1f));
}

VEC_INLINE __m256i word_load(const uint8_t *packed, unsigned bytes)
{
	uint64_t word = 0;

	memcpy(&word, packed, bytes);
	return _mm256_set1_epi64x((long long)word);
}

/* Eight codes of four or eight bits. */
VEC_INLINE __m256i codes_of_even(unsigned bits, const uint8_t *packed)
{
	const __m256i shifts = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
	int word;

	if (bits == 8)
		return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)packed));
	memcpy(&word, packed, sizeof word);
	return _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(word), shifts),
				_mm256_set1_epi32(0x0f));
}

/* Eight codes. */
VEC_INLINE __m256 codes_f32(unsigned bits, const uint8_t *packed)
{
	if (bits == 8 || bits == 4)
		return _mm256_cvtepi32_ps(codes_of_even(bits, packed));
	return _mm256_cvtepi32_ps(codes_of_word(bits, 0, word_load(packed, bits)));
}

/*
 * Vector @j of the four of a chunk. All but the last may read eight bytes for theirs; the last
 * reads the eight that end with the chunk.
 */
VEC_INLINE __m256 chunk_codes_f32(unsigned bits, const uint8_t *packed, unsigned j)
{
	const unsigned skip = j == 3 ? 8 - bits : 0;

	if (bits == 8 || bits == 4)
		return _mm256_cvtepi32_ps(codes_of_even(bits, packed + bits * j));
	return _mm256_cvtepi32_ps(
		codes_of_word(bits, skip, word_load(packed + bits * j - skip, 8)));
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
	} else if (bits == 5) {
		const __m128i pairs = _mm_maddubs_epi16(codes, _mm_set1_epi16(0x2001));
		const __m128i quads = _mm_madd_epi16(pairs, _mm_set1_epi32(0x04000001));
		const uint64_t word = (uint64_t)_mm_cvtsi128_si64(quads);
		const uint64_t dense = (word & 0xfffff) | word >> 32 << 20;

		memcpy(packed, &dense, 5);
	} else {
		const __m128i pairs = _mm_maddubs_epi16(codes, _mm_set1_epi16(0x1001));
		const int word = _mm_cvtsi128_si32(_mm_packus_epi16(pairs, pairs));

		memcpy(packed, &word, sizeof word);
	}
}

/* Bounds the 32 integers of a chunk to 0..2^bits - 1: one code a byte. */
VEC_INLINE __m256i chunk_narrow(unsigned bits, const __m256i steps[4])
{
	/* The packs work within 128-bit lanes; one permutation of dwords restores the order. */
	const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
	const __m256i low = _mm256_packs_epi32(steps[0], steps[1]);
	const __m256i high = _mm256_packs_epi32(steps[2], steps[3]);
	const __m256i codes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order);

	return _mm256_min_epu8(codes, _mm256_set1_epi8((char)((1u << bits) - 1)));
}

/* 24 bytes: the lowest three of each dword. */
VEC_INLINE void triples_store(__m256i quads, uint8_t *packed)
{
	const __m256i dense = _mm256_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1,
					       -1, 0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1,
					       -1, -1);
	const __m256i order = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7);
	const __m256i bytes =
		_mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(quads, dense), order);

	_mm_storeu_si128((void *)packed, _mm256_castsi256_si128(bytes));
	_mm_storel_epi64((void *)(packed + 16), _mm256_extracti128_si256(bytes, 1));
}

/* 20 bytes: the lowest five of each qword. */
VEC_INLINE void fives_store(__m256i eights, uint8_t *packed)
{
	const __m256i dense = _mm256_setr_epi8(0, 1, 2, 3, 4, 8, 9, 10, 11, 12, -1, -1, -1, -1, -1,
					       -1, 0, 1, 2, 3, 4, 8, 9, 10, 11, 12, -1, -1, -1, -1,
					       -1, -1);
	const __m256i tens = _mm256_shuffle_epi8(eights, dense);
	const __m128i low = _mm256_castsi256_si128(tens);
	const __m128i high = _mm256_extracti128_si256(tens, 1);

	_mm_storeu_si128((void *)packed, _mm_or_si128(low, _mm_slli_si128(high, 10)));
	_mm_storeu_si32(packed + 16, _mm_srli_si128(high, 6));
}

/* Bounds the 32 integers of a chunk to 0..2^bits - 1, packs and stores them. */
VEC_INLINE void chunk_codes_store(unsigned bits, const __m256i steps[4], uint8_t *packed)
{
	const __m256i codes = chunk_narrow(bits, steps);

	if (bits == 8) {
		_mm256_storeu_si256((void *)packed, codes);
	} else if (bits == 6) {
		const __m256i pairs = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x4001));

		triples_store(_mm256_madd_epi16(pairs, _mm256_set1_epi32(0x10000001)), packed);
	} else if (bits == 5) {
		/* 10 bits in words, 20 in dwords, 40 in qwords. */
		const __m256i pairs = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x2001));
		const __m256i quads = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x04000001));
		const __m256i high = _mm256_slli_epi64(_mm256_srli_epi64(quads, 32), 20);

		fives_store(_mm256_or_si256(_mm256_blend_epi32(quads, _mm256_setzero_si256(), 0xaa),
					    high),
			    packed);
	} else {
		const __m256i pairs = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x1001));
		const __m256i bytes =
			_mm256_permute4x64_epi64(_mm256_packus_epi16(pairs, pairs), 0x08);

		_mm_storeu_si128((void *)packed, _mm256_castsi256_si128(bytes));
	}
}
