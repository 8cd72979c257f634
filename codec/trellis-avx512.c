/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t8, t6, t5, t4 with AVX-512 VBMI. Channels are taken in chunks of 64, four vectors; the last
 * chunk may be shorter and is masked. Encoding a chunk takes four steps: scales; the search
 * forward, sixteen channels over all tokens; the walk back, the whole chunk at once; and codes, a
 * row after the other. Everything is inlined, so that bits and grids are constants, and when
 * decoding the type; encoding has so much to do for a value that its type does not matter.
 */
#include "codec/trellis.h"

#include "codec/codes-avx512.h"
#include "codec/group-avx512.h"
#include "codec/logscale-avx512.h"
#include "codec/prefetch.h"
#include "codec/trellis-path.h"

#define CHUNK_VECTORS (VEC_CHUNK / VEC_LANES)

_Static_assert(VEC_CHUNK == TRELLIS_CHUNK, "a word of the path has a bit for each channel");

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
	_Alignas(64) float inverse[CHUNK_VECTORS][CODEC_TOKENS_MAX]; /* of log scales only */
	_Alignas(64) float weight[CHUNK_VECTORS][CODEC_TOKENS_MAX];  /* GRID_TOKEN: the first row */
};

/* The row in grids of vector @j of a chunk. */
VEC_INLINE unsigned grid_row(uint32_t scale_channels, unsigned j)
{
	return scale_channels ? j * VEC_LANES / scale_channels : 0;
}

/* --- Log scales ------------------------------------------------------------------------------ */

/* Chooses the log scales of @count <= 16 tokens in @channels channels, one group. */
VEC_INLINE bool group_close(enum codec_dtype dtype, unsigned bits, uint32_t scale_channels,
			    const struct codec_layout *layout, const struct codec_source *src,
			    uint32_t first, uint32_t count, uint32_t channel, uint32_t channels,
			    uint8_t *tile, float *inverse, float *weight)
{
	const __m512i limit = _mm512_castps_si512(_mm512_set1_ps(HALF_MAX));
	const __m512i largest = tokens_largest(dtype, src, first, count, channel, channels);
	const __m512 amplitudes =
		_mm512_castsi512_ps(_mm512_min_epi32(largest, limit));
	uint8_t *scales = tile + layout->scales_offset +
			  (size_t)first * layout->token_scales + channel / scale_channels;
	uint8_t numbers[VEC_LANES];
	__m512 whole;

	_mm_storeu_si128((void *)numbers, _mm512_cvtepi32_epi8(log_scales_of(amplitudes, &whole)));
	for (uint32_t i = 0; i < count; i++)
		scales[(size_t)i * layout->token_scales] = numbers[i];

	const __m512 scale = _mm512_mul_ps(whole, _mm512_set1_ps(1.0f / (float)(1u << bits)));
	const __mmask16 some = _mm512_cmp_ps_mask(scale, _mm512_setzero_ps(), _CMP_GT_OQ);

	_mm512_store_ps(inverse, _mm512_maskz_div_ps(some, _mm512_set1_ps(1.0f), scale));
	_mm512_store_ps(weight, scale);
	return _mm512_cmpgt_epi32_mask(largest, limit) == 0;
}

VEC_INLINE bool chunk_groups_close(enum codec_dtype dtype, unsigned bits, uint32_t scale_channels,
				   const struct codec_layout *layout,
				   const struct codec_source *src, uint32_t channel, uint32_t count,
				   uint8_t *tile, struct grids *grids)
{
	bool ok = true;

	for (uint32_t t = 0; t < layout->tokens; t += VEC_LANES) {
		const uint32_t left = layout->tokens - t;
		const uint32_t tokens = left < VEC_LANES ? left : VEC_LANES;

		for (uint32_t c = 0; c < count; c += scale_channels) {
			const uint32_t channels =
				count - c < scale_channels ? count - c : scale_channels;
			const uint32_t row = c / scale_channels;

			ok &= group_close(dtype, bits, scale_channels, layout, src, t, tokens,
					  channel + c, channels, tile, &grids->inverse[row][t],
					  &grids->weight[row][t]);
		}
	}
	return ok;
}

