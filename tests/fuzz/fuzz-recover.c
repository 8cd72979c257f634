/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An arena with any bytes of its tables changed is taken over, or refused for its header: the books must be right, and
 * new blocks must find their place in it, evicting what there is.
 *
 * Input: one byte (how many changes are made), then changes: a byte that chooses the table, two for the place in it,
 * one for what the byte there is changed by.
 */
#include "daemon/core/block.h"
#include "daemon/core/core.h"
#include "daemon/core/space.h"

#include "base/contract.h"
#include "base/units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA KVP_ARENA_BYTES_MIN
#define BLOCKS 16
#define CHANGES_MAX 32
#define CHANGE_BYTES 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct core_host nobody = { 0 };

static struct core *core_on(void *arena, bool recover)
{
	struct core_options options = {
		.arena = arena,
		.arena_bytes = ARENA,
		.recover = recover,
		.blocks_max = BLOCKS,
		.incarnation = recover ? 2 : 1,
		.hash_seed = 12345,
		.now_ns = NS_PER_S,
		.version = "0",
		.host = &nobody,
	};
	struct core *core;

	kvp_assert(core_new(&options, &core) == 0);
	kvp_assert(!core_audit(core));
	return core;
}

/* The space of this name, with pages for a block in each layer. */
static uint32_t space_get(struct core *core, const char *name, uint32_t layers)
{
	struct space_request request = {
		.name = { (const uint8_t *)name, strlen(name) },
		.model = { (const uint8_t *)"m", 1 },
		.dtype = 1,
		.schema = { .layers = layers, .kv_heads = 1, .head_dim_k = 64, .head_dim_v = 64, .block_tokens = 16,
			    .codec_k = 16, .codec_v = 16 },
	};
	uint32_t id = space_find(core, request.name.bytes, request.name.n);

	kvp_assert(!page_schema_complete(&request.schema));
	if (!id && space_create(core, &request, &id) != KVP_OK)
		return 0;
	return id;
}

/* A whole block, if there is room and none of this key. Its number, or 0. */
static uint32_t block_put(struct core *core, uint32_t space, const char *name, uint32_t parent)
{
	struct block_key key = { name, strlen(name) };
	static uint8_t page[64 * KIB];
	uint32_t n = page_bytes(&core->spaces[space].schema, 16);
	uint32_t block;

	kvp_assert(n <= sizeof(page));
	if (block_find(core, space, key) || block_create(core, space, key, parent, 16, &block) != KVP_OK)
		return 0;
	for (uint32_t i = 0; i < core->spaces[space].page_count; i++) {
		if (block_store_page(core, block, i, page, n, kvp_page_checksum(page, n)) != KVP_OK) {
			uint32_t budget = UINT32_MAX;

			(void)block_kill_tree(core, block, KVP_FATE_UNFINISHED, &budget);
			return 0;
		}
	}
	return block;
}

/* Two spaces; chains, roots, a block that was removed, and one that is not whole. */
static void template_fill(struct core *core)
{
	uint32_t many = space_get(core, "many", 3), one = space_get(core, "one", 1), block = 0, budget = UINT32_MAX;
	struct block_key key = { "half", 4 };
	char name[8];

	for (unsigned i = 0; i < 5; i++) {
		(void)snprintf(name, sizeof(name), "m%u", i);
		block = block_put(core, many, name, i % 3 ? block : 0);
		(void)snprintf(name, sizeof(name), "o%u", i);
		(void)block_put(core, one, name, 0);
	}
	(void)block_kill_tree(core, block, KVP_FATE_DELETED, &budget);
	kvp_assert(block_create(core, many, key, 0, 16, &block) == KVP_OK);
}

/* Never freed: it has a block that is not whole. Where the search for leaks finds it. */
static struct core *volatile template_core;

/* It goes on with the core that made it: nothing of that is looked at again. */
static const uint8_t *template_arena(void)
{
	static uint8_t *arena;

	if (arena)
		return arena;
	arena = aligned_alloc(4096, ARENA);
	kvp_assert(arena);
	memset(arena, 0, ARENA);
	template_core = core_on(arena, false);
	template_fill(template_core);
	return arena;
}

static void change(uint8_t *arena, const struct kvp_arena_header *whole, const uint8_t bytes[CHANGE_BYTES])
{
	const struct {
		uint64_t begin, n;
	} tables[] = {
		{ 0, sizeof(*whole) },
		{ whole->spaces_offset, 3 * sizeof(struct kvp_space_entry) },
		{ whole->index_offset, whole->buckets_count * sizeof(struct kvp_bucket) },
		{ whole->blocks_offset, BLOCKS * sizeof(struct kvp_block) },
		{ whole->blocks_offset, BLOCKS * sizeof(struct kvp_block) },
		{ whole->extents_offset, 4096 },
		{ whole->extents_offset + KVP_EXTENT_BYTES, 4096 },
	};
	size_t table = bytes[0] % (sizeof(tables) / sizeof(tables[0]));
	uint64_t at = (bytes[1] | (uint64_t)bytes[2] << 8) % tables[table].n;

	arena[tables[table].begin + at] ^= bytes[3];
}

/* More than there is room for, in the spaces that are left and in a new one; then time goes on. */
static void live_on(struct core *core)
{
	char name[8];

	core_tick(core, NS_PER_S * 10);
	for (unsigned i = 0; i < 2 * BLOCKS; i++) {
		uint32_t space = space_get(core, i % 3 ? "many" : "new", i % 3 ? 3 : 5);

		(void)snprintf(name, sizeof(name), "n%u", i);
		if (space)
			(void)block_put(core, space, name, 0);
	}
	core_tick(core, NS_PER_S * 20);
	kvp_assert(!core_audit(core));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t *arena;
	const uint8_t *whole = template_arena();
	size_t n = size > 0 ? data[0] % CHANGES_MAX : 0;
	struct core *core;

	if (!arena)
		arena = aligned_alloc(4096, ARENA);
	kvp_assert(arena);
	memcpy(arena, whole, ARENA);
	for (size_t i = 0; i < n && (i + 1) * CHANGE_BYTES < size; i++)
		change(arena, (const void *)whole, data + 1 + i * CHANGE_BYTES);
	if (core_arena_fault(arena, ARENA, BLOCKS))
		return 0;
	core = core_on(arena, true);
	live_on(core);
	(void)core_free(core);
	return 0;
}
