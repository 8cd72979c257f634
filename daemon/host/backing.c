/* SPDX-License-Identifier: Apache-2.0 */
/* Holes in memfds. */
#include "daemon/host/backing.h"

#include "daemon/host/compat.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

int backing_discard(const struct segment *segment, uint64_t offset, uint64_t bytes)
{
	int r;

	do
		r = fallocate(segment->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* Allocates only what is missing: what is in the range stays. */
static int allocate(const struct segment *segment, uint64_t offset, uint64_t bytes)
{
	int r;

	do
		r = fallocate(segment->fd, 0, (off_t)offset, (off_t)bytes);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int backing_restore(const struct segment *segment, uint64_t offset, uint64_t bytes, bool populate)
{
	if (segment->huge)
		return allocate(segment, offset, bytes);
	if (!populate)
		return 0;
	if (madvise((uint8_t *)segment->memory + offset, bytes, MADV_POPULATE_WRITE) == 0)
		return 0;
	return errno == EINVAL ? allocate(segment, offset, bytes) : -errno;
}
