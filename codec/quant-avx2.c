/* SPDX-License-Identifier: Apache-2.0 */
/*
 * q8, q6, q5, q4 with AVX2. Channels are taken in chunks of 32, four vectors; what is left in
 * vectors of eight. Everything is inlined into one kernel per codec, role and type, so that bits, role and
 * types are constants.
 */
#include "codec/codes-avx2.h"
#include "codec/prefetch.h"
#include "codec/quant.h"

#define CHUNK_VECTORS (VEC_CHUNK / VEC_LANES)

/*
 * K is taken chunk by chunk over so many tokens, of which ranges, or scales and mins, are in
 * registers meanwhile. More tokens would save loads, but memory is fastest when rows are read and
 * written from end to end; rows of f32 lose more than they save.
 */
#define RANGE_TOKENS 4u
#define STRIP_TOKENS_F32 1u
#define STRIP_TOKENS_HALF 2u

/* Smallest and largest of eight groups, or of the parts of one. */
struct range {
	__m256 smallest;
	__m256 largest;
};

/* Of all channels of a tile. */
struct channel_ranges {
	_Alignas(32) float smallest[CODEC_HEAD_DIM_MAX];
	_Alignas(32) float largest[CODEC_HEAD_DIM_MAX];
};

/* Of the groups of a chunk: min, and scale for decoding or its inverse for encoding. */
struct chunk_groups {
	__m256 min[CHUNK_VECTORS];
	__m256 factor[CHUNK_VECTORS];
};

VEC_INLINE struct range range_start(__m256 vector)
{
	return (struct range){ vector, vector };
}

VEC_INLINE void range_add(struct range *range, __m256 vector)
{
	range->smallest = _mm256_min_ps(range->smallest, vector);
	range->largest = _mm256_max_ps(range->largest, vector);
}

VEC_INLINE bool range_accepted(const struct range *range)
{
	const __m256 low = _mm256_cmp_ps(range->smallest, _mm256_set1_ps(-HALF_MAX), _CMP_GE_OQ);
	const __m256 high = _mm256_cmp_ps(range->largest, _mm256_set1_ps(HALF_MAX), _CMP_LE_OQ);

	return _mm256_movemask_ps(_mm256_and_ps(low, high)) == 0xff;
}

/* The comparisons of a range may pass over a NaN: @spoilt becomes NaN and stays so. */
VEC_INLINE __m256 spoilt_add(__m256 spoilt, __m256 vector)
{
	return _mm256_fmadd_ps(vector, _mm256_setzero_ps(), spoilt);
}

VEC_INLINE bool spoilt_accepted(__m256 spoilt)
{
	return _mm256_movemask_ps(_mm256_cmp_ps(spoilt, spoilt, _CMP_ORD_Q)) == 0xff;
}

/* Of @vectors times eight channels of K. */
VEC_INLINE void groups_load(const float *min, const float *factor, unsigned vectors,
			    struct chunk_groups *groups)
{
#pragma GCC unroll 4
	for (unsigned j = 0; j < vectors; j++) {
		groups->min[j] = _mm256_load_ps(min + VEC_LANES * j);
		groups->factor[j] = _mm256_load_ps(factor + VEC_LANES * j);
	}
}

/* Of one token of V. */
VEC_INLINE void groups_spread(float min, float factor, struct chunk_groups *groups)
{
#pragma GCC unroll 4
	for (unsigned j = 0; j < CHUNK_VECTORS; j++) {
		groups->min[j] = _mm256_set1_ps(min);
		groups->factor[j] = _mm256_set1_ps(factor);
	}
}

VEC_INLINE uint32_t strip_tokens(enum codec_dtype dtype)
{
	return dtype == CODEC_DTYPE_F32 ? STRIP_TOKENS_F32 : STRIP_TOKENS_HALF;
}

