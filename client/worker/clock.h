/* SPDX-License-Identifier: Apache-2.0 */
/* Time that only runs forwards, for measuring. */
#pragma once

#include <time.h>

static inline double clock_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}
