/* SPDX-License-Identifier: Apache-2.0 */
/* Time, and what is made of several rounds of it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Monotonic, the same in all processes. */
uint64_t now_ns(void);

struct spread {
	double median;
	double low; /* the lowest and highest round */
	double high;
};

/* Sorts values. n at least 1. */
struct spread spread_of(double *values, size_t n);
