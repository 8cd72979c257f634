/* SPDX-License-Identifier: Apache-2.0 */
/* Pages to tensors and back; see pagecode.h. */
#include "client/pagecode.h"

#include "codec/codec.h"

/* One tile: where it lies in the page and in the tensors. */
struct tile_place {
	enum codec_role role;
	uint32_t codec;
	uint32_t head_dim;
	uint32_t layer; /* of the model */
	uint32_t head;  /* of the model */
	uint32_t offset;
};

static struct tile_place tile_place(const struct kvc_space *space, uint32_t tokens, uint32_t index, uint32_t head,
				    enum codec_role role)
{
	const struct page_schema *geometry = &space->geometry;
	bool value = role == CODEC_ROLE_V;
	struct tile_place place = {
		.role = role,
		.codec = value ? geometry->codec_v : geometry->codec_k,
		.head_dim = value ? geometry->head_dim_v : geometry->head_dim_k,
		.layer = index / space->head_groups,
		.head = index % space->head_groups * geometry->page_heads + head,
	};
	struct page_sizes sizes = space_page_sizes(space, tokens);
	uint32_t bytes;

	page_tile(&sizes, head, value, &place.offset, &bytes);
	return place;
}

static int tile_encode(const struct range *range, const struct kvc_tensor *tensor, uint32_t tokens,
		       const struct tile_place *place, uint8_t *page, struct kvc_fault *ret_fault)
{
	const void *src = tensor_rows(tensor, place->layer - range->layer_begin, place->head - range->head_begin);
	struct codec_fault fault;
	int r = codec_encode(place->codec, place->role, tokens, place->head_dim, src, tensor->dtype,
			     tensor->stride_token, page + place->offset, &fault);

	if (r == 0)
		return KVC_OK;
	*ret_fault = (struct kvc_fault){
		.tensor = place->role == CODEC_ROLE_V ? 'V' : 'K',
		.layer = place->layer,
		.head = place->head,
		.token = fault.token,
		.channel = fault.channel,
	};
	return r == CODEC_NONFINITE ? KVC_NONFINITE : KVC_VALUE_RANGE;
}

int page_encode(const struct kvc_space *space, const struct range *range, const struct kvc_append *block,
		uint32_t index, uint8_t *dst, struct kvc_fault *ret_fault)
{
	for (uint32_t head = 0; head < space->geometry.page_heads; head++) {
		struct tile_place k = tile_place(space, block->tokens, index, head, CODEC_ROLE_K);
		struct tile_place v = tile_place(space, block->tokens, index, head, CODEC_ROLE_V);
		int r = tile_encode(range, &block->k, block->tokens, &k, dst, ret_fault);

		if (r == KVC_OK && v.head_dim > 0)
			r = tile_encode(range, &block->v, block->tokens, &v, dst, ret_fault);
		if (r != KVC_OK)
			return r;
	}
	return KVC_OK;
}

static void tile_decode(const struct range *range, const struct kvc_tensor *tensor, uint32_t tokens,
			const struct tile_place *place, const uint8_t *page)
{
	void *dst;

	if (!tensor->data || place->head_dim == 0)
		return;
	dst = tensor_rows(tensor, place->layer - range->layer_begin, place->head - range->head_begin);
	codec_decode(place->codec, place->role, tokens, place->head_dim, page + place->offset, dst, tensor->dtype,
		     tensor->stride_token);
}

void page_decode(const struct kvc_space *space, const struct range *range, uint32_t tokens, uint32_t index,
		 const uint8_t *src, const struct kvc_tensor *k, const struct kvc_tensor *v)
{
	for (uint32_t head = 0; head < space->geometry.page_heads; head++) {
		struct tile_place place = tile_place(space, tokens, index, head, CODEC_ROLE_K);

		tile_decode(range, k, tokens, &place, src);
		place = tile_place(space, tokens, index, head, CODEC_ROLE_V);
		tile_decode(range, v, tokens, &place, src);
	}
}
