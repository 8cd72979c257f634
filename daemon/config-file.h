/* SPDX-License-Identifier: Apache-2.0 */
/* Reads one configuration file, or a directory of drop-ins, and hands each key and value on. */
#pragma once

#include <stdbool.h>

#include "daemon/host/error.h"

/*
 * Called for each line "key = value" with the setting's index. origin ("FILE:LINE") and value are
 * valid during the call only. Results: 0 to go on; negative with *error filled in, which ends the
 * reading.
 */
typedef int (*config_file_line_fn)(void *context, int index, const char *value, const char *origin,
				   struct host_error *error);

/*
 * Reads the file. One that others could have written is refused: it must be a regular file of root
 * or of this process's user, not writable by everyone. optional: a file that is not there is as
 * good as empty. Results: 0, -EINVAL and *error.
 */
int config_file_read(const char *path, bool optional, config_file_line_fn line, void *context,
		     struct host_error *error);

/*
 * Reads the *.conf in the directory, sorted by name (bytewise); a directory that is not there is
 * empty. Results as above.
 */
int config_directory_read(const char *path, config_file_line_fn line, void *context,
			  struct host_error *error);
