/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments in turn. There is one head, and behind it a spare, which got its new life on disk before anything is
 * written into it: so a block that was said to be stored can be found after a crash, and a segment's old life has
 * ended for good before the next one is taken. Where nothing is free the oldest segment is cleaned, in the order of
 * their lives: what a record of removals forbids lies in older segments or before it in its own, so that record may
 * go when its turn comes.
 *
 * When preparing fails nothing more is cleaned for a time that doubles: a drive that takes no writes costs one
 * segment, not all.
 */
#include "base/checked.h"
#include "base/contract.h"
#include "daemon/tier/internal.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <errno.h>
#include <stdlib.h>

static uint64_t backoff_ns(unsigned failures)
{
	uint64_t ns = TIER_RETRY_NS << (failures < 10 ? failures : 10);

	return ns < TIER_RETRY_MAX_NS ? ns : TIER_RETRY_MAX_NS;
}

uint64_t tier_entry_record_bytes(const struct tier_entry *entry)
{
	struct tier_item item;

	tier_entry_describe(entry, TIER_BLOCK, &item);
	return tier_block_record_bytes(&item);
}

void tier_entry_place(struct tier_log *log, struct tier_entry *entry, uint32_t segment, uint64_t offset)
{
	entry->segment = segment;
	entry->place = (uint32_t)(offset / TIER_ALIGN);
	list_push_back(&log->segments[segment].entries, &entry->in_segment);
}

void tier_entry_drop(struct tier_log *log, struct tier_entry *entry)
{
	log->stats.used_bytes -= tier_entry_record_bytes(entry);
	tier_index_remove(&log->index, entry);
}

void tier_segment_removals_free(struct tier_segment *segment)
{
	list_for_each_safe(node, after, &segment->removals) {
		list_unlink(node);
		free(list_entry(node, struct tier_removals_kept, link));
	}
	segment->removals_bytes = 0;
}

void tier_segment_clear(struct tier_log *log, uint32_t number)
{
	struct tier_segment *segment = &log->segments[number];

	kvp_assert(list_empty(&segment->entries) && segment->writers == 0 && segment->readers == 0);
	tier_segment_removals_free(segment);
	segment->has_removals = false;
	segment->state = TIER_FREE;
	if (segment->errors >= TIER_ERRORS_MAX) {
		segment->state = TIER_DISCARDED;
		segment->retry_ns = log->now_ns + TIER_RETRY_MAX_NS;
	}
}

void tier_head_close(struct tier_log *log)
{
	if (log->head == TIER_NONE)
		return;
	log->segments[log->head].state = TIER_FULL;
	list_push_back(&log->full, &log->segments[log->head].link);
	log->head = TIER_NONE;
}

void tier_segment_failed(struct tier_log *log, uint32_t number)
{
	struct tier_segment *segment = &log->segments[number];

	segment->errors++;
	if (segment->errors != TIER_ERRORS_MAX || log->head != number)
		return;
	tier_head_close(log);
	log->prepare.retry_ns = log->now_ns + TIER_RETRY_NS;
}

static void prepare_failed(struct tier_log *log, struct tier_segment *segment)
{
	struct tier_prepare *prepare = &log->prepare;

	segment->state = TIER_DISCARDED;
	segment->retry_ns = log->now_ns + TIER_RETRY_MAX_NS;
	prepare->retry_ns = log->now_ns + backoff_ns(prepare->failures++);
	prepare->segment = TIER_NONE;
}

static void synced(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	struct tier_prepare *prepare = &log->prepare;
	struct tier_segment *segment = &log->segments[prepare->segment];

	if (result < 0) {
		prepare_failed(log, segment);
		return;
	}
	segment->state = TIER_SPARE;
	segment->end = TIER_ALIGN;
	segment->item_bytes = 0;
	segment->errors = 0;
	segment->no_footer = false;
	log->spare = prepare->segment;
	prepare->segment = TIER_NONE;
	prepare->failures = 0;
}

static void written(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	struct tier_prepare *prepare = &log->prepare;

	if (result < 0) {
		prepare_failed(log, &log->segments[prepare->segment]);
		return;
	}
	transfer->done = synced;
	tier_submit(log, transfer, DISK_SYNC, prepare->segment, 0, NULL, 0);
}

static void life_begin(struct tier_log *log)
{
	struct tier_prepare *prepare = &log->prepare;
	struct tier_segment *segment = &log->segments[prepare->segment];

	segment->life.sequence = log->sequence_next++;
	segment->life.salt = kvp_key_hash(log->seed, 0, &segment->life.sequence, sizeof(segment->life.sequence));
	tier_segment_write(prepare->record, &segment->life, prepare->segment, log->segment_bytes);
	prepare->transfer.done = written;
	tier_submit(log, &prepare->transfer, DISK_WRITE, prepare->segment, 0, prepare->record, TIER_ALIGN);
}

static void created(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	struct tier_prepare *prepare = &log->prepare;
	struct tier_segment *segment = &log->segments[prepare->segment];

	if (result < 0) {
		segment->state = TIER_ABSENT;
		prepare->create_retry_ns = log->now_ns + backoff_ns(prepare->create_failures++);
		prepare->segment = TIER_NONE;
		return;
	}
	segment->open = true;
	prepare->create_failures = 0;
	life_begin(log);
}

