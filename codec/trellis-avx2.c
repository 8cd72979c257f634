/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t8, t6, t5, t4 with AVX2. Encoding takes chunks of up to 64 channels in four steps: scales;
 * the search forward, eight channels over all tokens; the walk back, the whole chunk at once;
 * and codes, a row after the other. Everything is inlined, so that bits and grids are constants,
 * and when decoding the type; encoding has so much to do for a value that its type does not
 * matter.
 */
#include "codec/trellis.h"

#include "codec/codes-avx2.h"
#include "codec/group-avx2.h"
#include "codec/prefetch.h"
#include "codec/trellis-path.h"

#define CHUNK_GROUPS (TRELLIS_CHUNK / 16) /* most log scales of a token in a chunk */

/* What decides over base, inverse, shift and weight of a position. */
enum grid {
	GRID_CHANNEL, /* K: f16 scale and min of the channel */
	GRID_TOKEN,   /* V: f16 scale and min of the token */
	GRID_GROUP,   /* V: log scale of the token and of some channels */
};

VEC_INLINE enum grid grid_of_value(uint32_t scale_channels)
{
	return scale_channels ? GRID_GROUP : GRID_TOKEN;
}

/* The grids of a tile with f16 scales, or of a chunk with log scales. */
struct grids {
	struct quant_steps steps; /* by channel or token; not of log scales */
	float inverse[CHUNK_GROUPS][CODEC_TOKENS_MAX]; /* of log scales only */
	_Alignas(32) float weight[CHUNK_GROUPS][CODEC_TOKENS_MAX]; /* GRID_TOKEN: the first row */
};

/* --- Log scales ------------------------------------------------------------------------------ */

/* Chooses the log scale of one token in @channels channels. */
VEC_INLINE bool group_close(enum codec_dtype dtype, unsigned bits, const uint8_t *values,
			    uint32_t channels, uint8_t *log_scale, float *inverse, float *weight)
{
	const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
	__m256i largest = _mm256_setzero_si256();

	/* As integers magnitudes are ordered as the floats are, infinity and NaN above all. */
	for (uint32_t c = 0; c < channels; c += VEC_LANES) {
		const __m256 vector = vec_load(dtype, values + (size_t)c * value_bytes(dtype));

		largest = _mm256_max_epi32(
			largest, _mm256_castps_si256(_mm256_and_ps(vector, magnitude)));
	}
	__m128i four = _mm_max_epi32(_mm256_castsi256_si128(largest),
				     _mm256_extracti128_si256(largest, 1));

	four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
	four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0xb1));

	const uint32_t peak = (uint32_t)_mm_cvtsi128_si32(four);
	const bool accepted = peak <= half_f32_bits(HALF_MAX);
	const uint8_t e = trellis_log_scale_of(accepted ? half_f32_of_bits(peak) : HALF_MAX);
	const float scale = trellis_log_scales[e] / (float)(1u << bits);

	*log_scale = e;
	*inverse = scale > 0 ? 1.0f / scale : 0.0f;
	*weight = scale;
	return accepted;
}

VEC_INLINE bool chunk_groups_close(enum codec_dtype dtype, unsigned bits, uint32_t scale_channels,
				   const struct codec_layout *layout,
				   const struct codec_source *src, uint32_t channel, uint32_t count,
				   uint8_t *tile, struct grids *grids)
{
	bool ok = true;

	for (uint32_t t = 0; t < layout->tokens; t++) {
		uint8_t *log_scales = tile + layout->scales_offset +
				      (size_t)t * layout->token_scales + channel / scale_channels;

		for (uint32_t c = 0; c < count; c += scale_channels) {
			const uint32_t channels =
				count - c < scale_channels ? count - c : scale_channels;
			const uint32_t group = c / scale_channels;

			ok &= group_close(dtype, bits,
					  source_row(src, t) +
						  (size_t)(channel + c) * value_bytes(dtype),
					  channels, &log_scales[group], &grids->inverse[group][t],
					  &grids->weight[group][t]);
		}
	}
	return ok;
}

/* --- The search ------------------------------------------------------------------------------ */

