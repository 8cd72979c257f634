/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX-512: scores of packed K tiles. Rows are unpacked into registers and multiplied there: sixteen
 * at a time with a single query, eight side by side with several.
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

/* --- Queries --------------------------------------------------------------------------------- */

/* Where the scales and mins of channels are: in the tile, or turned into f32. */
struct score_scales {
	enum codec_dtype dtype;
	const uint8_t *scales;
	const uint8_t *mins;
};

struct query_factors {
	__m512 factors[CODEC_HEAD_DIM_MAX / VEC_LANES];
	float peak;
	float bias;
};

VEC_INLINE struct score_scales tile_scales_of(const struct codec_layout *layout, const uint8_t *tile)
{
	return (struct score_scales){ CODEC_DTYPE_F16, tile + layout->scales_offset,
				      tile + layout->mins_offset };
}

VEC_INLINE void query_fold(struct level_shape shape, struct score_scales scales, const float *values,
			   struct query_factors *ret)
{
	__m512 bias = _mm512_setzero_ps();
	__m512 largest = _mm512_setzero_ps();

#pragma GCC unroll 16
	for (uint32_t c = 0; c < shape.vectors * VEC_CHUNK; c += VEC_LANES) {
		const size_t offset = (size_t)c * value_bytes(scales.dtype);
		const __mmask16 lanes =
			c < shape.head_dim ? chunk_lanes(shape.head_dim - c, 0) : 0;
		const __m512 value = vec_load(CODEC_DTYPE_F32, (const uint8_t *)(values + c), lanes);
		const __m512 scale = vec_load(scales.dtype, scales.scales + offset, lanes);
		const __m512 min = vec_load(scales.dtype, scales.mins + offset, lanes);

		ret->factors[c / VEC_LANES] = _mm512_mul_ps(value, scale);
		largest = magnitudes_max(largest, ret->factors[c / VEC_LANES]);
		bias = _mm512_fmadd_ps(value, min, bias);
	}
	ret->peak = _mm512_reduce_max_ps(largest);
	ret->bias = lanes_fold(bias);
}

/* Four vectors of factors: 64 integers r = high * 128 + low, two bytes in the same order. */
VEC_INLINE void query_round(const __m512 factors[4], float inverse, __m512i *ret_high, __m512i *ret_low)
{
	const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
	__m512i whole[4], high[2], low[2];

#pragma GCC unroll 4
	for (unsigned j = 0; j < 4; j++)
		whole[j] = _mm512_cvtps_epi32(_mm512_mul_ps(factors[j], _mm512_set1_ps(inverse)));
#pragma GCC unroll 2
	for (unsigned j = 0; j < 2; j++) {
		const __m512i words = _mm512_packs_epi32(whole[2 * j], whole[2 * j + 1]);

		high[j] = _mm512_srai_epi16(_mm512_add_epi16(words, _mm512_set1_epi16(64)), 7);
		low[j] = _mm512_sub_epi16(words, _mm512_slli_epi16(high[j], 7));
	}
	*ret_high = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(high[0], high[1]));
	*ret_low = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(low[0], low[1]));
}

