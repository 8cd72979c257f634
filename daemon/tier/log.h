/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tier (daemon/core/tier.h) that is a log: blocks are written one behind the other into segment files, the oldest
 * segment makes room. docs/tier.md tells the whole of it. No system call, clock or thread: time is given, and the
 * disk is a struct disk.
 */
#pragma once

#include "daemon/core/tier.h"
#include "daemon/tier/disk.h"

#include <stdint.h>

#define TIER_SEGMENTS_MIN 3 /* one to write into, one to go on with, one to read */
#define TIER_SEGMENTS_MAX 65536
#define TIER_SEGMENT_BYTES_MIN (UINT64_C(64) << 10)
#define TIER_SEGMENT_BYTES_MAX (UINT64_C(4) << 30)

struct tier_log_options {
	/* Outlives the tier. Its files are the segments: file_bytes each, files_max of them. */
	struct disk *disk;
	uint32_t blocks_max;        /* held at most; 16 bytes each are allocated at once, the rest as they come */
	uint64_t write_bytes_per_s; /* 0: no limit */
	uint64_t seed;              /* random, and secret from those whose blocks are stored */
	uint64_t now_ns;
};

/* Results: 0; -ENOMEM; -EINVAL: sizes out of the limits above. It begins to look what is there when it is bound. */
int tier_log_new(const struct tier_log_options *options, struct tier **ret_tier);

/* After tier_ops.stop() returned true, or when the disk will call done() no more. */
void tier_log_free(struct tier *tier);
