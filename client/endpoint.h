/* SPDX-License-Identifier: Apache-2.0 */
/* Reaching the daemon's socket. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct words;

/*
 * Connects to the Unix stream socket at path, waiting up to timeout_ms while its backlog is full. Results: 0
 * and a non-blocking, close-on-exec descriptor; -ENAMETOOLONG; -ENOENT, -ECONNREFUSED (no daemon there);
 * -EACCES; -ETIMEDOUT; other errno. Words say which path.
 */
int endpoint_connect(const char *path, uint32_t timeout_ms, struct words *words, int *ret_socket);

/* The user who listens at the other end, as the kernel knows it; (uid_t)-1 when it does not. */
uid_t endpoint_peer_uid(int socket);
