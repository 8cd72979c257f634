/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX-512: weights of a packed V tile, times the scales of their tokens, as integers. Log scales
 * are kept with 4, 8 or 16 slots a token, of which the first ones are used: so a vector has whole
 * tokens, as many as fit.
 */
#pragma once

#include "codec/levels-avx512.h"
#include "codec/trellis.h"

#define BATCH_QUADS (PACKED_BATCH / 4)

struct tile_scales {
	/* By token, or by token and slot; 0 where there is none. */
	float scale[CODEC_TOKENS_MAX * TRELLIS_SCALES_MAX] __attribute__((aligned(64)));
	float min[CODEC_TOKENS_MAX] __attribute__((aligned(64))); /* of f16 groups */
};

/*
 * Of one batch and query. A dword is the same half of r of the four tokens of a quad; for levels that
 * are words it is r itself of two tokens, in high of the first two and in low of the others.
 */
struct batch_weights {
	/* By group of channels; where a token has one scale, [0] alone, by quad. */
	uint32_t high[BATCH_QUADS][TRELLIS_SCALES_MAX] __attribute__((aligned(64)));
	uint32_t low[BATCH_QUADS][TRELLIS_SCALES_MAX] __attribute__((aligned(64)));
	float unit[TRELLIS_SCALES_MAX] __attribute__((aligned(64)));
};

/* clang-format off */

/* From slots of each of four tokens to four tokens of each slot. */
#define QUAD_SLOT(slots, s) (s), (slots) + (s), 2 * (slots) + (s), 3 * (slots) + (s)
#define QUAD_4(slots, s) \
	QUAD_SLOT(slots, s), QUAD_SLOT(slots, (s) + 1), QUAD_SLOT(slots, (s) + 2), QUAD_SLOT(slots, (s) + 3)
#define QUAD_ZEROS 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
static const uint8_t quad_slots_4[64] __attribute__((aligned(64))) = {
	QUAD_4(4, 0), QUAD_ZEROS, QUAD_ZEROS, QUAD_ZEROS };
static const uint8_t quad_slots_8[64] __attribute__((aligned(64))) = {
	QUAD_4(8, 0), QUAD_4(8, 4), QUAD_ZEROS, QUAD_ZEROS };
static const uint8_t quad_slots_16[64] __attribute__((aligned(64))) = {
	QUAD_4(16, 0), QUAD_4(16, 4), QUAD_4(16, 8), QUAD_4(16, 12) };

/* clang-format on */

/* By the channels that there may be, not those that there are: a constant. */
VEC_INLINE unsigned scale_slots(uint32_t channels, struct level_shape shape)
{
	const unsigned groups = shape.vectors * VEC_CHUNK / channels;

	return groups <= 4 ? 4 : groups <= 8 ? 8 : 16;
}

/* --- Scales ---------------------------------------------------------------------------------- */

/*
 * Sixteen log scales times 2^-bits, without a gather: P is the place on a scale of sixteenths of an
 * octave from 2^-16, and the slopes of P over e fall and then rise again.
 */
VEC_INLINE __m512 log_scales(unsigned bits, __m512i e)
{
	const __m512i e2 = _mm512_add_epi32(e, e);
	const __m512i e16 = _mm512_slli_epi32(e, 4);
	const __m512i falling = _mm512_min_epi32(
		_mm512_min_epi32(_mm512_sub_epi32(e16, _mm512_set1_epi32(16)),
				 _mm512_add_epi32(e2, _mm512_set1_epi32(82))),
		_mm512_add_epi32(e, _mm512_set1_epi32(121)));
	const __m512i place = _mm512_max_epi32(
		_mm512_max_epi32(falling, _mm512_sub_epi32(e2, _mm512_set1_epi32(94))),
		_mm512_sub_epi32(e16, _mm512_set1_epi32(3552)));
	/* The sixteenths from 1 on. */
	const __m512i fraction = _mm512_permutexvar_epi32(
		place, _mm512_loadu_si512(&trellis_log_scales[135]));
	const __m512i octave = _mm512_sub_epi32(_mm512_srai_epi32(place, 4),
						_mm512_set1_epi32(16 + (int)bits));

	return _mm512_castsi512_ps(_mm512_maskz_add_epi32(_mm512_test_epi32_mask(e, e), fraction,
							  _mm512_slli_epi32(octave, 23)));
}

VEC_INLINE void log_scales_load(unsigned slots, unsigned bits, uint32_t groups,
				const struct codec_layout *layout, const uint8_t *tile,
				struct tile_scales *scales)
{
	const uint8_t *bytes = tile + layout->scales_offset;
	const uint32_t step = VEC_LANES / slots * groups;
	const uint32_t total = layout->tokens * groups;
	const __mmask16 token = (__mmask16)((1u << groups) - 1);
	const __mmask16 used =
		(__mmask16)(slots == 4 ? token * 0x1111u : slots == 8 ? token * 0x101u : token);
	float *scale = scales->scale;

