/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as segment files. The input is a list of pieces that are laid into three files, most of them given a head
 * with a right checksum, since no fuzzer guesses those. The log starts with that, gives all blocks that it believes
 * in, takes one more, removes some, and starts again.
 *
 * A piece: file and what it is, what it claims, place in units of TIER_ALIGN, length (2), what it claims, bytes.
 */
#include "daemon/tier/internal.h"
#include "daemon/tier/log.h"
#include "tests/lib/disk-memory.h"

#include <stdlib.h>
#include <string.h>

#include "base/contract.h"

#define FILES 3
#define FILE_BYTES (UINT64_C(64) << 10)
#define PIECE_BYTES 6
#define PIECES_MAX 64
#define ITEM_BYTES 8

struct client {
	uint32_t pages;
	uint32_t loads;
	uint32_t stores;
};

static void on_stored(void *context, uint64_t cookie, int result)
{
	((struct client *)context)->stores--;
}

static void on_page_loaded(void *context, uint64_t cookie, uint32_t page, uint64_t checksum, int result)
{
	struct client *client = context;

	kvp_assert(client->pages > 0);
	client->pages--;
}

static void on_loaded(void *context, uint64_t cookie)
{
	((struct client *)context)->loads--;
}

static bool on_resident(void *context, const struct tier_block *block)
{
	return block->tokens % 2;
}

static const struct tier_client calls = { on_stored, on_page_loaded, on_loaded, on_resident };

static void run(struct tier *tier, struct disk_memory *disk)
{
	do {
		while (tier->ops->deadline_ns(tier) <= disk->now_ns)
			tier->ops->tick(tier, disk->now_ns);
	} while (disk_memory_step(disk));
}

/* The life that a file is in, from its number, so that pieces and heads agree. */
static struct tier_life life_of(uint32_t file)
{
	return (struct tier_life){ 10 + file * 7 % 5, 99 };
}

/* An item that is nearly possible, out of ITEM_BYTES. */
static size_t item_make(uint8_t *to, const uint8_t *from, enum tier_kind kind, uint64_t offset)
{
	static const uint64_t checksums[256];
	struct tier_item item = {
		.kind = kind,
		.offset = offset,
		.block = {
			.space = { { from[0] % 2 } },
			.key = { from + 1, kind == TIER_BLOCK || from[0] % 16 },
		},
		.checksums = checksums,
	};

	if (kind == TIER_BLOCK) {
		item.block.parent = (struct block_key){ from + 2, from[0] / 2 % 2 };
		item.block.tokens = 1u + from[3];
		item.block.page_count = from[4] > 250 ? from[4] : from[4] % 8;
		item.block.page_bytes = 1u + from[5] * (from[0] > 250 ? 2048u : 8u);
		item.block.slot_bytes = (item.block.page_bytes + 511) / 512 * 512;
	}
	tier_item_write(to, &item);
	return tier_item_bytes(&item);
}

/* A record of items, complete. */
static void items_lay(uint8_t *record, uint64_t offset, const uint8_t *piece, const uint8_t *body, size_t n,
		      enum tier_kind kind)
{
	const struct tier_life life = life_of(piece[0] % FILES);
	_Alignas(8) static uint8_t made[FILE_BYTES];
	size_t at = sizeof(struct tier_head), room = FILE_BYTES - offset;
	uint32_t items = 0;

	for (; n >= ITEM_BYTES && at + 4096 < room && (items == 0 || kind != TIER_BLOCK); items++, n -= ITEM_BYTES) {
		enum tier_kind of = kind == TIER_CHUNK ? body[7] % 4 ? TIER_BLOCK : TIER_REMOVALS : kind;

		at += item_make(made + at, body, of, kind == TIER_CHUNK ? body[6] * UINT64_C(4096) : offset);
		body += ITEM_BYTES;
	}
	tier_record_finish(made, kind, &life, offset, at, piece[1] > 200 ? piece[1] : items);
	memcpy(record, made, at);
}

static void raw_lay(uint8_t *record, uint64_t offset, const uint8_t *piece, const uint8_t *body, size_t n, size_t head)
{
	const struct tier_life life = life_of(piece[0] % FILES);
	_Alignas(8) static uint8_t made[FILE_BYTES + TIER_ALIGN];

	if (n > FILE_BYTES - offset - head)
		n = FILE_BYTES - offset - head;
	if (n > 0)
		memcpy(made + head, body, n);
	if (head > 0)
		tier_record_finish(made, piece[1] % 8, &life, offset, head + n, piece[5]);
	memcpy(record, made, head + n);
}

