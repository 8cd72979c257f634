/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fetching into the caller's tensors. With a reader, what the index has is read first, pinned by a hazard; what is left
 * is asked for. Blocks that follow each other there and want the same range share one request; while the blocks of one
 * request are decoded, the next request is on its way. A hazard or a lease keeps the memory in place; the generation,
 * compared once more after decoding, says whether it was the block's.
 */
#include "base/cleanup.h"
#include "client/client.h"
#include "client/decode.h"
#include "client/keys.h"
#include "client/lease.h"
#include "client/reader.h"
#include "client/tally.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

/*
 * Blocks of one request: enough to hide its cost, and by bytes only this share of the arena: leases count on a
 * user's quota.
 */
#define FETCH_BATCH 32
_Static_assert(FETCH_BATCH <= KVP_HAZARDS, "a hazard for each block of a request");
#define FETCH_BATCHES_IN_ARENA 32

/* The status of a block that was not read yet. */
#define UNREAD INT_MIN

struct fetch {
	struct kvc_space *space;
	struct kvc_fetch *blocks;
	size_t n;
	size_t batch_max;          /* blocks in one request */
	struct kvp_record *record; /* to pin through; NULL: leases */
};

/* Blocks that share a request, their range and keys. */
struct fetch_batch {
	struct lease_request request;
	size_t n;
	struct range range;
	struct kvc_fetch *blocks[FETCH_BATCH];
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

/* KVC_OK and the range; or why the block cannot be fetched, in *ret_why too. */
static int block_check(const struct kvc_space *space, const struct kvc_fetch *block, struct range *ret_range,
		       const char **ret_why)
{
	*ret_why = tensors_check(space, block);
	if (*ret_why)
		return KVC_INVALID;
	*ret_why = range_resolve(space, &block->range, ret_range);
	return *ret_why ? KVC_RANGE : KVC_OK;
}

/* The next batch, from block *at on: unread blocks that have one range. n is 0 when none is left. */
static void batch_gather(struct fetch_batch *batch, const struct fetch *op, size_t *at)
{
	batch->n = 0;
	for (; *at < op->n && batch->n < op->batch_max; (*at)++) {
		struct kvc_fetch *block = &op->blocks[*at];
		struct range range;
		const char *why;

		int r;

		if (block->status != UNREAD)
			continue;
		r = block_check(op->space, block, &range, &why);
		if (r != KVC_OK) {
			block->status = r; /* it was valid: somebody writes to the caller's memory */
			continue;
		}
		if (batch->n == 0)
			batch->range = range;
		else if (!range_equal(&range, &batch->range))
			return;
		batch->blocks[batch->n] = block;
		batch->keys[batch->n++] = block->key;
	}
}

static int batch_ask(struct fetch_batch *batch, const struct fetch *op, size_t *at)
{
	batch_gather(batch, op, at);
	if (batch->n == 0)
		return 0;
	return lease_ask(&batch->request, op->space, batch->keys, batch->n, &batch->range, 0,
			 op->record);
}

/* Leases or pins what the daemon found. Results: 0; negative errno: the connection is ended, and the leases with it. */
static int batch_take(struct fetch_batch *batch, struct lease leases[FETCH_BATCH])
{
	int r = lease_wait(&batch->request);

	for (size_t i = 0; i < batch->n && r == 0; i++) {
		int status = lease_take(&batch->request, i, &leases[i]);

		if (status < 0)
			return status;
		if (status != KVC_OK)
			batch->blocks[i]->status = status;
	}
	return r;
}

static int timed_decode(const struct kvc_space *space, const struct range *range, const struct block_view *view,
			struct kvc_fetch *block)
{
	struct connection *connection = &space->client->connection;
	struct tally_watch watch = tally_begin(&connection->works);
	int r = block_decode(space, &connection->arena->layout, range, view, block);
	struct kvp_codec_tally *tally = connection->control ? &connection->control->header->tally : NULL;

