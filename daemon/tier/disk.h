/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files and transfers, as the tier asks for them; the host has them done: by io_uring (daemon/host/disk-uring.c), by
 * threads (disk-threads.c), in tests by memory that fails on demand.
 *
 * Files are numbered by the tier, 0..files_max-1, and are all of one size, which is allocated when they are created.
 * All calls come from one thread, return at once, and end with a call of done(), from the loop and never from within
 * submit(). A transfer is whole or failed: short ones are continued by the disk.
 *
 * What is under way at once is done in any order: a file is read and written after its DISK_CREATE is done, and a
 * DISK_SYNC covers the writes that were done before it was submitted. When the disk is closed, what still waits is
 * done with -ECANCELED, and so is what is submitted from then on, from within the closing call.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

/* File offsets, lengths and memory are multiples of this. */
#define DISK_ALIGN 512

/* One transfer. */
#define DISK_IO_BYTES_MAX (UINT32_C(2) << 20)

enum disk_verb {
	DISK_READ,
	DISK_WRITE,
	/*
	 * Makes file anew, with all its bytes allocated; or opens it, if it is there already and as long. The first
	 * transfer of each file, whether it is there or not.
	 */
	DISK_CREATE,
	DISK_REMOVE, /* closes and unlinks it, if it is there; nothing of it is in flight */
	DISK_SYNC,   /* fdatasync of the file: what was written to it before survives a power failure */
};

struct disk_io {
	struct list link; /* the disk's, from submit() until done() */
	enum disk_verb verb;
	uint32_t file;
	uint64_t offset;
	void *memory; /* the arena's, or from disk_ops.buffers; the disk's until done() */
	uint32_t bytes;
	uint64_t ended_ns; /* monotonic, set by the disk before done(): how fast the disk is, is learnt from it */
	/* result: 0 or negative errno; -ENODATA: the file ends before. io may be freed or submitted again. */
	void (*done)(struct disk_io *io, int result);
	/* The disk's, like link. */
	uint32_t moved;
	int result;
};

struct disk {
	const struct disk_ops *ops;
	uint64_t file_bytes;
	uint32_t files_max;
};

struct disk_ops {
	const char *engine; /* "io_uring", "threads" */

	/* Takes the transfer; it starts at the latest when the loop's turn ends. */
	void (*submit)(struct disk *disk, struct disk_io *io);

	/*
	 * Which of the files exist, and are as long as file_bytes: one byte each, 1 or 0. As it was when it was
	 * opened.
	 */
	const uint8_t *(*files)(const struct disk *disk);

	/* Transfers that it has under way at once, at most; others wait in the order of their submission. */
	unsigned (*depth)(const struct disk *disk);

	/*
	 * Memory for the tier's own transfers, page-aligned, zeroed, registered as the arena is where that is
	 * possible; all of it lives as long as the disk. NULL: no memory.
	 */
	void *(*buffers)(struct disk *disk, size_t bytes);
};
