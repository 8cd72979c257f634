/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention on tiles with NEON. A row's codes become 16-bit levels once for all queries; products
 * with the queries' 15-bit integers are then multiply-accumulates into 32 bits. packed.h says what
 * is computed, and in which order sums of f32 run.
 */
#include "codec/packed.h"

#include "codec/codes-neon.h"
#include "codec/group-neon.h"
#include "codec/rows-scalar.h"

#define LEVELS_VECTOR 8u
#define LANE_VECTORS (PACKED_LANES / VEC_LANES)

VEC_INLINE const float *row_of(const struct codec_rows *rows, uint32_t index)
{
	return rows->values + (ptrdiff_t)index * rows->stride;
}

VEC_INLINE float *result_of(const struct codec_results *results, uint32_t index)
{
	return results->values + (ptrdiff_t)index * results->stride;
}

/* --- Sums in sixteen lanes ------------------------------------------------------------------- */

VEC_INLINE float lanes_fold(const float32x4_t lanes[LANE_VECTORS])
{
	const float32x4_t sum =
		vaddq_f32(vaddq_f32(lanes[0], lanes[2]), vaddq_f32(lanes[1], lanes[3]));
	const float32x2_t pair = vadd_f32(vget_low_f32(sum), vget_high_f32(sum));

	return vget_lane_f32(pair, 0) + vget_lane_f32(pair, 1);
}

/* The last terms, fewer than sixteen, of a sum of products. */
VEC_INLINE void lanes_finish(float32x4_t lanes[LANE_VECTORS], const float *a, const float *b,
			     uint32_t count)
{
	float sums[PACKED_LANES];

	for (unsigned j = 0; j < LANE_VECTORS; j++)
		vst1q_f32(&sums[VEC_LANES * j], lanes[j]);
	for (uint32_t i = 0; i < count; i++)
		sums[i] = fmaf(a[i], b[i], sums[i]);
	for (unsigned j = 0; j < LANE_VECTORS; j++)
		lanes[j] = vld1q_f32(&sums[VEC_LANES * j]);
}

VEC_INLINE float lanes_product(const float *a, const float *b, uint32_t count)
{
	float32x4_t lanes[LANE_VECTORS] = { vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0),
					    vdupq_n_f32(0) };
	uint32_t i = 0;

	for (; i + PACKED_LANES <= count; i += PACKED_LANES) {
#pragma GCC unroll 4
		for (unsigned j = 0; j < LANE_VECTORS; j++)
			lanes[j] = vfmaq_f32(lanes[j], vld1q_f32(a + i + VEC_LANES * j),
					     vld1q_f32(b + i + VEC_LANES * j));
	}
	if (i < count)
		lanes_finish(lanes, a + i, b + i, count - i);
	return lanes_fold(lanes);
}

/* --- Integers for factors -------------------------------------------------------------------- */

/* @count is a multiple of four. */
VEC_INLINE float peak_of(const float *values, uint32_t count)
{
	float32x4_t peak = vdupq_n_f32(0);

	for (uint32_t i = 0; i < count; i += VEC_LANES)
		peak = vmaxnmq_f32(peak, vabsq_f32(vld1q_f32(values + i)));
	return vmaxvq_f32(peak);
}

VEC_INLINE void factors_round(const float *factors, uint32_t count, float inverse,
			      int16_t *rounded)
{
	const float32x4_t limit = vdupq_n_f32(PACKED_STEPS);

	for (uint32_t i = 0; i < count; i += VEC_LANES) {
		const float32x4_t steps = vmulq_n_f32(vld1q_f32(factors + i), inverse);
		const float32x4_t bounded = vminq_f32(vmaxq_f32(steps, vnegq_f32(limit)), limit);

		vst1_s16(rounded + i, vmovn_s32(vcvtnq_s32_f32(bounded)));
	}
}

/* The levels of one row; see levels_next() for the history. */
VEC_INLINE void row_levels_load(unsigned bits, bool trellis, const uint8_t *row, uint32_t count,
				uint16_t *history, int16_t *levels)
{
	for (uint32_t c = 0; c < count; c += LEVELS_VECTOR) {
		uint16x8_t level = codes_load(bits, row + c / 8 * bits);

		if (trellis) {
			uint16x8_t before = vld1q_u16(&history[c]);

			level = levels_next(level, &before);
			vst1q_u16(&history[c], before);
		}
		vst1q_s16(&levels[c], vreinterpretq_s16_u16(level));
	}
}

