/* SPDX-License-Identifier: Apache-2.0 */
/* Whether files of a directory can be read and written past the page cache. */
#pragma once

#include <stdbool.h>

/*
 * Whether O_DIRECT works with transfers aligned to DISK_ALIGN, in memory and in the file. file_fd is a regular file in
 * the directory. Not: *ret_why says why, as static text.
 */
bool disk_probe_direct(int directory_fd, int file_fd, const char **ret_why);
