/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One block on its way to the daemon: a job of one or more parts, each part one Append request with its chunk
 * of staging memory.
 *
 *	job open --append_job_seal()--> sealed --last part answered--> finished
 *	part new (chunk taken) --encoded, sent--> answered (chunk freed), or failed with the connection
 *
 * A finished job of kvc_append() writes its block's outcome and is freed. One of kvc_submit() becomes a
 * completion, unless it was given up: then its caller knows already that nothing was submitted.
 */
#pragma once

#include "base/list.h"
#include "client/plan.h"
#include "client/rpc.h"
#include "client/staging.h"

#include <stdbool.h>
#include <stdint.h>

/* The jobs of one kvc_append() call. */
struct append_batch {
	unsigned unfinished;
	int error;             /* 0, or the negative errno of a job */
	uint64_t queued_bytes; /* of pages whose requests may not have left yet */
};

struct append_job {
	struct list link;           /* in kvc_client.finished */
	struct kvc_client *client;
	struct append_batch *batch; /* NULL: of kvc_submit() */
	struct kvc_append *block;   /* with batch: where the outcome goes */
	uint64_t user_data;         /* without batch */
	unsigned unanswered;        /* parts sent */
	bool sealed;                /* no part is added any more */
	bool given_up;
	int status;                 /* the worst so far: KVC_OK, KVC_*, negative errno */
	uint32_t stored;
	uint32_t present;
};

struct append_part {
	struct rpc_call call;
	struct list link; /* among the parts that are held back */
	struct staging_chunk chunk;
	struct append_job *job;
	uint32_t n;
	struct part_page {
		uint32_t index;
		uint64_t checksum;
	} pages[];
};

/* An open job. batch NULL: of kvc_submit(). NULL: out of memory. */
struct append_job *append_job_new(struct kvc_client *client, struct append_batch *batch, struct kvc_append *block,
				  uint64_t user_data);

/* Makes status the job's unless it has a worse one. */
void append_job_note(struct append_job *job, int status);

/* A part was answered. The last one finishes a sealed job: it is gone then. */
void append_job_answered(struct append_job *job);

/* No part will be added. Finishes the job if none is unanswered: it is gone then. */
void append_job_seal(struct append_job *job);

/* The outcome of a finished job. */
void append_job_report(const struct append_job *job, struct kvc_completion *ret_completion);

void append_job_free(struct append_job *job);

/*
 * A part for n pages of the plan from its first-th on, with its chunk of staging memory. Without room it
 * waits for answers if wait is set. Results: 0 and the part, freed by part_send() or part_free(); -EAGAIN (no
 * room, and wait not set); -ENOMEM; errors of the connection.
 */
int part_new(struct append_job *job, const struct append_plan *plan, uint32_t first, uint32_t n, bool wait,
	     struct append_part **ret_part);

/* Encodes the part's pages. Results as page_encode(). */
int part_encode(struct append_part *part, const struct kvc_space *space, const struct append_plan *plan,
		const struct kvc_append *block, struct kvc_fault *ret_fault);

/* Sends the part, or queues it where others of its batch follow. On failure it is freed. Results as rpc_send(). */
int part_send(struct append_part *part, const struct kvc_space *space, const struct append_plan *plan,
	      const struct kvc_append *block);

/* Frees a part that was not sent. */
void part_free(struct append_part *part);
