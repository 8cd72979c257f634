/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of a codec without touching data: its name, its numbers, and where the parts of a
 * tile lie. All sizes fit easily: the largest tile, f32 of 256 x 256, has 262144 bytes.
 */
#include <string.h>

#include "codec/half.h"
#include "codec/kernel.h"

#define GROUP_PARAMETER_BYTES 2u /* scale and min are f16 */

const struct codec_format codec_formats[CODEC_INDEX_COUNT] = {
	[CODEC_INDEX_F32] = { CODEC_F32, "f32", 32, CODEC_DTYPE_F32, __FLT_MAX__, false, 0 },
	[CODEC_INDEX_F16] = { CODEC_F16, "f16", 16, CODEC_DTYPE_F16, HALF_MAX, false, 0 },
	[CODEC_INDEX_BF16] = { CODEC_BF16, "bf16", 16, CODEC_DTYPE_BF16, BF16_MAX, false, 0 },
	[CODEC_INDEX_Q8] = { CODEC_Q8, "q8", 8, 0, HALF_MAX, false, 0 },
	[CODEC_INDEX_Q6] = { CODEC_Q6, "q6", 6, 0, HALF_MAX, false, 0 },
	[CODEC_INDEX_Q5] = { CODEC_Q5, "q5", 5, 0, HALF_MAX, false, 0 },
	[CODEC_INDEX_Q4] = { CODEC_Q4, "q4", 4, 0, HALF_MAX, false, 0 },
	[CODEC_INDEX_T8] = { CODEC_T8, "t8", 8, 0, HALF_MAX, true, 0 },
	[CODEC_INDEX_T6] = { CODEC_T6, "t6", 6, 0, HALF_MAX, true, 0 },
	[CODEC_INDEX_T5] = { CODEC_T5, "t5", 5, 0, HALF_MAX, true, 0 },
	[CODEC_INDEX_T4] = { CODEC_T4, "t4", 4, 0, HALF_MAX, true, 0 },
	[CODEC_INDEX_T8G32] = { CODEC_T8G32, "t8g32", 8, 0, HALF_MAX, true, 32 },
	[CODEC_INDEX_T6G32] = { CODEC_T6G32, "t6g32", 6, 0, HALF_MAX, true, 32 },
	[CODEC_INDEX_T5G32] = { CODEC_T5G32, "t5g32", 5, 0, HALF_MAX, true, 32 },
	[CODEC_INDEX_T4G32] = { CODEC_T4G32, "t4g32", 4, 0, HALF_MAX, true, 32 },
	[CODEC_INDEX_T8G16] = { CODEC_T8G16, "t8g16", 8, 0, HALF_MAX, true, 16 },
	[CODEC_INDEX_T6G16] = { CODEC_T6G16, "t6g16", 6, 0, HALF_MAX, true, 16 },
	[CODEC_INDEX_T5G16] = { CODEC_T5G16, "t5g16", 5, 0, HALF_MAX, true, 16 },
	[CODEC_INDEX_T4G16] = { CODEC_T4G16, "t4g16", 4, 0, HALF_MAX, true, 16 },
};

enum codec_index codec_index_of(uint32_t id)
{
	enum codec_index index = 0;

	while (index < CODEC_INDEX_COUNT && codec_formats[index].id != id)
		index++;
	return index;
}

bool codec_valid(uint32_t id)
{
	return codec_index_of(id) < CODEC_INDEX_COUNT;
}

const char *codec_name(uint32_t id)
{
	const enum codec_index index = codec_index_of(id);

	return index < CODEC_INDEX_COUNT ? codec_formats[index].name : NULL;
}

bool codec_from_name(const char *name, enum codec_id *ret_id)
{
	for (unsigned i = 0; i < CODEC_INDEX_COUNT; i++) {
		if (strcmp(codec_formats[i].name, name) == 0) {
			*ret_id = codec_formats[i].id;
			return true;
		}
	}
	return false;
}

uint32_t codec_dtype_bytes(uint32_t dtype)
{
	switch (dtype) {
	case CODEC_DTYPE_F32:
		return 4;
	case CODEC_DTYPE_F16:
	case CODEC_DTYPE_BF16:
		return 2;
	default:
		return 0;
	}
}

bool codec_layout_of(uint32_t id, uint32_t role, uint32_t tokens, uint32_t head_dim,
		     struct codec_layout *ret_layout)
{
	const enum codec_index index = codec_index_of(id);

	if (index == CODEC_INDEX_COUNT || role >= CODEC_ROLE_COUNT)
		return false;
	if (tokens == 0 || tokens > CODEC_TOKENS_MAX)
		return false;
	if (head_dim == 0 || head_dim > CODEC_HEAD_DIM_MAX || head_dim % CODEC_HEAD_DIM_MULTIPLE)
		return false;

	const struct codec_format *format = &codec_formats[index];
	const uint32_t row_bytes = head_dim / 8 * format->bits;
	const uint32_t scale_channels = role == CODEC_ROLE_V ? format->scale_channels : 0;
	const uint32_t token_scales =
		scale_channels ? (head_dim + scale_channels - 1) / scale_channels : 0;
	const uint32_t groups = format->raw || scale_channels ? 0
				: role == CODEC_ROLE_K	      ? head_dim
							      : tokens;
	const uint32_t scales_offset = tokens * row_bytes;
	const uint32_t mins_offset =
		scales_offset + groups * GROUP_PARAMETER_BYTES + tokens * token_scales;

	*ret_layout = (struct codec_layout){
		.tokens = tokens,
		.head_dim = head_dim,
		.row_bytes = row_bytes,
		.groups = groups,
		.scales_offset = scales_offset,
		.mins_offset = mins_offset,
		.scale_channels = scale_channels,
		.token_scales = token_scales,
		.tile_bytes = mins_offset + groups * GROUP_PARAMETER_BYTES,
	};
	return true;
}

uint32_t codec_tile_bytes(uint32_t id, uint32_t role, uint32_t tokens, uint32_t head_dim)
{
	struct codec_layout layout;

	return codec_layout_of(id, role, tokens, head_dim, &layout) ? layout.tile_bytes : 0;
}
