/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention on tiles with AVX2 and FMA. Codes are widened to words, so that a level of nine bits is
 * one of them, and multiplied with words of factors. Rows of levels, or batches of them with two
 * tokens side by side, stay in the first cache while all queries are multiplied with them. Sixteen
 * channels are a vector; the last one may have eight, and the others of it read as 0. Raw tiles are in
 * packed-raw-avx2.h.
 */
#include "codec/packed.h"

#include <immintrin.h>

#include "codec/packed-raw-avx2.h"
#include "codec/prefetch.h"
#include "codec/rows-scalar.h"

#define WORDS 16u /* of a vector */
#define WORD_VECTORS (CODEC_HEAD_DIM_MAX / WORDS)
#define SCORE_ROWS 8u /* and tokens that are unpacked together for sums */

/* --- Integers for factors -------------------------------------------------------------------- */

VEC_INLINE float largest_lane(__m256 vector)
{
	const __m128 four =
		_mm_max_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps(vector, 1));
	const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));

	return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

VEC_INLINE __m256 magnitudes_max(__m256 peak, __m256 factors)
{
	return _mm256_max_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), factors), peak);
}

/* Eight factors as words. */
VEC_INLINE __m128i words_round(__m256 factors, float inverse)
{
	const __m256i whole =
		_mm256_cvtps_epi32(_mm256_mul_ps(factors, _mm256_set1_ps(inverse)));

	return _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
}

/* --- Levels ---------------------------------------------------------------------------------- */

/* The bytes of eight or sixteen codes, and no more. */
VEC_INLINE __m128i packed_load(unsigned bits, const uint8_t *packed, uint32_t count)
{
	uint32_t first;
	uint16_t second;

	if (count == WORDS) {
		const __m128i eight = _mm_loadl_epi64((const void *)packed);

		if (bits == 8)
			return _mm_loadu_si128((const void *)packed);
		if (bits == 4)
			return eight;
		memcpy(&second, packed + 8, sizeof second);
		if (bits == 5)
			return _mm_insert_epi16(eight, second, 4);
		memcpy(&first, packed + 8, sizeof first);
		return _mm_insert_epi32(eight, (int)first, 2);
	}
	if (bits == 8)
		return _mm_loadl_epi64((const void *)packed);
	memcpy(&first, packed, sizeof first);
	if (bits == 4)
		return _mm_cvtsi32_si128((int)first);
	if (bits == 5)
		return _mm_insert_epi8(_mm_cvtsi32_si128((int)first), packed[4], 4);
	memcpy(&second, packed + 4, sizeof second);
	return _mm_insert_epi16(_mm_cvtsi32_si128((int)first), second, 2);
}

/* Moves the two bytes that each code is in to its word, its bits to the top and down again. */
VEC_INLINE __m256i words_unpack(unsigned bits, __m128i bytes)
{
	const __m256i both = _mm256_broadcastsi128_si256(bytes);

	switch (bits) {
	case 8:
		return _mm256_cvtepu8_epi16(bytes);
	case 6: {
		const __m256i places = _mm256_setr_epi8(
			0, 1, 0, 1, 1, 2, 2, 3, 3, 4, 3, 4, 4, 5, 5, 6, 6, 7, 6, 7, 7, 8, 8, 9, 9,
			10, 9, 10, 10, 11, 11, 12);
		const __m256i shifts = _mm256_set1_epi64x(0x0100004000100400);

		return _mm256_srli_epi16(
			_mm256_mullo_epi16(_mm256_shuffle_epi8(both, places), shifts), 10);
	}
	case 5: {
		const __m256i places = _mm256_setr_epi8(
			0, 1, 0, 1, 1, 2, 1, 2, 2, 3, 3, 4, 3, 4, 4, 5, 5, 6, 5, 6, 6, 7, 6, 7, 7,
			8, 8, 9, 8, 9, 9, 10);
		const __m256i shifts = _mm256_setr_epi16(2048, 64, 512, 16, 128, 1024, 32, 256, 2048,
							 64, 512, 16, 128, 1024, 32, 256);

		return _mm256_srli_epi16(
			_mm256_mullo_epi16(_mm256_shuffle_epi8(both, places), shifts), 11);
	}
	default: {
		const __m256i places = _mm256_setr_epi8(
			0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3, -1, 4, -1, 4, -1, 5, -1,
			5, -1, 6, -1, 6, -1, 7, -1, 7, -1);
		const __m256i shifts = _mm256_set1_epi32(0x01001000);

		return _mm256_srli_epi16(
			_mm256_mullo_epi16(_mm256_shuffle_epi8(both, places), shifts), 12);
	}
	}
}

