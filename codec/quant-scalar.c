/* SPDX-License-Identifier: Apache-2.0 */
/*
 * q8, q6, q5, q4 in portable C: the definition that the vector kernels are tested against. A row at a
 * time is turned into f32, then into one code a byte, then packed; the other way round when
 * decoding.
 */
#include "codec/group-scalar.h"
#include "codec/rows-scalar.h"
#include "codec/scalar.h"

static inline uint8_t code_of(float value, float min, float inverse, float code_max)
{
	const float steps = (value - min) * inverse;
	/* Also what keeps a code in its bits should the source change during the call. */
	const float bounded = steps > 0 ? steps < code_max ? steps : code_max : 0.0f;

	/* Adding 1.5 * 2^23 leaves the integer, rounded to nearest even, in the low bits. */
	return (uint8_t)half_f32_bits(bounded + 0x1.8p23f);
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
		ok &= group_close(layout, &range[c], code_max, c, tile, &steps);
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
		if (!group_close(layout, &range, code_max, t, tile, &steps))
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
	for (uint32_t g = 0; g < layout->groups; g++)
		group_read(layout, tile, g, &scales->scale[g], &scales->min[g]);
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
QUANT_KERNELS(5, scalar)
QUANT_KERNELS(4, scalar)
