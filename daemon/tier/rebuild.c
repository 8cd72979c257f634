/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index from the files, at the start. First the beginning and the end of every file are read, several files at a
 * time: they tell which life each is in. Then each life is gone through in order, what is later replacing what is
 * earlier: by its footer, or, if that is missing or broken, by looking for heads at every place where one may lie,
 * since a store that did not end leaves a hole.
 *
 * Nothing read is believed (record.h). A segment that cannot be read counts as far as it could.
 */
#include "base/checked.h"
#include "base/contract.h"
#include "daemon/tier/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PROBES TIER_HEADS
#define WINDOW_BYTES (TIER_MOVES * KVP_PAGE_BYTES_MAX)
#define WINDOW_BYTES_MIN (2 * TIER_BLOCK_HEAD_MAX) /* whatever head is at its beginning is in it as a whole */

_Static_assert(WINDOW_BYTES >= TIER_CHUNK_BYTES && WINDOW_BYTES <= DISK_IO_BYTES_MAX, "one transfer reads a chunk");
_Static_assert(WINDOW_BYTES_MIN % TIER_ALIGN == 0, "windows begin where records may");

/* A file whose beginning and end are being read. */
struct probe {
	struct tier_transfer transfer;
	uint32_t segment;
	uint8_t *memory; /* the beginning, then the end */
};

/* A segment that is to be gone through. */
struct life {
	uint64_t sequence;
	uint32_t segment;
};

struct tier_rebuild {
	uint32_t next; /* file to be probed */
	uint32_t probing;
	struct probe probes[PROBES];
	struct life *order; /* sorted when all files are probed */
	uint32_t order_n;
	uint32_t at; /* of order */
	struct tier_transfer transfer;
	uint8_t *window;
	uint64_t offset;
	uint32_t bytes; /* of the window, in use */
	uint32_t step;  /* of the next window */
	uint32_t chunks;
};

static bool block_fits(const struct tier_log *log, const struct tier_item *item)
{
	return item->offset >= TIER_ALIGN &&
	       checked_range(item->offset, tier_block_record_bytes(item), log->segment_bytes - TIER_ALIGN);
}

static void block_take(struct tier_log *log, uint32_t segment, const struct tier_item *item)
{
	struct tier_entry *old = tier_index_find(&log->index, &item->block.space, item->block.key), *entry;

	if (old)
		tier_entry_drop(log, old);
	entry = tier_entry_new(&log->index, &item->block);
	if (!entry)
		return;
	if (log->index.entries == log->index.entries_max)
		tier_reclaim_oldest(log, false);
	memcpy(entry->checksums, item->checksums, 8u * (size_t)item->block.page_count);
	tier_index_insert(&log->index, entry);
	tier_entry_place(log, entry, segment, item->offset);
	log->stats.used_bytes += tier_block_record_bytes(item);
	tier_entry_unref(&log->index, entry);
}

/* One item that was found in this segment. */
static bool apply(struct tier_log *log, uint32_t segment, const struct tier_item *item)
{
	if (item->kind == TIER_REMOVALS) {
		log->segments[segment].has_removals = true;
		tier_remove(log, &item->block.space, item->block.key);
		tier_removals_expand(log, UINT32_MAX);
		return true;
	}
	if (!block_fits(log, item))
		return false;
	block_take(log, segment, item);
	return true;
}

/* All items behind a head that was checked. False: they are not what the head says. */
static bool apply_all(struct tier_log *log, uint32_t segment, const uint8_t *record)
{
	const struct tier_head *head = (const struct tier_head *)(const void *)record;
	size_t at = sizeof(*head), bytes;
	struct tier_item item;

	for (uint32_t i = 0; i < head->items; i++) {
		bytes = tier_item_read(record + at, head->bytes - at, &item);
		if (bytes == 0 || !apply(log, segment, &item))
			return false;
		at += bytes;
	}
	return true;
}

static void finish(struct tier_log *log)
{
	for (uint32_t i = 0; i < log->rebuild->order_n; i++) {
		uint32_t number = log->rebuild->order[i].segment;
		struct tier_segment *segment = &log->segments[number];

		if (list_empty(&segment->entries) && !segment->has_removals)
			tier_segment_clear(log, number);
		else
			segment->state = TIER_SEALED;
		log->sequence_next = segment->life.sequence + 1;
	}
	log->stats.recovered_blocks = log->index.entries;
	log->ready = true;
	tier_rebuild_deinit(log);
	tier_remove_early(log);
}

static void segment_next(struct tier_log *log);
static void scanned(struct tier_log *log, struct tier_transfer *transfer, int result);
static void chunk_read(struct tier_log *log, struct tier_transfer *transfer, int result);

