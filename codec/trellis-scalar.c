/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t8, t6, t5, t4 and their log-scale variants in portable C: the definition that the vector kernels
 * are tested against. One channel after another; a token's value is loaded where it is needed.
 */
#include "codec/trellis.h"

#include <math.h>

#include "codec/group-scalar.h"
#include "codec/rows-scalar.h"
#include "codec/scalar.h"

/* How the values of one token, in the channels that share its scale, become positions. */
struct grid {
	float base;
	float inverse;
	float shift;
	float weight;
};

static float value_load(const struct codec_source *src, uint32_t token, uint32_t channel)
{
	float value;

	values_load(src->dtype,
		    source_row(src, token) + (size_t)channel * codec_dtype_bytes(src->dtype), 1,
		    &value);
	return value;
}

/* --- Viterbi's search ------------------------------------------------------------------------ */

/* The nearest level of set @set, as its number in the set. */
static float nearest(float position, unsigned set, float levels)
{
	const float bounded = position > 0 ? position < levels - 1 ? position : levels - 1 : 0.0f;
	const float k = rintf((bounded - (float)set) * 0.25f);
	const float k_max = levels / 4 - 1;

	return k > 0 ? k < k_max ? k : k_max : 0.0f;
}

static float position_of(float value, const struct grid *grid)
{
	return (value - grid->base) * grid->inverse + grid->shift;
}

/* Moves the costs one token on. Bit s of the result: state s was reached from the upper state. */
static uint8_t states_step(const float set_costs[4], float costs[TRELLIS_STATES])
{
	float next[TRELLIS_STATES];
	uint8_t upper = 0;

	for (unsigned s = 0; s < TRELLIS_STATES; s++) {
		const unsigned from = s >> 1;
		const float low = costs[from] + set_costs[trellis_set(from << 1 | (s & 1))];
		const float high =
			costs[from + 4] + set_costs[trellis_set((from + 4) << 1 | (s & 1))];

		next[s] = high < low ? high : low;
		upper |= (uint8_t)((high < low) << s);
	}
	memcpy(costs, next, sizeof next);
	return upper;
}

/* The lowest bits of one channel's codes. */
static void channel_search(unsigned bits, const float *positions, const float *weights,
			   uint32_t tokens, uint8_t *steering)
{
	const float levels = trellis_levels(bits);
	float costs[TRELLIS_STATES];
	uint8_t upper[CODEC_TOKENS_MAX];
	unsigned state = 0;

	for (unsigned s = 0; s < TRELLIS_STATES; s++)
		costs[s] = s == 0 ? 0.0f : TRELLIS_COST_MAX;
	for (uint32_t t = 0; t < tokens; t++) {
		float set_costs[4];

		for (unsigned set = 0; set < 4; set++) {
			const float k = nearest(positions[t], set, levels);
			const float error =
				(positions[t] - (4 * k + (float)set)) * weights[t];

			set_costs[set] = error * error;
		}
		upper[t] = states_step(set_costs, costs);
	}
	for (unsigned s = 1; s < TRELLIS_STATES; s++)
		state = costs[s] < costs[state] ? s : state;
	for (uint32_t t = tokens; t-- > 0;) {
		steering[t] = (uint8_t)(state & 1);
		state = state >> 1 | (unsigned)(upper[t] >> state & 1) << 2;
	}
}

/* The codes of one channel, a byte each, @stride apart. */
static void channel_encode(unsigned bits, const float *positions, const float *weights,
			   uint32_t tokens, uint8_t *codes, size_t stride)
{
	uint8_t steering[CODEC_TOKENS_MAX];
	unsigned history = 0; /* u, u1, u2, u3 from bit 0 on */

	channel_search(bits, positions, weights, tokens, steering);
	for (uint32_t t = 0; t < tokens; t++) {
		history = history << 1 | steering[t];

		const float k = nearest(positions[t], trellis_set(history), trellis_levels(bits));

		codes[t * stride] = (uint8_t)((unsigned)k << 1 | steering[t]);
	}
}

static void rows_pack(unsigned bits, const struct codec_layout *layout, const uint8_t *codes,
		      uint8_t *tile)
{
	for (uint32_t t = 0; t < layout->tokens; t++)
		row_pack(bits, codes + (size_t)t * layout->head_dim, layout->head_dim,
			 tile_row(layout, tile, t));
}

/* --- K --------------------------------------------------------------------------------------- */

static bool channels_close(unsigned bits, const struct codec_layout *layout,
			   const struct codec_source *src, uint8_t *tile, struct quant_steps *steps)
{
	bool ok = true;

	for (uint32_t c = 0; c < layout->head_dim; c++) {
		struct range range = range_start(value_load(src, 0, c));

		for (uint32_t t = 0; t < layout->tokens; t++)
			range_add(&range, value_load(src, t, c));
		ok &= group_close(layout, &range, trellis_levels(bits) - 1, c, tile, steps);
	}
	return ok;
}

