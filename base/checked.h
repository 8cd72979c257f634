/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic on sizes that come from outside. Each function returns true and writes *ret when the mathematical
 * result fits, and returns false without writing otherwise.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool checked_add_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return false;
	*ret = sum;
	return true;
}

static inline bool checked_mul_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t product;

	if (__builtin_mul_overflow(a, b, &product))
		return false;
	*ret = product;
	return true;
}

/* Rounds up to a multiple of align, a power of two. */
static inline bool checked_align_u64(uint64_t value, uint64_t align, uint64_t *ret)
{
	uint64_t sum;

	if (!checked_add_u64(value, align - 1, &sum))
		return false;
	*ret = sum & ~(align - 1);
	return true;
}

/* Whether [offset, offset + length) lies within [0, size). An empty range at the end lies within. */
static inline bool checked_range(uint64_t offset, uint64_t length, uint64_t size)
{
	return offset <= size && length <= size - offset;
}

/* For values that a contract already bounds. */
static inline uint64_t align_up_u64(uint64_t value, uint64_t align)
{
	return (value + align - 1) & ~(align - 1);
}

static inline uint64_t div_up_u64(uint64_t value, uint64_t divisor)
{
	return value / divisor + (value % divisor != 0);
}
