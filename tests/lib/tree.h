/* SPDX-License-Identifier: Apache-2.0 */
/* The temporary directory of a test. */
#pragma once

#include <stddef.h>

/* Makes an empty directory of mode 0700 under $TMPDIR, or under /tmp where that is long. 0 or negative errno. */
int tree_make(char *path, size_t size);

/* Removes a directory and all that is in it, as far as that is possible. "" is fine. */
void tree_remove(const char *path);

/* Opens each file directly in the directory whose name ends in .log, and calls show with it. */
void tree_each_log(const char *path, void (*show)(int fd));
