/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs tests written with cmocka's assertions, each in a process of its own, and prints TAP.
 *
 * A test fails when an assertion fails, when its process dies or takes longer than KVP_TEST_TIMEOUT_S seconds (default
 * 60), when it leaves a descriptor open or a child process behind, and when a sanitizer has something to report at its
 * exit. What it printed is shown only then, as "# " lines, together with the *.log files in its directory.
 *
 * Environment: KVP_TEST_TIMEOUT_S; KVP_TEST_ONLY=NAME runs the one test of that name; KVP_TEST_VERBOSE=1 shows all
 * output.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Runs the tests in order. Returns what main() is to return: 0 when none failed. */
int harness_run(const struct CMUnitTest *tests, size_t n);

/* Ends the running test as skipped. The reason is one line for people. Does not return. */
__attribute__((noreturn)) void harness_skip(const char *reason);

/*
 * A directory of the running test alone, empty when it begins and removed with all that is in it when the test has
 * ended, whatever way it ended. Its path is short enough for a socket in it. Owned by the harness.
 */
const char *harness_directory(void);
