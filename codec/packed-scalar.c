/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention on tiles in portable C: the definition that the vector kernels are tested against, bit
 * by bit. fmaf() is exact by definition, if slow where the processor has no such instruction.
 */
#include "codec/packed.h"

#include "codec/rows-scalar.h"
#include "codec/scalar.h"

struct lanes {
	float sum[PACKED_LANES];
};

static void lanes_add(struct lanes *lanes, uint32_t index, float a, float b)
{
	float *sum = &lanes->sum[index % PACKED_LANES];

	*sum = fmaf(a, b, *sum);
}

static float lanes_fold(struct lanes *lanes)
{
	for (unsigned width = PACKED_LANES / 2; width > 0; width /= 2)
		for (unsigned i = 0; i < width; i++)
			lanes->sum[i] += lanes->sum[i + width];
	return lanes->sum[0];
}

/* --- Integers for factors -------------------------------------------------------------------- */

static float peak_of(const float *values, uint32_t count)
{
	float peak = 0;

	for (uint32_t i = 0; i < count; i++)
		peak = fabsf(values[i]) > peak ? fabsf(values[i]) : peak;
	return peak;
}

static int32_t rounded(float value, float inverse)
{
	const float steps = value * inverse;
	/* Also what keeps NaN out of the conversion. */
	const float bounded = steps > -PACKED_STEPS ? steps < PACKED_STEPS ? steps : PACKED_STEPS
						    : -PACKED_STEPS;

	return (int32_t)rintf(bounded);
}

/* --- Scores ---------------------------------------------------------------------------------- */

struct query {
	int32_t rounded[CODEC_HEAD_DIM_MAX];
	float unit;
	float bias;
};

static void query_fold(const struct codec_layout *layout, const uint8_t *tile, const float *values,
		       struct query *query)
{
	float factors[CODEC_HEAD_DIM_MAX];
	struct lanes bias = { 0 };
	float peak;

	for (uint32_t c = 0; c < layout->head_dim; c++) {
		float scale, min;

		group_read(layout, tile, c, &scale, &min);
		factors[c] = values[c] * scale;
		lanes_add(&bias, c, values[c], min);
	}
	peak = peak_of(factors, layout->head_dim);
	for (uint32_t c = 0; c < layout->head_dim; c++)
		query->rounded[c] = rounded(factors[c], packed_inverse(peak));
	query->unit = packed_unit(peak);
	query->bias = lanes_fold(&bias);
}

static inline void scores(unsigned bits, bool trellis, const struct codec_layout *layout,
			  const uint8_t *tile, const struct codec_rows *queries, uint32_t n,
			  const struct codec_results *results)
{
	for (uint32_t i = 0; i < n; i++) {
		uint8_t history[CODEC_HEAD_DIM_MAX] = { 0 };
		uint16_t levels[CODEC_HEAD_DIM_MAX];
		struct query query;

		query_fold(layout, tile, queries->values + (ptrdiff_t)i * queries->stride, &query);
		for (uint32_t t = 0; t < layout->tokens; t++) {
			int32_t sum = 0;

			row_levels(bits, trellis, tile_row_const(layout, tile, t), layout->head_dim,
				   history, levels);
			for (uint32_t c = 0; c < layout->head_dim; c++)
				sum += query.rounded[c] * levels[c];
			results->values[(ptrdiff_t)i * results->stride + t] =
				fmaf((float)sum, query.unit, query.bias);
		}
	}
}

static inline void raw_scores(enum codec_dtype dtype, const struct codec_layout *layout,
			      const uint8_t *tile, const struct codec_rows *queries, uint32_t n,
			      const struct codec_results *results)
{
	float row[CODEC_HEAD_DIM_MAX];

	for (uint32_t t = 0; t < layout->tokens; t++) {
		values_load(dtype, tile_row_const(layout, tile, t), layout->head_dim, row);
		for (uint32_t i = 0; i < n; i++) {
			const float *query = queries->values + (ptrdiff_t)i * queries->stride;
			struct lanes sum = { 0 };

			for (uint32_t c = 0; c < layout->head_dim; c++)
				lanes_add(&sum, c, query[c], row[c]);
			results->values[(ptrdiff_t)i * results->stride + t] = lanes_fold(&sum);
		}
	}
}

/* --- Weighted sums --------------------------------------------------------------------------- */

/* One batch of tokens into the channels from @begin to @end, which share scales. */
static inline void batch_add(unsigned bits, const struct codec_layout *layout, const uint8_t *tile,
			     uint32_t first, uint32_t count, uint32_t begin, uint32_t end,
			     const float *weights, uint16_t levels[][CODEC_HEAD_DIM_MAX],
			     float *out)
{
	float factors[PACKED_BATCH];
	float peak;

	for (uint32_t t = 0; t < count; t++) {
		float scale, min;

		value_group_read(bits, layout, tile, first + t, begin, &scale, &min);
		factors[t] = weights[first + t] * scale;
	}
	peak = peak_of(factors, count);
	for (uint32_t c = begin; c < end; c++) {
		int32_t sum = 0;

		for (uint32_t t = 0; t < count; t++)
			sum += rounded(factors[t], packed_inverse(peak)) * levels[t][c];
		out[c] = fmaf((float)sum, packed_unit(peak), out[c]);
	}
}

