/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accepts connections: checks who the peer is before anything is done for it, and begins a session.
 * Out of descriptors, it drops the connection that waits (a reserved descriptor makes room to
 * accept it), so that the queue does not keep the loop busy; sessions that exist are not touched.
 */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "daemon/host/socket.h"

struct server;

struct listener {
	struct server *server;
	struct listen_socket socket;
	int reserve_fd;
	uv_poll_t poll;
	uv_timer_t pause; /* after an error that time may heal */
	bool open;
};

/*
 * Listens and accepts from the next turn of the server's loop on. Results: 0, or -EINVAL and
 * *error.
 */
int listener_open(struct listener *listener, struct server *server,
		  const struct socket_options *options, struct host_error *error);

/*
 * Stops accepting and removes the socket. The handles end in the next turns of the loop. Fine when
 * not open.
 */
void listener_close(struct listener *listener);
