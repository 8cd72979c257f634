/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t8, t6, t5, t4 and their log-scale variants with NEON. Decoding goes row by row; encoding takes
 * eight channels at a time through all tokens, each in a lane of its own, as two vectors of four.
 */
#include "codec/trellis.h"

#include <math.h>

#include "codec/codes-neon.h"
#include "codec/group-neon.h"
#include "codec/rows-scalar.h"

#define STRIP_CHANNELS 8u
#define STRIP_HALVES 2u
#define SETS 4u

/* How the values of one token, in the channels of a strip, become positions. */
struct grid {
	float32x4_t base[STRIP_HALVES];
	float32x4_t inverse[STRIP_HALVES];
	float32x4_t shift;
	float32x4_t weight;
};

/* What a strip of channels is while its codes are looked for. */
struct strip {
	float positions[CODEC_TOKENS_MAX][STRIP_CHANNELS];
	uint8_t upper[CODEC_TOKENS_MAX][STRIP_CHANNELS]; /* bit s: state s was reached from the
							    upper of two states */
	uint8_t steering[CODEC_TOKENS_MAX][STRIP_CHANNELS];
};

/* --- Viterbi's search ------------------------------------------------------------------------ */

/* The nearest level of set @set, as its number in the set. */
VEC_INLINE float32x4_t nearest(float32x4_t position, float32x4_t set, float levels)
{
	const float32x4_t zero = vdupq_n_f32(0);
	const float32x4_t bounded = vminq_f32(vmaxq_f32(position, zero), vdupq_n_f32(levels - 1));
	const float32x4_t k =
		vrndnq_f32(vmulq_f32(vsubq_f32(bounded, set), vdupq_n_f32(0.25f)));

	return vminq_f32(vmaxq_f32(k, zero), vdupq_n_f32(levels / 4 - 1));
}

VEC_INLINE float32x4_t set_cost(float32x4_t position, unsigned set, float levels,
				float32x4_t weight)
{
	const float32x4_t first = vdupq_n_f32((float)set);
	const float32x4_t level =
		vfmaq_f32(first, nearest(position, first, levels), vdupq_n_f32(4));
	const float32x4_t error = vmulq_f32(vsubq_f32(position, level), weight);

	return vmulq_f32(error, error);
}

/* Moves the costs of four channels one token on. The result has a bit a state. */
VEC_INLINE uint32x4_t states_step(const float32x4_t set_costs[SETS],
				  float32x4_t costs[TRELLIS_STATES])
{
	float32x4_t next[TRELLIS_STATES];
	uint32x4_t upper = vdupq_n_u32(0);

#pragma GCC unroll 8
	for (unsigned s = 0; s < TRELLIS_STATES; s++) {
		const unsigned from = s >> 1;
		const float32x4_t low =
			vaddq_f32(costs[from], set_costs[trellis_set(from << 1 | (s & 1))]);
		const float32x4_t high = vaddq_f32(
			costs[from + 4], set_costs[trellis_set((from + 4) << 1 | (s & 1))]);
		const uint32x4_t less = vcltq_f32(high, low);

		next[s] = vbslq_f32(less, high, low);
		upper = vorrq_u32(upper, vandq_u32(less, vdupq_n_u32(1u << s)));
	}
#pragma GCC unroll 8
	for (unsigned s = 0; s < TRELLIS_STATES; s++)
		costs[s] = next[s];
	return upper;
}

VEC_INLINE uint8x8_t narrow(uint32x4_t low, uint32x4_t high)
{
	return vmovn_u16(vcombine_u16(vmovn_u32(low), vmovn_u32(high)));
}

/* The positions of one token, and the costs of reaching it. */
VEC_INLINE void token_search(enum codec_dtype dtype, float levels, const uint8_t *values,
			     const struct grid *grid, uint32_t token, struct strip *strip,
			     float32x4_t costs[STRIP_HALVES][TRELLIS_STATES])
{
	uint32x4_t upper[STRIP_HALVES];

#pragma GCC unroll 2
	for (unsigned h = 0; h < STRIP_HALVES; h++) {
		const float32x4_t value =
			vec_load(dtype, values + (size_t)h * VEC_LANES * value_bytes(dtype));
		const float32x4_t position =
			vaddq_f32(vmulq_f32(vsubq_f32(value, grid->base[h]), grid->inverse[h]),
				  grid->shift);
		float32x4_t set_costs[SETS];

		vst1q_f32(&strip->positions[token][h * VEC_LANES], position);
#pragma GCC unroll 4
		for (unsigned set = 0; set < SETS; set++)
			set_costs[set] = set_cost(position, set, levels, grid->weight);
		upper[h] = states_step(set_costs, costs[h]);
	}
	vst1_u8(strip->upper[token], narrow(upper[0], upper[1]));
}

