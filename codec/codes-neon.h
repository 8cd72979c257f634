/* SPDX-License-Identifier: Apache-2.0 */
/* NEON: eight codes, which are @bits bytes, between their packed form and eight integers. */
#pragma once

#include <string.h>

#include "codec/vec-neon.h"

/* The two bytes in which code @i begins; the second may belong to the next code alone. */
#define CODE_BYTES(bits, i) (uint8_t)((i) * (bits) / 8), (uint8_t)((i) * (bits) / 8 + 1)
#define CODE_SHIFT(bits, i) (int16_t)(-(int)((i) * (bits) % 8))

VEC_INLINE uint16x8_t codes_load(unsigned bits, const uint8_t *packed)
{
	if (bits == 8)
		return vmovl_u8(vld1_u8(packed));

	const uint8x16_t pairs = { CODE_BYTES(bits, 0), CODE_BYTES(bits, 1), CODE_BYTES(bits, 2),
				   CODE_BYTES(bits, 3), CODE_BYTES(bits, 4), CODE_BYTES(bits, 5),
				   CODE_BYTES(bits, 6), CODE_BYTES(bits, 7) };
	const int16x8_t shifts = { CODE_SHIFT(bits, 0), CODE_SHIFT(bits, 1), CODE_SHIFT(bits, 2),
				   CODE_SHIFT(bits, 3), CODE_SHIFT(bits, 4), CODE_SHIFT(bits, 5),
				   CODE_SHIFT(bits, 6), CODE_SHIFT(bits, 7) };
	uint64_t word = 0;

	memcpy(&word, packed, bits);

	const uint8x16_t bytes = vcombine_u8(vcreate_u8(word), vdup_n_u8(0));
	const uint16x8_t windows = vreinterpretq_u16_u8(vqtbl1q_u8(bytes, pairs));

	return vandq_u16(vshlq_u16(windows, shifts), vdupq_n_u16((uint16_t)((1u << bits) - 1)));
}

/* Packs and stores eight integers, none of which has more than @bits bits. */
VEC_INLINE void codes_store(unsigned bits, uint16x8_t codes, uint8_t *packed)
{
	if (bits == 8) {
		vst1_u8(packed, vmovn_u16(codes));
		return;
	}

	/* Neighbours move together, first two, then four, then all. */
	const uint32x4_t dwords = vreinterpretq_u32_u16(codes);
	const uint32x4_t pairs =
		vorrq_u32(vandq_u32(dwords, vdupq_n_u32(0xffff)),
			  vshlq_u32(vshrq_n_u32(dwords, 16), vdupq_n_s32((int)bits)));
	const uint64x2_t qwords = vreinterpretq_u64_u32(pairs);
	const uint64x2_t quads =
		vorrq_u64(vandq_u64(qwords, vdupq_n_u64(0xffffffff)),
			  vshlq_u64(vshrq_n_u64(qwords, 32), vdupq_n_s64(2 * (int)bits)));
	const uint64_t word = vgetq_lane_u64(quads, 0) | vgetq_lane_u64(quads, 1) << (4 * bits);

	memcpy(packed, &word, bits);
}

/*
 * Eight levels of a trellis tile from the codes of one token. The lowest bits of the tokens before
 * are kept in @history, of which bit 0 is the latest; it starts as 0.
 */
VEC_INLINE uint16x8_t levels_next(uint16x8_t codes, uint16x8_t *history)
{
	const uint16x8_t steering = veorq_u16(codes, veorq_u16(*history, vshrq_n_u16(*history, 2)));
	const uint16x8_t low = vsliq_n_u16(vshrq_n_u16(*history, 1), steering, 1);

	*history = vsliq_n_u16(codes, *history, 1);
	return vsliq_n_u16(low, vshrq_n_u16(codes, 1), 2);
}
