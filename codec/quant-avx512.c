/* SPDX-License-Identifier: Apache-2.0 */
/*
 * q8, q6, q5, q4 with AVX-512 VBMI. Channels are taken in chunks of 64, four vectors; the last
 * chunk may be shorter and is masked. Everything is inlined into one kernel per codec, role and type, so
 * that bits, role and types are constants.
 */
#include "codec/codes-avx512.h"
#include "codec/prefetch.h"
#include "codec/quant.h"

/*
 * K is taken by strips of up to two chunks over this many tokens, whose scales and mins are in
 * registers meanwhile. Reading them for each row is slower than it seems: while stores to far
 * memory wait, a load from an address equal to one of theirs in its low twelve bits waits with
 * them. Most rows are one strip, and so written from end to end, which memory likes best.
 */
#define STRIP_TOKENS 16u
#define STRIP_CHUNKS 2u

#define WIDE_VECTORS 8u /* channels whose ranges are kept in registers, in vectors */

/* Smallest and largest of sixteen groups, or of the parts of one. */
struct range {
	__m512 smallest;
	__m512 largest;
};

/* Of the groups of a chunk: min, and scale for decoding or its inverse for encoding. */
struct chunk_groups {
	__m512 min[4];
	__m512 factor[4];
};

VEC_INLINE struct range range_start(__m512 vector)
{
	return (struct range){ vector, vector };
}

VEC_INLINE void range_add(struct range *range, __m512 vector, __mmask16 lanes)
{
	range->smallest = _mm512_mask_min_ps(range->smallest, lanes, range->smallest, vector);
	range->largest = _mm512_mask_max_ps(range->largest, lanes, range->largest, vector);
}

VEC_INLINE bool range_accepted(const struct range *range)
{
	const __mmask16 low =
		_mm512_cmp_ps_mask(range->smallest, _mm512_set1_ps(-HALF_MAX), _CMP_GE_OQ);
	const __mmask16 high =
		_mm512_cmp_ps_mask(range->largest, _mm512_set1_ps(HALF_MAX), _CMP_LE_OQ);

	return (low & high) == 0xffff;
}

/* The comparisons of a range may pass over a NaN: @spoilt becomes NaN and stays so. */
VEC_INLINE __m512 spoilt_add(__m512 spoilt, __m512 vector)
{
	return _mm512_fmadd_ps(vector, _mm512_setzero_ps(), spoilt);
}

VEC_INLINE bool spoilt_accepted(__m512 spoilt)
{
	return _mm512_cmp_ps_mask(spoilt, spoilt, _CMP_ORD_Q) == 0xffff;
}

/* Of the groups of a strip; of V, lane t has the numbers of the t-th token instead. */
struct strip_groups {
	struct chunk_groups chunk[STRIP_CHUNKS];
	__m512 mins;
	__m512 factors;
	__m512i token;
};

VEC_INLINE void strip_groups_start(enum codec_role role, const float *min, const float *factor,
				   uint32_t first, uint32_t channel, unsigned chunks,
				   struct strip_groups *groups)
{
	if (role == CODEC_ROLE_V) {
		groups->mins = _mm512_load_ps(&min[first]);
		groups->factors = _mm512_load_ps(&factor[first]);
		groups->token = _mm512_setzero_si512();
		return;
	}
#pragma GCC unroll 8
	for (unsigned j = 0; j < 4 * chunks; j++) {
		struct chunk_groups *chunk = &groups->chunk[j / 4];

		chunk->min[j % 4] = _mm512_load_ps(&min[channel + VEC_LANES * j]);
		chunk->factor[j % 4] = _mm512_load_ps(&factor[channel + VEC_LANES * j]);
	}
}

/* What a row needs: of V, the numbers of the next token. */
VEC_INLINE void strip_groups_row(enum codec_role role, unsigned chunks,
				 struct strip_groups *groups)
{
	if (role == CODEC_ROLE_K)
		return;
	const __m512i token = groups->token;

	groups->token = _mm512_add_epi32(token, _mm512_set1_epi32(1));
#pragma GCC unroll 8
	for (unsigned j = 0; j < 4 * chunks; j++) {
		struct chunk_groups *chunk = &groups->chunk[j / 4];

		chunk->min[j % 4] = _mm512_permutexvar_ps(token, groups->mins);
		chunk->factor[j % 4] = _mm512_permutexvar_ps(token, groups->factors);
	}
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

/* The tokens of the strip that begins with token @first. */
VEC_INLINE uint32_t strip_tokens(const struct codec_layout *layout, uint32_t first)
{
	return layout->tokens - first < STRIP_TOKENS ? layout->tokens - first : STRIP_TOKENS;
}

/* As f32; any NaN becomes the one without payload. */
VEC_INLINE __m512 halves_f32(__m256i halves)
{
	const __m512 vector = _mm512_cvtph_ps(halves);
	const __mmask16 nan = _mm512_cmp_ps_mask(vector, vector, _CMP_UNORD_Q);

	return _mm512_mask_mov_ps(vector, nan,
				  _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000)));
}

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

