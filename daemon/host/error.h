/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why the daemon does not start (or a reload is refused): one line for people, and the exit status
 * that belongs to it.
 */
#pragma once

#include <stddef.h>

#define HOST_EXIT_FAILURE 1
#define HOST_EXIT_USAGE 2
#define HOST_EXIT_NOT_CONFIGURED 6 /* something that the configuration relies on is not there */
#define HOST_EXIT_CONFIG 78

#define HOST_ERROR_TEXT_BYTES 640

struct host_error {
	int exit_status;
	char text[HOST_ERROR_TEXT_BYTES];
};

/* Fills in *error; a longer text is cut. Returns -EINVAL always, for return host_error_set(...). */
__attribute__((format(printf, 3, 4))) int host_error_set(struct host_error *error, int exit_status,
							 const char *format, ...);
