/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block moves to the head: its pages are read, compared with their checksums and written again, a few at a time.
 * Until its new record is complete it is found where it was.
 */
#include "base/checked.h"
#include "base/contract.h"
#include "daemon/tier/internal.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <errno.h>

static void end(struct tier_log *log)
{
	struct tier_move *move = &log->reclaim.move;
	struct tier_entry *entry = move->entry;

	log->segments[entry->segment].readers--;
	log->segments[move->segment].writers--;
	if (entry->live && move->result == 0) {
		list_unlink(&entry->in_segment);
		tier_entry_place(log, entry, move->segment, move->offset);
		entry->loaded = false;
		log->stats.moved_blocks_total++;
	} else if (entry->live && move->result != -ECANCELED) {
		tier_entry_drop(log, entry);
		log->stats.dropped_blocks_total++;
	}
	move->entry = NULL;
	tier_entry_unref(&log->index, entry);
}

static void head_written(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	struct tier_move *move = &log->reclaim.move;

	move->under_way--;
	if (result < 0) {
		move->result = result;
		tier_segment_failed(log, move->segment);
	}
	end(log);
}

static void head_submit(struct tier_log *log)
{
	struct tier_move *move = &log->reclaim.move;
	struct tier_item item;

	tier_entry_describe(move->entry, TIER_BLOCK, &item);
	item.offset = move->offset;
	tier_item_write(move->head + sizeof(struct tier_head), &item);
	tier_record_finish(move->head, TIER_BLOCK, &log->segments[move->segment].life, move->offset,
			   sizeof(struct tier_head) + tier_item_bytes(&item), 1);
	move->under_way++;
	move->head_transfer.done = head_written;
	tier_submit(log, &move->head_transfer, DISK_WRITE, move->segment, move->offset, move->head,
		    (uint32_t)tier_block_head_bytes(&item));
}

static uint64_t page_offset(const struct tier_item *item, uint64_t record, uint32_t page)
{
	return record + tier_block_head_bytes(item) + (uint64_t)page * item->block.slot_bytes;
}

static void go_on(struct tier_log *log, struct tier_move_page *page);

static void page_written(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	struct tier_move *move = &log->reclaim.move;

	if (result < 0) {
		move->result = result;
		tier_segment_failed(log, move->segment);
	}
	go_on(log, (struct tier_move_page *)transfer);
}

static void page_write(struct tier_log *log, struct tier_move_page *page)
{
	const struct tier_move *move = &log->reclaim.move;
	struct tier_item item;

	tier_entry_describe(move->entry, TIER_BLOCK, &item);
	page->transfer.done = page_written;
	tier_submit(log, &page->transfer, DISK_WRITE, move->segment, page_offset(&item, move->offset, page->page),
		    page->memory, item.block.slot_bytes);
}

static void page_read(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	struct tier_move *move = &log->reclaim.move;
	struct tier_move_page *page = (struct tier_move_page *)transfer;
	const struct tier_entry *entry = move->entry;

	if (result < 0) {
		move->result = result;
		tier_segment_failed(log, entry->segment);
	} else if (kvp_page_checksum(page->memory, entry->page_bytes) != entry->checksums[page->page]) {
		move->result = -EBADMSG;
		log->stats.broken_total++;
	} else if (move->result == 0) {
		page_write(log, page);
		return;
	}
	go_on(log, page);
}

/* A page is through, or the first begins: the next one, or the head when it was the last. */
static void go_on(struct tier_log *log, struct tier_move_page *page)
{
	struct tier_move *move = &log->reclaim.move;
	struct tier_item item;

	move->under_way--;
	if (move->result == 0 && (log->stopping || !move->entry->live))
		move->result = -ECANCELED;
	if (move->result == 0 && move->next < move->entry->page_count) {
		tier_entry_describe(move->entry, TIER_BLOCK, &item);
		page->page = move->next++;
		page->transfer.done = page_read;
		move->under_way++;
		tier_submit(log, &page->transfer, DISK_READ, move->entry->segment,
			    page_offset(&item, item.offset, page->page), page->memory, item.block.slot_bytes);
	} else if (move->under_way == 0 && move->result == 0) {
		head_submit(log);
	} else if (move->under_way == 0) {
		end(log);
	}
}

int tier_move_begin(struct tier_log *log, struct tier_entry *entry)
{
	struct tier_move *move = &log->reclaim.move;
	struct tier_item item;

	kvp_assert(!move->entry);
	tier_entry_describe(entry, TIER_BLOCK, &item);
	if (tier_room(log, tier_block_record_bytes(&item), tier_item_bytes(&item), &move->segment, &move->offset) != 0)
		return KVP_NO_SPACE;
	move->entry = tier_entry_ref(entry);
	move->next = 0;
	move->result = 0;
	move->under_way = TIER_MOVES;
	log->segments[entry->segment].readers++;
	for (unsigned i = 0; i < TIER_MOVES && move->entry; i++)
		if (i < entry->page_count)
			go_on(log, &move->pages[i]);
		else
			move->under_way--;
	return 0;
}

void tier_move_deinit(struct tier_log *log)
{
	struct tier_entry *entry = log->reclaim.move.entry;

	log->reclaim.move.entry = NULL;
	if (entry)
		tier_entry_unref(&log->index, entry);
}