/* Unpacks @count codes and stores their values. */
VEC_INLINE void chunk_decode(enum codec_dtype dtype, unsigned bits, const uint8_t *packed,
			     uint32_t count, const struct chunk_groups *groups, uint8_t *values)
{
	const __m512i codes = codes_unpack(bits, packed, count);
	__m512 vectors[4];

#pragma GCC unroll 4
	for (unsigned j = 0; j < 4; j++)
		vectors[j] = _mm512_fmadd_ps(codes_f32(codes, j), groups->factor[j],
					     groups->min[j]);
	chunk_store(dtype, values, count, vectors);
}

/* Quantises and packs @count values. */
VEC_INLINE void chunk_encode(enum codec_dtype dtype, unsigned bits, const uint8_t *values,
			     uint32_t count, const struct chunk_groups *groups, uint8_t *packed)
{
	__m512i codes[4] = { _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
			     _mm512_setzero_si512() };

#pragma GCC unroll 4
	for (unsigned j = 0; j < chunk_vectors(count); j++) {
		const __m512 value =
			vec_load(dtype, values + (size_t)VEC_LANES * j * value_bytes(dtype),
				 chunk_lanes(count, j));
		const __m512 distance = _mm512_sub_ps(value, groups->min[j]);

		codes[j] = _mm512_cvtps_epi32(_mm512_mul_ps(distance, groups->factor[j]));
	}
	codes_pack(bits, codes_narrow(bits, codes), count, packed);
}

/* Chunks of a strip, with the one that @rest is; a constant when @chunks is. */
VEC_INLINE unsigned strip_parts(unsigned chunks, uint32_t rest)
{
	return __builtin_constant_p(rest) && rest == 0 ? chunks : chunks + 1;
}

/*
 * Calls strip(..., channel, chunks, rest) for all channels. The widths that models have, multiples
 * of 32, are constants and therefore without masks.
 */
#define STRIPS(strip, head_dim, ...)                                                               \
	do {                                                                                       \
		const uint32_t end = (head_dim);                                                   \
		uint32_t at = 0;                                                                   \
                                                                                                   \
		for (; at + 2 * VEC_CHUNK <= end; at += 2 * VEC_CHUNK)                             \
			strip(__VA_ARGS__, at, 2, 0);                                              \
		if (end - at == VEC_CHUNK)                                                         \
			strip(__VA_ARGS__, at, 1, 0);                                              \
		else if (end - at == VEC_CHUNK + VEC_CHUNK / 2)                                    \
			strip(__VA_ARGS__, at, 1, VEC_CHUNK / 2);                                  \
		else if (end - at > VEC_CHUNK)                                                     \
			strip(__VA_ARGS__, at, 1, end - at - VEC_CHUNK);                           \
		else if (end > at)                                                                 \
			strip(__VA_ARGS__, at, 0, end - at);                                       \
	} while (0)

/*
 * Codes of at most STRIP_TOKENS tokens from @first on: @chunks whole chunks from @channel on, and
 * @rest channels more.
 */
VEC_INLINE void strip_encode(enum codec_dtype dtype, unsigned bits, enum codec_role role,
			     const struct codec_layout *layout, const struct codec_source *src,
			     uint8_t *tile, const struct quant_steps *steps, uint32_t first,
			     uint32_t channel, unsigned chunks, uint32_t rest)
{
	const size_t chunk_bytes = VEC_CHUNK * value_bytes(dtype);
	const size_t packed_bytes = VEC_CHUNK / 8 * bits;
	const uint32_t tokens = strip_tokens(layout, first);
	const uint32_t row_bytes = layout->row_bytes;
	const ptrdiff_t stride = src->stride_bytes;
	const uint8_t *values = source_row(src, first) + (size_t)channel * value_bytes(dtype);
	uint8_t *packed = tile_row(layout, tile, first) + channel / 8 * bits;
	struct strip_groups groups;

	strip_groups_start(role, steps->min, steps->inverse, first, channel,
			   strip_parts(chunks, rest), &groups);
	for (uint32_t t = 0; t < tokens; t++, values += stride, packed += row_bytes) {
		strip_groups_row(role, strip_parts(chunks, rest), &groups);
#pragma GCC unroll 2
		for (unsigned k = 0; k < chunks; k++)
			chunk_encode(dtype, bits, values + k * chunk_bytes, VEC_CHUNK,
				     &groups.chunk[k], packed + k * packed_bytes);
		if (rest)
			chunk_encode(dtype, bits, values + chunks * chunk_bytes, rest,
				     &groups.chunk[chunks], packed + chunks * packed_bytes);
	}
}