/* Vector @v of a row; words of absent channels are 0. */
VEC_INLINE __m256i words_load(unsigned bits, const uint8_t *row, uint32_t head_dim, unsigned v)
{
	const uint8_t *packed = row + v * (WORDS / 8 * bits);

	if (head_dim - v * WORDS >= WORDS)
		return words_unpack(bits, packed_load(bits, packed, WORDS));
	return _mm256_zextsi128_si256(
		_mm256_castsi256_si128(words_unpack(bits, packed_load(bits, packed, WORDS / 2))));
}

VEC_INLINE unsigned word_vectors(uint32_t head_dim)
{
	return (head_dim + WORDS - 1) / WORDS;
}

/* The codes of the last three rows of one vector. */
struct word_history {
	__m256i before1;
	__m256i before2;
	__m256i before3;
};

VEC_INLINE __m256i words_level(bool trellis, __m256i codes, struct word_history *history)
{
	const __m256i one = _mm256_set1_epi16(1);
	__m256i flip, set, low;

	if (!trellis)
		return codes;
	flip = _mm256_and_si256(_mm256_xor_si256(history->before1, history->before3), one);
	set = _mm256_xor_si256(codes, flip);
	low = _mm256_and_si256(history->before2, one);
	history->before3 = history->before2;
	history->before2 = history->before1;
	history->before1 = codes;
	return _mm256_or_si256(_mm256_add_epi16(set, set), low);
}

static void histories_clear(struct word_history histories[WORD_VECTORS])
{
	const __m256i zero = _mm256_setzero_si256();

	for (unsigned v = 0; v < WORD_VECTORS; v++)
		histories[v] = (struct word_history){ zero, zero, zero };
}

/* --- Scores ---------------------------------------------------------------------------------- */

struct score_query {
	__m256i words[WORD_VECTORS];
	float unit;
	float bias;
};

static void query_fold(const struct codec_layout *layout, const uint8_t *tile, const float *values,
		       struct score_query *query)
{
	__m256 factors[CODEC_HEAD_DIM_MAX / VEC_LANES];
	__m256 largest = _mm256_setzero_ps();
	struct lanes bias = lanes_zero();
	float peak;

	for (uint32_t c = 0; c < layout->head_dim; c += VEC_LANES) {
		const __m256 value = _mm256_loadu_ps(values + c);
		const __m256 scale = vec_load(CODEC_DTYPE_F16,
					      tile + layout->scales_offset + 2 * (size_t)c);

		factors[c / VEC_LANES] = _mm256_mul_ps(value, scale);
		largest = magnitudes_max(largest, factors[c / VEC_LANES]);
		lanes_add(&bias, c, value,
			  vec_load(CODEC_DTYPE_F16, tile + layout->mins_offset + 2 * (size_t)c));
	}
	peak = largest_lane(largest);
	query->unit = packed_unit(peak);
	query->bias = lanes_fold(bias);
	query->words[word_vectors(layout->head_dim) - 1] = _mm256_setzero_si256();
	for (uint32_t c = 0; c < layout->head_dim; c += VEC_LANES)
		_mm_store_si128((__m128i *)query->words + c / VEC_LANES,
				words_round(factors[c / VEC_LANES], packed_inverse(peak)));
}

