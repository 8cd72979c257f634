/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the system is short of memory, as the kernel tells it (PSI), and what the arena does then. The kernel is
 * asked for a sign whenever some task waited for memory for 15 % of a second; a process without CAP_SYS_RESOURCE may
 * only ask for windows of two seconds. Of our own cgroup, where there is one, otherwise of the whole machine.
 */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "daemon/host/pressure.h"

struct server;

struct pressure_watch {
	uv_poll_t poll;
	uv_timer_t calm;
	struct server *server;
	struct pressure pressure;
	int fd; /* -1: nothing is watched */
};

/*
 * Watches as the settings say. Says in the log what it watches, or why it cannot: that is no error. Once, when the core
 * is there; without it, pressure_watch_close() has nothing to do.
 */
void pressure_watch_open(struct pressure_watch *watch, struct server *server);

/* Watches this descriptor, whose exceptional condition is a sign. Its own from then on. */
void pressure_watch_fd(struct pressure_watch *watch, struct server *server, int fd);

/* The handles close with the loop. */
void pressure_watch_close(struct pressure_watch *watch);
