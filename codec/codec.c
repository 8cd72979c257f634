/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front of the codecs: checks the caller's contract, hands the tile to a kernel, and names the
 * position of a value that the kernel refused. Kernels only notice that there is such a value; the
 * search is here, once, and off the fast path.
 */
#include "codec/codec.h"

#include <math.h>
#include <string.h>

#include "base/contract.h"
#include "codec/half.h"
#include "codec/kernel.h"

static float source_value(const struct codec_source *src, uint32_t token, uint32_t channel)
{
	const uint8_t *value =
		source_row(src, token) + (size_t)channel * codec_dtype_bytes(src->dtype);
	uint16_t half;
	float single;

	if (src->dtype == CODEC_DTYPE_F32) {
		memcpy(&single, value, sizeof single);
		return single;
	}
	memcpy(&half, value, sizeof half);
	return src->dtype == CODEC_DTYPE_F16 ? half_to_f32(half) : bf16_to_f32(half);
}

/*
 * The first value in token-major order that is refused. When there is none any more, because the
 * source changed meanwhile, the answer is CODEC_NONFINITE at (0, 0): the tile is not usable either
 * way.
 */
static int fault_find(const struct codec_layout *layout, const struct codec_source *src,
		      float magnitude_max, struct codec_fault *ret_fault)
{
	for (uint32_t token = 0; token < layout->tokens; token++) {
		for (uint32_t channel = 0; channel < layout->head_dim; channel++) {
			const float value = source_value(src, token, channel);

			if (fabsf(value) <= magnitude_max)
				continue;
			*ret_fault = (struct codec_fault){ .token = token, .channel = channel };
			return isfinite(value) ? CODEC_RANGE : CODEC_NONFINITE;
		}
	}
	*ret_fault = (struct codec_fault){ 0 };
	return CODEC_NONFINITE;
}

int codec_isa_encode(const struct codec_isa *isa, enum codec_id id, enum codec_role role,
		     uint32_t tokens, uint32_t head_dim, const void *src, enum codec_dtype dtype,
		     ptrdiff_t stride_token_elements, void *dst_tile, struct codec_fault *ret_fault)
{
	const ptrdiff_t value_bytes = codec_dtype_bytes(dtype);
	const struct codec_source source = { src, stride_token_elements * value_bytes, dtype };
	struct codec_fault fault;
	struct codec_layout layout;
	bool known;
	int r;

	kvp_assert(value_bytes > 0);
	if (head_dim == 0)
		return 0;
	known = codec_layout_of(id, role, tokens, head_dim, &layout);
	kvp_assert(known);

	const enum codec_index index = codec_index_of(id);

	if (isa->ops[index][role].encode(&layout, &source, dst_tile))
		return 0;
	r = fault_find(&layout, &source, codec_formats[index].magnitude_max, &fault);
	if (ret_fault)
		*ret_fault = fault;
	return r;
}

void codec_isa_decode(const struct codec_isa *isa, enum codec_id id, enum codec_role role,
		      uint32_t tokens, uint32_t head_dim, const void *tile, void *dst,
		      enum codec_dtype dtype, ptrdiff_t stride_token_elements)
{
	const ptrdiff_t value_bytes = codec_dtype_bytes(dtype);
	const struct codec_target target = { dst, stride_token_elements * value_bytes, dtype };
	struct codec_layout layout;
	bool known;

	kvp_assert(value_bytes > 0);
	if (head_dim == 0)
		return;
	known = codec_layout_of(id, role, tokens, head_dim, &layout);
	kvp_assert(known);

	isa->ops[codec_index_of(id)][role].decode(&layout, tile, &target);
}
