/* SPDX-License-Identifier: Apache-2.0 */
/* kvpaged's start, its place in the file system, signals, and its end. */
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "tests/lib/daemon.h"
#include "tests/lib/peer.h"
#include "tests/lib/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOBODY 65534
#define OUTPUT_BYTES 16384
#define WAIT_LIMIT_MS 20000
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static char output[OUTPUT_BYTES];

static const char *path_of(const char *name)
{
	static char paths[8][200];
	static unsigned next;
	char *path = paths[next++ % 8];

	(void)snprintf(path, sizeof(paths[0]), "%s/%s", harness_directory(), name);
	return path;
}

static const char *write_file(const char *name, const char *text)
{
	const char *path = path_of(name);
	FILE *stream = fopen(path, "w");

	assert_non_null(stream);
	assert_true(fputs(text, stream) >= 0);
	assert_int_equal(fclose(stream), 0);
	return path;
}

static void pause_ms(long ms)
{
	const struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	(void)nanosleep(&pause, NULL);
}

static void await_log(const struct test_daemon *daemon, const char *text)
{
	for (int waited_ms = 0; !test_daemon_logged(daemon, text); waited_ms += 5) {
		if (waited_ms > WAIT_LIMIT_MS)
			fail_msg("the log never says '%s'", text);
		pause_ms(5);
	}
}

static bool exists(const char *path)
{
	struct stat status;

	return lstat(path, &status) == 0;
}

static mode_t mode_of(const char *path)
{
	struct stat status;

	assert_int_equal(lstat(path, &status), 0);
	return status.st_mode & 07777;
}

static void assert_serves(const char *socket_path)
{
	struct test_peer peer;

	peer_connect(&peer, socket_path);
	peer_hello(&peer, 0);
	peer_close(&peer);
}

/* Tries to start on this socket; it must refuse with this exit status and say this. */
static void assert_refuses(const char *socket_path, int exit_status, const char *says)
{
	const char *config = write_file("empty.conf", "");
	int status = test_daemon_run(output, sizeof(output), "--config", config, "--socket",
				     socket_path, "--arena-bytes", "16MiB", NULL);

	if (!strstr(output, says))
		fail_msg("'%s' is not in: %s", says, output);
	assert_int_equal(status, exit_status);
}

static int bind_socket(const char *path, int type, bool listening)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_true(strlen(path) < sizeof(address.sun_path));
	memcpy(address.sun_path, path, strlen(path));
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	if (listening)
		assert_int_equal(listen(fd, 4), 0);
	return fd;
}

/* --- the place in the file system ---------------------------------------------------- */

static void test_stops_in_order(void **state)
{
	struct test_daemon d;
	char lock[200];

	test_daemon_start(&d, NULL);
	(void)snprintf(lock, sizeof(lock), "%s.lock", d.socket_path);
	await_log(&d, "kvpaged 0.1.0 ready: socket ");
	assert_true(exists(lock));
	test_daemon_stop(&d);
	assert_false(exists(d.socket_path));
	assert_false(exists(lock));
	assert_true(test_daemon_logged(&d, "stopping (SIGTERM)"));
	assert_true(test_daemon_logged(&d, "stopped"));
}

static void test_second_daemon(void **state)
{
	struct test_daemon d;

	test_daemon_start(&d, NULL);
	assert_refuses(d.socket_path, 1, "another kvpaged serves this socket");
	assert_serves(d.socket_path);
	test_daemon_stop(&d);
}

static void test_after_a_crash(void **state)
{
	struct test_daemon d;

	test_daemon_start(&d, NULL);
	test_daemon_kill(&d);
	assert_true(exists(d.socket_path));
	test_daemon_restart(&d);
	assert_serves(d.socket_path);
	test_daemon_stop(&d);
}

static void test_symbolic_link(void **state)
{
	const char *path = path_of("s");
	char target[64] = "";

	assert_int_equal(symlink("elsewhere", path), 0);
	assert_refuses(path, 1, "is a symbolic link; it is left alone");
	assert_true(readlink(path, target, sizeof(target) - 1) > 0);
	assert_string_equal(target, "elsewhere");
	assert_false(exists(path_of("elsewhere")));
}

static void test_other_files(void **state)
{
	const char *path = write_file("s", "precious");
	struct stat status;

	assert_refuses(path, 1, "exists and is not a socket; it is left alone");
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_size, 8);
	path = path_of("d");
	assert_int_equal(mkdir(path, 0700), 0);
	assert_refuses(path, 1, "exists and is not a socket; it is left alone");
	assert_true(exists(path));
}

