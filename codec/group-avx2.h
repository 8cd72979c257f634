/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX2: ranges of groups, eight at a time, and the f16 scales and mins that they make. steps_max
 * is how many steps a range is divided into.
 */
#pragma once

#include "codec/quant.h"
#include "codec/vec-avx2.h"

/*
 * Smallest and largest of eight groups, or of the parts of one; spoilt is NaN where a value was NaN
 * or infinite.
 */
struct range {
	__m256 smallest;
	__m256 largest;
	__m256 spoilt;
};

VEC_INLINE struct range range_start(__m256 vector)
{
	return (struct range){ vector, vector, _mm256_setzero_ps() };
}

VEC_INLINE void range_add(struct range *range, __m256 vector)
{
	range->smallest = _mm256_min_ps(range->smallest, vector);
	range->largest = _mm256_max_ps(range->largest, vector);
	range->spoilt = _mm256_fmadd_ps(vector, _mm256_setzero_ps(), range->spoilt);
}

VEC_INLINE bool range_accepted(const struct range *range)
{
	const __m256 low = _mm256_cmp_ps(range->smallest, _mm256_set1_ps(-HALF_MAX), _CMP_GE_OQ);
	const __m256 high = _mm256_cmp_ps(range->largest, _mm256_set1_ps(HALF_MAX), _CMP_LE_OQ);
	const __m256 sound = _mm256_cmp_ps(range->spoilt, range->spoilt, _CMP_ORD_Q);

	return _mm256_movemask_ps(_mm256_and_ps(_mm256_and_ps(low, high), sound)) == 0xff;
}

/*
 * Writes scale and min of @count groups from @first on, at most eight, and prepares their codes.
 * The result is the scales.
 */
VEC_INLINE __m256 groups_close(const struct codec_layout *layout, const struct range *range,
			       float steps_max, uint32_t first, uint32_t count, uint8_t *tile,
			       struct quant_steps *steps)
{
	const __m256 zero = _mm256_setzero_ps();
	/* The additions make -0 a +0, so that the order of comparisons cannot show. */
	const __m256 smallest = _mm256_add_ps(range->smallest, zero);
	const __m256 largest = _mm256_add_ps(range->largest, zero);
	const __m128i min = _mm256_cvtps_ph(smallest, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
	const __m256 min_f32 = _mm256_cvtph_ps(min);
	const __m256 exact =
		_mm256_div_ps(_mm256_sub_ps(largest, min_f32), _mm256_set1_ps(steps_max));
	const __m128i scale = _mm256_cvtps_ph(exact, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
	const __m256 scale_f32 = _mm256_cvtph_ps(scale);
	const __m256 spread = _mm256_cmp_ps(scale_f32, zero, _CMP_GT_OQ);

	memcpy(tile + layout->scales_offset + 2 * (size_t)first, &scale, 2 * (size_t)count);
	memcpy(tile + layout->mins_offset + 2 * (size_t)first, &min, 2 * (size_t)count);
	_mm256_store_ps(&steps->inverse[first],
			_mm256_and_ps(spread, _mm256_div_ps(_mm256_set1_ps(1.0f), scale_f32)));
	_mm256_store_ps(&steps->min[first], min_f32);
	return scale_f32;
}

/* The range of eight channels from @channel on, over all tokens, and their scales and mins. */
VEC_INLINE bool channels_close(enum codec_dtype dtype, float steps_max,
			       const struct codec_layout *layout, const struct codec_source *src,
			       uint32_t channel, uint8_t *tile, struct quant_steps *steps)
{
	const size_t offset = (size_t)channel * value_bytes(dtype);
	struct range range = range_start(vec_load(dtype, source_row(src, 0) + offset));

	for (uint32_t t = 0; t < layout->tokens; t++)
		range_add(&range, vec_load(dtype, source_row(src, t) + offset));
	groups_close(layout, &range, steps_max, channel, VEC_LANES, tile, steps);
	return range_accepted(&range);
}

VEC_INLINE float lanes_min(__m256 vector)
{
	__m128 lanes = _mm_min_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps(vector, 1));

	lanes = _mm_min_ps(lanes, _mm_movehl_ps(lanes, lanes));
	return _mm_cvtss_f32(_mm_min_ss(lanes, _mm_movehdup_ps(lanes)));
}

VEC_INLINE float lanes_max(__m256 vector)
{
	__m128 lanes = _mm_max_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps(vector, 1));

	lanes = _mm_max_ps(lanes, _mm_movehl_ps(lanes, lanes));
	return _mm_cvtss_f32(_mm_max_ss(lanes, _mm_movehdup_ps(lanes)));
}

/* Ranges of @count <= 8 tokens, and their scales, also in *@ret_scales, and mins. */
VEC_INLINE bool tokens_close(enum codec_dtype dtype, float steps_max,
			     const struct codec_layout *layout, const struct codec_source *src,
			     uint32_t first, uint32_t count, uint8_t *tile,
			     struct quant_steps *steps, __m256 *ret_scales)
{
	_Alignas(32) float smallest[VEC_LANES] = { 0 };
	_Alignas(32) float largest[VEC_LANES] = { 0 };
	struct range range;
	bool ok = true;

	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *values = source_row(src, first + i);

		range = range_start(vec_load(dtype, values));
		for (uint32_t c = 0; c < layout->head_dim; c += VEC_LANES)
			range_add(&range, vec_load(dtype, values + (size_t)c * value_bytes(dtype)));
		ok &= range_accepted(&range);
		smallest[i] = lanes_min(range.smallest);
		largest[i] = lanes_max(range.largest);
	}
	range = (struct range){ _mm256_load_ps(smallest), _mm256_load_ps(largest),
				_mm256_setzero_ps() };
	*ret_scales = groups_close(layout, &range, steps_max, first, count, tile, steps);
	return ok;
}

/* @count f16 as f32, and zeros. Not a byte more is read. */
VEC_INLINE __m256 halves_load(const uint8_t *halves, uint32_t count)
{
	const __m256 quiet = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));
	__m128i words = _mm_setzero_si128();
	__m256 vector;

	if (count >= VEC_LANES)
		words = _mm_loadu_si128((const void *)halves);
	else
		memcpy(&words, halves, 2 * (size_t)count);
	vector = _mm256_cvtph_ps(words);
	return _mm256_blendv_ps(vector, quiet, _mm256_cmp_ps(vector, vector, _CMP_UNORD_Q));
}

/* Scales and mins of all f16 groups. */
VEC_INLINE void scales_load(const struct codec_layout *layout, const uint8_t *tile,
			    struct quant_scales *scales)
{
	for (uint32_t g = 0; g < layout->groups; g += VEC_LANES) {
		const uint32_t left = layout->groups - g;

		_mm256_store_ps(&scales->scale[g],
				halves_load(tile + layout->scales_offset + 2 * (size_t)g, left));
		_mm256_store_ps(&scales->min[g],
				halves_load(tile + layout->mins_offset + 2 * (size_t)g, left));
	}
}
