/* SPDX-License-Identifier: Apache-2.0 */
/* Seeded random numbers: the same on every machine up to the last bits of its log() and cos(). */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The next 64 bits (splitmix64). Any start is as good as another. */
uint64_t random_u64(uint64_t *state);

/* n independent numbers, normally distributed with mean 0 and variance 1. */
void normal_fill(float *values, size_t n, uint64_t seed);
