/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of values to and from f32, one value at a time. */
#pragma once

#include <string.h>

#include "codec/half.h"
#include "codec/kernel.h"

static inline void values_load(enum codec_dtype dtype, const uint8_t *values, uint32_t count,
			       float *row)
{
	uint16_t half;

	if (dtype == CODEC_DTYPE_F32) {
		memcpy(row, values, count * sizeof *row);
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		memcpy(&half, values + 2 * (size_t)i, sizeof half);
		row[i] = dtype == CODEC_DTYPE_F16 ? half_to_f32(half) : bf16_to_f32(half);
	}
}

static inline void values_store(enum codec_dtype dtype, const float *row, uint32_t count,
				uint8_t *values)
{
	uint16_t half;

	if (dtype == CODEC_DTYPE_F32) {
		memcpy(values, row, count * sizeof *row);
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		half = dtype == CODEC_DTYPE_F16 ? half_from_f32(row[i]) : bf16_from_f32(row[i]);
		memcpy(values + 2 * (size_t)i, &half, sizeof half);
	}
}
