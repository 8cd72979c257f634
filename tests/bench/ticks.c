/* SPDX-License-Identifier: Apache-2.0 */
/* The counter is compared with CLOCK_MONOTONIC over CALIBRATION_NS: off by a few parts in ten thousand at worst. */
#include "tests/bench/ticks.h"

#include "base/units.h"
#include "tests/bench/latency.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define CALIBRATION_NS (20 * NS_PER_MS)
#define COST_SAMPLES 4096

bool ticks_counter;
static double ns_per_tick = 1;

/* Whether the counter runs at one speed, also while the processor sleeps. */
static bool counter_is_constant(void)
{
#if defined(__x86_64__)
	unsigned a, b, c, d;

	return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & 1u << 8);
#else
	return false;
#endif
}

void ticks_init(void)
{
	uint64_t begin_ns, end_ns, begin, end;

	ticks_counter = counter_is_constant();
	ns_per_tick = 1;
	if (!ticks_counter)
		return;
	begin_ns = now_ns();
	begin = ticks_begin();
	do {
		end_ns = now_ns();
		end = ticks_end();
	} while (end_ns - begin_ns < CALIBRATION_NS);
	ns_per_tick = (double)(end_ns - begin_ns) / (double)(end - begin);
}

double ticks_to_ns(uint64_t ticks)
{
	return (double)ticks * ns_per_tick;
}

double ticks_cost_ns(void)
{
	uint32_t samples[COST_SAMPLES];

	for (unsigned i = 0; i < COST_SAMPLES; i++) {
		uint64_t begin = ticks_begin();

		samples[i] = (uint32_t)(ticks_end() - begin);
	}
	return latency_of(samples, COST_SAMPLES).p50;
}