static void test_foreign_sockets(void **state)
{
	const char *path = path_of("live");
	_cleanup_close_ int live = bind_socket(path, SOCK_STREAM, true);
	_cleanup_close_ int datagram = -1;

	assert_refuses(path, 1, "another process serves this socket");
	assert_true(exists(path));
	path = path_of("datagram");
	datagram = bind_socket(path, SOCK_DGRAM, false);
	assert_refuses(path, 1, "a socket that is not ours is there");
	assert_true(exists(path));
}

static void test_dead_socket_of_another_user(void **state)
{
	const char *path = path_of("s");

	if (geteuid() != 0)
		harness_skip("only root can give a socket away");
	(void)close(bind_socket(path, SOCK_STREAM, true));
	assert_int_equal(lchown(path, NOBODY, (gid_t)-1), 0);
	assert_refuses(path, 1, "a socket of user 65534; it is left alone");
	assert_true(exists(path));
}

/* A link in place of the lock must not make us create or lock what it leads to. */
static void test_lock_is_a_link(void **state)
{
	assert_int_equal(symlink("elsewhere", path_of("s.lock")), 0);
	assert_refuses(path_of("s"), 1, "s.lock: cannot lock: Too many levels of symbolic links");
	assert_false(exists(path_of("elsewhere")));
}

static void test_long_path(void **state)
{
	char name[160], cut[160], path[400];

	memset(name, 'x', sizeof(name));
	name[120] = '\0';
	(void)snprintf(path, sizeof(path), "%s", path_of(name));
	assert_refuses(path, 2, "the path of a socket has at most 107");
	(void)snprintf(cut, sizeof(cut), "%.107s", path);
	assert_false(exists(cut));
}

static void test_missing_directory(void **state)
{
	assert_refuses(path_of("none/s"), 6, "the directory of the socket must exist");
}

/* A name that now belongs to someone else is not removed at the end. */
static void test_name_taken_away(void **state)
{
	struct test_daemon d;

	test_daemon_start(&d, NULL);
	assert_int_equal(unlink(d.socket_path), 0);
	(void)close(bind_socket(d.socket_path, SOCK_STREAM, true));
	test_daemon_stop(&d);
	assert_true(exists(d.socket_path));
}

/* --- who can connect ----------------------------------------------------------------- */

static bool can_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	memcpy(address.sun_path, path, strlen(path));
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

/* Starts the program so that it stops at each of its system calls. */
static pid_t start_traced(const char *const argv[])
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)umask(0);
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			_exit(100);
		(void)execv(argv[0], (char **)argv);
		_exit(101);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 100)
		harness_skip("this system does not let us trace a program");
	assert_true(WIFSTOPPED(status));
	(void)ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL);
	return pid;
}

/*
 * After every system call that the daemon makes, from the first moment that the name exists: its
 * mode is never wider than configured, whatever the umask, and nobody can connect before it is what
 * was configured.
 */
static void test_mode_from_the_beginning(void **state)
{
	const char *path = path_of("s"), *config = write_file("empty.conf", "");
	const char *argv[] = { test_program("KVPAGED_BIN"),
			       "--config",
			       config,
			       "--socket",
			       path,
			       "--socket-mode",
			       "0620",
			       "--arena-bytes",
			       "16MiB",
			       NULL };
	pid_t pid = start_traced(argv);
	unsigned seen = 0;
	bool connected = false;
	int status;

	while (!connected) {
		struct stat there;

		assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSTOPPED(status));
		if (lstat(path, &there) < 0)
			continue;
		seen++;
		assert_int_equal(there.st_mode & 07777 & ~(mode_t)0620, 0);
		connected = can_connect(path);
		if (connected)
			assert_int_equal(there.st_mode & 07777, 0620);
	}
	assert_true(seen > 2); /* it could be seen before it could be used */
	assert_int_equal(kill(pid, SIGKILL), 0);
	(void)process_wait(pid, WAIT_LIMIT_MS);
}

static void test_mode_and_owner(void **state)
{
	struct test_daemon d;
	struct stat status;

	if (geteuid() != 0)
		harness_skip("only root can give a socket away");
	test_daemon_start(&d, "--socket-mode", "0606", "--socket-owner", "65534", "--socket-group",
			  "65533", NULL);
	assert_int_equal(mode_of(d.socket_path), 0606);
	assert_int_equal(lstat(d.socket_path, &status), 0);
	assert_int_equal(status.st_uid, 65534);
	assert_int_equal(status.st_gid, 65533);
	/* It is ours all the same, also after a crash. */
	test_daemon_kill(&d);
	test_daemon_restart(&d);
	test_daemon_stop(&d);
}

