/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pinning; see reader.h. The order that makes it safe, the daemon's half being in daemon/core/hazard.c:
 *
 *	reader: hazard = number; full fence; generation is even -> the block is pinned
 *	daemon: generation odd;  full fence; no hazard names it -> its memory is used again
 *
 * One of the two sees the other. Only then the descriptor is read: while the block is pinned nothing in it, and nothing
 * that it leads to, can change.
 */
#include "client/reader.h"

#include "base/contract.h"
#include "client/client.h"
#include "client/forks.h"
#include "client/space.h"

#include <errno.h>

/* Finds the block and names it in the hazard; without one the hazard is clear. Results: KVC_OK, KVC_MISS. */
static int key_pin(struct kvc_reader *reader, uint32_t space_id, const struct kvc_key *key, unsigned at,
		   struct block_view *view)
{
	const struct arena_layout *arena = &reader->arena->layout;
	uint64_t hash = kvp_key_hash(arena->hash_seed, space_id, key->bytes, key->n);
	struct candidates candidates = candidates_of(arena, hash);
	struct kvp_record *record = reader->room->shared;
	uint32_t number;

	while ((number = candidates_next(&candidates))) {
		descriptor_ask(arena, number);
		hazard_set(record, at, number);
		if (block_view_match(arena, number, hash, space_id, key->bytes, key->n, true, view) == 0)
			return KVC_OK;
		hazard_clear(record, at);
	}
	return KVC_MISS;
}

/* Whether every page in range is there. page_count is the space's. */
static bool pages_ready(const struct kvc_space *space, const struct range *range, const struct block_view *view)
{
	uint32_t total;

	if (view->page_count != space->page_count)
		return false;
	if (atomic_load_explicit(&view->descriptor->pages_ready, memory_order_acquire) == view->page_count)
		return true;
	total = range_pages(space, range);
	for (uint32_t i = 0; i < total; i++) {
		const struct kvp_page *page = &view->map[range_page_index(space, range, i)];

		if (!(atomic_load_explicit(&page->flags, memory_order_acquire) & KVP_PAGE_READY))
			return false;
	}
	return true;
}

static void miss_note(struct kvp_record *record)
{
	uint32_t misses = atomic_load_explicit(&record->misses, memory_order_relaxed);

	atomic_store_explicit(&record->misses, misses + 1, memory_order_relaxed);
}

/* Why the space cannot be used; -EAGAIN: it can again, somebody's wish to drop it was refused. */
static int space_lost(const struct kvc_space *space)
{
	int r = reader_space_refuse(space);

	return r == KVC_OK ? -EAGAIN : r;
}

/*
 * Pins the block by hazard `at` of the record with room, and looks at it there: the view is made in its place. The
 * space's number is read before, and whether it still means this space is asked after the block was found: numbers are
 * given anew only when a session is over, or when this client dropped the space. Results as reader_pin()'s; -EAGAIN: it
 * is to be tried again, in another session perhaps.
 */
static int place_pin(struct kvc_reader *reader, const struct kvc_space *space, const struct kvc_key *key,
		     const struct range *range, unsigned at)
{
	struct kvp_record *record = reader->room->shared;
	struct block_view *view = &reader->room->blocks[at].view;
	int r = key_pin(reader, space_id(space), key, at, view);

	reader_beat(reader->room);
	if (r != KVC_OK && !reader_stands(reader))
		return -EAGAIN; /* a process that takes the arena over empties the index for a moment */
	if (r != KVC_OK) {
		miss_note(record);
		return r;
	}
	if (!reader_stands(reader))
		r = -EAGAIN;
	else if (space_broken(space) != KVC_OK)
		r = space_lost(space);
	else if (view->tokens > space->geometry.block_tokens || !pages_ready(space, range, view))
		r = KVC_PARTIAL;
	if (r != KVC_OK)
		hazard_clear(record, at);
	return r;
}

/* Results as reader_pin()'s, and the hazard of the record with room. */
static int anywhere_pin(struct kvc_reader *reader, const struct kvc_space *space, const struct kvc_key *key,
			const struct range *range, unsigned *ret_at)
{
	int r;

	do {
		r = reader_ready(reader);
		if (r != KVC_OK)
			return r;
		*ret_at = (unsigned)__builtin_ctz(reader->room->free);
		r = place_pin(reader, space, key, range, *ret_at);
	} while (r == -EAGAIN);
	return r;
}

