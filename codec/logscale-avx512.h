/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX-512: the log scales of one group of channels, sixteen tokens at a time, one token a lane.
 */
#pragma once

#include "codec/logscale.h"
#include "codec/trellis.h"
#include "codec/vec-avx512.h"

/* Lane i of the result is the largest lane of @rows[i]. */
VEC_INLINE __m512i rows_largest(const __m512i rows[16])
{
	__m512i pairs[8], quads[4], eights[2];

#pragma GCC unroll 8
	for (unsigned i = 0; i < 8; i++)
		pairs[i] = _mm512_max_epi32(_mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]),
					    _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]));
#pragma GCC unroll 4
	for (unsigned i = 0; i < 4; i++)
		quads[i] = _mm512_max_epi32(_mm512_unpacklo_epi64(pairs[2 * i], pairs[2 * i + 1]),
					    _mm512_unpackhi_epi64(pairs[2 * i], pairs[2 * i + 1]));
#pragma GCC unroll 2
	for (unsigned i = 0; i < 2; i++)
		eights[i] = _mm512_max_epi32(
			_mm512_shuffle_i32x4(quads[2 * i], quads[2 * i + 1], 0x88),
			_mm512_shuffle_i32x4(quads[2 * i], quads[2 * i + 1], 0xdd));
	return _mm512_max_epi32(_mm512_shuffle_i32x4(eights[0], eights[1], 0x88),
				_mm512_shuffle_i32x4(eights[0], eights[1], 0xdd));
}

/*
 * Magnitudes as integers, which are ordered as the floats are, infinity and NaN above all numbers.
 */
VEC_INLINE __m512i magnitudes_load(enum codec_dtype dtype, const uint8_t *values, __mmask16 lanes)
{
	return _mm512_and_si512(_mm512_castps_si512(vec_load(dtype, values, lanes)),
				_mm512_set1_epi32(0x7fffffff));
}

/* The largest magnitudes of @count <= 16 tokens in @channels channels. */
VEC_INLINE __m512i tokens_largest(enum codec_dtype dtype, const struct codec_source *src,
				  uint32_t first, uint32_t count, uint32_t channel,
				  uint32_t channels)
{
	const size_t second = (size_t)VEC_LANES * value_bytes(dtype);
	__m512i rows[16];

#pragma GCC unroll 1
	for (uint32_t i = 0; i < 16; i++) {
		/* Where there is no token: once more the last one. */
		const uint8_t *values = source_row(src, first + (i < count ? i : count - 1)) +
					(size_t)channel * value_bytes(dtype);

		rows[i] = magnitudes_load(dtype, values, chunk_lanes(channels, 0));
		if (channels > VEC_LANES)
			rows[i] = _mm512_max_epi32(rows[i],
						   magnitudes_load(dtype, values + second,
								   chunk_lanes(channels, 1)));
	}
	return rows_largest(rows);
}

/* trellis_log_scale_of() of sixteen amplitudes, and the scales in *@ret_scales. */
VEC_INLINE __m512i log_scales_of(__m512 amplitudes, __m512 *ret_scales)
{
	const __mmask64 lowest_bytes = 0x1111111111111111;
	const __mmask16 some = _mm512_cmp_ps_mask(amplitudes, _mm512_setzero_ps(), _CMP_GT_OQ);
	const __m512i bits =
		_mm512_castps_si512(_mm512_max_ps(amplitudes, _mm512_set1_ps(0x1p-16f)));
	const __m512i octave = _mm512_sub_epi32(_mm512_srli_epi32(bits, 23),
						_mm512_set1_epi32(LOG_SCALE_EXPONENT_MIN));
	const __m512i mantissa = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffff));
	const __m512i begin = _mm512_srli_epi32(mantissa, 19);
	const __m512i one = _mm512_set1_epi32(1);
	__m512i place = _mm512_permutexvar_epi32(begin, _mm512_load_si512(log_scale_below));

#pragma GCC unroll 2
	for (unsigned i = 0; i < 2; i++) {
		const __m512i among =
			_mm512_permutexvar_epi32(begin, _mm512_load_si512(log_scale_among[i]));

		place = _mm512_mask_add_epi32(place, _mm512_cmplt_epi32_mask(among, mantissa),
					      place, one);
	}

	const __m512i shift = _mm512_maskz_permutexvar_epi8(lowest_bytes, octave,
							    _mm512_load_si512(log_scale_shift));
	const __m512i first = _mm512_maskz_permutexvar_epi8(lowest_bytes, octave,
							    _mm512_load_si512(log_scale_first));
	const __m512i steps = _mm512_srlv_epi32(
		_mm512_sub_epi32(_mm512_add_epi32(place, _mm512_sllv_epi32(one, shift)), one),
		shift);
	/* Sixteen sixteenths are the next octave. */
	const __m512i sixteenths = _mm512_sllv_epi32(steps, shift);
	const __m512i exponent = _mm512_add_epi32(_mm512_srli_epi32(bits, 23),
						  _mm512_srli_epi32(sixteenths, 4));
	const __m512i fraction =
		_mm512_permutexvar_epi32(sixteenths, _mm512_load_si512(log_scale_mantissas));

	*ret_scales = _mm512_castsi512_ps(_mm512_maskz_or_epi32(
		some, _mm512_slli_epi32(exponent, 23), fraction));
	return _mm512_maskz_add_epi32(some, first, steps);
}
