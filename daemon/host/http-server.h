/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics over HTTP, in the daemon's loop: on a Unix socket, and on TCP where the configuration says so. GET and HEAD
 * of
 *
 *	/metrics  every metric (exposition.h)
 *	/healthz  200 while the loop turns
 *	/readyz   200 while clients are served, 503 when the daemon stops
 *	/         what there is
 *
 * What a scrape may take from clients of pages is bounded: HTTP_CONNECTIONS_MAX connections, one request answered in a
 * turn of the loop, one answer in memory a connection. Who connects beyond that takes the place of the connection that
 * has waited longest for a request (or, if there is none, taken longest for its answer), but only after it has had
 * HTTP_GRACE_MS; until then new ones wait in the socket's queue. Nothing is logged about clients; refusals are counted.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>
#include <uv.h>

#include "base/list.h"
#include "daemon/host/error.h"
#include "daemon/host/inet.h"
#include "daemon/host/socket.h"

#define HTTP_CONNECTIONS_MAX 16
#define HTTP_GRACE_MS 100
#define HTTP_LISTENERS 2

struct activation;
struct server;
struct http_connection;

struct http_listener {
	struct http_server *http;
	int fd; /* -1: not listening */
	uv_poll_t poll;
};

struct http_server {
	struct server *server;
	bool open;
	struct http_listener listeners[HTTP_LISTENERS];
	struct listen_socket socket; /* the Unix one, whose descriptor is a listener's */
	char socket_path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	struct inet_address address; /* of TCP */
	struct list connections;
	struct list waiting; /* those with a request to answer */
	unsigned n_connections;
	uint64_t accept_ns; /* when accepting goes on; 0: it does */
	uv_idle_t turn;     /* active while some wait */
	uv_timer_t timer;   /* the next deadline */
};

/*
 * Listens where the configuration says, if anywhere; a socket of that name that was passed stands for the Unix one.
 * rpc_fd is the clients' socket if that was passed (otherwise -1): ours is beside it unless the configuration says
 * more. A place that nobody named and that cannot be had is no error: the log says so. The server's loop and
 * configuration are there already. Results: 0, or -EINVAL and *error.
 */
int http_server_open(struct http_server *http, struct server *server, struct activation *activation, int rpc_fd,
		     struct host_error *error);

/* Closes all at once. Fine when not open. */
void http_server_close(struct http_server *http);

/* ", metrics PATH and ADDRESS" for the log, or ""; returns buffer. */
char *http_server_where(const struct http_server *http, char *buffer, size_t size);

/* --- For http-connection.c ------------------------------------------------------------- */

/* The connection has a request, or bytes that are none. */
void http_server_wait(struct http_server *http, struct http_connection *connection);

/* Answers with this status and ends the connection. */
void http_server_refuse(struct http_server *http, struct http_connection *connection, unsigned status,
			uint64_t now_ns);

/* A connection is closed. */
void http_server_gone(struct http_server *http);

/* At the end of each callback: sets the timer. */
void http_server_settle(struct http_server *http, uint64_t now_ns);
