/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fetching into the caller's tensors. Blocks that follow each other and want the same range share one
 * request; while the blocks of one request are decoded, the next request is on its way. A lease keeps the
 * memory in place; the generation, compared once more after decoding, says whether it was the block's.
 */
#include "base/cleanup.h"
#include "client/client.h"
#include "client/keys.h"
#include "client/lease.h"
#include "client/pagecode.h"

#include <errno.h>
#include <stdlib.h>

/*
 * Blocks of one request: enough to hide its cost, and by bytes only this share of the arena: leases count on a
 * user's quota.
 */
#define FETCH_BATCH 32
#define FETCH_BATCHES_IN_ARENA 32

struct fetch {
	struct kvc_space *space;
	struct kvc_fetch *blocks;
	size_t n;
	size_t batch_max; /* blocks in one request */
};

/* Blocks that share a request, their range and keys. */
struct fetch_batch {
	struct lease_request request;
	struct kvc_fetch *blocks;
	size_t n;
	struct range range;
	struct kvc_key keys[FETCH_BATCH];
};

static const char *tensors_check(const struct kvc_space *space, const struct kvc_fetch *block)
{
	const char *wrong = NULL;

	if (!key_valid(&block->key))
		return "the key must have 1..64 bytes";
	if (block->k.data)
		wrong = tensor_check(&block->k, space->geometry.head_dim_k, true);
	if (!wrong && block->v.data && space->geometry.head_dim_v > 0)
		wrong = tensor_check(&block->v, space->geometry.head_dim_v, true);
	return wrong;
}

/* KVC_OK and the range, or why the block cannot be fetched, in words. */
static int block_check(const struct kvc_space *space, const struct kvc_fetch *block, struct range *ret_range)
{
	int r = KVC_INVALID;
	const char *wrong = tensors_check(space, block);

	if (!wrong) {
		r = KVC_RANGE;
		wrong = range_resolve(space, &block->range, ret_range);
	}
	if (!wrong)
		return KVC_OK;
	words_set(&space->client->words, "%s", wrong);
	return r;
}

/*
 * The next batch, from block *at on: blocks in a row that are valid and have one range. Invalid ones before
 * it get their status. n is 0 when no block is left.
 */
static void batch_gather(struct fetch_batch *batch, const struct fetch *op, size_t *at)
{
	struct range range;

	batch->n = 0;
	while (*at < op->n && batch->n < op->batch_max) {
		struct kvc_fetch *block = &op->blocks[*at];
		int r = block_check(op->space, block, &range);

		if (r != KVC_OK && batch->n > 0)
			return;
		if (r == KVC_OK && batch->n > 0 && !range_equal(&range, &batch->range))
			return;
		(*at)++;
		block->status = r;
		block->tokens = 0;
		if (r != KVC_OK)
			continue;
		if (batch->n == 0) {
			batch->blocks = block;
			batch->range = range;
		}
		batch->keys[batch->n++] = block->key;
	}
}

static int batch_ask(struct fetch_batch *batch, const struct fetch *op, size_t *at)
{
	batch_gather(batch, op, at);
	if (batch->n == 0)
		return 0;
	return lease_ask(&batch->request, op->space, batch->keys, batch->n, &batch->range, 0);
}

/* Decodes the pages of the range into the block's tensors. KVC_OK, KVC_PARTIAL, KVC_STALE. */
static int block_decode(const struct kvc_space *space, const struct range *range, const struct block_view *view,
			struct kvc_fetch *block)
{
	const struct arena_layout *arena = &space->client->connection.arena->layout;
	uint32_t bytes = page_bytes(&space->geometry, view->tokens);
	uint32_t total = range_pages(space, range);
	int r = KVC_OK;

	for (uint32_t i = 0; i < total && r == KVC_OK; i++) {
		uint32_t index = range_page_index(space, range, i);
		const uint8_t *page = block_view_page(arena, view, index, bytes);

		if (page)
			page_decode(space, range, view->tokens, index, page, &block->k, &block->v);
		else
			r = KVC_PARTIAL;
	}
	if (!block_view_stands(view))
		return KVC_STALE;
	if (r == KVC_OK)
		block->tokens = view->tokens;
	return r;
}

/* Reads what was leased, block by block, and gives the leases back. */
static int batch_read(struct fetch_batch *batch, const struct fetch *op)
{
	uint64_t held[FETCH_BATCH];
	size_t n_held = 0;
	int r = lease_wait(&batch->request);

	for (size_t i = 0; i < batch->n && r == 0; i++) {
		struct lease lease;
		int status = lease_take(&batch->request, i, &lease);

		if (status < 0)
			return status; /* the connection is ended, and the leases with it */
		if (status == KVC_OK) {
			status = block_decode(op->space, &batch->range, &lease.view, &batch->blocks[i]);
			held[n_held++] = lease.id;
		}
		batch->blocks[i].status = status;
	}
	lease_release(op->space->client, held, n_held);
	return r;
}

/* Reads one batch while the next is asked for. Afterwards *current is the next. */
static int batches_step(struct fetch_batch **current, struct fetch_batch **next, const struct fetch *op, size_t *at)
{
	struct fetch_batch *read = *current;
	int asked = batch_ask(*next, op, at);
	int r = batch_read(read, op);

	lease_forget(&read->request);
	read->n = 0;
	*current = *next;
	*next = read;
	if (asked < 0)
		(*current)->n = 0; /* nothing is on its way */
	return r != 0 ? r : asked;
}

static size_t batch_max(const struct kvc_space *space)
{
	uint64_t block_bytes = (uint64_t)page_bytes(&space->geometry, space->geometry.block_tokens) * space->page_count;
	uint64_t fit = space->client->connection.arena->layout.bytes / FETCH_BATCHES_IN_ARENA / block_bytes;

	if (fit == 0)
		return 1;
	return fit < FETCH_BATCH ? (size_t)fit : FETCH_BATCH;
}

static int fetch_op(struct kvc_client *client, void *data)
{
	struct fetch *op = data;
	_cleanup_free_ struct fetch_batch *batches = calloc(2, sizeof(*batches));
	struct fetch_batch *current, *next;
	size_t at = 0;
	int r = space_check(op->space);

	if (!batches)
		return -ENOMEM;
	op->batch_max = batch_max(op->space);
	current = &batches[0];
	next = &batches[1];
	if (r == 0)
		r = batch_ask(current, op, &at);
	if (r != 0)
		return r;
	while (r == 0 && current->n > 0)
		r = batches_step(&current, &next, op, &at);
	if (current->n > 0)
		lease_forget(&current->request);
	return r;
}

int kvc_fetch(kvc_space *space, struct kvc_fetch *blocks, size_t n)
{
	struct fetch op = { .space = space, .blocks = blocks, .n = n };

	if (!space)
		return -EINVAL;
	if (n > 0 && !blocks)
		return client_refuse(space->client, -EINVAL, "kvc_fetch: blocks is NULL");
	return client_run(space->client, fetch_op, &op);
}