static bool has_first_page(const struct kvc_space *space, const struct range *range)
{
	return range->layer_begin == 0 && range->head_begin < space->geometry.page_heads;
}

static void touch(struct kvp_record *record, uint32_t number)
{
	uint32_t touches = atomic_load_explicit(&record->touches, memory_order_relaxed);

	atomic_store_explicit(&record->touched[touches % KVP_TOUCHES], number, memory_order_relaxed);
	atomic_store_explicit(&record->touches, touches + 1, memory_order_release);
}

static void touch_aside(struct kvp_record *record, uint32_t number)
{
	uint32_t asides = atomic_load_explicit(&record->asides, memory_order_relaxed);

	atomic_store_explicit(&record->asides, asides + 1, memory_order_relaxed);
	touch(record, number | KVP_TOUCH_ASIDE);
}

/* Pins and lets go at once; whether eviction hears of it is tell. */
static int look(struct kvc_reader *reader, const struct kvc_space *space, const struct kvc_key *key,
		const struct range *range, bool tell)
{
	unsigned at;
	int r = anywhere_pin(reader, space, key, range, &at);

	if (r != KVC_OK)
		return r;
	if (tell)
		touch_aside(reader->room->shared, reader->room->blocks[at].view.number);
	hazard_clear(reader->room->shared, at);
	return KVC_OK;
}

int reader_find(struct kvc_reader *reader, const struct kvc_space *space, const struct kvc_key *key,
		const struct range *range)
{
	return look(reader, space, key, range, false);
}

int reader_meet(struct kvc_reader *reader, const struct kvc_space *space, const struct kvc_key *key,
		const struct range *range)
{
	return look(reader, space, key, range, true);
}

int reader_pin(struct kvc_reader *reader, const struct kvc_space *space, const struct kvc_key *key,
	       const struct range *range, struct kvc_block **ret_block)
{
	struct reader_record *record;
	struct kvc_block *block;
	unsigned at;
	int r = anywhere_pin(reader, space, key, range, &at);

	if (r != KVC_OK)
		return r;
	record = reader->room;
	block = &record->blocks[at];
	if (has_first_page(space, range))
		touch(record->shared, block->view.number);
	else
		touch_aside(record->shared, block->view.number);
	block->client = reader->client;
	block->arena = record->arena;
	block->record = record;
	block->hazard = at;
	block->geometry = space->geometry;
	block->head_groups = space->head_groups;
	block->sizes = space_page_sizes(space, block->view.tokens);
	record->free &= ~(UINT32_C(1) << at);
	if (!record->free)
		reader->room = NULL;
	*ret_block = block;
	return KVC_OK;
}

void reader_unpin(struct kvc_block *block)
{
	struct reader_record *record = block->record;
	struct kvc_reader *reader = record->reader;
	unsigned at = block->hazard;

	kvp_assert(!(record->free & UINT32_C(1) << at));
	if (reader->client->forks != forks_count())
		return; /* the record is the parent's */
	hazard_clear(record->shared, at);
	reader_beat(record);
	block->record = NULL;
	record->free |= UINT32_C(1) << at;
	if (record->control == reader->control)
		reader->room = reader->room ? reader->room : record;
	else if (record->free == READER_ALL_FREE)
		reader_record_retire(record);
}

/* ---- Lists ---- */

/* Keys whose memory is asked for at a time: enough for the misses that a processor can have at once. */
#define AHEAD 8

void reader_ask_ahead(const struct kvc_reader *reader, const struct kvc_space *space, const struct kvc_key *keys,
		      size_t n, size_t i)
{
	const struct arena_layout *arena;
	uint64_t hashes[AHEAD];
	size_t ahead = n - i < AHEAD ? n - i : AHEAD;

	if (i % AHEAD != 0 || ahead < 2 || !reader->arena)
		return;
	arena = &reader->arena->layout;
	for (size_t k = 0; k < ahead; k++) {
		hashes[k] = kvp_key_hash(arena->hash_seed, space_id(space), keys[i + k].bytes, keys[i + k].n);
		bucket_ask(arena, hashes[k]);
	}
	for (size_t k = 0; k < ahead; k++)
		block_ask(arena, hashes[k]);
}
