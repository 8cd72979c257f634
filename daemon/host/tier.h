/* SPDX-License-Identifier: Apache-2.0 */
/* The tier as the settings want it: a log (daemon/tier) on a disk (disk-open.h); or none. */
#pragma once

#include <uv.h>

#include "daemon/config.h"
#include "daemon/host/error.h"
#include "daemon/host/log.h"
#include "daemon/host/segment.h"

struct disk;
struct tier;

struct host_tier {
	struct disk *disk; /* NULL: there is no tier, or its disk is closed */
	struct tier *tier; /* NULL: there is none */
};

/*
 * The arena outlives tier_disk_close(). Results: 0, also without a tier; -EINVAL, and *error: the directory cannot be
 * used, or the engine; -ENOMEM, likewise.
 */
int host_tier_open(struct host_tier *tier, const struct config_fields *fields, const struct segment *arena,
		   uv_loop_t *loop, struct log *log, struct host_error *error);

/* The arena's memory is about to be given back in part. */
void host_tier_loosen(struct host_tier *tier, const struct segment *arena);

/*
 * Whatever is under way ends, by calls of the core, which is still there. The disk's handles end with the next turns of
 * the loop. Idempotent.
 */
void host_tier_close(struct host_tier *tier);

/* After the core is gone. */
void host_tier_free(struct host_tier *tier);
