/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads of our own that do what takes long, in the order in which it was given to them: all transfers of the engine
 * of threads, and of io_uring's what would make the loop wait (making, removing and syncing files). libuv's pool is
 * four threads for everything; a slow disk would take them all.
 */
#pragma once

#include <uv.h>

#include "base/list.h"
#include "daemon/host/disk-files.h"

struct disk_crew;

/* io has ended; from the loop, or from within disk_crew_stop(). */
typedef void (*disk_crew_ended_fn)(void *context, struct disk_io *io, int result);

/* When the crew is gone, from the loop. */
typedef void (*disk_crew_gone_fn)(void *context);

/* Results: 0; negative errno: there are no threads to have. files, which is not owned, outlives disk_crew_stop(). */
int disk_crew_start(uv_loop_t *loop, struct disk_files *files, unsigned n, disk_crew_ended_fn ended, void *context,
		    struct disk_crew **ret_crew);

/* Threads there are: n, or as many as the system gave. */
unsigned disk_crew_size(const struct disk_crew *crew);

void disk_crew_submit(struct disk_crew *crew, struct disk_io *io);

/*
 * Waits for what threads are doing, and ends them. What they had not begun goes to cancelled. The crew is freed by the
 * loop, which then calls gone.
 */
void disk_crew_stop(struct disk_crew *crew, struct list *cancelled, disk_crew_gone_fn gone);
