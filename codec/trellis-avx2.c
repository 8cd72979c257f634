/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t8, t6, t5, t4 with AVX2, eight channels at a time. Encoding takes chunks of up to 64 channels in
 * four steps: scales; the search forward, eight channels over all tokens; the walk back, the whole
 * chunk at once; and codes, a row after the other. Everything is inlined, so that bits and grids
 * are constants, and when decoding the type; encoding has so much to do for a value that its type
 * does not matter.
 */
#include "codec/trellis.h"

#include "codec/codes-avx2.h"
#include "codec/group-avx2.h"
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

VEC_INLINE __m256 position_bounded(unsigned bits, __m256 position)
{
	return _mm256_min_ps(_mm256_max_ps(position, _mm256_set1_ps(trellis_position_min())),
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

		next[s] = _mm256_min_ps(high, low);
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

/* Eight channels are decoded over so many tokens before the next: the history is in registers. */
#define STRIP_TOKENS 8u

/* What codes_spread() made of the last three tokens, of which only the steering bits count. */
struct history {
	__m256i codes[3];
};

/* @bits bytes, and not one more: log scales may be a single byte after the last row. */
VEC_INLINE uint64_t packed_load(unsigned bits, const uint8_t *packed)
{
	uint64_t eight;
	uint32_t four;
	uint16_t two;

	if (bits == 8) {
		memcpy(&eight, packed, sizeof eight);
		return eight;
	}
	memcpy(&four, packed, sizeof four);
	if (bits == 6) {
		memcpy(&two, packed + 4, sizeof two);
		return four | (uint64_t)two << 32;
	}
	return bits == 5 ? four | (uint64_t)packed[4] << 32 : four;
}

/* Twice the code in the level's bits, and anything in the others. */
VEC_INLINE __m256i codes_spread(unsigned bits, const uint8_t *packed)
{
	const __m256i word = _mm256_set1_epi64x((long long)(packed_load(bits, packed) << 1));
	const __m256i ends = _mm256_setr_epi64x(0, 2ll * bits, 4ll * bits, 6ll * bits);

	if (bits == 8)
		return _mm256_slli_epi32(
			_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)packed)), 1);
	/* Qword q has codes 2q and 2q + 1; the second goes to the upper dword. */
	const __m256i first = _mm256_srlv_epi64(word, ends);
	const __m256i second = _mm256_slli_epi64(first, (int)(32 - bits));

	return _mm256_blend_epi32(first, second, 0xaa);
}

/* Decodes eight channels of one token, and moves the history on. */
VEC_INLINE __m256 vector_decode(unsigned bits, const uint8_t *packed, __m256 scale, __m256 min,
				struct history *history)
{
	const __m256i codes = codes_spread(bits, packed);
	const __m256i turn =
		_mm256_and_si256(_mm256_xor_si256(history->codes[0], history->codes[2]),
				 _mm256_set1_epi32(2));
	const __m256i low = _mm256_and_si256(_mm256_srli_epi32(history->codes[1], 1),
					     _mm256_set1_epi32(1));
	const __m256i twice =
		_mm256_and_si256(codes, _mm256_set1_epi32((int)((2u << bits) - 2)));
	const __m256i level = _mm256_xor_si256(twice, _mm256_or_si256(turn, low));

	history->codes[2] = history->codes[1];
	history->codes[1] = history->codes[0];
	history->codes[0] = codes;
	return _mm256_fmadd_ps(_mm256_cvtepi32_ps(level), scale, min);
}

/* Scales and mins of all log scales. */
VEC_INLINE void log_scales_load(unsigned bits, struct quant_scales *scales)
{
	const __m256 unit = _mm256_set1_ps(1.0f / (float)(1u << bits));
	const __m256 middle = _mm256_set1_ps(-0.5f * (trellis_levels(bits) - 1));

	for (unsigned e = 0; e < 256; e += VEC_LANES) {
		const __m256 scale =
			_mm256_mul_ps(_mm256_loadu_ps(&trellis_log_scales[e]), unit);

		_mm256_store_ps(&scales->scale[e], scale);
		_mm256_store_ps(&scales->min[e], _mm256_mul_ps(middle, scale));
	}
}

VEC_INLINE void strip_decode(enum codec_dtype dtype, unsigned bits, enum grid grid,
			     uint32_t scale_channels, const struct codec_layout *layout,
			     const uint8_t *tile, const struct codec_target *dst, uint32_t first,
			     uint32_t channel, const struct quant_scales *scales,
			     struct history *history)
{
	const uint32_t left = layout->tokens - first;
	const uint32_t end = first + (left < STRIP_TOKENS ? left : STRIP_TOKENS);
	const uint8_t *log_scales = tile + layout->scales_offset +
				    (scale_channels ? channel / scale_channels : 0);
	__m256 scale = _mm256_load_ps(&scales->scale[channel]);
	__m256 min = _mm256_load_ps(&scales->min[channel]);
	struct history recent = *history;

	for (uint32_t t = first; t < end; t++) {
		if (grid != GRID_CHANNEL) {
			const uint32_t number =
				scale_channels ? log_scales[(size_t)t * layout->token_scales] : t;

			scale = _mm256_set1_ps(scales->scale[number]);
			min = _mm256_set1_ps(scales->min[number]);
		}
		vec_store(dtype, target_row(dst, t) + (size_t)channel * value_bytes(dtype),
			  vector_decode(bits,
					tile_row_const(layout, tile, t) + channel / 8 * bits,
					scale, min, &recent));
	}
	*history = recent;
}

VEC_INLINE void decode_to(enum codec_dtype dtype, unsigned bits, enum grid grid,
			  uint32_t scale_channels, const struct codec_layout *layout,
			  const uint8_t *tile, const struct codec_target *dst)
{
	struct history histories[CODEC_HEAD_DIM_MAX / VEC_LANES];
	struct quant_scales scales;

	memset(histories, 0, sizeof histories);
	if (grid == GRID_GROUP)
		log_scales_load(bits, &scales);
	else
		scales_load(layout, tile, &scales);
	for (uint32_t t = 0; t < layout->tokens; t += STRIP_TOKENS)
		for (uint32_t c = 0; c < layout->head_dim; c += VEC_LANES)
			strip_decode(dtype, bits, grid, scale_channels, layout, tile, dst, t, c,
				     &scales, &histories[c / VEC_LANES]);
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