/* --- The search ------------------------------------------------------------------------------ */

/* The positions of one vector's values at token @token; @row is its row in the grids. */
VEC_INLINE __m512 position_of(enum grid grid, unsigned bits, __m512 value, unsigned row,
			      uint32_t token, __m512 channel_min, __m512 channel_inverse,
			      const struct grids *grids)
{
	if (grid == GRID_CHANNEL)
		return _mm512_mul_ps(_mm512_sub_ps(value, channel_min), channel_inverse);
	if (grid == GRID_TOKEN)
		return _mm512_mul_ps(_mm512_sub_ps(value, _mm512_set1_ps(grids->steps.min[token])),
				     _mm512_set1_ps(grids->steps.inverse[token]));
	return _mm512_add_ps(_mm512_mul_ps(value, _mm512_set1_ps(grids->inverse[row][token])),
			     _mm512_set1_ps(0.5f * (trellis_levels(bits) - 1)));
}

/*
 * The smaller of numbers of which none is NaN and at most one below 0, by their bits: the units
 * that compare floats have the sums to do.
 */
VEC_INLINE __m512 smaller(__m512 a, __m512 b)
{
	return _mm512_castsi512_ps(
		_mm512_min_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}

VEC_INLINE __m512 larger(__m512 a, __m512 b)
{
	return _mm512_castsi512_ps(
		_mm512_max_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}

VEC_INLINE __m512 position_bounded(unsigned bits, __m512 position)
{
	return smaller(larger(position, _mm512_set1_ps(trellis_position_min())),
		       _mm512_set1_ps(trellis_position_max(bits)));
}

/*
 * The cost of each set's nearest level. What is exact (see trellis_position_min()) is fused: the
 * quarter; and position - set, which is off only below 1, where k is 0 and it is the error itself.
 */
VEC_INLINE void set_costs_of(enum grid grid, unsigned bits, __m512 position, __m512 weight,
			     __m512 costs[4])
{
	const __m512 bounded = position_bounded(bits, position);

#pragma GCC unroll 4
	for (int set = 0; set < 4; set++) {
		const __m512 quarter =
			_mm512_fmadd_ps(bounded, _mm512_set1_ps(0.25f),
					_mm512_set1_ps(-0.25f * (float)set));
		const __m512 k = _mm512_roundscale_ps(
			quarter, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
		const __m512 above =
			set ? _mm512_sub_ps(position, _mm512_set1_ps((float)set)) : position;
		__m512 error = _mm512_fnmadd_ps(k, _mm512_set1_ps(4.0f), above);

		if (grid != GRID_CHANNEL)
			error = _mm512_mul_ps(error, weight);
		costs[set] = _mm512_mul_ps(error, error);
	}
}

/* Moves the costs one token on, and notes which states came from their upper predecessor. */
VEC_INLINE void states_step(const __m512 set_costs[4], __m512 costs[TRELLIS_STATES],
			    uint64_t upper[TRELLIS_STATES], size_t offset)
{
	__m512 next[TRELLIS_STATES];

#pragma GCC unroll 8
	for (unsigned s = 0; s < TRELLIS_STATES; s++) {
		const unsigned from = s >> 1;
		const __m512 low = _mm512_add_ps(costs[from],
						 set_costs[trellis_set(from << 1 | (s & 1))]);
		const __m512 high = _mm512_add_ps(
			costs[from + 4], set_costs[trellis_set((from + 4) << 1 | (s & 1))]);
		const __mmask16 less = _mm512_cmp_ps_mask(high, low, _CMP_LT_OQ);

		next[s] = smaller(high, low);
		trellis_word_put(&upper[s], offset, &less, sizeof less);
	}
#pragma GCC unroll 8
	for (unsigned s = 0; s < TRELLIS_STATES; s++)
		costs[s] = next[s];
}

/* The bits of the lowest state of least cost. */
VEC_INLINE void last_state(const __m512 costs[TRELLIS_STATES], uint64_t last[3], size_t offset)
{
	__mmask16 state[3] = { 0 };
	__m512 least = costs[0];

#pragma GCC unroll 8
	for (unsigned s = 1; s < TRELLIS_STATES; s++) {
		const __mmask16 less = _mm512_cmp_ps_mask(costs[s], least, _CMP_LT_OQ);

		least = _mm512_min_ps(costs[s], least);
		for (unsigned b = 0; b < 3; b++)
			state[b] = (__mmask16)(s >> b & 1 ? state[b] | less : state[b] & ~less);
	}
	for (unsigned b = 0; b < 3; b++)
		trellis_word_put(&last[b], offset, &state[b], sizeof state[b]);
}

/*
 * What is read after a chunk, in rows of the source's stride: the search asks for it, a line a step,
 * for memory has little else to do meanwhile. That is the next chunk, unless the scales of tokens
 * have all been read before; and where rows have no gap, the tile that may follow.
 */
VEC_INLINE const uint8_t *source_after(enum codec_dtype dtype, enum grid grid,
				       const struct codec_layout *layout,
				       const struct codec_source *src, uint32_t channel)
{
	const uint32_t next = channel + VEC_CHUNK;

	if (grid != GRID_TOKEN && next < layout->head_dim)
		return src->base + (size_t)next * value_bytes(dtype);
	if (src->stride_bytes != (ptrdiff_t)layout->head_dim * value_bytes(dtype))
		return NULL;
	return source_row(src, layout->tokens) +
	       (grid == GRID_TOKEN ? (size_t)channel * value_bytes(dtype) : 0);
}

/* Searches vector @j of the chunk at @channel. */
VEC_INLINE void vector_search(enum codec_dtype dtype, unsigned bits, enum grid grid, unsigned row,
			      const struct codec_layout *layout, const struct codec_source *src,
			      uint32_t channel, unsigned j, __mmask16 lanes,
			      const struct grids *grids, struct trellis_path *path)
{
	const uint32_t c = channel + VEC_LANES * j;
	const __m512 min = _mm512_load_ps(&grids->steps.min[c]);
	const __m512 inverse = _mm512_load_ps(&grids->steps.inverse[c]);
	const size_t offset = sizeof(__mmask16) * j;
	const uint8_t *after = source_after(dtype, grid, layout, src, channel);
	__m512 costs[TRELLIS_STATES];

#pragma GCC unroll 8
	for (unsigned s = 0; s < TRELLIS_STATES; s++)
		costs[s] = _mm512_set1_ps(s == 0 ? 0.0f : TRELLIS_COST_MAX);
	for (uint32_t t = 0; t < layout->tokens; t++) {
		const uint8_t *values = source_row(src, t) + (size_t)c * value_bytes(dtype);
		const __m512 position = position_of(grid, bits, vec_load(dtype, values, lanes),
						    row, t, min, inverse, grids);
		__m512 set_costs[4];

		if (after && PREFETCH_LINE * j < VEC_CHUNK * value_bytes(dtype))
			__builtin_prefetch(after + PREFETCH_LINE * j +
						   (ptrdiff_t)t * src->stride_bytes,
					   0, 2);
		set_costs_of(grid, bits, position, _mm512_set1_ps(grids->weight[row][t]),
			     set_costs);
		states_step(set_costs, costs, path->upper[t], offset);
	}
	last_state(costs, path->last, offset);
}

VEC_INLINE void chunk_search(enum codec_dtype dtype, unsigned bits, enum grid grid,
			     uint32_t scale_channels, const struct codec_layout *layout,
			     const struct codec_source *src, uint32_t channel, uint32_t count,
			     const struct grids *grids, struct trellis_path *path)
{
#pragma GCC unroll 1
	for (unsigned j = 0; j < chunk_vectors(count); j++)
		vector_search(dtype, bits, grid, grid_row(scale_channels, j), layout, src, channel,
			      j, chunk_lanes(count, j), grids, path);
	trellis_walk(path, layout->tokens);
}

/* --- Codes ----------------------------------------------------------------------------------- */

/* Sixteen k of the sets that @sets has from channel @shift of the chunk on. */
VEC_INLINE __m512i vector_round(unsigned bits, __m512 position, const struct trellis_sets *sets,
				unsigned shift)
{
	const __mmask16 low = (__mmask16)(sets->low >> shift);
	const __mmask16 high = (__mmask16)(sets->high >> shift);
	__m512 level = position_bounded(bits, position);

	level = _mm512_mask_sub_ps(level, low, level, _mm512_set1_ps(1.0f));
	level = _mm512_mask_sub_ps(level, high, level, _mm512_set1_ps(2.0f));
	return _mm512_cvtps_epi32(_mm512_mul_ps(level, _mm512_set1_ps(0.25f)));
}

VEC_INLINE void chunk_codes(enum codec_dtype dtype, unsigned bits, enum grid grid,
			    uint32_t scale_channels, const struct codec_layout *layout,
			    const struct codec_source *src, uint32_t channel, uint32_t count,
			    const struct grids *grids, const struct trellis_path *path,
			    uint8_t *tile)
{
	const __mmask16 lanes[CHUNK_VECTORS] = { chunk_lanes(count, 0), chunk_lanes(count, 1),
						 chunk_lanes(count, 2), chunk_lanes(count, 3) };

	for (uint32_t t = 0; t < layout->tokens; t++) {
		const uint8_t *values = source_row(src, t) + (size_t)channel * value_bytes(dtype);
		const struct trellis_sets sets = trellis_sets_at(path, t);
		__m512i k[CHUNK_VECTORS];

#pragma GCC unroll 4
		for (unsigned j = 0; j < CHUNK_VECTORS; j++) {
			const uint32_t c = VEC_LANES * j;
			const __m512 position = position_of(
				grid, bits,
				vec_load(dtype, values + (size_t)c * value_bytes(dtype), lanes[j]),
				grid_row(scale_channels, j), t,
				_mm512_load_ps(&grids->steps.min[channel + c]),
				_mm512_load_ps(&grids->steps.inverse[channel + c]), grids);

			k[j] = vector_round(bits, position, &sets, c);
		}

		const __m512i upper = codes_narrow(bits, k);
		const __m512i codes = _mm512_add_epi8(upper, upper);

		codes_pack(bits,
			   _mm512_mask_add_epi8(codes, path->steering[t], codes,
						_mm512_set1_epi8(1)),
			   count, tile_row(layout, tile, t) + channel / 8 * bits);
	}
}

/* --- Encoding -------------------------------------------------------------------------------- */

VEC_INLINE bool chunk_encode(enum codec_dtype dtype, unsigned bits, enum grid grid,
			     uint32_t scale_channels, const struct codec_layout *layout,
			     const struct codec_source *src, uint32_t channel, uint32_t count,
			     struct grids *grids, struct trellis_path *path, uint8_t *tile)
{
	const float steps_max = trellis_levels(bits) - 1;

	if (grid == GRID_GROUP &&
	    !chunk_groups_close(dtype, bits, scale_channels, layout, src, channel, count, tile,
				grids))
		return false;
	if (grid == GRID_CHANNEL &&
	    !channels_close(dtype, steps_max, layout, src, channel, count, tile, &grids->steps))
		return false;
	chunk_search(dtype, bits, grid, scale_channels, layout, src, channel, count, grids, path);
	chunk_codes(dtype, bits, grid, scale_channels, layout, src, channel, count, grids, path,
		    tile);
	return true;
}

VEC_INLINE bool chunks_encode(enum codec_dtype dtype, unsigned bits, enum grid grid,
			      uint32_t scale_channels, const struct codec_layout *layout,
			      const struct codec_source *src, struct grids *grids, uint8_t *tile)
{
	struct trellis_path path;

	if (layout->head_dim % VEC_CHUNK)
		memset(&path, 0, sizeof path); /* the channels that do not exist */
	for (uint32_t c = 0; c < layout->head_dim; c += VEC_CHUNK) {
		const uint32_t left = layout->head_dim - c;

		if (!chunk_encode(dtype, bits, grid, scale_channels, layout, src, c,
				  left < VEC_CHUNK ? left : VEC_CHUNK, grids, &path, tile))
			return false;
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
		__m512 scales;

		if (!tokens_close(src->dtype, trellis_levels(bits) - 1, layout, src, t,
				  left < VEC_LANES ? left : VEC_LANES, tile, &grids.steps,
				  &scales))
			return false;
		_mm512_store_ps(&grids.weight[0][t], scales);
	}
	return chunks_encode(src->dtype, bits, grid_of_value(scale_channels), scale_channels,
			     layout, src, &grids, tile);
}

/* --- Decoding -------------------------------------------------------------------------------- */

/*
 * One or two chunks are decoded over so many tokens before the next, with the scales and mins of K,
 * or of these tokens, in registers. There is room for all constants beside them, too: what a loop
 * reads again for each row waits for stores to addresses that are equal in their low twelve bits.
 */
#define STRIP_TOKENS VEC_LANES
#define STRIP_CHUNKS 2u

/*
 * Where codes_spread() has codes: those of t8 as they are, others times two, as in their level.
 * With log scales twice that, because the middle of all levels lies between two.
 */
VEC_INLINE unsigned spread_shift(unsigned bits, enum grid grid)
{
	return bits == 8 ? 0 : grid == GRID_GROUP ? 2 : 1;
}

/* @factor in each byte, as codes_spread() has codes. */
VEC_INLINE __m512i spread_bytes(unsigned bits, enum grid grid, unsigned factor)
{
	return _mm512_set1_epi8((char)(factor << spread_shift(bits, grid)));
}

/* A code a byte, and anything in the other bits of it. */
VEC_INLINE __m512i codes_spread(unsigned bits, enum grid grid, const uint8_t *packed,
				uint32_t count)
{
	/* The first bit of each byte, when codes are times two. */
	const uint64_t lift = grid == GRID_GROUP ? 0x0101010101010101 : 0;
	const __m512i bytes = packed_load(bits, packed, count);

	switch (bits) {
	case 8:
		return bytes;
	case 6:
		return _mm512_multishift_epi64_epi8(
			_mm512_set1_epi64((long long)(0x29231d17110b053f - lift)),
			_mm512_permutexvar_epi8(_mm512_load_si512(spread_q6), bytes));
	case 5:
		return _mm512_multishift_epi64_epi8(
			_mm512_set1_epi64((long long)(0x221d18130e09043f - lift)),
			_mm512_permutexvar_epi8(_mm512_load_si512(spread_q5), bytes));
	default:
		return _mm512_multishift_epi64_epi8(
			_mm512_set1_epi64((long long)(0x1b17130f0b07033f - lift)),
			_mm512_cvtepu32_epi64(_mm512_castsi512_si256(bytes)));
	}
}

/*
 * A level becomes an integer of 32 bits in these units. A level of t8 has nine bits: it is taken
 * 128 times as large, so that its bytes need no shifts. With log scales the middle of all levels is
 * taken off first, for their min is its product with the scale; the difference is half an odd
 * number, which is put, signed, into the highest bits.
 */
VEC_INLINE float level_unit(unsigned bits, enum grid grid)
{
	if (grid == GRID_GROUP)
		return bits == 8 ? 0x1p-23f : 0x1p-25f;
	return bits == 8 ? 0x1p-7f : 1.0f;
}

VEC_INLINE __m512 scale_of_levels(unsigned bits, enum grid grid, const float *scales)
{
	return _mm512_mul_ps(_mm512_load_ps(scales), _mm512_set1_ps(level_unit(bits, grid)));
}

/* All log scales. */
VEC_INLINE void log_scales_load(unsigned bits, struct quant_scales *scales)
{
	const __m512 unit = _mm512_set1_ps(level_unit(bits, GRID_GROUP) / (float)(1u << bits));

	for (unsigned e = 0; e < 256; e += VEC_LANES)
		_mm512_store_ps(&scales->scale[e],
				_mm512_mul_ps(_mm512_loadu_ps(&trellis_log_scales[e]), unit));
}

/* Scales, as scale_of_levels() makes them, and mins of a chunk's vectors. */
struct chunk_scales {
	__m512 scale[CHUNK_VECTORS];
	__m512 min[CHUNK_VECTORS];
};

/*
 * The steering bits of the tokens before, in each byte: the last one's where codes_spread() has it,
 * older ones above, and 0 below.
 */
struct strip {
	struct chunk_scales chunk[STRIP_CHUNKS];
	__m512i history[STRIP_CHUNKS];
	__m512 scales; /* of V with f16 scales, one token a lane */
	__m512 mins;
	__m512i token;
};

VEC_INLINE void strip_scales(unsigned bits, enum grid grid, const struct quant_scales *scales,
			     uint32_t first, uint32_t channel, unsigned chunks, struct strip *strip)
{
	if (grid == GRID_TOKEN) {
		strip->scales = scale_of_levels(bits, grid, &scales->scale[first]);
		strip->mins = _mm512_load_ps(&scales->min[first]);
		strip->token = _mm512_setzero_si512();
	}
	if (grid != GRID_CHANNEL)
		return;
#pragma GCC unroll 8
	for (unsigned j = 0; j < CHUNK_VECTORS * chunks; j++) {
		struct chunk_scales *chunk = &strip->chunk[j / CHUNK_VECTORS];
		const uint32_t c = channel + VEC_LANES * j;

		chunk->scale[j % CHUNK_VECTORS] = scale_of_levels(bits, grid, &scales->scale[c]);
		chunk->min[j % CHUNK_VECTORS] = _mm512_load_ps(&scales->min[c]);
	}
}

/* The numbers of one token of V, whose log scales in the @count channels @log_scales are. */
VEC_INLINE void token_scales(enum grid grid, uint32_t scale_channels,
			     const struct quant_scales *scales, const uint8_t *log_scales,
			     uint32_t count, const struct strip *strip, struct chunk_scales *ret)
{
	if (grid == GRID_CHANNEL)
		return;
#pragma GCC unroll 4
	for (unsigned j = 0; j < CHUNK_VECTORS; j++) {
		if (grid == GRID_TOKEN) {
			ret->scale[j] = _mm512_permutexvar_ps(strip->token, strip->scales);
			ret->min[j] = _mm512_permutexvar_ps(strip->token, strip->mins);
		} else if (VEC_LANES * j < count) {
			const uint8_t number = log_scales[grid_row(scale_channels, j)];

			ret->scale[j] = _mm512_set1_ps(scales->scale[number]);
			ret->min[j] = _mm512_setzero_ps(); /* makes -0 a +0 */
		} else {
			ret->scale[j] = ret->min[j] = _mm512_setzero_ps();
		}
	}
}

/*
 * The levels of one token, a byte each, where codes_spread() has codes; of t8 without their lowest
 * bits. The middle is off where level_unit() says so, of t8 but for a half.
 */
VEC_INLINE __m512i levels_of(unsigned bits, enum grid grid, __m512i codes, __m512i history)
{
	const __m512i before3 = _mm512_srli_epi16(history, 2);
	/*
	 * (history ^ before3) & two bits: of the lower the history is 0, and before3 has the bit of
	 * two tokens before.
	 */
	const __m512i two = _mm512_set1_epi8(3 << spread_shift(bits, grid) >> 1);
	const __m512i low = _mm512_ternarylogic_epi32(history, before3, two, 0x28);
	/* (codes & mask) ^ low */
	const __m512i levels =
		bits == 8 ? _mm512_xor_si512(codes, low)
			  : _mm512_ternarylogic_epi32(
				    codes, spread_bytes(bits, grid, (1u << bits) - 1), low, 0x6a);

	if (grid != GRID_GROUP)
		return levels;
	return _mm512_sub_epi8(levels,
			       _mm512_set1_epi8((char)(bits == 8 ? 128 : (2u << bits) - 1)));
}

/*
 * What level_unit() says of vector @j. @lowest: of t8, the bits below those of @levels, highest of
 * their bytes.
 */
VEC_INLINE __m512 levels_f32(unsigned bits, enum grid grid, __m512i levels, __m512i lowest,
			     unsigned j)
{
	const __m512i own = _mm512_load_si512(widen_bytes[j]); /* in each byte of a dword */
	/* Bit 6 of an index means @lowest. */
	const __m512i two =
		_mm512_or_si512(own, _mm512_set1_epi32(grid == GRID_GROUP ? 0x400000 : 0x40));

	if (bits == 8)
		return _mm512_cvtepi32_ps(_mm512_maskz_permutex2var_epi8(
			grid == GRID_GROUP ? 0xcccccccccccccccc : 0x3333333333333333, levels, two,
			lowest));
	if (grid == GRID_GROUP)
		return _mm512_cvtepi32_ps(
			_mm512_maskz_permutexvar_epi8(0x8888888888888888, own, levels));
	return codes_f32(levels, j);
}

/* Decodes one token of a chunk, and moves the history on. */
VEC_INLINE void chunk_decode(enum codec_dtype dtype, unsigned bits, enum grid grid,
			     const uint8_t *packed, uint32_t count,
			     const struct chunk_scales *scales, __m512i *history, uint8_t *values)
{
	const __m512i steering = spread_bytes(bits, grid, 1);
	const __m512i codes = codes_spread(bits, grid, packed, count);
	const __m512i levels = levels_of(bits, grid, codes, *history);
	/* The lowest bit of a level of t8, as the highest of a byte. */
	__m512i lowest = _mm512_and_si512(_mm512_slli_epi16(*history, 6),
					  _mm512_set1_epi8((char)0x80));
	__m512 vectors[CHUNK_VECTORS];

	if (grid == GRID_GROUP)
		lowest = _mm512_or_si512(lowest, _mm512_set1_epi8(0x40)); /* the half */

	/* Of each bit, steering chooses codes or what follows. */
	*history = _mm512_ternarylogic_epi32(steering, codes, _mm512_add_epi8(*history, *history), 0xca);
#pragma GCC unroll 4
	for (unsigned j = 0; j < CHUNK_VECTORS; j++)
		vectors[j] = _mm512_fmadd_ps(levels_f32(bits, grid, levels, lowest, j),
					     scales->scale[j], scales->min[j]);
	chunk_store(dtype, values, count, vectors);
}

/*
 * Chunks of @count and, if that is not 0, @more channels: rows of usual length are written end to
 * end. Constants, but for a chunk of unusual width.
 */
VEC_INLINE void strip_decode(enum codec_dtype dtype, unsigned bits, enum grid grid,
			     uint32_t scale_channels, const struct codec_layout *layout,
			     const uint8_t *tile, const struct codec_target *dst, uint32_t first,
			     uint32_t channel, uint32_t count, uint32_t more,
			     const struct quant_scales *scales, __m512i *history)
{
	const uint32_t left = layout->tokens - first;
	const uint32_t tokens = left < STRIP_TOKENS ? left : STRIP_TOKENS;
	const size_t chunk_bytes = VEC_CHUNK * value_bytes(dtype);
	const size_t packed_bytes = VEC_CHUNK / 8 * bits;
	const uint32_t row_bytes = layout->row_bytes;
	const uint32_t row_log_scales = layout->token_scales;
	const uint32_t chunk_log_scales = scale_channels ? VEC_CHUNK / scale_channels : 0;
	const ptrdiff_t stride = dst->stride_bytes;
	const uint8_t *packed = tile_row_const(layout, tile, first) + channel / 8 * bits;
	const uint8_t *log_scales = tile + layout->scales_offset + (size_t)first * layout->token_scales +
				    (scale_channels ? channel / scale_channels : 0);
	uint8_t *values = target_row(dst, first) + (size_t)channel * value_bytes(dtype);
	struct strip strip;

	strip_scales(bits, grid, scales, first, channel, more ? 2 : 1, &strip);
	strip.history[0] = history[0];
	if (more)
		strip.history[1] = history[1];
	for (uint32_t t = 0; t < tokens; t++) {
		bytes_prefetch(packed, (count + more) / 8 * bits);
		token_scales(grid, scale_channels, scales, log_scales, count, &strip,
			     &strip.chunk[0]);
		chunk_decode(dtype, bits, grid, packed, count, &strip.chunk[0], &strip.history[0],
			     values);
		if (more) {
			token_scales(grid, scale_channels, scales, log_scales + chunk_log_scales,
				     more, &strip, &strip.chunk[1]);
			chunk_decode(dtype, bits, grid, packed + packed_bytes, more,
				     &strip.chunk[1], &strip.history[1], values + chunk_bytes);
		}
		if (grid == GRID_TOKEN)
			strip.token = _mm512_add_epi32(strip.token, _mm512_set1_epi32(1));
		packed += row_bytes;
		log_scales += row_log_scales;
		values += stride;
	}
	history[0] = strip.history[0];
	if (more)
		history[1] = strip.history[1];
}

VEC_INLINE void decode_to(enum codec_dtype dtype, unsigned bits, enum grid grid,
			  uint32_t scale_channels, const struct codec_layout *layout,
			  const uint8_t *tile, const struct codec_target *dst)
{
	const uint32_t head_dim = layout->head_dim;
	__m512i histories[CODEC_HEAD_DIM_MAX / VEC_CHUNK];
	struct quant_scales scales;

	memset(histories, 0, sizeof histories);
	if (grid == GRID_GROUP)
		log_scales_load(bits, &scales);
	else
		scales_load(layout, tile, &scales);
#define STRIP_DECODE(count, more)                                                                  \
	strip_decode(dtype, bits, grid, scale_channels, layout, tile, dst, t, c, count, more,      \
		     &scales, &histories[c / VEC_CHUNK])
	for (uint32_t t = 0; t < layout->tokens; t += STRIP_TOKENS) {
		uint32_t c = 0;

		for (; c + 2 * VEC_CHUNK <= head_dim; c += 2 * VEC_CHUNK)
			STRIP_DECODE(VEC_CHUNK, VEC_CHUNK);
		if (head_dim - c == VEC_CHUNK)
			STRIP_DECODE(VEC_CHUNK, 0);
		else if (head_dim - c == VEC_CHUNK + VEC_CHUNK / 2)
			STRIP_DECODE(VEC_CHUNK, VEC_CHUNK / 2);
		else
			for (; c < head_dim; c += VEC_CHUNK)
				STRIP_DECODE(head_dim - c < VEC_CHUNK ? head_dim - c : VEC_CHUNK, 0);
	}
#undef STRIP_DECODE
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

TRELLIS_KERNELS(8, avx512)
TRELLIS_KERNELS(6, avx512)
TRELLIS_KERNELS(5, avx512)
TRELLIS_KERNELS(4, avx512)
