/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What whoever started us wants and gives, by the environment: it is taken once, and a child would not inherit it.
 * Sockets are found by name.
 */
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "daemon/host/activation.h"
#include "daemon/host/systemd.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* test_env of tests/meson.build says which of systemd.c and systemd-none.c is linked. */
static void needs_libsystemd(void)
{
	const char *built = getenv("KVPAGED_SYSTEMD");

	if (!built || strcmp(built, "yes") != 0)
		harness_skip("built without libsystemd");
}

static void test_watchdog(void **state)
{
	needs_libsystemd();
	assert_int_equal(systemd_take_watchdog_us(), 0);
	assert_int_equal(setenv("WATCHDOG_USEC", "2500000", 1), 0);
	assert_int_equal(systemd_take_watchdog_us(), 2500000);
	assert_null(getenv("WATCHDOG_USEC"));
	assert_int_equal(setenv("WATCHDOG_USEC", "2500000", 1), 0);
	assert_int_equal(setenv("WATCHDOG_PID", "1", 1), 0); /* meant for another process */
	assert_int_equal(systemd_take_watchdog_us(), 0);
}

static void test_tell(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = -1;
	char text[64];

	needs_libsystemd();
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_false(systemd_is_told());
	systemd_tell("READY=1", false);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/n", harness_directory());
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", address.sun_path, 1), 0);
	assert_true(systemd_is_told());
	systemd_tell("STATUS=a", false);
	systemd_tell("STATUS=b", true);
	assert_int_equal(recv(fd, text, sizeof(text), MSG_DONTWAIT), 8);
	assert_memory_equal(text, "STATUS=a", 8);
	assert_int_equal(recv(fd, text, sizeof(text), MSG_DONTWAIT), 8);
	assert_false(systemd_is_told());
}

/* Descriptor 3 is the first of them, whatever it is here. */
static void test_sockets_by_name(void **state)
{
	_cleanup_close_ int opened = -1;
	struct activation activation;
	struct host_error error;
	char pid[16];

	needs_libsystemd();
	if (fcntl(SYSTEMD_FDS_BEGIN, F_GETFD) < 0)
		opened = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(fcntl(SYSTEMD_FDS_BEGIN, F_GETFD) >= 0);
	(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
	assert_int_equal(setenv("LISTEN_PID", pid, 1), 0);
	assert_int_equal(setenv("LISTEN_FDS", "1", 1), 0);
	assert_int_equal(setenv("LISTEN_FDNAMES", "mine", 1), 0);
	assert_int_equal(activation_receive(&activation, &error), 0);
	assert_null(getenv("LISTEN_PID"));
	assert_null(getenv("LISTEN_FDS"));
	assert_null(getenv("LISTEN_FDNAMES"));
	assert_int_equal(activation_take(&activation, "other"), -1);
	assert_int_equal(activation_take(&activation, "mine"), SYSTEMD_FDS_BEGIN);
	assert_int_equal(activation_take(&activation, "mine"), -1);
	activation_deinit(&activation);
	assert_true(fcntl(SYSTEMD_FDS_BEGIN, F_GETFD) >= 0);
	assert_int_equal(activation_take(&activation, "mine"), -1);
}

static void test_nothing_passed(void **state)
{
	struct activation activation;
	struct host_error error;

	assert_int_equal(activation_receive(&activation, &error), 0);
	assert_int_equal(activation_take(&activation, ACTIVATION_RPC), -1);
	activation_deinit(&activation);
	needs_libsystemd();
	assert_int_equal(setenv("LISTEN_PID", "1", 1), 0); /* meant for another process */
	assert_int_equal(setenv("LISTEN_FDS", "1", 1), 0);
	assert_int_equal(activation_receive(&activation, &error), 0);
	assert_int_equal(activation.n, 0);
	activation_deinit(&activation);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_watchdog),
	cmocka_unit_test(test_tell),
	cmocka_unit_test(test_sockets_by_name),
	cmocka_unit_test(test_nothing_passed),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
