/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the first log scale that is at least an amplitude is found without a search. Octave
 * 2^x .. 2^(x + 1) has 16, 8 or 1 scales, but those of the coarser kinds are among the sixteen. So
 * the amplitude's place among sixteen, counted by its mantissa, gives its place among fewer.
 */
#pragma once

#include <stdint.h>

#define LOG_SCALE_EXPONENT_MIN (127 - 16) /* of the smallest scale but 0; biased as in f32 */

/* Ten bits after the point as a f32's mantissa. */
#define LOG_SCALE_MANTISSA(thousandth) (((thousandth) - 1024) << 13)
#define LOG_SCALE_NONE 0x7fffffff

/* clang-format off */

/* The sixteenths of an octave. */
static const int32_t log_scale_mantissas[16] __attribute__((aligned(64))) = {
	LOG_SCALE_MANTISSA(1024), LOG_SCALE_MANTISSA(1069), LOG_SCALE_MANTISSA(1117),
	LOG_SCALE_MANTISSA(1166), LOG_SCALE_MANTISSA(1218), LOG_SCALE_MANTISSA(1272),
	LOG_SCALE_MANTISSA(1328), LOG_SCALE_MANTISSA(1387), LOG_SCALE_MANTISSA(1448),
	LOG_SCALE_MANTISSA(1512), LOG_SCALE_MANTISSA(1579), LOG_SCALE_MANTISSA(1649),
	LOG_SCALE_MANTISSA(1722), LOG_SCALE_MANTISSA(1798), LOG_SCALE_MANTISSA(1878),
	LOG_SCALE_MANTISSA(1961),
};

/*
 * By the four highest bits of a mantissa: how many sixteenths lie below all mantissas that begin
 * so, and the one or two that begin so themselves.
 */
static const int32_t log_scale_below[16] __attribute__((aligned(64))) = {
	0, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 13, 14, 15, 16,
};

static const int32_t log_scale_among[2][16] __attribute__((aligned(64))) = {
	{ LOG_SCALE_MANTISSA(1024), LOG_SCALE_MANTISSA(1117), LOG_SCALE_MANTISSA(1166),
	  LOG_SCALE_MANTISSA(1218), LOG_SCALE_MANTISSA(1328), LOG_SCALE_MANTISSA(1387),
	  LOG_SCALE_MANTISSA(1448), LOG_SCALE_MANTISSA(1512), LOG_SCALE_MANTISSA(1579),
	  LOG_SCALE_MANTISSA(1649), LOG_SCALE_MANTISSA(1722), LOG_SCALE_NONE,
	  LOG_SCALE_MANTISSA(1798), LOG_SCALE_MANTISSA(1878), LOG_SCALE_MANTISSA(1961),
	  LOG_SCALE_NONE },
	{ LOG_SCALE_MANTISSA(1069), LOG_SCALE_NONE, LOG_SCALE_NONE, LOG_SCALE_MANTISSA(1272),
	  LOG_SCALE_NONE, LOG_SCALE_NONE, LOG_SCALE_NONE, LOG_SCALE_NONE, LOG_SCALE_NONE,
	  LOG_SCALE_NONE, LOG_SCALE_NONE, LOG_SCALE_NONE, LOG_SCALE_NONE, LOG_SCALE_NONE,
	  LOG_SCALE_NONE, LOG_SCALE_NONE },
};

/*
 * By octave, from 2^-16 on: the number of its first scale, and 4, 1 or 0 where it has 1, 8 or 16.
 */
static const uint8_t log_scale_first[64] __attribute__((aligned(64))) = {
	1, 2, 3, 4, 5, 6,
	7, 15, 23, 31,
	39, 55, 71, 87, 103, 119, 135, 151, 167, 183, 199,
	215, 223, 231, 239,
	247, 248, 249, 250, 251, 252, 253, 254, 255,
};

static const uint8_t log_scale_shift[64] __attribute__((aligned(64))) = {
	4, 4, 4, 4, 4, 4,
	1, 1, 1, 1,
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	1, 1, 1, 1,
	4, 4, 4, 4, 4, 4, 4, 4, 4,
};
/* clang-format on */