static void window_submit(struct tier_log *log, uint32_t bytes)
{
	struct tier_rebuild *rebuild = log->rebuild;
	uint64_t rest = log->segment_bytes - TIER_ALIGN - rebuild->offset;

	rebuild->bytes = rest < bytes ? (uint32_t)rest : bytes;
	tier_submit(log, &rebuild->transfer, DISK_READ, rebuild->order[rebuild->at].segment, rebuild->offset,
		    rebuild->window, rebuild->bytes);
}

static void segment_end(struct tier_log *log)
{
	log->rebuild->at++;
	segment_next(log);
}

static void scan_go_on(struct tier_log *log)
{
	struct tier_rebuild *rebuild = log->rebuild;

	if (rebuild->offset >= log->segment_bytes - TIER_ALIGN) {
		segment_end(log);
		return;
	}
	rebuild->transfer.done = scanned;
	window_submit(log, rebuild->step);
}

static void scan_begin(struct tier_log *log)
{
	log->rebuild->offset = TIER_ALIGN;
	log->rebuild->step = WINDOW_BYTES_MIN;
	scan_go_on(log);
}

/* The bytes of the record at this place of the window. 0: there is none. */
static uint64_t record_take(struct tier_log *log, uint32_t at)
{
	const struct tier_rebuild *rebuild = log->rebuild;
	uint32_t segment = rebuild->order[rebuild->at].segment;
	const uint8_t *record = rebuild->window + at;
	const struct tier_head *head = (const struct tier_head *)(const void *)record;
	uint64_t offset = rebuild->offset + at;
	struct tier_item item;

	if (!tier_record_check(record, rebuild->bytes - at, &log->segments[segment].life, offset))
		return 0;
	if (head->kind == TIER_REMOVALS)
		return apply_all(log, segment, record) ? align_up_u64(head->bytes, TIER_ALIGN) : 0;
	if (head->kind != TIER_BLOCK || head->items != 1 ||
	    tier_item_read(record + sizeof(*head), head->bytes - sizeof(*head), &item) == 0 ||
	    item.kind != TIER_BLOCK || item.offset != offset || !apply(log, segment, &item))
		return 0;
	return tier_block_record_bytes(&item);
}

/* Whether a head begins here that ends beyond the window. */
static bool record_cut(const struct tier_log *log, uint32_t at)
{
	const struct tier_rebuild *rebuild = log->rebuild;
	const struct tier_life *life = &log->segments[rebuild->order[rebuild->at].segment].life;
	const struct tier_head *head = (const struct tier_head *)(const void *)(rebuild->window + at);

	return at > 0 && head->magic == TIER_MAGIC && head->salt == life->salt && head->sequence == life->sequence &&
	       head->bytes > rebuild->bytes - at;
}

static void scanned(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	struct tier_rebuild *rebuild = log->rebuild;
	uint64_t at = 0, bytes;
	bool found = false;

	if (result < 0) {
		log->stats.broken_total++;
		segment_end(log);
		return;
	}
	while (at + TIER_ALIGN <= rebuild->bytes && !record_cut(log, (uint32_t)at)) {
		bytes = record_take(log, (uint32_t)at);
		found = bytes > 0;
		at += bytes > 0 ? bytes : TIER_ALIGN;
	}
	rebuild->offset += at;
	/* In a long hole it is quicker to read more at once. */
	rebuild->step = found ? WINDOW_BYTES_MIN : rebuild->step * 2;
	if (rebuild->step > WINDOW_BYTES)
		rebuild->step = WINDOW_BYTES;
	scan_go_on(log);
}

static void footer_go_on(struct tier_log *log)
{
	struct tier_rebuild *rebuild = log->rebuild;

	if (rebuild->chunks == 0) {
		segment_end(log);
	} else if (rebuild->offset >= log->segment_bytes - TIER_ALIGN) {
		log->stats.broken_total++;
		scan_begin(log);
	} else {
		rebuild->transfer.done = chunk_read;
		window_submit(log, TIER_CHUNK_BYTES);
	}
}

static void chunk_read(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	struct tier_rebuild *rebuild = log->rebuild;
	uint32_t segment = rebuild->order[rebuild->at].segment;
	const struct tier_head *head = (const struct tier_head *)(const void *)rebuild->window;

	if (result < 0 ||
	    !tier_record_check(head, rebuild->bytes, &log->segments[segment].life, rebuild->offset) ||
	    head->kind != TIER_CHUNK || !apply_all(log, segment, rebuild->window)) {
		log->stats.broken_total++;
		scan_begin(log);
		return;
	}
	rebuild->offset += align_up_u64(head->bytes, TIER_ALIGN);
	rebuild->chunks--;
	footer_go_on(log);
}

