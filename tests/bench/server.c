/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon reads an empty configuration file, so that the machine's own has no part. */
#include "tests/bench/server.h"

#include "base/cleanup.h"
#include "tests/bench/bench.h"
#include "tests/bench/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS_MAX 48
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

int bench_server_again(struct bench_server *server, const struct bench_server_options *options)
{
	char program[PATH_MAX];
	char arena[24];
	char blocks[24];
	const char *argv[ARGUMENTS_MAX] = { program,	    "--config",	     server->config_path,
			 "--socket",	    server->socket_path, "--arena-bytes",
			 arena,		    "--arena-blocks",	 blocks,
			 "--arena-prefault", options->arena_path ? "no" : "yes", "--arena-huge-pages",
			 options->huge ? "yes" : "no", "--log-level",	 "warning",
			 "--arena-path", options->arena_path ? options->arena_path : "" };
	size_t n = 0;

	while (argv[n])
		n++;
	for (const char *const *more = options->more; more && *more && n + 1 < ARGUMENTS_MAX; more++)
		argv[n++] = *more;
	if (find_program(program) != 0)
		return 1;
	(void)snprintf(arena, sizeof(arena), "%" PRIu64, options->arena_bytes);
	(void)snprintf(blocks, sizeof(blocks), "%" PRIu64, options->blocks);
	return spawn_start(server->socket_path, argv, false, &server->pid);
}

int bench_server_start(struct bench_server *server, const struct bench_server_options *options)
{
	*server = (struct bench_server){ 0 };
	return make_directory(server) != 0 ? 1 : bench_server_again(server, options);
}

void bench_server_kill(struct bench_server *server)
{
	if (server->pid > 0) {
		(void)kill(server->pid, SIGKILL);
		(void)waitpid(server->pid, NULL, 0);
	}
	server->pid = 0;
}

void bench_server_stop(struct bench_server *server)
{
	spawn_stop(&server->pid);
	if (server->directory[0]) {
		(void)unlink(server->socket_path);
		(void)unlink(server->config_path);
		(void)rmdir(server->directory);
	}
	*server = (struct bench_server){ 0 };
}
