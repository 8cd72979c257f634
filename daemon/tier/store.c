/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stores. Pages are written first, straight from where they are, then the head: a head on disk means that its block was
 * complete. Stores are served in turn, several at a time, with a limited number of transfers, so that loads never stand
 * behind all that is to be written.
 */
#include "base/checked.h"
#include "base/contract.h"
#include "daemon/tier/internal.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <errno.h>
#include <stdlib.h>

/* A store that has ended, one way or another. */
static void end(struct tier_log *log, struct tier_store *store)
{
	struct tier_entry *entry = store->entry;
	uint64_t cookie = store->cookie;
	int result = store->result;

	list_unlink(&store->link);
	log->stores_n--;
	log->segments[entry->segment].writers--;
	entry->store = NULL;
	if (result == 0 && !entry->live)
		result = -ECANCELED;
	if (result < 0 && entry->live)
		tier_entry_drop(log, entry);
	tier_loads_go_on(log, &store->waiting, result);
	tier_entry_unref(&log->index, entry);
	free(store);
	log->client->stored(log->context, cookie, result);
}

static void transfer_ended(struct tier_log *log, struct tier_page_transfer *page, int result)
{
	struct tier_store *store = page->store;

	list_push_back(&log->free_writes, &page->link);
	store->under_way--;
	if (result < 0) {
		store->result = result;
		tier_segment_failed(log, store->entry->segment);
	} else if (!store->entry->live && store->result == 0) {
		store->result = -ECANCELED; /* what is not written of it yet need not be */
	}
}

static void head_written(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	struct tier_page_transfer *page = (struct tier_page_transfer *)transfer;
	struct tier_store *store = page->store;

	log->heads[log->heads_n++] = store->head;
	transfer_ended(log, page, result);
	end(log, store);
}

static void pages_written(struct tier_log *log, struct tier_transfer *transfer, int result)
{
	struct tier_page_transfer *page = (struct tier_page_transfer *)transfer;
	struct tier_store *store = page->store;

	transfer_ended(log, page, result);
	if (store->result < 0) {
		list_unlink(&store->link);
		list_push_back(&log->stores_under_way, &store->link);
		if (store->under_way == 0)
			end(log, store);
	} else if (store->next == store->entry->page_count && store->under_way == 0) {
		list_unlink(&store->link);
		list_push_back(&log->heads_waiting, &store->link);
	}
}

static struct tier_page_transfer *transfer_take(struct tier_log *log, struct tier_store *store)
{
	struct tier_page_transfer *page = list_entry(list_first(&log->free_writes), struct tier_page_transfer, link);

	list_unlink(&page->link);
	page->store = store;
	store->under_way++;
	return page;
}

static void move_to(struct list *head, struct tier_store *store)
{
	list_unlink(&store->link);
	list_push_back(head, &store->link);
}

static void head_submit(struct tier_log *log, struct tier_store *store)
{
	const struct tier_entry *entry = store->entry;
	struct tier_page_transfer *page = transfer_take(log, store);
	struct tier_item item;

	tier_entry_describe(entry, TIER_BLOCK, &item);
	store->head = log->heads[--log->heads_n];
	tier_item_write(store->head + sizeof(struct tier_head), &item);
	tier_record_finish(store->head, TIER_BLOCK, &log->segments[entry->segment].life, item.offset,
			   sizeof(struct tier_head) + tier_item_bytes(&item), 1);
	move_to(&log->stores_under_way, store);
	page->transfer.done = head_written;
	tier_submit(log, &page->transfer, DISK_WRITE, entry->segment, item.offset, store->head,
		    (uint32_t)tier_block_head_bytes(&item));
}

/* Pages from the next one on that lie one behind the other in memory, as they do in the file. */
static uint32_t run_length(const struct tier_store *store, uint32_t slot_bytes)
{
	const uint8_t *first = store->memory[store->next];
	uint32_t left = store->entry->page_count - store->next, n = 1;

	while (n < left && (n + 1) * slot_bytes <= TIER_RUN_BYTES_MAX &&
	       store->memory[store->next + n] == first + (size_t)n * slot_bytes)
		n++;
	return n;
}

static void pages_submit(struct tier_log *log, struct tier_store *store)
{
	const struct tier_entry *entry = store->entry;
	struct tier_page_transfer *pages = transfer_take(log, store);
	void *memory = store->memory[store->next];
	struct tier_item item;
	uint64_t offset;
	uint32_t n;

	tier_entry_describe(entry, TIER_BLOCK, &item);
	offset = item.offset + tier_block_head_bytes(&item) + (uint64_t)store->next * item.block.slot_bytes;
	n = run_length(store, item.block.slot_bytes);
	store->next += n;
	if (store->next == entry->page_count)
		move_to(&log->stores_under_way, store);
	pages->transfer.done = pages_written;
	tier_submit(log, &pages->transfer, DISK_WRITE, entry->segment, offset, memory, n * item.block.slot_bytes);
}

