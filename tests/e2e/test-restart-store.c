/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena in the keeping of a service manager, which is this test: it takes the descriptor (FDSTORE=1) and hands it
 * to the next process (LISTEN_FDNAMES). And descriptors that are not what they should be.
 */
#include "tests/e2e/service-rig.h"
#include "tests/e2e/test-client-rig.h"
#include "tests/lib/harness.h"
#include "tests/lib/process.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "proto/fdpass.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FDS_BEGIN 3
#define NAME "kvpaged-arena"

struct manager {
	struct test_daemon d; /* only where it is: for clients */
	int notify;
	int stored; /* -1: nothing */
	int log;
	const char *arena_bytes;
	const char *seal;
	pid_t pid;
};

static void manager_open(struct manager *manager)
{
	const char *path = service_path("notify");

	service_needs_libsystemd();
	*manager = (struct manager){ .stored = -1, .arena_bytes = "16MiB", .seal = "normal" };
	manager->notify = service_datagrams(path);
	assert_int_equal(setenv("NOTIFY_SOCKET", path, 1), 0);
	(void)snprintf(manager->d.socket_path, sizeof(manager->d.socket_path), "%s", service_path("s"));
	(void)snprintf(manager->d.log_path, sizeof(manager->d.log_path), "%s", service_path("kvpaged.log"));
	manager->log = open(manager->d.log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	assert_true(manager->log >= 0);
}

static void manager_close(struct manager *manager)
{
	service_stop(manager->pid);
	manager->stored = close_fd(manager->stored);
	(void)close(manager->notify);
	(void)close(manager->log);
}

/* In the child. */
static void become(const struct manager *manager)
{
	char *argv[] = { (char *)test_program("KVPAGED_BIN"), (char *)"--config", (char *)service_empty_config(),
			 (char *)"--socket", (char *)manager->d.socket_path, (char *)"--arena-bytes",
			 (char *)manager->arena_bytes, (char *)"--arena-seal", (char *)manager->seal, NULL };
	char pid[16];

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
	if (dup2(manager->log, STDERR_FILENO) < 0)
		_exit(127);
	if (manager->stored >= 0 &&
	    (dup2(manager->stored, FDS_BEGIN) < 0 || setenv("LISTEN_PID", pid, 1) < 0 ||
	     setenv("LISTEN_FDS", "1", 1) < 0 || setenv("LISTEN_FDNAMES", NAME, 1) < 0))
		_exit(127);
	(void)execv(argv[0], argv);
	_exit(127);
}

/* What the messages ask for, until it is ready. */
static void manager_listen(struct manager *manager)
{
	struct pollfd ready = { .fd = manager->notify, .events = POLLIN };
	char text[4096] = "";

	while (!strstr(text, "READY=1")) {
		size_t n_fds = 0;
		int fd = -1;
		ssize_t n;

		assert_int_equal(poll(&ready, 1, SERVICE_WAIT_MS), 1);
		n = fdpass_recv(manager->notify, text, sizeof(text) - 1, 0, &fd, 1, &n_fds);
		assert_true(n >= 0);
		text[n] = '\0';
		if (strstr(text, "FDSTOREREMOVE=1")) {
			assert_non_null(strstr(text, "FDNAME=" NAME));
			manager->stored = close_fd(manager->stored);
		} else if (strstr(text, "FDSTORE=1")) {
			assert_non_null(strstr(text, "FDNAME=" NAME));
			assert_int_equal(n_fds, 1);
			(void)close_fd(manager->stored);
			manager->stored = fcntl(fd, F_DUPFD_CLOEXEC, 20); /* out of the way of dup2() */
			assert_true(manager->stored >= 0);
		}
		(void)close_fd(fd);
	}
}

static void manager_start(struct manager *manager)
{
	manager->pid = fork();
	assert_true(manager->pid >= 0);
	if (manager->pid == 0)
		become(manager);
	manager_listen(manager);
}

static void manager_kill(struct manager *manager)
{
	assert_int_equal(kill(manager->pid, SIGKILL), 0);
	(void)process_wait(manager->pid, SERVICE_WAIT_MS);
}

static kvc_space *join(struct manager *manager, kvc_client **ret_client)
{
	struct kvc_schema schema = schema_small();

	*ret_client = open_client(&manager->d, 0);
	return open_space(*ret_client, "s", &schema);
}

/* ---- Kept ---- */

static void test_kept(void **state)
{
	struct manager manager;
	kvc_client *client;
	kvc_space *space;

	manager_open(&manager);
	manager_start(&manager);
	assert_true(manager.stored >= 0);
	space = join(&manager, &client);
	assert_int_equal(append_block(space, "a", NULL, 1, 32), KVC_OK);
	manager_kill(&manager);
	manager_start(&manager);
	assert_int_equal(fetch_block(space, "a", 1), KVC_OK);
	assert_int_equal(append_block(space, "b", "a", 2, 32), KVC_OK);
	service_stop(manager.pid); /* systemctl restart */
	manager_start(&manager);
	assert_int_equal(fetch_block(space, "a", 1), KVC_OK);
	assert_int_equal(fetch_block(space, "b", 2), KVC_OK);
	assert_true(test_daemon_logged(&manager.d, "2 blocks in 1 spaces"));
	kvc_close(client);
	manager_close(&manager);
}

/* A page of this content with these seals in the store. */
static int memory_with(uint64_t bytes, mode_t mode, int seals)
{
	int fd = memfd_create("kvpaged-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int high = fcntl(fd, F_DUPFD_CLOEXEC, 20);

	assert_true(fd >= 0 && high >= 0);
	(void)close(fd);
	assert_int_equal(ftruncate(high, (off_t)bytes), 0);
	assert_int_equal(fchmod(high, mode), 0);
	assert_int_equal(fcntl(high, F_ADD_SEALS, seals), 0);
	return high;
}

/* It starts with an arena of its own, says why, and has that one kept instead. */
static void expect_cold(int fd, const char *why)
{
	struct manager manager;
	struct stat before, after;
	kvc_client *client;
	kvc_space *space;

	manager_open(&manager);
	manager.stored = fd;
	assert_int_equal(fstat(fd, &before), 0);
	manager_start(&manager);
	if (!test_daemon_logged(&manager.d, why))
		fail_msg("the log does not say '%s'", why);
	assert_int_equal(fstat(manager.stored, &after), 0);
	assert_true(before.st_ino != after.st_ino);
	space = join(&manager, &client);
	assert_int_equal(append_block(space, "a", NULL, 1, 32), KVC_OK);
	kvc_close(client);
	manager_close(&manager);
	(void)unlink(service_path("notify"));
	(void)unlink(manager.d.log_path);
}

static void test_not_an_arena(void **state)
{
	const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

	service_needs_libsystemd();
	expect_cold(memory_with(16 * MIB, 0600, all), "it is no arena");
	expect_cold(memory_with(32 * MIB, 0600, all), "it has another size than arena.bytes");
	expect_cold(memory_with(16 * MIB, 0644, all), "it is not ours alone");
	expect_cold(memory_with(16 * MIB, 0600, F_SEAL_SHRINK | F_SEAL_SEAL), "it is not sealed memory");
	expect_cold(memory_with(16 * MIB, 0600, all | F_SEAL_WRITE), "it is sealed against writing");
	expect_cold(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 20), "it is not sealed memory");
}

static void test_another_size(void **state)
{
	struct manager manager;
	kvc_client *client;
	kvc_space *space;

	manager_open(&manager);
	manager_start(&manager);
	space = join(&manager, &client);
	assert_int_equal(append_block(space, "a", NULL, 1, 32), KVC_OK);
	service_stop(manager.pid);
	manager.arena_bytes = "32MiB";
	manager_start(&manager);
	assert_int_equal(fetch_block(space, "a", 1), KVC_MISS);
	assert_int_equal(append_block(space, "a", NULL, 1, 32), KVC_OK);
	manager_kill(&manager);
	manager_start(&manager);
	assert_int_equal(fetch_block(space, "a", 1), KVC_OK);
	kvc_close(client);
	manager_close(&manager);
}

/* Nobody can keep what no later process may write. */
static void test_strict(void **state)
{
	struct manager manager;
	kvc_client *client;
	kvc_space *space;

	manager_open(&manager);
	manager_start(&manager);
	service_stop(manager.pid);
	manager.seal = "strict";
	manager_start(&manager);
	assert_int_equal(manager.stored, -1);
	assert_true(test_daemon_logged(&manager.d, "arena.seal is strict; the cache begins empty"));
	space = join(&manager, &client);
	assert_int_equal(append_block(space, "a", NULL, 1, 32), KVC_OK);
	kvc_close(client);
	manager_close(&manager);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kept),
		cmocka_unit_test(test_not_an_arena),
		cmocka_unit_test(test_another_size),
		cmocka_unit_test(test_strict),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
