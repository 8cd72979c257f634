/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX-512: weighted sums of packed V tiles. A batch of tokens is turned into levels of four tokens
 * side by side, in a buffer that stays in the first cache: dword k of 128-bit lane l of quarter j
 * has channel 16 * l + 4 * j + k of its vector (see levels-avx512.h), which is the order that
 * unpack instructions make. Every query multiplies its weights with them there, and puts the sums
 * into the order of channels once a batch.
 */
#pragma once

#include "codec/weights-avx512.h"

/*
 * Four tokens of one vector. Levels of nine bits, of t8, are bytes and their low bits, or for several
 * queries words, which take longer to make and a third of the dot products: of the first two tokens
 * and of the others.
 */
struct quarters {
	__m512i level[4];
	__m512i more[4]; /* of t8: low bits, or the other two tokens */
};

struct sum_batch {
	struct quarters quads[LEVEL_VECTORS][BATCH_QUADS];
};

/* Products of one vector so far, by quarters. */
struct quarter_sums {
	__m512i high[4];
	__m512i low[4];
};

/* --- Four tokens side by side ---------------------------------------------------------------- */

VEC_INLINE void tokens_interleave(const __m512i tokens[4], __m512i quarters[4])
{
	const __m512i low01 = _mm512_unpacklo_epi8(tokens[0], tokens[1]);
	const __m512i high01 = _mm512_unpackhi_epi8(tokens[0], tokens[1]);
	const __m512i low23 = _mm512_unpacklo_epi8(tokens[2], tokens[3]);
	const __m512i high23 = _mm512_unpackhi_epi8(tokens[2], tokens[3]);

	quarters[0] = _mm512_unpacklo_epi16(low01, low23);
	quarters[1] = _mm512_unpackhi_epi16(low01, low23);
	quarters[2] = _mm512_unpacklo_epi16(high01, high23);
	quarters[3] = _mm512_unpackhi_epi16(high01, high23);
}

/* Codes of tokens beyond the batch are 0, so that no token counts twice. */
VEC_INLINE __m512i batch_load(unsigned bits, bool paired, const uint8_t *rows, struct level_shape shape,
			      uint32_t count, uint32_t token, unsigned v)
{
	const uint8_t *row = rows + (size_t)token * row_bytes_of(bits, shape);

	if (token >= count)
		return _mm512_setzero_si512();
	return paired ? pair_load(row, shape, v) : vector_load(bits, row, shape, v);
}

VEC_INLINE void quad_order(unsigned bits, bool trellis, bool words, const __m512i codes[4],
			   struct level_history *history, struct quarters *ret)
{
	/* So that even bytes are of the first two tokens, and odd ones of the others. */
	const unsigned order[4] = { 0, words ? 2 : 1, words ? 1 : 2, 3 };
	__m512i level[4], low[4];

#pragma GCC unroll 4
	for (unsigned i = 0; i < 4; i++) {
		const struct level one = level_of(bits, trellis, codes[i], history);

		level[order[i]] = one.level;
		low[order[i]] = one.low;
	}
	tokens_interleave(level, ret->level);
	if (!level_words(bits, trellis))
		return;
	tokens_interleave(low, ret->more);
	if (!words)
		return;
#pragma GCC unroll 4
	for (unsigned j = 0; j < 4; j++)
		level_words_of((struct level){ ret->level[j], ret->more[j] }, &ret->level[j], &ret->more[j]);
}

/* Vector @v of four tokens, and the next one where both share their bytes. */
VEC_INLINE void quad_unpack(unsigned bits, bool trellis, bool words, struct level_shape shape,
			    const uint8_t *rows, uint32_t count, unsigned quad, unsigned v,
			    struct level_history *history, struct quarters *ret)
{
	const bool paired = level_paired(bits, shape, v);
	__m512i codes[4], even[4], odd[4];

#pragma GCC unroll 4
	for (unsigned i = 0; i < 4; i++)
		codes[i] = batch_load(bits, paired, rows, shape, count, 4 * quad + i, v);
	if (!paired) {
		quad_order(bits, trellis, words, codes, history, ret);
	} else if (trellis) {
#pragma GCC unroll 4
		for (unsigned i = 0; i < 4; i++) {
			even[i] = pair_even(codes[i]);
			odd[i] = pair_odd(codes[i]);
		}
		quad_order(bits, trellis, words, even, history, ret);
		quad_order(bits, trellis, words, odd, history + 1, ret + 1);
	} else {
		/* Bytes move before they are split: half the work. */
		tokens_interleave(codes, even);
#pragma GCC unroll 4
		for (unsigned i = 0; i < 4; i++) {
			ret[0].level[i] = pair_even(even[i]);
			ret[1].level[i] = pair_odd(even[i]);
		}
	}
}

