/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A writer: appends chains from their root on, most of the time more than the arena holds, so that blocks are evicted
 * all the while; and now and then deletes, evicts, keeps and touches.
 */
#include "tests/torture/torture.h"

#include "tests/e2e/wire.h"

#include <stdlib.h>

struct writer {
	struct worker *worker;
	kvc_space *spaces[PATTERN_SPACES];
	kvc_client *client;
	struct pattern_block blocks[PATTERN_CHAIN];
	float k[PATTERN_CHAIN][PATTERN_TENSOR_MAX];
	float v[PATTERN_CHAIN][PATTERN_TENSOR_MAX];
};

static void appended(const struct writer *writer, const struct kvc_append *append, const struct pattern_block *block)
{
	switch (append->status) {
	case KVC_OK:
		tally_add(writer->worker->torture, TALLY_APPENDS, 1);
		break;
	case KVC_NO_SPACE:
		tally_add(writer->worker->torture, TALLY_NO_SPACE, 1);
		break;
	case KVC_PRESENT:
	case KVC_NO_PARENT:
	case KVC_STALE: /* deleted while it came in */
	case KVC_STOPPING:
		break;
	default:
		torture_wrong(writer->worker, "append of block %u in %s: %d (%s)", block->number, block->space->name,
			      append->status, kvc_strerror(append->status));
	}
}

/* The first blocks of a chain. */
static void append_chain(struct writer *writer)
{
	struct kvc_append appends[PATTERN_CHAIN] = { 0 };
	struct pattern_block chosen;
	unsigned space = worker_choose(&writer->worker->random, &chosen);
	uint32_t first = chosen.number / PATTERN_CHAIN * PATTERN_CHAIN;
	uint32_t n = 1 + chosen.number % PATTERN_CHAIN;
	int r;

	for (uint32_t i = 0; i < n; i++) {
		struct pattern_block *block = &writer->blocks[i];

		pattern_block_of(space, first + i, block);
		pattern_fill(block, 'K', writer->k[i]);
		pattern_fill(block, 'V', writer->v[i]);
		appends[i] = (struct kvc_append){
			.key = block->key,
			.parent = i > 0 ? writer->blocks[i - 1].key : (struct kvc_key){ 0 },
			.tokens = block->tokens,
			.k = pattern_tensor(block->space, 'K', writer->k[i]),
			.v = pattern_tensor(block->space, 'V', writer->v[i]),
		};
	}
	r = kvc_append(writer->spaces[space], appends, n);
	if (!worker_answered(writer->worker, r, "kvc_append"))
		return;
	for (uint32_t i = 0; i < n; i++)
		appended(writer, &appends[i], &writer->blocks[i]);
}

static void delete_one(struct writer *writer)
{
	struct pattern_block block;
	unsigned space = random_next(&writer->worker->random) % 2 == 0
				 ? worker_choose(&writer->worker->random, &block)
				 : worker_choose_hot(&writer->worker->random, &block);
	int status = -1;
	int r = kvc_delete(writer->spaces[space], &block.key, 1, &status);

	if (worker_answered(writer->worker, r, "kvc_delete") && status == KVC_OK)
		tally_add(writer->worker->torture, TALLY_DELETES, 1);
}

static void evict_some(struct writer *writer)
{
	uint64_t blocks = 0;
	int r = kvc_evict(writer->client, NULL, 0, 1 + random_next(&writer->worker->random) % 16, &blocks, NULL);

	if (worker_answered(writer->worker, r, "kvc_evict"))
		tally_add(writer->worker->torture, TALLY_EVICTIONS, blocks);
}

static void keep_one(struct writer *writer)
{
	struct pattern_block block;
	unsigned space = worker_choose(&writer->worker->random, &block);
	int r = kvc_keep(writer->spaces[space], &block.key, 1, 1 + block.number % 3, 50, NULL);

	(void)worker_answered(writer->worker, r, "kvc_keep");
}

void torture_write(struct worker *worker)
{
	struct kvc_options options = {
		.struct_bytes = sizeof(options),
		.socket_path = worker->torture->socket_path,
		.client_name = "writer",
		.staging_bytes = 512 << 10,
	};
	struct writer *writer = calloc(1, sizeof(*writer));

	if (!writer)
		torture_wrong(worker, "no memory");
	writer->worker = worker;
	writer->client = worker_open(worker, &options, writer->spaces);
	while (writer->client && !torture_over(worker->torture)) {
		uint64_t choice = random_next(&worker->random) % 100;

		if (choice < 70)
			append_chain(writer);
		else if (choice < 95)
			delete_one(writer);
		else if (choice < 97)
			evict_some(writer);
		else
			keep_one(writer);
	}
	(void)kvc_close(writer->client);
	free(writer);
}
