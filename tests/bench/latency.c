/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A percentile is the sample of that rank: with fewer than a thousand of them p99.9 is the longest. But the clock has
 * steps, of ten nanoseconds on some processors, and so most samples of a short operation are equal. Equal ones count as
 * spread evenly over their step, which reaches half-way to the samples below and above.
 */
#include "tests/bench/latency.h"

#include "tests/bench/ticks.h"

#include <stdlib.h>

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double at(const uint32_t *samples, size_t n, double share)
{
	size_t rank = (size_t)(share * (double)n);
	size_t begin, end;
	double low, high;

	rank = rank < n ? rank : n - 1;
	for (begin = rank; begin > 0 && samples[begin - 1] == samples[rank];)
		begin--;
	for (end = rank + 1; end < n && samples[end] == samples[rank];)
		end++;
	low = begin > 0 && end - begin > 1 ? ((double)samples[begin - 1] + samples[rank]) / 2 : samples[rank];
	high = end < n && end - begin > 1 ? ((double)samples[end] + samples[rank]) / 2 : samples[rank];
	return ticks_to_ns(1) * (low + (high - low) * (double)(rank - begin) / (double)(end - begin));
}

struct latency latency_of(uint32_t *samples, size_t n)
{
	qsort(samples, n, sizeof(*samples), compare);
	return (struct latency){
		.p50 = at(samples, n, 0.5),
		.p99 = at(samples, n, 0.99),
		.p999 = at(samples, n, 0.999),
	};
}