/* The state of least cost, the lowest of equals. */
VEC_INLINE uint32x4_t state_best(const float32x4_t costs[TRELLIS_STATES])
{
	float32x4_t least = costs[0];
	uint32x4_t state = vdupq_n_u32(0);

#pragma GCC unroll 8
	for (unsigned s = 1; s < TRELLIS_STATES; s++) {
		const uint32x4_t less = vcltq_f32(costs[s], least);

		least = vbslq_f32(less, costs[s], least);
		state = vbslq_u32(less, vdupq_n_u32(s), state);
	}
	return state;
}

/* Back along the paths that end in @state. */
VEC_INLINE void path_trace(uint8x8_t state, uint32_t tokens, struct strip *strip)
{
	const uint8x8_t one = vdup_n_u8(1);

	for (uint32_t t = tokens; t-- > 0;) {
		const int8x8_t down = vneg_s8(vreinterpret_s8_u8(state));
		const uint8x8_t upper = vand_u8(vshl_u8(vld1_u8(strip->upper[t]), down), one);

		vst1_u8(strip->steering[t], vand_u8(state, one));
		state = vorr_u8(vshr_n_u8(state, 1), vshl_n_u8(upper, 2));
	}
}

/* Codes of the paths, of @channel and the seven after it, into the rows of the tile. */
VEC_INLINE void codes_write(unsigned bits, const struct codec_layout *layout, uint32_t channel,
			    const struct strip *strip, uint8_t *tile)
{
	uint16x8_t history = vdupq_n_u16(0); /* u, u1, u2, u3 from bit 0 on */

	for (uint32_t t = 0; t < layout->tokens; t++) {
		const uint16x8_t steering = vmovl_u8(vld1_u8(strip->steering[t]));
		uint32x4_t k[STRIP_HALVES];
		uint16x8_t set;

		history = vsliq_n_u16(steering, history, 1);
		set = veorq_u16(history, veorq_u16(vshrq_n_u16(history, 1),
						   vshrq_n_u16(history, 3)));
		set = vandq_u16(vsliq_n_u16(vshrq_n_u16(history, 2), set, 1), vdupq_n_u16(3));
#pragma GCC unroll 2
		for (unsigned h = 0; h < STRIP_HALVES; h++)
			k[h] = vcvtq_u32_f32(
				nearest(vld1q_f32(&strip->positions[t][h * VEC_LANES]),
					half_f32(set, h), trellis_levels(bits)));

		const uint16x8_t numbers = vcombine_u16(vmovn_u32(k[0]), vmovn_u32(k[1]));

		codes_store(bits, vsliq_n_u16(steering, numbers, 1),
			    tile_row(layout, tile, t) + channel / 8 * bits);
	}
}

/* Starts in state 0. */
VEC_INLINE void costs_start(float32x4_t costs[STRIP_HALVES][TRELLIS_STATES])
{
	for (unsigned h = 0; h < STRIP_HALVES; h++)
		for (unsigned s = 0; s < TRELLIS_STATES; s++)
			costs[h][s] = vdupq_n_f32(s == 0 ? 0.0f : TRELLIS_COST_MAX);
}

VEC_INLINE void strip_finish(unsigned bits, const struct codec_layout *layout, uint32_t channel,
			     float32x4_t costs[STRIP_HALVES][TRELLIS_STATES], struct strip *strip,
			     uint8_t *tile)
{
	path_trace(narrow(state_best(costs[0]), state_best(costs[1])), layout->tokens, strip);
	codes_write(bits, layout, channel, strip, tile);
}

/* --- K --------------------------------------------------------------------------------------- */

VEC_INLINE bool encode_k_from(enum codec_dtype dtype, unsigned bits,
			      const struct codec_layout *layout, const struct codec_source *src,
			      uint8_t *tile)
{
	const float levels = trellis_levels(bits);
	struct quant_steps steps;
	struct strip strip;

	if (!channels_close(dtype, levels - 1, layout, src, tile, &steps))
		return false;
	for (uint32_t c = 0; c < layout->head_dim; c += STRIP_CHANNELS) {
		const struct grid grid = {
			.base = { vld1q_f32(&steps.min[c]), vld1q_f32(&steps.min[c + 4]) },
			.inverse = { vld1q_f32(&steps.inverse[c]),
				     vld1q_f32(&steps.inverse[c + 4]) },
			.shift = vdupq_n_f32(0),
			.weight = vdupq_n_f32(1),
		};
		float32x4_t costs[STRIP_HALVES][TRELLIS_STATES];

		costs_start(costs);
		for (uint32_t t = 0; t < layout->tokens; t++)
			token_search(dtype, levels,
				     source_row(src, t) + (size_t)c * value_bytes(dtype), &grid, t,
				     &strip, costs);
		strip_finish(bits, layout, c, costs, &strip, tile);
	}
	return true;
}

