/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this process takes of the machine. Some of it is told by /proc alone, which a service manager may hide; what
 * cannot be read is marked as not known.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct usage_value {
	bool known;
	uint64_t value;
};

struct usage {
	struct usage_value cpu_us;
	struct usage_value resident_bytes;
	struct usage_value open_fds;
	struct usage_value max_fds;
	struct usage_value start_us; /* since 1970 */
};

/* A few system calls. The start's time is computed at the first call, so that it does not move with the clock. */
void usage_read(struct usage *ret_usage);