VEC_INLINE void block_unpack(unsigned bits, bool trellis, uint32_t head_dim, const uint8_t *rows,
			     uint32_t count, struct word_history *history,
			     __m256i block[SCORE_ROWS][WORD_VECTORS])
{
	for (unsigned v = 0; v < word_vectors(head_dim); v++) {
		struct word_history local = history[v];

#pragma GCC unroll 8
		for (unsigned i = 0; i < SCORE_ROWS; i++) {
			const uint8_t *row = block_row(rows, head_dim / 8 * bits, count, i);

			block[i][v] = words_level(trellis, words_load(bits, row, head_dim, v),
						  &local);
		}
		history[v] = local;
	}
}

/* Sums of eight vectors' lanes. */
VEC_INLINE __m256i rows_fold(const __m256i rows[SCORE_ROWS])
{
	const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(rows[0], rows[1]),
					    _mm256_hadd_epi32(rows[2], rows[3]));
	const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(rows[4], rows[5]),
					    _mm256_hadd_epi32(rows[6], rows[7]));

	return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
				_mm256_permute2x128_si256(a, b, 0x31));
}

VEC_INLINE void floats_store(float *values, uint32_t count, __m256 vector)
{
	float all[VEC_LANES];

	if (count >= VEC_LANES) {
		_mm256_storeu_ps(values, vector);
		return;
	}
	_mm256_storeu_ps(all, vector);
	memcpy(values, all, count * sizeof *values);
}

VEC_INLINE void block_multiply(uint32_t head_dim, uint32_t count,
			       __m256i block[SCORE_ROWS][WORD_VECTORS],
			       const struct score_query *query, float *scores)
{
	__m256i rows[SCORE_ROWS];

#pragma GCC unroll 8
	for (unsigned i = 0; i < SCORE_ROWS; i++)
		rows[i] = _mm256_setzero_si256();
	for (unsigned v = 0; v < word_vectors(head_dim); v++) {
		const __m256i words = query->words[v];

#pragma GCC unroll 8
		for (unsigned i = 0; i < SCORE_ROWS; i++)
			rows[i] = _mm256_add_epi32(rows[i], _mm256_madd_epi16(block[i][v], words));
	}
	floats_store(scores, count,
		     _mm256_fmadd_ps(_mm256_cvtepi32_ps(rows_fold(rows)),
				     _mm256_set1_ps(query->unit), _mm256_set1_ps(query->bias)));
}

VEC_INLINE void scores(unsigned bits, bool trellis, const struct codec_layout *layout,
		       const uint8_t *tile, const struct codec_rows *queries, uint32_t n,
		       const struct codec_results *results)
{
	struct score_query folded[CODEC_QUERIES_MAX];
	__m256i block[SCORE_ROWS][WORD_VECTORS];
	struct word_history history[WORD_VECTORS];

	histories_clear(history);
	for (uint32_t i = 0; i < n; i++)
		query_fold(layout, tile, queries->values + (ptrdiff_t)i * queries->stride,
			   &folded[i]);
	for (uint32_t t = 0; t < layout->tokens; t += SCORE_ROWS) {
		const uint8_t *rows = tile_row_const(layout, tile, t);
		const uint32_t count = layout->tokens - t;

		bytes_prefetch(rows, SCORE_ROWS * (layout->head_dim / 8 * bits));
		block_unpack(bits, trellis, layout->head_dim, rows, count, history, block);
		for (uint32_t i = 0; i < n; i++)
			block_multiply(layout->head_dim, count, block, &folded[i],
				       results->values + (ptrdiff_t)i * results->stride + t);
	}
	rest_prefetch(layout, tile, 0);
}

/* --- Weighted sums --------------------------------------------------------------------------- */

/* By group of channels and token; 0 where there is none. */
struct tile_scales {
	float scale[TRELLIS_SCALES_MAX][CODEC_TOKENS_MAX];
	float min[TRELLIS_SCALES_MAX][CODEC_TOKENS_MAX];
};

/* Of one batch, query and group. A dword has r of two tokens. */
struct group_weights {
	uint32_t pairs[PACKED_BATCH / 2];
	float unit;
};

