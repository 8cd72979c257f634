/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that falls asleep at a random instruction. What goes wrong between two neighbouring instructions goes wrong
 * only when the world moves on between them; the scheduler alone arranges that too seldom for a test of seconds.
 *
 *	stumble_begin(&stumble);
 *	stumble_arm(&stumble, after_ns, sleep_ns);
 *	while (!stumble_happened())
 *		... a few hundred nanoseconds of work ...
 *	stumble_end(&stumble);
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct stumble {
	timer_t timer;
};

/* For the calling thread. Returns whether it worked. */
bool stumble_begin(struct stumble *stumble);
void stumble_end(struct stumble *stumble);

/* Once, so long from now (more than 0), the calling thread sleeps so long, less than a second, wherever it is. */
void stumble_arm(struct stumble *stumble, uint32_t after_ns, uint32_t sleep_ns);

/* Whether it has, since it was armed. */
bool stumble_happened(void);
