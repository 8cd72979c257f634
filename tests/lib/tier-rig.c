/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a page are a stream that begins with its space, number, version and place, so that any page tells
 * whose it is.
 */
#include "tests/lib/tier-rig.h"

#include "base/checked.h"
#include "proto/layout.h"
#include "proto/status.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct page_name {
	uint32_t space, number, version, page;
};

uint32_t tier_rig_parent(const struct tier_rig *rig, uint32_t number)
{
	return rig->flat || number % 3 == 0 ? 0 : number / 2;
}

static struct tier_space space_name(uint32_t space)
{
	struct tier_space name = { .digest = { (uint8_t)(space * 50 + 1) } };

	return name;
}

static size_t key_write(uint32_t number, uint8_t key[8])
{
	return (size_t)snprintf((char *)key, 8, "k%u", number % 100000);
}

static void block_make(const struct tier_rig *rig, uint32_t space, uint32_t number, uint8_t keys[16],
		       struct tier_block *ret_block)
{
	uint32_t parent = tier_rig_parent(rig, number);

	*ret_block = (struct tier_block){
		.space = space_name(space),
		.key = { keys, key_write(number, keys) },
		.tokens = 1 + number % 128,
		.page_count = rig->page_count ? rig->page_count : 1 + number % RIG_PAGES_MAX,
		.page_bytes = rig->page_bytes ? rig->page_bytes : 700 + number % 5 * 600,
	};
	if (parent > 0)
		ret_block->parent = (struct block_key){ keys + 8, key_write(parent, keys + 8) };
	ret_block->slot_bytes = (uint32_t)align_up_u64(ret_block->page_bytes, KVP_SLOT_ALIGN);
}

static void page_fill(uint8_t *page, uint32_t bytes, struct page_name name)
{
	uint64_t seed = ((uint64_t)name.space << 48) ^ ((uint64_t)name.number << 24) ^ name.version ^
			((uint64_t)name.page << 56);

	memcpy(page, &name, sizeof(name));
	for (uint32_t i = sizeof(name); i + 8 <= bytes; i += 8) {
		uint64_t word = disk_memory_random(&seed);

		memcpy(page + i, &word, 8);
	}
}

static struct tier_rig_store *store_take(struct tier_rig *rig, uint64_t cookie)
{
	struct tier_rig_store *store = (struct tier_rig_store *)(uintptr_t)cookie;

	list_unlink(&store->link);
	rig->stores_n--;
	return store;
}

static void on_stored(void *context, uint64_t cookie, int result)
{
	struct tier_rig *rig = context;
	struct tier_rig_store *store = store_take(rig, cookie);

	assert_true(result <= 0);
	rig->last_stored = result;
	if (rig->stored)
		rig->stored(rig, store, result);
	free(store->memory);
	free(store);
}

/* Where a page lies: neighbours in memory, but for the hole. */
static uint8_t *page_at(const struct tier_rig *rig, uint8_t *memory, const struct tier_block *block, uint32_t page)
{
	return memory + (size_t)(page + (page >= rig->hole)) * block->slot_bytes;
}

static uint8_t *pages_new(const struct tier_block *block)
{
	return aligned_alloc(512, (size_t)(block->page_count + 1) * block->slot_bytes);
}

/* What the checksum lets through must be the page of this block and of nothing else. */
static void page_check(const struct tier_rig *rig, struct tier_rig_load *load, uint32_t page)
{
	const uint8_t *bytes = page_at(rig, load->memory, &load->block, page);
	uint8_t *expected = calloc(1, load->block.slot_bytes);
	struct page_name name;

	memcpy(&name, bytes, sizeof(name));
	assert_int_equal(name.space, load->space);
	assert_int_equal(name.number, load->number);
	assert_int_equal(name.page, page);
	if (load->version > 0)
		assert_int_equal(name.version, load->version);
	load->version = name.version;
	page_fill(expected, load->block.page_bytes, name);
	assert_memory_equal(expected, bytes, load->block.page_bytes);
	free(expected);
}

static void on_page_loaded(void *context, uint64_t cookie, uint32_t page, uint64_t checksum, int result)
{
	const struct tier_rig *rig = context;
	struct tier_rig_load *load = (struct tier_rig_load *)(uintptr_t)cookie;
	const uint8_t *bytes = page_at(rig, load->memory, &load->block, page);

	assert_true(page < load->block.page_count && result <= 0);
	load->came++;
	if (result < 0)
		load->result = result;
	else if (kvp_page_checksum(bytes, load->block.page_bytes) != checksum)
		load->broken++;
	else if (load->result == 0 && load->broken == 0)
		page_check(rig, load, page);
}

