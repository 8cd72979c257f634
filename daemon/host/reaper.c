/* SPDX-License-Identifier: Apache-2.0 */
/* One task a segment; its thread touches nothing else. */
#include "daemon/host/reaper.h"

#include <stdlib.h>

struct task {
	uv_work_t work;
	struct segment segment;
};

static void task_run(uv_work_t *work)
{
	struct task *task = work->data;

	segment_close(&task->segment);
}

static void task_done(uv_work_t *work, int status)
{
	free(work->data);
}

void reaper_take(uv_loop_t *loop, struct segment *segment)
{
	struct task *task = segment->memory ? calloc(1, sizeof(*task)) : NULL;

	if (!task) {
		segment_close(segment);
		return;
	}
	task->work.data = task;
	task->segment = *segment;
	if (uv_queue_work(loop, &task->work, task_run, task_done) < 0) {
		segment_close(segment);
		free(task);
		return;
	}
	*segment = (struct segment)SEGMENT_NULL;
}
