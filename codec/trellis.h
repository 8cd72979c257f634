/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trellis-coded quantisation, as far as all its kernels share it. trellis-scalar.c is the
 * definition.
 *
 * A tile is laid out as that of the grouped codec with as many bits. The lowest bit u of a code
 * steers, the others are k. Along the tokens of a channel, with u1, u2, u3 the bits of the one, two
 * and three tokens before (0 before the first):
 *
 *	level = 4 * k + 2 * (u ^ u1 ^ u3) + u2	0 .. 2^(bits + 1) - 1
 *	value = min + level * scale
 *
 * This is Ungerboeck's one-dimensional code of 8 states (IEEE Trans. IT 28, 1982), used for a
 * source as Marcellin and Fischer do (IEEE Trans. Comm. 38, 1990): of four interleaved sets of
 * levels a token may use two, and the path through the states chooses which. A token is decoded
 * from its own row and the three before it.
 *
 * K, and V of t8 .. t4, have scales and mins as grouped codecs have, with 2^(bits + 1) - 1 steps.
 * V of t*g32 and t*g16 has for each token and scale_channels channels (the last may have fewer) a
 * byte e: scale = log_scale(e) * 2^-bits, min = -(2^(bits + 1) - 1) * scale / 2. The encoder takes
 * the smallest log scale that is not below the largest magnitude of the group, which then lies at
 * most half a step beyond the outermost level. The scales have eleven significant bits, so
 * everything but the sum is exact in f32, as for grouped codecs.
 *
 * Encoding looks for the path with the least squared error, by Viterbi's algorithm. With
 * position y = (x - base) * inverse + shift:
 *	f16 groups: base = min, inverse = 1 / scale (0 when scale is 0), shift = 0
 *	log scales: base = 0, inverse = 1 / scale (0 when scale is 0), shift = (levels - 1) / 2
 *	nearest of set j: k[j] = rint((bounded(y) - j) / 4), bounded to 0 .. levels / 4 - 1, where
 *		bounded(y) is y in 0 .. levels - 1
 *	cost of set j: d[j] = e * e, e = (y - (4 * k[j] + j)) * weight; weight is 1 for K and the
 *		token's (or its group's) scale for V, whose steps differ along the path
 * A state is u + 2 * u1 + 4 * u2. From state s by bit u to state (s << 1 | u) & 7; the candidate
 * from the lower predecessor stays unless the other is strictly less. It begins in state 0 and ends
 * in the state of least cost, the lowest of equals.
 */
#pragma once

#include "codec/quant.h"

#define TRELLIS_STATES 8u
#define TRELLIS_COST_MAX 0x1p100f /* of states that cannot be; real costs stay below */
#define TRELLIS_SCALES_MAX 16u	  /* log scales of a token: 256 channels by 16 */

/*
 * A log scale: 0 for e = 0, and from e = 1 on geometric, finest where V lives:
 *	1 .. 6		a whole octave a step, from 2^-16
 *	7 .. 38		an eighth of an octave, from 2^-10
 *	39 .. 214	a sixteenth, from 2^-6
 *	215 .. 246	an eighth, from 2^5
 *	247 .. 255	a whole octave, from 2^9 to 2^17
 * The fraction of an octave, 2^(i / 16), is rounded to ten bits after the point.
 */
extern const float trellis_log_scales[256];

/* The first e whose log scale is at least @amplitude, 0 <= amplitude <= 2^17. */
uint8_t trellis_log_scale_of(float amplitude);

static inline float trellis_levels(unsigned bits)
{
	return (float)(2u << bits);
}

/* The level of a code whose predecessors' lowest bits are u1, u2, u3. */
static inline unsigned trellis_level(unsigned code, unsigned u1, unsigned u2, unsigned u3)
{
	return (code >> 1) * 4 + 2 * ((code ^ u1 ^ u3) & 1) + u2;
}

/* The set of levels that a step uses: its register holds u, u1, u2, u3 from bit 0 on. */
static inline unsigned trellis_set(unsigned bits)
{
	return 2 * ((bits ^ bits >> 1 ^ bits >> 3) & 1) + (bits >> 2 & 1);
}

/*
 * The kernels of one codec in the table's form, from the functions that each trellis-ISA.c has for
 * any number of bits; scale_channels is a constant 0, 32 or 16.
 */
#define TRELLIS_KERNELS_OF(codec, bits, role, channels, isa)                                       \
	bool codec##_encode_##role##_##isa(const struct codec_layout *layout,                      \
					   const struct codec_source *src, uint8_t *tile)          \
	{                                                                                          \
		return encode_##role(bits, channels, layout, src, tile);                           \
	}                                                                                          \
	void codec##_decode_##role##_##isa(const struct codec_layout *layout, const uint8_t *tile, \
					   const struct codec_target *dst)                         \
	{                                                                                          \
		decode_##role(bits, channels, layout, tile, dst);                                  \
	}

#define TRELLIS_KERNELS(bits, isa)                                                                 \
	TRELLIS_KERNELS_OF(t##bits, bits, k, 0, isa)                                               \
	TRELLIS_KERNELS_OF(t##bits, bits, v, 0, isa)                                               \
	TRELLIS_KERNELS_OF(t##bits##g32, bits, v, 32, isa)                                         \
	TRELLIS_KERNELS_OF(t##bits##g16, bits, v, 16, isa)