/* Two tokens side by side, and the other channels of the vector. */
struct word_batch {
	__m256i pairs[WORD_VECTORS][PACKED_BATCH / 2][2];
};

VEC_INLINE uint32_t scale_groups(const struct codec_layout *layout)
{
	return layout->scale_channels ? layout->token_scales : 1;
}

/* One scale a token: eight of them at a time, then the last ones. */
VEC_INLINE void half_scales_load(unsigned bits, const struct codec_layout *layout,
				 const uint8_t *tile, struct tile_scales *scales)
{
	uint32_t t = 0;

	for (; t + VEC_LANES <= layout->tokens; t += VEC_LANES) {
		const size_t offset = 2 * (size_t)t;

		_mm256_storeu_ps(&scales->scale[0][t],
				 vec_load(CODEC_DTYPE_F16, tile + layout->scales_offset + offset));
		_mm256_storeu_ps(&scales->min[0][t],
				 vec_load(CODEC_DTYPE_F16, tile + layout->mins_offset + offset));
	}
	for (; t < layout->tokens; t++)
		value_group_read(bits, layout, tile, t, 0, &scales->scale[0][t],
				 &scales->min[0][t]);
}

VEC_INLINE void scales_load(unsigned bits, const struct codec_layout *layout, const uint8_t *tile,
			    struct tile_scales *scales)
{
	if (!layout->scale_channels)
		half_scales_load(bits, layout, tile, scales);
	for (uint32_t g = 0; g < scale_groups(layout); g++) {
		for (uint32_t t = 0; layout->scale_channels && t < layout->tokens; t++)
			value_group_read(bits, layout, tile, t, g * layout->scale_channels,
					 &scales->scale[g][t], &scales->min[g][t]);
		for (uint32_t t = layout->tokens; t % PACKED_BATCH != 0; t++)
			scales->scale[g][t] = scales->min[g][t] = 0;
	}
}

VEC_INLINE void weights_round(const float *scale, const float *weights, struct group_weights *ret)
{
	__m256 factors[PACKED_BATCH / VEC_LANES];
	__m256 largest = _mm256_setzero_ps();
	float peak;

#pragma GCC unroll 4
	for (unsigned i = 0; i < PACKED_BATCH / VEC_LANES; i++) {
		factors[i] = _mm256_mul_ps(_mm256_loadu_ps(weights + i * VEC_LANES),
					   _mm256_loadu_ps(scale + i * VEC_LANES));
		largest = magnitudes_max(largest, factors[i]);
	}
	peak = largest_lane(largest);
	ret->unit = packed_unit(peak);
#pragma GCC unroll 4
	for (unsigned i = 0; i < PACKED_BATCH / VEC_LANES; i++)
		_mm_storeu_si128((__m128i *)ret->pairs + i,
				 words_round(factors[i], packed_inverse(peak)));
}

/* Vector @v of the rows [@first, @end), two at a time; the odd one beside zeros. */
VEC_INLINE void pairs_unpack(unsigned bits, bool trellis, uint32_t head_dim, const uint8_t *rows,
			     uint32_t first, uint32_t end, unsigned v,
			     struct word_history *history, struct word_batch *batch)
{
	const uint32_t row_bytes = head_dim / 8 * bits;
	struct word_history local = *history;

	for (uint32_t t = first; t < end; t += 2) {
		const uint8_t *row = rows + (size_t)t * row_bytes;
		const __m256i even =
			words_level(trellis, words_load(bits, row, head_dim, v), &local);
		__m256i odd = _mm256_setzero_si256();

		if (t + 1 < end)
			odd = words_level(trellis, words_load(bits, row + row_bytes, head_dim, v),
					  &local);
		batch->pairs[v][t / 2][0] = _mm256_unpacklo_epi16(even, odd);
		batch->pairs[v][t / 2][1] = _mm256_unpackhi_epi16(even, odd);
	}
	*history = local;
}

