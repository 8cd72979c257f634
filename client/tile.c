/* SPDX-License-Identifier: Apache-2.0 */
/* Reading pinned blocks in place: no lock, no daemon; see block.h. */
#include "client/block.h"
#include "client/client.h"
#include "client/clock.h"
#include "client/reader.h"
#include "client/tensor.h"
#include "codec/codec.h"

#include <errno.h>

uint32_t kvc_block_tokens(const kvc_block *block)
{
	return block ? block->view.tokens : 0;
}

int kvc_block_check(const kvc_block *block)
{
	if (!block)
		return -EINVAL;
	/* The generation first: it stands for the reads before this call, the rest only for the lease. */
	if (block->record)
		reader_beat(block->record);
	if (!block_view_stands(&block->view))
		return KVC_STALE;
	if (block->record)
		return KVC_OK;
	if (!arena_session_stands(block->arena))
		return KVC_STALE;
	return clock_now_ns(CLOCK_BOOTTIME) < block->lease_end_ns ? KVC_OK : KVC_STALE;
}

int kvc_block_tile(const kvc_block *block, char which, uint32_t layer, uint32_t head, struct kvc_tile *ret_tile)
{
	const struct page_schema *geometry;
	bool value = which == 'V';
	const uint8_t *page;
	uint32_t index, offset, bytes;
	bool intact;

	if (!block || !ret_tile)
		return -EINVAL;
	geometry = &block->geometry;
	if ((!value && which != 'K') || (value && geometry->head_dim_v == 0))
		return KVC_INVALID;
	if (layer >= geometry->layers || head >= geometry->kv_heads)
		return KVC_RANGE;
	index = layer * block->head_groups + head / geometry->page_heads;
	page = block_view_page(&block->arena->layout, &block->view, index, block->sizes.page);
	intact = page && verify_page(&block->client->verify, &block->arena->layout, &block->view, index, page,
				     block->sizes.page);
	if (kvc_block_check(block) != KVC_OK)
		return KVC_STALE;
	if (!page)
		return KVC_PARTIAL;
	if (!intact)
		return KVC_CORRUPT;
	page_tile(&block->sizes, head % geometry->page_heads, value, &offset, &bytes);
	*ret_tile = (struct kvc_tile){
		.bytes = page + offset,
		.n = bytes,
		.codec = value ? geometry->codec_v : geometry->codec_k,
		.tokens = block->view.tokens,
		.head_dim = value ? geometry->head_dim_v : geometry->head_dim_k,
	};
	return KVC_OK;
}

int kvc_tile_decode(const struct kvc_tile *tile, char which, void *data, uint32_t dtype, int64_t stride_token)
{
	enum codec_role role = which == 'V' ? CODEC_ROLE_V : CODEC_ROLE_K;
	struct kvc_tensor tensor = { .data = data, .dtype = dtype, .stride_token = stride_token };
	uint32_t bytes;

	if (!tile || !tile->bytes || !data || (which != 'K' && which != 'V'))
		return KVC_INVALID;
	bytes = codec_tile_bytes(tile->codec, role, tile->tokens, tile->head_dim);
	if (bytes == 0 || bytes != tile->n || tensor_check(&tensor, tile->head_dim, true))
		return KVC_INVALID;
	codec_decode(tile->codec, role, tile->tokens, tile->head_dim, tile->bytes, data, dtype, stride_token);
	return KVC_OK;
}
