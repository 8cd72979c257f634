/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX-512: scores of packed K tiles. Sixteen rows at a time become levels in a buffer that stays in
 * the first cache, and every query is multiplied with them there.
 */
#pragma once

#include "codec/levels-avx512.h"

#define SCORE_ROWS 16u

struct score_query {
	__m512i high[LEVEL_VECTORS];
	__m512i low[LEVEL_VECTORS];
	float unit;
	float bias;
};

struct score_block {
	struct level rows[SCORE_ROWS][LEVEL_VECTORS];
};

/* --- Queries --------------------------------------------------------------------------------- */

/* Four vectors of integers, which fit a byte, to bytes in the same order. */
VEC_INLINE __m512i bytes_of(const __m512i vectors[4])
{
	const __m512i order =
		_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
	const __m512i low = _mm512_packs_epi32(vectors[0], vectors[1]);
	const __m512i high = _mm512_packs_epi32(vectors[2], vectors[3]);

	return _mm512_permutexvar_epi32(order, _mm512_packs_epi16(low, high));
}

VEC_INLINE void query_round(uint32_t head_dim, const __m512 *factors, float inverse, unsigned v,
			    struct score_query *query)
{
	__m512i high[4], low[4];

#pragma GCC unroll 4
	for (unsigned j = 0; j < 4; j++) {
		high[j] = low[j] = _mm512_setzero_si512();
		if (v * VEC_CHUNK + j * VEC_LANES < head_dim) {
			const struct halves halves =
				halves_of(factors[4 * v + j], _mm512_set1_ps(inverse));

			high[j] = halves.high;
			low[j] = halves.low;
		}
	}
	query->high[v] = bytes_of(high);
	query->low[v] = bytes_of(low);
}

VEC_INLINE void query_fold(unsigned bits, uint32_t head_dim, const struct codec_layout *layout,
			   const uint8_t *tile, const float *values, struct score_query *query)
{
	__m512 factors[CODEC_HEAD_DIM_MAX / VEC_LANES];
	__m512 bias = _mm512_setzero_ps();
	__m512 largest = _mm512_setzero_ps();
	float peak;

#pragma GCC unroll 8
	for (uint32_t c = 0; c < head_dim; c += VEC_LANES) {
		const __mmask16 lanes = chunk_lanes(head_dim - c, 0);
		const __m512 value = vec_load(CODEC_DTYPE_F32, (const uint8_t *)(values + c), lanes);
		const __m512 scale = vec_load(CODEC_DTYPE_F16,
					      tile + layout->scales_offset + 2 * (size_t)c, lanes);
		const __m512 min = vec_load(CODEC_DTYPE_F16,
					    tile + layout->mins_offset + 2 * (size_t)c, lanes);

		factors[c / VEC_LANES] = _mm512_mul_ps(value, scale);
		largest = magnitudes_max(largest, factors[c / VEC_LANES]);
		bias = _mm512_fmadd_ps(value, min, bias);
	}
	peak = _mm512_reduce_max_ps(largest);
	query->unit = packed_unit(peak);
	query->bias = lanes_fold(bias);
	for (unsigned v = 0; v < level_vectors(head_dim); v++)
		query_round(head_dim, factors, packed_inverse(peak), v, query);
	for (unsigned v = 0; v < level_vectors(head_dim); v += 2) {
		if (!level_paired(bits, head_dim, v))
			continue;
		pair_order(&query->high[v]);
		pair_order(&query->low[v]);
	}
}

/* --- Rows ------------------------------------------------------------------------------------ */

/* Row @i of a block; beyond the last one, the last one again. */
VEC_INLINE const uint8_t *block_row(const uint8_t *rows, uint32_t row_bytes, uint32_t count,
				    uint32_t i)
{
	return rows + (size_t)(i < count ? i : count - 1) * row_bytes;
}

