/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks and jobs are lists; a block that is removed stays until no job needs it. */
#include "tests/lib/tier-memory.h"

#include "base/contract.h"
#include "proto/status.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Zeroed; not by one of the functions that a test may have wrapped. */
static void *memory_new(size_t n, size_t size)
{
	void *memory = aligned_alloc(64, (n * size + 63) / 64 * 64);

	if (memory)
		memset(memory, 0, n * size);
	return memory;
}

struct tier_memory_block {
	struct tier_memory_block *next;
	struct tier_space space;
	uint8_t key[KVP_KEY_BYTES_MAX];
	uint8_t parent[KVP_KEY_BYTES_MAX];
	size_t key_n, parent_n;
	uint32_t tokens, page_count, page_bytes, slot_bytes;
	uint8_t *bytes;
	uint64_t *checksums;
	bool dead;     /* cannot be found any more; freed with the last job */
	unsigned jobs;
	bool storing;
};

struct tier_memory_job {
	struct tier_memory_job *next;
	struct tier_memory_block *block;
	uint64_t cookie;
	bool load;
	uint32_t n, at;
	uint32_t *order;
	void **memory; /* of a load: destinations; of a store: sources */
};

static struct tier_memory *of(const struct tier *tier)
{
	return (struct tier_memory *)tier;
}

static bool key_is(const uint8_t *bytes, size_t n, struct block_key key)
{
	return n == key.n && (n == 0 || memcmp(bytes, key.bytes, n) == 0);
}

static struct tier_memory_block *find(struct tier_memory *tier, const struct tier_space *space, struct block_key key)
{
	for (struct tier_memory_block *at = tier->blocks; at; at = at->next)
		if (!at->dead && memcmp(&at->space, space, sizeof(*space)) == 0 && key_is(at->key, at->key_n, key))
			return at;
	return NULL;
}

/* Frees what is dead and no job needs. */
static void sweep(struct tier_memory *tier)
{
	struct tier_memory_block **link = &tier->blocks;

	while (*link) {
		struct tier_memory_block *at = *link;

		if (!at->dead || at->jobs > 0) {
			link = &at->next;
			continue;
		}
		*link = at->next;
		free(at->bytes);
		free(at->checksums);
		free(at);
	}
}

static void describe(const struct tier_memory_block *block, struct tier_block *ret_block)
{
	*ret_block = (struct tier_block){
		.space = block->space,
		.key = { block->key, block->key_n },
		.parent = { block->parent, block->parent_n },
		.tokens = block->tokens,
		.page_count = block->page_count,
		.page_bytes = block->page_bytes,
		.slot_bytes = block->slot_bytes,
	};
}

static void memory_bind(struct tier *tier, const struct tier_client *client, void *context)
{
	of(tier)->client = client;
	of(tier)->context = context;
}

static bool memory_find(struct tier *tier, const struct tier_space *space, struct block_key key,
			struct tier_block *ret_block)
{
	struct tier_memory_block *block = find(of(tier), space, key);

	if (block)
		describe(block, ret_block);
	return block;
}

static void job_push(struct tier_memory *tier, struct tier_memory_job *job)
{
	struct tier_memory_job **link = &tier->jobs;

	while (*link)
		link = &(*link)->next;
	*link = job;
	job->block->jobs++;
}

static struct tier_memory_job *job_new(struct tier_memory_block *block, uint64_t cookie, bool load, uint32_t n)
{
	struct tier_memory_job *job = memory_new(1, sizeof(*job));

	assert_non_null(job);
	*job = (struct tier_memory_job){ .block = block, .cookie = cookie, .load = load, .n = n };
	job->order = memory_new(n, sizeof(*job->order));
	job->memory = memory_new(n, sizeof(*job->memory));
	assert_true(job->order && job->memory);
	return job;
}

static int memory_store(struct tier *tier, const struct tier_block *described, const struct tier_page *pages,
			uint64_t cookie, uint64_t now_ns)
{
	struct tier_memory *memory = of(tier);
	struct tier_memory_block *block = find(memory, &described->space, described->key);
	struct tier_memory_job *job;

	if (tier_memory_blocks(memory) >= memory->blocks_max)
		return KVP_NO_SPACE;
	if (block)
		block->dead = true;
	block = memory_new(1, sizeof(*block));
	assert_non_null(block);
	*block = (struct tier_memory_block){
		.next = memory->blocks,
		.space = described->space,
		.key_n = described->key.n,
		.parent_n = described->parent.n,
		.tokens = described->tokens,
		.page_count = described->page_count,
		.page_bytes = described->page_bytes,
		.slot_bytes = described->slot_bytes,
		.storing = true,
	};
	memcpy(block->key, described->key.bytes, described->key.n);
	if (described->parent.n > 0)
		memcpy(block->parent, described->parent.bytes, described->parent.n);
	block->bytes = memory_new(described->page_count, described->slot_bytes);
	block->checksums = memory_new(described->page_count, sizeof(uint64_t));
	assert_true(block->bytes && block->checksums);
	memory->blocks = block;
	job = job_new(block, cookie, false, described->page_count);
	for (uint32_t i = 0; i < described->page_count; i++) {
		job->memory[i] = pages[i].memory;
		block->checksums[i] = pages[i].checksum;
	}
	job_push(memory, job);
	memory->n_stores++;
	return 0;
}

static int memory_load(struct tier *tier, const struct tier_space *space, struct block_key key, const uint32_t *order,
		       void *const *destinations, uint32_t n, uint64_t cookie, uint64_t now_ns)
{
	struct tier_memory *memory = of(tier);
	struct tier_memory_block *block = find(memory, space, key);
	struct tier_memory_job *job;

	if (!block)
		return KVP_MISS;
	job = job_new(block, cookie, true, n);
	for (uint32_t i = 0; i < n; i++) {
		job->order[i] = order[i];
		job->memory[i] = destinations[i];
		if (memory->n_pages < 64)
			memory->order[memory->n_pages] = order[i];
		memory->n_pages++;
	}
	job_push(memory, job);
	return 0;
}