VEC_INLINE void quarters_put(unsigned bits, bool trellis, bool words, const struct quarters *quarters,
			     struct quarters *ret)
{
#pragma GCC unroll 4
	for (unsigned j = 0; j < 4; j++) {
		ret->level[j] = quarters->level[j];
		if (words)
			ret->more[j] = quarters->more[j];
	}
}

VEC_INLINE void batch_unpack(unsigned bits, bool trellis, bool words, struct level_shape shape,
			     const uint8_t *rows, uint32_t count, struct level_history *history,
			     struct sum_batch *batch)
{
#pragma GCC unroll 1
	for (unsigned quad = 0; 4 * quad < count; quad++) {
#pragma GCC unroll 4
		for (unsigned v = 0; v < shape.vectors;) {
			const unsigned vectors = level_paired(bits, shape, v) ? 2 : 1;
			struct quarters quarters[2];

			quad_unpack(bits, trellis, words, shape, rows, count, quad, v, &history[v], quarters);
#pragma GCC unroll 2
			for (unsigned k = 0; k < vectors; k++)
				quarters_put(bits, trellis, words, &quarters[k], &batch->quads[v + k][quad]);
			v += vectors;
		}
	}
}

/* --- Products -------------------------------------------------------------------------------- */

VEC_INLINE void sums_clear(struct quarter_sums *sums)
{
#pragma GCC unroll 4
	for (unsigned j = 0; j < 4; j++)
		sums->high[j] = sums->low[j] = _mm512_setzero_si512();
}

VEC_INLINE void quad_multiply(unsigned bits, bool trellis, bool words, uint32_t channels, bool paired,
			      unsigned quad, unsigned v, const struct quarters *quarters,
			      const struct batch_weights *weights, struct quarter_sums *sums)
{
#pragma GCC unroll 4
	for (unsigned j = 0; j < 4; j++) {
		const __m512i high = weights_get(channels, weights->high, quad, paired, v, j);
		const __m512i low = weights_get(channels, weights->low, quad, paired, v, j);

		if (words) {
			sums->high[j] = _mm512_dpwssd_epi32(sums->high[j], quarters->level[j], high);
			sums->low[j] = _mm512_dpwssd_epi32(sums->low[j], quarters->more[j], low);
			continue;
		}
		sums->high[j] = _mm512_dpbusd_epi32(sums->high[j], quarters->level[j], high);
		sums->low[j] = _mm512_dpbusd_epi32(sums->low[j], quarters->level[j], low);
		if (!level_words(bits, trellis))
			continue;
		/* 2 * level + low */
		sums->high[j] = _mm512_dpbusd_epi32(sums->high[j], quarters->level[j], high);
		sums->low[j] = _mm512_dpbusd_epi32(sums->low[j], quarters->level[j], low);
		sums->high[j] = _mm512_dpbusd_epi32(sums->high[j], quarters->more[j], high);
		sums->low[j] = _mm512_dpbusd_epi32(sums->low[j], quarters->more[j], low);
	}
}

/* high * 128 + low, or of words the sum */
VEC_INLINE void sums_join(bool words, const struct quarter_sums *sums, __m512i ret[4])
{
#pragma GCC unroll 4
	for (unsigned j = 0; j < 4; j++)
		ret[j] = _mm512_add_epi32(words ? sums->high[j] : _mm512_slli_epi32(sums->high[j], 7),
					  sums->low[j]);
}

/* Quarters to the order of channels: lane l of quarter j becomes lane j of vector l. */
VEC_INLINE void quarters_order(__m512i sums[4])
{
	const __m512i a = _mm512_shuffle_i32x4(sums[0], sums[1], 0x44);
	const __m512i b = _mm512_shuffle_i32x4(sums[2], sums[3], 0x44);
	const __m512i c = _mm512_shuffle_i32x4(sums[0], sums[1], 0xee);
	const __m512i d = _mm512_shuffle_i32x4(sums[2], sums[3], 0xee);

	sums[0] = _mm512_shuffle_i32x4(a, b, 0x88);
	sums[1] = _mm512_shuffle_i32x4(a, b, 0xdd);
	sums[2] = _mm512_shuffle_i32x4(c, d, 0x88);
	sums[3] = _mm512_shuffle_i32x4(c, d, 0xdd);
}

