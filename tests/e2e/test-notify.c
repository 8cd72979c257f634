/* SPDX-License-Identifier: Apache-2.0 */
/* What kvpaged tells whoever supervises it, and when it tells nothing. The test is the supervisor. */
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "tests/e2e/service-rig.h"
#include "tests/lib/daemon.h"
#include "tests/lib/peer.h"
#include "tests/lib/process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WATCHDOG_US "200000"
#define SILENCE_MS 1000 /* ten times as long as the watchdog is fed */
#define STATUS_S 5

static int supervise(const char *watchdog_us)
{
	const char *path = service_path("notify");

	service_needs_libsystemd();
	assert_int_equal(setenv("NOTIFY_SOCKET", path, 1), 0);
	if (watchdog_us)
		assert_int_equal(setenv("WATCHDOG_USEC", watchdog_us, 1), 0);
	return service_datagrams(path);
}

static void drain(int fd)
{
	while (service_next(fd, 0))
		;
}

static void assert_silence(int fd)
{
	const char *text;

	drain(fd);
	text = service_next(fd, SILENCE_MS);
	if (text)
		fail_msg("this came: %s", text);
}

static void test_ready_and_stopped(void **state)
{
	_cleanup_close_ int fd = supervise(NULL);
	const char *path = service_path("s");
	pid_t pid = service_start(path, -1);

	assert_non_null(strstr(service_await(fd, "READY=1"), "STATUS=0 sessions, "));
	assert_true(service_serves(path)); /* without trying twice */
	service_stop(pid);
	assert_non_null(strstr(service_await(fd, "STOPPING=1"), "EXTEND_TIMEOUT_USEC=65000000"));
	(void)service_await(fd, "STATUS=stopped");
	assert_null(service_next(fd, 0));
}

static void test_not_ready(void **state)
{
	_cleanup_close_ int fd = supervise(NULL);
	char output[1000];

	assert_int_equal(test_daemon_run(output, sizeof(output), "--arena-bytes", "3", NULL), 2);
	assert_string_equal(service_next(fd, 0),
			    "STATUS=--arena-bytes: '3' is below the least, which is 8.0 MiB");
	assert_int_equal(test_daemon_run(output, sizeof(output), "--config", "no\nREADY=1", NULL), 6);
	assert_string_equal(service_next(fd, 0), "STATUS=no\\x0aREADY=1: No such file or directory");
	assert_null(service_next(fd, 0));
}

static void test_long_start(void **state)
{
	_cleanup_close_ int fd = supervise(NULL);
	struct test_daemon d;

	test_daemon_start(&d, "--arena-prefault", "yes", NULL);
	assert_string_equal(service_next(fd, 0), "EXTEND_TIMEOUT_USEC=60000000\n"
						 "STATUS=allocating the arena: 0 B of 64.0 MiB");
	(void)service_await(fd, "READY=1");
	test_daemon_stop(&d);
}

static void test_reload(void **state)
{
	_cleanup_close_ int fd = supervise(NULL);
	struct test_daemon d;

	test_daemon_start(&d, NULL);
	(void)service_await(fd, "READY=1");
	assert_int_equal(kill(d.pid, SIGHUP), 0);
	assert_non_null(strstr(service_next(fd, SERVICE_WAIT_MS), "RELOADING=1\nMONOTONIC_USEC="));
	assert_memory_equal(service_next(fd, SERVICE_WAIT_MS), "READY=1\nSTATUS=", 15);
	assert_true(test_daemon_logged(&d, "configuration reloaded"));
	test_daemon_stop(&d);
}

