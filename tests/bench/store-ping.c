/* SPDX-License-Identifier: Apache-2.0 */
/* Not a store but a limit: a message of 64 bytes to another process over a Unix socket and back, both blocking. */
#include "tests/bench/store.h"

#include "base/cleanup.h"
#include "tests/bench/bench.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PING_MESSAGE_BYTES 64

static int ping(struct store *store, const struct store_item *item)
{
	int fd = store->fds[store->client];
	char bytes[PING_MESSAGE_BYTES] = { 0 };

	if (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) != sizeof(bytes) ||
	    recv(fd, bytes, sizeof(bytes), MSG_WAITALL) != sizeof(bytes))
		return bench_error("ping: %s", strerror(errno));
	return 0;
}

__attribute__((noreturn)) static void echo_process(int fd)
{
	char bytes[PING_MESSAGE_BYTES];

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (recv(fd, bytes, sizeof(bytes), MSG_WAITALL) == sizeof(bytes) &&
	       send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) == sizeof(bytes))
		;
	_exit(0);
}

/* Each client has an echo process of its own. */
static int start_echo(struct store *store, unsigned client)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return bench_error("socketpair: %s", strerror(errno));
	store->servers[client] = fork();
	if (store->servers[client] == 0) {
		(void)close(fds[0]);
		echo_process(fds[1]);
	}
	(void)close(fds[1]);
	store->fds[client] = fds[0];
	return store->servers[client] < 0 ? bench_error("fork: %s", strerror(errno)) : 0;
}

static void stop(struct store *store)
{
	for (unsigned i = 0; i < STORE_CLIENTS_MAX; i++) {
		store->fds[i] = close_fd(store->fds[i]);
		if (store->servers[i] > 0) {
			(void)kill(store->servers[i], SIGKILL);
			(void)waitpid(store->servers[i], NULL, 0);
		}
	}
}

static int start(struct store *store)
{
	for (unsigned i = 0; i < STORE_CLIENTS_MAX; i++)
		if (start_echo(store, i) != 0)
			return STORE_FAILED;
	return STORE_STARTED;
}

const struct store_class store_ping = {
	.name = "ping",
	.ops = { [STORE_FIND] = ping },
	.start = start,
	.stop = stop,
};
