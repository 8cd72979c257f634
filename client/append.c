/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Appending. A block is encoded straight into the staging memory and sent in parts of at most a quarter of
 * it, so the daemon copies one part in while the next is being encoded. Nothing of a block is sent before all
 * of it is known to be encodable: parts are held back until the last is encoded, or, when the block is too
 * large for that, its values are checked in a first pass.
 */
#include "base/cleanup.h"
#include "client/client.h"
#include "client/job.h"
#include "client/pagecode.h"
#include "client/plan.h"

#include <errno.h>

/* Finished jobs that wait for kvc_reap(). */
#define COMPLETIONS_MAX 65536

/* A part is at most this share of the staging memory. */
#define PARTS_IN_STAGING 4

/* A PageRef as encoded, and everything else in an Append. */
#define REF_ENCODED_BYTES_MAX 32
#define APPEND_ENCODED_BYTES_MAX 256

/* One block being appended. */
struct appending {
	struct kvc_space *space;
	struct kvc_append *block;
	struct append_job *job;
	struct append_plan *plan;
	uint32_t part_pages; /* in a part, at most */
	bool wait;           /* for room in the staging memory */
};

static void parts_discard(struct list *held)
{
	list_for_each_safe(node, after, held) {
		list_unlink(node);
		part_free(list_entry(node, struct append_part, link));
	}
}

/* Makes all parts. When it may wait for room, it encodes each at once, while the daemon empties the ring. */
static int parts_make(const struct appending *a, struct list *held)
{
	for (uint32_t first = 0; first < a->plan->n; first += a->part_pages) {
		uint32_t left = a->plan->n - first;
		struct append_part *part;
		int r = part_new(a->job, a->plan, first, left < a->part_pages ? left : a->part_pages, a->wait, &part);

		if (r < 0)
			return r;
		list_push_back(held, &part->link);
		if (a->wait)
			r = part_encode(part, a->space, a->plan, a->block, &a->block->fault);
		if (r != 0)
			return r;
	}
	return 0;
}

static int parts_encode(const struct appending *a, struct list *held)
{
	list_for_each(node, held) {
		struct append_part *part = list_entry(node, struct append_part, link);
		int r = part_encode(part, a->space, a->plan, a->block, &a->block->fault);

		if (r != 0)
			return r;
	}
	return 0;
}

static int parts_send(const struct appending *a, struct list *held)
{
	list_for_each_safe(node, after, held) {
		int r;

		list_unlink(node);
		r = part_send(list_entry(node, struct append_part, link), a->space, a->plan, a->block);
		if (r < 0)
			return r;
	}
	return 0;
}

static int append_held(const struct appending *a)
{
	_cleanup_(parts_discard) struct list held = LIST_INIT(held);
	int r = parts_make(a, &held);

	if (r == 0 && !a->wait)
		r = parts_encode(a, &held);
	return r != 0 ? r : parts_send(a, &held);
}

/* Encodes every page into the same scratch memory, to learn whether it can be. */
static int values_check(const struct appending *a)
{
	_cleanup_free_ uint8_t *scratch = malloc(a->plan->page_bytes);

	if (!scratch)
		return -ENOMEM;
	for (uint32_t i = 0; i < a->plan->n; i++) {
		int r = page_encode(a->space, &a->plan->range, a->block, a->plan->pages[i], scratch, &a->block->fault);

		if (r != 0)
			return r;
	}
	return 0;
}

static int append_streamed(const struct appending *a)
{
	int r = values_check(a);

	for (uint32_t first = 0; r == 0 && first < a->plan->n; first += a->part_pages) {
		uint32_t left = a->plan->n - first;
		struct append_part *part;

		r = part_new(a->job, a->plan, first, left < a->part_pages ? left : a->part_pages, true, &part);
		if (r < 0)
			return r;
		r = part_encode(part, a->space, a->plan, a->block, &a->block->fault);
		if (r != 0)
			part_free(part);
		else
			r = part_send(part, a->space, a->plan, a->block);
	}
	return r;
}

/*
 * How many pages a part may have: by its share of the staging memory and by the size of a request. 0: not even
 * one fits.
 */
static uint32_t part_pages_max(const struct appending *a)
{
	const struct connection *connection = &a->space->client->connection;
	uint64_t by_staging = connection->staging.bytes / PARTS_IN_STAGING / a->plan->stride_bytes;
	uint32_t by_request = (connection->rpc.request_bytes_max - APPEND_ENCODED_BYTES_MAX) / REF_ENCODED_BYTES_MAX;

	if (by_staging == 0 && a->plan->stride_bytes <= connection->staging.bytes)
		by_staging = 1;
	return by_staging < by_request ? (uint32_t)by_staging : by_request;
}

/*
 * Sends what the plan lists. Results: 0 (all parts are on their way); KVC_NONFINITE, KVC_VALUE_RANGE;
 * KVC_QUOTA (the staging memory is smaller than a page); -EAGAIN (no room, and not to wait); negative errno.
 */
