/* SPDX-License-Identifier: Apache-2.0 */
/* f32, f16, bf16 in portable C, by way of f32. */
#include <math.h>

#include "codec/raw.h"
#include "codec/scalar.h"

static inline bool rows_encode(enum codec_dtype type, const struct codec_layout *layout,
			       const struct codec_source *src, uint8_t *tile)
{
	const float magnitude_max = raw_magnitude_max(type);
	float row[CODEC_HEAD_DIM_MAX];
	bool ok = true;

	for (uint32_t t = 0; t < layout->tokens; t++) {
		values_load(src->dtype, source_row(src, t), layout->head_dim, row);
		for (uint32_t c = 0; c < layout->head_dim; c++)
			ok &= fabsf(row[c]) <= magnitude_max;
		values_store(type, row, layout->head_dim, tile_row(layout, tile, t));
	}
	return ok;
}

static inline void rows_decode(enum codec_dtype type, const struct codec_layout *layout,
			       const uint8_t *tile, const struct codec_target *dst)
{
	float row[CODEC_HEAD_DIM_MAX];

	for (uint32_t t = 0; t < layout->tokens; t++) {
		values_load(type, tile_row_const(layout, tile, t), layout->head_dim, row);
		values_store(dst->dtype, row, layout->head_dim, target_row(dst, t));
	}
}

RAW_KERNELS(f32, CODEC_DTYPE_F32, scalar)
RAW_KERNELS(f16, CODEC_DTYPE_F16, scalar)
RAW_KERNELS(bf16, CODEC_DTYPE_BF16, scalar)
