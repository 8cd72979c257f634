/* SPDX-License-Identifier: Apache-2.0 */
/*
 * q8, q6, q4 with AVX2, eight channels at a time. Everything is inlined into one kernel per codec,
 * role and type, so that bits, role and types are constants.
 */
#include "codec/codes-avx2.h"
#include "codec/quant.h"

#define STRIP_VECTORS 4u /* channels of K whose ranges are kept in registers, in vectors */

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

/* Writes scale and min of @count groups from @first on, at most eight, and prepares their codes. */
VEC_INLINE void groups_close(const struct codec_layout *layout, const struct range *range,
			     unsigned bits, uint32_t first, uint32_t count, uint8_t *tile,
			     struct quant_steps *steps)
{
	const __m256 zero = _mm256_setzero_ps();
	/* The additions make -0 a +0, so that the order of comparisons cannot show. */
	const __m256 smallest = _mm256_add_ps(range->smallest, zero);
	const __m256 largest = _mm256_add_ps(range->largest, zero);
	const __m128i min = _mm256_cvtps_ph(smallest, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
	const __m256 min_f32 = _mm256_cvtph_ps(min);
	const __m256 exact = _mm256_div_ps(_mm256_sub_ps(largest, min_f32),
					   _mm256_set1_ps(quant_code_max(bits)));
	const __m128i scale = _mm256_cvtps_ph(exact, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
	const __m256 scale_f32 = _mm256_cvtph_ps(scale);
	const __m256 spread = _mm256_cmp_ps(scale_f32, zero, _CMP_GT_OQ);

	memcpy(tile + layout->scales_offset + 2 * (size_t)first, &scale, 2 * (size_t)count);
	memcpy(tile + layout->mins_offset + 2 * (size_t)first, &min, 2 * (size_t)count);
	_mm256_store_ps(&steps->inverse[first],
			_mm256_and_ps(spread, _mm256_div_ps(_mm256_set1_ps(1.0f), scale_f32)));
	_mm256_store_ps(&steps->min[first], min_f32);
}

VEC_INLINE void row_encode(enum codec_dtype dtype, unsigned bits, enum codec_role role,
			   const struct codec_layout *layout, const struct codec_source *src,
			   uint32_t token, const struct quant_steps *steps, uint8_t *tile)
{
	const uint8_t *values = source_row(src, token);
	uint8_t *row = tile_row(layout, tile, token);

	for (uint32_t c = 0; c < layout->head_dim; c += VEC_LANES) {
		const __m256 value = vec_load(dtype, values + (size_t)c * value_bytes(dtype));
		const __m256 min = role == CODEC_ROLE_K ? _mm256_load_ps(&steps->min[c])
							: _mm256_set1_ps(steps->min[token]);
		const __m256 inverse = role == CODEC_ROLE_K ? _mm256_load_ps(&steps->inverse[c])
							    : _mm256_set1_ps(steps->inverse[token]);
		const __m256 exact = _mm256_mul_ps(_mm256_sub_ps(value, min), inverse);

		codes_store(bits, _mm256_cvtps_epi32(exact), row + c / 8 * bits);
	}
}

/*
 * Ranges of @vectors times eight channels from @channel on over all tokens, and their scales and
 * mins.
 */
VEC_INLINE bool channels_close(enum codec_dtype dtype, unsigned bits,
			       const struct codec_layout *layout, const struct codec_source *src,
			       uint32_t channel, unsigned vectors, uint8_t *tile,
			       struct quant_steps *steps)
{
	struct range range[STRIP_VECTORS];
	bool ok = true;

#pragma GCC unroll 4
	for (unsigned j = 0; j < vectors; j++) {
		const size_t offset = (size_t)(channel + VEC_LANES * j) * value_bytes(dtype);

		range[j] = range_start(vec_load(dtype, source_row(src, 0) + offset));
	}
	for (uint32_t t = 0; t < layout->tokens; t++) {
		const uint8_t *values = source_row(src, t) + (size_t)channel * value_bytes(dtype);

#pragma GCC unroll 4
		for (unsigned j = 0; j < vectors; j++)
			range_add(&range[j],
				  vec_load(dtype, values + VEC_LANES * j * value_bytes(dtype)));
	}
#pragma GCC unroll 4
	for (unsigned j = 0; j < vectors; j++) {
		groups_close(layout, &range[j], bits, channel + VEC_LANES * j, VEC_LANES, tile,
			     steps);
		ok &= range_accepted(&range[j]);
	}
	return ok;
}

VEC_INLINE bool encode_k_from(enum codec_dtype dtype, unsigned bits,
			      const struct codec_layout *layout, const struct codec_source *src,
			      uint8_t *tile)
{
	const uint32_t strip = STRIP_VECTORS * VEC_LANES;
	struct quant_steps steps;
	uint32_t c = 0;
	bool ok = true;

	for (; c + strip <= layout->head_dim; c += strip)
		ok &= channels_close(dtype, bits, layout, src, c, STRIP_VECTORS, tile, &steps);
	for (; c < layout->head_dim; c += VEC_LANES)
		ok &= channels_close(dtype, bits, layout, src, c, 1, tile, &steps);
	if (!ok)
		return false;
	for (uint32_t t = 0; t < layout->tokens; t++)
		row_encode(dtype, bits, CODEC_ROLE_K, layout, src, t, &steps, tile);
	return true;
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

VEC_INLINE float lanes_add(__m256 vector)
{
	__m128 lanes = _mm_add_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps(vector, 1));

	lanes = _mm_add_ps(lanes, _mm_movehl_ps(lanes, lanes));
	return _mm_cvtss_f32(_mm_add_ss(lanes, _mm_movehdup_ps(lanes)));
}

/* The range of one token. */
VEC_INLINE void token_range(enum codec_dtype dtype, const struct codec_layout *layout,
			    const struct codec_source *src, uint32_t token, float *ret_smallest,
			    float *ret_largest, float *ret_spoilt)
{
	const uint8_t *values = source_row(src, token);
	struct range range = range_start(vec_load(dtype, values));

	for (uint32_t c = 0; c < layout->head_dim; c += VEC_LANES)
		range_add(&range, vec_load(dtype, values + (size_t)c * value_bytes(dtype)));
	*ret_smallest = lanes_min(range.smallest);
	*ret_largest = lanes_max(range.largest);
	*ret_spoilt = lanes_add(range.spoilt);
}

/*
 * Eight tokens at a time: their scales are computed together, and their values are still in the
 * first cache.
 */
VEC_INLINE bool encode_v_from(enum codec_dtype dtype, unsigned bits,
			      const struct codec_layout *layout, const struct codec_source *src,
			      uint8_t *tile)
{
	struct quant_steps steps;

	for (uint32_t first = 0; first < layout->tokens; first += VEC_LANES) {
		const uint32_t count =
			layout->tokens - first < VEC_LANES ? layout->tokens - first : VEC_LANES;
		_Alignas(32) float smallest[VEC_LANES] = { 0 };
		_Alignas(32) float largest[VEC_LANES] = { 0 };
		_Alignas(32) float spoilt[VEC_LANES] = { 0 };
		struct range range;

		for (uint32_t i = 0; i < count; i++)
			token_range(dtype, layout, src, first + i, &smallest[i], &largest[i],
				    &spoilt[i]);
		range = (struct range){ _mm256_load_ps(smallest), _mm256_load_ps(largest),
					_mm256_load_ps(spoilt) };
		groups_close(layout, &range, bits, first, count, tile, &steps);
		if (!range_accepted(&range))
			return false;
		for (uint32_t i = 0; i < count; i++)
			row_encode(dtype, bits, CODEC_ROLE_V, layout, src, first + i, &steps, tile);
	}
	return true;
}

VEC_INLINE __m256 halves_load(const uint8_t *halves, uint32_t count)
{
	__m128i words = _mm_setzero_si128();

	if (count >= VEC_LANES)
		words = _mm_loadu_si128((const void *)halves);
	else
		memcpy(&words, halves, 2 * (size_t)count);
	return _mm256_cvtph_ps(words);
}

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

VEC_INLINE void decode_to(enum codec_dtype dtype, unsigned bits, enum codec_role role,
			  const struct codec_layout *layout, const uint8_t *tile,
			  const struct codec_target *dst)
{
	struct quant_scales scales;

	scales_load(layout, tile, &scales);
	for (uint32_t t = 0; t < layout->tokens; t++) {
		const uint8_t *row = tile_row_const(layout, tile, t);
		uint8_t *values = target_row(dst, t);

		for (uint32_t c = 0; c < layout->head_dim; c += VEC_LANES) {
			const __m256 scale = role == CODEC_ROLE_K ? _mm256_load_ps(&scales.scale[c])
								  : _mm256_set1_ps(scales.scale[t]);
			const __m256 min = role == CODEC_ROLE_K ? _mm256_load_ps(&scales.min[c])
								: _mm256_set1_ps(scales.min[t]);
			const __m256 codes = codes_f32(bits, row + c / 8 * bits);

			vec_store(dtype, values + (size_t)c * value_bytes(dtype),
				  _mm256_fmadd_ps(codes, scale, min));
		}
	}
}

VEC_INLINE bool encode_k(unsigned bits, const struct codec_layout *layout,
			 const struct codec_source *src, uint8_t *tile)
{
	return DTYPE_CONSTANT(src->dtype, encode_k_from, bits, layout, src, tile);
}

VEC_INLINE bool encode_v(unsigned bits, const struct codec_layout *layout,
			 const struct codec_source *src, uint8_t *tile)
{
	return DTYPE_CONSTANT(src->dtype, encode_v_from, bits, layout, src, tile);
}

VEC_INLINE void decode(unsigned bits, enum codec_role role, const struct codec_layout *layout,
		       const uint8_t *tile, const struct codec_target *dst)
{
	DTYPE_CONSTANT(dst->dtype, decode_to, bits, role, layout, tile, dst);
}

QUANT_KERNELS(8, avx2)
QUANT_KERNELS(6, avx2)
QUANT_KERNELS(4, avx2)
