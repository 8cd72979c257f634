/* SPDX-License-Identifier: Apache-2.0 */
/* Append planning; see plan.h. */
#include "client/plan.h"

#include "base/checked.h"
#include "client/client.h"
#include "client/keys.h"
#include "client/lookup.h"
#include "client/staging.h"

#include <errno.h>

static const char *fields_check(const struct kvc_space *space, const struct kvc_append *block)
{
	const char *wrong;

	if (!key_valid(&block->key))
		return "the key must have 1..64 bytes";
	if (!key_valid_parent(&block->parent))
		return "the parent must have at most 64 bytes";
	if (!block->k.data)
		return "k has no data";
	wrong = tensor_check(&block->k, space->geometry.head_dim_k, false);
	if (wrong || space->geometry.head_dim_v == 0)
		return wrong;
	return block->v.data ? tensor_check(&block->v, space->geometry.head_dim_v, false) : "v has no data";
}

static int block_check(const struct kvc_space *space, const struct kvc_append *block, struct range *ret_range)
{
	struct words *words = &space->client->words;
	const char *wrong = fields_check(space, block);

	if (wrong) {
		words_set(words, "%s", wrong);
		return KVC_INVALID;
	}
	if (block->tokens == 0 || block->tokens > space->geometry.block_tokens) {
		words_set(words, "tokens must be 1..%u, not %u", space->geometry.block_tokens, block->tokens);
		return KVC_RANGE;
	}
	wrong = range_resolve(space, &block->range, ret_range);
	if (wrong)
		words_set(words, "%s", wrong);
	return wrong ? KVC_RANGE : KVC_OK;
}

/* The block if it is resident with the same tokens and parent; otherwise the daemon shall say what is wrong. */
static bool resident_find(const struct kvc_space *space, const struct kvc_append *block, struct block_view *view)
{
	const struct arena_layout *arena = &space->client->connection.arena->layout;
	uint64_t parent_hash = 0;

	if (block->parent.n > 0)
		parent_hash = kvp_key_hash(arena->hash_seed, space->id, block->parent.bytes, block->parent.n);
	return block_view_find(arena, space->id, block->key.bytes, block->key.n, view) == 0 &&
	       view->tokens == block->tokens && view->parent_hash == parent_hash &&
	       view->page_count == space->page_count;
}

/* Lists the pages of the range that the view (NULL: none) lacks. */
static void pages_list(struct append_plan *plan, const struct kvc_space *space, const struct block_view *view)
{
	const struct arena_layout *arena = &space->client->connection.arena->layout;
	uint32_t total = range_pages(space, &plan->range);

	plan->n = 0;
	for (uint32_t i = 0; i < total; i++) {
		uint32_t index = range_page_index(space, &plan->range, i);

		if (!view || !block_view_page(arena, view, index, plan->page_bytes))
			plan->pages[plan->n++] = index;
	}
	plan->present = total - plan->n;
}

int append_plan_init(struct append_plan *plan, const struct kvc_space *space, const struct kvc_append *block)
{
	struct block_view view;
	int r = block_check(space, block, &plan->range);

	if (r != KVC_OK)
		return r;
	plan->pages = calloc(range_pages(space, &plan->range), sizeof(*plan->pages));
	if (!plan->pages)
		return -ENOMEM;
	plan->page_bytes = space_page_sizes(space, block->tokens).page;
	plan->stride_bytes = (uint32_t)align_up_u64(plan->page_bytes, STAGING_ALIGN);
	if (resident_find(space, block, &view)) {
		pages_list(plan, space, &view);
		if (block_view_stands(&view))
			return KVC_OK;
	}
	pages_list(plan, space, NULL);
	return KVC_OK;
}
