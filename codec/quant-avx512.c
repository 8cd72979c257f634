/* SPDX-License-Identifier: Apache-2.0 */
/*
 * q8, q6, q4 with AVX-512 VBMI. Channels are taken in chunks of 64, four vectors; the last chunk
 * may be shorter and is masked. Everything is inlined into one kernel per codec, role and type, so
 * that bits, role and types are constants.
 */
#include "codec/codes-avx512.h"
#include "codec/quant.h"

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

/* Writes scale and min of those of sixteen groups that @lanes names, and prepares their codes. */
VEC_INLINE void groups_close(const struct codec_layout *layout, const struct range *range,
			     unsigned bits, uint32_t first, __mmask16 lanes, uint8_t *tile,
			     struct quant_steps *steps)
{
	const __m512 zero = _mm512_setzero_ps();
	/* The additions make -0 a +0, so that the order of comparisons cannot show. */
	const __m512 smallest = _mm512_add_ps(range->smallest, zero);
	const __m512 largest = _mm512_add_ps(range->largest, zero);
	const __m256i min = _mm512_cvtps_ph(smallest, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
	const __m512 min_f32 = _mm512_cvtph_ps(min);
	const __m512 extent = _mm512_sub_ps(largest, min_f32);
	const __m512 exact = _mm512_div_ps(extent, _mm512_set1_ps(quant_code_max(bits)));
	const __m256i scale = _mm512_cvtps_ph(exact, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
	const __m512 scale_f32 = _mm512_cvtph_ps(scale);
	const __mmask16 spread = _mm512_cmp_ps_mask(scale_f32, zero, _CMP_GT_OQ);

	words_store(tile + layout->scales_offset + 2 * (size_t)first, lanes, scale);
	words_store(tile + layout->mins_offset + 2 * (size_t)first, lanes, min);
	_mm512_store_ps(&steps->inverse[first],
			_mm512_maskz_div_ps(spread, _mm512_set1_ps(1.0f), scale_f32));
	_mm512_store_ps(&steps->min[first], min_f32);
}

/* Quantises and packs @count channels from @channel on, of one token. */
VEC_INLINE void chunk_encode(enum codec_dtype dtype, unsigned bits, enum codec_role role,
			     const uint8_t *values, uint32_t token, uint32_t channel,
			     uint32_t count, const struct quant_steps *steps, uint8_t *row)
{
	__m512i codes[4] = { _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
			     _mm512_setzero_si512() };

#pragma GCC unroll 4
	for (unsigned j = 0; j < chunk_vectors(count); j++) {
		const uint32_t c = channel + VEC_LANES * j;
		const __m512 value = vec_load(dtype, values + (size_t)c * value_bytes(dtype),
					      chunk_lanes(count, j));
		const __m512 min = role == CODEC_ROLE_K ? _mm512_load_ps(&steps->min[c])
							: _mm512_set1_ps(steps->min[token]);
		const __m512 inverse = role == CODEC_ROLE_K ? _mm512_load_ps(&steps->inverse[c])
							    : _mm512_set1_ps(steps->inverse[token]);

		codes[j] = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_sub_ps(value, min), inverse));
	}
	codes_pack(bits, codes_narrow(bits, codes), count, row + channel / 8 * bits);
}

VEC_INLINE void row_encode(enum codec_dtype dtype, unsigned bits, enum codec_role role,
			   const struct codec_layout *layout, const struct codec_source *src,
			   uint32_t token, const struct quant_steps *steps, uint8_t *tile)
{
	const uint8_t *values = source_row(src, token);
	uint8_t *row = tile_row(layout, tile, token);
	uint32_t c = 0;

	for (; c + VEC_CHUNK <= layout->head_dim; c += VEC_CHUNK)
		chunk_encode(dtype, bits, role, values, token, c, VEC_CHUNK, steps, row);
	if (c < layout->head_dim)
		chunk_encode(dtype, bits, role, values, token, c, layout->head_dim - c, steps, row);
}

/*
 * Ranges of @vectors times sixteen channels from @channel on over all tokens, and their scales and
 * mins. @lanes may name fewer than sixteen when there is one vector.
 */
