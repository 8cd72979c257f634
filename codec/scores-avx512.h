/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX-512: scores of packed K tiles. Sixteen rows at a time are unpacked into registers and
 * multiplied with one or two queries there. Further queries find the rows in the first cache, or
 * their levels, where unpacking again would take longer than to store and load these.
 */
#pragma once

#include <string.h>

#include "codec/levels-avx512.h"

#define SCORE_ROWS 16u

struct score_query {
	__m512i high[LEVEL_VECTORS];
	__m512i low[LEVEL_VECTORS];
	float unit;
	float bias;
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

VEC_INLINE void query_round(const __m512 factors[4], float inverse, __m512i *ret_high,
			    __m512i *ret_low)
{
	__m512i high[4], low[4];

#pragma GCC unroll 4
	for (unsigned j = 0; j < 4; j++) {
		const struct halves halves = halves_of(factors[j], _mm512_set1_ps(inverse));

		high[j] = halves.high;
		low[j] = halves.low;
	}
	*ret_high = bytes_of(high);
	*ret_low = bytes_of(low);
}

VEC_INLINE void query_fold(unsigned bits, struct level_shape shape, const struct codec_layout *layout,
			   const uint8_t *tile, const float *values, struct score_query *query)
{
	__m512 factors[CODEC_HEAD_DIM_MAX / VEC_LANES];
	__m512 bias = _mm512_setzero_ps();
	__m512 largest = _mm512_setzero_ps();
	float peak;

#pragma GCC unroll 16
	for (uint32_t c = 0; c < shape.vectors * VEC_CHUNK; c += VEC_LANES) {
		const __mmask16 lanes =
			c < shape.head_dim ? chunk_lanes(shape.head_dim - c, 0) : 0;
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
#pragma GCC unroll 4
	for (unsigned v = 0; v < shape.vectors; v++)
		query_round(&factors[4 * v], packed_inverse(peak), &query->high[v], &query->low[v]);
#pragma GCC unroll 2
	for (unsigned v = 0; v < shape.vectors; v += 2) {
		if (!level_paired(bits, shape, v))
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

/* Vector @v of one row, and the next one where both share their bytes. */
VEC_INLINE void row_unpack(unsigned bits, bool trellis, struct level_shape shape, const uint8_t *row,
			   unsigned v, struct level_history *history, struct level *levels)
{
	if (!level_paired(bits, shape, v)) {
		levels[0] = level_of(bits, trellis, vector_load(bits, row, shape, v), history);
		return;
	}
	const __m512i bytes = pair_load(row, shape, v);

	levels[0] = level_of(bits, trellis, pair_even(bytes), history);
	levels[1] = level_of(bits, trellis, pair_odd(bytes), history + 1);
}

/* --- Products -------------------------------------------------------------------------------- */

/* Sixteen partial sums of one row: the high halves first, then shifted to make place. */
VEC_INLINE __m512 row_sums(unsigned bits, bool trellis, struct level_shape shape,
			   const struct level *levels, const struct score_query *query)
{
	const unsigned vectors = shape.vectors;
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

/* Where the products of one query go. */
struct score_target {
	const struct score_query *query;
	float *scores;
};

VEC_INLINE void scores_store(const __m512 fours[4], uint32_t count,
			     const struct score_target *target)
{
	const __m512 sums = _mm512_cvtepi32_ps(_mm512_castps_si512(rows_fold16(fours)));

	_mm512_mask_storeu_ps(target->scores, chunk_lanes(count, 0),
			      _mm512_fmadd_ps(sums, _mm512_set1_ps(target->query->unit),
					      _mm512_set1_ps(target->query->bias)));
}

/* Where the levels of sixteen rows come from. */
enum levels_from {
	ROWS,	       /* they are unpacked, */
	ROWS_IN_ORDER, /* and what lies ahead in memory is asked for row by row, */
	ROWS_TO_KEEP,  /* or they are kept for other queries, */
	KEPT,	       /* which find them there */
};

struct kept_levels {
	struct level rows[SCORE_ROWS][LEVEL_VECTORS];
};

VEC_INLINE void row_levels(unsigned bits, bool trellis, struct level_shape shape,
			   enum levels_from from, const uint8_t *row,
			   struct level_history *history, struct level *kept, struct level *levels)
{
#pragma GCC unroll 4
	for (unsigned v = from == KEPT ? shape.vectors : 0; v < shape.vectors;
	     v += level_paired(bits, shape, v) ? 2 : 1)
		row_unpack(bits, trellis, shape, row, v, &history[v], &levels[v]);
#pragma GCC unroll 4
	for (unsigned v = 0; v < shape.vectors; v++) {
		if (from == KEPT)
			levels[v] = kept[v];
		if (from == ROWS_TO_KEEP)
			kept[v].level = levels[v].level;
		if (from == ROWS_TO_KEEP && trellis && bits == 8)
			kept[v].low = levels[v].low;
	}
}

/* Sixteen rows, of which @count are there, and one or two queries. */
VEC_INLINE void block_score(unsigned bits, bool trellis, struct level_shape shape, unsigned queries,
			    enum levels_from from, const uint8_t *block, uint32_t count,
			    struct level_history *history, struct kept_levels *kept,
			    struct ahead *ahead, const struct score_target targets[2])
{
	const uint32_t row_bytes = row_bytes_of(bits, shape);
	__m512 fours[2][4];

#pragma GCC unroll 1
	for (unsigned i = 0; i < SCORE_ROWS; i += 4) {
		__m512 rows[2][4];

		if (from != ROWS_IN_ORDER)
			ahead_step(ahead);
#pragma GCC unroll 4
		for (unsigned k = 0; k < 4; k++) {
			const uint8_t *row = block_row(block, row_bytes, count, i + k);
			struct level levels[LEVEL_VECTORS];

			if (from == ROWS_IN_ORDER)
				bytes_prefetch(row, row_bytes);
			row_levels(bits, trellis, shape, from, row, history, kept->rows[i + k],
				   levels);
#pragma GCC unroll 2
			for (unsigned q = 0; q < queries; q++)
				rows[q][k] = row_sums(bits, trellis, shape, levels,
						      targets[q].query);
		}
#pragma GCC unroll 2
		for (unsigned q = 0; q < queries; q++)
			fours[q][i / 4] = rows_fold4(rows[q]);
	}
#pragma GCC unroll 2
	for (unsigned q = 0; q < queries; q++)
		scores_store(fours[q], count, &targets[q]);
}

/*
 * A full block and all queries, two at a time. The first two keep levels that take long to unpack.
 * @targets are those of the block.
 */
VEC_INLINE void block_scores(unsigned bits, bool trellis, struct level_shape shape,
			     const uint8_t *block, struct level_history *history,
			     const struct score_target *targets, uint32_t n)
{
	const bool keep = trellis || bits == 6 || bits == 5;
	struct kept_levels kept;
	struct ahead ahead;

	if (n == 1) {
		block_score(bits, trellis, shape, 1, ROWS_IN_ORDER, block, SCORE_ROWS, history,
			    &kept, NULL, targets);
		return;
	}
	ahead = ahead_of(block + PREFETCH_BYTES, SCORE_ROWS * row_bytes_of(bits, shape),
			 (n + 1) / 2 * (SCORE_ROWS / 4));
	block_score(bits, trellis, shape, 2, keep ? ROWS_TO_KEEP : ROWS, block, SCORE_ROWS, history,
		    &kept, &ahead, targets);
	for (uint32_t i = 2; i + 1 < n; i += 2)
		block_score(bits, trellis, shape, 2, keep ? KEPT : ROWS, block, SCORE_ROWS, history,
			    &kept, &ahead, targets + i);
	if (n % 2 != 0)
		block_score(bits, trellis, shape, 1, keep ? KEPT : ROWS, block, SCORE_ROWS, history,
			    &kept, &ahead, targets + n - 1);
}

/* The last rows of a tile. */
VEC_INLINE void rest_scores(unsigned bits, bool trellis, struct level_shape shape,
			    const uint8_t *block, uint32_t count,
			    const struct level_history *history,
			    const struct score_target *targets, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct level_history local[LEVEL_VECTORS];
		struct kept_levels kept;

		memcpy(local, history, sizeof local);
		block_score(bits, trellis, shape, 1, ROWS_IN_ORDER, block, count, local, &kept,
			    NULL, targets + i);
	}
}

/* --- Tiles ----------------------------------------------------------------------------------- */

VEC_INLINE void scores_of(unsigned bits, bool trellis, struct level_shape shape,
			  const struct codec_layout *layout, const uint8_t *tile,
			  const struct codec_rows *queries, uint32_t n,
			  const struct codec_results *results)
{
	struct level_history history[LEVEL_VECTORS];
	struct score_query folded[CODEC_QUERIES_MAX];
	struct score_target targets[CODEC_QUERIES_MAX];

	histories_clear(history);
	for (uint32_t i = 0; i < n; i++)
		query_fold(bits, shape, layout, tile,
			   queries->values + (ptrdiff_t)i * queries->stride, &folded[i]);
	for (uint32_t t = 0; t < layout->tokens; t += SCORE_ROWS) {
		const uint8_t *rows = tile_row_const(layout, tile, t);
		const uint32_t left = layout->tokens - t;

		for (uint32_t i = 0; i < n; i++)
			targets[i] = (struct score_target){
				&folded[i], results->values + (ptrdiff_t)i * results->stride + t
			};
		if (left >= SCORE_ROWS)
			block_scores(bits, trellis, shape, rows, history, targets, n);
		else
			rest_scores(bits, trellis, shape, rows, left, history, targets, n);
	}
	rest_prefetch(layout, tile, bits == 4 ? PREFETCH_NEXT_BYTES : 0);
}

VEC_INLINE void scores(unsigned bits, bool trellis, const struct codec_layout *layout,
		       const uint8_t *tile, const struct codec_rows *queries, uint32_t n,
		       const struct codec_results *results)
{
	if (layout->head_dim == level_shape_usual.head_dim) {
		/* A constant takes away what a single query does not need. */
		if (n == 1)
			scores_of(bits, trellis, level_shape_usual, layout, tile, queries, 1,
				  results);
		else
			scores_of(bits, trellis, level_shape_usual, layout, tile, queries, n,
				  results);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		const struct codec_rows query = { queries->values + (ptrdiff_t)i * queries->stride,
						  0 };
		const struct codec_results result = {
			results->values + (ptrdiff_t)i * results->stride, 0
		};

		WITH_LEVEL_SHAPE(layout->head_dim, shape,
				 scores_of(bits, trellis, shape, layout, tile, &query, 1, &result));
	}
}
