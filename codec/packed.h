/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arithmetic of attention on packed tiles, which packed-scalar.c defines and the vector files
 * repeat. Sums of integers are exact, so their order is free; sums of f32 run in sixteen lanes:
 * lane i adds the terms i, i + 16, ... in that order with fused multiply-add, starting at 0, then
 * lanes i and i + 8 are added, then i and i + 4, + 2, + 1. So every instruction set gives the same
 * bits, and a query the same answer alone as among others.
 *
 * Scores of a packed K tile (per channel scale and min), for a query q:
 *	f[c]   = q[c] * scale[c]
 *	peak   = largest |f[c]|; inverse = PACKED_STEPS / peak; unit = peak / PACKED_STEPS;
 *		 both 0 when peak < PACKED_PEAK_MIN
 *	r[c]   = rint(f[c] * inverse), 15 bits with its sign
 *	bias   = sum of q[c] * min[c], in lanes by channel
 *	score  = fma((float)(sum of r[c] * code[t][c]), unit, bias)
 * A code of a trellis tile is its level: 9 bits for t8. The sum fits 32 bits:
 * 256 channels * 16256 * 511 < 2^31.
 *
 * Weighted sums of a packed V tile, with one scale a token or one for every scale_channels: for
 * every PACKED_BATCH tokens, from the first on, and each such group g of channels
 *	f[t]   = w[t] * scale[t][g], made r[t] with peak, inverse and unit as above
 *	out[c] = fma((float)(sum over the batch of r[t] * code[t][c]), unit, out[c])
 * and after all batches out[c] += sum over all tokens of w[t] * min[t][g], in lanes by token. A log
 * scale s stands for scale = s and min = -(levels - 1) * s / 2.
 *
 * Raw tiles: a score is the sum of q[c] * K[t][c] in lanes by channel; a weighted sum is
 * out[c] = fma(w[t], V[t][c], out[c]), token by token.
 *
 * exp(x), for x <= 88 within 2 ulp, is packed_exp() below, with x = fma(score, scale, -shift).
 */
#pragma once

#include <math.h>

#include "codec/kernel.h"

/* 127 * 128: both halves of r, r = high * 128 + low with low in -64..63, fit a signed byte. */
#define PACKED_STEPS 16256.0f
#define PACKED_PEAK_MIN 0x1p-100f
#define PACKED_BATCH 32u
#define PACKED_LANES 16u

static inline float packed_inverse(float peak)
{
	return peak >= PACKED_PEAK_MIN ? PACKED_STEPS / peak : 0.0f;
}

static inline float packed_unit(float peak)
{
	return peak >= PACKED_PEAK_MIN ? peak / PACKED_STEPS : 0.0f;
}

/* Cephes' expf: range reduction by ln 2 in two parts, a polynomial of degree 5 for the rest. */
#define PACKED_EXP_MIN (-87.0f)
#define PACKED_LOG2_E 1.44269504f
#define PACKED_LN2_HIGH 0.693359375f
#define PACKED_LN2_LOW (-2.12194440e-4f)
#define PACKED_EXP_P0 1.9875691500e-4f
#define PACKED_EXP_P1 1.3981999507e-3f
#define PACKED_EXP_P2 8.3334519073e-3f
#define PACKED_EXP_P3 4.1665795894e-2f
#define PACKED_EXP_P4 1.6666665459e-1f
#define PACKED_EXP_P5 5.0000001201e-1f

/*
 * The kernels in the table's form, from the functions that each packed-ISA.c has for any number of
 * bits: scores(), accumulate(), raw_scores(), raw_accumulate(). The same accumulation serves f16
 * groups and log scales, which the layout tells apart.
 */
#define PACKED_SCORES(codec, function, isa, ...)                                                   \
	void codec##_scores_##isa(const struct codec_layout *layout, const uint8_t *tile,          \
				  const struct codec_rows *queries, uint32_t n,                    \
				  const struct codec_results *results)                             \
	{                                                                                          \
		function(__VA_ARGS__, layout, tile, queries, n, results);                          \
	}

#define PACKED_ACCUMULATE(codec, function, isa, ...)                                               \
	void codec##_accumulate_##isa(const struct codec_layout *layout, const uint8_t *tile,      \
				      const struct codec_rows *weights, uint32_t n,                \
				      const struct codec_results *out)                             \
	{                                                                                          \
		function(__VA_ARGS__, layout, tile, weights, n, out);                              \
	}

#define PACKED_RAW(codec, dtype, isa)                                                              \
	PACKED_SCORES(codec, raw_scores, isa, dtype)                                               \
	PACKED_ACCUMULATE(codec, raw_accumulate, isa, dtype)

#define PACKED_BITS(bits, isa)                                                                     \
	PACKED_SCORES(q##bits, scores, isa, bits, false)                                           \
	PACKED_ACCUMULATE(q##bits, accumulate, isa, bits, false)                                   \
	PACKED_SCORES(t##bits, scores, isa, bits, true)                                            \
	PACKED_ACCUMULATE(t##bits, accumulate, isa, bits, true)                                    \
	PACKED_ACCUMULATE(t##bits##g, accumulate, isa, bits, true)

#define PACKED_KERNELS(isa)                                                                        \
	PACKED_RAW(f32, CODEC_DTYPE_F32, isa)                                                      \
	PACKED_RAW(f16, CODEC_DTYPE_F16, isa)                                                      \
	PACKED_RAW(bf16, CODEC_DTYPE_BF16, isa)                                                    \
	PACKED_BITS(8, isa)                                                                        \
	PACKED_BITS(6, isa)                                                                        \
	PACKED_BITS(5, isa)                                                                        \
	PACKED_BITS(4, isa)