/* The positions of eight channels from @channel of the chunk at @first on. */
VEC_INLINE __m256 position_of(enum grid grid, unsigned bits, uint32_t scale_channels, __m256 value,
			      uint32_t token, uint32_t first, uint32_t channel,
			      const struct grids *grids)
{
	if (grid == GRID_CHANNEL)
		return _mm256_mul_ps(
			_mm256_sub_ps(value, _mm256_load_ps(&grids->steps.min[first + channel])),
			_mm256_load_ps(&grids->steps.inverse[first + channel]));
	if (grid == GRID_TOKEN)
		return _mm256_mul_ps(_mm256_sub_ps(value, _mm256_set1_ps(grids->steps.min[token])),
				     _mm256_set1_ps(grids->steps.inverse[token]));
	return _mm256_add_ps(
		_mm256_mul_ps(value,
			      _mm256_set1_ps(grids->inverse[channel / scale_channels][token])),
		_mm256_set1_ps(0.5f * (trellis_levels(bits) - 1)));
}

/*
 * The smaller of numbers of which none is NaN and at most one below 0, by their bits: the units
 * that compare floats have the sums to do.
 */
VEC_INLINE __m256 smaller(__m256 a, __m256 b)
{
	return _mm256_castsi256_ps(
		_mm256_min_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}

VEC_INLINE __m256 larger(__m256 a, __m256 b)
{
	return _mm256_castsi256_ps(
		_mm256_max_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}

VEC_INLINE __m256 position_bounded(unsigned bits, __m256 position)
{
	return smaller(larger(position, _mm256_set1_ps(trellis_position_min())),
		       _mm256_set1_ps(trellis_position_max(bits)));
}

/*
 * The cost of each set's nearest level. What is exact (see trellis_position_min()) is fused: the
 * quarter; and position - set, which is off only below 1, where k is 0 and it is the error itself.
 */
VEC_INLINE void set_costs_of(enum grid grid, unsigned bits, __m256 position, float weight,
			     __m256 costs[4])
{
	const __m256 bounded = position_bounded(bits, position);

#pragma GCC unroll 4
	for (int set = 0; set < 4; set++) {
		const __m256 quarter =
			_mm256_fmadd_ps(bounded, _mm256_set1_ps(0.25f),
					_mm256_set1_ps(-0.25f * (float)set));
		const __m256 k =
			_mm256_round_ps(quarter, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
		const __m256 above =
			set ? _mm256_sub_ps(position, _mm256_set1_ps((float)set)) : position;
		__m256 error = _mm256_fnmadd_ps(k, _mm256_set1_ps(4.0f), above);

		if (grid != GRID_CHANNEL)
			error = _mm256_mul_ps(error, _mm256_set1_ps(weight));
		costs[set] = _mm256_mul_ps(error, error);
	}
}

/* Moves the costs one token on, and notes which states came from their upper predecessor. */
VEC_INLINE void states_step(const __m256 set_costs[4], __m256 costs[TRELLIS_STATES],
			    uint64_t upper[TRELLIS_STATES], size_t offset)
{
	__m256 next[TRELLIS_STATES];

#pragma GCC unroll 8
	for (unsigned s = 0; s < TRELLIS_STATES; s++) {
		const unsigned from = s >> 1;
		const __m256 low = _mm256_add_ps(costs[from],
						 set_costs[trellis_set(from << 1 | (s & 1))]);
		const __m256 high = _mm256_add_ps(
			costs[from + 4], set_costs[trellis_set((from + 4) << 1 | (s & 1))]);
		const uint8_t less =
			(uint8_t)_mm256_movemask_ps(_mm256_cmp_ps(high, low, _CMP_LT_OQ));

		next[s] = smaller(high, low);
		trellis_word_put(&upper[s], offset, &less, sizeof less);
	}
#pragma GCC unroll 8
	for (unsigned s = 0; s < TRELLIS_STATES; s++)
		costs[s] = next[s];
}

/* The bits of the lowest state of least cost. */
VEC_INLINE void last_state(const __m256 costs[TRELLIS_STATES], uint64_t last[3], size_t offset)
{
	uint8_t state[3] = { 0 };
	__m256 least = costs[0];

#pragma GCC unroll 8
	for (unsigned s = 1; s < TRELLIS_STATES; s++) {
		const int less =
			_mm256_movemask_ps(_mm256_cmp_ps(costs[s], least, _CMP_LT_OQ));

		least = _mm256_min_ps(costs[s], least);
		for (unsigned b = 0; b < 3; b++)
			state[b] = (uint8_t)(s >> b & 1 ? state[b] | less : state[b] & ~less);
	}
	for (unsigned b = 0; b < 3; b++)
		trellis_word_put(&last[b], offset, &state[b], sizeof state[b]);
}

/* Searches eight channels from @channel of the chunk at @first on. */
VEC_INLINE void vector_search(enum codec_dtype dtype, unsigned bits, enum grid grid,
			      uint32_t scale_channels, const struct codec_layout *layout,
			      const struct codec_source *src, uint32_t first, uint32_t channel,
			      const struct grids *grids, struct trellis_path *path)
{
	const size_t in_row = (size_t)(first + channel) * value_bytes(dtype);
	const float *weight = grids->weight[scale_channels ? channel / scale_channels : 0];
	const size_t offset = channel / 8;
	__m256 costs[TRELLIS_STATES];

#pragma GCC unroll 8
	for (unsigned s = 0; s < TRELLIS_STATES; s++)
		costs[s] = _mm256_set1_ps(s == 0 ? 0.0f : TRELLIS_COST_MAX);
	for (uint32_t t = 0; t < layout->tokens; t++) {
		const __m256 value = vec_load(dtype, source_row(src, t) + in_row);
		__m256 set_costs[4];

		set_costs_of(grid, bits,
			     position_of(grid, bits, scale_channels, value, t, first, channel,
					 grids),
			     weight[t], set_costs);
		states_step(set_costs, costs, path->upper[t], offset);
	}
	last_state(costs, path->last, offset);
}

/* --- Codes ----------------------------------------------------------------------------------- */

/* All bits of lane i where bit i of @mask is 1. */
VEC_INLINE __m256 lanes_of(uint64_t mask)
{
	const __m256i lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
	const __m256i bits = _mm256_and_si256(_mm256_set1_epi32((int)(mask & 0xff)), lanes);

	return _mm256_castsi256_ps(_mm256_cmpeq_epi32(bits, lanes));
}

/* Eight codes, whose sets and lowest bits are in bits 0..7. */
VEC_INLINE __m256i vector_codes(unsigned bits, __m256 position, uint64_t set_low,
				uint64_t set_high, uint64_t steering)
{
	const __m256 low = _mm256_and_ps(lanes_of(set_low), _mm256_set1_ps(1.0f));
	const __m256 high = _mm256_and_ps(lanes_of(set_high), _mm256_set1_ps(2.0f));
	const __m256 level =
		_mm256_sub_ps(_mm256_sub_ps(position_bounded(bits, position), low), high);
	const __m256i k = _mm256_cvtps_epi32(_mm256_mul_ps(level, _mm256_set1_ps(0.25f)));

	/* All bits of a lane are -1. */
	return _mm256_sub_epi32(_mm256_add_epi32(k, k), _mm256_castps_si256(lanes_of(steering)));
}

VEC_INLINE void chunk_codes(enum codec_dtype dtype, unsigned bits, enum grid grid,
			    uint32_t scale_channels, const struct codec_layout *layout,
			    const struct codec_source *src, uint32_t first, uint32_t count,
			    const struct grids *grids, const struct trellis_path *path,
			    uint8_t *tile)
{
	for (uint32_t t = 0; t < layout->tokens; t++) {
		const uint8_t *values = source_row(src, t) + (size_t)first * value_bytes(dtype);
		const struct trellis_sets sets = trellis_sets_at(path, t);
		uint8_t *row = tile_row(layout, tile, t) + first / 8 * bits;

		for (uint32_t c = 0; c < count; c += VEC_LANES) {
			const __m256 value =
				vec_load(dtype, values + (size_t)c * value_bytes(dtype));
			const __m256 position = position_of(grid, bits, scale_channels, value, t,
							    first, c, grids);

			codes_store(bits,
				    vector_codes(bits, position, sets.low >> c, sets.high >> c,
						 path->steering[t] >> c),
				    row + c / 8 * bits);
		}
	}
}

/* --- Encoding -------------------------------------------------------------------------------- */

VEC_INLINE bool chunk_close(enum codec_dtype dtype, unsigned bits, enum grid grid,
			    uint32_t scale_channels, const struct codec_layout *layout,
			    const struct codec_source *src, uint32_t first, uint32_t count,
			    uint8_t *tile, struct grids *grids)
{
	bool ok = true;

	if (grid == GRID_GROUP)
		return chunk_groups_close(dtype, bits, scale_channels, layout, src, first, count,
					  tile, grids);
	for (uint32_t c = 0; grid == GRID_CHANNEL && c < count; c += VEC_LANES)
		ok &= channels_close(dtype, trellis_levels(bits) - 1, layout, src, first + c, tile,
				     &grids->steps);
	return ok;
}

VEC_INLINE bool chunks_encode(enum codec_dtype dtype, unsigned bits, enum grid grid,
			      uint32_t scale_channels, const struct codec_layout *layout,
			      const struct codec_source *src, struct grids *grids, uint8_t *tile)
{
	struct trellis_path path;

	if (layout->head_dim % TRELLIS_CHUNK)
		memset(&path, 0, sizeof path); /* the channels that do not exist */
	for (uint32_t first = 0; first < layout->head_dim; first += TRELLIS_CHUNK) {
		const uint32_t left = layout->head_dim - first;
		const uint32_t count = left < TRELLIS_CHUNK ? left : TRELLIS_CHUNK;

		if (!chunk_close(dtype, bits, grid, scale_channels, layout, src, first, count,
				 tile, grids))
			return false;
		for (uint32_t c = 0; c < count; c += VEC_LANES)
			vector_search(dtype, bits, grid, scale_channels, layout, src, first, c,
				      grids, &path);
		trellis_walk(&path, layout->tokens);
		chunk_codes(dtype, bits, grid, scale_channels, layout, src, first, count, grids,
			    &path, tile);
	}
	return true;
}

VEC_INLINE bool encode_k(unsigned bits, uint32_t scale_channels, const struct codec_layout *layout,
			 const struct codec_source *src, uint8_t *tile)
{
	struct grids grids;

	(void)scale_channels;
	return chunks_encode(src->dtype, bits, GRID_CHANNEL, 0, layout, src, &grids, tile);
}

VEC_INLINE bool encode_v(unsigned bits, uint32_t scale_channels, const struct codec_layout *layout,
			 const struct codec_source *src, uint8_t *tile)
{
	struct grids grids;

	for (uint32_t t = 0; !scale_channels && t < layout->tokens; t += VEC_LANES) {
		const uint32_t left = layout->tokens - t;
		__m256 scales;

		if (!tokens_close(src->dtype, trellis_levels(bits) - 1, layout, src, t,
				  left < VEC_LANES ? left : VEC_LANES, tile, &grids.steps,
				  &scales))
			return false;
		_mm256_store_ps(&grids.weight[0][t], scales);
	}
	return chunks_encode(src->dtype, bits, grid_of_value(scale_channels), scale_channels,
			     layout, src, &grids, tile);
}

/* --- Decoding -------------------------------------------------------------------------------- */

/*
 * A chunk of 32 channels at a time, a byte each: of the lower sixteen in the lower lane. What is
 * done there is done for a vector's 32 channels; only widening, conversion and sum are per eight.
 */
#define CHUNKS_MAX (CODEC_HEAD_DIM_MAX / VEC_CHUNK)

/* Where codes_spread() has codes: those of t8 as they are, others times two, as in their level. */
VEC_INLINE unsigned spread_shift(unsigned bits)
{
	return bits == 8 ? 0 : 1;
}

/*
 * How codes become bytes. Two of them are two bits to sixteen in a word, which begin at one of at
 * most four places. For the lower byte words are shifted right by the multiplication, for the upper
 * byte left; what would go the other way is taken a byte further on instead.
 */
struct spread {
	__m256i low_bytes;
	__m256i low_factors; /* of which the upper half of the product counts */
	__m256i high_bytes;
	__m256i high_factors;
};

/* Lane 1 has its codes so many bytes further on: see codes_spread(). */
VEC_INLINE __m256i lanes_skip(unsigned bits, __m128i bytes)
{
	const __m128i skip = _mm_set1_epi8((char)(16 - 2 * bits));

	return _mm256_set_m128i(_mm_add_epi8(bytes, skip), bytes);
}

VEC_INLINE struct spread spread_of(unsigned bits)
{
	const char no = -128;

	if (bits == 6)
		return (struct spread){
			lanes_skip(6, _mm_setr_epi8(no, 0, 1, 2, no, 3, 4, 5, no, 6, 7, 8, no, 9,
						    10, 11)),
			_mm256_set1_epi32(1 << 9 | 1 << 13 << 16),
			lanes_skip(6, _mm_setr_epi8(0, 1, 2, no, 3, 4, 5, no, 6, 7, 8, no, 9, 10,
						    11, no)),
			_mm256_set1_epi32(1 << 3 | 1 << 7 << 16),
		};
	if (bits == 5)
		return (struct spread){
			lanes_skip(5, _mm_setr_epi8(no, 0, 1, 2, 2, 3, 3, 4, no, 5, 6, 7, 7, 8, 8,
						    9)),
			_mm256_set1_epi64x(1ll << 9 | 1ll << (16 + 15) | 1ll << (32 + 13) |
					   1ll << (48 + 11)),
			lanes_skip(5, _mm_setr_epi8(0, 1, 1, 2, 2, 3, 4, no, 5, 6, 6, 7, 7, 8, 9,
						    no)),
			_mm256_set1_epi64x(1ll << 4 | 1ll << (16 + 2) | 1ll << 32 | 1ll << (48 + 6)),
		};
	return (struct spread){
		lanes_skip(4, _mm_setr_epi8(no, 0, no, 1, no, 2, no, 3, no, 4, no, 5, no, 6, no, 7)),
		_mm256_set1_epi16(1 << 9),
		lanes_skip(4, _mm_setr_epi8(0, no, 1, no, 2, no, 3, no, 4, no, 5, no, 6, no, 7, no)),
		_mm256_set1_epi16(1 << 5),
	};
}

/* A code a byte, and anything in the other bits of it. */
VEC_INLINE __m256i codes_spread(unsigned bits, const uint8_t *packed, const struct spread *spread)
{
	if (bits == 8)
		return _mm256_loadu_si256((const void *)packed);
	/* No byte beyond the codes: the second load ends with them. */
	const __m256i bytes = _mm256_inserti128_si256(
		_mm256_castsi128_si256(_mm_loadu_si128((const void *)packed)),
		_mm_loadu_si128((const void *)(packed + 4 * bits - 16)), 1);
	const __m256i low = _mm256_mulhi_epu16(_mm256_shuffle_epi8(bytes, spread->low_bytes),
					       spread->low_factors);
	const __m256i high = _mm256_mullo_epi16(_mm256_shuffle_epi8(bytes, spread->high_bytes),
						spread->high_factors);

	return _mm256_blendv_epi8(low, high, _mm256_set1_epi16((short)0xff00));
}

/* A level of t8 has nine bits. It is taken 128 times as large, so that its bytes need no shifts. */
VEC_INLINE float level_unit(unsigned bits)
{
	return bits == 8 ? 1.0f / 128 : 1.0f;
}

/* Scales and mins of all log scales. */
VEC_INLINE void log_scales_load(unsigned bits, struct quant_scales *scales)
{
	const __m256 unit = _mm256_set1_ps(1.0f / (float)(1u << bits));
	const __m256 middle = _mm256_set1_ps(-0.5f * (trellis_levels(bits) - 1));

	for (unsigned e = 0; e < 256; e += VEC_LANES) {
		const __m256 scale =
			_mm256_mul_ps(_mm256_loadu_ps(&trellis_log_scales[e]), unit);

		_mm256_store_ps(&scales->scale[e],
				_mm256_mul_ps(scale, _mm256_set1_ps(level_unit(bits))));
		_mm256_store_ps(&scales->min[e], _mm256_mul_ps(middle, scale));
	}
}

/* The f16 ones. */
VEC_INLINE void half_scales_load(unsigned bits, const struct codec_layout *layout,
				 const uint8_t *tile, struct quant_scales *scales)
{
	scales_load(layout, tile, scales);
	for (uint32_t g = 0; bits == 8 && g < layout->groups; g += VEC_LANES)
		_mm256_store_ps(&scales->scale[g],
				_mm256_mul_ps(_mm256_load_ps(&scales->scale[g]),
					      _mm256_set1_ps(level_unit(bits))));
}

/*
 * The levels of one token, a byte each; of t8 without their lowest bits. A byte of @history has the
 * steering bits of the tokens before: the last one's where codes_spread() has it, older ones above,
 * and 0 below.
 */
VEC_INLINE __m256i levels_of(unsigned bits, __m256i codes, __m256i history)
{
	const __m256i before3 = _mm256_srli_epi16(history, 2);
	/* Of the lower of two bits the history is 0, and before3 has that of two tokens before. */
	const __m256i two = _mm256_set1_epi8(3 << spread_shift(bits) >> 1);
	const __m256i low = _mm256_and_si256(_mm256_xor_si256(history, before3), two);

	if (bits == 8)
		return _mm256_xor_si256(codes, low);
	return _mm256_xor_si256(
		_mm256_and_si256(codes, _mm256_set1_epi8((char)((2u << bits) - 2))), low);
}

/* As level_unit() says, 32 channels in order. @history: as above, for the lowest bits of t8. */
VEC_INLINE void levels_widen(unsigned bits, __m256i levels, __m256i history, __m256i ret[4])
{
	if (bits == 8) {
		const __m256i lowest = _mm256_and_si256(_mm256_slli_epi16(history, 6),
							_mm256_set1_epi8((char)0x80));
		const __m256i first = _mm256_unpacklo_epi8(lowest, levels);
		const __m256i second = _mm256_unpackhi_epi8(lowest, levels);

		ret[0] = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(first));
		ret[1] = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(second));
		ret[2] = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(first, 1));
		ret[3] = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(second, 1));
		return;
	}
	const char no = -128;
	const __m256i first = _mm256_setr_epi8(0, no, no, no, 1, no, no, no, 2, no, no, no, 3, no,
					       no, no, 4, no, no, no, 5, no, no, no, 6, no, no, no,
					       7, no, no, no);
	const __m256i second = _mm256_add_epi8(first, _mm256_set1_epi8(8));
	const __m256i low = _mm256_permute4x64_epi64(levels, 0x44);
	const __m256i high = _mm256_permute4x64_epi64(levels, 0xee);

	ret[0] = _mm256_shuffle_epi8(low, first);
	ret[1] = _mm256_shuffle_epi8(low, second);
	ret[2] = _mm256_shuffle_epi8(high, first);
	ret[3] = _mm256_shuffle_epi8(high, second);
}

