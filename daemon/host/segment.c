/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order matters: size before the seals that fix it; mode before the first descriptor leaves;
 * the writable mapping before F_SEAL_FUTURE_WRITE, which forbids new ones. F_SEAL_WRITE is not an
 * option: it cannot be set while a writable mapping exists.
 */
#include "daemon/host/segment.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "daemon/host/compat.h"
#include "daemon/host/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define HUGE_PAGE_BYTES (2 * MIB)
#define PREFAULT_STEP_BYTES GIB
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static void segment_closep(struct segment *segment)
{
	segment_close(segment);
}

/*
 * MFD_NOEXEC_SEAL also spares a warning that newer kernels log for memfds that may become
 * executable.
 */
static int memfd_open(const char *name, unsigned flags)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | flags);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
	return fd < 0 ? -errno : fd;
}

static int seal(int fd, int seals)
{
	int held;

	if (fcntl(fd, F_ADD_SEALS, seals) < 0)
		return -errno;
	held = fcntl(fd, F_GET_SEALS);
	if (held < 0)
		return -errno;
	return (held & seals) == seals ? 0 : -EPERM;
}

/* A sealed, mapped segment without a read-only descriptor. *ret_step names what failed. */
static int create(const char *name, uint64_t bytes, unsigned flags, int extra_seals,
		  struct segment *ret_segment, const char **ret_step)
{
	_cleanup_(segment_closep) struct segment segment = SEGMENT_NULL;
	void *memory;
	int r;

	*ret_step = "memfd_create";
	segment.fd = memfd_open(name, flags);
	if (segment.fd < 0)
		return segment.fd;
	*ret_step = "ftruncate";
	if (ftruncate(segment.fd, (off_t)bytes) < 0)
		return -errno;
	*ret_step = "fchmod";
	if (fchmod(segment.fd, 0600) < 0)
		return -errno;
	*ret_step = "mmap";
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, segment.fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	segment.memory = memory;
	segment.bytes = bytes;
	*ret_step = "sealing";
	r = seal(segment.fd, SEALS | extra_seals);
	if (r < 0)
		return r;
	*ret_segment = segment;
	segment = (struct segment)SEGMENT_NULL;
	return 0;
}

/*
 * A duplicate would share the mode of access; opening it anew gives a description that can only
 * read.
 */
static int open_read_only(int fd)
{
	char path[32];
	int read_fd;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_fd = open(path, O_RDONLY | O_CLOEXEC);
	return read_fd < 0 ? -errno : read_fd;
}

/*
 * On kernels without MADV_POPULATE_WRITE the pages are allocated; mapping them later cannot fail
 * for want of memory.
 */