	for (uint32_t i = 0; i < total; i += step, scale += VEC_LANES) {
		const __mmask16 lanes = chunk_lanes(total - i < step ? total - i : step, 0);
		const __m512i e =
			_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, bytes + i));

		_mm512_store_ps(scale, log_scales(bits, groups == slots
								? e
								: _mm512_maskz_expand_epi32(used, e)));
	}
	for (; scale < scales->scale + (layout->tokens + PACKED_BATCH - 1) / PACKED_BATCH *
					       PACKED_BATCH * slots;
	     scale += VEC_LANES)
		_mm512_store_ps(scale, _mm512_setzero_ps());
}

VEC_INLINE void half_scales_load(const struct codec_layout *layout, const uint8_t *tile,
				 struct tile_scales *scales)
{
	for (uint32_t t = 0; t < layout->tokens; t += PACKED_BATCH) {
#pragma GCC unroll 2
		for (uint32_t i = t; i < t + PACKED_BATCH; i += VEC_LANES) {
			const __mmask16 lanes =
				i < layout->tokens ? chunk_lanes(layout->tokens - i, 0) : 0;
			const size_t offset = 2 * (size_t)i;

			_mm512_store_ps(&scales->scale[i],
					vec_load(CODEC_DTYPE_F16,
						 tile + layout->scales_offset + offset, lanes));
			_mm512_store_ps(&scales->min[i],
					vec_load(CODEC_DTYPE_F16,
						 tile + layout->mins_offset + offset, lanes));
		}
	}
}

/* --- Weights with one scale a token ---------------------------------------------------------- */

VEC_INLINE __m512 weights_load(const float *weights, uint32_t count, uint32_t first)
{
	return vec_load(CODEC_DTYPE_F32, (const uint8_t *)(weights + first),
			first < count ? chunk_lanes(count - first, 0) : 0);
}

/* Thirty-two r as words, which the packing leaves in the order of quads 0, 4, 1, 5 and so on. */
VEC_INLINE __m512i words_round(const __m512 factors[2], float inverse)
{
	const __m512 inverses = _mm512_set1_ps(inverse);

	return _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(factors[0], inverses)),
				  _mm512_cvtps_epi32(_mm512_mul_ps(factors[1], inverses)));
}

VEC_INLINE void half_weights_round(bool words, const float *scale, const float *values, uint32_t count,
				   struct batch_weights *weights)
{
	/* Dwords of two tokens: the first ones of all quads, then the others. */
	const __m512i pairs = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 1, 5, 9, 13, 3, 7, 11, 15);
	const __m256i quads = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
	__m512 factors[2];
	__m512i whole, high, low;
	float peak;

#pragma GCC unroll 2
	for (unsigned i = 0; i < 2; i++)
		factors[i] = _mm512_mul_ps(weights_load(values, count, i * VEC_LANES),
					   _mm512_load_ps(scale + i * VEC_LANES));
	peak = _mm512_reduce_max_ps(
		magnitudes_max(_mm512_abs_ps(factors[0]), factors[1]));
	weights->unit[0] = packed_unit(peak);
	whole = words_round(factors, packed_inverse(peak));
	if (words) {
		whole = _mm512_permutexvar_epi32(pairs, whole);
		_mm256_store_si256((void *)weights->high[0], _mm512_castsi512_si256(whole));
		_mm256_store_si256((void *)weights->low[0], _mm512_extracti64x4_epi64(whole, 1));
		return;
	}
	high = _mm512_srai_epi16(_mm512_add_epi16(whole, _mm512_set1_epi16(64)), 7);
	low = _mm512_sub_epi16(whole, _mm512_slli_epi16(high, 7));
	_mm256_store_si256((void *)weights->high[0],
			   _mm256_permutevar8x32_epi32(_mm512_cvtepi16_epi8(high), quads));
	_mm256_store_si256((void *)weights->low[0],
			   _mm256_permutevar8x32_epi32(_mm512_cvtepi16_epi8(low), quads));
}

VEC_INLINE void half_mins_add(uint32_t head_dim, const struct codec_layout *layout,
			      const struct tile_scales *scales, const float *weights, float *out)
{
	__m512 sum = _mm512_setzero_ps();
	float folded;

	for (uint32_t t = 0; t < layout->tokens; t += VEC_LANES)
		sum = _mm512_fmadd_ps(weights_load(weights, layout->tokens, t),
				      _mm512_load_ps(&scales->min[t]), sum);
	folded = lanes_fold(sum);
	for (uint32_t c = 0; c < head_dim; c += VEC_LANES) {
		const __mmask16 lanes = chunk_lanes(head_dim - c, 0);
		uint8_t *at = (uint8_t *)(out + c);

		vec_store(CODEC_DTYPE_F32, at, lanes,
			  _mm512_add_ps(vec_load(CODEC_DTYPE_F32, at, lanes),
					_mm512_set1_ps(folded)));
	}
}