/* Told when it has changed, and not more often than every STATUS_S seconds however often it changes. */
static void test_status(void **state)
{
	_cleanup_close_ int fd = supervise(NULL);
	time_t begin = time(NULL);
	struct test_peer peer, second;
	struct test_daemon d;
	unsigned told = 0;
	const char *text;

	test_daemon_start(&d, NULL);
	(void)service_await(fd, "READY=1");
	for (unsigned i = 0; i < 10; i++) {
		peer_connect(&peer, d.socket_path);
		peer_hello(&peer, 0);
		service_pause_ms(75);
		peer_close(&peer);
		service_pause_ms(75);
	}
	peer_connect(&peer, d.socket_path);
	peer_hello(&peer, 0);
	peer_connect(&second, d.socket_path);
	peer_hello(&second, 0);
	do {
		text = service_next(fd, SERVICE_WAIT_MS);
		assert_non_null(text);
		told++;
	} while (!strstr(text, "STATUS=2 sessions, "));
	assert_true(told <= (time(NULL) - begin) / STATUS_S + 1);
	peer_close(&peer);
	(void)service_await(fd, "STATUS=1 session, ");
	peer_close(&second);
	test_daemon_stop(&d);
}

static void test_watchdog(void **state)
{
	_cleanup_close_ int fd = supervise(WATCHDOG_US);
	struct test_daemon d;

	test_daemon_start(&d, NULL);
	for (unsigned i = 0; i < 5; i++)
		(void)service_await(fd, "WATCHDOG=1");
	test_daemon_stop(&d);
}

static void test_no_watchdog(void **state)
{
	_cleanup_close_ int fd = supervise(NULL);
	struct test_daemon d;

	test_daemon_start(&d, NULL);
	(void)service_await(fd, "READY=1");
	assert_silence(fd);
	test_daemon_stop(&d);
}

static void test_stopped_process(void **state)
{
	_cleanup_close_ int fd = supervise(WATCHDOG_US);
	struct test_daemon d;
	int status;

	test_daemon_start(&d, NULL);
	(void)service_await(fd, "WATCHDOG=1");
	assert_int_equal(kill(d.pid, SIGSTOP), 0);
	assert_int_equal(waitpid(d.pid, &status, WUNTRACED), d.pid);
	assert_true(WIFSTOPPED(status));
	assert_silence(fd);
	assert_int_equal(kill(d.pid, SIGCONT), 0);
	(void)service_await(fd, "WATCHDOG=1");
	test_daemon_stop(&d);
}

/* Fills the pipe by an open file of its own: O_NONBLOCK must not reach the daemon's end. */
static void fill_pipe(int write_fd)
{
	static const char block[4096];
	char path[32];
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", write_fd);
	fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(fd >= 0);
	while (write(fd, block, sizeof(block)) > 0)
		;
	while (write(fd, block, 1) > 0)
		;
	(void)close(fd);
}

/* The loop waits in a callback: here to write a line to a log that nobody reads. */
static void test_stuck_loop(void **state)
{
	_cleanup_close_ int fd = supervise(WATCHDOG_US);
	int ends[2];
	char block[4096];
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid = service_start(service_path("s"), ends[1]);
	(void)service_await(fd, "WATCHDOG=1");
	fill_pipe(ends[1]);
	assert_int_equal(kill(pid, SIGHUP), 0);
	(void)service_await(fd, "RELOADING=1");
	assert_silence(fd);
	(void)close(ends[1]);
	assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	while (read(ends[0], block, sizeof(block)) > 0)
		;
	(void)service_await(fd, "READY=1");
	(void)service_await(fd, "WATCHDOG=1");
	service_stop(pid);
	(void)close(ends[0]);
}

static void test_nobody_listens(void **state)
{
	struct test_daemon d;

	service_needs_libsystemd();
	assert_int_equal(setenv("NOTIFY_SOCKET", service_path("nobody"), 1), 0);
	assert_int_equal(setenv("WATCHDOG_USEC", WATCHDOG_US, 1), 0);
	test_daemon_start(&d, NULL);
	service_pause_ms(SILENCE_MS);
	assert_true(service_serves(d.socket_path));
	test_daemon_stop(&d);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_ready_and_stopped), cmocka_unit_test(test_not_ready),
	cmocka_unit_test(test_long_start),        cmocka_unit_test(test_reload),
	cmocka_unit_test(test_status),            cmocka_unit_test(test_watchdog),
	cmocka_unit_test(test_no_watchdog),       cmocka_unit_test(test_stopped_process),
	cmocka_unit_test(test_stuck_loop),        cmocka_unit_test(test_nobody_listens),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
