/* SPDX-License-Identifier: Apache-2.0 */
/* AVX2: scores and weighted sums of raw tiles, and sums in sixteen lanes, of which they are made. */
#pragma once

#include "codec/packed.h"
#include "codec/prefetch.h"
#include "codec/vec-avx2.h"

/* --- Sums in sixteen lanes ------------------------------------------------------------------- */

struct lanes {
	__m256 low;
	__m256 high;
};

/* Lanes i and i + 8, then i + 4, + 2 and + 1. */
VEC_INLINE float lanes_fold(struct lanes lanes)
{
	const __m256 eight = _mm256_add_ps(lanes.low, lanes.high);
	const __m128 four =
		_mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
	const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

	return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

VEC_INLINE struct lanes lanes_zero(void)
{
	return (struct lanes){ _mm256_setzero_ps(), _mm256_setzero_ps() };
}

/* Adds a * b to the half of the lanes that index @i, a multiple of eight, belongs to. */
VEC_INLINE void lanes_add(struct lanes *lanes, uint32_t i, __m256 a, __m256 b)
{
	if (i % PACKED_LANES == 0)
		lanes->low = _mm256_fmadd_ps(a, b, lanes->low);
	else
		lanes->high = _mm256_fmadd_ps(a, b, lanes->high);
}

/* Row @i of a block; beyond the last one, the last one again. */
VEC_INLINE const uint8_t *block_row(const uint8_t *rows, uint32_t row_bytes, uint32_t count,
				    uint32_t i)
{
	return rows + (size_t)(i < count ? i : count - 1) * row_bytes;
}

/* --- Raw tiles ------------------------------------------------------------------------------- */

VEC_INLINE void raw_rows_multiply(enum codec_dtype dtype, uint32_t head_dim, const uint8_t *rows,
				  uint32_t count, const float *query, float *scores)
{
	struct lanes sums[4];

#pragma GCC unroll 4
	for (unsigned i = 0; i < 4; i++)
		sums[i] = lanes_zero();
	for (uint32_t c = 0; c < head_dim; c += PACKED_LANES) {
		const size_t offset = (size_t)c * value_bytes(dtype);

#pragma GCC unroll 4
		for (unsigned i = 0; i < 4; i++) {
			const uint8_t *row = block_row(rows, head_dim * value_bytes(dtype), count, i);

			lanes_add(&sums[i], 0, _mm256_loadu_ps(query + c),
				  vec_load(dtype, row + offset));
			if (head_dim - c >= PACKED_LANES)
				lanes_add(&sums[i], VEC_LANES, _mm256_loadu_ps(query + c + VEC_LANES),
					  vec_load(dtype, row + offset +
								  VEC_LANES * value_bytes(dtype)));
		}
	}
	for (unsigned i = 0; i < 4 && i < count; i++)
		scores[i] = lanes_fold(sums[i]);
}

VEC_INLINE void raw_scores(enum codec_dtype dtype, const struct codec_layout *layout,
			   const uint8_t *tile, const struct codec_rows *queries, uint32_t n,
			   const struct codec_results *results)
{
	for (uint32_t t = 0; t < layout->tokens; t += 4) {
		const uint8_t *rows = tile_row_const(layout, tile, t);

		bytes_prefetch(rows, 4 * layout->row_bytes);
		for (uint32_t i = 0; i < n; i++)
			raw_rows_multiply(dtype, layout->head_dim, rows, layout->tokens - t,
					  queries->values + (ptrdiff_t)i * queries->stride,
					  results->values + (ptrdiff_t)i * results->stride + t);
	}
}

/* Tokens whose panels are added one after the other, so that rows come from memory in order. */
#define RAW_TOKENS 8u

/* @vectors vectors of channels from @channel on. */
VEC_INLINE void raw_panel_add(enum codec_dtype dtype, unsigned vectors,
			      const struct codec_layout *layout, const uint8_t *rows,
			      uint32_t count, uint32_t channel, const float *weights, float *out)
{
	__m256 sums[8];

#pragma GCC unroll 8
	for (unsigned j = 0; j < vectors; j++)
		sums[j] = _mm256_loadu_ps(out + channel + VEC_LANES * j);
	for (uint32_t t = 0; t < count; t++) {
		const uint8_t *row =
			tile_row_const(layout, rows, t) + (size_t)channel * value_bytes(dtype);

#pragma GCC unroll 8
		for (unsigned j = 0; j < vectors; j++)
			sums[j] = _mm256_fmadd_ps(
				_mm256_set1_ps(weights[t]),
				vec_load(dtype, row + (size_t)VEC_LANES * j * value_bytes(dtype)),
				sums[j]);
	}
#pragma GCC unroll 8
	for (unsigned j = 0; j < vectors; j++)
		_mm256_storeu_ps(out + channel + VEC_LANES * j, sums[j]);
}

VEC_INLINE void raw_accumulate(enum codec_dtype dtype, const struct codec_layout *layout,
			       const uint8_t *tile, const struct codec_rows *weights, uint32_t n,
			       const struct codec_results *out)
{
	for (uint32_t t = 0; t < layout->tokens; t += RAW_TOKENS) {
		const uint8_t *rows = tile_row_const(layout, tile, t);
		const uint32_t left = layout->tokens - t;
		const uint32_t count = left < RAW_TOKENS ? left : RAW_TOKENS;

		bytes_prefetch(rows, RAW_TOKENS * layout->row_bytes);
		for (uint32_t i = 0; i < n; i++) {
			const float *w = weights->values + (ptrdiff_t)i * weights->stride + t;
			float *sums = out->values + (ptrdiff_t)i * out->stride;
			uint32_t c = 0;

			for (; c + 8 * VEC_LANES <= layout->head_dim; c += 8 * VEC_LANES)
				raw_panel_add(dtype, 8, layout, rows, count, c, w, sums);
			for (; c < layout->head_dim; c += VEC_LANES)
				raw_panel_add(dtype, 1, layout, rows, count, c, w, sums);
		}
	}
}
