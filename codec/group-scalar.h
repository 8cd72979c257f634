/* SPDX-License-Identifier: Apache-2.0 */
/* A group's range, and the f16 scale and min that it makes, in portable C. */
#pragma once

#include "codec/quant.h"

struct range {
	float smallest;
	float largest;
	float spoilt; /* 0, or NaN once a value was NaN or infinite */
};

static inline void range_add(struct range *range, float value)
{
	range->smallest = value < range->smallest ? value : range->smallest;
	range->largest = value > range->largest ? value : range->largest;
	range->spoilt += value * 0.0f;
}

static inline struct range range_start(float value)
{
	return (struct range){ value, value, 0.0f };
}

/*
 * Writes scale and min of a group, whose range is @steps_max steps, and prepares its codes. False
 * when a value of the group is refused.
 */
static inline bool group_close(const struct codec_layout *layout, const struct range *range, float steps_max,
			uint32_t group, uint8_t *tile, struct quant_steps *steps)
{
	/* The additions make -0 a +0, so that the order of comparisons cannot show. */
	const uint16_t min = half_from_f32_rounded(range->smallest + 0.0f, HALF_DOWN);
	const float min_f32 = half_to_f32(min);
	const float extent = range->largest + 0.0f - min_f32;
	const uint16_t scale = half_from_f32_rounded(extent / steps_max, HALF_UP);
	const float scale_f32 = half_to_f32(scale);

	memcpy(tile + layout->scales_offset + 2 * (size_t)group, &scale, sizeof scale);
	memcpy(tile + layout->mins_offset + 2 * (size_t)group, &min, sizeof min);
	steps->inverse[group] = scale_f32 > 0 ? 1.0f / scale_f32 : 0.0f;
	steps->min[group] = min_f32;
	return range->smallest >= -HALF_MAX && range->largest <= HALF_MAX && range->spoilt == 0;
}