VEC_INLINE void batch_unpack(unsigned bits, bool trellis, uint32_t head_dim, const uint8_t *rows,
			     uint32_t count, struct word_history *history,
			     struct word_batch *batch)
{
	for (uint32_t t = 0; t < count; t += SCORE_ROWS) {
		const uint32_t end = count - t < SCORE_ROWS ? count : t + SCORE_ROWS;

		bytes_prefetch(rows + (size_t)t * (head_dim / 8 * bits),
			       SCORE_ROWS * (head_dim / 8 * bits));
		for (unsigned v = 0; v < word_vectors(head_dim); v++)
			pairs_unpack(bits, trellis, head_dim, rows, t, end, v, &history[v], batch);
	}
}

VEC_INLINE void channels_add(__m256i sums, float unit, float *out)
{
	_mm256_storeu_ps(out, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(unit),
					      _mm256_loadu_ps(out)));
}

VEC_INLINE void vector_add(uint32_t pairs, __m256i levels[][2],
			   const struct group_weights *weights, uint32_t channels, float *out)
{
	__m256i low = _mm256_setzero_si256();
	__m256i high = _mm256_setzero_si256();

	for (uint32_t i = 0; i < pairs; i++) {
		const __m256i pair = _mm256_set1_epi32((int)weights->pairs[i]);

		low = _mm256_add_epi32(low, _mm256_madd_epi16(levels[i][0], pair));
		high = _mm256_add_epi32(high, _mm256_madd_epi16(levels[i][1], pair));
	}
	channels_add(_mm256_permute2x128_si256(low, high, 0x20), weights->unit, out);
	if (channels > VEC_LANES)
		channels_add(_mm256_permute2x128_si256(low, high, 0x31), weights->unit,
			     out + VEC_LANES);
}

static void batch_add(const struct codec_layout *layout, const struct tile_scales *scales,
		      uint32_t first, uint32_t count, struct word_batch *batch,
		      const float *values, float *out)
{
	const uint32_t channels =
		layout->scale_channels ? layout->scale_channels : CODEC_HEAD_DIM_MAX;
	float padded[PACKED_BATCH] = { 0 };
	struct group_weights weights[TRELLIS_SCALES_MAX];

	memcpy(padded, values + first, count * sizeof *padded);
	for (uint32_t g = 0; g < scale_groups(layout); g++)
		weights_round(&scales->scale[g][first], padded, &weights[g]);
	for (unsigned v = 0; v < word_vectors(layout->head_dim); v++)
		vector_add((count + 1) / 2, batch->pairs[v], &weights[v * WORDS / channels],
			   layout->head_dim - v * WORDS, out + (size_t)v * WORDS);
}

static void mins_add(const struct codec_layout *layout, const struct tile_scales *scales,
		     const float *values, float *out)
{
	const uint32_t channels =
		layout->scale_channels ? layout->scale_channels : CODEC_HEAD_DIM_MAX;
	float padded[CODEC_TOKENS_MAX] = { 0 };
	float sums[TRELLIS_SCALES_MAX];

	memcpy(padded, values, layout->tokens * sizeof *padded);
	for (uint32_t g = 0; g < scale_groups(layout); g++) {
		struct lanes lanes = lanes_zero();

		for (uint32_t t = 0; t < layout->tokens; t += VEC_LANES)
			lanes_add(&lanes, t, _mm256_loadu_ps(padded + t),
				  _mm256_loadu_ps(&scales->min[g][t]));
		sums[g] = lanes_fold(lanes);
	}
	for (uint32_t c = 0; c < layout->head_dim; c += VEC_LANES)
		_mm256_storeu_ps(out + c, _mm256_add_ps(_mm256_loadu_ps(out + c),
							_mm256_set1_ps(sums[c / channels])));
}