/* --- Scores ---------------------------------------------------------------------------------- */

struct query {
	int16_t rounded[CODEC_HEAD_DIM_MAX];
	float unit;
	float bias;
};

VEC_INLINE void query_fold(const float *values, const struct quant_scales *scales,
			   uint32_t head_dim, struct query *query)
{
	float factors[CODEC_HEAD_DIM_MAX];
	float peak;

	for (uint32_t c = 0; c < head_dim; c += VEC_LANES)
		vst1q_f32(&factors[c],
			  vmulq_f32(vld1q_f32(values + c), vld1q_f32(&scales->scale[c])));
	peak = peak_of(factors, head_dim);
	factors_round(factors, head_dim, packed_inverse(peak), query->rounded);
	query->unit = packed_unit(peak);
	query->bias = lanes_product(values, scales->min, head_dim);
}

VEC_INLINE int32_t levels_product(const int16_t *rounded, const int16_t *levels, uint32_t count)
{
	int32x4_t low = vdupq_n_s32(0);
	int32x4_t high = vdupq_n_s32(0);

	for (uint32_t c = 0; c < count; c += LEVELS_VECTOR) {
		const int16x8_t factor = vld1q_s16(rounded + c);
		const int16x8_t level = vld1q_s16(levels + c);

		low = vmlal_s16(low, vget_low_s16(factor), vget_low_s16(level));
		high = vmlal_high_s16(high, factor, level);
	}
	return vaddvq_s32(vaddq_s32(low, high));
}

VEC_INLINE void scores(unsigned bits, bool trellis, const struct codec_layout *layout,
		       const uint8_t *tile, const struct codec_rows *queries, uint32_t n,
		       const struct codec_results *results)
{
	struct query folded[CODEC_QUERIES_MAX];
	uint16_t history[CODEC_HEAD_DIM_MAX] = { 0 };
	int16_t levels[CODEC_HEAD_DIM_MAX];
	struct quant_scales scales;

	scales_load(layout, tile, &scales);
	for (uint32_t i = 0; i < n; i++)
		query_fold(row_of(queries, i), &scales, layout->head_dim, &folded[i]);
	for (uint32_t t = 0; t < layout->tokens; t++) {
		row_levels_load(bits, trellis, tile_row_const(layout, tile, t), layout->head_dim,
				history, levels);
		for (uint32_t i = 0; i < n; i++) {
			const int32_t sum =
				levels_product(folded[i].rounded, levels, layout->head_dim);

			result_of(results, i)[t] =
				fmaf((float)sum, folded[i].unit, folded[i].bias);
		}
	}
}

VEC_INLINE void raw_row_load(enum codec_dtype dtype, const uint8_t *values, uint32_t count,
			     float *row)
{
	for (uint32_t c = 0; c < count; c += VEC_LANES)
		vst1q_f32(row + c, vec_load(dtype, values + (size_t)c * value_bytes(dtype)));
}

VEC_INLINE void raw_scores(enum codec_dtype dtype, const struct codec_layout *layout,
			   const uint8_t *tile, const struct codec_rows *queries, uint32_t n,
			   const struct codec_results *results)
{
	float row[CODEC_HEAD_DIM_MAX];

	for (uint32_t t = 0; t < layout->tokens; t++) {
		raw_row_load(dtype, tile_row_const(layout, tile, t), layout->head_dim, row);
		for (uint32_t i = 0; i < n; i++)
			result_of(results, i)[t] =
				lanes_product(row_of(queries, i), row, layout->head_dim);
	}
}

/* --- Weighted sums --------------------------------------------------------------------------- */

/* The scales and mins of all tokens in the channels that begin at @channel. */
VEC_INLINE void value_scales_load(unsigned bits, const struct codec_layout *layout,
				  const uint8_t *tile, uint32_t channel,
				  struct quant_scales *scales)
{
	if (!layout->scale_channels) {
		scales_load(layout, tile, scales);
		return;
	}
	for (uint32_t t = 0; t < layout->tokens; t++)
		value_group_read(bits, layout, tile, t, channel, &scales->scale[t],
				 &scales->min[t]);
}

/* A batch of tokens, as the 16-bit levels of all channels. */
struct batch {
	uint32_t first;
	uint32_t count;
	int16_t levels[PACKED_BATCH][CODEC_HEAD_DIM_MAX];
};

