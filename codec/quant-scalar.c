/* SPDX-License-Identifier: Apache-2.0 */
/*
 * q8, q6, q4 in portable C: the definition that the vector kernels are tested against. A row at a
 * time is turned into f32, then into one code a byte, then packed; the other way round when
 * decoding.
 */
#include "codec/quant.h"
#include "codec/scalar.h"

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

static struct range range_start(float value)
{
	return (struct range){ value, value, 0.0f };
}

/*
 * Writes scale and min of group g and prepares its codes. False when a value of the group is
 * refused.
 */
static bool group_close(const struct codec_layout *layout, const struct range *range, unsigned bits,
			uint32_t group, uint8_t *tile, struct quant_steps *steps)
{
	/* The additions make -0 a +0, so that the order of comparisons cannot show. */
	const uint16_t min = half_from_f32_rounded(range->smallest + 0.0f, HALF_DOWN);
	const float min_f32 = half_to_f32(min);
	const float extent = range->largest + 0.0f - min_f32;
	const uint16_t scale = half_from_f32_rounded(extent / quant_code_max(bits), HALF_UP);
	const float scale_f32 = half_to_f32(scale);

	memcpy(tile + layout->scales_offset + 2 * (size_t)group, &scale, sizeof scale);
	memcpy(tile + layout->mins_offset + 2 * (size_t)group, &min, sizeof min);
	steps->inverse[group] = scale_f32 > 0 ? 1.0f / scale_f32 : 0.0f;
	steps->min[group] = min_f32;
	return range->smallest >= -HALF_MAX && range->largest <= HALF_MAX && range->spoilt == 0;
}

static inline uint8_t code_of(float value, float min, float inverse, float code_max)
{
	const float steps = (value - min) * inverse;
	/* Also what keeps a code in its bits should the source change during the call. */
	const float bounded = steps > 0 ? steps < code_max ? steps : code_max : 0.0f;

	/* Adding 1.5 * 2^23 leaves the integer, rounded to nearest even, in the low bits. */
	return (uint8_t)half_f32_bits(bounded + 0x1.8p23f);
}

/* Codes, one a byte, to @bits each, dense, lowest first; eight at a time, which is @bits bytes. */
static void row_pack(unsigned bits, const uint8_t *codes, uint32_t count, uint8_t *row)
{
	for (uint32_t i = 0; i < count; i += 8, row += bits) {
		uint64_t word = 0;

		for (unsigned k = 0; k < 8; k++)
			word |= (uint64_t)codes[i + k] << (k * bits);
		memcpy(row, &word, bits);
	}
}

static void row_unpack(unsigned bits, const uint8_t *row, uint32_t count, uint8_t *codes)
{
	const uint64_t mask = (1u << bits) - 1;

	for (uint32_t i = 0; i < count; i += 8, row += bits) {
		uint64_t word = 0;

		memcpy(&word, row, bits);
		for (unsigned k = 0; k < 8; k++)
			codes[i + k] = (uint8_t)(word >> (k * bits) & mask);
	}
}

static inline bool encode_k(unsigned bits, const struct codec_layout *layout,
			    const struct codec_source *src, uint8_t *tile)
{
	const float code_max = quant_code_max(bits);
	struct range range[CODEC_HEAD_DIM_MAX];
	uint8_t codes[CODEC_HEAD_DIM_MAX];
	float row[CODEC_HEAD_DIM_MAX];
	struct quant_steps steps;
	bool ok = true;

	values_load(src->dtype, source_row(src, 0), layout->head_dim, row);
	for (uint32_t c = 0; c < layout->head_dim; c++)
		range[c] = range_start(row[c]);
	for (uint32_t t = 0; t < layout->tokens; t++) {
		values_load(src->dtype, source_row(src, t), layout->head_dim, row);
		for (uint32_t c = 0; c < layout->head_dim; c++)
			range_add(&range[c], row[c]);
	}
	for (uint32_t c = 0; c < layout->head_dim; c++)
		ok &= group_close(layout, &range[c], bits, c, tile, &steps);
	if (!ok)
		return false;

	for (uint32_t t = 0; t < layout->tokens; t++) {
		values_load(src->dtype, source_row(src, t), layout->head_dim, row);
		for (uint32_t c = 0; c < layout->head_dim; c++)
			codes[c] = code_of(row[c], steps.min[c], steps.inverse[c], code_max);
		row_pack(bits, codes, layout->head_dim, tile_row(layout, tile, t));
	}
	return true;
}

static inline bool encode_v(unsigned bits, const struct codec_layout *layout,
			    const struct codec_source *src, uint8_t *tile)
{
	const float code_max = quant_code_max(bits);
	uint8_t codes[CODEC_HEAD_DIM_MAX];
	float row[CODEC_HEAD_DIM_MAX];
	struct quant_steps steps;

	for (uint32_t t = 0; t < layout->tokens; t++) {
		struct range range;

		values_load(src->dtype, source_row(src, t), layout->head_dim, row);
		range = range_start(row[0]);
		for (uint32_t c = 0; c < layout->head_dim; c++)
			range_add(&range, row[c]);
		if (!group_close(layout, &range, bits, t, tile, &steps))
			return false;
		for (uint32_t c = 0; c < layout->head_dim; c++)
			codes[c] = code_of(row[c], steps.min[t], steps.inverse[t], code_max);
		row_pack(bits, codes, layout->head_dim, tile_row(layout, tile, t));
	}
	return true;
}

static void scales_load(const struct codec_layout *layout, const uint8_t *tile,
			struct quant_scales *scales)
{
	for (uint32_t g = 0; g < layout->groups; g++) {
		uint16_t scale, min;

		memcpy(&scale, tile + layout->scales_offset + 2 * (size_t)g, sizeof scale);
		memcpy(&min, tile + layout->mins_offset + 2 * (size_t)g, sizeof min);
		scales->scale[g] = half_to_f32(scale);
		scales->min[g] = half_to_f32(min);
	}
}

static inline void decode(unsigned bits, enum codec_role role, const struct codec_layout *layout,
			  const uint8_t *tile, const struct codec_target *dst)
{
	uint8_t codes[CODEC_HEAD_DIM_MAX];
	float row[CODEC_HEAD_DIM_MAX];
	struct quant_scales scales;

	scales_load(layout, tile, &scales);
	for (uint32_t t = 0; t < layout->tokens; t++) {
		row_unpack(bits, tile_row_const(layout, tile, t), layout->head_dim, codes);
		for (uint32_t c = 0; c < layout->head_dim; c++) {
			const uint32_t group = role == CODEC_ROLE_K ? c : t;

			row[c] = scales.min[group] + (float)codes[c] * scales.scale[group];
		}
		values_store(dst->dtype, row, layout->head_dim, target_row(dst, t));
	}
}

QUANT_KERNELS(8, scalar)
QUANT_KERNELS(6, scalar)
QUANT_KERNELS(4, scalar)
