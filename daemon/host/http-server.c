/* SPDX-License-Identifier: Apache-2.0 */
/* Who connects, whose turn it is, and what is answered. */
#include "daemon/host/http-server.h"

#include "base/contract.h"
#include "base/units.h"
#include "daemon/host/activation.h"
#include "daemon/host/exposition.h"
#include "daemon/host/http-connection.h"
#include "daemon/host/server.h"
#include "kvpaged-version.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define SOCKET_SUFFIX ".metrics"
#define BACKLOG 128
#define ACCEPT_MAX HTTP_CONNECTIONS_MAX
#define PAUSE_MS 100

#define PLAIN "text/plain; charset=utf-8"

/* --- Answers --------------------------------------------------------------------------- */

static void answer(struct http_server *http, struct http_connection *connection, struct http_response response,
		   char *body, bool served, uint64_t now_ns)
{
	core_note_http(http->server->core, served);
	response.date = time(NULL);
	if (http->server->state != SERVER_RUNNING)
		response.close = true;
	http_connection_answer(connection, &response, body, now_ns);
}

/* One line. Without memory for it there is no body, which is fine. */
static void answer_line(struct http_server *http, struct http_connection *connection, unsigned status,
			const char *line, bool close, bool served, uint64_t now_ns)
{
	char *body = strdup(line);
	struct http_response response = { .status = status,
					  .type = PLAIN,
					  .body_bytes = body ? strlen(body) : 0,
					  .close = close };

	answer(http, connection, response, body, served, now_ns);
}

void http_server_refuse(struct http_server *http, struct http_connection *connection, unsigned status,
			uint64_t now_ns)
{
	char line[64];

	(void)snprintf(line, sizeof(line), "%u %s\n", status, http_reason(status));
	answer_line(http, connection, status, line, /* close= */ true, /* served= */ false, now_ns);
}

static void answer_metrics(struct http_server *http, struct http_connection *connection, uint64_t now_ns)
{
	struct core *core = http->server->core;
	bool openmetrics = http_accept_openmetrics(&connection->parser.request.accept);
	enum exposition_format format = openmetrics ? EXPOSITION_OPENMETRICS : EXPOSITION_TEXT;
	struct exposition_source source = {
		.counters = core_counters(core),
		.spaces = core_spaces(core),
		.version = KVPAGED_VERSION,
		.restart_kind = http->server->recovered ? "warm" : "cold",
	};
	struct http_response response = { .status = 200, .type = exposition_type(format) };
	char *body;

	core_refresh(core, now_ns);
	usage_read(&source.usage);
	if (exposition_render(&source, format, &body, &response.body_bytes) < 0)
		http_server_refuse(http, connection, 500, now_ns);
	else
		answer(http, connection, response, body, /* served= */ true, now_ns);
}

static void answer_health(struct http_server *http, struct http_connection *connection, uint64_t now_ns)
{
	answer_line(http, connection, 200, "ok\n", false, true, now_ns);
}

static void answer_ready(struct http_server *http, struct http_connection *connection, uint64_t now_ns)
{
	if (http->server->state == SERVER_RUNNING)
		answer_line(http, connection, 200, "ready\n", false, true, now_ns);
	else
		answer_line(http, connection, 503, "stopping\n", true, true, now_ns);
}

static void answer_root(struct http_server *http, struct http_connection *connection, uint64_t now_ns)
{
	answer_line(http, connection, 200, "kvpaged " KVPAGED_VERSION ": /metrics /healthz /readyz\n", false, true,
		    now_ns);
}

static void answer_missing(struct http_server *http, struct http_connection *connection, uint64_t now_ns)
{
	answer_line(http, connection, 404, "404 Not Found: there are /metrics /healthz /readyz\n", false, false,
		    now_ns);
}

