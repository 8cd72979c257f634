/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention on tiles with AVX-512 VBMI and VNNI. Packed tiles are in scores-avx512.h and
 * sums-avx512.h; raw tiles and the softmax are here.
 */
#include "codec/packed.h"

#include "codec/scores-avx512.h"
#include "codec/sums-avx512.h"

VEC_INLINE void accumulate(unsigned bits, bool trellis, const struct codec_layout *layout,
			   const uint8_t *tile, const struct codec_rows *weights, uint32_t n,
			   const struct codec_results *out)
{
	if (trellis && layout->scale_channels == 16)
		accumulate_by(bits, trellis, 16, layout, tile, weights, n, out);
	else if (trellis && layout->scale_channels == 32)
		accumulate_by(bits, trellis, 32, layout, tile, weights, n, out);
	else
		accumulate_by(bits, trellis, 0, layout, tile, weights, n, out);
}

/* --- Raw tiles ------------------------------------------------------------------------------- */

VEC_INLINE void raw_rows_multiply(enum codec_dtype dtype, uint32_t head_dim, const uint8_t *rows,
				  uint32_t count, const float *query, float *scores)
{
	const uint32_t row_bytes = head_dim * value_bytes(dtype);
	__m512 sums[SCORE_ROWS];

#pragma GCC unroll 1
	for (unsigned i = 0; i < SCORE_ROWS; i++) {
		const uint8_t *row = block_row(rows, row_bytes, count, i);
		__m512 sum = _mm512_setzero_ps();

		bytes_prefetch(row, row_bytes);
#pragma GCC unroll 8
		for (uint32_t c = 0; c < head_dim; c += VEC_LANES) {
			const __mmask16 lanes = chunk_lanes(head_dim - c, 0);

			sum = _mm512_fmadd_ps(
				vec_load(CODEC_DTYPE_F32, (const uint8_t *)(query + c), lanes),
				vec_load(dtype, row + (size_t)c * value_bytes(dtype), lanes), sum);
		}
		sums[i] = sum;
	}
	_mm512_mask_storeu_ps(scores, chunk_lanes(count, 0), rows_fold(false, sums));
}

/*
 * Four rows, of which @count are there, and four queries, of which @n are: rows are turned into f32
 * once, and queries loaded once, for four products each.
 */
VEC_INLINE void raw_quads_multiply(enum codec_dtype dtype, uint32_t head_dim, const uint8_t *rows,
				   uint32_t count, const struct codec_rows *queries, uint32_t n, float *scores,
				   ptrdiff_t stride)
{
	const uint32_t row_bytes = head_dim * value_bytes(dtype);
	const uint8_t *row[4];
	const float *query[4];
	__m512 sums[16], folded;
	float results[16] __attribute__((aligned(64)));

#pragma GCC unroll 4
	for (unsigned k = 0; k < 4; k++) {
		row[k] = block_row(rows, row_bytes, count, k);
		query[k] = queries->values + (ptrdiff_t)(k < n ? k : n - 1) * queries->stride;
	}
#pragma GCC unroll 16
	for (unsigned i = 0; i < 16; i++)
		sums[i] = _mm512_setzero_ps();
#pragma GCC unroll 1
	for (uint32_t c = 0; c < head_dim; c += VEC_LANES) {
		const __mmask16 lanes = chunk_lanes(head_dim - c, 0);
		__m512 values[4];

#pragma GCC unroll 4
		for (unsigned k = 0; k < 4; k++)
			values[k] = vec_load(dtype, row[k] + (size_t)c * value_bytes(dtype), lanes);
#pragma GCC unroll 4
		for (unsigned q = 0; q < 4; q++) {
			const __m512 factors =
				vec_load(CODEC_DTYPE_F32, (const uint8_t *)(query[q] + c), lanes);

#pragma GCC unroll 4
			for (unsigned k = 0; k < 4; k++)
				sums[4 * q + k] = _mm512_fmadd_ps(factors, values[k], sums[4 * q + k]);
		}
	}
	folded = rows_fold(false, sums);
	_mm512_store_ps(results, folded);
	for (uint32_t q = 0; q < n; q++)
		_mm_mask_storeu_ps(scores + (ptrdiff_t)q * stride,
				   (__mmask8)chunk_lanes(count < 4 ? count : 4, 0),
				   _mm_load_ps(results + 4 * (size_t)q));
}

