/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens the disk of the tier (daemon/tier/disk.h): a directory of our own with a file for each segment, and an engine
 * that moves bytes: io_uring (disk-uring.c), or threads (disk-threads.c) where io_uring is refused.
 *
 * In the directory are "lock", which its owner holds, and "segment-000017" for file 17. Segments that cannot be used
 * (another length, a number that is too large) are removed when it is opened.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "daemon/host/error.h"
#include "daemon/host/log.h"
#include "daemon/tier/disk.h"

#define DISK_DEPTH_MAX 256
#define DISK_FILES_MAX 100000

enum disk_engine_choice {
	DISK_ENGINE_AUTO, /* io_uring, or threads where it is refused */
	DISK_ENGINE_IO_URING,
	DISK_ENGINE_THREADS,
};

enum disk_direct {
	DISK_DIRECT_AUTO, /* past the page cache where the file system takes transfers aligned to DISK_ALIGN */
	DISK_DIRECT_YES,
	DISK_DIRECT_NO,
};

struct disk_options {
	const char *directory; /* created with mode 0700 if it is missing; the one that it lies in must be there */
	uint64_t file_bytes;   /* a multiple of DISK_ALIGN */
	uint32_t files_max;    /* each takes a descriptor while it is open */
	uv_loop_t *loop;
	struct log *log;
	/* The arena; NULL: none. Outlives disk_close(). */
	void *memory;
	uint64_t memory_bytes;
	/*
	 * Registers memory with io_uring, which spares the kernel to look its pages up for each transfer. All of it is
	 * then allocated and locked (RLIMIT_MEMLOCK), and must stay as it is until disk_unregister(): who punches a
	 * hole into it makes transfers go to pages that nobody sees any more. Memory of disk_ops.buffers() is
	 * registered in any case.
	 */
	bool register_memory;
	enum disk_engine_choice engine;
	enum disk_direct direct;
	unsigned depth; /* transfers under way at once, 1 to DISK_DEPTH_MAX; threads do at most DISK_THREADS_MAX */
};

/* What the threads of one engine are at most. */
#define DISK_THREADS_MAX 32

/*
 * Logs what it became. Results: 0; -EINVAL after *error was set: the directory is not there and cannot be made, is not
 * ours alone, or is another daemon's; the engine that was demanded is refused; too few descriptors.
 */
int disk_open(const struct disk_options *options, struct disk **ret_disk, struct host_error *error);

/* Memory of the options is about to get holes: it is registered no longer. Idempotent. */
void disk_unregister(struct disk *disk, const void *memory);

/*
 * Waits until nothing is under way: then the arena and all other memory are their owners' again. What waited, and what
 * done() submits meanwhile, is done with -ECANCELED. The disk's handles end, and it is freed, with the next turns of
 * the loop; nobody else closes them (uv_walk() comes after).
 */
void disk_close(struct disk *disk);
