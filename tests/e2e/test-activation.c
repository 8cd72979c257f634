/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets that are passed to kvpaged: by systemd-socket-activate(1), and such as it would not pass, by the test. */
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "tests/e2e/service-rig.h"
#include "tests/lib/daemon.h"
#include "tests/lib/peer.h"
#include "tests/lib/process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define ACTIVATE "/usr/bin/systemd-socket-activate"
#define FDS_BEGIN 3
#define LOG_BYTES 4096

static const char *log_path;

static bool logged(const char *text)
{
	static char log[LOG_BYTES];
	_cleanup_close_ int fd = open(log_path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, log, sizeof(log) - 1);

	log[n > 0 ? n : 0] = '\0';
	return strstr(log, text) != NULL;
}

static void await_log(const char *text)
{
	for (int waited_ms = 0; !logged(text); waited_ms += 5) {
		if (waited_ms > SERVICE_WAIT_MS)
			fail_msg("the log never says '%s'", text);
		service_pause_ms(5);
	}
}

static int open_log(void)
{
	int fd;

	log_path = service_path("kvpaged.log");
	fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	return fd;
}

/*
 * systemd-socket-activate listens on the paths (the second may be NULL) and becomes kvpaged with the first connection.
 * socket.path is "own" in the test's directory. Sanitizers' options must be handed on by name.
 */
static pid_t activate(const char *first, const char *second, const char *names)
{
	_cleanup_close_ int log = open_log();
	char fdname[64];
	char *argv[24] = { (char *)ACTIVATE, (char *)"-E", (char *)"ASAN_OPTIONS", (char *)"-E",
			   (char *)"UBSAN_OPTIONS", fdname, (char *)"-l", (char *)first };
	unsigned n = 8;
	pid_t pid;

	(void)snprintf(fdname, sizeof(fdname), "--fdname=%s", names);
	if (second) {
		argv[n++] = (char *)"-l";
		argv[n++] = (char *)second;
	}
	argv[n++] = (char *)test_program("KVPAGED_BIN");
	argv[n++] = (char *)"--config";
	argv[n++] = (char *)service_empty_config();
	argv[n++] = (char *)"--socket";
	argv[n++] = (char *)service_path("own");
	argv[n++] = (char *)"--socket-mode";
	argv[n++] = (char *)"0600";
	argv[n++] = (char *)"--arena-bytes";
	argv[n++] = (char *)"16MiB";
	pid = process_start(argv, log, log);
	await_log(second ? " as 4." : " as 3."); /* it says so when it listens */
	return pid;
}

static void needs_activate(void)
{
	service_needs_libsystemd();
	if (access(ACTIVATE, X_OK) < 0)
		harness_skip("there is no " ACTIVATE " (package systemd)");
}

static mode_t mode_of(const char *path)
{
	struct stat status;

	assert_int_equal(stat(path, &status), 0);
	return status.st_mode & 07777;
}

/* It is served as it is; nothing of socket.* is applied, no name of our own is made, and it stays at the end. */
static void test_passed(void **state)
{
	const char *path = service_path("passed");
	pid_t pid;

	needs_activate();
	pid = activate(path, NULL, "rpc");
	assert_int_equal(chmod(path, 0666), 0);
	assert_true(service_serves(path));
	assert_true(logged("ready: socket "));
	assert_true(logged("/passed (passed), arena 16.0 MiB"));
	assert_int_equal(mode_of(path), 0666);
	assert_int_equal(access(service_path("own"), F_OK), -1);
	assert_int_equal(access(service_path("own.lock"), F_OK), -1);
	assert_int_equal(access(service_path("passed.lock"), F_OK), -1);
	service_stop(pid);
	assert_int_equal(access(path, F_OK), 0);
	assert_false(logged("<4>"));
}

static void test_unknown_name(void **state)
{
	const char *path = service_path("passed");
	struct test_peer peer;
	pid_t pid;

	needs_activate();
	pid = activate(path, NULL, "strange\nname");
	peer_connect(&peer, path);
	await_log("ready: socket ");
	assert_true(logged("passed descriptor 3 has the name '"));
	assert_true(service_serves(service_path("own")));
	peer_expect_end(&peer);
	peer_close(&peer);
	service_stop(pid);
}

/* The second of a name is nobody's. */
static void test_two_of_a_name(void **state)
{
	const char *first = service_path("first"), *second = service_path("second");
	pid_t pid;

	needs_activate();
	pid = activate(first, second, "rpc:rpc");
	assert_true(service_serves(first));
	assert_true(logged("passed descriptor 4 has the name 'rpc', which nothing here takes"));
	service_stop(pid);
}

/* In the child: becomes kvpaged with this descriptor as the one that is passed. */
static void become(int fd, int log)
{
	char *argv[] = { (char *)test_program("KVPAGED_BIN"), (char *)"--config", (char *)service_empty_config(),
			 (char *)"--socket", (char *)service_path("own"), (char *)"--arena-bytes",
			 (char *)"16MiB", NULL };
	char pid[16];

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
	if (dup2(log, STDERR_FILENO) < 0 || dup2(fd, FDS_BEGIN) < 0 || setenv("LISTEN_PID", pid, 1) < 0 ||
	    setenv("LISTEN_FDS", "1", 1) < 0 || setenv("LISTEN_FDNAMES", "rpc", 1) < 0)
		_exit(127);
	(void)execv(argv[0], argv);
	_exit(127);
}

static void assert_refused(int fd, const char *says)
{
	_cleanup_close_ int log = open_log();
	_cleanup_close_ int high = fcntl(fd, F_DUPFD_CLOEXEC, 20); /* out of the way of dup2() */
	pid_t pid;
	int status;

	assert_true(fd >= 0 && high >= 0);
	(void)close(fd);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		become(high, log);
	status = process_wait(pid, SERVICE_WAIT_MS);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 78);
	if (!logged(says))
		fail_msg("the log does not say '%s'", says);
	assert_int_equal(access(service_path("own"), F_OK), -1);
}

static void test_datagrams(void **state)
{
	service_needs_libsystemd();
	assert_refused(service_datagrams(service_path("d")), "it is not a socket of streams (ListenStream=)");
}

static void test_not_listening(void **state)
{
	service_needs_libsystemd();
	assert_refused(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
		       "it does not listen (Accept=yes is not supported)");
}

static void test_not_local(void **state)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd;

	service_needs_libsystemd();
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_refused(fd, "it is not a Unix socket");
}

static void test_not_a_socket(void **state)
{
	service_needs_libsystemd();
	assert_refused(open("/dev/null", O_RDWR | O_CLOEXEC), "it is not a socket");
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_passed),        cmocka_unit_test(test_unknown_name),
	cmocka_unit_test(test_two_of_a_name), cmocka_unit_test(test_datagrams),
	cmocka_unit_test(test_not_listening), cmocka_unit_test(test_not_local),
	cmocka_unit_test(test_not_a_socket),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