VEC_INLINE void strip_decode(enum codec_dtype dtype, unsigned bits, enum codec_role role,
			     const struct codec_layout *layout, const uint8_t *tile,
			     const struct codec_target *dst, const struct quant_scales *scales,
			     uint32_t first, uint32_t channel, unsigned chunks, uint32_t rest)
{
	const size_t chunk_bytes = VEC_CHUNK * value_bytes(dtype);
	const size_t packed_bytes = VEC_CHUNK / 8 * bits;
	const uint32_t tokens = strip_tokens(layout, first);
	const uint32_t row_bytes = layout->row_bytes;
	const ptrdiff_t stride = dst->stride_bytes;
	const uint8_t *packed = tile_row_const(layout, tile, first) + channel / 8 * bits;
	uint8_t *values = target_row(dst, first) + (size_t)channel * value_bytes(dtype);
	struct strip_groups groups;

	strip_groups_start(role, scales->min, scales->scale, first, channel, strip_parts(chunks, rest),
			   &groups);
	for (uint32_t t = 0; t < tokens; t++, packed += row_bytes, values += stride) {
		strip_groups_row(role, strip_parts(chunks, rest), &groups);
		bytes_prefetch(packed, chunks * packed_bytes);
#pragma GCC unroll 2
		for (unsigned k = 0; k < chunks; k++)
			chunk_decode(dtype, bits, packed + k * packed_bytes, VEC_CHUNK,
				     &groups.chunk[k], values + k * chunk_bytes);
		if (rest)
			chunk_decode(dtype, bits, packed + chunks * packed_bytes, rest,
				     &groups.chunk[chunks], values + chunks * chunk_bytes);
	}
}

VEC_INLINE void decode_to(enum codec_dtype dtype, unsigned bits, enum codec_role role,
			  const struct codec_layout *layout, const uint8_t *tile,
			  const struct codec_target *dst)
{
	struct quant_scales scales;

	scales_load(layout, tile, &scales);
	for (uint32_t first = 0; first < layout->tokens; first += STRIP_TOKENS)
		STRIPS(strip_decode, layout->head_dim, dtype, bits, role, layout, tile, dst,
		       &scales, first);
}

/* --- K --------------------------------------------------------------------------------------- */

/*
 * Ranges of @vectors times sixteen channels from @channel on over all tokens, and their scales and
 * mins. @lanes may name fewer than sixteen when there is one vector.
 */
VEC_INLINE bool channels_close(enum codec_dtype dtype, unsigned bits,
			       const struct codec_layout *layout, const struct codec_source *src,
			       uint32_t channel, unsigned vectors, __mmask16 lanes, uint8_t *tile,
			       struct quant_steps *steps)
{
	const uint32_t tokens = layout->tokens;
	const uint8_t *values = source_row(src, 0) + (size_t)channel * value_bytes(dtype);
	const ptrdiff_t stride = src->stride_bytes;
	__m512 spoilt[2] = { _mm512_setzero_ps(), _mm512_setzero_ps() };
	struct range range[WIDE_VECTORS];
	bool ok;

#pragma GCC unroll 8
	for (unsigned j = 0; j < vectors; j++)
		range[j] = range_start(
			vec_load(dtype, values + VEC_LANES * j * value_bytes(dtype), lanes));
	for (uint32_t t = 0; t < tokens; t++, values += stride) {
#pragma GCC unroll 8
		for (unsigned j = 0; j < vectors; j++) {
			const __m512 vector = vec_load(
				dtype, values + VEC_LANES * j * value_bytes(dtype), lanes);

			range_add(&range[j], vector, 0xffff);
			spoilt[j % 2] = spoilt_add(spoilt[j % 2], vector);
		}
	}
	ok = spoilt_accepted(_mm512_add_ps(spoilt[0], spoilt[1]));
#pragma GCC unroll 8
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
	const uint32_t wide = WIDE_VECTORS * VEC_LANES;
	const uint32_t head_dim = layout->head_dim;
	struct quant_steps steps;
	uint32_t c = 0;
	bool ok = true;

	for (; c + wide <= head_dim; c += wide)
		ok &= channels_close(dtype, bits, layout, src, c, WIDE_VECTORS, 0xffff, tile,
				     &steps);
	for (; c + VEC_CHUNK <= head_dim; c += VEC_CHUNK)
		ok &= channels_close(dtype, bits, layout, src, c, 4, 0xffff, tile, &steps);
	for (; c < head_dim; c += VEC_LANES)
		ok &= channels_close(dtype, bits, layout, src, c, 1, chunk_lanes(head_dim - c, 0),
				     tile, &steps);
	if (!ok)
		return false;
	for (uint32_t first = 0; first < layout->tokens; first += STRIP_TOKENS)
		STRIPS(strip_encode, head_dim, dtype, bits, CODEC_ROLE_K, layout, src, tile,
		       &steps, first);
	return true;
}

