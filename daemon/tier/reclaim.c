/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cleaning of the oldest segment, so that it can be written anew. Each of its blocks is dropped, or moved to the head
 * if it was loaded since it was written and is not in RAM; at most half a segment is moved, so that cleaning always
 * wins more than it costs. The segment is free when nothing reads from it any more.
 */
#include "base/contract.h"
#include "daemon/tier/internal.h"

void tier_reclaim_begin(struct tier_log *log, uint32_t number)
{
	kvp_assert(log->reclaim.segment == TIER_NONE && log->segments[number].state == TIER_SEALED);
	log->segments[number].state = TIER_CLEANING;
	log->reclaim.segment = number;
	log->reclaim.moved_bytes = 0;
}

static bool resident(const struct tier_log *log, const struct tier_entry *entry)
{
	struct tier_item item;

	tier_entry_describe(entry, TIER_BLOCK, &item);
	return log->client->resident(log->context, &item.block);
}

static bool moves(struct tier_log *log, struct tier_entry *entry)
{
	uint64_t bytes = tier_entry_record_bytes(entry);

	if (log->stopping || !entry->loaded || log->reclaim.moved_bytes + bytes > log->segment_bytes / 2 ||
	    tier_move_begin(log, entry) != 0)
		return false;
	log->reclaim.moved_bytes += bytes;
	return true;
}

static void finish(struct tier_log *log)
{
	uint32_t number = log->reclaim.segment;
	const struct tier_segment *segment = &log->segments[number];

	if (!list_empty(&segment->entries) || segment->readers > 0 || segment->writers > 0)
		return;
	log->reclaim.segment = TIER_NONE;
	tier_segment_clear(log, number);
}

bool tier_reclaim_due(const struct tier_log *log)
{
	return log->reclaim.segment != TIER_NONE && !log->reclaim.move.entry && !tier_ending(log) &&
	       !list_empty(&log->segments[log->reclaim.segment].entries);
}

void tier_reclaim_slice(struct tier_log *log)
{
	for (unsigned i = 0; i < TIER_SLICE && tier_reclaim_due(log); i++) {
		struct list *first = list_first(&log->segments[log->reclaim.segment].entries);
		struct tier_entry *entry = list_entry(first, struct tier_entry, in_segment);

		if (resident(log, entry) || !moves(log, entry)) {
			tier_entry_drop(log, entry);
			log->stats.dropped_blocks_total++;
		}
	}
}

void tier_reclaim_work(struct tier_log *log)
{
	if (log->reclaim.segment != TIER_NONE)
		finish(log);
}

void tier_reclaim_oldest(struct tier_log *log, bool ask)
{
	const struct tier_segment *oldest = NULL;
	struct tier_entry *entry;

	for (uint32_t i = 0; i < log->segments_n; i++) {
		const struct tier_segment *segment = &log->segments[i];

		if (!list_empty(&segment->entries) &&
		    (!oldest || segment->life.sequence < oldest->life.sequence))
			oldest = segment;
	}
	kvp_assert(oldest);
	entry = list_entry(oldest->entries.next, struct tier_entry, in_segment);
	if (ask)
		(void)resident(log, entry);
	tier_entry_drop(log, entry);
	log->stats.dropped_blocks_total++;
}
