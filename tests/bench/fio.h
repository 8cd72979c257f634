/* SPDX-License-Identifier: Apache-2.0 */
/* fio, the limit that transfers of disks are held against. */
#pragma once

#include <stdint.h>

/*
 * Runs one job of fio in the directory, past the page cache, with io_uring: how is "randread" or "write", file a name
 * in the directory of file_bytes, which fio makes where it is missing, or several of that many bytes together, with
 * colons between their names, which are only read; bytes are moved in transfers of block_bytes,
 * depth of them at once. Results: 0 and what it measured, in bytes a second; or 1 after a line on stderr.
 */
int fio_run(const char *directory, const char *how, const char *file, uint64_t file_bytes, uint64_t bytes,
	    uint32_t block_bytes, unsigned depth, double *ret_rate);