/* Up to sixteen rows. Three queries are faster as four, two and one each alone. */
VEC_INLINE void raw_block_scores(enum codec_dtype dtype, uint32_t head_dim, const uint8_t *rows, uint32_t count,
				 const struct codec_rows *queries, uint32_t n, float *scores, ptrdiff_t stride)
{
	const uint32_t row_bytes = head_dim * value_bytes(dtype);
	uint32_t i = 0;

	for (; i + 3 <= n; i += 4) {
		const struct codec_rows four = { queries->values + (ptrdiff_t)i * queries->stride,
						 queries->stride };

		for (uint32_t k = 0; k < count; k += 4) {
			if (i == 0)
				bytes_prefetch(rows + (size_t)k * row_bytes, 4 * row_bytes);
			raw_quads_multiply(dtype, head_dim, rows + (size_t)k * row_bytes, count - k, &four,
					   n - i < 4 ? n - i : 4, scores + (ptrdiff_t)i * stride + k, stride);
		}
	}
	for (; i < n; i++)
		raw_rows_multiply(dtype, head_dim, rows, count,
				  queries->values + (ptrdiff_t)i * queries->stride,
				  scores + (ptrdiff_t)i * stride);
}

VEC_INLINE void raw_scores_of(enum codec_dtype dtype, uint32_t head_dim,
			      const struct codec_layout *layout, const uint8_t *tile,
			      const struct codec_rows *queries, uint32_t n,
			      const struct codec_results *results)
{
	for (uint32_t t = 0; t < layout->tokens; t += SCORE_ROWS) {
		const uint8_t *rows = tile_row_const(layout, tile, t);
		const uint32_t left = layout->tokens - t;
		float *scores_at = results->values + t;

		raw_block_scores(dtype, head_dim, rows, left < SCORE_ROWS ? left : SCORE_ROWS, queries, n,
				 scores_at, results->stride);
	}
}

VEC_INLINE void raw_scores(enum codec_dtype dtype, const struct codec_layout *layout,
			   const uint8_t *tile, const struct codec_rows *queries, uint32_t n,
			   const struct codec_results *results)
{
	if (layout->head_dim == 128)
		raw_scores_of(dtype, 128, layout, tile, queries, n, results);
	else
		raw_scores_of(dtype, layout->head_dim, layout, tile, queries, n, results);
}

/* @count tokens into @vectors vectors of channels, of @pair queries at once. */
VEC_INLINE void raw_panel_add(enum codec_dtype dtype, unsigned vectors, unsigned pair,
			      const struct codec_layout *layout, const uint8_t *rows,
			      uint32_t count, uint32_t channel, const float *weights,
			      ptrdiff_t stride, float *out, ptrdiff_t out_stride)
{
	const uint32_t left = layout->head_dim - channel;
	__m512 sums[2][8];

#pragma GCC unroll 2
	for (unsigned q = 0; q < pair; q++)
#pragma GCC unroll 8
		for (unsigned j = 0; j < vectors; j++)
			sums[q][j] = vec_load(CODEC_DTYPE_F32,
					      (const uint8_t *)(out + (ptrdiff_t)q * out_stride +
								channel + VEC_LANES * j),
					      vectors == 1 ? chunk_lanes(left, 0) : 0xffff);
	for (uint32_t t = 0; t < count; t++) {
		const uint8_t *row = tile_row_const(layout, rows, t) + (size_t)channel * value_bytes(dtype);

#pragma GCC unroll 8
		for (unsigned j = 0; j < vectors; j++) {
			const __m512 value =
				vec_load(dtype, row + (size_t)VEC_LANES * j * value_bytes(dtype),
					 vectors == 1 ? chunk_lanes(left, 0) : 0xffff);

#pragma GCC unroll 2
			for (unsigned q = 0; q < pair; q++)
				sums[q][j] = _mm512_fmadd_ps(
					_mm512_set1_ps(weights[(ptrdiff_t)q * stride + t]), value,
					sums[q][j]);
		}
	}
#pragma GCC unroll 2
	for (unsigned q = 0; q < pair; q++)
#pragma GCC unroll 8
		for (unsigned j = 0; j < vectors; j++)
			vec_store(CODEC_DTYPE_F32,
				  (uint8_t *)(out + (ptrdiff_t)q * out_stride + channel +
					      VEC_LANES * j),
				  vectors == 1 ? chunk_lanes(left, 0) : 0xffff, sums[q][j]);
}