static void mins_add(unsigned bits, const struct codec_layout *layout, const uint8_t *tile,
		     uint32_t begin, uint32_t end, const float *weights, float *out)
{
	struct lanes sum = { 0 };
	float folded;

	for (uint32_t t = 0; t < layout->tokens; t++) {
		float scale, min;

		value_group_read(bits, layout, tile, t, begin, &scale, &min);
		lanes_add(&sum, t, weights[t], min);
	}
	folded = lanes_fold(&sum);
	for (uint32_t c = begin; c < end; c++)
		out[c] += folded;
}

static inline void accumulate_one(unsigned bits, bool trellis, const struct codec_layout *layout,
				  const uint8_t *tile, const float *weights, float *out)
{
	const uint32_t channels =
		layout->scale_channels ? layout->scale_channels : layout->head_dim;
	uint8_t history[CODEC_HEAD_DIM_MAX] = { 0 };
	uint16_t levels[PACKED_BATCH][CODEC_HEAD_DIM_MAX];

	for (uint32_t first = 0; first < layout->tokens; first += PACKED_BATCH) {
		const uint32_t left = layout->tokens - first;
		const uint32_t count = left < PACKED_BATCH ? left : PACKED_BATCH;

		for (uint32_t t = 0; t < count; t++)
			row_levels(bits, trellis, tile_row_const(layout, tile, first + t),
				   layout->head_dim, history, levels[t]);
		for (uint32_t c = 0; c < layout->head_dim; c += channels) {
			const uint32_t end =
				c + channels < layout->head_dim ? c + channels : layout->head_dim;

			batch_add(bits, layout, tile, first, count, c, end, weights, levels, out);
		}
	}
	for (uint32_t c = 0; c < layout->head_dim; c += channels)
		mins_add(bits, layout, tile, c,
			 c + channels < layout->head_dim ? c + channels : layout->head_dim, weights,
			 out);
}

static inline void accumulate(unsigned bits, bool trellis, const struct codec_layout *layout,
			      const uint8_t *tile, const struct codec_rows *weights, uint32_t n,
			      const struct codec_results *out)
{
	for (uint32_t i = 0; i < n; i++)
		accumulate_one(bits, trellis, layout, tile,
			       weights->values + (ptrdiff_t)i * weights->stride,
			       out->values + (ptrdiff_t)i * out->stride);
}

static inline void raw_accumulate(enum codec_dtype dtype, const struct codec_layout *layout,
				  const uint8_t *tile, const struct codec_rows *weights, uint32_t n,
				  const struct codec_results *out)
{
	float row[CODEC_HEAD_DIM_MAX];

	for (uint32_t t = 0; t < layout->tokens; t++) {
		values_load(dtype, tile_row_const(layout, tile, t), layout->head_dim, row);
		for (uint32_t i = 0; i < n; i++) {
			const float weight = weights->values[(ptrdiff_t)i * weights->stride + t];
			float *sums = out->values + (ptrdiff_t)i * out->stride;

			for (uint32_t c = 0; c < layout->head_dim; c++)
				sums[c] = fmaf(weight, row[c], sums[c]);
		}
	}
}

/* --- The softmax ----------------------------------------------------------------------------- */

float softmax_largest_scalar(const float *scores_, uint32_t count)
{
	float largest = scores_[0];

	for (uint32_t i = 1; i < count; i++)
		largest = scores_[i] > largest ? scores_[i] : largest;
	return largest;
}

static float exponential(float x)
{
	x = x > PACKED_EXP_MIN ? x : PACKED_EXP_MIN;
	x = x < 88.0f ? x : 88.0f;

	const float n = rintf(x * PACKED_LOG2_E);
	const float r = fmaf(n, -PACKED_LN2_LOW, fmaf(n, -PACKED_LN2_HIGH, x));
	float p = PACKED_EXP_P0;

	p = fmaf(p, r, PACKED_EXP_P1);
	p = fmaf(p, r, PACKED_EXP_P2);
	p = fmaf(p, r, PACKED_EXP_P3);
	p = fmaf(p, r, PACKED_EXP_P4);
	p = fmaf(p, r, PACKED_EXP_P5);
	p = fmaf(p, r * r, r);
	return (p + 1.0f) * half_f32_of_bits((uint32_t)((int32_t)n + 127) << 23);
}

float softmax_exponentials_scalar(float *scores_, uint32_t count, float scale, float shift)
{
	struct lanes sum = { 0 };

	for (uint32_t i = 0; i < count; i++) {
		scores_[i] = exponential(fmaf(scores_[i], scale, -shift));
		sum.sum[i % PACKED_LANES] += scores_[i];
	}
	return lanes_fold(&sum);
}

void softmax_multiply_scalar(float *values, uint32_t count, float factor)
{
	for (uint32_t i = 0; i < count; i++)
		values[i] *= factor;
}

/* --- The table's form ------------------------------------------------------------------------ */

PACKED_KERNELS(scalar)