/* Scales and mins of a chunk's vectors; @log_scales of a token of V in these channels. */
VEC_INLINE void chunk_scales(enum grid grid, uint32_t scale_channels,
			     const struct quant_scales *scales, const uint8_t *log_scales,
			     uint32_t token, uint32_t channel, uint32_t count, unsigned j,
			     __m256 *ret_scale, __m256 *ret_min)
{
	if (grid == GRID_CHANNEL) {
		*ret_scale = _mm256_load_ps(&scales->scale[channel + VEC_LANES * j]);
		*ret_min = _mm256_load_ps(&scales->min[channel + VEC_LANES * j]);
		return;
	}
	const bool exists = VEC_LANES * j < count;
	const uint32_t number =
		grid == GRID_TOKEN ? token
				   : log_scales[exists ? VEC_LANES * j / scale_channels : 0];

	*ret_scale = _mm256_set1_ps(scales->scale[number]);
	*ret_min = _mm256_set1_ps(scales->min[number]);
}

/* Decodes @count channels of one token, and moves their history on. */
VEC_INLINE void chunk_decode(enum codec_dtype dtype, unsigned bits, enum grid grid,
			     uint32_t scale_channels, const uint8_t *packed, uint32_t count,
			     const struct spread *spread, const struct quant_scales *scales,
			     const uint8_t *log_scales, uint32_t token, uint32_t channel,
			     __m256i *history, uint8_t *values)
{
	const __m256i steering = _mm256_set1_epi8((char)(1 << spread_shift(bits)));
	const __m256i before = *history;
	const __m256i codes = codes_spread(bits, packed, spread);
	__m256i levels[4];
	__m256 vectors[4];

	*history = _mm256_or_si256(_mm256_and_si256(codes, steering),
				   _mm256_add_epi8(before, before));
	levels_widen(bits, levels_of(bits, codes, before), before, levels);
#pragma GCC unroll 4
	for (unsigned j = 0; j < 4; j++) {
		__m256 scale, min;

		chunk_scales(grid, scale_channels, scales, log_scales, token, channel, count, j,
			     &scale, &min);
		vectors[j] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(levels[j]), scale, min);
	}
	if (count == VEC_CHUNK)
		chunk_store(dtype, values, vectors);
	else
		for (uint32_t c = 0; c < count; c += VEC_LANES)
			vec_store(dtype, values + (size_t)c * value_bytes(dtype),
				  vectors[c / VEC_LANES]);
}