VEC_INLINE void level_put(unsigned bits, bool trellis, struct level level, struct level *ret)
{
	ret->level = level.level;
	if (trellis && bits == 8)
		ret->low = level.low;
}

/* Vector @v of one row, and the next one where both share their bytes. */
VEC_INLINE void row_unpack(unsigned bits, bool trellis, uint32_t head_dim, const uint8_t *row,
			   unsigned v, struct level_history *history, struct level *levels)
{
	if (!level_paired(bits, head_dim, v)) {
		level_put(bits, trellis,
			  level_of(bits, trellis, vector_load(bits, row, head_dim, v), history),
			  levels);
		return;
	}
	const __m512i bytes = pair_load(row, head_dim, v);

	level_put(bits, trellis, level_of(bits, trellis, pair_even(bytes), history), levels);
	level_put(bits, trellis, level_of(bits, trellis, pair_odd(bytes), history + 1), levels + 1);
}

VEC_INLINE void block_unpack(unsigned bits, bool trellis, uint32_t head_dim, const uint8_t *rows,
			     uint32_t count, struct level_history *history,
			     struct score_block *block)
{
	const uint32_t row_bytes = head_dim / 8 * bits;

#pragma GCC unroll 1
	for (unsigned i = 0; i < SCORE_ROWS; i++) {
		const uint8_t *row = block_row(rows, row_bytes, count, i);

		bytes_prefetch(row, row_bytes);
#pragma GCC unroll 4
		for (unsigned v = 0; v < level_vectors(head_dim);
		     v += level_paired(bits, head_dim, v) ? 2 : 1)
			row_unpack(bits, trellis, head_dim, row, v, &history[v],
				   &block->rows[i][v]);
	}
}

/* --- Products -------------------------------------------------------------------------------- */

/* Sixteen partial sums of one row: the high halves first, then shifted to make place. */
VEC_INLINE __m512 row_sums(unsigned bits, bool trellis, uint32_t head_dim,
			   const struct level *levels, const struct score_query *query)
{
	const unsigned vectors = level_vectors(head_dim);
	const bool nine = trellis && bits == 8;
	__m512i sum = _mm512_setzero_si512();

#pragma GCC unroll 4
	for (unsigned v = 0; v < vectors; v++)
		sum = _mm512_dpbusd_epi32(sum, levels[v].level, query->high[v]);
	if (nine) {
		sum = _mm512_add_epi32(sum, sum);
#pragma GCC unroll 4
		for (unsigned v = 0; v < vectors; v++)
			sum = _mm512_dpbusd_epi32(sum, levels[v].low, query->high[v]);
	}
	sum = _mm512_slli_epi32(sum, nine ? 6 : 7);
#pragma GCC unroll 4
	for (unsigned v = 0; v < vectors; v++)
		sum = _mm512_dpbusd_epi32(sum, levels[v].level, query->low[v]);
	if (nine) {
		sum = _mm512_add_epi32(sum, sum);
#pragma GCC unroll 4
		for (unsigned v = 0; v < vectors; v++)
			sum = _mm512_dpbusd_epi32(sum, levels[v].low, query->low[v]);
	}
	return _mm512_castsi512_ps(sum);
}

VEC_INLINE void scores_store(const __m512 rows[SCORE_ROWS], uint32_t count,
			     const struct score_query *query, float *scores)
{
	const __m512 sums = _mm512_cvtepi32_ps(_mm512_castps_si512(rows_fold(true, rows)));

	vec_store(CODEC_DTYPE_F32, (uint8_t *)scores, chunk_lanes(count, 0),
		  _mm512_fmadd_ps(sums, _mm512_set1_ps(query->unit), _mm512_set1_ps(query->bias)));
}

VEC_INLINE void block_multiply(unsigned bits, bool trellis, uint32_t head_dim, uint32_t count,
			       const struct score_block *block, const struct score_query *query,
			       float *scores)
{
	__m512 rows[SCORE_ROWS];

#pragma GCC unroll 16
	for (unsigned i = 0; i < SCORE_ROWS; i++)
		rows[i] = row_sums(bits, trellis, head_dim, block->rows[i], query);
	scores_store(rows, count, query, scores);
}

