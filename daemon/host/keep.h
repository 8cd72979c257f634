/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the arena comes from: the process before, if it can be had, otherwise it is made.
 *
 *	arena.path	a file on tmpfs or hugetlbfs, which stays (keep-file.c)
 *	systemd		the descriptor that the service manager keeps for us (FDSTORE=1), under KEEP_NAME
 *
 * What is found is taken over when it is an arena of the size and tables that are configured, whole or cut short by a
 * kill; its content is the core's to verify. An arena of ours that is another one is left to those who still read it,
 * and a new one is made, with a line in the log that says why.
 */
#pragma once

#include "daemon/host/error.h"
#include "daemon/host/log.h"
#include "daemon/host/segment.h"

#include <stdbool.h>
#include <stdint.h>

#define KEEP_NAME "kvpaged-arena"

struct keep_options {
	struct segment_arena_options arena;
	const char *path; /* NULL: none */
	uint32_t blocks_max; /* as the core takes it */
	int stored_fd;    /* what the service manager kept, the caller's; -1: nothing */
};

struct keep {
	struct segment arena;
	int lock_fd; /* of a file; -1: none */
	bool recover; /* the arena is to be taken over; otherwise it is zeroed */
	bool storable; /* the service manager may keep it */
};

#define KEEP_NULL { .arena = SEGMENT_NULL, .lock_fd = -1 }

/* Results: 0, or -EINVAL and *error. */
int keep_open(const struct keep_options *options, struct log *log, struct keep *ret_keep, struct host_error *error);

/* Unmaps and closes what there is, and gives the lock back. What is kept stays kept. */
void keep_close(struct keep *keep);

/* Asks the service manager, if there is one, to keep the arena, when it may and the core has laid it out. */
void keep_store(const struct keep *keep);

/* For keep-file.c: why memory of the right size is not taken over. NULL: it can be. Static text. */
const char *keep_fault(const struct keep_options *options, const struct segment *segment);

/* keep_open() for a path. */
int keep_open_file(const struct keep_options *options, struct log *log, struct keep *ret_keep,
		   struct host_error *error);
