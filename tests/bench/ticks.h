/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A clock for operations of some ten nanoseconds. It waits for what came before and holds back what comes after:
 * without that, a cache miss of the measured operation may end behind the closing stamp, and a look-up in memory seems
 * to take no time. On x86-64 it counts cycles of the constant clock; elsewhere, or where that one is not constant, it
 * asks the system. What a pair of stamps costs is measured (ticks_cost_ns()) and in every latency; nothing is
 * subtracted.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/bench/measure.h"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

/* Whether the processor's own counter is used. Set by ticks_init(). */
extern bool ticks_counter;

/* Finds out how long a tick is, which takes some 20 ms. Before all else here; child processes inherit it. */
void ticks_init(void);

double ticks_to_ns(uint64_t ticks);

/* The median of what a pair of stamps with nothing between them shows. */
double ticks_cost_ns(void);

static inline uint64_t ticks_begin(void)
{
#if defined(__x86_64__)
	uint64_t now;

	if (ticks_counter) {
		_mm_lfence();
		now = __rdtsc();
		_mm_lfence();
		return now;
	}
#endif
	return now_ns();
}

static inline uint64_t ticks_end(void)
{
#if defined(__x86_64__)
	unsigned processor;
	uint64_t now;

	if (ticks_counter) {
		/* rdtscp waits for earlier loads to be done. */
		now = __rdtscp(&processor);
		_mm_lfence();
		return now;
	}
#endif
	return now_ns();
}
