/* SPDX-License-Identifier: Apache-2.0 */
/* One test at a time; the only state is where a skipped test goes back to. */
#include "tests/cross/cmocka.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static jmp_buf test_end;

void cmocka_fail(const char *file, int line, const char *format, ...)
{
	va_list arguments;

	(void)printf("%s:%d: ", file, line);
	va_start(arguments, format);
	(void)vprintf(format, arguments);
	va_end(arguments);
	(void)putchar('\n');
	exit(EXIT_FAILURE);
}

void cmocka_skip(void)
{
	longjmp(test_end, 1);
}

void cmocka_int_equal(const char *file, int line, unsigned long long a, unsigned long long b)
{
	if (a != b)
		cmocka_fail(file, line, "%#llx is not %#llx", a, b);
}

void cmocka_string_equal(const char *file, int line, const char *a, const char *b)
{
	if (strcmp(a, b) != 0)
		cmocka_fail(file, line, "\"%s\" is not \"%s\"", a, b);
}

void cmocka_memory_equal(const char *file, int line, const void *a, const void *b, size_t size)
{
	const uint8_t *p = a;
	const uint8_t *q = b;

	for (size_t i = 0; i < size; i++)
		if (p[i] != q[i])
			cmocka_fail(file, line, "byte %zu of %zu: %#x is not %#x", i, size, p[i],
				    q[i]);
}

static void test_run(const struct CMUnitTest *test)
{
	if (setjmp(test_end) == 0)
		test->test_func(NULL);
}

int _cmocka_run_group_tests(const char *group, const struct CMUnitTest *tests, size_t n,
			    void *setup, void *teardown)
{
	for (size_t i = 0; i < n; i++)
		test_run(&tests[i]);
	return 0;
}
