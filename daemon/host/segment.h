/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared memory: memfds whose size never changes (sealed), readable and writable for the owner
 * only. A memfd is born with mode 0777, and whoever holds any descriptor of it may open it again
 * through /proc as that mode allows: 0600 leaves this to our own user and root. Every step must
 * succeed; a segment with a missing seal is not handed to anyone.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/host/error.h"
#include "daemon/host/log.h"

struct segment {
	int fd;       /* read-write */
	int read_fd;  /* read-only, an open file of its own; -1: none */
	void *memory; /* all of it, read-write */
	uint64_t bytes;
	bool huge;
};

#define SEGMENT_NULL { .fd = -1, .read_fd = -1 }

enum segment_huge { SEGMENT_HUGE_NO, SEGMENT_HUGE_YES, SEGMENT_HUGE_TRY };

/* bytes_done of the arena's bytes are allocated. */
typedef void (*segment_progress_fn)(uint64_t bytes_done, uint64_t bytes);

struct segment_arena_options {
	uint64_t bytes; /* a multiple of 2 MiB */
	enum segment_huge huge;
	bool prefault;
	segment_progress_fn progress; /* called now and then while prefaulting; NULL: not */
	bool strict; /* seal against every later writable mapping */
};

/*
 * The arena: zeroed, with a read-only descriptor for clients. Says in the log when huge pages were
 * wished for and are not there, or when memory may not suffice. Results: 0, or -EINVAL and *error,
 * with advice.
 */
int segment_create_arena(const struct segment_arena_options *options, struct log *log,
			 struct segment *ret_segment, struct host_error *error);

/*
 * The arena behind a descriptor of this size, which becomes the segment's, as another process left it. Results: 0, or
 * negative errno; then the descriptor stays the caller's.
 */
int segment_adopt(int fd, uint64_t bytes, struct segment *ret_segment);

/* Allocates all of it, ready for use. Results: 0, or -EINVAL and *error. */
int segment_prefault(const struct segment *segment, segment_progress_fn progress, struct host_error *error);

/* Memory shared with one client for writing. Results: 0, or negative errno. */
int segment_create_shared(const char *name, uint64_t bytes, struct segment *ret_segment);

/* Unmaps and closes what there is. */
void segment_close(struct segment *segment);

/* Closes the descriptors that are not needed once a peer has its own; the mapping stays. */
void segment_close_fds(struct segment *segment);