VEC_INLINE void sums_add(uint32_t channels, struct level_shape shape, uint32_t channel, __m512i sums,
			 const struct batch_weights *weights, float *out)
{
	const __m512 unit = _mm512_set1_ps(weights->unit[channels ? channel / channels : 0]);
	__mmask16 lanes;
	__m512 before;

	if (channel >= shape.head_dim)
		return;
	lanes = chunk_lanes(shape.head_dim - channel, 0);
	before = vec_load(CODEC_DTYPE_F32, (const uint8_t *)(out + channel), lanes);
	vec_store(CODEC_DTYPE_F32, (uint8_t *)(out + channel), lanes,
		  _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), unit, before));
}

/* Adds the sums of vector @v, or of the pair that begins with it. */
VEC_INLINE void vectors_add(unsigned bits, bool trellis, bool words, uint32_t channels,
			    struct level_shape shape, unsigned v, const struct quarter_sums sums[2],
			    const struct batch_weights *weights, float *out)
{
	const bool paired = level_paired(bits, shape, v);
	const __m512i first =
		_mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
	const __m512i second =
		_mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
	__m512i even[4], odd[4];

	sums_join(words, &sums[0], even);
	quarters_order(even);
	if (paired) {
		sums_join(words, &sums[1], odd);
		quarters_order(odd);
	}
#pragma GCC unroll 4
	for (unsigned j = 0; j < 4; j++) {
		const uint32_t channel = v * VEC_CHUNK + (paired ? 2 : 1) * j * VEC_LANES;

		if (!paired) {
			sums_add(channels, shape, channel, even[j], weights, out);
			continue;
		}
		sums_add(channels, shape, channel,
			 _mm512_permutex2var_epi32(even[j], first, odd[j]), weights, out);
		sums_add(channels, shape, channel + VEC_LANES,
			 _mm512_permutex2var_epi32(even[j], second, odd[j]), weights, out);
	}
}

/* One query. */
VEC_INLINE void batch_add(unsigned bits, bool trellis, bool words, uint32_t channels, struct level_shape shape,
			  uint32_t quads, const struct sum_batch *batch, const struct batch_weights *weights,
			  struct ahead *ahead, float *out)
{
	for (unsigned v = 0; v < shape.vectors;) {
		const unsigned vectors = level_paired(bits, shape, v) ? 2 : 1;
		struct quarter_sums sums[2];

#pragma GCC unroll 2
		for (unsigned k = 0; k < vectors; k++) {
			sums_clear(&sums[k]);
			for (unsigned quad = 0; quad < quads; quad++) {
				ahead_step(ahead, 3);
				quad_multiply(bits, trellis, words, channels, vectors == 2, quad, v + k,
					      &batch->quads[v + k][quad], weights, &sums[k]);
			}
		}
		vectors_add(bits, trellis, words, channels, shape, v, sums, weights, out);
		v += vectors;
	}
}

/* All queries, while the next batch is asked for. */
VEC_INLINE void batch_add_all(unsigned bits, bool trellis, bool words, uint32_t channels,
			      struct level_shape shape, uint32_t count, const uint8_t *codes,
			      const struct sum_batch *batch, const struct batch_weights *weights, uint32_t n,
			      const struct codec_results *out)
{
	const uint32_t bytes = PACKED_BATCH * row_bytes_of(bits, shape);
	struct ahead ahead = ahead_of(codes + bytes, bytes, n * shape.vectors * BATCH_QUADS);

	for (uint32_t i = 0; i < n; i++)
		batch_add(bits, trellis, words, channels, shape, (count + 3) / 4, batch, &weights[i], &ahead,
			  out->values + (ptrdiff_t)i * out->stride);
}

/* A full batch and a single query, without the buffer: stores of 512 bits are slow. */
VEC_INLINE void batch_sum(unsigned bits, bool trellis, uint32_t channels, struct level_shape shape,
			  const uint8_t *rows, struct level_history *history,
			  const struct batch_weights *weights, float *out)
{
	const uint32_t quad_bytes = 4 * row_bytes_of(bits, shape);
	struct quarter_sums sums[LEVEL_VECTORS];

#pragma GCC unroll 4
	for (unsigned v = 0; v < shape.vectors; v++)
		sums_clear(&sums[v]);
#pragma GCC unroll 1
	for (unsigned quad = 0; quad < BATCH_QUADS; quad++) {
		bytes_prefetch(rows + (size_t)quad * quad_bytes, quad_bytes);
#pragma GCC unroll 4
		for (unsigned v = 0; v < shape.vectors;) {
			const unsigned vectors = level_paired(bits, shape, v) ? 2 : 1;
			struct quarters quarters[2];

			quad_unpack(bits, trellis, false, shape, rows, PACKED_BATCH, quad, v, &history[v],
				    quarters);
#pragma GCC unroll 2
			for (unsigned k = 0; k < vectors; k++)
				quad_multiply(bits, trellis, false, channels, vectors == 2, quad, v + k,
					      &quarters[k], weights, &sums[v + k]);
			v += vectors;
		}
	}
#pragma GCC unroll 4
	for (unsigned v = 0; v < shape.vectors;) {
		vectors_add(bits, trellis, false, channels, shape, v, &sums[v], weights, out);
		v += level_paired(bits, shape, v) ? 2 : 1;
	}
}

