/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX-512: rows of packed tiles as vectors of 64 levels, a byte each, for the dot products of
 * attention. Vector v holds channels 64 * v and on. Only 4-bit codes of more than 64 channels are
 * taken 128 at a time, where a byte holds two: vector v has the even channels of the pair of
 * vectors and v + 1 the odd ones, so that no byte moves. Absent channels read as 0.
 *
 * A level of t8 has nine bits: it is 2 * level + low, of which low is one bit.
 */
#pragma once

#include "codec/codes-avx512.h"
#include "codec/packed.h"
#include "codec/prefetch.h"

#define LEVEL_VECTORS (CODEC_HEAD_DIM_MAX / VEC_CHUNK)

/* The codes of the last three rows of one vector, of which the lowest bits steer the trellis. */
struct level_history {
	__m512i before1;
	__m512i before2;
	__m512i before3;
};

struct level {
	__m512i level;
	__m512i low; /* of t8 */
};

VEC_INLINE void histories_clear(struct level_history histories[LEVEL_VECTORS])
{
	const __m512i zero = _mm512_setzero_si512();

	for (unsigned v = 0; v < LEVEL_VECTORS; v++)
		histories[v] = (struct level_history){ zero, zero, zero };
}

/*
 * A row in vectors. The number of vectors is a constant wherever this is used, and of channels if
 * they are 128; otherwise vectors that are cut or absent are masked.
 */
struct level_shape {
	unsigned vectors;
	uint32_t head_dim;
};

/*
 * The usual number of channels has kernels that serve several queries in one pass. Others take one
 * query after the other: as fast with one, and a third of the code.
 */
static const struct level_shape level_shape_usual = { 2, 128 };

/* Does @call with the variable @shape for @dim channels. */
#define WITH_LEVEL_SHAPE(dim, shape, call)                                                         \
	do {                                                                                       \
		if ((dim) <= 64) {                                                                 \
			const struct level_shape shape = { 1, (dim) };                             \
			call;                                                                      \
		} else {                                                                           \
			const struct level_shape shape = { 4, (dim) };                             \
			call;                                                                      \
		}                                                                                  \
	} while (0)

/* Whether vector @v and the next, which is odd, share their bytes. */
VEC_INLINE bool level_paired(unsigned bits, struct level_shape shape, unsigned v)
{
	return bits == 4 && v % 2 == 0 && v + 1 < shape.vectors;
}

/* Channels of @shape from vector @v on. */
VEC_INLINE uint32_t channels_from(struct level_shape shape, unsigned v)
{
	return shape.head_dim > v * VEC_CHUNK ? shape.head_dim - v * VEC_CHUNK : 0;
}

VEC_INLINE uint32_t row_bytes_of(unsigned bits, struct level_shape shape)
{
	return shape.head_dim / 8 * bits;
}

/* The bytes of a pair of vectors of 4-bit codes, of which @v is the first. */
VEC_INLINE __m512i pair_load(const uint8_t *row, struct level_shape shape, unsigned v)
{
	const uint8_t *packed = row + v * (VEC_CHUNK / 2);
	const uint32_t channels = channels_from(shape, v);

	if (channels >= 2 * VEC_CHUNK)
		return _mm512_loadu_si512(packed);
	return _mm512_maskz_loadu_epi8(bytes_mask(channels / 2), packed);
}

VEC_INLINE __m512i pair_even(__m512i bytes)
{
	return _mm512_and_si512(bytes, _mm512_set1_epi8(0x0f));
}

VEC_INLINE __m512i pair_odd(__m512i bytes)
{
	return pair_even(_mm512_srli_epi16(bytes, 4));
}

VEC_INLINE __m512i vector_load(unsigned bits, const uint8_t *row, struct level_shape shape,
			       unsigned v)
{
	const uint32_t channels = channels_from(shape, v);

	return codes_unpack(bits, row + v * (VEC_CHUNK / 8 * bits),
			    channels < VEC_CHUNK ? channels : VEC_CHUNK);
}

/* What codes mean, and moves the history on by them. */
VEC_INLINE struct level level_of(unsigned bits, bool trellis, __m512i codes,
				 struct level_history *history)
{
	const __m512i one = _mm512_set1_epi8(1);
	struct level ret = { codes, _mm512_setzero_si512() };

	if (!trellis)
		return ret;
	/* (before1 ^ before3) & 1 */
	const __m512i flip = _mm512_ternarylogic_epi64(history->before1, history->before3, one,
						       0x28);
	const __m512i set = _mm512_xor_si512(codes, flip);

	if (bits == 8) {
		ret.level = set;
		ret.low = _mm512_and_si512(history->before2, one);
	} else {
		/* 2 * set | (before2 & 1) */
		ret.level = _mm512_ternarylogic_epi64(_mm512_add_epi8(set, set), history->before2,
						      one, 0xf8);
	}
	history->before3 = history->before2;
	history->before2 = history->before1;
	history->before1 = codes;
	return ret;
}

/* Whether levels have nine bits, which are words where several queries are served. */
VEC_INLINE bool level_words(unsigned bits, bool trellis)
{
	return trellis && bits == 8;
}