VEC_INLINE uint32_t tokens_from(const struct codec_layout *layout, uint32_t first, uint32_t most)
{
	return layout->tokens - first < most ? layout->tokens - first : most;
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

/* --- Encoding -------------------------------------------------------------------------------- */

VEC_INLINE __m256i steps_of(enum codec_dtype dtype, const uint8_t *values, __m256 min,
			    __m256 inverse)
{
	return _mm256_cvtps_epi32(
		_mm256_mul_ps(_mm256_sub_ps(vec_load(dtype, values), min), inverse));
}

VEC_INLINE void chunk_encode(enum codec_dtype dtype, unsigned bits, const uint8_t *values,
			     const struct chunk_groups *groups, uint8_t *packed)
{
	__m256i steps[CHUNK_VECTORS];

#pragma GCC unroll 4
	for (unsigned j = 0; j < CHUNK_VECTORS; j++)
		steps[j] = steps_of(dtype, values + (size_t)VEC_LANES * j * value_bytes(dtype),
				    groups->min[j], groups->factor[j]);
	chunk_codes_store(bits, steps, packed);
}

/* Adds some tokens to the ranges of @vectors times eight channels from @channel on. */
VEC_INLINE __m256 ranges_add(enum codec_dtype dtype, const struct codec_layout *layout,
			     const struct codec_source *src, uint32_t first, uint32_t channel,
			     unsigned vectors, __m256 spoilt, struct channel_ranges *ranges)
{
	const uint32_t tokens = tokens_from(layout, first, RANGE_TOKENS);
	const uint8_t *values = source_row(src, first) + (size_t)channel * value_bytes(dtype);
	const ptrdiff_t stride = src->stride_bytes;
	/* Two sums: one would be a chain of additions longer than all other work. */
	__m256 spoilts[2] = { spoilt, _mm256_setzero_ps() };
	struct range range[CHUNK_VECTORS];

#pragma GCC unroll 4
	for (unsigned j = 0; j < vectors; j++) {
		const uint32_t c = channel + VEC_LANES * j;

		range[j].smallest = _mm256_load_ps(&ranges->smallest[c]);
		range[j].largest = _mm256_load_ps(&ranges->largest[c]);
	}
	for (uint32_t t = 0; t < tokens; t++, values += stride) {
#pragma GCC unroll 4
		for (unsigned j = 0; j < vectors; j++) {
			const __m256 vector = vec_load(
				dtype, values + (size_t)VEC_LANES * j * value_bytes(dtype));

			range_add(&range[j], vector);
			spoilts[j % 2] = spoilt_add(spoilts[j % 2], vector);
		}
	}
#pragma GCC unroll 4
	for (unsigned j = 0; j < vectors; j++) {
		const uint32_t c = channel + VEC_LANES * j;

		_mm256_store_ps(&ranges->smallest[c], range[j].smallest);
		_mm256_store_ps(&ranges->largest[c], range[j].largest);
	}
	return _mm256_add_ps(spoilts[0], spoilts[1]);
}

/* Scales and mins of all channels. */
VEC_INLINE bool channels_close(enum codec_dtype dtype, unsigned bits,
			       const struct codec_layout *layout, const struct codec_source *src,
			       uint8_t *tile, struct quant_steps *steps)
{
	const uint32_t head_dim = layout->head_dim;
	__m256 spoilt = _mm256_setzero_ps();
	struct channel_ranges ranges;
	bool ok;

	for (uint32_t c = 0; c < head_dim; c += VEC_LANES) {
		const __m256 vector =
			vec_load(dtype, source_row(src, 0) + (size_t)c * value_bytes(dtype));

		_mm256_store_ps(&ranges.smallest[c], vector);
		_mm256_store_ps(&ranges.largest[c], vector);
	}
	for (uint32_t first = 0; first < layout->tokens; first += RANGE_TOKENS) {
		uint32_t c = 0;

		for (uint32_t t = first; t < first + tokens_from(layout, first, RANGE_TOKENS); t++)
			bytes_prefetch(source_row(src, t), head_dim * value_bytes(dtype));
		for (; c + VEC_CHUNK <= head_dim; c += VEC_CHUNK)
			spoilt = ranges_add(dtype, layout, src, first, c, CHUNK_VECTORS, spoilt,
					    &ranges);
		for (; c < head_dim; c += VEC_LANES)
			spoilt = ranges_add(dtype, layout, src, first, c, 1, spoilt, &ranges);
	}
	ok = spoilt_accepted(spoilt);
	for (uint32_t c = 0; c < head_dim; c += VEC_LANES) {
		const struct range range = { _mm256_load_ps(&ranges.smallest[c]),
					     _mm256_load_ps(&ranges.largest[c]) };

		groups_close(layout, &range, bits, c, VEC_LANES, tile, steps);
		ok &= range_accepted(&range);
	}
	return ok;
}

/* Codes of K: of some tokens from @first on, and one chunk of channels, or one vector. */
VEC_INLINE void strip_encode(enum codec_dtype dtype, unsigned bits,
			     const struct codec_layout *layout, const struct codec_source *src,
			     uint32_t first, uint32_t channel, unsigned vectors,
			     const struct quant_steps *steps, uint8_t *tile)
{
	const uint32_t tokens = tokens_from(layout, first, strip_tokens(dtype));
	const uint32_t row_bytes = layout->row_bytes;
	const ptrdiff_t stride = src->stride_bytes;
	const uint8_t *values = source_row(src, first) + (size_t)channel * value_bytes(dtype);
	uint8_t *packed = tile_row(layout, tile, first) + channel / 8 * bits;
	struct chunk_groups groups;

	groups_load(&steps->min[channel], &steps->inverse[channel], vectors, &groups);
	for (uint32_t t = 0; t < tokens; t++, values += stride, packed += row_bytes) {
		if (vectors == CHUNK_VECTORS)
			chunk_encode(dtype, bits, values, &groups, packed);
		else
			codes_store(bits,
				    steps_of(dtype, values, groups.min[0], groups.factor[0]),
				    packed);
	}
}

VEC_INLINE bool encode_k_from(enum codec_dtype dtype, unsigned bits,
			      const struct codec_layout *layout, const struct codec_source *src,
			      uint8_t *tile)
{
	const uint32_t head_dim = layout->head_dim;
	struct quant_steps steps;

	if (!channels_close(dtype, bits, layout, src, tile, &steps))
		return false;
	for (uint32_t first = 0; first < layout->tokens; first += strip_tokens(dtype)) {
		uint32_t c = 0;

		for (; c + VEC_CHUNK <= head_dim; c += VEC_CHUNK)
			strip_encode(dtype, bits, layout, src, first, c, CHUNK_VECTORS, &steps,
				     tile);
		for (; c < head_dim; c += VEC_LANES)
			strip_encode(dtype, bits, layout, src, first, c, 1, &steps, tile);
	}
	return true;
}

/* Smallest or largest of corresponding lanes. */
VEC_INLINE __m256 extreme(bool largest, __m256 a, __m256 b)
{
	return largest ? _mm256_max_ps(a, b) : _mm256_min_ps(a, b);
}

/* The extreme of each of eight vectors, in order: half the work of one vector after another. */
VEC_INLINE __m256 parts_merge(bool largest, const __m256 parts[VEC_LANES])
{
	__m256 rows[4]; /* the lower half is of token row, the upper of token 4 + row */
	__m256 even, odd;

#pragma GCC unroll 4
	for (unsigned i = 0; i < 4; i++)
		rows[i] = extreme(largest, _mm256_permute2f128_ps(parts[i], parts[4 + i], 0x20),
				  _mm256_permute2f128_ps(parts[i], parts[4 + i], 0x31));
	even = extreme(largest, _mm256_shuffle_ps(rows[0], rows[1], 0x44),
		       _mm256_shuffle_ps(rows[0], rows[1], 0xee));
	odd = extreme(largest, _mm256_shuffle_ps(rows[2], rows[3], 0x44),
		      _mm256_shuffle_ps(rows[2], rows[3], 0xee));
	return extreme(largest, _mm256_shuffle_ps(even, odd, 0x88),
		       _mm256_shuffle_ps(even, odd, 0xdd));
}

/* Scales and mins of at most eight tokens from @first on. */
VEC_INLINE bool tokens_close(enum codec_dtype dtype, unsigned bits,
			     const struct codec_layout *layout, const struct codec_source *src,
			     uint32_t first, uint32_t tokens, uint8_t *tile,
			     struct quant_steps *steps)
{
	const uint32_t head_dim = layout->head_dim;
	__m256 smallest[VEC_LANES] = { 0 };
	__m256 largest[VEC_LANES] = { 0 };
	__m256 spoilt = _mm256_setzero_ps();
	struct range range;

	for (uint32_t i = 0; i < tokens; i++) {
		const uint8_t *values = source_row(src, first + i);

		range = range_start(vec_load(dtype, values));
		for (uint32_t c = 0; c < head_dim; c += VEC_LANES) {
			const __m256 vector =
				vec_load(dtype, values + (size_t)c * value_bytes(dtype));

			range_add(&range, vector);
			spoilt = spoilt_add(spoilt, vector);
		}
		smallest[i] = range.smallest;
		largest[i] = range.largest;
	}
	range = (struct range){ parts_merge(false, smallest), parts_merge(true, largest) };
	groups_close(layout, &range, bits, first, tokens, tile, steps);
	return range_accepted(&range) && spoilt_accepted(spoilt);
}

VEC_INLINE void token_encode(enum codec_dtype dtype, unsigned bits, uint32_t head_dim,
			     const uint8_t *values, float min, float inverse, uint8_t *row)
{
	struct chunk_groups groups;
	uint32_t c = 0;

	groups_spread(min, inverse, &groups);
	for (; c + VEC_CHUNK <= head_dim; c += VEC_CHUNK)
		chunk_encode(dtype, bits, values + (size_t)c * value_bytes(dtype), &groups,
			     row + c / 8 * bits);
	for (; c < head_dim; c += VEC_LANES)
		codes_store(bits,
			    steps_of(dtype, values + (size_t)c * value_bytes(dtype), groups.min[0],
				     groups.factor[0]),
			    row + c / 8 * bits);
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
		const uint32_t tokens = tokens_from(layout, first, VEC_LANES);

		if (!tokens_close(dtype, bits, layout, src, first, tokens, tile, &steps))
			return false;
		for (uint32_t t = first; t < first + tokens; t++)
			token_encode(dtype, bits, layout->head_dim, source_row(src, t),
				     steps.min[t], steps.inverse[t], tile_row(layout, tile, t));
	}
	return true;
}