VEC_INLINE bool channels_close(enum codec_dtype dtype, unsigned bits,
			       const struct codec_layout *layout, const struct codec_source *src,
			       uint32_t channel, unsigned vectors, __mmask16 lanes, uint8_t *tile,
			       struct quant_steps *steps)
{
	struct range range[4];
	bool ok = true;

#pragma GCC unroll 4
	for (unsigned j = 0; j < vectors; j++) {
		const size_t offset = (size_t)(channel + VEC_LANES * j) * value_bytes(dtype);

		range[j] = range_start(vec_load(dtype, source_row(src, 0) + offset, lanes));
	}
	for (uint32_t t = 0; t < layout->tokens; t++) {
		const uint8_t *values = source_row(src, t) + (size_t)channel * value_bytes(dtype);

#pragma GCC unroll 4
		for (unsigned j = 0; j < vectors; j++) {
			const uint8_t *vector = values + VEC_LANES * j * value_bytes(dtype);

			range_add(&range[j], vec_load(dtype, vector, lanes), 0xffff);
		}
	}
#pragma GCC unroll 4
	for (unsigned j = 0; j < vectors; j++) {
		groups_close(layout, &range[j], bits, channel + VEC_LANES * j, lanes, tile, steps);
		ok &= range_accepted(&range[j]);
	}
	return ok;
}

VEC_INLINE bool encode_k_from(enum codec_dtype dtype, unsigned bits,
			      const struct codec_layout *layout, const struct codec_source *src,
			      uint8_t *tile)
{
	struct quant_steps steps;
	uint32_t c = 0;
	bool ok = true;

	for (; c + VEC_CHUNK <= layout->head_dim; c += VEC_CHUNK)
		ok &= channels_close(dtype, bits, layout, src, c, 4, 0xffff, tile, &steps);
	for (; c < layout->head_dim; c += VEC_LANES)
		ok &= channels_close(dtype, bits, layout, src, c, 1,
				     chunk_lanes(layout->head_dim - c, 0), tile, &steps);
	if (!ok)
		return false;
	for (uint32_t t = 0; t < layout->tokens; t++)
		row_encode(dtype, bits, CODEC_ROLE_K, layout, src, t, &steps, tile);
	return true;
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

/*
 * Sixteen tokens at a time: their scales are computed together, and their values are still in the
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
		_Alignas(64) float smallest[VEC_LANES] = { 0 };
		_Alignas(64) float largest[VEC_LANES] = { 0 };
		_Alignas(64) float spoilt[VEC_LANES] = { 0 };
		struct range range;

		for (uint32_t i = 0; i < count; i++)
			token_range(dtype, layout, src, first + i, &smallest[i], &largest[i],
				    &spoilt[i]);
		range = (struct range){ _mm512_load_ps(smallest), _mm512_load_ps(largest),
					_mm512_load_ps(spoilt) };
		groups_close(layout, &range, bits, first, chunk_lanes(count, 0), tile, &steps);
		if (!range_accepted(&range))
			return false;
		for (uint32_t i = 0; i < count; i++)
			row_encode(dtype, bits, CODEC_ROLE_V, layout, src, first + i, &steps, tile);
	}
	return true;
}

VEC_INLINE void scales_load(const struct codec_layout *layout, const uint8_t *tile,
			    struct quant_scales *scales)
{
	for (uint32_t g = 0; g < layout->groups; g += VEC_LANES) {
		const __mmask16 lanes = chunk_lanes(layout->groups - g, 0);
		const __m256i scale =
			words_load(tile + layout->scales_offset + 2 * (size_t)g, lanes);
		const __m256i min = words_load(tile + layout->mins_offset + 2 * (size_t)g, lanes);

		_mm512_store_ps(&scales->scale[g], _mm512_cvtph_ps(scale));
		_mm512_store_ps(&scales->min[g], _mm512_cvtph_ps(min));
	}
}

VEC_INLINE void chunk_decode(enum codec_dtype dtype, unsigned bits, enum codec_role role,
			     const uint8_t *row, uint32_t token, uint32_t channel, uint32_t count,
			     const struct quant_scales *scales, uint8_t *values)
{
	const __m512i codes = codes_unpack(bits, row + channel / 8 * bits, count);

#pragma GCC unroll 4
	for (unsigned j = 0; j < chunk_vectors(count); j++) {
		const uint32_t c = channel + VEC_LANES * j;
		const __m512 scale = role == CODEC_ROLE_K ? _mm512_load_ps(&scales->scale[c])
							  : _mm512_set1_ps(scales->scale[token]);
		const __m512 min = role == CODEC_ROLE_K ? _mm512_load_ps(&scales->min[c])
							: _mm512_set1_ps(scales->min[token]);

		vec_store(dtype, values + (size_t)c * value_bytes(dtype), chunk_lanes(count, j),
			  _mm512_fmadd_ps(codes_f32(codes, j), scale, min));
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
		uint32_t c = 0;

		for (; c + VEC_CHUNK <= layout->head_dim; c += VEC_CHUNK)
			chunk_decode(dtype, bits, role, row, t, c, VEC_CHUNK, &scales, values);
		if (c < layout->head_dim)
			chunk_decode(dtype, bits, role, row, t, c, layout->head_dim - c, &scales,
				     values);
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

QUANT_KERNELS(8, avx512)
QUANT_KERNELS(6, avx512)
QUANT_KERNELS(4, avx512)