/* --- V --------------------------------------------------------------------------------------- */

/* The range of one token, in sixteen parts. */
VEC_INLINE struct range token_range(enum codec_dtype dtype, const uint8_t *values,
				    uint32_t head_dim, __m512 *spoilt)
{
	const __m512 first = vec_load(dtype, values, chunk_lanes(head_dim, 0));
	struct range range = range_start(_mm512_broadcastss_ps(_mm512_castps512_ps128(first)));
	uint32_t c = 0;

	for (; c + VEC_LANES <= head_dim; c += VEC_LANES) {
		const __m512 vector =
			vec_load(dtype, values + (size_t)c * value_bytes(dtype), 0xffff);

		range_add(&range, vector, 0xffff);
		*spoilt = spoilt_add(*spoilt, vector);
	}
	if (c < head_dim) {
		const __m512 vector =
			vec_load(dtype, values + (size_t)c * value_bytes(dtype), 0xff);

		range_add(&range, vector, 0xff);
		*spoilt = spoilt_add(*spoilt, vector);
	}
	return range;
}

/* Smallest or largest of corresponding lanes. */
VEC_INLINE __m512 extreme(bool largest, __m512 a, __m512 b)
{
	return largest ? _mm512_max_ps(a, b) : _mm512_min_ps(a, b);
}

/* The quarters of each of four vectors in one, in order. */
VEC_INLINE __m512 quarters_merge(bool largest, __m512 a, __m512 b, __m512 c, __m512 d)
{
	const __m512 ab = extreme(largest, _mm512_shuffle_f32x4(a, b, 0x44),
				  _mm512_shuffle_f32x4(a, b, 0xee));
	const __m512 cd = extreme(largest, _mm512_shuffle_f32x4(c, d, 0x44),
				  _mm512_shuffle_f32x4(c, d, 0xee));

	return extreme(largest, _mm512_shuffle_f32x4(ab, cd, 0x88),
		       _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

/* The extreme of each of sixteen vectors, in order: half the work of one vector after another. */
VEC_INLINE __m512 parts_merge(bool largest, const __m512 parts[VEC_LANES])
{
	__m512 rows[4]; /* lane i of quarter q is of token 4q + row */
	__m512 even, odd;

#pragma GCC unroll 4
	for (unsigned i = 0; i < 4; i++)
		rows[i] = quarters_merge(largest, parts[i], parts[4 + i], parts[8 + i],
					 parts[12 + i]);
	even = extreme(largest, _mm512_shuffle_ps(rows[0], rows[1], 0x44),
		       _mm512_shuffle_ps(rows[0], rows[1], 0xee));
	odd = extreme(largest, _mm512_shuffle_ps(rows[2], rows[3], 0x44),
		      _mm512_shuffle_ps(rows[2], rows[3], 0xee));
	return extreme(largest, _mm512_shuffle_ps(even, odd, 0x88),
		       _mm512_shuffle_ps(even, odd, 0xdd));
}

/* Scales and mins of at most sixteen tokens from @first on. */
VEC_INLINE bool tokens_close(enum codec_dtype dtype, unsigned bits,
			     const struct codec_layout *layout, const struct codec_source *src,
			     uint32_t first, uint32_t tokens, uint8_t *tile,
			     struct quant_steps *steps)
{
	__m512 smallest[VEC_LANES] = { 0 };
	__m512 largest[VEC_LANES] = { 0 };
	__m512 spoilt = _mm512_setzero_ps();
	struct range range;

	for (uint32_t i = 0; i < tokens; i++) {
		range = token_range(dtype, source_row(src, first + i), layout->head_dim, &spoilt);
		smallest[i] = range.smallest;
		largest[i] = range.largest;
	}
	range = (struct range){ parts_merge(false, smallest), parts_merge(true, largest) };
	groups_close(layout, &range, bits, first, chunk_lanes(tokens, 0), tile, steps);
	return range_accepted(&range) && spoilt_accepted(spoilt);
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

	for (uint32_t first = 0; first < layout->tokens; first += STRIP_TOKENS) {
		const uint32_t tokens = strip_tokens(layout, first);

		if (!tokens_close(dtype, bits, layout, src, first, tokens, tile, &steps))
			return false;
		STRIPS(strip_encode, layout->head_dim, dtype, bits, CODEC_ROLE_V, layout, src,
		       tile, &steps, first);
	}
	return true;
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

QUANT_KERNELS(8, avx512)
QUANT_KERNELS(6, avx512)
QUANT_KERNELS(5, avx512)
QUANT_KERNELS(4, avx512)