/* --- Decoding -------------------------------------------------------------------------------- */

/* As f32; any NaN becomes the one without payload. */
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

VEC_INLINE void chunk_decode(enum codec_dtype dtype, unsigned bits, const uint8_t *packed,
			     const struct chunk_groups *groups, uint8_t *values)
{
	__m256 vectors[CHUNK_VECTORS];

#pragma GCC unroll 4
	for (unsigned j = 0; j < CHUNK_VECTORS; j++)
		vectors[j] = _mm256_fmadd_ps(chunk_codes_f32(bits, packed, j), groups->factor[j],
					     groups->min[j]);
	chunk_store(dtype, values, vectors);
}

/* A row is written end to end: each part of the target is fetched before it is overwritten. */
VEC_INLINE void token_decode(enum codec_dtype dtype, unsigned bits, enum codec_role role,
			     uint32_t head_dim, const uint8_t *row,
			     const struct quant_scales *scales, uint32_t token, uint8_t *values)
{
	struct chunk_groups groups;
	uint32_t c = 0;

	if (role == CODEC_ROLE_V)
		groups_spread(scales->min[token], scales->scale[token], &groups);
	for (; c + VEC_CHUNK <= head_dim; c += VEC_CHUNK) {
		if (role == CODEC_ROLE_K)
			groups_load(&scales->min[c], &scales->scale[c], CHUNK_VECTORS, &groups);
		bytes_prefetch(row + c / 8 * bits, VEC_CHUNK / 8 * bits);
		chunk_decode(dtype, bits, row + c / 8 * bits, &groups,
			     values + (size_t)c * value_bytes(dtype));
	}
	for (; c < head_dim; c += VEC_LANES) {
		if (role == CODEC_ROLE_K)
			groups_load(&scales->min[c], &scales->scale[c], 1, &groups);
		vec_store(dtype, values + (size_t)c * value_bytes(dtype),
			  _mm256_fmadd_ps(codes_f32(bits, row + c / 8 * bits), groups.factor[0],
					  groups.min[0]));
	}
}

VEC_INLINE void decode_to(enum codec_dtype dtype, unsigned bits, enum codec_role role,
			  const struct codec_layout *layout, const uint8_t *tile,
			  const struct codec_target *dst)
{
	struct quant_scales scales;

	scales_load(layout, tile, &scales);
	for (uint32_t t = 0; t < layout->tokens; t++)
		token_decode(dtype, bits, role, layout->head_dim, tile_row_const(layout, tile, t),
			     &scales, t, target_row(dst, t));
}

/* --- The kernels ----------------------------------------------------------------------------- */

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
QUANT_KERNELS(5, avx2)
QUANT_KERNELS(4, avx2)
