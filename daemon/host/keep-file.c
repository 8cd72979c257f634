/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An arena in a file that has a name. Nobody can seal it: whoever can write it could cut it under its readers, so it is
 * for our own user alone, like the memory without a name. All of it is allocated at once: a file system that is full
 * would end the process that touches what is missing.
 *
 * Beside it lies a lock, FILE.lock, with the owner's pid in it. It is a file of its own since clients get descriptors
 * of FILE, with which they could lock it; it stays when the owner goes, so that nobody can lock a name that is gone.
 */
#include "daemon/host/keep.h"

#include "base/cleanup.h"
#include "daemon/config.h"
#include "proto/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

static int file_error(const char *path, const char *what, struct host_error *error)
{
	return host_error_set(error, HOST_EXIT_FAILURE, "arena.path: %s: %s: %s", path, what, strerror(errno));
}

/* Exists and is not what we would have made: it is left alone. */
static int foreign(const char *path, const char *why, struct host_error *error)
{
	return host_error_set(error, HOST_EXIT_CONFIG, "arena.path: %s: %s; it is left alone", path, why);
}

/* ---- The lock ---- */

static int locked_by_another(const char *path, int fd, struct host_error *error)
{
	char pid[16];
	ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);

	pid[n > 0 ? n : 0] = '\0';
	pid[strspn(pid, "0123456789")] = '\0';
	return host_error_set(error, HOST_EXIT_FAILURE, "arena.path: %s: another kvpaged uses it%s%s", path,
			      pid[0] ? ", pid " : "", pid);
}

static int lock_take(const char *path, int *ret_fd, struct host_error *error)
{
	_cleanup_close_ int fd = -1;
	char name[PATH_MAX], pid[16];
	struct stat facts;
	int n;

	(void)snprintf(name, sizeof(name), "%s" CONFIG_LOCK_SUFFIX, path);
	fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0 && errno == ENOENT)
		return host_error_set(error, HOST_EXIT_NOT_CONFIGURED,
				      "arena.path: %s: its directory does not exist", path);
	if (fd < 0)
		return file_error(name, "cannot lock", error);
	if (fstat(fd, &facts) < 0 || !S_ISREG(facts.st_mode) || facts.st_uid != geteuid())
		return foreign(name, "is not a lock file of ours", error);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? locked_by_another(path, fd, error)
					    : file_error(name, "cannot lock", error);
	n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	/* For people; the lock holds without. */
	if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)n, 0) < 0)
		return file_error(name, "cannot write", error);
	*ret_fd = take_fd(&fd);
	return 0;
}

/* ---- The file ---- */

static bool in_memory(int fd)
{
	struct statfs system;

	return fstatfs(fd, &system) == 0 &&
	       ((uint32_t)system.f_type == TMPFS_MAGIC || (uint32_t)system.f_type == HUGETLBFS_MAGIC);
}

static int check_access(const char *path, int fd, struct stat *ret_facts, struct host_error *error)
{
	struct stat facts;
	char why[64];

	if (fstat(fd, &facts) < 0)
		return file_error(path, "cannot look at it", error);
	if (!S_ISREG(facts.st_mode))
		return foreign(path, "is not a regular file", error);
	if (facts.st_uid != geteuid()) {
		(void)snprintf(why, sizeof(why), "belongs to user %u", (unsigned)facts.st_uid);
		return foreign(path, why, error);
	}
	if ((facts.st_mode & 07777) != 0600) {
		(void)snprintf(why, sizeof(why), "has mode %04o, not 0600", facts.st_mode & 07777);
		return foreign(path, why, error);
	}
	if (facts.st_nlink != 1)
		return foreign(path, "has another name too", error);
	if (!in_memory(fd))
		return foreign(path, "is not on tmpfs or hugetlbfs", error);
	*ret_facts = facts;
	return 0;
}

/* Ours is what begins with an arena's magic number, and what we made and never came to lay out. */
static bool is_ours(int fd, uint64_t bytes)
{
	uint64_t magic = 0;

	return bytes == 0 || (pread(fd, &magic, sizeof(magic), 0) == (ssize_t)sizeof(magic) &&
			      (magic == KVP_ARENA_MAGIC || magic == 0));
}

/* Whether the file's arena is taken over; otherwise why not, static text. */
static bool adopt(const struct keep_options *options, int fd, uint64_t bytes, struct segment *ret_segment,
		  const char **ret_why)
{
	_cleanup_close_ int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	struct segment segment;

	*ret_why = bytes != options->arena.bytes ? "it has another size than arena.bytes" : NULL;
	if (!*ret_why && (own < 0 || segment_adopt(own, bytes, &segment) < 0))
		*ret_why = "it cannot be mapped";
	if (*ret_why)
		return false;
	(void)take_fd(&own);
	*ret_why = keep_fault(options, &segment);
	if (!*ret_why) {
		*ret_segment = segment;
		return true;
	}
	segment_close(&segment);
	return false;
}

