/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of base and codec use of cmocka, for builds for another processor. Debian has
 * cmocka for it only as a package of a foreign architecture, and such an architecture changes the
 * machine for good: every later apt-get wants it from every source, and libc of both must have the
 * same version. A cross compiler and its libc are packages like others. Each test is run by the
 * harness in a process of its own, so that nothing has to be put right after a failure.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct CMUnitTest {
	const char *name;
	void (*test_func)(void **state);
};

#define cmocka_unit_test(function) { #function, function }

#define fail() cmocka_fail(__FILE__, __LINE__, "failed")
#define fail_msg(...) cmocka_fail(__FILE__, __LINE__, __VA_ARGS__)
#define skip() cmocka_skip()
#define print_message(...) (void)printf(__VA_ARGS__)

#define assert_true(condition)                                                                     \
	((condition) ? (void)0 : cmocka_fail(__FILE__, __LINE__, "%s is false", #condition))
#define assert_false(condition) assert_true(!(condition))
#define assert_null(pointer) assert_true(!(pointer))
#define assert_non_null(pointer) assert_true(pointer)
#define assert_ptr_equal(a, b) assert_true((const void *)(a) == (const void *)(b))
#define assert_ptr_not_equal(a, b) assert_true((const void *)(a) != (const void *)(b))
#define assert_int_equal(a, b)                                                                     \
	cmocka_int_equal(__FILE__, __LINE__, (unsigned long long)(a), (unsigned long long)(b))
#define assert_string_equal(a, b) cmocka_string_equal(__FILE__, __LINE__, a, b)
#define assert_memory_equal(a, b, size) cmocka_memory_equal(__FILE__, __LINE__, a, b, size)

/* Prints where and what, and ends the process. */
__attribute__((noreturn, format(printf, 3, 4))) void cmocka_fail(const char *file, int line,
								 const char *format, ...);

/* Ends the test that is running; it has not failed. */
__attribute__((noreturn)) void cmocka_skip(void);

void cmocka_int_equal(const char *file, int line, unsigned long long a, unsigned long long b);
void cmocka_string_equal(const char *file, int line, const char *a, const char *b);
void cmocka_memory_equal(const char *file, int line, const void *a, const void *b, size_t size);

/* Runs the tests in order, without setup and teardown. Returns 0: a failure does not return. */
int _cmocka_run_group_tests(const char *group, const struct CMUnitTest *tests, size_t n,
			    void *setup, void *teardown);
