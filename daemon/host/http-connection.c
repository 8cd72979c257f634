/* SPDX-License-Identifier: Apache-2.0 */
/* The states are told in the header. Each callback does a bounded amount: one read, or as much as the socket takes. */
#include "daemon/host/http-connection.h"

#include "base/contract.h"
#include "base/units.h"
#include "daemon/host/http-server.h"
#include "daemon/host/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

static void on_poll(uv_poll_t *poll, int status, int events);
static void look(struct http_connection *connection, uint64_t now_ns);

/* --- States ---------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void drop_body(struct http_connection *connection)
{
	free(connection->body);
	connection->body = NULL;
}

void http_connection_close(struct http_connection *connection)
{
	if (connection->state == HTTP_CLOSED)
		return;
	connection->state = HTTP_CLOSED;
	list_unlink(&connection->node);
	list_unlink(&connection->waiting);
	/* The poll handle must be closed before its descriptor is. */
	uv_close((uv_handle_t *)&connection->poll, on_closed);
	connection->fd = close_fd(connection->fd);
	drop_body(connection);
	http_server_gone(connection->http);
}

static void poll_for(struct http_connection *connection, int events)
{
	if (connection->interest == events)
		return;
	connection->interest = events;
	if (events)
		(void)uv_poll_start(&connection->poll, events, on_poll);
	else
		(void)uv_poll_stop(&connection->poll);
}

/* patience_ms 0: no deadline. */
static void become(struct http_connection *connection, enum http_state state, uint64_t now_ns, uint64_t patience_ms)
{
	static const int events[] = {
		[HTTP_READING] = UV_READABLE,
		[HTTP_WAITING] = 0,
		[HTTP_WRITING] = UV_WRITABLE,
		[HTTP_LINGERING] = UV_READABLE,
	};

	connection->state = state;
	connection->since_ns = now_ns;
	connection->deadline_ns = patience_ms ? now_ns + patience_ms * NS_PER_MS : UINT64_MAX;
	list_unlink(&connection->node);
	list_push_back(&connection->http->connections, &connection->node);
	poll_for(connection, events[state]);
}

/* --- Writing --------------------------------------------------------------------------- */

static void linger(struct http_connection *connection, uint64_t now_ns)
{
	(void)shutdown(connection->fd, SHUT_WR);
	become(connection, HTTP_LINGERING, now_ns, HTTP_LINGER_MS);
}

/* The answer has left. What came behind its request is the begin of the next. */
static void finish(struct http_connection *connection, uint64_t now_ns)
{
	size_t used = connection->parser.n;

	drop_body(connection);
	if (connection->close) {
		linger(connection, now_ns);
		return;
	}
	connection->n_in -= used;
	memmove(connection->in, connection->in + used, connection->n_in);
	connection->parser = (struct http_parser){ 0 };
	become(connection, HTTP_READING, now_ns, connection->n_in > 0 ? HTTP_REQUEST_MS : HTTP_KEEP_MS);
	look(connection, now_ns);
}

/* What is left to send of one part, whose bytes begin at the offset in the stream. */
static struct iovec rest_of(const struct http_connection *connection, char *part, size_t n, size_t offset)
{
	size_t sent = connection->sent > offset ? connection->sent - offset : 0;

	sent = sent < n ? sent : n;
	return (struct iovec){ part ? part + sent : NULL, n - sent };
}

static void flush(struct http_connection *connection, uint64_t now_ns)
{
	while (connection->sent < connection->n_head + connection->n_body) {
		struct iovec parts[2] = {
			rest_of(connection, connection->head, connection->n_head, 0),
			rest_of(connection, connection->body, connection->n_body, connection->n_head),
		};
		struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
		ssize_t n = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			http_connection_close(connection);
		if (n < 0)
			return;
		connection->sent += (size_t)n;
	}
	finish(connection, now_ns);
}

void http_connection_answer(struct http_connection *connection, const struct http_response *response, char *body,
			    uint64_t now_ns)
{
	struct http_response full = *response;

	kvp_assert(connection->state == HTTP_WAITING || connection->state == HTTP_READING);
	if (++connection->answered >= HTTP_REQUESTS_MAX || !connection->parser.request.keep_alive)
		full.close = true;
	connection->close = full.close;
	connection->n_head = http_response_head(&full, connection->head);
	connection->body = body;
	connection->n_body = connection->parser.request.head ? 0 : full.body_bytes;
	connection->sent = 0;
	become(connection, HTTP_WRITING, now_ns, HTTP_SEND_MS);
	flush(connection, now_ns);
}

/* --- Reading --------------------------------------------------------------------------- */

/* Whether there is a request to answer. */
static void look(struct http_connection *connection, uint64_t now_ns)
{
	if (http_parse(&connection->parser, connection->in, connection->n_in) == HTTP_MORE)
		return;
	become(connection, HTTP_WAITING, now_ns, 0);
	http_server_wait(connection->http, connection);
}

static void receive(struct http_connection *connection, uint64_t now_ns)
{
	bool begins = connection->n_in == 0;
	ssize_t n;

	kvp_assert(connection->n_in < sizeof(connection->in)); /* the parser says before what is too long */
	n = recv(connection->fd, connection->in + connection->n_in, sizeof(connection->in) - connection->n_in,
		 MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		http_connection_close(connection);
		return;
	}
	if (n < 0)
		return;
	if (begins && connection->answered > 0)
		become(connection, HTTP_READING, now_ns, HTTP_REQUEST_MS);
	connection->n_in += (size_t)n;
	look(connection, now_ns);
}

static void discard(struct http_connection *connection)
{
	static char nowhere[64 << 10];
	ssize_t n = recv(connection->fd, nowhere, sizeof(nowhere), MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		http_connection_close(connection);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct http_connection *connection = poll->data;
	struct http_server *http = connection->http;
	uint64_t now_ns = server_turn(http->server);

	if (status < 0)
		http_connection_close(connection); /* libuv stopped the poll */
	else if (connection->state == HTTP_READING)
		receive(connection, now_ns);
	else if (connection->state == HTTP_WRITING)
		flush(connection, now_ns);
	else if (connection->state == HTTP_LINGERING)
		discard(connection);
	http_server_settle(http, now_ns);
}

void http_connection_expire(struct http_connection *connection, uint64_t now_ns)
{
	if (connection->state == HTTP_READING && connection->n_in > 0)
		http_server_refuse(connection->http, connection, 408, now_ns);
	else
		http_connection_close(connection);
}

int http_connection_open(struct http_server *http, int fd, uint64_t now_ns)
{
	struct http_connection *connection = calloc(1, sizeof(*connection));
	int r;

	if (!connection)
		return -ENOMEM;
	connection->http = http;
	connection->fd = fd;
	list_init(&connection->node);
	list_init(&connection->waiting);
	r = uv_poll_init(&http->server->loop, &connection->poll, fd);
	if (r < 0) {
		free(connection);
		return r;
	}
	connection->poll.data = connection;
	become(connection, HTTP_READING, now_ns, HTTP_REQUEST_MS);
	return 0;
}