/* Eight vectors at a time, then one. */
VEC_INLINE void raw_rows_add(enum codec_dtype dtype, unsigned pair,
			     const struct codec_layout *layout, const uint8_t *rows,
			     uint32_t count, const float *weights, ptrdiff_t stride, float *out,
			     ptrdiff_t out_stride)
{
	uint32_t c = 0;

	for (; c + 8 * VEC_LANES <= layout->head_dim; c += 8 * VEC_LANES)
		raw_panel_add(dtype, 8, pair, layout, rows, count, c, weights, stride, out,
			      out_stride);
	for (; c + 2 * VEC_LANES <= layout->head_dim; c += 2 * VEC_LANES)
		raw_panel_add(dtype, 2, pair, layout, rows, count, c, weights, stride, out,
			      out_stride);
	for (; c < layout->head_dim; c += VEC_LANES)
		raw_panel_add(dtype, 1, pair, layout, rows, count, c, weights, stride, out,
			      out_stride);
}

VEC_INLINE void raw_accumulate(enum codec_dtype dtype, const struct codec_layout *layout,
			       const uint8_t *tile, const struct codec_rows *weights, uint32_t n,
			       const struct codec_results *out)
{
	for (uint32_t t = 0; t < layout->tokens; t += PACKED_BATCH) {
		const uint8_t *rows = tile_row_const(layout, tile, t);
		const uint32_t left = layout->tokens - t;
		const uint32_t count = left < PACKED_BATCH ? left : PACKED_BATCH;
		uint32_t i = 0;

		for (; i + 2 <= n; i += 2)
			raw_rows_add(dtype, 2, layout, rows, count,
				     weights->values + (ptrdiff_t)i * weights->stride + t,
				     weights->stride, out->values + (ptrdiff_t)i * out->stride,
				     out->stride);
		if (i < n)
			raw_rows_add(dtype, 1, layout, rows, count,
				     weights->values + (ptrdiff_t)i * weights->stride + t, 0,
				     out->values + (ptrdiff_t)i * out->stride, 0);
	}
}

/* --- The softmax ----------------------------------------------------------------------------- */

VEC_INLINE __m512 floats_load(const float *values, uint32_t count)
{
	return _mm512_maskz_loadu_ps(chunk_lanes(count, 0), values);
}

float softmax_largest_avx512(const float *scores_, uint32_t count)
{
	__m512 largest = _mm512_set1_ps(scores_[0]);

	for (uint32_t i = 0; i < count; i += VEC_LANES)
		largest = _mm512_max_ps(_mm512_mask_loadu_ps(largest, chunk_lanes(count - i, 0),
							     scores_ + i),
					largest);
	return _mm512_reduce_max_ps(largest);
}

VEC_INLINE __m512 exponential(__m512 x)
{
	__m512 n, r, p;

	x = _mm512_max_ps(x, _mm512_set1_ps(PACKED_EXP_MIN));
	x = _mm512_min_ps(x, _mm512_set1_ps(88.0f));
	n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(PACKED_LOG2_E)), 0);
	r = _mm512_fnmadd_ps(n, _mm512_set1_ps(PACKED_LN2_HIGH), x);
	r = _mm512_fnmadd_ps(n, _mm512_set1_ps(PACKED_LN2_LOW), r);
	p = _mm512_set1_ps(PACKED_EXP_P0);
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(PACKED_EXP_P1));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(PACKED_EXP_P2));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(PACKED_EXP_P3));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(PACKED_EXP_P4));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(PACKED_EXP_P5));
	p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r);
	return _mm512_mul_ps(
		_mm512_add_ps(p, _mm512_set1_ps(1.0f)),
		_mm512_castsi512_ps(_mm512_slli_epi32(
			_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23)));
}

float softmax_exponentials_avx512(float *scores_, uint32_t count, float scale, float shift)
{
	__m512 sum = _mm512_setzero_ps();

	for (uint32_t i = 0; i < count; i += VEC_LANES) {
		const __mmask16 lanes = chunk_lanes(count - i, 0);
		const __m512 values =
			exponential(_mm512_fmsub_ps(floats_load(scores_ + i, count - i),
						    _mm512_set1_ps(scale), _mm512_set1_ps(shift)));

		sum = _mm512_mask_add_ps(sum, lanes, sum, values);
		_mm512_mask_storeu_ps(scores_ + i, lanes, values);
	}
	return lanes_fold(sum);
}

void softmax_multiply_avx512(float *values, uint32_t count, float factor)
{
	for (uint32_t i = 0; i < count; i += VEC_LANES)
		_mm512_mask_storeu_ps(values + i, chunk_lanes(count - i, 0),
				      _mm512_mul_ps(floats_load(values + i, count - i),
						    _mm512_set1_ps(factor)));
}

/* --- The table's form ------------------------------------------------------------------------ */

PACKED_KERNELS(avx512)