static void on_loaded(void *context, uint64_t cookie)
{
	struct tier_rig *rig = context;
	struct tier_rig_load *load = (struct tier_rig_load *)(uintptr_t)cookie;

	assert_int_equal(load->came, load->wanted);
	rig->last.result = load->result ? load->result : load->broken ? KVP_CORRUPT : 0;
	rig->last.version = load->version;
	if (rig->loaded)
		rig->loaded(rig, load->space, load->number, load->tag, rig->last);
	if (load->broken > 0)
		tier_rig_forget(rig, load->space, load->number);
	list_unlink(&load->link);
	rig->loads_n--;
	free(load->memory);
	free(load);
}

static bool on_resident(void *context, const struct tier_block *block)
{
	struct tier_rig *rig = context;
	uint32_t space = (block->space.digest[0] - 1u) / 50;
	char text[9] = "";
	unsigned number;

	assert_true(block->key.n < sizeof(text));
	memcpy(text, block->key.bytes, block->key.n);
	assert_int_equal(sscanf(text, "k%u", &number), 1);
	rig->asked++;
	if (rig->asked_for)
		rig->asked_for(rig, space, number);
	return rig->resident[space][number];
}

static const struct tier_client client = {
	.stored = on_stored,
	.page_loaded = on_page_loaded,
	.loaded = on_loaded,
	.resident = on_resident,
};

void tier_rig_init(struct tier_rig *rig, uint64_t segment_bytes, uint32_t segments)
{
	memset(rig, 0, sizeof(*rig));
	disk_memory_init(&rig->disk, segment_bytes, segments, 8);
	list_init(&rig->stores);
	list_init(&rig->loads);
	rig->now_ns = 1000;
	rig->hole = 2;
	rig->options = (struct tier_log_options){ .disk = &rig->disk.disk, .blocks_max = 1000, .seed = 12345 };
}

static void pending_free(struct tier_rig *rig)
{
	list_for_each_safe(node, after, &rig->stores) {
		struct tier_rig_store *store = list_entry(node, struct tier_rig_store, link);

		list_unlink(node);
		free(store->memory);
		free(store);
	}
	list_for_each_safe(node, after, &rig->loads) {
		struct tier_rig_load *load = list_entry(node, struct tier_rig_load, link);

		list_unlink(node);
		free(load->memory);
		free(load);
	}
	rig->stores_n = rig->loads_n = 0;
}

void tier_rig_deinit(struct tier_rig *rig)
{
	if (rig->tier)
		tier_rig_crash(rig, false);
	disk_memory_deinit(&rig->disk);
}

void tier_rig_start(struct tier_rig *rig)
{
	assert_null(rig->tier);
	disk_memory_reopen(&rig->disk);
	rig->disk.fault = rig->start_fault;
	rig->options.now_ns = rig->now_ns;
	rig->options.seed++;
	assert_int_equal(tier_log_new(&rig->options, &rig->tier), 0);
	rig->tier->ops->bind(rig->tier, &client, rig);
	if (rig->remove_at_start > 0)
		tier_rig_remove(rig, 0, rig->remove_at_start);
	tier_rig_run(rig);
	assert_true(tier_rig_stats(rig).ready);
}

void tier_rig_stop(struct tier_rig *rig)
{
	while (!rig->tier->ops->stop(rig->tier))
		assert_true(disk_memory_step(&rig->disk));
	assert_int_equal(rig->stores_n, 0);
	assert_int_equal(rig->loads_n, 0);
	assert_int_equal(rig->disk.queued, 0);
	tier_log_free(rig->tier);
	rig->tier = NULL;
}

void tier_rig_crash(struct tier_rig *rig, bool torn)
{
	disk_memory_crash(&rig->disk, torn);
	tier_log_free(rig->tier);
	rig->tier = NULL;
	pending_free(rig);
}

bool tier_rig_step(struct tier_rig *rig)
{
	if (rig->disk.now_ns < rig->now_ns)
		rig->disk.now_ns = rig->now_ns;
	if (rig->tier->ops->deadline_ns(rig->tier) <= rig->now_ns) {
		rig->tier->ops->tick(rig->tier, rig->now_ns);
		return true;
	}
	if (!disk_memory_step(&rig->disk))
		return false;
	rig->now_ns = rig->disk.now_ns;
	return true;
}

void tier_rig_run(struct tier_rig *rig)
{
	for (unsigned steps = 0; tier_rig_step(rig); steps++)
		assert_true(steps < 10 * 1000 * 1000);
}

