/* SPDX-License-Identifier: Apache-2.0 */
/* Servers that a benchmark starts for itself, on private Unix sockets. They die with this process. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* Whether a program of this name is in $PATH. */
bool spawn_there(const char *program);

/* Connects. Results: a descriptor, or -1. */
int spawn_connect(const char *socket_path);

/*
 * Starts argv[0], found in $PATH unless it is a path, and waits until it accepts connections at socket_path. quiet: its
 * standard output leads nowhere. Results: 0 and its process in *ret_pid; or 1 after a line on stderr.
 */
int spawn_start(const char *socket_path, const char *const argv[], bool quiet, pid_t *ret_pid);

/* Ends it and waits for that; *pid becomes 0. 0 is fine. */
void spawn_stop(pid_t *pid);
