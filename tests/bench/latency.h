/* SPDX-License-Identifier: Apache-2.0 */
/* Percentiles of single operations. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct latency {
	double p50; /* nanoseconds, as below */
	double p99;
	double p999;
};

/* A duration as a sample: what does not fit becomes the longest that does, about a second. */
static inline uint32_t latency_sample(uint64_t ticks)
{
	return ticks > UINT32_MAX ? UINT32_MAX : (uint32_t)ticks;
}

/* Sorts the samples, which are ticks. n at least 1. */
struct latency latency_of(uint32_t *samples, size_t n);
