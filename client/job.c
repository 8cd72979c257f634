/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs and their outcomes; see job.h. Parts are in part.c. */
#include "client/job.h"

#include "base/contract.h"
#include "client/client.h"
#include "client/completion.h"

#include <stdlib.h>

struct append_job *append_job_new(struct kvc_client *client, struct append_batch *batch, struct kvc_append *block,
				  uint64_t user_data)
{
	struct append_job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	list_init(&job->link);
	job->client = client;
	job->batch = batch;
	job->block = block;
	job->user_data = user_data;
	if (batch)
		batch->unfinished++;
	return job;
}

void append_job_free(struct append_job *job)
{
	kvp_assert(job->unanswered == 0 && list_empty(&job->link));
	free(job);
}

void append_job_note(struct append_job *job, int status)
{
	if (status < 0 ? job->status >= 0 : job->status == KVC_OK)
		job->status = status;
}

static int job_result(const struct append_job *job)
{
	return job->status == KVC_OK && job->stored == 0 ? KVC_PRESENT : job->status;
}

void append_job_report(const struct append_job *job, struct kvc_completion *ret_completion)
{
	*ret_completion = (struct kvc_completion){
		.user_data = job->user_data,
		.status = job_result(job),
		.pages_stored = job->stored,
		.pages_present = job->present,
	};
}

static void job_finish(struct append_job *job)
{
	struct append_batch *batch = job->batch;

	if (!batch && !job->given_up) {
		completion_push(job->client, job);
		return;
	}
	if (batch) {
		job->block->status = job_result(job);
		job->block->pages_stored = job->stored;
		job->block->pages_present = job->present;
		if (job->status < 0)
			batch->error = job->status;
		batch->unfinished--;
	}
	append_job_free(job);
}

static void job_finish_if_done(struct append_job *job)
{
	if (job->sealed && job->unanswered == 0)
		job_finish(job);
}

void append_job_answered(struct append_job *job)
{
	kvp_assert(job->unanswered > 0);
	job->unanswered--;
	job_finish_if_done(job);
}

void append_job_seal(struct append_job *job)
{
	job->sealed = true;
	job_finish_if_done(job);
}
