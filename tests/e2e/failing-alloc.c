/* SPDX-License-Identifier: Apache-2.0 */
/* The wrappers: each asks whether this call is the one to fail. */
#include "tests/e2e/failing-alloc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static struct failing_alloc *control;

__attribute__((constructor)) static void map_control(void)
{
	const char *path = getenv("KVP_FAILING_ALLOC");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *memory = MAP_FAILED;

	if (fd >= 0)
		memory = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		(void)close(fd);
	if (memory == MAP_FAILED)
		abort();
	control = memory;
}

static bool fails(void)
{
	uint64_t left = atomic_load(&control->countdown);

	atomic_fetch_add(&control->calls, 1);
	while (left > 0)
		if (atomic_compare_exchange_weak(&control->countdown, &left, left - 1))
			break;
	if (left != 1)
		return false;
	atomic_fetch_add(&control->failed, 1);
	errno = ENOMEM;
	return true;
}

/* WRAP(result, name, (parameters), (arguments), what failure returns) */
#define WRAP(type, name, parameters, arguments, failure) \
	type __real_##name parameters; \
	type __wrap_##name parameters; \
	type __wrap_##name parameters \
	{ \
		return fails() ? (failure) : __real_##name arguments; \
	}

typedef int filter_fn(const struct dirent *entry);
typedef int order_fn(const struct dirent **a, const struct dirent **b);

WRAP(void *, malloc, (size_t n), (n), NULL)
WRAP(void *, calloc, (size_t n, size_t size), (n, size), NULL)
WRAP(void *, realloc, (void *memory, size_t n), (memory, n), NULL)
WRAP(char *, strdup, (const char *text), (text), NULL)
/* glibc's headers may turn getline() into __getdelim(). */
WRAP(ssize_t, getline, (char **buffer, size_t *size, FILE *stream), (buffer, size, stream), -1)
WRAP(ssize_t, __getdelim, (char **buffer, size_t *size, int end, FILE *stream),
     (buffer, size, end, stream), -1)
WRAP(FILE *, fdopen, (int fd, const char *mode), (fd, mode), NULL)
WRAP(int, scandir, (const char *path, struct dirent ***ret, filter_fn *filter, order_fn *order),
     (path, ret, filter, order), -1)
