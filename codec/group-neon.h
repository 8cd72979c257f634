/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NEON: ranges of groups, four channels at a time, and their scales. Scales and mins are made one
 * by one in portable C: rounding up and down is no instruction without changing the processor's
 * mode, and there is one group for many values.
 */
#pragma once

#include "codec/group-scalar.h"
#include "codec/vec-neon.h"

#define STRIP_VECTORS 4u /* channels of K whose ranges are kept in registers, in vectors */

/* Of four groups, or of the parts of one. */
struct ranges {
	float32x4_t smallest;
	float32x4_t largest;
	float32x4_t spoilt; /* NaN where a value was NaN or infinite */
};

VEC_INLINE struct ranges ranges_start(float32x4_t vector)
{
	return (struct ranges){ vector, vector, vdupq_n_f32(0) };
}

VEC_INLINE void ranges_add(struct ranges *ranges, float32x4_t vector)
{
	ranges->smallest = vminq_f32(ranges->smallest, vector);
	ranges->largest = vmaxq_f32(ranges->largest, vector);
	ranges->spoilt = vfmaq_f32(ranges->spoilt, vector, vdupq_n_f32(0));
}

/* As one group. */
VEC_INLINE struct range ranges_join(const struct ranges *ranges)
{
	return (struct range){ vminvq_f32(ranges->smallest), vmaxvq_f32(ranges->largest),
			       vaddvq_f32(ranges->spoilt) };
}

/* Each a group of its own: four channels of K from @channel on. */
VEC_INLINE bool ranges_close(const struct codec_layout *layout, const struct ranges *ranges,
			     float steps_max, uint32_t channel, uint8_t *tile,
			     struct quant_steps *steps)
{
	float smallest[VEC_LANES], largest[VEC_LANES], spoilt[VEC_LANES];
	bool ok = true;

	vst1q_f32(smallest, ranges->smallest);
	vst1q_f32(largest, ranges->largest);
	vst1q_f32(spoilt, ranges->spoilt);
	for (unsigned i = 0; i < VEC_LANES; i++) {
		const struct range range = { smallest[i], largest[i], spoilt[i] };

		ok &= group_close(layout, &range, steps_max, channel + i, tile, steps);
	}
	return ok;
}

/* Scales and mins of @vectors times four channels of K from @channel on. */
VEC_INLINE bool strip_close(enum codec_dtype dtype, float steps_max,
			    const struct codec_layout *layout, const struct codec_source *src,
			    uint32_t channel, unsigned vectors, uint8_t *tile,
			    struct quant_steps *steps)
{
	struct ranges ranges[STRIP_VECTORS];
	bool ok = true;

#pragma GCC unroll 4
	for (unsigned j = 0; j < vectors; j++) {
		const size_t offset = (size_t)(channel + VEC_LANES * j) * value_bytes(dtype);

		ranges[j] = ranges_start(vec_load(dtype, source_row(src, 0) + offset));
	}
	for (uint32_t t = 0; t < layout->tokens; t++) {
		const uint8_t *values = source_row(src, t) + (size_t)channel * value_bytes(dtype);

#pragma GCC unroll 4
		for (unsigned j = 0; j < vectors; j++)
			ranges_add(&ranges[j],
				   vec_load(dtype, values + VEC_LANES * j * value_bytes(dtype)));
	}
#pragma GCC unroll 4
	for (unsigned j = 0; j < vectors; j++)
		ok &= ranges_close(layout, &ranges[j], steps_max, channel + VEC_LANES * j, tile,
				   steps);
	return ok;
}

/* Scales and mins of K. False when a value is refused. */
VEC_INLINE bool channels_close(enum codec_dtype dtype, float steps_max,
			       const struct codec_layout *layout, const struct codec_source *src,
			       uint8_t *tile, struct quant_steps *steps)
{
	const uint32_t strip = STRIP_VECTORS * VEC_LANES;
	uint32_t c = 0;
	bool ok = true;

	for (; c + strip <= layout->head_dim; c += strip)
		ok &= strip_close(dtype, steps_max, layout, src, c, STRIP_VECTORS, tile, steps);
	for (; c < layout->head_dim; c += VEC_LANES)
		ok &= strip_close(dtype, steps_max, layout, src, c, 1, tile, steps);
	return ok;
}

/* The range of @count channels of one token from @channel on. */
VEC_INLINE struct range token_range(enum codec_dtype dtype, const struct codec_source *src,
				    uint32_t token, uint32_t channel, uint32_t count)
{
	const uint8_t *values = source_row(src, token) + (size_t)channel * value_bytes(dtype);
	struct ranges ranges = ranges_start(vec_load(dtype, values));

	for (uint32_t c = 0; c < count; c += VEC_LANES)
		ranges_add(&ranges, vec_load(dtype, values + (size_t)c * value_bytes(dtype)));
	return ranges_join(&ranges);
}

/* @count f16 as f32. Not a byte more is read. */
VEC_INLINE void halves_load(const uint8_t *halves, uint32_t count, float *values)
{
	uint32_t i = 0;

	for (; i + VEC_LANES <= count; i += VEC_LANES)
		vst1q_f32(values + i, vec_load(CODEC_DTYPE_F16, halves + 2 * (size_t)i));
	for (; i < count; i++) {
		uint16_t half;

		memcpy(&half, halves + 2 * (size_t)i, sizeof half);
		values[i] = half_to_f32(half);
	}
}

/* Scales and mins of all f16 groups. */
VEC_INLINE void scales_load(const struct codec_layout *layout, const uint8_t *tile,
			    struct quant_scales *scales)
{
	halves_load(tile + layout->scales_offset, layout->groups, scales->scale);
	halves_load(tile + layout->mins_offset, layout->groups, scales->min);
}
