/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tier's directory and the files in it, for both engines: whose it is, what is there, and each verb done by a
 * thread that may wait.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/host/disk-open.h"

struct disk_files {
	int directory_fd;
	int lock_fd;
	bool direct; /* files are opened with O_DIRECT */
	uint64_t file_bytes;
	uint32_t files_max;
	int *fds;	/* by file; -1: not open. Changed by DISK_CREATE and DISK_REMOVE of that file */
	uint8_t *there; /* by file: it was there when the directory was opened */
};

#define DISK_FILES_NULL { .directory_fd = -1, .lock_fd = -1 }

/* Results: as disk_open(). */
int disk_files_open(const struct disk_options *options, struct disk_files *ret_files, struct host_error *error);

/* Closes all of it. NULL members are fine. */
void disk_files_close(struct disk_files *files);

/* Does io, whatever it is, and waits for it. From any thread, for different files or transfers at once. Its result. */
int disk_files_do(struct disk_files *files, struct disk_io *io);

/*
 * A read or write of the rest of io (what comes after io->moved) gave n, bytes or negative errno. Whether that is the
 * end of io, with *ret_result; otherwise the rest is to be transferred.
 */
bool disk_files_moved(struct disk_io *io, ssize_t n, int *ret_result);