static void answer_request(struct http_server *http, struct http_connection *connection, uint64_t now_ns)
{
	static const struct {
		const char *path;
		void (*answer)(struct http_server *, struct http_connection *, uint64_t);
	} paths[] = {
		{ "/metrics", answer_metrics },
		{ "/healthz", answer_health },
		{ "/readyz", answer_ready },
		{ "/", answer_root },
	};
	const struct http_request *request = &connection->parser.request;
	const char *path = connection->in + request->path;

	if (connection->parser.status != 0) {
		http_server_refuse(http, connection, connection->parser.status, now_ns);
		return;
	}
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		if (strlen(paths[i].path) == request->path_bytes &&
		    memcmp(path, paths[i].path, request->path_bytes) == 0) {
			paths[i].answer(http, connection, now_ns);
			return;
		}
	}
	answer_missing(http, connection, now_ns);
}

/* --- Turns ----------------------------------------------------------------------------- */

/* One request; others have to wait for the loop to look at everybody else before. */
static void on_turn(uv_idle_t *idle)
{
	struct http_server *http = idle->data;
	uint64_t now_ns = server_turn(http->server);
	struct list *first = list_first(&http->waiting);

	if (first) {
		list_unlink(first);
		answer_request(http, list_entry(first, struct http_connection, waiting), now_ns);
		vigil_pardon(&http->server->vigil);
	}
	http_server_settle(http, now_ns);
}

void http_server_wait(struct http_server *http, struct http_connection *connection)
{
	list_push_back(&http->waiting, &connection->waiting);
}

static void on_timer(uv_timer_t *timer)
{
	struct http_server *http = timer->data;
	uint64_t now_ns = server_turn(http->server);

	list_for_each_safe(node, after, &http->connections) {
		struct http_connection *connection = list_entry(node, struct http_connection, node);

		if (connection->deadline_ns <= now_ns)
			http_connection_expire(connection, now_ns);
	}
	http_server_settle(http, now_ns);
}

static uint64_t next_deadline_ns(const struct http_server *http)
{
	uint64_t next_ns = http->accept_ns ? http->accept_ns : UINT64_MAX;

	list_for_each(node, &http->connections) {
		uint64_t deadline_ns = list_entry(node, struct http_connection, node)->deadline_ns;

		next_ns = deadline_ns < next_ns ? deadline_ns : next_ns;
	}
	return next_ns;
}

/* --- Accepting ------------------------------------------------------------------------- */

static void on_connection(uv_poll_t *poll, int status, int events);

static void set_accepting(struct http_server *http, bool accepting)
{
	for (unsigned i = 0; i < HTTP_LISTENERS; i++) {
		if (http->listeners[i].fd < 0)
			continue;
		if (accepting)
			(void)uv_poll_start(&http->listeners[i].poll, UV_READABLE, on_connection);
		else
			(void)uv_poll_stop(&http->listeners[i].poll);
	}
}

void http_server_settle(struct http_server *http, uint64_t now_ns)
{
	uint64_t next_ns;

	if (!http->open)
		return;
	if (http->accept_ns != 0 && (http->accept_ns <= now_ns)) {
		http->accept_ns = 0;
		set_accepting(http, true);
	}
	if (list_empty(&http->waiting))
		(void)uv_idle_stop(&http->turn);
	else
		(void)uv_idle_start(&http->turn, on_turn);
	next_ns = next_deadline_ns(http);
	if (next_ns == UINT64_MAX) {
		(void)uv_timer_stop(&http->timer);
		return;
	}
	uv_update_time(&http->server->loop);
	(void)uv_timer_start(&http->timer, on_timer, next_ns > now_ns ? (next_ns - now_ns) / NS_PER_MS + 1 : 0, 0);
}

void http_server_gone(struct http_server *http)
{
	http->n_connections--;
	if (http->accept_ns != 0)
		http->accept_ns = 1; /* at once */
}

static void pause_accepting(struct http_server *http, uint64_t until_ns)
{
	http->accept_ns = until_ns;
	set_accepting(http, false);
}

