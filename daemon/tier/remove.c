/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removal. Entries leave the index at once, or in slices where very many descend from one; their keys wait to be
 * written into the log, many in one record, at the latest a tenth of a second later and always before the next block:
 * so what lies before a removal in the log is what it removes, and what lies behind it is not touched by it.
 *
 * Every key that goes gets an item, not only the one that was named: when the log is read again, the blocks between
 * the two may be gone, and with them the way from one to the other. Segments end in the order of their lives, so an
 * item is never gone before what it removes. A block that is being moved is either removed before its new record has
 * its place, and then nothing is written, or its new record lies before the item.
 */
#include "base/checked.h"
#include "base/contract.h"
#include "daemon/tier/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void entry_done(struct tier_log *log, struct tier_entry *entry)
{
	list_unlink(&entry->in_segment);
	if (entry->page_count == 0)
		log->removals.keyless--;
	tier_entry_unref(&log->index, entry);
}

/* Takes a reference. */
static void expand_later(struct tier_log *log, struct tier_entry *entry)
{
	if (entry->page_count == 0)
		log->removals.keyless++;
	list_push_back(&log->removals.expanding, &entry->in_segment);
}

/* Removes children of the entry, so many at most. Returns how many it did; fewer than that: it has none any more. */
static uint32_t children_remove(struct tier_log *log, struct tier_entry *entry, uint32_t most)
{
	struct tier_entry *child;
	uint32_t n = 0;

	while (n < most && (child = tier_index_child(&log->index, entry)) != NULL) {
		if (entry->key_bytes == 0) {
			tier_entry_drop(log, child); /* one item speaks for the whole space */
		} else {
			tier_entry_ref(child);
			tier_entry_drop(log, child);
			expand_later(log, child);
		}
		n++;
	}
	return n;
}

static void emit_later(struct tier_log *log, struct tier_entry *entry)
{
	struct tier_removals *removals = &log->removals;

	/*
	 * What is read from the log need not be written again; and there is an end to what waits for a log without
	 * room.
	 */
	if (!log->ready || removals->keyless > TIER_REMOVALS_WAITING_MAX) {
		log->stats.write_errors_total += log->ready;
		entry_done(log, entry);
		return;
	}
	list_unlink(&entry->in_segment);
	list_push_back(&removals->emitting, &entry->in_segment);
	if (removals->due_ns == UINT64_MAX)
		removals->due_ns = log->now_ns + TIER_REMOVALS_NS;
}

void tier_removals_expand(struct tier_log *log, uint32_t slice)
{
	struct list *node;

	while (slice > 0 && (node = list_first(&log->removals.expanding)) != NULL) {
		struct tier_entry *entry = list_entry(node, struct tier_entry, in_segment);
		uint32_t n = children_remove(log, entry, slice);

		if (n < slice)
			emit_later(log, entry);
		slice -= n < slice ? n + 1 : n;
	}
}

void tier_remove(struct tier_log *log, const struct tier_space *space, struct block_key key)
{
	struct tier_entry *entry = key.n > 0 ? tier_index_find(&log->index, space, key) : NULL;

	if (entry) {
		tier_entry_ref(entry);
		tier_entry_drop(log, entry);
	} else {
		const struct tier_block block = { .space = *space, .key = key };

		entry = tier_entry_new(&log->index, &block);
		if (!entry) {
			log->stats.write_errors_total++;
			return;
		}
		if (key.n == 0)
			tier_index_detach(&log->index, entry->space);
	}
	expand_later(log, entry);
}

void tier_remove_later(struct tier_log *log, const struct tier_space *space, struct block_key key)
{
	const struct tier_block block = { .space = *space, .key = key };
	struct tier_removals *removals = &log->removals;
	struct tier_entry *entry = NULL;

	if (removals->keyless < TIER_REMOVALS_WAITING_MAX)
		entry = tier_entry_new(&log->index, &block);
	if (!entry) {
		log->stats.write_errors_total++;
		return;
	}
	removals->keyless++;
	list_push_back(&removals->early, &entry->in_segment);
}

void tier_remove_early(struct tier_log *log)
{
	list_for_each_safe(node, after, &log->removals.early) {
		struct tier_entry *entry = list_entry(node, struct tier_entry, in_segment);
		struct tier_item item;

		tier_entry_describe(entry, TIER_REMOVALS, &item);
		tier_remove(log, &item.block.space, item.block.key);
		entry_done(log, entry);
	}
}

static uint32_t record_begin(void)
{
	return sizeof(struct tier_head);
}

static void written(struct tier_log *log, struct tier_transfer *transfer, int result);

