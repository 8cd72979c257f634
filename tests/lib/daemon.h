/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real kvpaged (environment KVPAGED_BIN) for a test: on a socket in the test's directory, with a small arena, its
 * stderr in kvpaged.log there. It is killed when the thread that started it ends. All functions fail the running test
 * when they cannot do their work; what they own is on the test's stack.
 *
 *	struct test_daemon d;
 *	test_daemon_start(&d, NULL);
 *	... d.socket_path ...
 *	test_daemon_stop(&d);
 *
 * KVP_TEST_TIER=io_uring or threads in the environment gives every daemon a small tier by this engine, to which all is
 * written at once: what tests of other things see does not change.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#define TEST_DAEMON_ARGS_MAX 32

struct test_daemon {
	char directory[128]; /* of this daemon alone */
	char socket_path[160];
	char log_path[160];
	char tier_path[160];
	char config_path[160]; /* an empty file, so that the machine's own configuration has no part */
	char arguments[TEST_DAEMON_ARGS_MAX][160];
	unsigned n_arguments;
	pid_t pid; /* 0: not running */
};

/*
 * Starts a daemon and waits until it accepts connections. The further arguments, up to a NULL, are given to it after
 * "--config EMPTY --socket PATH --arena-bytes 64MiB"; later ones win.
 */
__attribute__((sentinel)) void test_daemon_start(struct test_daemon *daemon, ...);

/* Starts it again on the same socket with the same arguments; stops it first (SIGTERM) if it runs. */
void test_daemon_restart(struct test_daemon *daemon);

/* Asks it to stop (SIGTERM) and waits. Returns the wait status. */
int test_daemon_terminate(struct test_daemon *daemon);

/* Kills it (SIGKILL) and reaps it. The socket's file stays. */
void test_daemon_kill(struct test_daemon *daemon);

/* Stops it if it runs, which must end with exit status 0. */
void test_daemon_stop(struct test_daemon *daemon);

/* Whether the log holds the text. */
bool test_daemon_logged(const struct test_daemon *daemon, const char *text);

/* Open descriptors of the running daemon. */
unsigned test_daemon_fds(const struct test_daemon *daemon);

/*
 * Runs kvpaged with these arguments and nothing else until it ends by itself, its stderr and stdout in output
 * (terminated, cut). Returns its exit status. For arguments that make it refuse or only print.
 */
__attribute__((sentinel)) int test_daemon_run(char *output, size_t size, ...);

/* The program of this environment variable ("KVPAGED_BIN"); skips the test when it is not set. */
const char *test_program(const char *variable);