static inline bool encode_k(unsigned bits, uint32_t scale_channels,
			    const struct codec_layout *layout, const struct codec_source *src,
			    uint8_t *tile)
{
	uint8_t codes[CODEC_TOKENS_MAX * CODEC_HEAD_DIM_MAX];
	float positions[CODEC_TOKENS_MAX];
	float weights[CODEC_TOKENS_MAX];
	struct quant_steps steps;

	(void)scale_channels;
	if (!channels_close(bits, layout, src, tile, &steps))
		return false;
	for (uint32_t c = 0; c < layout->head_dim; c++) {
		const struct grid grid = { steps.min[c], steps.inverse[c], 0, 1 };

		for (uint32_t t = 0; t < layout->tokens; t++) {
			positions[t] = position_of(value_load(src, t, c), &grid);
			weights[t] = grid.weight;
		}
		channel_encode(bits, positions, weights, layout->tokens, codes + c,
			       layout->head_dim);
	}
	rows_pack(bits, layout, codes, tile);
	return true;
}

/* --- V --------------------------------------------------------------------------------------- */

/* Chooses the scale of one token in @count channels from @channel on. */
static bool grid_close(unsigned bits, uint32_t scale_channels, const struct codec_layout *layout,
		       const struct codec_source *src, uint32_t token, uint32_t channel,
		       uint32_t count, uint8_t *tile, struct quant_steps *steps, struct grid *ret)
{
	struct range range = range_start(value_load(src, token, channel));
	bool ok;

	for (uint32_t c = channel; c < channel + count; c++)
		range_add(&range, value_load(src, token, c));
	if (!scale_channels) {
		float scale, min;

		ok = group_close(layout, &range, trellis_levels(bits) - 1, token, tile, steps);
		group_read(layout, tile, token, &scale, &min);
		*ret = (struct grid){ min, steps->inverse[token], 0, scale };
		return ok;
	}

	/* The additions make -0 a +0; bounded, so that a source that changes does no harm. */
	const float largest = fmaxf(range.largest + 0.0f, 0.0f - range.smallest);
	const uint32_t group = channel / scale_channels;
	const uint8_t e = trellis_log_scale_of(fminf(largest, HALF_MAX));
	const float scale = trellis_log_scales[e] / (float)(1u << bits);

	tile[layout->scales_offset + (size_t)token * layout->token_scales + group] = e;
	*ret = (struct grid){ 0, scale > 0 ? 1.0f / scale : 0.0f, 0.5f * (trellis_levels(bits) - 1),
			      scale };
	return largest <= HALF_MAX && range.spoilt == 0;
}

static inline bool encode_v(unsigned bits, uint32_t scale_channels,
			    const struct codec_layout *layout, const struct codec_source *src,
			    uint8_t *tile)
{
	const uint32_t channels = scale_channels ? scale_channels : layout->head_dim;
	uint8_t codes[CODEC_TOKENS_MAX * CODEC_HEAD_DIM_MAX];
	float positions[CODEC_TOKENS_MAX];
	float weights[CODEC_TOKENS_MAX];
	struct quant_steps steps;

	for (uint32_t first = 0; first < layout->head_dim; first += channels) {
		const uint32_t left = layout->head_dim - first;
		const uint32_t count = left < channels ? left : channels;
		struct grid grids[CODEC_TOKENS_MAX];

		for (uint32_t t = 0; t < layout->tokens; t++)
			if (!grid_close(bits, scale_channels, layout, src, t, first, count, tile,
					&steps, &grids[t]))
				return false;
		for (uint32_t c = first; c < first + count; c++) {
			for (uint32_t t = 0; t < layout->tokens; t++) {
				positions[t] = position_of(value_load(src, t, c), &grids[t]);
				weights[t] = grids[t].weight;
			}
			channel_encode(bits, positions, weights, layout->tokens, codes + c,
				       layout->head_dim);
		}
	}
	rows_pack(bits, layout, codes, tile);
	return true;
}

/* --- Decoding -------------------------------------------------------------------------------- */

static inline void decode(unsigned bits, enum codec_role role, const struct codec_layout *layout,
			  const uint8_t *tile, const struct codec_target *dst)
{
	uint8_t history[CODEC_HEAD_DIM_MAX] = { 0 };
	uint16_t levels[CODEC_HEAD_DIM_MAX];
	float row[CODEC_HEAD_DIM_MAX];

	for (uint32_t t = 0; t < layout->tokens; t++) {
		row_levels(bits, true, tile_row_const(layout, tile, t), layout->head_dim, history,
			   levels);
		for (uint32_t c = 0; c < layout->head_dim; c++) {
			float scale, min;

			if (role == CODEC_ROLE_K)
				group_read(layout, tile, c, &scale, &min);
			else
				value_group_read(bits, layout, tile, t, c, &scale, &min);
			row[c] = min + (float)levels[c] * scale;
		}
		values_store(dst->dtype, row, layout->head_dim, target_row(dst, t));
	}
}

static inline void decode_k(unsigned bits, uint32_t scale_channels,
			    const struct codec_layout *layout, const uint8_t *tile,
			    const struct codec_target *dst)
{
	(void)scale_channels;
	decode(bits, CODEC_ROLE_K, layout, tile, dst);
}

static inline void decode_v(unsigned bits, uint32_t scale_channels,
			    const struct codec_layout *layout, const uint8_t *tile,
			    const struct codec_target *dst)
{
	(void)scale_channels;
	decode(bits, CODEC_ROLE_V, layout, tile, dst);
}

TRELLIS_KERNELS(8, scalar)
TRELLIS_KERNELS(6, scalar)
TRELLIS_KERNELS(5, scalar)
TRELLIS_KERNELS(4, scalar)
