/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of codes in portable C, and what a group's codes stand for. */
#pragma once

#include "codec/trellis.h"

/* Codes, one a byte, to @bits each, dense, lowest first; eight at a time, which is @bits bytes. */
static inline void row_pack(unsigned bits, const uint8_t *codes, uint32_t count, uint8_t *row)
{
	for (uint32_t i = 0; i < count; i += 8, row += bits) {
		uint64_t word = 0;

		for (unsigned k = 0; k < 8; k++)
			word |= (uint64_t)codes[i + k] << (k * bits);
		memcpy(row, &word, bits);
	}
}

static inline void row_unpack(unsigned bits, const uint8_t *row, uint32_t count, uint8_t *codes)
{
	const uint64_t mask = (1u << bits) - 1;

	for (uint32_t i = 0; i < count; i += 8, row += bits) {
		uint64_t word = 0;

		memcpy(&word, row, bits);
		for (unsigned k = 0; k < 8; k++)
			codes[i + k] = (uint8_t)(word >> (k * bits) & mask);
	}
}

/*
 * The levels of a row of @bits a code: the codes themselves, or what the trellis makes of them. The
 * lowest bits of the last three rows are kept in @history, one byte a channel, which starts as 0.
 */
static inline void row_levels(unsigned bits, bool trellis, const uint8_t *row, uint32_t count,
			      uint8_t *history, uint16_t *levels)
{
	uint8_t codes[CODEC_HEAD_DIM_MAX];

	row_unpack(bits, row, count, codes);
	for (uint32_t c = 0; c < count; c++) {
		const unsigned before = history[c];

		if (!trellis) {
			levels[c] = codes[c];
			continue;
		}
		levels[c] = (uint16_t)trellis_level(codes[c], before & 1, before >> 1 & 1,
						    before >> 2 & 1);
		history[c] = (uint8_t)((before << 1 | (codes[c] & 1)) & 7);
	}
}

/* Scale and min of f16 group @group. */
static inline void group_read(const struct codec_layout *layout, const uint8_t *tile,
			      uint32_t group, float *ret_scale, float *ret_min)
{
	uint16_t scale, min;

	memcpy(&scale, tile + layout->scales_offset + 2 * (size_t)group, sizeof scale);
	memcpy(&min, tile + layout->mins_offset + 2 * (size_t)group, sizeof min);
	*ret_scale = half_to_f32(scale);
	*ret_min = half_to_f32(min);
}

/* Scale and min that V has in the channels of log scale @group of a token. */
static inline void log_group_read(unsigned bits, const struct codec_layout *layout,
				  const uint8_t *tile, uint32_t token, uint32_t group,
				  float *ret_scale, float *ret_min)
{
	const uint8_t *scales = tile + layout->scales_offset;
	const float whole = trellis_log_scales[scales[token * layout->token_scales + group]];

	*ret_scale = whole / (float)(1u << bits);
	*ret_min = -0.5f * (trellis_levels(bits) - 1) * *ret_scale;
}

/* Scale and min of one channel of one token of V. */
static inline void value_group_read(unsigned bits, const struct codec_layout *layout,
				    const uint8_t *tile, uint32_t token, uint32_t channel,
				    float *ret_scale, float *ret_min)
{
	if (layout->scale_channels)
		log_group_read(bits, layout, tile, token, channel / layout->scale_channels,
			       ret_scale, ret_min);
	else
		group_read(layout, tile, token, ret_scale, ret_min);
}
