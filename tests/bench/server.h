/* SPDX-License-Identifier: Apache-2.0 */
/* A kvpaged of the benchmark's own, on a private socket in a temporary directory. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct bench_server {
	char directory[64];
	char socket_path[96];
	char config_path[96];
	pid_t pid; /* 0: not running */
};

struct bench_server_options {
	uint64_t arena_bytes; /* a multiple of 2 MiB */
	uint64_t blocks;      /* that the arena can index; 0: the daemon's default */
	bool huge;	      /* from the system's pool of huge pages */
	const char *const *more; /* further arguments of the daemon, NULL last; NULL: none */
	const char *arena_path; /* a file for the arena, which is then not prefaulted; NULL: none */
};

/*
 * Starts the program $KVPAGED_BIN, or the one that was built beside kvbench, with this arena, prefaulted, and
 * waits until it accepts. It dies with this process. Results: 0, or 1 after a line on stderr.
 */
int bench_server_start(struct bench_server *server, const struct bench_server_options *options);

/* Kills it, and starts it again with the same options. Results as above. */
void bench_server_kill(struct bench_server *server);
int bench_server_again(struct bench_server *server, const struct bench_server_options *options);

/* Stops it and removes its directory. One that is not running is fine. */
void bench_server_stop(struct bench_server *server);