/* The first in this state, which is the one that has been in it for longest. NULL: none. */
static struct http_connection *oldest(struct http_server *http, enum http_state state)
{
	list_for_each(node, &http->connections) {
		struct http_connection *connection = list_entry(node, struct http_connection, node);

		if (connection->state == state)
			return connection;
	}
	return NULL;
}

/* Whether there is room for one more now; otherwise accepting goes on when there may be. */
static bool make_room(struct http_server *http, uint64_t now_ns)
{
	static const enum http_state order[] = { HTTP_LINGERING, HTTP_READING, HTTP_WRITING };
	uint64_t next_ns = now_ns + PAUSE_MS * NS_PER_MS;

	if (http->n_connections < HTTP_CONNECTIONS_MAX)
		return true;
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		struct http_connection *connection = oldest(http, order[i]);
		uint64_t ripe_ns = connection ? connection->since_ns + HTTP_GRACE_MS * NS_PER_MS : UINT64_MAX;

		if (ripe_ns <= now_ns) {
			if (connection->state != HTTP_LINGERING && connection->n_in > 0)
				core_note_http(http->server->core, false);
			http_connection_close(connection);
			return true;
		}
		next_ns = ripe_ns < next_ns ? ripe_ns : next_ns;
	}
	pause_accepting(http, next_ns);
	return false;
}

/* Whether to look for another one. */
static bool accept_one(struct http_listener *listener, uint64_t now_ns)
{
	static const int yes = 1;
	struct http_server *http = listener->http;
	int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		/* Out of descriptors or memory: time may heal it. */
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			pause_accepting(http, now_ns + PAUSE_MS * NS_PER_MS);
		return false;
	}
	if (listener->fd != http->socket.fd)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	if (http_connection_open(http, fd, now_ns) < 0)
		(void)close_fd(fd);
	else
		http->n_connections++;
	return http->n_connections < HTTP_CONNECTIONS_MAX;
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
	struct http_listener *listener = poll->data;
	struct http_server *http = listener->http;
	uint64_t now_ns = server_turn(http->server);

	if (status < 0) /* libuv stopped the poll */
		pause_accepting(http, now_ns + PAUSE_MS * NS_PER_MS);
	else if (make_room(http, now_ns))
		for (int i = 0; i < ACCEPT_MAX && accept_one(listener, now_ns); i++)
			continue;
	http_server_settle(http, now_ns);
}

/* --- Start and end ---------------------------------------------------------------------- */

static int listener_start(struct http_server *http, unsigned i, int fd, struct host_error *error)
{
	struct http_listener *listener = &http->listeners[i];
	int r = uv_poll_init(&http->server->loop, &listener->poll, fd);

	if (r < 0)
		return host_error_set(error, HOST_EXIT_FAILURE, "metrics: cannot poll: %s", uv_strerror(r));
	listener->http = http;
	listener->fd = fd;
	listener->poll.data = listener;
	return 0;
}

/* Beside the clients' socket. Whether there is such a place: it may have no path, or too long a one. */
static bool path_beside(struct http_server *http, int rpc_fd)
{
	char clients[SOCKET_NAME_BYTES];
	int n;

	if (rpc_fd < 0)
		(void)snprintf(clients, sizeof(clients), "%s", http->server->config->fields.socket_path);
	else
		listen_socket_path(rpc_fd, clients);
	n = snprintf(http->socket_path, sizeof(http->socket_path), "%s" SOCKET_SUFFIX, clients);
	if (clients[0] && n > 0 && (size_t)n < sizeof(http->socket_path))
		return true;
	log_line(http->server->log, LOG_LEVEL_WARNING,
		 "metrics are not served: there can be no socket beside \"%s\"; set metrics.socket", clients);
	return false;
}