void tier_rig_wait(struct tier_rig *rig, uint64_t ns)
{
	tier_rig_run(rig);
	rig->now_ns += ns;
	tier_rig_run(rig);
}

int tier_rig_store(struct tier_rig *rig, uint32_t space, uint32_t number, uint32_t version)
{
	struct tier_rig_store *store = calloc(1, sizeof(*store));
	struct tier_page pages[64];
	struct tier_block block;
	uint8_t keys[16];
	int result;

	block_make(rig, space, number, keys, &block);
	assert_true(block.page_count <= 64);
	*store = (struct tier_rig_store){ .space = space, .number = number, .version = version };
	store->memory = pages_new(&block);
	for (uint32_t i = 0; i < block.page_count; i++) {
		uint8_t *page = page_at(rig, store->memory, &block, i);

		memset(page, 0, block.slot_bytes);
		page_fill(page, block.page_bytes, (struct page_name){ space, number, version, i });
		pages[i] = (struct tier_page){ page, kvp_page_checksum(page, block.page_bytes) };
	}
	list_push_back(&rig->stores, &store->link);
	rig->stores_n++;
	result = rig->tier->ops->store(rig->tier, &block, pages, (uintptr_t)store, rig->now_ns);
	if (result != 0) {
		(void)store_take(rig, (uintptr_t)store);
		free(store->memory);
		free(store);
	}
	return result;
}

static void load_make(struct tier_rig *rig, struct tier_rig_load *load, const struct tier_block *block)
{
	load->block = *block;
	load->wanted = block->page_count;
	load->memory = pages_new(block);
	memset(load->memory, 0xee, (size_t)(block->page_count + 1) * block->slot_bytes);
	list_push_back(&rig->loads, &load->link);
	rig->loads_n++;
}

int tier_rig_load_begin(struct tier_rig *rig, uint32_t space, uint32_t number)
{
	struct tier_space name = space_name(space);
	struct tier_rig_load *load;
	struct tier_block block;
	uint32_t order[64];
	void *memory[64];
	uint8_t key[8];
	struct block_key wanted = { key, key_write(number, key) };
	int result;

	if (!rig->tier->ops->find(rig->tier, &name, wanted, &block))
		return KVP_MISS;
	assert_true(block.key.n == wanted.n && memcmp(block.key.bytes, key, wanted.n) == 0);
	load = calloc(1, sizeof(*load));
	*load = (struct tier_rig_load){ .space = space, .number = number, .tag = rig->tag };
	load_make(rig, load, &block);
	for (uint32_t i = 0; i < block.page_count; i++) {
		order[i] = (i + number) % block.page_count;
		memory[i] = page_at(rig, load->memory, &block, order[i]);
	}
	result = rig->tier->ops->load(rig->tier, &name, wanted, order, memory, block.page_count, (uintptr_t)load,
				      rig->now_ns);
	assert_int_equal(result, 0);
	return 0;
}

struct tier_rig_outcome tier_rig_load(struct tier_rig *rig, uint32_t space, uint32_t number)
{
	rig->last = (struct tier_rig_outcome){ .result = tier_rig_load_begin(rig, space, number) };
	if (rig->last.result == 0)
		while (rig->loads_n > 0)
			assert_true(tier_rig_step(rig));
	return rig->last;
}

bool tier_rig_find(struct tier_rig *rig, uint32_t space, uint32_t number)
{
	struct tier_space name = space_name(space);
	struct tier_block block;
	uint8_t key[8];

	return rig->tier->ops->find(rig->tier, &name, (struct block_key){ key, key_write(number, key) }, &block);
}

void tier_rig_remove(struct tier_rig *rig, uint32_t space, uint32_t number)
{
	struct tier_space name = space_name(space);
	uint8_t key[8];

	rig->tier->ops->remove(rig->tier, &name, (struct block_key){ key, key_write(number, key) }, rig->now_ns);
}

void tier_rig_remove_space(struct tier_rig *rig, uint32_t space)
{
	struct tier_space name = space_name(space);

	rig->tier->ops->remove(rig->tier, &name, (struct block_key){ NULL, 0 }, rig->now_ns);
}

void tier_rig_forget(struct tier_rig *rig, uint32_t space, uint32_t number)
{
	struct tier_space name = space_name(space);
	uint8_t key[8];

	rig->tier->ops->forget(rig->tier, &name, (struct block_key){ key, key_write(number, key) });
}

struct tier_stats tier_rig_stats(const struct tier_rig *rig)
{
	struct tier_stats stats;

	rig->tier->ops->stats(rig->tier, &stats);
	return stats;
}