VEC_INLINE void accumulate(unsigned bits, bool trellis, const struct codec_layout *layout,
			   const uint8_t *tile, const struct codec_rows *weights, uint32_t n,
			   const struct codec_results *out)
{
	struct word_history history[WORD_VECTORS];
	struct tile_scales scales;
	struct word_batch batch;

	histories_clear(history);
	scales_load(bits, layout, tile, &scales);
	for (uint32_t first = 0; first < layout->tokens; first += PACKED_BATCH) {
		const uint32_t left = layout->tokens - first;
		const uint32_t count = left < PACKED_BATCH ? left : PACKED_BATCH;

		batch_unpack(bits, trellis, layout->head_dim, tile_row_const(layout, tile, first),
			     count, history, &batch);
		for (uint32_t i = 0; i < n; i++)
			batch_add(layout, &scales, first, count, &batch,
				  weights->values + (ptrdiff_t)i * weights->stride,
				  out->values + (ptrdiff_t)i * out->stride);
	}
	rest_prefetch(layout, tile, 0);
	for (uint32_t i = 0; i < n; i++)
		mins_add(layout, &scales, weights->values + (ptrdiff_t)i * weights->stride,
			 out->values + (ptrdiff_t)i * out->stride);
}

/* --- The softmax ----------------------------------------------------------------------------- */

VEC_INLINE __m256 floats_load(const float *values, uint32_t count)
{
	float all[VEC_LANES] = { 0 };

	if (count >= VEC_LANES)
		return _mm256_loadu_ps(values);
	memcpy(all, values, count * sizeof *values);
	return _mm256_loadu_ps(all);
}

float softmax_largest_avx2(const float *scores_, uint32_t count)
{
	__m256 eight = _mm256_set1_ps(scores_[0]);
	uint32_t i = 0;
	float largest;

	for (; i + VEC_LANES <= count; i += VEC_LANES)
		eight = _mm256_max_ps(_mm256_loadu_ps(scores_ + i), eight);
	largest = largest_lane(eight);
	for (; i < count; i++)
		largest = scores_[i] > largest ? scores_[i] : largest;
	return largest;
}

VEC_INLINE __m256 exponential(__m256 x)
{
	__m256 n, r, p;

	x = _mm256_max_ps(x, _mm256_set1_ps(PACKED_EXP_MIN));
	x = _mm256_min_ps(x, _mm256_set1_ps(88.0f));
	n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(PACKED_LOG2_E)), 0);
	r = _mm256_fnmadd_ps(n, _mm256_set1_ps(PACKED_LN2_HIGH), x);
	r = _mm256_fnmadd_ps(n, _mm256_set1_ps(PACKED_LN2_LOW), r);
	p = _mm256_set1_ps(PACKED_EXP_P0);
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(PACKED_EXP_P1));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(PACKED_EXP_P2));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(PACKED_EXP_P3));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(PACKED_EXP_P4));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(PACKED_EXP_P5));
	p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r);
	return _mm256_mul_ps(
		_mm256_add_ps(p, _mm256_set1_ps(1.0f)),
		_mm256_castsi256_ps(_mm256_slli_epi32(
			_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23)));
}

float softmax_exponentials_avx2(float *scores_, uint32_t count, float scale, float shift)
{
	struct lanes sum = lanes_zero();
	const __m256 one = _mm256_set1_ps(1.0f);

	for (uint32_t i = 0; i < count; i += VEC_LANES) {
		const __m256 values =
			exponential(_mm256_fmsub_ps(floats_load(scores_ + i, count - i),
						    _mm256_set1_ps(scale), _mm256_set1_ps(shift)));

		floats_store(scores_ + i, count - i, values);
		lanes_add(&sum, i, floats_load(scores_ + i, count - i), one);
	}
	return lanes_fold(sum);
}

void softmax_multiply_avx2(float *values, uint32_t count, float factor)
{
	for (uint32_t i = 0; i < count; i += VEC_LANES)
		floats_store(values + i, count - i,
			     _mm256_mul_ps(floats_load(values + i, count - i),
					   _mm256_set1_ps(factor)));
}

/* --- The table's form ------------------------------------------------------------------------ */

PACKED_KERNELS(avx2)
