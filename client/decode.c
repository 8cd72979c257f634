/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks to tensors; see decode.h. */
#include "client/decode.h"

#include "client/client.h"
#include "client/pagecode.h"

int block_decode(const struct kvc_space *space, const struct arena_layout *arena, const struct range *range,
		 const struct block_view *view, struct kvc_fetch *block)
{
	uint32_t bytes = space_page_sizes(space, view->tokens).page;
	uint32_t total = range_pages(space, range);
	int r = KVC_OK;

	for (uint32_t i = 0; i < total && r == KVC_OK; i++) {
		uint32_t index = range_page_index(space, range, i);
		const uint8_t *page = block_view_page(arena, view, index, bytes);

		if (!page)
			r = KVC_PARTIAL;
		else if (!verify_page(&space->client->verify, arena, view, index, page, bytes))
			r = KVC_CORRUPT;
		else
			page_decode(space, range, view->tokens, index, page, &block->k, &block->v);
	}
	if (!block_view_stands(view))
		return KVC_STALE;
	if (r == KVC_OK)
		block->tokens = view->tokens;
	return r;
}
