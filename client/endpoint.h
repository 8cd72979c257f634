/* SPDX-License-Identifier: Apache-2.0 */
/* Reaching the daemon's socket. */
#pragma once

#include <stdint.h>

struct words;

/*
 * Connects to the Unix stream socket at path, waiting up to timeout_ms while its backlog is full. Results: 0
 * and a non-blocking, close-on-exec descriptor; -ENAMETOOLONG; -ENOENT, -ECONNREFUSED (no daemon there);
 * -EACCES; -ETIMEDOUT; other errno. Words say which path.
 */
int endpoint_connect(const char *path, uint32_t timeout_ms, struct words *words, int *ret_socket);