/* Rows are written end to end; of tokens in order, as their history asks. */
VEC_INLINE void decode_to(enum codec_dtype dtype, unsigned bits, enum grid grid,
			  uint32_t scale_channels, const struct codec_layout *layout,
			  const uint8_t *tile, const struct codec_target *dst)
{
	const uint32_t head_dim = layout->head_dim;
	const struct spread spread = spread_of(bits);
	__m256i histories[CHUNKS_MAX];
	struct quant_scales scales;

	memset(histories, 0, sizeof histories);
	if (grid == GRID_GROUP)
		log_scales_load(bits, &scales);
	else
		half_scales_load(bits, layout, tile, &scales);
	for (uint32_t t = 0; t < layout->tokens; t++) {
		const uint8_t *row = tile_row_const(layout, tile, t);
		const uint8_t *log_scales =
			tile + layout->scales_offset + (size_t)t * layout->token_scales;
		uint8_t *values = target_row(dst, t);
		uint32_t c = 0;

#define CHUNK_DECODE(packed, count)                                                                \
	chunk_decode(dtype, bits, grid, scale_channels, packed, count, &spread, &scales,           \
		     log_scales + (scale_channels ? c / scale_channels : 0), t, c,                 \
		     &histories[c / VEC_CHUNK], values + (size_t)c * value_bytes(dtype))
		for (; c + VEC_CHUNK <= head_dim; c += VEC_CHUNK) {
			bytes_prefetch(row + c / 8 * bits, VEC_CHUNK / 8 * bits);
			CHUNK_DECODE(row + c / 8 * bits, VEC_CHUNK);
		}
		if (c < head_dim) {
			uint8_t last[VEC_CHUNK] = { 0 };

			memcpy(last, row + c / 8 * bits, (head_dim - c) / 8 * bits);
			CHUNK_DECODE(last, head_dim - c);
		}
#undef CHUNK_DECODE
	}
}

VEC_INLINE void decode_k(unsigned bits, uint32_t scale_channels, const struct codec_layout *layout,
			 const uint8_t *tile, const struct codec_target *dst)
{
	(void)scale_channels;
	DTYPE_CONSTANT(dst->dtype, decode_to, bits, GRID_CHANNEL, 0, layout, tile, dst);
}

VEC_INLINE void decode_v(unsigned bits, uint32_t scale_channels, const struct codec_layout *layout,
			 const uint8_t *tile, const struct codec_target *dst)
{
	DTYPE_CONSTANT(dst->dtype, decode_to, bits, grid_of_value(scale_channels), scale_channels,
		       layout, tile, dst);
}

TRELLIS_KERNELS(8, avx2)
TRELLIS_KERNELS(6, avx2)
TRELLIS_KERNELS(5, avx2)
TRELLIS_KERNELS(4, avx2)
