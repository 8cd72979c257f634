/* SPDX-License-Identifier: Apache-2.0 */
/* A server is ready when its socket accepts; it may say no more about itself. */
#include "tests/bench/spawn.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "tests/bench/bench.h"
#include "tests/bench/measure.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_LIMIT_S 60

bool spawn_there(const char *program)
{
	const char *at = getenv("PATH");
	bool there = false;

	while (at && *at && !there) {
		size_t n = strcspn(at, ":");
		char path[PATH_MAX];

		(void)snprintf(path, sizeof(path), "%.*s/%s", (int)n, at, program);
		there = access(path, X_OK) == 0;
		at += n + (at[n] == ':');
	}
	return there;
}

int spawn_connect(const char *socket_path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -1;
	return take_fd(&fd);
}

static bool accepts(const char *socket_path)
{
	_cleanup_close_ int fd = spawn_connect(socket_path);

	return fd >= 0;
}

static int await_ready(const char *socket_path, const char *program, pid_t *pid)
{
	static const struct timespec pause = { .tv_nsec = NS_PER_MS };
	uint64_t limit_ns = now_ns() + START_LIMIT_S * NS_PER_S;

	while (!accepts(socket_path)) {
		int status;

		if (waitpid(*pid, &status, WNOHANG) == *pid) {
			*pid = 0;
			return bench_error("%s did not start", program);
		}
		if (now_ns() > limit_ns)
			return bench_error("%s does not accept connections", program);
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

__attribute__((noreturn)) static void become(const char *const argv[], bool quiet)
{
	int nowhere = quiet ? open("/dev/null", O_WRONLY | O_CLOEXEC) : -1;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (nowhere >= 0)
		(void)dup2(nowhere, STDOUT_FILENO);
	(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
	(void)bench_error("%s: %s", argv[0], strerror(errno));
	_exit(127);
}

int spawn_start(const char *socket_path, const char *const argv[], bool quiet, pid_t *ret_pid)
{
	pid_t pid;
	int status;

	(void)fflush(NULL);
	pid = fork();
	if (pid < 0)
		return bench_error("fork: %s", strerror(errno));
	if (pid == 0)
		become(argv, quiet);
	status = await_ready(socket_path, argv[0], &pid);
	if (status != 0)
		spawn_stop(&pid);
	else
		*ret_pid = pid;
	return status;
}

void spawn_stop(pid_t *pid)
{
	if (*pid > 0) {
		(void)kill(*pid, SIGTERM);
		(void)waitpid(*pid, NULL, 0);
	}
	*pid = 0;
}
