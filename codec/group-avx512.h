/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX-512: ranges of groups, sixteen at a time, and the f16 scales and mins that they make.
 * steps_max is how many steps a range is divided into.
 */
#pragma once

#include "codec/quant.h"
#include "codec/vec-avx512.h"

/*
 * Smallest and largest of sixteen groups, or of the parts of one; spoilt is NaN where a value was
 * NaN or infinite.
 */
struct range {
	__m512 smallest;
	__m512 largest;
	__m512 spoilt;
};

VEC_INLINE struct range range_start(__m512 vector)
{
	return (struct range){ vector, vector, _mm512_setzero_ps() };
}

VEC_INLINE void range_add(struct range *range, __m512 vector, __mmask16 lanes)
{
	range->smallest = _mm512_mask_min_ps(range->smallest, lanes, range->smallest, vector);
	range->largest = _mm512_mask_max_ps(range->largest, lanes, range->largest, vector);
	range->spoilt = _mm512_fmadd_ps(vector, _mm512_setzero_ps(), range->spoilt);
}

VEC_INLINE bool range_accepted(const struct range *range)
{
	const __mmask16 low =
		_mm512_cmp_ps_mask(range->smallest, _mm512_set1_ps(-HALF_MAX), _CMP_GE_OQ);
	const __mmask16 high =
		_mm512_cmp_ps_mask(range->largest, _mm512_set1_ps(HALF_MAX), _CMP_LE_OQ);
	const __mmask16 sound = _mm512_cmp_ps_mask(range->spoilt, range->spoilt, _CMP_ORD_Q);

	return (low & high & sound) == 0xffff;
}

/*
 * Writes scale and min of those of sixteen groups that @lanes names, and prepares their codes. The
 * result is the scales.
 */
