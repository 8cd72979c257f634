/* SPDX-License-Identifier: Apache-2.0 */
/* The first error ends what was tried, so there is room for one. */
#include "daemon/host/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int host_error_set(struct host_error *error, int exit_status, const char *format, ...)
{
	va_list arguments;

	error->exit_status = exit_status;
	va_start(arguments, format);
	(void)vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	return -EINVAL;
}
