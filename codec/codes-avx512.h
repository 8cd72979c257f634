/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX-512 VBMI: up to 64 codes between their packed form and one byte each. Bytes beyond the codes
 * are not touched.
 */
#pragma once

#include <immintrin.h>

#include "codec/vec-avx512.h"

/* clang-format off */

/* Qword q of the result holds packed bytes 6q..6q+5, which are eight 6-bit codes. */
static const uint8_t spread_q6[64] __attribute__((aligned(64))) = {
	0, 1, 2, 3, 4, 5, 0, 0,
	6, 7, 8, 9, 10, 11, 0, 0,
	12, 13, 14, 15, 16, 17, 0, 0,
	18, 19, 20, 21, 22, 23, 0, 0,
	24, 25, 26, 27, 28, 29, 0, 0,
	30, 31, 32, 33, 34, 35, 0, 0,
	36, 37, 38, 39, 40, 41, 0, 0,
	42, 43, 44, 45, 46, 47, 0, 0,
};

/* Qword q of the result holds packed bytes 5q..5q+4, which are eight 5-bit codes. */
static const uint8_t spread_q5[64] __attribute__((aligned(64))) = {
	0, 1, 2, 3, 4, 0, 0, 0,
	5, 6, 7, 8, 9, 0, 0, 0,
	10, 11, 12, 13, 14, 0, 0, 0,
	15, 16, 17, 18, 19, 0, 0, 0,
	20, 21, 22, 23, 24, 0, 0, 0,
	25, 26, 27, 28, 29, 0, 0, 0,
	30, 31, 32, 33, 34, 0, 0, 0,
	35, 36, 37, 38, 39, 0, 0, 0,
};

/* The way back from sixteen 24-bit words in dwords to 48 dense bytes. */
static const uint8_t gather_q6[64] __attribute__((aligned(64))) = {
	0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14,
	16, 17, 18, 20, 21, 22, 24, 25, 26, 28, 29, 30,
	32, 33, 34, 36, 37, 38, 40, 41, 42, 44, 45, 46,
	48, 49, 50, 52, 53, 54, 56, 57, 58, 60, 61, 62,
};

/* The way back from eight 40-bit words in qwords to 40 dense bytes. */
static const uint8_t gather_q5[64] __attribute__((aligned(64))) = {
	0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 16, 17, 18, 19, 20, 24, 25, 26, 27, 28,
	32, 33, 34, 35, 36, 40, 41, 42, 43, 44, 48, 49, 50, 51, 52, 56, 57, 58, 59, 60,
};

/* Byte i of vector j of a chunk, in each byte of dword i. */
#define WIDEN_1(i) (i), (i), (i), (i)
#define WIDEN_4(i) WIDEN_1(i), WIDEN_1((i) + 1), WIDEN_1((i) + 2), WIDEN_1((i) + 3)
#define WIDEN_16(i) { WIDEN_4(i), WIDEN_4((i) + 4), WIDEN_4((i) + 8), WIDEN_4((i) + 12) }
static const uint8_t widen_bytes[4][64] __attribute__((aligned(64))) = {
	WIDEN_16(0), WIDEN_16(16), WIDEN_16(32), WIDEN_16(48),
};

/* clang-format on */

VEC_INLINE __mmask64 bytes_mask(uint32_t bytes)
{
	return bytes >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << bytes) - 1;
}

/*
 * The bytes of @count packed codes. Those of a full chunk are a number of qwords: a mask of qwords
 * is a constant of eight bits, and costs no more than a load without one.
 */
VEC_INLINE __m512i packed_load(unsigned bits, const uint8_t *packed, uint32_t count)
{
	if (count == VEC_CHUNK)
		return _mm512_maskz_loadu_epi64((__mmask8)((1u << bits) - 1), packed);
	return _mm512_maskz_loadu_epi8(bytes_mask(count / 8 * bits), packed);
}