static int open_path(struct http_server *http, int passed_fd, struct host_error *error)
{
	const struct config_fields *fields = &http->server->config->fields;
	struct socket_options options = {
		.passed_fd = passed_fd,
		.path = http->socket_path,
		.mode = (mode_t)fields->metrics_mode,
		.owner = (uid_t)fields->socket_owner, /* UINT64_MAX becomes -1: unchanged */
		.group = (gid_t)fields->metrics_group,
		.backlog = BACKLOG,
	};
	int r = listen_socket_open(&options, &http->socket, error);

	return r < 0 ? r : listener_start(http, 0, http->socket.fd, error);
}

static int open_unix(struct http_server *http, struct activation *activation, int rpc_fd, struct host_error *error)
{
	const char *path = http->server->config->fields.metrics_socket;
	int passed_fd = activation_take(activation, ACTIVATION_METRICS);

	if (passed_fd >= 0)
		return open_path(http, passed_fd, error);
	if (strcmp(path, CONFIG_METRICS_NO) == 0)
		return 0;
	if (strcmp(path, CONFIG_METRICS_AUTO) != 0) {
		(void)snprintf(http->socket_path, sizeof(http->socket_path), "%s", path);
		return open_path(http, -1, error);
	}
	if (path_beside(http, rpc_fd) && open_path(http, -1, error) < 0)
		log_line(http->server->log, LOG_LEVEL_WARNING, "metrics are not served: %s", error->text);
	return 0;
}

static int open_tcp(struct http_server *http, struct host_error *error)
{
	const char *text = http->server->config->fields.metrics_listen;
	int fd, r;

	if (text[0] == '\0')
		return 0;
	r = inet_parse(text, &http->address);
	kvp_assert(r == 0); /* the configuration was checked */
	r = inet_listen(&http->address, BACKLOG, &fd, error);
	if (r < 0)
		return r;
	r = listener_start(http, 1, fd, error);
	if (r < 0)
		(void)close_fd(fd);
	return r;
}

int http_server_open(struct http_server *http, struct server *server, struct activation *activation, int rpc_fd,
		     struct host_error *error)
{
	int r;

	*http = (struct http_server){ .server = server, .open = true, .socket = LISTEN_SOCKET_NULL };
	for (unsigned i = 0; i < HTTP_LISTENERS; i++)
		http->listeners[i].fd = -1;
	list_init(&http->connections);
	list_init(&http->waiting);
	(void)uv_idle_init(&server->loop, &http->turn);
	(void)uv_timer_init(&server->loop, &http->timer);
	http->turn.data = http;
	http->timer.data = http;
	r = open_unix(http, activation, rpc_fd, error);
	if (r == 0)
		r = open_tcp(http, error);
	if (r < 0) {
		http_server_close(http);
		return r;
	}
	set_accepting(http, true);
	return 0;
}

void http_server_close(struct http_server *http)
{
	if (!http->open)
		return;
	http->open = false;
	list_for_each_safe(node, after, &http->connections)
		http_connection_close(list_entry(node, struct http_connection, node));
	for (unsigned i = 0; i < HTTP_LISTENERS; i++) {
		struct http_listener *listener = &http->listeners[i];

		if (listener->fd < 0)
			continue;
		uv_close((uv_handle_t *)&listener->poll, NULL);
		if (listener->fd != http->socket.fd)
			(void)close_fd(listener->fd);
		listener->fd = -1;
	}
	uv_close((uv_handle_t *)&http->turn, NULL);
	uv_close((uv_handle_t *)&http->timer, NULL);
	listen_socket_close(&http->socket);
}

char *http_server_where(const struct http_server *http, char *buffer, size_t size)
{
	bool local = http->listeners[0].fd >= 0, tcp = http->listeners[1].fd >= 0;
	char address[INET_TEXT_BYTES];

	buffer[0] = '\0';
	if (!local && !tcp)
		return buffer;
	(void)snprintf(buffer, size, ", metrics %s%s%s", local ? http->socket.name : "", local && tcp ? " and " : "",
		       tcp ? inet_format(&http->address, address) : "");
	return buffer;
}