static void piece_lay(struct disk_memory *disk, const uint8_t *piece, const uint8_t *body, size_t n)
{
	static const enum tier_kind kinds[] = { TIER_BLOCK, TIER_BLOCK, TIER_REMOVALS, TIER_CHUNK };
	uint32_t file = piece[0] % FILES, what = piece[0] / FILES % 8;
	uint64_t offset = piece[2] * UINT64_C(4096) % FILE_BYTES;
	uint8_t *bytes = disk->files[file].bytes;
	const struct tier_life life = life_of(file);

	if (what < 4)
		items_lay(bytes + offset, offset, piece, body, n, kinds[what]);
	else if (what < 6)
		tier_end_write(bytes + FILE_BYTES - TIER_ALIGN, &life, FILE_BYTES, offset, piece[1]);
	else
		raw_lay(bytes + offset, offset, piece, body, n, what == 6 ? sizeof(struct tier_head) : 0);
}

static void files_make(struct disk_memory *disk, const uint8_t *data, size_t size)
{
	for (uint32_t file = 0; file < FILES; file++) {
		const struct tier_life life = life_of(file);

		disk->files[file].bytes = calloc(1, FILE_BYTES);
		kvp_assert(disk->files[file].bytes);
		tier_segment_write(disk->files[file].bytes, &life, file, FILE_BYTES);
	}
	for (unsigned i = 0; i < PIECES_MAX && size >= PIECE_BYTES; i++) {
		size_t n = data[3] % 8 * 256u + data[4];

		if (n > size - PIECE_BYTES)
			n = size - PIECE_BYTES;
		piece_lay(disk, data, data + PIECE_BYTES, n);
		data += PIECE_BYTES + n;
		size -= PIECE_BYTES + n;
	}
}

static void load_one(struct tier *tier, struct disk_memory *disk, struct client *client, const struct tier_item *item)
{
	uint32_t n = item->block.page_count, *order = calloc(n, sizeof(*order));
	void **memory = calloc(n, sizeof(*memory));
	struct tier_block found;

	kvp_assert(order && memory);
	for (uint32_t i = 0; i < n; i++) {
		order[i] = i;
		memory[i] = aligned_alloc(512, item->block.slot_bytes);
		kvp_assert(memory[i]);
	}
	kvp_assert(tier->ops->find(tier, &item->block.space, item->block.key, &found));
	kvp_assert(found.page_count == n && found.slot_bytes == item->block.slot_bytes);
	client->pages = n;
	client->loads = 1;
	kvp_assert(tier->ops->load(tier, &item->block.space, item->block.key, order, memory, n, 0, disk->now_ns) == 0);
	while (client->loads > 0)
		kvp_assert(disk_memory_step(disk));
	kvp_assert(client->pages == 0);
	for (uint32_t i = 0; i < n; i++)
		free(memory[i]);
	free(memory);
	free(order);
}

static void load_all(struct tier *tier, struct disk_memory *disk, struct client *client)
{
	struct tier_log *log = list_entry(tier, struct tier_log, tier);

	for (uint32_t i = 0; i < FILES; i++)
		list_for_each_safe(node, after, &log->segments[i].entries) {
			struct tier_item item;

			tier_entry_describe(list_entry(node, struct tier_entry, in_segment), TIER_BLOCK, &item);
			load_one(tier, disk, client, &item);
		}
}

static void remove_first(struct tier *tier, struct disk_memory *disk)
{
	struct tier_log *log = list_entry(tier, struct tier_log, tier);

	for (uint32_t i = 0; i < FILES; i++) {
		struct list *first = list_first(&log->segments[i].entries);
		struct tier_item item;

		if (!first)
			continue;
		tier_entry_describe(list_entry(first, struct tier_entry, in_segment), TIER_BLOCK, &item);
		tier->ops->remove(tier, &item.block.space, item.block.key, disk->now_ns);
	}
}

static void store_one(struct tier *tier, struct disk_memory *disk, struct client *client)
{
	static _Alignas(512) uint8_t bytes[512];
	const struct tier_page page = { bytes, 0 };
	const struct tier_block block = {
		.key = { (const uint8_t *)"k", 1 }, .tokens = 1, .page_count = 1, .page_bytes = 512, .slot_bytes = 512,
	};

	client->stores++;
	if (tier->ops->store(tier, &block, &page, 0, disk->now_ns) != 0)
		client->stores--;
	run(tier, disk);
	kvp_assert(client->stores == 0);
}

static void live(struct disk_memory *disk)
{
	const struct tier_log_options options = { .disk = &disk->disk, .blocks_max = 64, .seed = 1 };
	struct client client = { 0 };
	struct tier_stats stats;
	struct tier *tier;

	disk_memory_reopen(disk);
	kvp_assert(tier_log_new(&options, &tier) == 0);
	tier->ops->bind(tier, &calls, &client);
	while (tier->ops->stats(tier, &stats), !stats.ready)
		kvp_assert(disk_memory_step(disk));
	load_all(tier, disk, &client);
	remove_first(tier, disk);
	store_one(tier, disk, &client);
	while (!tier->ops->stop(tier))
		kvp_assert(disk_memory_step(disk));
	tier_log_free(tier);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct disk_memory disk;

	disk_memory_init(&disk, FILE_BYTES, FILES, 4);
	files_make(&disk, data, size);
	live(&disk);
	live(&disk);
	disk_memory_deinit(&disk);
	return 0;
}