/*
 * Sixteen rows and a single query, without the buffer: stores of 512 bits are slow. @head_dim is a
 * constant.
 */
VEC_INLINE void block_score(unsigned bits, bool trellis, uint32_t head_dim, const uint8_t *block,
			    struct level_history *history, const struct score_query *query,
			    float *scores)
{
	const uint32_t row_bytes = head_dim / 8 * bits;
	__m512 fours[4];
	__m512i sums;

#pragma GCC unroll 1
	for (unsigned i = 0; i < SCORE_ROWS; i += 4) {
		__m512 rows[4];

#pragma GCC unroll 4
		for (unsigned k = 0; k < 4; k++) {
			const uint8_t *row = block + (size_t)(i + k) * row_bytes;
			struct level levels[LEVEL_VECTORS];

			bytes_prefetch(row, row_bytes);
#pragma GCC unroll 4
			for (unsigned v = 0; v < level_vectors(head_dim);
			     v += level_paired(bits, head_dim, v) ? 2 : 1)
				row_unpack(bits, trellis, head_dim, row, v, &history[v],
					   &levels[v]);
			rows[k] = row_sums(bits, trellis, head_dim, levels, query);
		}
		fours[i / 4] = rows_fold4(rows);
	}
	sums = _mm512_castps_si512(rows_fold16(fours));
	_mm512_storeu_ps(scores,
			 _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(query->unit),
					 _mm512_set1_ps(query->bias)));
}

/* --- Tiles ----------------------------------------------------------------------------------- */

VEC_INLINE void scores_of(unsigned bits, bool trellis, uint32_t head_dim,
			  const struct codec_layout *layout, const uint8_t *tile,
			  const struct codec_rows *queries, uint32_t n,
			  const struct codec_results *results)
{
	const uint32_t row_bytes = head_dim / 8 * bits;
	/* One more, for the sake of a compiler that does not see that a pair ends there. */
	struct level_history history[LEVEL_VECTORS + 1];
	struct score_query folded[CODEC_QUERIES_MAX];
	struct score_block block;

	histories_clear(history);
	for (uint32_t i = 0; i < n; i++)
		query_fold(bits, head_dim, layout, tile,
			   queries->values + (ptrdiff_t)i * queries->stride, &folded[i]);
	for (uint32_t t = 0; t < layout->tokens; t += SCORE_ROWS) {
		const uint8_t *rows = tile + (size_t)t * row_bytes;
		const uint32_t count = layout->tokens - t;

		if (__builtin_constant_p(head_dim) && n == 1 && count >= SCORE_ROWS) {
			block_score(bits, trellis, head_dim, rows, history, folded,
				    results->values + t);
			continue;
		}
		if (count >= SCORE_ROWS)
			block_unpack(bits, trellis, head_dim, rows, SCORE_ROWS, history, &block);
		else
			block_unpack(bits, trellis, head_dim, rows, count, history, &block);
		for (uint32_t i = 0; i < n; i++)
			block_multiply(bits, trellis, head_dim, count, &block, &folded[i],
				       results->values + (ptrdiff_t)i * results->stride + t);
	}
	rest_prefetch(layout, tile);
}

/* The usual head_dims have kernels without masks. */
VEC_INLINE void scores(unsigned bits, bool trellis, const struct codec_layout *layout,
		       const uint8_t *tile, const struct codec_rows *queries, uint32_t n,
		       const struct codec_results *results)
{
	if (layout->head_dim == 128)
		scores_of(bits, trellis, 128, layout, tile, queries, n, results);
	else if (layout->head_dim == 64)
		scores_of(bits, trellis, 64, layout, tile, queries, n, results);
	else
		scores_of(bits, trellis, layout->head_dim, layout, tile, queries, n, results);
}