/* --- Tiles ----------------------------------------------------------------------------------- */

/*
 * All full batches of a tile for a single query; how many tokens that was. The weights of a batch
 * are rounded before the sums of the one before: a chain of a maximum and a division, for which
 * there is time then.
 */
VEC_INLINE uint32_t batches_sum(unsigned bits, bool trellis, uint32_t channels, struct level_shape shape,
				const struct codec_layout *layout, const uint8_t *tile,
				const struct tile_scales *scales, const float *values,
				struct level_history *history, float *out)
{
	const uint32_t end = layout->tokens / PACKED_BATCH * PACKED_BATCH;
	struct batch_weights weights[2];

	for (uint32_t ahead = 0; ahead < end + PACKED_BATCH; ahead += PACKED_BATCH) {
		const uint32_t first = ahead - PACKED_BATCH;

		if (ahead < end)
			weights_round(false, channels, shape, scales, ahead, PACKED_BATCH, values + ahead,
				      &weights[ahead / PACKED_BATCH % 2]);
		if (ahead > 0)
			batch_sum(bits, trellis, channels, shape,
				  tile + (size_t)first * layout->row_bytes, history,
				  &weights[first / PACKED_BATCH % 2], out);
	}
	return end;
}

VEC_INLINE void accumulate_of(unsigned bits, bool trellis, uint32_t channels, struct level_shape shape,
			      const struct codec_layout *layout, const uint8_t *tile,
			      const struct codec_rows *rows, uint32_t n,
			      const struct codec_results *out)
{
	const bool words = level_words(bits, trellis);
	struct level_history history[LEVEL_VECTORS];
	struct batch_weights weights[CODEC_QUERIES_MAX];
	struct tile_scales scales;
	struct sum_batch batch;
	uint32_t first = 0;

	histories_clear(history);
	scales_load(bits, channels, shape, layout, tile, &scales);
	if (n == 1)
		first = batches_sum(bits, trellis, channels, shape, layout, tile, &scales,
				    rows->values, history, out->values);
	for (; first < layout->tokens; first += PACKED_BATCH) {
		const uint32_t left = layout->tokens - first;
		const uint32_t count = left < PACKED_BATCH ? left : PACKED_BATCH;
		const uint8_t *codes = tile + (size_t)first * layout->row_bytes;

		for (uint32_t i = 0; i < n; i++)
			weights_round(words, channels, shape, &scales, first, count,
				      rows->values + (ptrdiff_t)i * rows->stride + first, &weights[i]);
		batch_unpack(bits, trellis, words, shape, codes, count, history, &batch);
		batch_add_all(bits, trellis, words, channels, shape, count, codes, &batch, weights, n, out);
	}
	rest_prefetch(layout, tile, bits == 4 && !trellis ? PREFETCH_NEXT_BYTES : 0);
	for (uint32_t i = 0; i < n; i++)
		mins_add(bits, channels, shape, layout, &scales,
			 rows->values + (ptrdiff_t)i * rows->stride,
			 out->values + (ptrdiff_t)i * out->stride);
}

VEC_INLINE void accumulate_by(unsigned bits, bool trellis, uint32_t channels,
			      const struct codec_layout *layout, const uint8_t *tile,
			      const struct codec_rows *rows, uint32_t n,
			      const struct codec_results *out)
{
	if (layout->head_dim == level_shape_usual.head_dim) {
		accumulate_of(bits, trellis, channels, level_shape_usual, layout, tile, rows, n,
			      out);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		const struct codec_rows row = { rows->values + (ptrdiff_t)i * rows->stride, 0 };
		const struct codec_results sums = { out->values + (ptrdiff_t)i * out->stride, 0 };

		WITH_LEVEL_SHAPE(layout->head_dim, shape,
				 accumulate_of(bits, trellis, channels, shape, layout, tile, &row,
					       1, &sums));
	}
}