	if (tally && r == KVC_OK)
		tally_end(watch, &tally->decode_bytes, &tally->decode_ns,
			  (uint64_t)range_pages(space, range) * space_page_sizes(space, view->tokens).page);
	return r;
}

/* Reads it block by block, and gives it back. */
static int batch_read(struct fetch_batch *batch, const struct fetch *op)
{
	struct lease leases[FETCH_BATCH];
	uint64_t held[FETCH_BATCH];
	size_t n_held = 0;
	int r = batch_take(batch, leases);

	for (size_t i = 0; i < batch->n && r == 0; i++) {
		if (batch->blocks[i]->status != UNREAD)
			continue;
		batch->blocks[i]->status =
			timed_decode(op->space, &batch->range, &leases[i].view, batch->blocks[i]);
		if (op->record)
			hazard_clear(op->record, (unsigned)i);
		else
			held[n_held++] = leases[i].id;
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
	uint64_t block_bytes = (uint64_t)space->sizes.page * space->page_count;
	uint64_t fit = space->client->connection.arena->layout.bytes / FETCH_BATCHES_IN_ARENA / block_bytes;

	if (fit == 0)
		return 1;
	return fit < FETCH_BATCH ? (size_t)fit : FETCH_BATCH;
}

static int batches_read(struct fetch *op)
{
	_cleanup_free_ struct fetch_batch *batches = calloc(2, sizeof(*batches));
	struct fetch_batch *current, *next;
	size_t at = 0;
	int r;

	if (!batches)
		return -ENOMEM;
	current = &batches[0];
	next = &batches[1];
	r = batch_ask(current, op, &at);
	if (r != 0)
		return r;
	while (r == 0 && current->n > 0)
		r = batches_step(&current, &next, op, &at);
	if (current->n > 0)
		lease_forget(&current->request);
	return r;
}

/* By a record of its own while there is one, otherwise with leases. */
static int fetch_op(struct kvc_client *client, void *data)
{
	struct fetch *op = data;
	struct control *control = client->connection.control;
	uint32_t number;
	int r = space_check(op->space);

	if (r != 0)
		return r;
	op->batch_max = batch_max(op->space);
	op->record = control ? control_take(control, &number) : NULL;
	r = batches_read(op);
	if (op->record) {
		for (unsigned i = 0; i < KVP_HAZARDS; i++)
			hazard_clear(op->record, i);
		control_give(control, number);
	}
	return r;
}

/* Reads the block with a reader. Results as block_decode()'s and reader_pin()'s. */
static int block_read(struct kvc_space *space, struct kvc_reader *reader, const struct range *range,
		      struct kvc_fetch *block)
{
	struct kvc_block *pinned;
	int r = reader_pin(reader, space, &block->key, range, &pinned);

	if (r != KVC_OK)
		return r;
	r = block_decode(space, &pinned->arena->layout, range, &pinned->view, block);
	reader_unpin(pinned);
	return r;
}

/*
 * Gives every block that needs no request its status: the invalid, and with a reader those that it can read. Returns
 * KVC_OK and whether blocks are left, or negative errno.
 */
static int blocks_prepare(const struct fetch *op, struct kvc_reader *reader, bool *ret_left)
{
	*ret_left = false;
	for (size_t i = 0; i < op->n; i++) {
		struct kvc_fetch *block = &op->blocks[i];
		struct range range;
		const char *why;
		int r = block_check(op->space, block, &range, &why);

		block->tokens = 0;
		block->status = r != KVC_OK ? client_refuse(op->space->client, r, why) : UNREAD;
		if (block->status == UNREAD && reader) {
			r = block_read(op->space, reader, &range, block);
			if (r < 0)
				return r;
			/* A block that lacks pages may be on its way from the tier: the daemon knows. */
			if (r == KVC_OK || r == KVC_CORRUPT)
				block->status = r;
		}
		*ret_left |= block->status == UNREAD;
	}
	return KVC_OK;
}

int kvc_fetch(kvc_space *space, kvc_reader *reader, struct kvc_fetch *blocks, size_t n)
{
	struct fetch op = { .space = space, .blocks = blocks, .n = n };
	bool left;
	int r;

	if (!space)
		return -EINVAL;
	r = reader ? reader_check(reader, space) : KVC_OK;
	if (r == KVC_OK && n > 0 && !blocks)
		r = client_refuse(space->client, -EINVAL, "kvc_fetch: blocks is NULL");
	if (r == KVC_OK)
		r = blocks_prepare(&op, reader, &left);
	if (r == KVC_OK && (left || !reader))
		r = client_run(space->client, fetch_op, &op);
	for (size_t i = 0; r != KVC_OK && blocks && i < n; i++)
		if (blocks[i].status == UNREAD)
			blocks[i].status = r;
	return r;
}
