/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting; see endpoint.h. */
#include "client/endpoint.h"

#include "base/cleanup.h"
#include "client/clock.h"
#include "client/kvclient.h"
#include "client/words.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define BACKLOG_FULL_WAIT_MS 5

/*
 * A non-blocking connect() to a Unix socket is complete or fails at once; EAGAIN means that the backlog is
 * full, and nothing tells when it no longer is.
 */
static int connect_until(int fd, const struct sockaddr_un *address, uint64_t deadline_ns)
{
	while (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
		int left_ms = clock_left_ms(deadline_ns);

		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		if (left_ms == 0)
			return -ETIMEDOUT;
		(void)poll(NULL, 0, left_ms < BACKLOG_FULL_WAIT_MS ? left_ms : BACKLOG_FULL_WAIT_MS);
	}
	return 0;
}

int endpoint_connect(const char *path, uint32_t timeout_ms, struct words *words, int *ret_socket)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t n = strlen(path);
	_cleanup_close_ int fd = -1;
	int r;

	if (n == 0 || n >= sizeof(address.sun_path)) {
		words_set(words, "the socket's path must have 1 to %zu bytes, not %zu",
			  sizeof(address.sun_path) - 1, n);
		return n == 0 ? -ENOENT : -ENAMETOOLONG;
	}
	memcpy(address.sun_path, path, n);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		r = -errno;
		words_set(words, "cannot create a socket: %s", kvc_strerror(r));
		return r;
	}
	r = connect_until(fd, &address, clock_now_ns(CLOCK_MONOTONIC) + timeout_ms * NS_PER_MS);
	if (r < 0) {
		words_set(words, "cannot connect to %s: %s", path, kvc_strerror(r));
		return r;
	}
	*ret_socket = take_fd(&fd);
	return 0;
}

uid_t endpoint_peer_uid(int socket)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);

	return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0 ? (uid_t)-1 : peer.uid;
}