void tier_stores_work(struct tier_log *log)
{
	while (!list_empty(&log->free_writes)) {
		struct list *head = list_first(&log->heads_waiting), *next = list_first(&log->stores);

		if (head && log->heads_n > 0)
			head_submit(log, list_entry(head, struct tier_store, link));
		else if (next)
			pages_submit(log, list_entry(next, struct tier_store, link));
		else
			break;
	}
}

static struct tier_store *store_new(struct tier_log *log, const struct tier_block *block, const struct tier_page *pages,
				    uint64_t cookie)
{
	struct tier_store *store = calloc(1, sizeof(*store) + block->page_count * sizeof(store->memory[0]));
	struct tier_entry *entry = tier_entry_new(&log->index, block);

	if (!store || !entry) {
		free(store);
		if (entry)
			tier_entry_unref(&log->index, entry);
		return NULL;
	}
	store->entry = entry;
	store->cookie = cookie;
	list_init(&store->link);
	list_init(&store->waiting);
	for (uint32_t i = 0; i < block->page_count; i++) {
		entry->checksums[i] = pages[i].checksum;
		store->memory[i] = pages[i].memory;
	}
	return store;
}

static void insert(struct tier_log *log, struct tier_store *store, uint32_t segment, uint64_t offset)
{
	struct tier_entry *entry = store->entry, *old;
	struct tier_item item;

	tier_entry_describe(entry, TIER_BLOCK, &item);
	old = tier_index_find(&log->index, &item.block.space, item.block.key);
	if (old)
		tier_entry_drop(log, old);
	else if (log->index.entries == log->index.entries_max)
		tier_reclaim_oldest(log, true);
	tier_index_insert(&log->index, entry);
	tier_entry_place(log, entry, segment, offset);
	log->stats.used_bytes += tier_block_record_bytes(&item);
	entry->store = store;
	list_push_back(&log->stores, &store->link);
	log->stores_n++;
}

static void check(const struct tier_block *block)
{
	kvp_assert(block->key.n > 0 && block->key.n <= KVP_KEY_BYTES_MAX && block->parent.n <= KVP_KEY_BYTES_MAX);
	kvp_assert(block->tokens > 0 && block->tokens <= KVP_BLOCK_TOKENS_MAX);
	kvp_assert(block->page_count > 0 && block->page_count <= KVP_PAGES_PER_BLOCK_MAX);
	kvp_assert(block->page_bytes > 0 && block->page_bytes <= KVP_PAGE_BYTES_MAX);
	kvp_assert(block->slot_bytes == align_up_u64(block->page_bytes, KVP_SLOT_ALIGN));
}

int tier_store(struct tier_log *log, const struct tier_block *block, const struct tier_page *pages, uint64_t cookie)
{
	const struct tier_item item = { .kind = TIER_BLOCK, .block = *block };
	struct tier_store *store;
	uint64_t offset;
	uint32_t segment;

	check(block);
	if (!log->ready || log->stopping || log->stores_n >= TIER_STORES_MAX ||
	    !tier_room_possible(log, tier_block_record_bytes(&item), tier_item_bytes(&item)) ||
	    !tier_rate_open(&log->rate, log->now_ns))
		return KVP_NO_SPACE;
	store = store_new(log, block, pages, cookie);
	if (!store)
		return KVP_NO_SPACE;
	if (tier_room(log, tier_block_record_bytes(&item), tier_item_bytes(&item), &segment, &offset) != 0) {
		tier_entry_unref(&log->index, store->entry);
		free(store);
		return KVP_NO_SPACE;
	}
	insert(log, store, segment, offset);
	return 0;
}

static void all_free(struct tier_log *log, struct list *stores)
{
	list_for_each_safe(node, after, stores) {
		struct tier_store *store = list_entry(node, struct tier_store, link);

		list_unlink(node);
		list_for_each_safe(load, next, &store->waiting) {
			list_unlink(load);
			list_push_back(&log->loads, load);
		}
		tier_entry_unref(&log->index, store->entry);
		free(store);
	}
}

void tier_stores_deinit(struct tier_log *log)
{
	all_free(log, &log->stores);
	all_free(log, &log->heads_waiting);
	all_free(log, &log->stores_under_way);
}