/* Connects as nobody. 0, or the errno of connect(). */
static int connect_as_nobody(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int status;
	pid_t pid;

	memcpy(address.sun_path, path, strlen(path));
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
			_exit(255);
		_exit(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : errno);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_other_user(void **state)
{
	struct test_daemon d;

	if (geteuid() != 0)
		harness_skip("only root can become another user");
	assert_int_equal(chmod(harness_directory(), 0755), 0);
	test_daemon_start(&d, NULL);
	assert_int_equal(connect_as_nobody(d.socket_path), EACCES);
	test_daemon_stop(&d);
	test_daemon_start(&d, "--socket-mode", "0666", "--access-allow-uids", "0", NULL);
	assert_int_equal(connect_as_nobody(d.socket_path), 0);
	await_log(&d, "uid 65534");
	await_log(&d, "is not in access.allow_uids, nor its groups");
	assert_serves(d.socket_path);
	test_daemon_stop(&d);
}

static void test_uid_not_allowed(void **state)
{
	struct test_daemon d;
	struct test_peer peer;

	test_daemon_start(&d, "--access-allow-uids", "4000000000", NULL);
	peer_connect(&peer, d.socket_path);
	peer_expect_end(&peer);
	peer_close(&peer);
	test_daemon_stop(&d);
}

/* --- configuration ------------------------------------------------------------------- */

static void test_bad_configuration(void **state)
{
	const char *config = write_file("bad.conf",
					"[socket]\nmode = 0660\n\n[arena]\nbytes = 16EiB\n");
	const char *path = path_of("s");
	char expected[300];

	(void)snprintf(expected, sizeof(expected),
		       "kvpaged: %s:5: arena.bytes: '16EiB' is not a size: digits and B, KiB, MiB, "
		       "GiB or TiB\n",
		       config);
	assert_int_equal(
		test_daemon_run(output, sizeof(output), "--config", config, "--socket", path, NULL),
		78);
	assert_string_equal(output, expected);
	assert_false(exists(path));
	assert_int_equal(
		test_daemon_run(output, sizeof(output), "--config", config, "--check-config", NULL),
		78);
	assert_string_equal(output, expected);
	assert_int_equal(test_daemon_run(output, sizeof(output), "--config", path_of("none"),
					 "--check-config", NULL),
			 6);
	assert_int_equal(test_daemon_run(output, sizeof(output), "--nonsense", NULL), 2);
}

static void test_printed_configuration(void **state)
{
	const char *config = write_file("good.conf", "[lease]\nttl_ms = 20s\n");
	char expected[300];

	assert_int_equal(setenv("KVPAGED_LIMITS_SESSIONS", "12", 1), 0);
	assert_int_equal(test_daemon_run(output, sizeof(output), "--config", config, "--socket",
					 "/s", "--print-config", NULL),
			 0);
	(void)snprintf(expected, sizeof(expected), "lease.ttl_ms = 20s   # %s:2\n", config);
	assert_non_null(strstr(output, expected));
	assert_non_null(
		strstr(output, "limits.sessions = 12   # environment KVPAGED_LIMITS_SESSIONS\n"));
	assert_non_null(strstr(output, "socket.path = /s   # argument --socket-path\n"));
	assert_non_null(strstr(output, "arena.bytes = 1GiB   # default\n"));
	assert_int_equal(
		test_daemon_run(output, sizeof(output), "--config", config, "--check-config", NULL),
		0);
	assert_string_equal(output, "The configuration is valid.\n");
	assert_int_equal(test_daemon_run(output, sizeof(output), "--version", NULL), 0);
	assert_int_equal(strncmp(output, "kvpaged 0.1.0\n", 14), 0);
}

static void rewrite(const char *path, const char *text)
{
	FILE *stream = fopen(path, "w");

	assert_non_null(stream);
	assert_true(fputs(text, stream) >= 0);
	assert_int_equal(fclose(stream), 0);
}

static void test_reload(void **state)
{
	struct test_daemon d;

	test_daemon_start(&d, NULL);
	rewrite(d.config_path, "[log]\nlevel = loud\n");
	assert_int_equal(kill(d.pid, SIGHUP), 0);
	await_log(&d, "configuration not reloaded, everything stays as it is: ");
	await_log(&d, ".conf:2: log.level: 'loud' is not one of error, warning, info, debug");
	assert_serves(d.socket_path);
	rewrite(d.config_path, "[log]\nlevel = debug\n[lease]\nttl_ms = 20s\n");
	assert_int_equal(kill(d.pid, SIGHUP), 0);
	await_log(&d, "lease.ttl_ms has changed; this takes effect at the next start");
	await_log(&d, "configuration reloaded");
	rewrite(d.config_path, "[log]\nlevel = error\n");
	assert_int_equal(kill(d.pid, SIGHUP), 0);
	pause_ms(100);
	test_daemon_stop(&d);
	assert_false(test_daemon_logged(&d, "stopped"));
}

static void test_too_small_for_tables(void **state)
{
	const char *config = write_file("empty.conf", "");

	assert_int_equal(test_daemon_run(output, sizeof(output), "--config", config, "--socket",
					 path_of("s"), "--arena-bytes", "8MiB", "--arena-blocks",
					 "1000000", NULL),
			 78);
	assert_non_null(strstr(output, "arena.bytes leaves no room for pages"));
	assert_false(exists(path_of("s")));
}

/* --- stopping with work to do -------------------------------------------------------- */

/* Asks without reading until the daemon stops reading: it holds replies that cannot leave. */
static void leave_unread(struct test_peer *peer)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Config ask = KVPAGED__V1__CONFIG__INIT;
	uint8_t frame[64];
	size_t n;

	request.verb_case = KVPAGED__V1__REQUEST__VERB_CONFIG;
	request.config = &ask;
	assert_int_equal(fcntl(peer->fd, F_SETFL, O_NONBLOCK), 0);
	for (int quiet = 0; quiet < 40;) {
		request.id = peer->next_id++;
		n = kvpaged__v1__request__pack(&request, frame + FRAME_HEADER_BYTES);
		assert_true(n + FRAME_HEADER_BYTES <= sizeof(frame));
		frame_put_header(frame, (uint32_t)n);
		if (send(peer->fd, frame, n + FRAME_HEADER_BYTES, MSG_NOSIGNAL) > 0) {
			quiet = 0;
			continue;
		}
		assert_int_equal(errno, EAGAIN);
		quiet++;
		pause_ms(5);
	}
}

