/* SPDX-License-Identifier: Apache-2.0 */
/* getrandom() blocks only before the kernel's pool is first filled, early in boot. */
#include "daemon/host/random.h"

#include "base/units.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

int random_u64(uint64_t *ret_value)
{
	uint64_t value;
	ssize_t got;

	do
		got = getrandom(&value, sizeof(value), 0);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	*ret_value = value; /* requests of up to 256 bytes are never answered in part */
	return 0;
}

int random_incarnation(uint64_t *ret_incarnation)
{
	struct timespec wall;
	uint64_t noise = 0, mixed;
	int r;

	r = random_u64(&noise);
	if (r < 0)
		return r;
	if (clock_gettime(CLOCK_REALTIME, &wall) < 0)
		return -errno;
	mixed = ((uint64_t)wall.tv_sec * NS_PER_S + (uint64_t)wall.tv_nsec) ^ noise;
	*ret_incarnation = mixed ? mixed : 1;
	return 0;
}
