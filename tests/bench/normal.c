/* SPDX-License-Identifier: Apache-2.0 */
/* Box and Muller's method in double: tails as long as 53 bits give them, 8.6 deviations. */
#include "tests/bench/normal.h"

#include <math.h>

uint64_t random_u64(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* In (0, 1]. */
static double random_unit(uint64_t *state)
{
	return (double)((random_u64(state) >> 11) + 1) * 0x1p-53;
}

void normal_fill(float *values, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i += 2) {
		double radius = sqrt(-2 * log(random_unit(&seed)));
		double angle = 2 * M_PI * random_unit(&seed);

		values[i] = (float)(radius * cos(angle));
		if (i + 1 < n)
			values[i + 1] = (float)(radius * sin(angle));
	}
}