/* Adds a batch to the channels from @begin to @end, which share scales. */
VEC_INLINE void batch_add(const struct batch *batch, uint32_t begin, uint32_t end,
			  const float *weights, const float *token_scales, float *out)
{
	float factors[PACKED_BATCH] = { 0 };
	int16_t rounded[PACKED_BATCH];
	float peak, unit;

	for (uint32_t t = 0; t < batch->count; t++)
		factors[t] = weights[batch->first + t] * token_scales[batch->first + t];
	peak = peak_of(factors, PACKED_BATCH);
	unit = packed_unit(peak);
	factors_round(factors, PACKED_BATCH, packed_inverse(peak), rounded);
	for (uint32_t c = begin; c < end; c += LEVELS_VECTOR) {
		int32x4_t low = vdupq_n_s32(0);
		int32x4_t high = vdupq_n_s32(0);

		for (uint32_t t = 0; t < batch->count; t++) {
			const int16x8_t level = vld1q_s16(&batch->levels[t][c]);

			low = vmlal_n_s16(low, vget_low_s16(level), rounded[t]);
			high = vmlal_high_n_s16(high, level, rounded[t]);
		}
		vst1q_f32(out + c, vfmaq_n_f32(vld1q_f32(out + c), vcvtq_f32_s32(low), unit));
		vst1q_f32(out + c + VEC_LANES,
			  vfmaq_n_f32(vld1q_f32(out + c + VEC_LANES), vcvtq_f32_s32(high), unit));
	}
}

VEC_INLINE void channels_add(float *out, uint32_t begin, uint32_t end, float value)
{
	for (uint32_t c = begin; c < end; c += VEC_LANES)
		vst1q_f32(out + c, vaddq_f32(vld1q_f32(out + c), vdupq_n_f32(value)));
}

/* All queries, one batch, group by group of channels. The last batch adds the mins too. */
VEC_INLINE void batch_accumulate(unsigned bits, const struct codec_layout *layout,
				 const uint8_t *tile, const struct batch *batch,
				 const struct codec_rows *weights, uint32_t n,
				 const struct codec_results *out)
{
	const uint32_t channels =
		layout->scale_channels ? layout->scale_channels : layout->head_dim;
	const bool last = batch->first + batch->count == layout->tokens;

	for (uint32_t c = 0; c < layout->head_dim; c += channels) {
		const uint32_t left = layout->head_dim - c;
		const uint32_t end = c + (left < channels ? left : channels);
		struct quant_scales scales;

		value_scales_load(bits, layout, tile, c, &scales);
		for (uint32_t i = 0; i < n; i++) {
			const float *row = row_of(weights, i);
			float *sums = result_of(out, i);

			batch_add(batch, c, end, row, scales.scale, sums);
			if (last)
				channels_add(sums, c, end,
					     lanes_product(row, scales.min, layout->tokens));
		}
	}
}

VEC_INLINE void accumulate(unsigned bits, bool trellis, const struct codec_layout *layout,
			   const uint8_t *tile, const struct codec_rows *weights, uint32_t n,
			   const struct codec_results *out)
{
	uint16_t history[CODEC_HEAD_DIM_MAX] = { 0 };
	struct batch batch;

	for (uint32_t first = 0; first < layout->tokens; first += PACKED_BATCH) {
		const uint32_t left = layout->tokens - first;

		batch.first = first;
		batch.count = left < PACKED_BATCH ? left : PACKED_BATCH;
		for (uint32_t t = 0; t < batch.count; t++)
			row_levels_load(bits, trellis, tile_row_const(layout, tile, first + t),
					layout->head_dim, history, batch.levels[t]);
		batch_accumulate(bits, layout, tile, &batch, weights, n, out);
	}
}

VEC_INLINE void raw_accumulate(enum codec_dtype dtype, const struct codec_layout *layout,
			       const uint8_t *tile, const struct codec_rows *weights, uint32_t n,
			       const struct codec_results *out)
{
	float row[CODEC_HEAD_DIM_MAX];

	for (uint32_t t = 0; t < layout->tokens; t++) {
		raw_row_load(dtype, tile_row_const(layout, tile, t), layout->head_dim, row);
		for (uint32_t i = 0; i < n; i++) {
			const float weight = row_of(weights, i)[t];
			float *sums = result_of(out, i);

			for (uint32_t c = 0; c < layout->head_dim; c += VEC_LANES)
				vst1q_f32(sums + c, vfmaq_n_f32(vld1q_f32(sums + c),
								vld1q_f32(row + c), weight));
		}
	}
}