/* @count packed codes of @bits to one byte each. */
VEC_INLINE __m512i codes_unpack(unsigned bits, const uint8_t *packed, uint32_t count)
{
	const __m512i bytes = packed_load(bits, packed, count);

	switch (bits) {
	case 8:
		return bytes;
	case 6: {
		const __m512i shifts = _mm512_set1_epi64(0x2a241e18120c0600);
		const __m512i spread = _mm512_permutexvar_epi8(_mm512_load_si512(spread_q6), bytes);

		return _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, spread),
					_mm512_set1_epi8(0x3f));
	}
	case 5: {
		const __m512i shifts = _mm512_set1_epi64(0x231e19140f0a0500);
		const __m512i spread = _mm512_permutexvar_epi8(_mm512_load_si512(spread_q5), bytes);

		return _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, spread),
					_mm512_set1_epi8(0x1f));
	}
	default: {
		const __m512i words = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(bytes));

		return _mm512_and_si512(_mm512_or_si512(words, _mm512_slli_epi16(words, 4)),
					_mm512_set1_epi8(0x0f));
	}
	}
}

/* Codes of vector @j of the chunk as f32. */
VEC_INLINE __m512 codes_f32(__m512i codes, unsigned j)
{
	const __m512i widen = _mm512_load_si512(widen_bytes[j]);

	return _mm512_cvtepi32_ps(_mm512_maskz_permutexvar_epi8(0x1111111111111111, widen, codes));
}

/* Four vectors of integers to one byte each, bounded to 0..2^bits - 1. */
VEC_INLINE __m512i codes_narrow(unsigned bits, const __m512i steps[4])
{
	/* The packs work within 128-bit lanes; one permutation of dwords restores the order. */
	const __m512i order =
		_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
	const __m512i low = _mm512_packs_epi32(steps[0], steps[1]);
	const __m512i high = _mm512_packs_epi32(steps[2], steps[3]);
	const __m512i codes = _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high));

	return _mm512_min_epu8(codes, _mm512_set1_epi8((char)((1u << bits) - 1)));
}

/* Stores the first @bytes: 64, or a multiple of 4 with at most one piece beyond the first lanes. */
VEC_INLINE void bytes_store(uint8_t *packed, uint32_t bytes, __m512i vector)
{
	const __m256i low = _mm512_castsi512_si256(vector);
	__m128i last = _mm512_castsi512_si128(vector);

	if (bytes == 64) {
		_mm512_storeu_si512(packed, vector);
		return;
	}
	if (bytes & 32) {
		_mm256_storeu_si256((void *)packed, low);
		last = _mm512_extracti32x4_epi32(vector, 2);
		packed += 32;
	}
	if (bytes & 16) {
		_mm_storeu_si128((void *)packed, last);
		last = _mm256_extracti128_si256(low, 1);
		packed += 16;
	}
	if (bytes & 8)
		_mm_storel_epi64((void *)packed, last);
	else if (bytes & 4)
		_mm_storeu_si32(packed, last);
}

/* One code a byte to @count packed codes. */
VEC_INLINE void codes_pack(unsigned bits, __m512i codes, uint32_t count, uint8_t *packed)
{
	__m512i bytes = codes;

	if (bits == 6) {
		const __m512i pairs = _mm512_maddubs_epi16(codes, _mm512_set1_epi16(0x4001));
		const __m512i quads = _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x10000001));

		bytes = _mm512_permutexvar_epi8(_mm512_load_si512(gather_q6), quads);
	} else if (bits == 5) {
		/* 10 bits in words, 20 in dwords, 40 in qwords. */
		const __m512i pairs = _mm512_maddubs_epi16(codes, _mm512_set1_epi16(0x2001));
		const __m512i quads = _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x04000001));
		const __m512i eights = _mm512_or_si512(
			_mm512_and_si512(quads, _mm512_set1_epi64(0xffffffff)),
			_mm512_slli_epi64(_mm512_srli_epi64(quads, 32), 20));

		bytes = _mm512_permutexvar_epi8(_mm512_load_si512(gather_q5), eights);
	} else if (bits == 4) {
		const __m512i pairs = _mm512_maddubs_epi16(codes, _mm512_set1_epi16(0x1001));

		bytes = _mm512_castsi256_si512(_mm512_cvtepi16_epi8(pairs));
	}

	/* A constant number avoids the masked store, which is slow by the byte. */
	if (__builtin_constant_p(count) && count % 32 == 0)
		bytes_store(packed, count / 8 * bits, bytes);
	else
		_mm512_mask_storeu_epi8(packed, bytes_mask(count / 8 * bits), bytes);
}