static void test_drain_is_bounded(void **state)
{
	struct test_daemon d;
	struct test_peer peer;

	test_daemon_start(&d, "--stop-drain-ms", "200ms", NULL);
	peer_connect(&peer, d.socket_path);
	peer_hello(&peer, 0);
	leave_unread(&peer);
	test_daemon_stop(&d);
	assert_true(test_daemon_logged(&d, "not everything was done within stop.drain_ms"));
	assert_false(exists(d.socket_path));
	peer_close(&peer);
}

static void test_second_signal(void **state)
{
	struct test_daemon d;
	struct test_peer peer;

	test_daemon_start(&d, "--stop-drain-ms", "1h", NULL);
	peer_connect(&peer, d.socket_path);
	peer_hello(&peer, 0);
	leave_unread(&peer);
	assert_int_equal(kill(d.pid, SIGTERM), 0);
	await_log(&d, "stopping (SIGTERM)");
	while (exists(d.socket_path)) /* right after that line */
		pause_ms(1);
	test_daemon_stop(&d);
	assert_true(test_daemon_logged(&d, "stopping at once (a second signal)"));
	peer_close(&peer);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_stops_in_order),
	cmocka_unit_test(test_second_daemon),
	cmocka_unit_test(test_after_a_crash),
	cmocka_unit_test(test_symbolic_link),
	cmocka_unit_test(test_other_files),
	cmocka_unit_test(test_foreign_sockets),
	cmocka_unit_test(test_dead_socket_of_another_user),
	cmocka_unit_test(test_lock_is_a_link),
	cmocka_unit_test(test_long_path),
	cmocka_unit_test(test_missing_directory),
	cmocka_unit_test(test_name_taken_away),
	cmocka_unit_test(test_mode_from_the_beginning),
	cmocka_unit_test(test_mode_and_owner),
	cmocka_unit_test(test_other_user),
	cmocka_unit_test(test_uid_not_allowed),
	cmocka_unit_test(test_bad_configuration),
	cmocka_unit_test(test_printed_configuration),
	cmocka_unit_test(test_reload),
	cmocka_unit_test(test_too_small_for_tables),
	cmocka_unit_test(test_drain_is_bounded),
	cmocka_unit_test(test_second_signal),
};

int main(void)
{
	return harness_run(tests, COUNT(tests));
}
