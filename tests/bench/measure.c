/* SPDX-License-Identifier: Apache-2.0 */
/* The median of an even number of rounds is the mean of the middle two. */
#include "tests/bench/measure.h"

#include "base/units.h"

#include <stdlib.h>
#include <time.h>

uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

struct spread spread_of(double *values, size_t n)
{
	qsort(values, n, sizeof(*values), compare);
	return (struct spread){
		.median = (values[(n - 1) / 2] + values[n / 2]) / 2,
		.low = values[0],
		.high = values[n - 1],
	};
}