/* 2 * level + low of even and odd bytes. */
VEC_INLINE void level_words_of(struct level level, __m512i *ret_even, __m512i *ret_odd)
{
	const __m512i mask = _mm512_set1_epi16(0x1fe);
	const __m512i low = _mm512_and_si512(level.low, _mm512_set1_epi16(1));

	/* (a & mask) | b */
	*ret_even = _mm512_ternarylogic_epi64(_mm512_slli_epi16(level.level, 1), mask, low, 0xea);
	*ret_odd = _mm512_ternarylogic_epi64(_mm512_srli_epi16(level.level, 7), mask,
					     _mm512_srli_epi16(level.low, 8), 0xea);
}

/* 64 signed bytes of a query, in the order of channels, to the order of a pair of vectors. */
VEC_INLINE void pair_order(__m512i vectors[2])
{
	const __m512i even = _mm512_inserti64x4(
		_mm512_castsi256_si512(_mm512_cvtepi16_epi8(vectors[0])),
		_mm512_cvtepi16_epi8(vectors[1]), 1);
	const __m512i odd = _mm512_inserti64x4(
		_mm512_castsi256_si512(_mm512_cvtepi16_epi8(_mm512_srli_epi16(vectors[0], 8))),
		_mm512_cvtepi16_epi8(_mm512_srli_epi16(vectors[1], 8)), 1);

	vectors[0] = even;
	vectors[1] = odd;
}

/* --- Sums of sixteen rows -------------------------------------------------------------------- */

VEC_INLINE __m512 lanes_sum(bool integers, __m512 a, __m512 b)
{
	if (integers)
		return _mm512_castsi512_ps(
			_mm512_add_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
	return _mm512_add_ps(a, b);
}

/*
 * The sums of sixteen vectors' lanes, in the order of packed.h: lanes i and i + 8, then i + 4, + 2
 * and + 1, of several vectors at a time. Lane r of the result is the sum of @rows[r].
 */
VEC_INLINE __m512 rows_fold(bool integers, const __m512 rows[16])
{
	__m512 eights[8], fours[4], twos[2];

#pragma GCC unroll 8
	for (unsigned i = 0; i < 8; i++) {
		const __m512 a = rows[i % 4 + i / 4 * 8];
		const __m512 b = rows[i % 4 + i / 4 * 8 + 4];

		eights[i] = lanes_sum(integers, _mm512_shuffle_f32x4(a, b, 0x44),
				      _mm512_shuffle_f32x4(a, b, 0xee));
	}
	/* Lane of 128 bits j has row i + 4 * j. */
#pragma GCC unroll 4
	for (unsigned i = 0; i < 4; i++)
		fours[i] = lanes_sum(integers, _mm512_shuffle_f32x4(eights[i], eights[i + 4], 0x88),
				     _mm512_shuffle_f32x4(eights[i], eights[i + 4], 0xdd));
#pragma GCC unroll 2
	for (unsigned i = 0; i < 2; i++) {
		const __m512d a = _mm512_castps_pd(fours[2 * i]);
		const __m512d b = _mm512_castps_pd(fours[2 * i + 1]);

		twos[i] = lanes_sum(integers, _mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
				    _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
	}
	return lanes_sum(integers, _mm512_shuffle_ps(twos[0], twos[1], 0x88),
			 _mm512_shuffle_ps(twos[0], twos[1], 0xdd));
}

/* The same for integers, whose order is free, in two parts: four rows at a time, */
VEC_INLINE __m512 rows_fold4(const __m512 rows[4])
{
	const __m512 a = lanes_sum(true, _mm512_unpacklo_ps(rows[0], rows[1]),
				   _mm512_unpackhi_ps(rows[0], rows[1]));
	const __m512 b = lanes_sum(true, _mm512_unpacklo_ps(rows[2], rows[3]),
				   _mm512_unpackhi_ps(rows[2], rows[3]));

	return lanes_sum(true,
			 _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a),
							     _mm512_castps_pd(b))),
			 _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a),
							     _mm512_castps_pd(b))));
}

/* and the four results together. */
VEC_INLINE __m512 rows_fold16(const __m512 fours[4])
{
	const __m512 a = lanes_sum(true, _mm512_shuffle_f32x4(fours[0], fours[1], 0x88),
				   _mm512_shuffle_f32x4(fours[0], fours[1], 0xdd));
	const __m512 b = lanes_sum(true, _mm512_shuffle_f32x4(fours[2], fours[3], 0x88),
				   _mm512_shuffle_f32x4(fours[2], fours[3], 0xdd));

	return lanes_sum(true, _mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

/* The sum of one vector's lanes in the same order. */
VEC_INLINE float lanes_fold(__m512 lanes)
{
	const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(lanes),
					   _mm512_extractf32x8_ps(lanes, 1));
	const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight),
				       _mm256_extractf128_ps(eight, 1));
	const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

	return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* --- Integers for factors -------------------------------------------------------------------- */

/* r = high * 128 + low; both fit a signed byte. */
struct halves {
	__m512i high;
	__m512i low;
};

VEC_INLINE struct halves halves_of(__m512 factors, __m512 inverse)
{
	const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(factors, inverse));
	const __m512i high =
		_mm512_srai_epi32(_mm512_add_epi32(whole, _mm512_set1_epi32(64)), 7);

	return (struct halves){ high, _mm512_sub_epi32(whole, _mm512_slli_epi32(high, 7)) };
}

/* The larger magnitude of each lane. */
VEC_INLINE __m512 magnitudes_max(__m512 peak, __m512 factors)
{
	return _mm512_max_ps(_mm512_abs_ps(factors), peak);
}
