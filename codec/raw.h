/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels of raw codecs in the table's form, from the two functions that each raw-ISA.c has for
 * any tile type: rows_encode() checks and converts, rows_decode() converts. A tile decoded to its
 * own type is copied, so that every bit pattern survives.
 */
#pragma once

#include <string.h>

#include "codec/half.h"
#include "codec/kernel.h"

static inline void raw_rows_copy(const struct codec_layout *layout, const uint8_t *tile,
				 const struct codec_target *dst)
{
	for (uint32_t token = 0; token < layout->tokens; token++)
		memcpy(target_row(dst, token), tile_row_const(layout, tile, token),
		       layout->row_bytes);
}

static inline float raw_magnitude_max(enum codec_dtype type)
{
	if (type == CODEC_DTYPE_F32)
		return __FLT_MAX__;
	return type == CODEC_DTYPE_F16 ? HALF_MAX : BF16_MAX;
}

#define RAW_KERNELS(name, type, isa)                                                               \
	bool raw_##name##_encode_##isa(const struct codec_layout *layout,                          \
				       const struct codec_source *src, uint8_t *tile)              \
	{                                                                                          \
		return rows_encode(type, layout, src, tile);                                       \
	}                                                                                          \
	void raw_##name##_decode_##isa(const struct codec_layout *layout, const uint8_t *tile,     \
				       const struct codec_target *dst)                             \
	{                                                                                          \
		if (dst->dtype == (type))                                                          \
			raw_rows_copy(layout, tile, dst);                                          \
		else                                                                               \
			rows_decode(type, layout, tile, dst);                                      \
	}