static void segment_next(struct tier_log *log)
{
	struct tier_rebuild *rebuild = log->rebuild;
	const struct tier_segment *segment = NULL;

	for (; rebuild->at < rebuild->order_n; rebuild->at++) {
		segment = &log->segments[rebuild->order[rebuild->at].segment];
		if (segment->footer_offset == 0 || segment->chunks > 0)
			break;
	}
	if (rebuild->at == rebuild->order_n) {
		finish(log);
		return;
	}
	if (segment->footer_offset == 0) {
		scan_begin(log);
		return;
	}
	rebuild->offset = segment->footer_offset;
	rebuild->chunks = segment->chunks;
	footer_go_on(log);
}

static int by_sequence(const void *a, const void *b)
{
	uint64_t x = ((const struct life *)a)->sequence, y = ((const struct life *)b)->sequence;

	return x < y ? -1 : x > y;
}

static bool zeros(const uint8_t *bytes, size_t n)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0;
}

static void probe_next(struct tier_log *log, struct probe *probe);

static void probe_ended(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	struct probe *probe = (struct probe *)transfer;
	struct tier_segment *segment = &log->segments[probe->segment];
	const uint8_t *memory = probe->memory;

	segment->state = TIER_FREE;
	if (!tier_segment_read(memory, probe->segment, log->segment_bytes, &segment->life)) {
		log->stats.broken_total += !zeros(memory, TIER_ALIGN);
	} else {
		log->rebuild->order[log->rebuild->order_n++] =
			(struct life){ segment->life.sequence, probe->segment };
		/* An end that is not of this life is one of an earlier life: the segment was in use. */
		if (result < 0 || !tier_end_read(memory + TIER_ALIGN, &segment->life, log->segment_bytes,
						 &segment->footer_offset, &segment->chunks))
			segment->footer_offset = 0;
	}
	probe_next(log, probe);
}

static void probe_begun(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	struct probe *probe = (struct probe *)transfer;

	if (result < 0) {
		log->stats.broken_total++;
		log->segments[probe->segment].state = TIER_FREE;
		probe_next(log, probe);
		return;
	}
	transfer->done = probe_ended;
	tier_submit(log, transfer, DISK_READ, probe->segment, log->segment_bytes - TIER_ALIGN,
		    probe->memory + TIER_ALIGN, TIER_ALIGN);
}

static void probe_opened(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	struct probe *probe = (struct probe *)transfer;

	if (result < 0) {
		log->stats.broken_total++;
		probe_next(log, probe);
		return;
	}
	log->segments[probe->segment].open = true;
	transfer->done = probe_begun;
	tier_submit(log, transfer, DISK_READ, probe->segment, 0, probe->memory, TIER_ALIGN);
}

static void probe_next(struct tier_log *log, struct probe *probe)
{
	struct tier_rebuild *rebuild = log->rebuild;
	const uint8_t *files = log->disk->ops->files(log->disk);

	while (rebuild->next < log->segments_n && !files[rebuild->next])
		rebuild->next++;
	if (rebuild->next == log->segments_n) {
		if (--rebuild->probing > 0)
			return;
		qsort(rebuild->order, rebuild->order_n, sizeof(*rebuild->order), by_sequence);
		segment_next(log);
		return;
	}
	probe->segment = rebuild->next++;
	probe->transfer.done = probe_opened;
	tier_submit(log, &probe->transfer, DISK_CREATE, probe->segment, 0, NULL, 0);
}

int tier_rebuild_new(struct tier_log *log)
{
	struct tier_rebuild *rebuild = calloc(1, sizeof(*rebuild));

	if (rebuild)
		rebuild->order = calloc(log->segments_n, sizeof(*rebuild->order));
	if (!rebuild || !rebuild->order) {
		free(rebuild);
		return -ENOMEM;
	}
	log->rebuild = rebuild;
	rebuild->transfer.log = log;
	rebuild->window = log->reclaim.move.pages[0].memory;
	return 0;
}

void tier_rebuild_begin(struct tier_log *log)
{
	struct tier_rebuild *rebuild = log->rebuild;

	rebuild->probing = PROBES;
	for (unsigned i = 0; i < PROBES && log->rebuild; i++) {
		rebuild->probes[i].transfer.log = log;
		rebuild->probes[i].memory = log->heads[i];
		probe_next(log, &rebuild->probes[i]);
	}
}

void tier_rebuild_deinit(struct tier_log *log)
{
	if (log->rebuild)
		free(log->rebuild->order);
	free(log->rebuild);
	log->rebuild = NULL;
}
