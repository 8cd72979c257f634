/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The footer of a full segment: what its records say, in their order, so that the next start reads a little at the end
 * of each segment instead of looking for heads in all of it. A segment whose footer fails is as good, only slower to
 * start with.
 */
#include "base/checked.h"
#include "base/contract.h"
#include "daemon/tier/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void finish(struct tier_log *log)
{
	struct tier_seal *seal = &log->seal;
	struct tier_segment *segment = &log->segments[seal->segment];

	for (size_t i = 0; i < seal->n; i++)
		if (seal->items[i].entry)
			tier_entry_unref(&log->index, seal->items[i].entry);
	free(seal->items);
	seal->items = NULL;
	seal->n = 0;
	tier_segment_removals_free(segment);
	list_unlink(&segment->link);
	segment->state = TIER_SEALED;
	seal->segment = TIER_NONE;
}

static int by_offset(const void *a, const void *b)
{
	uint64_t x = ((const struct tier_seal_item *)a)->offset, y = ((const struct tier_seal_item *)b)->offset;

	return x < y ? -1 : x > y;
}

static size_t count(const struct list *head)
{
	size_t n = 0;

	list_for_each(node, head)
		n++;
	return n;
}

static int collect(struct tier_seal *seal, struct tier_segment *segment)
{
	size_t n = count(&segment->entries) + count(&segment->removals);

	seal->items = calloc(n ? n : 1, sizeof(*seal->items));
	if (!seal->items)
		return -ENOMEM;
	list_for_each(node, &segment->entries) {
		struct tier_entry *entry = tier_entry_ref(list_entry(node, struct tier_entry, in_segment));

		seal->items[seal->n++] = (struct tier_seal_item){ tier_entry_offset(entry), entry, NULL };
	}
	list_for_each(node, &segment->removals) {
		const struct tier_removals_kept *kept = list_entry(node, struct tier_removals_kept, link);

		seal->items[seal->n++] = (struct tier_seal_item){ kept->offset, NULL, kept };
	}
	qsort(seal->items, n, sizeof(*seal->items), by_offset);
	return 0;
}

/* The next item into the chunk, if there is room. Returns its bytes. */
static size_t item_put(struct tier_seal *seal, size_t at)
{
	const struct tier_seal_item *next = &seal->items[seal->next];
	const uint8_t *removal;
	struct tier_item item;
	size_t bytes;

	if (next->entry) {
		/* Its place may be another one meanwhile. */
		tier_entry_describe(next->entry, TIER_BLOCK, &item);
		item.offset = next->offset;
		bytes = tier_item_bytes(&item);
		if (at + bytes > TIER_CHUNK_BYTES)
			return 0;
		tier_item_write(seal->chunk + at, &item);
		seal->next++;
		return bytes;
	}
	removal = (const uint8_t *)next->removals->items + seal->next_in;
	bytes = ((const struct tier_item_record *)(const void *)removal)->bytes;
	if (at + bytes > TIER_CHUNK_BYTES)
		return 0;
	memcpy(seal->chunk + at, removal, bytes);
	seal->next_in += bytes;
	if (seal->next_in == next->removals->bytes) {
		seal->next_in = 0;
		seal->next++;
	}
	return bytes;
}

static void synced(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	finish(log);
}

static void step(struct tier_log *log, struct tier_transfer *transfer, int result);

static void chunk_write(struct tier_log *log)
{
	struct tier_seal *seal = &log->seal;
	const struct tier_segment *segment = &log->segments[seal->segment];
	size_t at = sizeof(struct tier_head), bytes;
	uint64_t offset = seal->at;
	uint32_t items = 0;

	while (seal->next < seal->n && (bytes = item_put(seal, at)) > 0) {
		at += bytes;
		items++;
	}
	tier_record_finish(seal->chunk, TIER_CHUNK, &segment->life, offset, at, items);
	bytes = align_up_u64(at, TIER_ALIGN);
	seal->at += bytes;
	seal->chunks++;
	kvp_assert(seal->at <= log->segment_bytes - TIER_ALIGN);
	tier_rate_take(&log->rate, bytes);
	tier_submit(log, &seal->transfer, DISK_WRITE, seal->segment, offset, seal->chunk, (uint32_t)bytes);
}

static void step(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	struct tier_seal *seal = &log->seal;

	if (result < 0) {
		tier_segment_failed(log, seal->segment);
		finish(log);
	} else if (seal->ended) {
		transfer->done = synced;
		tier_submit(log, transfer, DISK_SYNC, seal->segment, 0, NULL, 0);
	} else if (seal->next < seal->n) {
		chunk_write(log);
	} else {
		seal->ended = true;
		tier_end_write(seal->chunk, &log->segments[seal->segment].life, log->segment_bytes, seal->footer_offset,
			       seal->chunks);
		tier_submit(log, transfer, DISK_WRITE, seal->segment, log->segment_bytes - TIER_ALIGN, seal->chunk,
			    TIER_ALIGN);
	}
}

static void begin(struct tier_log *log, uint32_t number)
{
	struct tier_segment *segment = &log->segments[number];
	struct tier_seal *seal = &log->seal;

	seal->segment = number;
	seal->n = seal->next = seal->next_in = 0;
	seal->at = seal->footer_offset = segment->end;
	seal->chunks = 0;
	seal->ended = false;
	if (segment->no_footer || collect(seal, segment) < 0) {
		finish(log);
		return;
	}
	seal->transfer.done = step;
	step(log, &seal->transfer, 0);
}

void tier_seal_work(struct tier_log *log)
{
	list_for_each_safe(node, after, &log->full) {
		const struct tier_segment *segment = list_entry(node, struct tier_segment, link);

		if (log->seal.segment != TIER_NONE)
			break;
		if (segment->writers == 0)
			begin(log, (uint32_t)(segment - log->segments));
	}
}

void tier_seal_deinit(struct tier_log *log)
{
	if (log->seal.segment != TIER_NONE)
		finish(log);
}
