/* SPDX-License-Identifier: Apache-2.0 */
/* The other side of sd_notify(3) and of the journal: datagrams. */
#include "tests/e2e/service-rig.h"

#include "tests/lib/daemon.h"
#include "tests/lib/harness.h"
#include "tests/lib/peer.h"
#include "tests/lib/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

void service_needs_libsystemd(void)
{
	const char *built = getenv("KVPAGED_SYSTEMD");

	if (!built || strcmp(built, "yes") != 0)
		harness_skip("kvpaged is built without libsystemd");
}

const char *service_path(const char *name)
{
	static char paths[8][200];
	static unsigned next;
	char *path = paths[next++ % 8];

	(void)snprintf(path, sizeof(paths[0]), "%s/%s", harness_directory(), name);
	return path;
}

const char *service_empty_config(void)
{
	const char *path = service_path("empty.conf");
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	(void)close(fd);
	return path;
}

int service_datagrams(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_true(strlen(path) < sizeof(address.sun_path));
	memcpy(address.sun_path, path, strlen(path));
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

const char *service_next(int fd, unsigned limit_ms)
{
	static char text[8192];
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	ssize_t n;

	if (poll(&ready, 1, (int)limit_ms) != 1)
		return NULL;
	n = recv(fd, text, sizeof(text) - 1, 0);
	assert_true(n >= 0);
	text[n] = '\0';
	return text;
}

const char *service_await(int fd, const char *text)
{
	const char *next;

	while ((next = service_next(fd, SERVICE_WAIT_MS)))
		if (strstr(next, text))
			return next;
	fail_msg("nothing came with '%s'", text);
	return NULL;
}

pid_t service_start(const char *socket_path, int stderr_fd)
{
	char *argv[] = { (char *)test_program("KVPAGED_BIN"), (char *)"--config", (char *)service_empty_config(),
			 (char *)"--socket", (char *)socket_path, (char *)"--arena-bytes", (char *)"16MiB", NULL };

	return process_start(argv, -1, stderr_fd);
}

void service_stop(pid_t pid)
{
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(process_wait(pid, SERVICE_WAIT_MS), 0);
}

void service_await_listener(const char *socket_path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int waited_ms = 0;

	assert_true(fd >= 0);
	assert_true(strlen(socket_path) < sizeof(address.sun_path));
	memcpy(address.sun_path, socket_path, strlen(socket_path));
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		assert_true((waited_ms += 5) < SERVICE_WAIT_MS);
		service_pause_ms(5);
	}
	(void)close(fd);
}

bool service_serves(const char *socket_path)
{
	struct test_peer peer;

	peer_connect(&peer, socket_path);
	peer_hello(&peer, 0);
	peer_close(&peer);
	return true;
}

void service_pause_ms(long ms)
{
	const struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	(void)nanosleep(&pause, NULL);
}
