/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readiness is a connection that is accepted, tried every few milliseconds; a daemon that ends meanwhile fails the
 * test.
 */
#include "tests/lib/daemon.h"

#include "base/cleanup.h"
#include "tests/lib/harness.h"
#include "tests/lib/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_LIMIT_MS 30000
#define STOP_LIMIT_MS 20000
#define POLL_MS 5
#define LOG_READ_BYTES (256u << 10)

const char *test_program(const char *variable)
{
	const char *path = getenv(variable);

	if (!path || path[0] == '\0')
		harness_skip("a program that this test starts is not named by the environment");
	return path;
}

static bool accepts(const char *socket_path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_true(strlen(socket_path) < sizeof(address.sun_path));
	memcpy(address.sun_path, socket_path, strlen(socket_path));
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

/* Any test's daemon can have a tier below it. Returns the number of arguments. */
static unsigned add_tier(struct test_daemon *daemon, char **argv)
{
	static const char *const options[] = {
		"--tier-bytes", "64MiB", "--tier-segment-bytes", "16MiB",     "--tier-admit",
		"all",	        "--tier-free-percent",    "100", "--tier-engine",
	};
	const char *engine = getenv("KVP_TEST_TIER");
	unsigned n = 0;

	if (strcmp(engine, "io_uring") == 0 && syscall(SYS_io_uring_setup, 0, NULL) < 0 &&
	    (errno == EPERM || errno == ENOSYS))
		harness_skip("this system refuses io_uring");
	(void)snprintf(daemon->tier_path, sizeof(daemon->tier_path), "%s.tier", daemon->directory);
	argv[n++] = (char *)"--tier-dir";
	argv[n++] = daemon->tier_path;
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		argv[n++] = (char *)options[i];
	argv[n++] = getenv("KVP_TEST_TIER");
	return n;
}

static void launch(struct test_daemon *daemon)
{
	char *argv[TEST_DAEMON_ARGS_MAX + 24] = { 0 };
	unsigned n = 0;
	int log;

	argv[n++] = (char *)test_program("KVPAGED_BIN");
	argv[n++] = (char *)"--config";
	argv[n++] = daemon->config_path;
	argv[n++] = (char *)"--socket";
	argv[n++] = daemon->socket_path;
	argv[n++] = (char *)"--arena-bytes";
	argv[n++] = (char *)"64MiB";
	if (getenv("KVP_TEST_TIER"))
		n += add_tier(daemon, argv + n);
	for (unsigned i = 0; i < daemon->n_arguments; i++)
		argv[n++] = daemon->arguments[i];
	log = open(daemon->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	assert_true(log >= 0);
	daemon->pid = process_start(argv, log, log);
	(void)close(log);
}

static void await_ready(struct test_daemon *daemon)
{
	static const struct timespec pause = { .tv_nsec = POLL_MS * 1000000L };

	for (unsigned waited_ms = 0; !accepts(daemon->socket_path); waited_ms += POLL_MS) {
		int status;

		if (waitpid(daemon->pid, &status, WNOHANG) == daemon->pid) {
			daemon->pid = 0;
			fail_msg("kvpaged ended before it was ready, wait status 0x%x; see its log below",
				 (unsigned)status);
		}
		if (waited_ms > START_LIMIT_MS)
			fail_msg("kvpaged does not accept connections");
		(void)nanosleep(&pause, NULL);
	}
}

void test_daemon_start(struct test_daemon *daemon, ...)
{
	static unsigned started;
	const char *argument;
	va_list list;
	int config;

	memset(daemon, 0, sizeof(*daemon));
	(void)snprintf(daemon->directory, sizeof(daemon->directory), "%s/d%u", harness_directory(), started++);
	(void)snprintf(daemon->socket_path, sizeof(daemon->socket_path), "%s/s", daemon->directory);
	(void)snprintf(daemon->log_path, sizeof(daemon->log_path), "%s.log", daemon->directory);
	(void)snprintf(daemon->config_path, sizeof(daemon->config_path), "%s.conf", daemon->directory);
	assert_int_equal(mkdir(daemon->directory, 0755), 0);
	config = open(daemon->config_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(config >= 0);
	(void)close(config);
	va_start(list, daemon);
	while ((argument = va_arg(list, const char *))) {
		char *copy = daemon->arguments[daemon->n_arguments++];

		assert_true(daemon->n_arguments <= TEST_DAEMON_ARGS_MAX);
		assert_true(strlen(argument) < sizeof(daemon->arguments[0]));
		(void)snprintf(copy, sizeof(daemon->arguments[0]), "%s", argument);
	}
	va_end(list);
	launch(daemon);
	await_ready(daemon);
}

void test_daemon_restart(struct test_daemon *daemon)
{
	test_daemon_stop(daemon);
	launch(daemon);
	await_ready(daemon);
}

int test_daemon_terminate(struct test_daemon *daemon)
{
	pid_t pid = daemon->pid;

	assert_true(pid > 0);
	daemon->pid = 0;
	assert_int_equal(kill(pid, SIGTERM), 0);
	return process_wait(pid, STOP_LIMIT_MS);
}

void test_daemon_kill(struct test_daemon *daemon)
{
	pid_t pid = daemon->pid;

	assert_true(pid > 0);
	daemon->pid = 0;
	assert_int_equal(kill(pid, SIGKILL), 0);
	(void)process_wait(pid, STOP_LIMIT_MS);
}

void test_daemon_stop(struct test_daemon *daemon)
{
	int status;

	if (daemon->pid == 0)
		return;
	status = test_daemon_terminate(daemon);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("kvpaged did not stop cleanly, wait status 0x%x; see its log below", (unsigned)status);
}

bool test_daemon_logged(const struct test_daemon *daemon, const char *text)
{
	_cleanup_free_ char *log = malloc(LOG_READ_BYTES);
	_cleanup_close_ int fd = open(daemon->log_path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	assert_non_null(log);
	assert_true(fd >= 0);
	n = read(fd, log, LOG_READ_BYTES - 1);
	assert_true(n >= 0);
	log[n] = '\0';
	return strstr(log, text) != NULL;
}

unsigned test_daemon_fds(const struct test_daemon *daemon)
{
	char path[64];
	unsigned n = 0;
	DIR *directory;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)daemon->pid);
	directory = opendir(path);
	assert_non_null(directory);
	for (struct dirent *entry; (entry = readdir(directory));)
		n += entry->d_name[0] != '.';
	(void)closedir(directory);
	return n;
}

int test_daemon_run(char *output, size_t size, ...)
{
	char *argv[TEST_DAEMON_ARGS_MAX + 2] = { (char *)test_program("KVPAGED_BIN") };
	unsigned n = 1;
	_cleanup_free_ char *out = calloc(1, size);
	va_list list;
	int status;
	size_t used;

	assert_non_null(out);
	va_start(list, size);
	while ((argv[n] = va_arg(list, char *)))
		assert_true(++n <= TEST_DAEMON_ARGS_MAX);
	va_end(list);
	status = process_run(argv, out, size, output, size);
	used = strlen(output);
	(void)snprintf(output + used, size - used, "%s", out);
	return status;
}