static int allocate(const struct keep_options *options, int fd, struct host_error *error)
{
	uint64_t bytes = options->arena.bytes;
	const uint64_t step = UINT64_C(1) << 30;

	for (uint64_t done = 0; done < bytes; done += step) {
		uint64_t n = bytes - done < step ? bytes - done : step;

		if (options->arena.progress)
			options->arena.progress(done, bytes);
		if (fallocate(fd, 0, (off_t)done, (off_t)n) < 0)
			return host_error_set(error, HOST_EXIT_NOT_CONFIGURED,
					      "arena.path: %s: its file system has no room for %" PRIu64 " bytes: %s",
					      options->path, bytes, strerror(errno));
	}
	return 0;
}

/* Results: 1: taken over; 0: the name is free now; -EINVAL and *error. */
static int use_old(const struct keep_options *options, struct log *log, struct segment *ret_segment,
		   struct host_error *error)
{
	_cleanup_close_ int fd = open(options->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat facts = { .st_size = 0 };
	const char *why;
	int r;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 && errno == ELOOP)
		return foreign(options->path, "is a symbolic link", error);
	if (fd < 0)
		return file_error(options->path, "cannot open", error);
	r = check_access(options->path, fd, &facts, error);
	if (r < 0)
		return r;
	if (!is_ours(fd, (uint64_t)facts.st_size))
		return foreign(options->path, "is not an arena of kvpaged", error);
	if (adopt(options, fd, (uint64_t)facts.st_size, ret_segment, &why)) {
		/* An arena that was made smaller gave memory back. */
		r = (uint64_t)facts.st_blocks * 512 < options->arena.bytes ? allocate(options, fd, error) : 0;
		if (r < 0)
			segment_close(ret_segment);
		return r < 0 ? r : 1;
	}
	/* Those who still read it keep it: the name goes, not the memory. */
	log_message(log, MESSAGE_ARENA_LEFT, "the arena in %s is not used: %s; the cache begins empty", options->path,
		    why);
	return unlink(options->path) < 0 ? file_error(options->path, "cannot remove", error) : 0;
}

static int fill_new(const struct keep_options *options, int fd, struct segment *ret_segment, struct host_error *error)
{
	_cleanup_close_ int own = -1;
	int r;

	if (fchmod(fd, 0600) < 0)
		return file_error(options->path, "cannot set its mode", error);
	if (!in_memory(fd))
		return host_error_set(error, HOST_EXIT_CONFIG,
				      "arena.path: %s: is not on tmpfs or hugetlbfs: the arena is memory",
				      options->path);
	if (ftruncate(fd, (off_t)options->arena.bytes) < 0)
		return file_error(options->path, "cannot set its size", error);
	r = allocate(options, fd, error);
	if (r < 0)
		return r;
	own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0 || segment_adopt(own, options->arena.bytes, ret_segment) < 0)
		return file_error(options->path, "cannot map", error);
	(void)take_fd(&own);
	if (options->arena.huge == SEGMENT_HUGE_YES && !ret_segment->huge)
		r = host_error_set(error, HOST_EXIT_NOT_CONFIGURED,
				   "arena.path: %s: is not on hugetlbfs, and arena.huge_pages is yes", options->path);
	else if (options->arena.prefault) /* allocated pages are zeroed when they are first used */
		r = segment_prefault(ret_segment, options->arena.progress, error);
	if (r < 0)
		segment_close(ret_segment);
	return r;
}

static int make_new(const struct keep_options *options, struct segment *ret_segment, struct host_error *error)
{
	_cleanup_close_ int fd =
		open(options->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return file_error(options->path, "cannot create", error);
	r = fill_new(options, fd, ret_segment, error);
	if (r < 0)
		(void)unlink(options->path);
	return r;
}

int keep_open_file(const struct keep_options *options, struct log *log, struct keep *ret_keep,
		   struct host_error *error)
{
	struct keep keep = KEEP_NULL;
	int r = lock_take(options->path, &keep.lock_fd, error);

	if (r < 0)
		return r;
	r = use_old(options, log, &keep.arena, error);
	keep.recover = r > 0;
	if (r == 0)
		r = make_new(options, &keep.arena, error);
	if (r < 0) {
		keep_close(&keep);
		return r;
	}
	*ret_keep = keep;
	return 0;
}