VEC_INLINE bool encode_k(unsigned bits, uint32_t scale_channels, const struct codec_layout *layout,
			 const struct codec_source *src, uint8_t *tile)
{
	(void)scale_channels;
	return DTYPE_CONSTANT(src->dtype, encode_k_from, bits, layout, src, tile);
}

/* --- V --------------------------------------------------------------------------------------- */

/* The scale of one token in channels that share it. */
struct token_grid {
	float base;
	float inverse;
	float weight;
};

/* Chooses it, in @count channels from @channel on. False when a value is refused. */
VEC_INLINE bool grid_close(enum codec_dtype dtype, unsigned bits, uint32_t scale_channels,
			   const struct codec_layout *layout, const struct codec_source *src,
			   uint32_t token, uint32_t channel, uint32_t count, uint8_t *tile,
			   struct quant_steps *steps, struct token_grid *ret)
{
	const struct range range = token_range(dtype, src, token, channel, count);

	if (!scale_channels) {
		float scale, min;
		const bool ok = group_close(layout, &range, trellis_levels(bits) - 1, token, tile,
					    steps);

		group_read(layout, tile, token, &scale, &min);
		*ret = (struct token_grid){ min, steps->inverse[token], scale };
		return ok;
	}

	/* The additions make -0 a +0; bounded, so that a source that changes does no harm. */
	const float largest = fmaxf(range.largest + 0.0f, 0.0f - range.smallest);
	const uint8_t e = trellis_log_scale_of(fminf(largest, HALF_MAX));
	const float scale = trellis_log_scales[e] / (float)(1u << bits);

	tile[layout->scales_offset + (size_t)token * layout->token_scales +
	     channel / scale_channels] = e;
	*ret = (struct token_grid){ 0, scale > 0 ? 1.0f / scale : 0.0f, scale };
	return largest <= HALF_MAX && range.spoilt == 0;
}

VEC_INLINE void strip_encode_v(enum codec_dtype dtype, unsigned bits, uint32_t scale_channels,
			       const struct codec_layout *layout, const struct codec_source *src,
			       uint32_t channel, const struct token_grid *grids,
			       struct strip *strip, uint8_t *tile)
{
	const float levels = trellis_levels(bits);
	float32x4_t costs[STRIP_HALVES][TRELLIS_STATES];

	costs_start(costs);
	for (uint32_t t = 0; t < layout->tokens; t++) {
		const float32x4_t base = vdupq_n_f32(grids[t].base);
		const float32x4_t inverse = vdupq_n_f32(grids[t].inverse);
		const struct grid grid = {
			.base = { base, base },
			.inverse = { inverse, inverse },
			.shift = vdupq_n_f32(scale_channels ? 0.5f * (levels - 1) : 0.0f),
			.weight = vdupq_n_f32(grids[t].weight),
		};

		token_search(dtype, levels,
			     source_row(src, t) + (size_t)channel * value_bytes(dtype), &grid, t,
			     strip, costs);
	}
	strip_finish(bits, layout, channel, costs, strip, tile);
}

VEC_INLINE bool encode_v_from(enum codec_dtype dtype, unsigned bits, uint32_t scale_channels,
			      const struct codec_layout *layout, const struct codec_source *src,
			      uint8_t *tile)
{
	const uint32_t channels = scale_channels ? scale_channels : layout->head_dim;
	struct token_grid grids[CODEC_TOKENS_MAX];
	struct quant_steps steps;
	struct strip strip;

	for (uint32_t first = 0; first < layout->head_dim; first += channels) {
		const uint32_t left = layout->head_dim - first;
		const uint32_t count = left < channels ? left : channels;

		for (uint32_t t = 0; t < layout->tokens; t++)
			if (!grid_close(dtype, bits, scale_channels, layout, src, t, first, count,
					tile, &steps, &grids[t]))
				return false;
		for (uint32_t c = first; c < first + count; c += STRIP_CHANNELS)
			strip_encode_v(dtype, bits, scale_channels, layout, src, c, grids, &strip,
				       tile);
	}
	return true;
}