VEC_INLINE __m512 groups_close(const struct codec_layout *layout, const struct range *range,
			       float steps_max, uint32_t first, __mmask16 lanes, uint8_t *tile,
			       struct quant_steps *steps)
{
	const __m512 zero = _mm512_setzero_ps();
	/* The additions make -0 a +0, so that the order of comparisons cannot show. */
	const __m512 smallest = _mm512_add_ps(range->smallest, zero);
	const __m512 largest = _mm512_add_ps(range->largest, zero);
	const __m256i min = _mm512_cvtps_ph(smallest, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
	const __m512 min_f32 = _mm512_cvtph_ps(min);
	const __m512 extent = _mm512_sub_ps(largest, min_f32);
	const __m512 exact = _mm512_div_ps(extent, _mm512_set1_ps(steps_max));
	const __m256i scale = _mm512_cvtps_ph(exact, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
	const __m512 scale_f32 = _mm512_cvtph_ps(scale);
	const __mmask16 spread = _mm512_cmp_ps_mask(scale_f32, zero, _CMP_GT_OQ);

	words_store(tile + layout->scales_offset + 2 * (size_t)first, lanes, scale);
	words_store(tile + layout->mins_offset + 2 * (size_t)first, lanes, min);
	_mm512_store_ps(&steps->inverse[first],
			_mm512_maskz_div_ps(spread, _mm512_set1_ps(1.0f), scale_f32));
	_mm512_store_ps(&steps->min[first], min_f32);
	return scale_f32;
}

/* Ranges of @count <= 64 channels from @channel on over all tokens, and their scales and mins. */
VEC_INLINE bool channels_close(enum codec_dtype dtype, float steps_max,
			       const struct codec_layout *layout, const struct codec_source *src,
			       uint32_t channel, uint32_t count, uint8_t *tile,
			       struct quant_steps *steps)
{
	const __mmask16 lanes[4] = { chunk_lanes(count, 0), chunk_lanes(count, 1),
				     chunk_lanes(count, 2), chunk_lanes(count, 3) };
	struct range range[4];
	bool ok = true;

#pragma GCC unroll 4
	for (unsigned j = 0; j < 4; j++) {
		const size_t offset = (size_t)(channel + VEC_LANES * j) * value_bytes(dtype);

		range[j] = range_start(vec_load(dtype, source_row(src, 0) + offset, lanes[j]));
	}
	for (uint32_t t = 0; t < layout->tokens; t++) {
		const uint8_t *values = source_row(src, t) + (size_t)channel * value_bytes(dtype);

#pragma GCC unroll 4
		for (unsigned j = 0; j < 4; j++) {
			const uint8_t *vector = values + VEC_LANES * j * value_bytes(dtype);

			range_add(&range[j], vec_load(dtype, vector, lanes[j]), 0xffff);
		}
	}
#pragma GCC unroll 4
	for (unsigned j = 0; j < 4; j++) {
		if (lanes[j] == 0)
			break;
		groups_close(layout, &range[j], steps_max, channel + VEC_LANES * j, lanes[j], tile,
			     steps);
		ok &= range_accepted(&range[j]);
	}
	return ok;
}

/* The range of one token. */
VEC_INLINE void token_range(enum codec_dtype dtype, const struct codec_layout *layout,
			    const struct codec_source *src, uint32_t token, float *ret_smallest,
			    float *ret_largest, float *ret_spoilt)
{
	const uint8_t *values = source_row(src, token);
	const __m512 first = vec_load(dtype, values, chunk_lanes(layout->head_dim, 0));
	const __m512 any = _mm512_broadcastss_ps(_mm512_castps512_ps128(first));
	struct range range = range_start(any);
	uint32_t c = 0;

	for (; c + VEC_LANES <= layout->head_dim; c += VEC_LANES)
		range_add(&range, vec_load(dtype, values + (size_t)c * value_bytes(dtype), 0xffff),
			  0xffff);
	if (c < layout->head_dim)
		range_add(&range, vec_load(dtype, values + (size_t)c * value_bytes(dtype), 0xff),
			  0xff);
	*ret_smallest = _mm512_reduce_min_ps(range.smallest);
	*ret_largest = _mm512_reduce_max_ps(range.largest);
	*ret_spoilt = _mm512_reduce_add_ps(range.spoilt);
}

/* Ranges of @count <= 16 tokens, and their scales, also in *@ret_scales, and mins. */
VEC_INLINE bool tokens_close(enum codec_dtype dtype, float steps_max,
			     const struct codec_layout *layout, const struct codec_source *src,
			     uint32_t first, uint32_t count, uint8_t *tile,
			     struct quant_steps *steps, __m512 *ret_scales)
{
	_Alignas(64) float smallest[VEC_LANES] = { 0 };
	_Alignas(64) float largest[VEC_LANES] = { 0 };
	_Alignas(64) float spoilt[VEC_LANES] = { 0 };
	struct range range;

	for (uint32_t i = 0; i < count; i++)
		token_range(dtype, layout, src, first + i, &smallest[i], &largest[i], &spoilt[i]);
	range = (struct range){ _mm512_load_ps(smallest), _mm512_load_ps(largest),
				_mm512_load_ps(spoilt) };
	*ret_scales = groups_close(layout, &range, steps_max, first, chunk_lanes(count, 0), tile,
				   steps);
	return range_accepted(&range);
}

/* As f32; any NaN becomes the one without payload. */
VEC_INLINE __m512 halves_f32(__m256i halves)
{
	const __m512 vector = _mm512_cvtph_ps(halves);
	const __mmask16 nan = _mm512_cmp_ps_mask(vector, vector, _CMP_UNORD_Q);

	return _mm512_mask_mov_ps(vector, nan,
				  _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000)));
}

/* Scales and mins of all f16 groups. */
VEC_INLINE void scales_load(const struct codec_layout *layout, const uint8_t *tile,
			    struct quant_scales *scales)
{
	for (uint32_t g = 0; g < layout->groups; g += VEC_LANES) {
		const __mmask16 lanes = chunk_lanes(layout->groups - g, 0);
		const __m256i scale =
			words_load(tile + layout->scales_offset + 2 * (size_t)g, lanes);
		const __m256i min = words_load(tile + layout->mins_offset + 2 * (size_t)g, lanes);

		_mm512_store_ps(&scales->scale[g], halves_f32(scale));
		_mm512_store_ps(&scales->min[g], halves_f32(min));
	}
}
