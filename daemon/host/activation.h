/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets that whoever started us opened for us (sd_listen_fds(3)), and what it keeps for us. Each has a name:
 * FileDescriptorName= in the socket unit, FDNAME= when it was given to be kept. A part that can use one takes it by
 * name; what nobody has taken when all parts have started is closed, with a line in the log, so that no client waits
 * at a socket that nobody serves.
 */
#pragma once

#include "daemon/host/error.h"
#include "daemon/host/keep.h"
#include "daemon/host/log.h"

/* The names that parts of kvpaged take. */
#define ACTIVATION_RPC "rpc"         /* where clients connect */
#define ACTIVATION_METRICS "metrics" /* where metrics are read */
#define ACTIVATION_ARENA KEEP_NAME   /* the arena of the process before */

/* descriptors[i] is -1 once it is taken. All zero: none were passed. */
struct activation {
	int n;
	int *descriptors;
	char **names;
};

/*
 * Everything that was passed. To be called once, before anything else of the process makes descriptors of its own or
 * starts a thread. Results: 0, or -EINVAL and *error.
 */
int activation_receive(struct activation *ret_activation, struct host_error *error);

/* The first descriptor of this name that is left, which becomes the caller's; -1: none. */
int activation_take(struct activation *activation, const char *name);

/* Closes what is left and says so. */
void activation_close_rest(struct activation *activation, struct log *log);

/* Closes what is left. */
void activation_deinit(struct activation *activation);