static void remove_tree(struct tier_memory *tier, const struct tier_space *space, struct block_key key)
{
	for (struct tier_memory_block *at = tier->blocks; at; at = at->next) {
		if (at->dead || memcmp(&at->space, space, sizeof(*space)) != 0)
			continue;
		if (key.n == 0 || key_is(at->key, at->key_n, key)) {
			at->dead = true;
		} else if (key_is(at->parent, at->parent_n, key)) {
			at->dead = true;
			remove_tree(tier, space, (struct block_key){ at->key, at->key_n });
		}
	}
}

static void memory_remove(struct tier *tier, const struct tier_space *space, struct block_key key, uint64_t now_ns)
{
	remove_tree(of(tier), space, key);
	sweep(of(tier));
}

static void memory_forget(struct tier *tier, const struct tier_space *space, struct block_key key)
{
	struct tier_memory_block *block = find(of(tier), space, key);

	if (block)
		block->dead = true;
	sweep(of(tier));
}

static uint64_t memory_forecast_ns(const struct tier *tier, uint64_t bytes)
{
	return bytes; /* a byte a nanosecond */
}

static void memory_stats(const struct tier *tier, struct tier_stats *ret_stats)
{
	*ret_stats = (struct tier_stats){ .engine = "memory", .ready = true, .blocks = tier_memory_blocks(of(tier)) };
}

static uint64_t memory_deadline_ns(const struct tier *tier)
{
	return UINT64_MAX;
}

static void memory_tick(struct tier *tier, uint64_t now_ns)
{
}

static bool memory_stop(struct tier *tier)
{
	return !of(tier)->jobs;
}

void tier_memory_init(struct tier_memory *tier)
{
	static const struct tier_ops ops = {
		.bind = memory_bind,
		.find = memory_find,
		.store = memory_store,
		.load = memory_load,
		.remove = memory_remove,
		.forget = memory_forget,
		.forecast_ns = memory_forecast_ns,
		.stats = memory_stats,
		.deadline_ns = memory_deadline_ns,
		.tick = memory_tick,
		.stop = memory_stop,
	};

	*tier = (struct tier_memory){ .tier.ops = &ops, .blocks_max = UINT64_MAX };
}

void tier_memory_deinit(struct tier_memory *tier)
{
	assert_null(tier->jobs);
	for (struct tier_memory_block *at = tier->blocks; at; at = at->next)
		at->dead = true;
	sweep(tier);
}

static bool take(unsigned *count)
{
	if (*count == 0)
		return false;
	(*count)--;
	return true;
}

static void job_end(struct tier_memory *tier, struct tier_memory_job *job)
{
	struct tier_memory_job **link = &tier->jobs;

	while (*link != job)
		link = &(*link)->next;
	*link = job->next;
	job->block->jobs--;
	free(job->order);
	free(job->memory);
	free(job);
}

static void store_end(struct tier_memory *tier, struct tier_memory_job *job)
{
	struct tier_memory_block *block = job->block;
	uint64_t cookie = job->cookie;
	int result = take(&tier->fail_stores) ? -EIO : 0;

	for (uint32_t i = 0; i < job->n; i++)
		memcpy(block->bytes + (size_t)i * block->slot_bytes, job->memory[i], block->slot_bytes);
	block->storing = false;
	if (result < 0)
		block->dead = true;
	job_end(tier, job);
	tier->client->stored(tier->context, cookie, result);
}

static void page_end(struct tier_memory *tier, struct tier_memory_job *job)
{
	struct tier_memory_block *block = job->block;
	uint32_t i = job->at++, page = job->order[i];
	int result = take(&tier->fail_pages) ? -EIO : 0;

	memcpy(job->memory[i], block->bytes + (size_t)page * block->slot_bytes, block->slot_bytes);
	if (take(&tier->flip_pages))
		((uint8_t *)job->memory[i])[block->page_bytes / 2] ^= 4;
	tier->client->page_loaded(tier->context, job->cookie, page, block->checksums[page], result);
}

static void load_end(struct tier_memory *tier, struct tier_memory_job *job)
{
	uint64_t cookie = job->cookie;

	job_end(tier, job);
	tier->client->loaded(tier->context, cookie);
}

bool tier_memory_step(struct tier_memory *tier, unsigned skip)
{
	struct tier_memory_job *job = tier->jobs;

	while (job && skip > 0 && job->next) {
		job = job->next;
		skip--;
	}
	if (!job)
		return false;
	/* A load of what is being stored is served after. */
	if (job->load && job->block->storing)
		for (job = tier->jobs; job->load;)
			job = job->next;
	if (!job->load)
		store_end(tier, job);
	else if (job->at < job->n)
		page_end(tier, job);
	else
		load_end(tier, job);
	sweep(tier);
	return true;
}

bool tier_memory_drop(struct tier_memory *tier, unsigned skip)
{
	struct tier_memory_block *found = NULL;
	struct tier_block described;

	for (struct tier_memory_block *at = tier->blocks; at; at = at->next)
		if (!at->dead && at->jobs == 0 && (!found || skip-- > 0))
			found = at;
	if (!found)
		return false;
	describe(found, &described);
	(void)tier->client->resident(tier->context, &described);
	found->dead = true;
	sweep(tier);
	return true;
}

uint64_t tier_memory_blocks(const struct tier_memory *tier)
{
	uint64_t n = 0;

	for (const struct tier_memory_block *at = tier->blocks; at; at = at->next)
		n += !at->dead;
	return n;
}