static void submit(struct tier_log *log, uint64_t offset)
{
	struct tier_removals *removals = &log->removals;

	tier_record_finish(removals->writing, TIER_REMOVALS, &log->segments[removals->segment].life, offset,
			   removals->writing_bytes, removals->writing_items);
	removals->transfer.done = written;
	tier_submit(log, &removals->transfer, DISK_WRITE, removals->segment, offset, removals->writing,
		    (uint32_t)align_up_u64(removals->writing_bytes, TIER_ALIGN));
}

/* The bytes that the record takes in a footer are those of its items. */
static int room(struct tier_log *log, uint32_t bytes, uint64_t *ret_offset)
{
	return tier_room_removals(log, align_up_u64(bytes, TIER_ALIGN), bytes, &log->removals.segment, ret_offset);
}

static void synced(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	log->removals.under_way = false;
	log->segments[log->removals.segment].writers--;
}

/* A footer without them would let the removed blocks come back. */
static void keep(struct tier_log *log, struct tier_segment *segment, uint64_t offset)
{
	const struct tier_removals *removals = &log->removals;
	uint32_t bytes = removals->writing_bytes - record_begin();
	struct tier_removals_kept *kept = malloc(sizeof(*kept) + bytes);

	segment->has_removals = true;
	if (!kept) {
		segment->no_footer = true;
		return;
	}
	kept->offset = offset;
	kept->bytes = bytes;
	memcpy(kept->items, removals->writing + record_begin(), bytes);
	list_push_back(&segment->removals, &kept->link);
	segment->removals_bytes += bytes;
	if (segment->removals_bytes > TIER_REMOVALS_KEPT_MAX && segment->state == TIER_HEAD)
		tier_head_close(log);
}

static void written(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	struct tier_removals *removals = &log->removals;
	uint32_t segment = removals->segment;
	uint64_t offset;

	if (result == 0) {
		keep(log, &log->segments[segment], transfer->io.offset);
		transfer->done = synced;
		tier_submit(log, transfer, DISK_SYNC, segment, 0, NULL, 0);
		return;
	}
	log->segments[segment].writers--;
	tier_segment_failed(log, segment);
	if (++removals->tries < TIER_REMOVALS_TRIES && room(log, removals->writing_bytes, &offset) == 0)
		submit(log, offset);
	else
		removals->under_way = false;
}

static bool record_write(struct tier_log *log)
{
	struct tier_removals *removals = &log->removals;
	uint8_t *filled = removals->filling;
	uint64_t offset;

	if (removals->items == 0)
		return true;
	if (removals->under_way || room(log, removals->used, &offset) != 0)
		return false;
	removals->filling = removals->writing;
	removals->writing = filled;
	removals->writing_bytes = removals->used;
	removals->writing_items = removals->items;
	removals->used = record_begin();
	removals->items = 0;
	removals->under_way = true;
	removals->tries = 0;
	submit(log, offset);
	return true;
}

static void item_append(struct tier_log *log, const struct tier_item *item)
{
	struct tier_removals *removals = &log->removals;

	tier_item_write(removals->filling + removals->used, item);
	removals->used += (uint32_t)tier_item_bytes(item);
	removals->items++;
}

static bool emit(struct tier_log *log)
{
	struct tier_removals *removals = &log->removals;
	struct list *node;

	while ((node = list_first(&removals->emitting)) != NULL) {
		struct tier_entry *entry = list_entry(node, struct tier_entry, in_segment);
		struct tier_item item;

		tier_entry_describe(entry, TIER_REMOVALS, &item);
		if (removals->used + tier_item_bytes(&item) > TIER_REMOVALS_BYTES && !record_write(log))
			return false;
		item_append(log, &item);
		entry_done(log, entry);
	}
	return true;
}

bool tier_removals_flush(struct tier_log *log)
{
	struct tier_removals *removals = &log->removals;

	if (!list_empty(&removals->expanding) || !emit(log) || !record_write(log))
		return false;
	removals->due_ns = UINT64_MAX;
	return true;
}

void tier_removals_work(struct tier_log *log)
{
	if (log->removals.due_ns <= log->now_ns || log->stopping)
		(void)tier_removals_flush(log);
}

bool tier_removals_idle(const struct tier_log *log)
{
	const struct tier_removals *removals = &log->removals;

	return list_empty(&removals->expanding) && list_empty(&removals->emitting) && removals->items == 0 &&
	       !removals->under_way;
}

static void all_free(struct tier_log *log, struct list *entries)
{
	list_for_each_safe(node, after, entries)
		entry_done(log, list_entry(node, struct tier_entry, in_segment));
}

void tier_removals_deinit(struct tier_log *log)
{
	all_free(log, &log->removals.early);
	all_free(log, &log->removals.expanding);
	all_free(log, &log->removals.emitting);
}
