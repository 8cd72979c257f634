/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded number of connections is accepted in one turn; the poll is level-triggered and brings
 * us back for the rest.
 */
#include "daemon/host/listener.h"

#include "base/cleanup.h"
#include "daemon/host/server.h"
#include "daemon/host/session.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

/* Of a process that are looked at. */
#define GROUPS_MAX 1024
#define ACCEPT_MAX 64
#define PAUSE_MS 100

static void on_connection(uv_poll_t *poll, int status, int events);

static int open_reserve(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void on_pause_over(uv_timer_t *timer)
{
	struct listener *listener = timer->data;

	(void)server_turn(listener->server);
	if (listener->reserve_fd < 0)
		listener->reserve_fd = open_reserve();
	(void)uv_poll_start(&listener->poll, UV_READABLE, on_connection);
}

static void pause_accepting(struct listener *listener)
{
	(void)uv_poll_stop(&listener->poll);
	(void)uv_timer_start(&listener->pause, on_pause_over, PAUSE_MS, 0);
}

/* Accepts one connection to close it. Whether it could be done. */
static bool drop_waiting(struct listener *listener)
{
	int fd;

	if (listener->reserve_fd < 0)
		return false;
	listener->reserve_fd = close_fd(listener->reserve_fd);
	fd = accept4(listener->socket.fd, NULL, NULL, SOCK_CLOEXEC);
	(void)close_fd(fd);
	listener->reserve_fd = open_reserve();
	return fd >= 0;
}

static bool gid_is_allowed(const struct config_fields *fields, gid_t gid)
{
	for (size_t i = 0; i < fields->n_allow_gids; i++)
		if (fields->allow_gids[i] == gid)
			return true;
	return false;
}

/* By the groups of the process that connected, as they were then. */
static bool groups_are_allowed(const struct config_fields *fields, int fd, gid_t primary)
{
	gid_t groups[GROUPS_MAX];
	socklen_t n = sizeof(groups);

	if (fields->n_allow_gids == 0)
		return false;
	if (gid_is_allowed(fields, primary))
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &n) < 0)
		return false; /* more than these: the primary one has to do */
	for (size_t i = 0; i < n / sizeof(groups[0]); i++)
		if (gid_is_allowed(fields, groups[i]))
			return true;
	return false;
}

static bool peer_is_allowed(const struct config_fields *fields, int fd, const struct ucred *peer)
{
	if (fields->n_allow_uids == 0 && fields->n_allow_gids == 0)
		return true;
	for (size_t i = 0; i < fields->n_allow_uids; i++)
		if (fields->allow_uids[i] == peer->uid)
			return true;
	return groups_are_allowed(fields, fd, peer->gid);
}

static void admit(struct listener *listener, int connection, uint64_t now_ns)
{
	struct server *server = listener->server;
	_cleanup_close_ int fd = connection;
	struct ucred peer;
	socklen_t n = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
		return;
	if (!peer_is_allowed(&server->config->fields, fd, &peer)) {
		struct log_client client = { .uid = peer.uid, .pid = peer.pid };

		log_client(server->log, now_ns, MESSAGE_SESSION_REFUSED, &client,
			   "uid %u (pid %d) is not in access.allow_uids, nor its groups in allow_gids: refused",
			   peer.uid, peer.pid);
		return;
	}
	if (session_open(server, fd, &peer, now_ns) == 0)
		(void)take_fd(&fd);
}

/* What accept4() failed with. Whether to go on accepting in this turn. */
static bool handle_error(struct listener *listener, int error, uint64_t now_ns)
{
	switch (error) {
	case EAGAIN:
		return false;
	case EINTR:
	case ECONNABORTED:
		return true;
	case EMFILE:
	case ENFILE:
		log_client(listener->server->log, now_ns, MESSAGE_ACCEPT_FAILED, NULL,
			   "no descriptor left for a new connection: dropped");
		if (drop_waiting(listener))
			return true;
		break;
	default:
		log_client(listener->server->log, now_ns, MESSAGE_ACCEPT_FAILED, NULL, "cannot accept: %s",
			   strerror(error));
	}
	pause_accepting(listener);
	return false;
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
	struct listener *listener = poll->data;
	uint64_t now_ns = server_turn(listener->server);

	if (status < 0) { /* libuv stopped the poll */
		pause_accepting(listener);
		return;
	}
	for (int i = 0; i < ACCEPT_MAX; i++) {
		int fd = accept4(listener->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0)
			admit(listener, fd, now_ns);
		else if (!handle_error(listener, errno, now_ns))
			return;
	}
}

int listener_open(struct listener *listener, struct server *server,
		  const struct socket_options *options, struct host_error *error)
{
	int r;

	*listener = (struct listener){ .server = server,
				       .socket = LISTEN_SOCKET_NULL,
				       .reserve_fd = -1 };
	r = listen_socket_open(options, &listener->socket, error);
	if (r < 0)
		return r;
	listener->reserve_fd = open_reserve();
	r = uv_poll_init(&server->loop, &listener->poll, listener->socket.fd);
	if (r < 0) {
		(void)host_error_set(error, HOST_EXIT_FAILURE, "%s: cannot poll: %s", listener->socket.name,
				     uv_strerror(r));
		listen_socket_close(&listener->socket);
		listener->reserve_fd = close_fd(listener->reserve_fd);
		return -EINVAL;
	}
	(void)uv_timer_init(&server->loop, &listener->pause);
	listener->poll.data = listener;
	listener->pause.data = listener;
	listener->open = true;
	(void)uv_poll_start(&listener->poll, UV_READABLE, on_connection);
	return 0;
}

void listener_close(struct listener *listener)
{
	if (!listener->open)
		return;
	listener->open = false;
	uv_close((uv_handle_t *)&listener->poll, NULL);
	uv_close((uv_handle_t *)&listener->pause, NULL);
	listen_socket_close(&listener->socket);
	listener->reserve_fd = close_fd(listener->reserve_fd);
}