static int prefault_step(const struct segment *segment, uint64_t offset, uint64_t bytes)
{
	if (madvise((uint8_t *)segment->memory + offset, bytes, MADV_POPULATE_WRITE) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	return fallocate(segment->fd, 0, (off_t)offset, (off_t)bytes) < 0 ? -errno : 0;
}

/* In steps, so that whoever waits for the start can be told that it goes on. */
static int prefault(const struct segment *segment, segment_progress_fn progress)
{
	int r = 0;

	for (uint64_t done = 0; r == 0 && done < segment->bytes; done += PREFAULT_STEP_BYTES) {
		uint64_t left = segment->bytes - done;

		if (progress)
			progress(done, segment->bytes);
		r = prefault_step(segment, done, left < PREFAULT_STEP_BYTES ? left : PREFAULT_STEP_BYTES);
	}
	return r;
}

static void warn_of_size(uint64_t bytes, struct log *log)
{
	uint64_t most = memory_bytes_max();
	char wanted[16], there[16];

	if (bytes > most)
		log_message(log, MESSAGE_MEMORY_SHORT,
			    "arena.bytes is %s, but this process can have %s of memory: it will be "
			    "killed when the arena fills",
			    units_format_bytes(bytes, wanted, sizeof(wanted)),
			    units_format_bytes(most, there, sizeof(there)));
}

static int huge_error(uint64_t bytes, int r, struct host_error *error)
{
	uint64_t pages = bytes / HUGE_PAGE_BYTES;

	return host_error_set(error, HOST_EXIT_NOT_CONFIGURED,
			      "no huge pages for the arena (%s): it needs %" PRIu64
			      " of 2 MiB, %" PRIu64
			      " are free; reserve them (sysctl vm.nr_hugepages=%" PRIu64
			      "), or set arena.huge_pages to try or no",
			      strerror(-r), pages, memory_huge_pages_free(), pages);
}

/*
 * Huge pages are reserved when they are mapped, so that mapping, not use, fails when they are too
 * few.
 */
static int create_pages(const struct segment_arena_options *options, struct log *log,
			struct segment *ret_segment, struct host_error *error)
{
	int extra_seals = options->strict ? F_SEAL_FUTURE_WRITE : 0;
	const char *step;
	int r;

	if (options->huge != SEGMENT_HUGE_NO) {
		r = create("kvpaged-arena", options->bytes, MFD_HUGETLB | MFD_HUGE_2MB, extra_seals,
			   ret_segment, &step);
		if (r == 0) {
			ret_segment->huge = true;
			return 0;
		}
		(void)huge_error(options->bytes, r, error);
		if (options->huge == SEGMENT_HUGE_YES)
			return -EINVAL;
		log_message(log, MESSAGE_MEMORY_SHORT, "using small pages: %s", error->text);
	}
	warn_of_size(options->bytes, log);
	r = create("kvpaged-arena", options->bytes, 0, extra_seals, ret_segment, &step);
	if (r < 0)
		return host_error_set(error, HOST_EXIT_FAILURE,
				      "cannot create the arena of %" PRIu64 " bytes: %s: %s",
				      options->bytes, step, strerror(-r));
	return 0;
}

int segment_prefault(const struct segment *segment, segment_progress_fn progress, struct host_error *error)
{
	int r = prefault(segment, progress);

	return r < 0 ? host_error_set(error, HOST_EXIT_FAILURE,
				      "cannot allocate all of the arena: %s; make arena.bytes "
				      "smaller, or set arena.prefault to no",
				      strerror(-r))
		     : 0;
}

int segment_create_arena(const struct segment_arena_options *options, struct log *log,
			 struct segment *ret_segment, struct host_error *error)
{
	_cleanup_(segment_closep) struct segment segment = SEGMENT_NULL;
	int r;

	r = create_pages(options, log, &segment, error);
	if (r < 0)
		return r;
	segment.read_fd = open_read_only(segment.fd);
	if (segment.read_fd < 0)
		return host_error_set(error, HOST_EXIT_FAILURE,
				      "cannot open the arena read-only: %s (is /proc mounted?)",
				      strerror(-segment.read_fd));
	r = options->prefault ? segment_prefault(&segment, options->progress, error) : 0;
	if (r < 0)
		return r;
	*ret_segment = segment;
	segment = (struct segment)SEGMENT_NULL;
	return 0;
}

static bool is_huge(int fd)
{
	struct statfs system;

	return fstatfs(fd, &system) == 0 && (uint32_t)system.f_type == HUGETLBFS_MAGIC;
}

int segment_adopt(int fd, uint64_t bytes, struct segment *ret_segment)
{
	struct segment segment = { .fd = fd, .bytes = bytes, .huge = is_huge(fd) };
	int r;

	segment.read_fd = open_read_only(fd);
	if (segment.read_fd < 0)
		return segment.read_fd;
	segment.memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (segment.memory == MAP_FAILED) {
		r = -errno;
		(void)close_fd(segment.read_fd);
		return r;
	}
	*ret_segment = segment;
	return 0;
}

int segment_create_shared(const char *name, uint64_t bytes, struct segment *ret_segment)
{
	const char *step;

	return create(name, bytes, 0, 0, ret_segment, &step);
}

void segment_close_fds(struct segment *segment)
{
	segment->fd = close_fd(segment->fd);
	segment->read_fd = close_fd(segment->read_fd);
}

void segment_close(struct segment *segment)
{
	if (segment->memory)
		(void)munmap(segment->memory, segment->bytes);
	segment->memory = NULL;
	segment_close_fds(segment);
}