static void removed(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	struct tier_segment *segment = &log->segments[log->prepare.segment];

	segment->state = TIER_ABSENT;
	segment->open = false;
	log->prepare.segment = TIER_NONE;
}

static void prepare(struct tier_log *log, uint32_t number)
{
	struct tier_segment *segment = &log->segments[number];
	struct tier_transfer *transfer = &log->prepare.transfer;
	enum tier_segment_state was = segment->state;

	log->prepare.segment = number;
	segment->state = was == TIER_DISCARDED ? was : TIER_PREPARING;
	if (was != TIER_DISCARDED && segment->open) {
		life_begin(log);
		return;
	}
	transfer->done = was == TIER_DISCARDED ? removed : created;
	tier_submit(log, transfer, was == TIER_DISCARDED ? DISK_REMOVE : DISK_CREATE, number, 0, NULL, 0);
}

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* What can be prepared, what is free before what needs a file. If nothing: due_ns is when that may change. */
static uint32_t pick(struct tier_log *log)
{
	uint32_t absent = TIER_NONE;

	log->prepare.due_ns = UINT64_MAX;
	for (uint32_t i = 0; i < log->segments_n; i++) {
		const struct tier_segment *segment = &log->segments[i];
		uint64_t due_ns = later(segment->retry_ns, log->prepare.create_retry_ns);

		if (segment->state == TIER_FREE || segment->state == TIER_DISCARDED)
			return i;
		if (segment->state != TIER_ABSENT)
			continue;
		if (due_ns <= log->now_ns && absent == TIER_NONE)
			absent = i;
		else if (due_ns < log->prepare.due_ns)
			log->prepare.due_ns = due_ns;
	}
	return absent;
}

/* The oldest that holds something; if it is not complete yet the others have to wait for it. */
static uint32_t oldest(const struct tier_log *log)
{
	uint32_t found = TIER_NONE;

	for (uint32_t i = 0; i < log->segments_n; i++) {
		const struct tier_segment *segment = &log->segments[i];

		if (segment->state != TIER_FULL && segment->state != TIER_SEALED)
			continue;
		if (found == TIER_NONE || segment->life.sequence < log->segments[found].life.sequence)
			found = i;
	}
	return found != TIER_NONE && log->segments[found].state == TIER_SEALED ? found : TIER_NONE;
}

static void head_take(struct tier_log *log)
{
	if (log->head != TIER_NONE || log->spare == TIER_NONE)
		return;
	log->head = log->spare;
	log->spare = TIER_NONE;
	log->segments[log->head].state = TIER_HEAD;
}

void tier_segments_work(struct tier_log *log)
{
	uint32_t next;

	if (!log->ready || tier_ending(log))
		return;
	head_take(log);
	if (log->spare != TIER_NONE || log->prepare.segment != TIER_NONE || log->reclaim.segment != TIER_NONE ||
	    log->now_ns < log->prepare.retry_ns)
		return;
	next = pick(log);
	if (next != TIER_NONE) {
		prepare(log, next);
		return;
	}
	next = oldest(log);
	if (next != TIER_NONE)
		tier_reclaim_begin(log, next);
}

uint64_t tier_segments_due_ns(const struct tier_log *log)
{
	if (!log->ready || tier_ending(log) || log->spare != TIER_NONE || log->prepare.segment != TIER_NONE ||
	    log->reclaim.segment != TIER_NONE)
		return UINT64_MAX;
	return log->now_ns < log->prepare.retry_ns ? log->prepare.retry_ns : log->prepare.due_ns;
}

static uint64_t needed(const struct tier_segment *segment, uint64_t record_bytes, uint64_t item_bytes)
{
	return segment->end + record_bytes + tier_footer_bytes(segment->item_bytes + item_bytes);
}

bool tier_room_possible(const struct tier_log *log, uint64_t record_bytes, uint64_t item_bytes)
{
	const struct tier_segment empty = { .end = TIER_ALIGN };

	return needed(&empty, record_bytes, item_bytes) <= log->segment_bytes;
}

int tier_room_removals(struct tier_log *log, uint64_t record_bytes, uint64_t item_bytes, uint32_t *ret_segment,
		       uint64_t *ret_offset)
{
	struct tier_segment *segment;

	head_take(log);
	if (log->head == TIER_NONE)
		return KVP_NO_SPACE;
	if (needed(&log->segments[log->head], record_bytes, item_bytes) > log->segment_bytes) {
		if (log->spare == TIER_NONE)
			return KVP_NO_SPACE;
		tier_head_close(log);
		head_take(log);
	}
	segment = &log->segments[log->head];
	if (needed(segment, record_bytes, item_bytes) > log->segment_bytes)
		return KVP_NO_SPACE;
	*ret_segment = log->head;
	*ret_offset = segment->end;
	segment->end += record_bytes;
	segment->item_bytes += item_bytes;
	segment->writers++;
	tier_rate_take(&log->rate, record_bytes);
	return 0;
}

int tier_room(struct tier_log *log, uint64_t record_bytes, uint64_t item_bytes, uint32_t *ret_segment,
	      uint64_t *ret_offset)
{
	if (!tier_removals_flush(log))
		return KVP_NO_SPACE;
	return tier_room_removals(log, record_bytes, item_bytes, ret_segment, ret_offset);
}
