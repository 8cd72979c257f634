/* SPDX-License-Identifier: Apache-2.0 */
/* The two clocks: monotonic for waiting, boottime (it goes on during suspend) for leases. */
#pragma once

#include "base/checked.h"
#include "base/units.h"

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_now_ns(clockid_t clock)
{
	struct timespec now;

	(void)clock_gettime(clock, &now); /* cannot fail for the clocks of Linux */
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Milliseconds until a monotonic deadline for poll(): rounded up, 0 when it has passed. */
static inline int clock_left_ms(uint64_t deadline_ns)
{
	uint64_t now_ns = clock_now_ns(CLOCK_MONOTONIC);
	uint64_t left_ms;

	if (now_ns >= deadline_ns)
		return 0;
	left_ms = div_up_u64(deadline_ns - now_ns, NS_PER_MS);
	return left_ms > INT32_MAX ? INT32_MAX : (int)left_ms;
}
