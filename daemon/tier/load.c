/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads, in turn: the first in the queue gets all transfers until its pages are under way, in the order in which they
 * are wanted. What is still being written is read when it is there.
 */
#include "base/contract.h"
#include "daemon/tier/internal.h"

#include <errno.h>
#include <stdlib.h>

static void end(struct tier_log *log, struct tier_load *load)
{
	uint64_t cookie = load->cookie;

	list_unlink(&load->link);
	log->loads_n--;
	log->segments[load->segment].readers--;
	tier_entry_unref(&log->index, load->entry);
	free(load);
	log->client->loaded(log->context, cookie);
}

static void page_ended(struct tier_log *log, struct tier_load *load, uint32_t at, int result)
{
	struct tier_entry *entry = load->entry;
	uint32_t page = load->pages[at].page;

	load->ended++;
	log->load_bytes -= load->slot_bytes;
	log->client->page_loaded(log->context, load->cookie, page, entry->checksums[page], result);
	if (load->ended == load->n)
		end(log, load);
}

static void pages_read(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	struct tier_page_transfer *pages = (struct tier_page_transfer *)transfer;
	struct tier_load *load = pages->load;
	uint32_t at = pages->at, n = pages->n;

	list_push_back(&log->free_reads, &pages->link);
	if (result < 0) {
		tier_segment_failed(log, load->segment);
		if (load->entry->live)
			tier_entry_drop(log, load->entry);
	}
	for (uint32_t i = 0; i < n; i++)
		page_ended(log, load, at + i, result);
}

/* Pages from the next one on that are neighbours in the file and lie so in memory. */
static uint32_t run_length(const struct tier_load *load)
{
	uint32_t at = load->next, n = 1;
	const uint8_t *first = load->pages[at].memory;

	while (at + n < load->n && (n + 1) * load->slot_bytes <= TIER_RUN_BYTES_MAX &&
	       load->pages[at + n].page == load->pages[at].page + n &&
	       load->pages[at + n].memory == first + (size_t)n * load->slot_bytes)
		n++;
	return n;
}

static void pages_submit(struct tier_log *log, struct tier_load *load)
{
	struct tier_page_transfer *pages = list_entry(list_first(&log->free_reads), struct tier_page_transfer, link);
	uint32_t at = load->next, n = run_length(load);

	list_unlink(&pages->link);
	pages->load = load;
	pages->at = at;
	pages->n = n;
	pages->transfer.done = pages_read;
	load->next += n;
	if (load->next == load->n) {
		list_unlink(&load->link);
		list_push_back(&log->loads_under_way, &load->link);
	}
	tier_submit(log, &pages->transfer, DISK_READ, load->segment,
		    load->pages_offset + (uint64_t)load->pages[at].page * load->slot_bytes, load->pages[at].memory,
		    n * load->slot_bytes);
}

void tier_loads_work(struct tier_log *log)
{
	while (!list_empty(&log->free_reads) && !list_empty(&log->loads))
		pages_submit(log, list_entry(list_first(&log->loads), struct tier_load, link));
}

void tier_loads_go_on(struct tier_log *log, struct list *waiting, int result)
{
	struct list *node;

	while ((node = list_first(waiting)) != NULL) {
		struct tier_load *load = list_entry(node, struct tier_load, link);

		list_unlink(node);
		if (result == 0) {
			list_push_back(&log->loads, node);
			continue;
		}
		for (uint32_t i = 0, n = load->n; i < n; i++)
			page_ended(log, load, i, result);
	}
}

static struct tier_load *load_new(struct tier_entry *entry, const uint32_t *order, void *const *memory, uint32_t n)
{
	struct tier_load *load = calloc(1, sizeof(*load) + n * sizeof(load->pages[0]));
	struct tier_item item;

	if (!load)
		return NULL;
	tier_entry_describe(entry, TIER_BLOCK, &item);
	load->entry = tier_entry_ref(entry);
	load->segment = entry->segment;
	load->slot_bytes = item.block.slot_bytes;
	load->pages_offset = item.offset + tier_block_head_bytes(&item);
	load->n = n;
	for (uint32_t i = 0; i < n; i++) {
		kvp_assert(order[i] < entry->page_count);
		load->pages[i].page = order[i];
		load->pages[i].memory = memory[i];
	}
	return load;
}

int tier_load(struct tier_log *log, struct tier_entry *entry, const uint32_t *order, void *const *memory, uint32_t n,
	      uint64_t cookie)
{
	struct tier_load *load;

	kvp_assert(n > 0 && n <= KVP_PAGES_PER_BLOCK_MAX);
	if (log->loads_n >= TIER_LOADS_MAX)
		return -ENOMEM;
	load = load_new(entry, order, memory, n);
	if (!load)
		return -ENOMEM;
	load->cookie = cookie;
	entry->loaded = true;
	log->segments[load->segment].readers++;
	log->loads_n++;
	log->load_bytes += (uint64_t)n * load->slot_bytes;
	list_push_back(entry->store ? &entry->store->waiting : &log->loads, &load->link);
	return 0;
}

static void all_free(struct tier_log *log, struct list *loads)
{
	list_for_each_safe(node, after, loads) {
		struct tier_load *load = list_entry(node, struct tier_load, link);

		list_unlink(node);
		tier_entry_unref(&log->index, load->entry);
		free(load);
	}
}

void tier_loads_deinit(struct tier_log *log)
{
	all_free(log, &log->loads);
	all_free(log, &log->loads_under_way);
}