/* --- Weights with log scales ----------------------------------------------------------------- */

/* Weights of the tokens from @first on that share a vector, each in all its slots. */
VEC_INLINE __m512 slots_load(unsigned slots, const float *weights, uint32_t count, uint32_t first)
{
	const __m512i spread = _mm512_srli_epi32(
		_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
		slots == 4 ? 2 : slots == 8 ? 3 : 4);
	const __mmask16 tokens = chunk_lanes(count - first, 0);
	const __mmask8 lanes = (__mmask8)(tokens & ((1u << (VEC_LANES / slots)) - 1));

	if (slots == 16)
		return _mm512_set1_ps(weights[first]);
	return _mm512_permutexvar_ps(spread, _mm512_castps128_ps512(_mm_maskz_loadu_ps(
						     lanes, weights + first)));
}

VEC_INLINE __m512 slots_rotate(__m512 vector, unsigned tokens)
{
	return tokens == 2 ? _mm512_shuffle_f32x4(vector, vector, 0x4e)
			   : _mm512_shuffle_f32x4(vector, vector, 0xb1);
}

VEC_INLINE __m512 slots_peak(unsigned slots, __m512 peak)
{
	if (slots <= 8)
		peak = _mm512_max_ps(peak, slots_rotate(peak, 2));
	return slots == 4 ? _mm512_max_ps(peak, slots_rotate(peak, 1)) : peak;
}

/* r of two tokens in every slot's dword, for levels that are words. */
VEC_INLINE void slots_round_words(unsigned slots, const __m512 *factors, __m512 inverse,
				  struct batch_weights *weights)
{
	const __m512i slot = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	const __m512i pair = _mm512_or_si512(
		slot, _mm512_slli_epi32(_mm512_add_epi32(slot, _mm512_set1_epi32((int)slots)), 16));
	uint16_t words[PACKED_BATCH * 16 + 32];

	for (unsigned i = 0; i < PACKED_BATCH * slots / VEC_LANES; i++)
		_mm256_storeu_si256(
			(void *)(words + VEC_LANES * i),
			_mm512_cvtepi32_epi16(_mm512_cvtps_epi32(_mm512_mul_ps(factors[i], inverse))));
	for (unsigned quad = 0; quad < BATCH_QUADS; quad++) {
		const uint16_t *from = words + 4 * slots * quad;

		_mm512_store_si512(weights->high[quad],
				   _mm512_permutexvar_epi16(pair, _mm512_loadu_si512(from)));
		_mm512_store_si512(
			weights->low[quad],
			_mm512_permutexvar_epi16(pair, _mm512_loadu_si512(from + 2 * (size_t)slots)));
	}
}

VEC_INLINE void slots_round(unsigned slots, bool words, const float *scale, const float *values, uint32_t count,
			    struct batch_weights *weights)
{
	const uint8_t *order = slots == 4 ? quad_slots_4 : slots == 8 ? quad_slots_8 : quad_slots_16;
	const unsigned tokens = VEC_LANES / slots; /* of a vector */
	uint8_t high[PACKED_BATCH * 16 + 64], low[PACKED_BATCH * 16 + 64];
	__m512 factors[PACKED_BATCH];
	__m512 peak = _mm512_setzero_ps();
	__m512 inverse;
	__mmask16 sound;

	for (unsigned i = 0; i < PACKED_BATCH / tokens; i++) {
		factors[i] = _mm512_setzero_ps();
		if (i * tokens < count)
			factors[i] = _mm512_mul_ps(slots_load(slots, values, count, i * tokens),
						   _mm512_load_ps(scale + i * VEC_LANES));
		peak = magnitudes_max(peak, factors[i]);
	}
	peak = slots_peak(slots, peak);
	sound = _mm512_cmp_ps_mask(peak, _mm512_set1_ps(PACKED_PEAK_MIN), _CMP_GE_OQ);
	inverse = _mm512_maskz_div_ps(sound, _mm512_set1_ps(PACKED_STEPS), peak);
	_mm512_store_ps(weights->unit,
			_mm512_maskz_div_ps(sound, peak, _mm512_set1_ps(PACKED_STEPS)));
	if (words) {
		slots_round_words(slots, factors, inverse, weights);
		return;
	}
	for (unsigned i = 0; i < PACKED_BATCH / tokens; i++) {
		const struct halves halves = halves_of(factors[i], inverse);

		_mm_storeu_si128((void *)(high + 16 * i), _mm512_cvtepi32_epi8(halves.high));
		_mm_storeu_si128((void *)(low + 16 * i), _mm512_cvtepi32_epi8(halves.low));
	}
	for (unsigned quad = 0; quad < BATCH_QUADS; quad++) {
		const __m512i quads = _mm512_load_si512(order);

		_mm512_store_si512(weights->high[quad],
				   _mm512_permutexvar_epi8(
					   quads, _mm512_loadu_si512(high + 4 * slots * quad)));
		_mm512_store_si512(weights->low[quad],
				   _mm512_permutexvar_epi8(
					   quads, _mm512_loadu_si512(low + 4 * slots * quad)));
	}
}

