/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon reads an empty configuration file, so that the machine's own has no part. */
#include "tests/bench/server.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "tests/bench/bench.h"
#include "tests/bench/measure.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_LIMIT_S 60
#define BESIDE "../../daemon/kvpaged" /* from the directory of kvbench in a build directory */

/* The daemon's path: from the environment, or beside this program. */
static int find_program(char path[PATH_MAX])
{
	const char *named = getenv("KVPAGED_BIN");
	char self[PATH_MAX];
	char joined[PATH_MAX + sizeof(BESIDE)];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (named) {
		(void)snprintf(path, PATH_MAX, "%s", named);
		return 0;
	}
	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	if (!slash)
		return bench_error("cannot find kvpaged: set KVPAGED_BIN");
	slash[1] = '\0';
	(void)snprintf(joined, sizeof(joined), "%s" BESIDE, self);
	if (!realpath(joined, path))
		return bench_error("%s: %s; build it, or set KVPAGED_BIN", joined, strerror(errno));
	return 0;
}

static bool accepts(const char *socket_path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, socket_path, strlen(socket_path));
	return fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

static int await_ready(struct bench_server *server)
{
	static const struct timespec pause = { .tv_nsec = 5 * NS_PER_MS };
	uint64_t limit_ns = now_ns() + START_LIMIT_S * NS_PER_S;

	while (!accepts(server->socket_path)) {
		int status;

		if (waitpid(server->pid, &status, WNOHANG) == server->pid) {
			server->pid = 0;
			return bench_error("kvpaged did not start; its own words are above");
		}
		if (now_ns() > limit_ns)
			return bench_error("kvpaged does not accept connections");
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

__attribute__((noreturn)) static void become(const char *program, const struct bench_server *server,
					     uint64_t arena_bytes)
{
	char arena[24];

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)snprintf(arena, sizeof(arena), "%" PRIu64, arena_bytes);
	(void)execl(program, program, "--config", server->config_path, "--socket", server->socket_path, "--arena-bytes",
		    arena, "--arena-prefault", "yes", "--log-level", "warning", (char *)NULL);
	(void)bench_error("%s: %s", program, strerror(errno));
	_exit(127);
}

static int make_directory(struct bench_server *server)
{
	_cleanup_close_ int fd = -1;

	(void)snprintf(server->directory, sizeof(server->directory), "/tmp/kvbench-XXXXXX");
	if (!mkdtemp(server->directory)) {
		server->directory[0] = '\0';
		return bench_error("/tmp: %s", strerror(errno));
	}
	(void)snprintf(server->socket_path, sizeof(server->socket_path), "%s/s", server->directory);
	(void)snprintf(server->config_path, sizeof(server->config_path), "%s/conf", server->directory);
	fd = open(server->config_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? bench_error("%s: %s", server->config_path, strerror(errno)) : 0;
}

int bench_server_start(struct bench_server *server, uint64_t arena_bytes)
{
	char program[PATH_MAX];

	*server = (struct bench_server){ 0 };
	if (find_program(program) != 0 || make_directory(server) != 0)
		return 1;
	(void)fflush(NULL);
	server->pid = fork();
	if (server->pid < 0)
		return bench_error("fork: %s", strerror(errno));
	if (server->pid == 0)
		become(program, server, arena_bytes);
	return await_ready(server);
}

void bench_server_stop(struct bench_server *server)
{
	if (server->pid > 0) {
		(void)kill(server->pid, SIGTERM);
		(void)waitpid(server->pid, NULL, 0);
	}
	if (server->directory[0]) {
		(void)unlink(server->socket_path);
		(void)unlink(server->config_path);
		(void)rmdir(server->directory);
	}
	*server = (struct bench_server){ 0 };
}
