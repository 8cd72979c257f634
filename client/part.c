/* SPDX-License-Identifier: Apache-2.0 */
/* Parts: room in the staging memory, encoded pages, one request, one answer. See job.h. */
#include "base/cleanup.h"
#include "base/contract.h"
#include "client/client.h"
#include "client/job.h"
#include "client/pagecode.h"
#include "client/tally.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <errno.h>
#include <stdlib.h>

/*
 * So many bytes of pages of a batch are queued before their requests leave: enough that system calls are few, little
 * enough that the daemon copies while the next are being encoded.
 */
#define QUEUED_BYTES_MAX (128u << 10)

static uint8_t *part_memory(const struct append_part *part, const struct append_plan *plan, uint32_t page)
{
	return part->job->client->connection.staging_memory + part->chunk.offset + (uint64_t)page * plan->stride_bytes;
}

void part_free(struct append_part *part)
{
	staging_free(&part->chunk);
	free(part);
}

/* Counts the statuses of the part's pages. */
static void pages_account(struct append_job *job, const ProtobufCBinaryData *statuses)
{
	for (size_t i = 0; i < statuses->len; i++) {
		switch (statuses->data[i]) {
		case KVP_OK:
			job->stored++;
			break;
		case KVP_PRESENT:
			job->present++;
			break;
		default:
			append_job_note(job, statuses->data[i]);
			words_set(&job->client->words, "append: %s", status_text(statuses->data[i]));
		}
	}
}

static void reply_account(const struct append_part *part, const Kvpaged__V1__Reply *reply)
{
	struct append_job *job = part->job;
	struct words *words = &job->client->words;

	if (reply->status != KVP_OK) {
		append_job_note(job, rpc_reply_status(reply));
		words_quote(words, "append", reply->error.data, reply->error.len);
	} else if (reply->verb_case != KVPAGED__V1__REPLY__VERB_APPEND || reply->append->page_status.len != part->n) {
		append_job_note(job, -EPROTO);
		words_set(words, "the daemon's answer to an append does not fit it");
	} else {
		pages_account(job, &reply->append->page_status);
	}
}

/* The answer to a part, or the end of the connection. The last one finishes a sealed job. */
static void part_done(struct rpc_call *call, Kvpaged__V1__Reply *reply, int error)
{
	struct append_part *part = list_entry(call, struct append_part, call);
	struct append_job *job = part->job;

	if (reply)
		reply_account(part, reply);
	else
		append_job_note(job, error);
	(void)rpc_reply_free(reply);
	part_free(part);
	append_job_answered(job);
}

/*
 * Takes the part's chunk. There is always a request to wait for: what fills the ring was sent, or the plan
 * would not have been allowed to hold parts back.
 */
static int chunk_take(struct append_part *part, uint64_t bytes, bool wait)
{
	struct connection *connection = &part->job->client->connection;

	while (!staging_alloc(&connection->staging, &part->chunk, bytes)) {
		int r;

		if (!wait)
			return -EAGAIN;
		kvp_assert(connection->rpc.error || connection->rpc.in_flight > 0);
		r = rpc_wait(&connection->rpc);
		if (r < 0)
			return r;
	}
	return 0;
}

int part_new(struct append_job *job, const struct append_plan *plan, uint32_t first, uint32_t n, bool wait,
	     struct append_part **ret_part)
{
	_cleanup_free_ struct append_part *part = malloc(sizeof(*part) + n * sizeof(part->pages[0]));
	int r;

	if (!part)
		return -ENOMEM;
	part->call = (struct rpc_call){ .done = part_done };
	part->job = job;
	part->n = n;
	for (uint32_t i = 0; i < n; i++)
		part->pages[i] = (struct part_page){ .index = plan->pages[first + i] };
	r = chunk_take(part, (uint64_t)n * plan->stride_bytes, wait);
	if (r < 0)
		return r;
	*ret_part = take_ptr(part);
	return 0;
}

/* Tells the daemon, where there is memory to tell it by. */
static void encoded(const struct append_part *part, const struct append_plan *plan, struct tally_watch watch)
{
	const struct control *control = part->job->client->connection.control;

	if (control)
		tally_end(watch, &control->header->tally.encode_bytes, &control->header->tally.encode_ns,
			  (uint64_t)part->n * plan->page_bytes);
}

int part_encode(struct append_part *part, const struct kvc_space *space, const struct append_plan *plan,
		const struct kvc_append *block, struct kvc_fault *ret_fault)
{
	struct tally_watch watch = tally_begin(&part->job->client->connection.works);

	for (uint32_t i = 0; i < part->n; i++) {
		uint8_t *memory = part_memory(part, plan, i);
		int r = page_encode(space, &plan->range, block, part->pages[i].index, memory, ret_fault);

		if (r != KVC_OK)
			return r;
		part->pages[i].checksum = kvp_page_checksum(memory, plan->page_bytes);
	}
	encoded(part, plan, watch);
	return KVC_OK;
}

/* Fills in the page list of a request; refs and pointers have room for the part's pages. */
static void refs_fill(const struct append_part *part, const struct append_plan *plan, Kvpaged__V1__PageRef *refs,
		      Kvpaged__V1__PageRef **pointers)
{
	for (uint32_t i = 0; i < part->n; i++) {
		kvpaged__v1__page_ref__init(&refs[i]);
		refs[i].index = part->pages[i].index;
		refs[i].offset = part->chunk.offset + (uint64_t)i * plan->stride_bytes;
		refs[i].length = plan->page_bytes;
		refs[i].checksum = part->pages[i].checksum;
		pointers[i] = &refs[i];
	}
}

static int request_leave(struct append_part *part, Kvpaged__V1__Request *request)
{
	struct rpc *rpc = &part->job->client->connection.rpc;
	struct append_batch *batch = part->job->batch;

	if (batch) {
		batch->queued_bytes += part->chunk.bytes;
		if (batch->queued_bytes < QUEUED_BYTES_MAX)
			return rpc_queue(rpc, request, &part->call);
		batch->queued_bytes = 0;
	}
	return rpc_send(rpc, request, &part->call);
}

static int part_request(struct append_part *part, const struct kvc_space *space, const struct append_plan *plan,
			const struct kvc_append *block)
{
	_cleanup_free_ Kvpaged__V1__PageRef *refs = calloc(part->n, sizeof(*refs));
	_cleanup_free_ Kvpaged__V1__PageRef **pointers = calloc(part->n, sizeof(*pointers));
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Append append = KVPAGED__V1__APPEND__INIT;

	if (!refs || !pointers)
		return -ENOMEM;
	refs_fill(part, plan, refs, pointers);
	append.space_id = space->id;
	append.key = (ProtobufCBinaryData){ .len = block->key.n, .data = (uint8_t *)block->key.bytes };
	append.parent = (ProtobufCBinaryData){ .len = block->parent.n, .data = (uint8_t *)block->parent.bytes };
	append.tokens = block->tokens;
	append.n_pages = part->n;
	append.pages = pointers;
	append.no_event = part->job->batch != NULL;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_APPEND;
	request.append = &append;
	return request_leave(part, &request);
}

int part_send(struct append_part *part, const struct kvc_space *space, const struct append_plan *plan,
	      const struct kvc_append *block)
{
	int r = part_request(part, space, plan, block);

	if (r < 0)
		part_free(part);
	else
		part->job->unanswered++;
	return r;
}