/* Sums by slot, in sixteen lanes by token, each of which is a slot's share of a vector. */
VEC_INLINE __m512 slots_sum(unsigned slots, unsigned bits, uint32_t count,
			    const struct tile_scales *scales, const float *weights)
{
	const unsigned tokens = VEC_LANES / slots;
	const __m512 half_levels = _mm512_set1_ps(-0.5f * (trellis_levels(bits) - 1));
	__m512 sums[16];

	for (unsigned i = 0; i < slots; i++)
		sums[i] = _mm512_setzero_ps();
	for (uint32_t t = 0; t < count; t += tokens) {
		const __m512 min = _mm512_mul_ps(
			half_levels, _mm512_load_ps(&scales->scale[(size_t)t * slots]));
		__m512 *sum = &sums[t / tokens % slots];

		*sum = _mm512_fmadd_ps(slots_load(slots, weights, count, t), min, *sum);
	}
	for (unsigned width = slots / 2; width > 0; width /= 2)
		for (unsigned i = 0; i < width; i++)
			sums[i] = _mm512_add_ps(sums[i], sums[i + width]);
	if (slots == 4)
		sums[0] = _mm512_add_ps(sums[0], slots_rotate(sums[0], 2));
	if (slots == 4)
		return _mm512_add_ps(sums[0], slots_rotate(sums[0], 1));
	return slots == 8 ? _mm512_add_ps(sums[0], slots_rotate(sums[0], 2)) : sums[0];
}

/* --- Either ---------------------------------------------------------------------------------- */

VEC_INLINE void scales_load(unsigned bits, uint32_t channels, struct level_shape shape,
			    const struct codec_layout *layout, const uint8_t *tile,
			    struct tile_scales *scales)
{
	if (channels)
		log_scales_load(scale_slots(channels, shape), bits,
				(shape.head_dim + channels - 1) / channels, layout, tile, scales);
	else
		half_scales_load(layout, tile, scales);
}

/* The weights of @count tokens from @first on. */
VEC_INLINE void weights_round(bool words, uint32_t channels, struct level_shape shape,
			      const struct tile_scales *scales, uint32_t first, uint32_t count,
			      const float *values, struct batch_weights *weights)
{
	if (channels)
		slots_round(scale_slots(channels, shape), words,
			    scales->scale + (size_t)first * scale_slots(channels, shape), values, count,
			    weights);
	else
		half_weights_round(words, scales->scale + first, values, count, weights);
}

VEC_INLINE void mins_add(unsigned bits, uint32_t channels, struct level_shape shape,
			 const struct codec_layout *layout, const struct tile_scales *scales,
			 const float *weights, float *out)
{
	float folded[TRELLIS_SCALES_MAX];

	if (!channels) {
		half_mins_add(shape.head_dim, layout, scales, weights, out);
		return;
	}
	_mm512_storeu_ps(folded, slots_sum(scale_slots(channels, shape), bits, layout->tokens,
					   scales, weights));
	for (uint32_t c = 0; c < shape.head_dim; c += VEC_LANES) {
		const __mmask16 lanes = chunk_lanes(shape.head_dim - c, 0);
		uint8_t *at = (uint8_t *)(out + c);

		vec_store(CODEC_DTYPE_F32, at, lanes,
			  _mm512_add_ps(vec_load(CODEC_DTYPE_F32, at, lanes),
					_mm512_set1_ps(folded[c / channels])));
	}
}

/* The dwords that quarter @j of vector @v is multiplied with (see sums-avx512.h). */
VEC_INLINE __m512i weights_get(uint32_t channels, const uint32_t quads[][TRELLIS_SCALES_MAX], unsigned quad,
			       bool paired, unsigned v, unsigned j)
{
	const int first = (int)((paired ? v / 2 * 2 : v) * VEC_CHUNK + (paired ? 8 * j : 0));
	const int step = paired ? 32 : 16;

	if (!channels)
		return _mm512_set1_epi32((int)quads[0][quad]);

	const int a = first / (int)channels;
	const int b = (first + step) / (int)channels;
	const int c = (first + 2 * step) / (int)channels;
	const int d = (first + 3 * step) / (int)channels;

	return _mm512_permutexvar_epi32(_mm512_setr_epi32(a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d),
					_mm512_load_si512(quads[quad]));
}