VEC_INLINE void query_halves(unsigned bits, struct level_shape shape, const __m512 *factors, float inverse,
			     __m512i *ret_high, __m512i *ret_low)
{
#pragma GCC unroll 4
	for (unsigned v = 0; v < shape.vectors; v++)
		query_round(&factors[4 * v], inverse, &ret_high[v], &ret_low[v]);
#pragma GCC unroll 2
	for (unsigned v = 0; v < shape.vectors; v += 2) {
		if (!level_paired(bits, shape, v))
			continue;
		pair_order(&ret_high[v]);
		pair_order(&ret_low[v]);
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

VEC_INLINE void scores_store(const __m512 fours[4], uint32_t count, const struct score_query *query,
			     float *scores)
{
	const __m512 sums = _mm512_cvtepi32_ps(_mm512_castps_si512(rows_fold16(fours)));

	_mm512_mask_storeu_ps(scores, chunk_lanes(count, 0),
			      _mm512_fmadd_ps(sums, _mm512_set1_ps(query->unit), _mm512_set1_ps(query->bias)));
}

/* Sixteen rows, of which @count are there, and one query. */
VEC_INLINE void block_score(unsigned bits, bool trellis, struct level_shape shape, const uint8_t *block,
			    uint32_t count, struct level_history *history, const struct score_query *query,
			    float *scores)
{
	const uint32_t row_bytes = row_bytes_of(bits, shape);
	__m512 fours[4];

#pragma GCC unroll 1
	for (unsigned i = 0; i < SCORE_ROWS; i += 4) {
		__m512 rows[4];

#pragma GCC unroll 4
		for (unsigned k = 0; k < 4; k++) {
			const uint8_t *row = block_row(block, row_bytes, count, i + k);
			struct level levels[LEVEL_VECTORS];

			bytes_prefetch(row, row_bytes);
#pragma GCC unroll 4
			for (unsigned v = 0; v < shape.vectors; v += level_paired(bits, shape, v) ? 2 : 1)
				row_unpack(bits, trellis, shape, row, v, &history[v], &levels[v]);
			rows[k] = row_sums(bits, trellis, shape, levels, query);
		}
		fours[i / 4] = rows_fold4(rows);
	}
	scores_store(fours, count, query, scores);
}

/* --- Several queries ------------------------------------------------------------------------- */

/*
 * Rows stay in registers while all queries pass over them, four rows side by side: dword k of
 * 128-bit lane l of quarter j is of row k and channels 16 * l + 4 * j and on. So four rows have one
 * vector of sums, and what a query adds is little more than its dot products. Levels of nine bits
 * are words, of even and of odd channels, and so are the queries for them.
 */
struct row_quarters {
	__m512i level[2][2][4]; /* by vector; even and odd for words, [0] only for bytes; by quarter */
};

struct query_quarters {
	__m512i part[2][2][4]; /* by vector; even and odd, or high and low halves; by quarter */
	float unit;
	float bias;
};

/*
 * How far ahead rows are asked for, into the second cache: what lies behind a K tile is read next, as
 * a rule the V tile. Nearer, or into the first cache, came to up to a third more time.
 */
#define AHEAD_BYTES 6144u

#define QUERIES_PASS 8u /* of a pass over the rows: as many as the first cache has room for */

/* high * 128 + low of even and odd bytes, as words. */
VEC_INLINE __m512i even_words(__m512i high, __m512i low)
{
	return _mm512_add_epi16(_mm512_srai_epi16(_mm512_slli_epi16(high, 8), 1),
				_mm512_srai_epi16(_mm512_slli_epi16(low, 8), 8));
}

VEC_INLINE __m512i odd_words(__m512i high, __m512i low)
{
	return _mm512_add_epi16(_mm512_slli_epi16(_mm512_srai_epi16(high, 8), 7), _mm512_srai_epi16(low, 8));
}

VEC_INLINE void query_quarters_of(unsigned bits, bool trellis, const __m512 *factors, float inverse,
				  struct query_quarters *ret)
{
	__m512i high[2], low[2];

	query_halves(bits, level_shape_usual, factors, inverse, high, low);
#pragma GCC unroll 2
	for (unsigned v = 0; v < 2; v++) {
		__m512i parts[2] = { high[v], low[v] };

		if (level_words(bits, trellis)) {
			parts[0] = even_words(high[v], low[v]);
			parts[1] = odd_words(high[v], low[v]);
		}
#pragma GCC unroll 2
		for (unsigned h = 0; h < 2; h++) {
			ret->part[v][h][0] = _mm512_shuffle_epi32(parts[h], 0x00);
			ret->part[v][h][1] = _mm512_shuffle_epi32(parts[h], 0x55);
			ret->part[v][h][2] = _mm512_shuffle_epi32(parts[h], 0xaa);
			ret->part[v][h][3] = _mm512_shuffle_epi32(parts[h], 0xff);
		}
	}
}

VEC_INLINE void rows_interleave(const __m512i rows[4], __m512i quarters[4])
{
	const __m512i low01 = _mm512_unpacklo_epi32(rows[0], rows[1]);
	const __m512i high01 = _mm512_unpackhi_epi32(rows[0], rows[1]);
	const __m512i low23 = _mm512_unpacklo_epi32(rows[2], rows[3]);
	const __m512i high23 = _mm512_unpackhi_epi32(rows[2], rows[3]);

	quarters[0] = _mm512_unpacklo_epi64(low01, low23);
	quarters[1] = _mm512_unpackhi_epi64(low01, low23);
	quarters[2] = _mm512_unpacklo_epi64(high01, high23);
	quarters[3] = _mm512_unpackhi_epi64(high01, high23);
}

/* Four rows from @first on of a block of which @count are there. */
VEC_INLINE void quarters_unpack(unsigned bits, bool trellis, struct level_shape shape, const uint8_t *block,
				uint32_t count, uint32_t first, struct level_history *history,
				struct row_quarters *ret)
{
	const uint32_t row_bytes = row_bytes_of(bits, shape);
	__m512i even[2][4], odd[2][4];

#pragma GCC unroll 4
	for (unsigned k = 0; k < 4; k++) {
		const uint8_t *row = block_row(block, row_bytes, count, first + k);
		struct level levels[2];

		if (bits == 4 && !trellis) {
			/* Bytes move before they are split. */
			even[0][k] = pair_load(row, shape, 0);
			continue;
		}
#pragma GCC unroll 2
		for (unsigned v = 0; v < 2; v += level_paired(bits, shape, v) ? 2 : 1)
			row_unpack(bits, trellis, shape, row, v, &history[v], &levels[v]);
#pragma GCC unroll 2
		for (unsigned v = 0; v < 2; v++) {
			even[v][k] = levels[v].level;
			if (level_words(bits, trellis))
				level_words_of(levels[v], &even[v][k], &odd[v][k]);
		}
	}
	rows_interleave(even[0], ret->level[0][0]);
	if (bits == 4 && !trellis) {
#pragma GCC unroll 4
		for (unsigned j = 0; j < 4; j++) {
			ret->level[1][0][j] = pair_odd(ret->level[0][0][j]);
			ret->level[0][0][j] = pair_even(ret->level[0][0][j]);
		}
		return;
	}
	rows_interleave(even[1], ret->level[1][0]);
	if (level_words(bits, trellis)) {
		rows_interleave(odd[0], ret->level[0][1]);
		rows_interleave(odd[1], ret->level[1][1]);
	}
}

/* Four rows and one query: 128-bit lane l has a part of each row's sum. */
VEC_INLINE __m512i quarters_multiply(unsigned bits, bool trellis, const struct row_quarters *rows,
				     const struct query_quarters *query)
{
	__m512i sums[2] = { _mm512_setzero_si512(), _mm512_setzero_si512() };

#pragma GCC unroll 2
	for (unsigned v = 0; v < 2; v++)
#pragma GCC unroll 4
		for (unsigned j = 0; j < 4; j++)
#pragma GCC unroll 2
			for (unsigned h = 0; h < 2; h++)
				sums[h] = level_words(bits, trellis)
						  ? _mm512_dpwssd_epi32(sums[h], rows->level[v][h][j],
									query->part[v][h][j])
						  : _mm512_dpbusd_epi32(sums[h], rows->level[v][0][j],
									query->part[v][h][j]);
	if (!level_words(bits, trellis))
		sums[0] = _mm512_slli_epi32(sums[0], 7);
	return _mm512_add_epi32(sums[0], sums[1]);
}

VEC_INLINE __m256i halves_sum(__m512i vector)
{
	return _mm256_add_epi32(_mm512_castsi512_si256(vector), _mm512_extracti64x4_epi64(vector, 1));
}

/* Eight rows, of which @count are there, and all queries of a pass. @scores: of the first one. */
VEC_INLINE void block_scores(unsigned bits, bool trellis, struct level_shape shape, const uint8_t *block,
			     uint32_t count, struct level_history *history,
			     const struct query_quarters *queries, uint32_t n, float *scores, ptrdiff_t stride)
{
	/* Words of eight rows would need all registers. */
	const unsigned at_once = level_words(bits, trellis) ? 1 : 2;
	const uint32_t bytes = 8 * row_bytes_of(bits, shape);
	struct ahead ahead = ahead_of(block + AHEAD_BYTES, bytes, n);
	const __mmask8 lanes = (__mmask8)chunk_lanes(count, 0);
	__m256i firsts[QUERIES_PASS];

#pragma GCC unroll 2
	for (unsigned group = 0; group < 2; group += at_once) {
		struct row_quarters rows[2];

#pragma GCC unroll 2
		for (unsigned g = 0; g < at_once; g++)
			quarters_unpack(bits, trellis, shape, block, count, 4 * (group + g), history, &rows[g]);
#pragma GCC unroll 1
		for (uint32_t i = 0; i < n; i++) {
			__m256i sums[2];

			ahead_step(&ahead, 2);
#pragma GCC unroll 2
			for (unsigned g = 0; g < at_once; g++)
				sums[group + g] =
					halves_sum(quarters_multiply(bits, trellis, &rows[g], &queries[i]));
			if (at_once == 1 && group == 0) {
				firsts[i] = sums[0];
				continue;
			}
			if (at_once == 1)
				sums[0] = firsts[i];

			const __m256i eight =
				_mm256_add_epi32(_mm256_permute2x128_si256(sums[0], sums[1], 0x20),
						 _mm256_permute2x128_si256(sums[0], sums[1], 0x31));

			_mm256_mask_storeu_ps(scores + (ptrdiff_t)i * stride, lanes,
					      _mm256_fmadd_ps(_mm256_cvtepi32_ps(eight),
							      _mm256_set1_ps(queries[i].unit),
							      _mm256_set1_ps(queries[i].bias)));
		}
	}
}

/*
 * The queries of a pass, in two steps: what depends on the largest of all factors waits for it, and
 * so the steps of several queries can go on at the same time.
 */
VEC_INLINE void pass_fold(unsigned bits, bool trellis, const struct codec_layout *layout, const uint8_t *tile,
			  const struct codec_rows *queries, uint32_t n, struct query_quarters *ret)
{
	const struct score_scales halves = tile_scales_of(layout, tile);
	float scales[2][CODEC_HEAD_DIM_MAX / 2] __attribute__((aligned(64)));
	const struct score_scales floats = { CODEC_DTYPE_F32, (const uint8_t *)scales[0],
					     (const uint8_t *)scales[1] };
	float inverses[QUERIES_PASS];

#pragma GCC unroll 1
	for (uint32_t c = 0; c < level_shape_usual.head_dim; c += VEC_LANES) {
		_mm512_store_ps(scales[0] + c, vec_load(halves.dtype, halves.scales + 2 * (size_t)c, 0xffff));
		_mm512_store_ps(scales[1] + c, vec_load(halves.dtype, halves.mins + 2 * (size_t)c, 0xffff));
	}
#pragma GCC unroll 1
	for (uint32_t i = 0; i < n; i++) {
		struct query_factors folded;

		query_fold(level_shape_usual, floats, queries->values + (ptrdiff_t)i * queries->stride,
			   &folded);
		inverses[i] = packed_inverse(folded.peak);
		ret[i].unit = packed_unit(folded.peak);
		ret[i].bias = folded.bias;
	}
#pragma GCC unroll 1
	for (uint32_t i = 0; i < n; i++) {
		const float *values = queries->values + (ptrdiff_t)i * queries->stride;
		__m512 factors[8];

#pragma GCC unroll 8
		for (uint32_t j = 0; j < 8; j++)
			factors[j] = _mm512_mul_ps(_mm512_loadu_ps(values + j * VEC_LANES),
						   _mm512_load_ps(scales[0] + j * VEC_LANES));
		query_quarters_of(bits, trellis, factors, inverses[i], &ret[i]);
	}
}

/* A pass over a tile of the usual shape. */
VEC_INLINE void pass_scores(unsigned bits, bool trellis, const struct codec_layout *layout, const uint8_t *tile,
			    const struct codec_rows *queries, uint32_t n, const struct codec_results *results)
{
	struct level_history history[LEVEL_VECTORS];
	struct query_quarters quarters[QUERIES_PASS];

	histories_clear(history);
	pass_fold(bits, trellis, layout, tile, queries, n, quarters);
#pragma GCC unroll 1
	for (uint32_t t = 0; t < layout->tokens; t += 8) {
		const uint32_t left = layout->tokens - t;

		block_scores(bits, trellis, level_shape_usual, tile_row_const(layout, tile, t),
			     left < 8 ? left : 8, history, quarters, n, results->values + t, results->stride);
	}
	rest_prefetch(layout, tile, bits == 4 ? PREFETCH_NEXT_BYTES : 0);
}

/* --- Tiles ----------------------------------------------------------------------------------- */

VEC_INLINE void scores_of(unsigned bits, bool trellis, struct level_shape shape,
			  const struct codec_layout *layout, const uint8_t *tile, const float *query,
			  float *scores)
{
	struct level_history history[LEVEL_VECTORS];
	struct query_factors factors;
	struct score_query folded;

	histories_clear(history);
	query_fold(shape, tile_scales_of(layout, tile), query, &factors);
	folded.unit = packed_unit(factors.peak);
	folded.bias = factors.bias;
	query_halves(bits, shape, factors.factors, packed_inverse(factors.peak), folded.high, folded.low);
	for (uint32_t t = 0; t < layout->tokens; t += SCORE_ROWS) {
		const uint8_t *rows = tile_row_const(layout, tile, t);
		const uint32_t left = layout->tokens - t;

		if (left >= SCORE_ROWS)
			block_score(bits, trellis, shape, rows, SCORE_ROWS, history, &folded, scores + t);
		else
			block_score(bits, trellis, shape, rows, left, history, &folded, scores + t);
	}
	rest_prefetch(layout, tile, bits == 4 ? PREFETCH_NEXT_BYTES : 0);
}

VEC_INLINE void scores(unsigned bits, bool trellis, const struct codec_layout *layout,
		       const uint8_t *tile, const struct codec_rows *queries, uint32_t n,
		       const struct codec_results *results)
{
	const bool usual = layout->head_dim == level_shape_usual.head_dim;
	uint32_t pass;

	for (uint32_t i = 0; i < n; i += pass) {
		const float *query = queries->values + (ptrdiff_t)i * queries->stride;
		float *scores_at = results->values + (ptrdiff_t)i * results->stride;

		pass = !usual ? 1 : n - i < QUERIES_PASS ? n - i : QUERIES_PASS;
		if (pass > 1)
			pass_scores(bits, trellis, layout, tile, &(struct codec_rows){ query, queries->stride },
				    pass, &(struct codec_results){ scores_at, results->stride });
		else if (usual)
			scores_of(bits, trellis, level_shape_usual, layout, tile, query, scores_at);
		else
			WITH_LEVEL_SHAPE(layout->head_dim, shape,
					 scores_of(bits, trellis, shape, layout, tile, query, scores_at));
	}
}