VEC_INLINE bool encode_v(unsigned bits, uint32_t scale_channels, const struct codec_layout *layout,
			 const struct codec_source *src, uint8_t *tile)
{
	return DTYPE_CONSTANT(src->dtype, encode_v_from, bits, scale_channels, layout, src, tile);
}

/* --- Decoding -------------------------------------------------------------------------------- */

VEC_INLINE uint16x8_t row_levels_next(unsigned bits, const uint8_t *row, uint32_t channel,
				      uint16_t *history)
{
	uint16x8_t before = vld1q_u16(&history[channel]);
	const uint16x8_t levels = levels_next(codes_load(bits, row + channel / 8 * bits), &before);

	vst1q_u16(&history[channel], before);
	return levels;
}

VEC_INLINE void decode_k_to(enum codec_dtype dtype, unsigned bits,
			    const struct codec_layout *layout, const uint8_t *tile,
			    const struct codec_target *dst)
{
	uint16_t history[CODEC_HEAD_DIM_MAX] = { 0 };
	struct quant_scales scales;

	scales_load(layout, tile, &scales);
	for (uint32_t t = 0; t < layout->tokens; t++) {
		const uint8_t *row = tile_row_const(layout, tile, t);
		uint8_t *values = target_row(dst, t);

		for (uint32_t c = 0; c < layout->head_dim; c += STRIP_CHANNELS) {
			const uint16x8_t levels = row_levels_next(bits, row, c, history);

#pragma GCC unroll 2
			for (unsigned h = 0; h < STRIP_HALVES; h++) {
				const uint32_t channel = c + h * VEC_LANES;

				vec_store(dtype, values + (size_t)channel * value_bytes(dtype),
					  vfmaq_f32(vld1q_f32(&scales.min[channel]),
						    half_f32(levels, h),
						    vld1q_f32(&scales.scale[channel])));
			}
		}
	}
}

/* @count channels from @channel on, of one token, which share a scale. */
VEC_INLINE void group_decode(enum codec_dtype dtype, unsigned bits, const uint8_t *row,
			     uint32_t channel, uint32_t count, float scale, float min,
			     uint16_t *history, uint8_t *values)
{
	for (uint32_t c = channel; c < channel + count; c += STRIP_CHANNELS) {
		const uint16x8_t levels = row_levels_next(bits, row, c, history);

#pragma GCC unroll 2
		for (unsigned h = 0; h < STRIP_HALVES; h++)
			vec_store(dtype,
				  values + (size_t)(c + h * VEC_LANES) * value_bytes(dtype),
				  vfmaq_f32(vdupq_n_f32(min), half_f32(levels, h),
					    vdupq_n_f32(scale)));
	}
}

VEC_INLINE void decode_v_to(enum codec_dtype dtype, unsigned bits, uint32_t scale_channels,
			    const struct codec_layout *layout, const uint8_t *tile,
			    const struct codec_target *dst)
{
	const uint32_t channels = scale_channels ? scale_channels : layout->head_dim;
	uint16_t history[CODEC_HEAD_DIM_MAX] = { 0 };

	for (uint32_t t = 0; t < layout->tokens; t++) {
		for (uint32_t first = 0; first < layout->head_dim; first += channels) {
			const uint32_t left = layout->head_dim - first;
			float scale, min;

			value_group_read(bits, layout, tile, t, first, &scale, &min);
			group_decode(dtype, bits, tile_row_const(layout, tile, t), first,
				     left < channels ? left : channels, scale, min, history,
				     target_row(dst, t));
		}
	}
}

VEC_INLINE void decode_k(unsigned bits, uint32_t scale_channels, const struct codec_layout *layout,
			 const uint8_t *tile, const struct codec_target *dst)
{
	(void)scale_channels;
	DTYPE_CONSTANT(dst->dtype, decode_k_to, bits, layout, tile, dst);
}

VEC_INLINE void decode_v(unsigned bits, uint32_t scale_channels, const struct codec_layout *layout,
			 const uint8_t *tile, const struct codec_target *dst)
{
	DTYPE_CONSTANT(dst->dtype, decode_v_to, bits, scale_channels, layout, tile, dst);
}

TRELLIS_KERNELS(8, neon)
TRELLIS_KERNELS(6, neon)
TRELLIS_KERNELS(5, neon)
TRELLIS_KERNELS(4, neon)
