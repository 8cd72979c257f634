/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that tests start. All functions fail the running test when they cannot do their work. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/*
 * Starts argv[0] with stdin from /dev/null and the two outputs to these descriptors (negative: /dev/null). It is killed
 * when the calling thread ends. Returns its pid; the caller reaps it.
 */
pid_t process_start(char *const argv[], int stdout_fd, int stderr_fd);

/*
 * Waits at most this long for the process to end and reaps it; a process that does not end fails the test. Its wait
 * status.
 */
int process_wait(pid_t pid, unsigned limit_ms);

/*
 * Runs argv to its end, at most 50 s. out and err (NULL: dropped) receive what it printed, terminated and cut at their
 * sizes. Returns the exit status; death by a signal fails the test.
 */
int process_run(char *const argv[], char *out, size_t out_size, char *err, size_t err_size);
