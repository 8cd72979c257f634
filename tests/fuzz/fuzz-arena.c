/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client library's reading of an arena in which any words are wrong. Whatever it says: nothing outside of the
 * mapping is touched, no look-up runs without end, and pages that are handed out lie within it.
 *
 * Input: words to change, between which blocks are looked for by key and by number and the statistics are read.
 */
#include "client/arena.h"
#include "client/look.h"
#include "client/lookup.h"
#include "tests/fuzz/arena-model.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/contract.h"

#define STEPS_MAX 64u
#define GUARD_BYTES 65536u

/* The arena as a client maps it, between memory that nobody may touch. */
static const uint8_t *mapping(void)
{
	static uint8_t *base;
	uint8_t *room;

	if (base)
		return base;
	room = mmap(NULL, KVP_ARENA_BYTES_MIN + (size_t)2 * GUARD_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	kvp_assert(room != MAP_FAILED);
	base = mmap(room + GUARD_BYTES, KVP_ARENA_BYTES_MIN, PROT_READ, MAP_SHARED | MAP_FIXED, model_fd(), 0);
	kvp_assert(base == room + GUARD_BYTES);
	return base;
}

static void view_check(const struct arena_layout *layout, const struct block_view *view)
{
	kvp_assert(view->number >= 1 && view->number <= layout->blocks_count);
	kvp_assert(view->page_count >= 1 && view->tokens >= 1);
	for (uint32_t i = 0; i < view->page_count; i++) {
		const uint8_t *page = block_view_page(layout, view, i, MODEL_PAGE_BYTES);

		if (!page)
			continue;
		kvp_assert(page >= layout->base && page + MODEL_PAGE_BYTES <= layout->base + layout->bytes);
		(void)kvp_page_checksum(page, MODEL_PAGE_BYTES);
	}
	(void)block_view_stands(view);
}

static void blocks_check(const struct arena_layout *layout, struct take *take)
{
	uint32_t number = (uint32_t)take_number(take);
	struct block_view view;
	int r;

	for (unsigned i = 0; model_keys[i]; i++) {
		r = block_view_find(layout, 1, &model_keys[i], 1, &view);
		kvp_assert(r == 0 || r == KVC_MISS);
		if (r == 0)
			view_check(layout, &view);
	}
	r = block_view_at(layout, number, 2, &view);
	kvp_assert(r == 0 || r == KVC_STALE || r == -EPROTO);
	if (r == 0)
		view_check(layout, &view);
}

static void statistics_check(const struct arena_layout *layout)
{
	struct kvc_stats *stats = NULL;
	int r = look_snapshot(layout, "0.1.0", &stats);

	kvp_assert(r == 0 || r == KVC_UNSUPPORTED);
	if (r != 0)
		return;
	kvp_assert(stats->n_spaces <= KVP_SPACES_MAX);
	for (size_t i = 0; i < stats->n_spaces; i++) {
		kvp_assert(strlen(stats->spaces[i].name) <= KVP_NAME_BYTES_MAX);
		kvp_assert(strlen(stats->spaces[i].schema.model) <= KVP_MODEL_BYTES_MAX);
	}
	(void)kvc_stats_free(stats);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct take take = { .bytes = data, .left = size };
	const uint8_t *base = mapping();
	struct arena_layout layout = { 0 };
	bool open = false;

	for (unsigned steps = 0; take.left > 0 && steps < STEPS_MAX; steps++) {
		switch (take_below(&take, 8)) {
		case 0: /* the layout was read before what follows changed */
			open = arena_layout_read(base, KVP_ARENA_BYTES_MIN, &layout) == NULL;
			break;
		case 1:
			if (open)
				blocks_check(&layout, &take);
			break;
		case 2:
			if (open)
				statistics_check(&layout);
			break;
		default:
			model_spoil(&take);
			break;
		}
	}
	model_restore();
	return 0;
}
