/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels since 6.1 tell the alignment that O_DIRECT wants; where the kernel or the file system does not, a write of
 * the least alignment is tried.
 */
#include "daemon/host/disk-probe.h"

#include "base/cleanup.h"
#include "daemon/tier/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define PROBE_NAME "probe"

static const char why_memory[] = "this file system is in memory";
static const char why_alignment[] = "O_DIRECT wants more alignment than to 512 bytes here";

/* They take O_DIRECT since Linux 6.6, and then copy as ever. */
static bool is_in_memory(int fd)
{
	struct statfs status;

	return fstatfs(fd, &status) == 0 && (status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC);
}

static bool divides(uint32_t alignment)
{
	return alignment > 0 && DISK_ALIGN % alignment == 0;
}

/* Results: whether the kernel tells; then *ret_fits. */
static bool ask_kernel(int file_fd, bool *ret_fits)
{
	struct statx status;

	if (statx(file_fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) < 0 || !(status.stx_mask & STATX_DIOALIGN))
		return false;
	*ret_fits = divides(status.stx_dio_mem_align) && divides(status.stx_dio_offset_align);
	return true;
}

/* Second and odd multiples of DISK_ALIGN, so that nothing is aligned better by chance. */
static bool try_transfer(int fd)
{
	_cleanup_free_ uint8_t *memory = aligned_alloc(4096, 4096);

	if (!memory)
		return false;
	memset(memory, 0, 4096);
	if (pwrite(fd, memory + DISK_ALIGN, DISK_ALIGN, DISK_ALIGN) < 0 && errno == EINVAL)
		return false;
	return pread(fd, memory + DISK_ALIGN, DISK_ALIGN, DISK_ALIGN) >= 0 || errno != EINVAL;
}

static bool try_direct(int directory_fd)
{
	_cleanup_close_ int fd = openat(directory_fd, PROBE_NAME,
					O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_DIRECT, 0600);

	(void)unlinkat(directory_fd, PROBE_NAME, 0); /* some file systems make the file, and then refuse O_DIRECT */
	return fd >= 0 && try_transfer(fd);
}

bool disk_probe_direct(int directory_fd, int file_fd, const char **ret_why)
{
	bool fits;

	if (is_in_memory(directory_fd)) {
		*ret_why = why_memory;
		return false;
	}
	if (!ask_kernel(file_fd, &fits))
		fits = try_direct(directory_fd);
	if (!fits)
		*ret_why = why_alignment;
	return fits;
}