static int append_pages(struct appending *a)
{
	struct staging *staging = &a->space->client->connection.staging;
	uint64_t bytes = (uint64_t)a->plan->n * a->plan->stride_bytes;

	a->part_pages = part_pages_max(a);
	if (a->part_pages == 0) {
		words_set(&a->space->client->words, "the daemon gave less staging memory than a page of %u bytes needs",
			  a->plan->page_bytes);
		return KVC_QUOTA;
	}
	/* A part's room may be lost at the ring's end. */
	if (bytes + (uint64_t)a->part_pages * a->plan->stride_bytes <= staging->bytes)
		return append_held(a);
	if (!a->wait && !staging_empty(staging))
		return -EAGAIN;
	return append_streamed(a);
}

/* Plans and sends one block. Results as append_plan_init() and append_pages(). The job stays open. */
static int append_block(struct kvc_space *space, struct append_job *job, struct kvc_append *block, bool wait)
{
	_cleanup_(append_plan_deinit) struct append_plan plan = { .pages = NULL };
	struct appending a = { .space = space, .block = block, .job = job, .plan = &plan, .wait = wait };
	int r = append_plan_init(&plan, space, block);

	if (r != KVC_OK)
		return r;
	job->present = plan.present;
	if (plan.n == 0)
		return KVC_OK;
	r = append_pages(&a);
	if (r == KVC_NONFINITE || r == KVC_VALUE_RANGE)
		words_set(&space->client->words, "%c, layer %u, head %u, token %u, channel %u: %s", block->fault.tensor,
			  block->fault.layer, block->fault.head, block->fault.token, block->fault.channel,
			  kvc_strerror(r));
	return r;
}

/* Sends a block of kvc_append(). Positive outcomes become the block's status by way of its job. */
static int batch_add(struct kvc_space *space, struct append_batch *batch, struct kvc_append *block)
{
	struct append_job *job = append_job_new(space->client, batch, block, 0);
	int r;

	if (!job)
		return -ENOMEM;
	r = append_block(space, job, block, true);
	if (r != 0)
		append_job_note(job, r);
	append_job_seal(job);
	return r < 0 ? r : 0;
}

struct append {
	struct kvc_space *space;
	struct kvc_append *blocks;
	size_t n;
};

/*
 * What both kinds of append begin with. Answers that are there already free staging memory; and a daemon that
 * is gone must be noticed now, for its index would still say which blocks are present.
 */
static int append_begin(struct kvc_space *space)
{
	int r = space_check(space);

	return r != 0 ? r : rpc_collect(&space->client->connection.rpc);
}

static int append_op(struct kvc_client *client, void *data)
{
	const struct append *op = data;
	struct append_batch batch = { 0 };
	int r = append_begin(op->space);

	for (size_t i = 0; r == 0 && i < op->n; i++)
		r = batch_add(op->space, &batch, &op->blocks[i]);
	while (batch.unfinished > 0)
		(void)rpc_wait(&client->connection.rpc); /* its failure finishes the jobs */
	return r != 0 ? r : batch.error;
}

/* Why this client cannot append at all, or NULL. */
static const char *writer_check(const struct kvc_client *client)
{
	return client->flags & KVC_READ_ONLY ? "the client was opened with KVC_READ_ONLY" : NULL;
}

int kvc_append(kvc_space *space, struct kvc_append *blocks, size_t n)
{
	struct append op = { .space = space, .blocks = blocks, .n = n };
	const char *wrong;

	if (!space)
		return -EINVAL;
	if (n > 0 && !blocks)
		return client_refuse(space->client, -EINVAL, "kvc_append: blocks is NULL");
	wrong = writer_check(space->client);
	if (wrong)
		return client_refuse(space->client, KVC_PERMISSION, wrong);
	return client_run(space->client, append_op, &op);
}

struct submit {
	struct kvc_space *space;
	struct kvc_append *block;
	uint64_t user_data;
};

static int submit_op(struct kvc_client *client, void *data)
{
	const struct submit *op = data;
	struct append_job *job;
	int r = append_begin(op->space);

	if (r != 0)
		return r;
	if (client->n_finished >= COMPLETIONS_MAX) {
		words_set(&client->words, "%d completions wait to be reaped", COMPLETIONS_MAX);
		return -EAGAIN;
	}
	job = append_job_new(client, NULL, NULL, op->user_data);
	if (!job)
		return -ENOMEM;
	r = append_block(op->space, job, op->block, false);
	if (r == -EAGAIN)
		words_set(&client->words, "the staging memory is full");
	job->given_up = r != 0;
	append_job_seal(job);
	return r;
}

int kvc_submit(kvc_space *space, struct kvc_append *block, uint64_t user_data)
{
	struct submit op = { .space = space, .block = block, .user_data = user_data };
	const char *wrong;

	if (!space)
		return -EINVAL;
	if (!block)
		return client_refuse(space->client, -EINVAL, "kvc_submit: block is NULL");
	wrong = writer_check(space->client);
	if (wrong)
		return client_refuse(space->client, KVC_PERMISSION, wrong);
	return client_run(space->client, submit_op, &op);
}