/* --- The softmax ----------------------------------------------------------------------------- */

float softmax_largest_neon(const float *scores_, uint32_t count)
{
	float32x4_t lanes = vdupq_n_f32(scores_[0]);
	uint32_t i = 0;
	float largest;

	for (; i + VEC_LANES <= count; i += VEC_LANES)
		lanes = vmaxq_f32(lanes, vld1q_f32(scores_ + i));
	largest = vmaxvq_f32(lanes);
	for (; i < count; i++)
		largest = scores_[i] > largest ? scores_[i] : largest;
	return largest;
}

VEC_INLINE float32x4_t exponential(float32x4_t x)
{
	/* These two take the number where one is NaN. */
	x = vminnmq_f32(vmaxnmq_f32(x, vdupq_n_f32(PACKED_EXP_MIN)), vdupq_n_f32(88.0f));

	const float32x4_t n = vrndnq_f32(vmulq_n_f32(x, PACKED_LOG2_E));
	const float32x4_t r = vfmaq_n_f32(vfmaq_n_f32(x, n, -PACKED_LN2_HIGH), n, -PACKED_LN2_LOW);
	const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
	float32x4_t p = vdupq_n_f32(PACKED_EXP_P0);

	p = vfmaq_f32(vdupq_n_f32(PACKED_EXP_P1), p, r);
	p = vfmaq_f32(vdupq_n_f32(PACKED_EXP_P2), p, r);
	p = vfmaq_f32(vdupq_n_f32(PACKED_EXP_P3), p, r);
	p = vfmaq_f32(vdupq_n_f32(PACKED_EXP_P4), p, r);
	p = vfmaq_f32(vdupq_n_f32(PACKED_EXP_P5), p, r);
	p = vfmaq_f32(r, p, vmulq_f32(r, r));
	return vmulq_f32(vaddq_f32(p, vdupq_n_f32(1.0f)),
			 vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)));
}

/* Sixteen scores in place. */
VEC_INLINE void exponentials_store(float *scores_, float scale, float shift)
{
#pragma GCC unroll 4
	for (unsigned j = 0; j < LANE_VECTORS; j++)
		vst1q_f32(scores_ + VEC_LANES * j,
			  exponential(vfmaq_n_f32(vdupq_n_f32(-shift),
						  vld1q_f32(scores_ + VEC_LANES * j), scale)));
}

float softmax_exponentials_neon(float *scores_, uint32_t count, float scale, float shift)
{
	float rest[PACKED_LANES] = { 0 };
	float32x4_t lanes[LANE_VECTORS];
	uint32_t i = 0;

	for (unsigned j = 0; j < LANE_VECTORS; j++)
		lanes[j] = vdupq_n_f32(0);
	for (; i + PACKED_LANES <= count; i += PACKED_LANES) {
		exponentials_store(scores_ + i, scale, shift);
#pragma GCC unroll 4
		for (unsigned j = 0; j < LANE_VECTORS; j++)
			lanes[j] = vaddq_f32(lanes[j], vld1q_f32(scores_ + i + VEC_LANES * j));
	}
	if (i == count)
		return lanes_fold(lanes);

	/* The others: computed beside, so that nothing beyond them is touched. */
	memcpy(rest, scores_ + i, (count - i) * sizeof *rest);
	exponentials_store(rest, scale, shift);
	memcpy(scores_ + i, rest, (count - i) * sizeof *rest);
	memset(rest + (count - i), 0, (PACKED_LANES - (count - i)) * sizeof *rest);
	for (unsigned j = 0; j < LANE_VECTORS; j++)
		lanes[j] = vaddq_f32(lanes[j], vld1q_f32(rest + VEC_LANES * j));
	return lanes_fold(lanes);
}

void softmax_multiply_neon(float *values, uint32_t count, float factor)
{
	uint32_t i = 0;

	for (; i + VEC_LANES <= count; i += VEC_LANES)
		vst1q_f32(values + i, vmulq_n_f32(vld1q_f32(values + i), factor));
	for (; i < count; i++)
		values[i] *= factor;
}

/* --- The table's form ------------------------------------------------------------------------ */

PACKED_KERNELS(neon)
