/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scope cleanup. A variable marked _cleanup_(fn) is released when it leaves scope; ownership is handed on with
 * take_ptr() or take_fd(), which leave the variable empty so that the transfer is visible at the place where it
 * happens.
 */
#pragma once

#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(fn) __attribute__((cleanup(fn)))

/* DEFINE_CLEANUP(struct foo *, foo_free) defines foo_freep(), which calls foo_free() on what is not NULL. */
#define DEFINE_CLEANUP(type, fn)                                                                               \
	static inline void fn##p(type *object)                                                                 \
	{                                                                                                      \
		if (*object)                                                                                   \
			fn(*object);                                                                           \
	}                                                                                                      \
	struct fn##_cleanup_defined

static inline void cleanup_freep(void *object)
{
	free(*(void **)object);
}

static inline void cleanup_closep(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

#define _cleanup_free_ _cleanup_(cleanup_freep)
#define _cleanup_close_ _cleanup_(cleanup_closep)

/* Hands the pointer on; the variable becomes NULL. */
#define take_ptr(pointer)                                                                                      \
	({                                                                                                     \
		__typeof__(pointer) take_value_ = (pointer);                                                   \
		(pointer) = NULL;                                                                              \
		take_value_;                                                                                   \
	})

/* Hands the descriptor on; the variable becomes -1. */
static inline int take_fd(int *fd)
{
	int value = *fd;

	*fd = -1;
	return value;
}

/* Closes what is open and returns -1, for fd = close_fd(fd). */
static inline int close_fd(int fd)
{
	if (fd >= 0)
		(void)close(fd);
	return -1;
}
