/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A segment is as long as it should be only once all of it is there, as its length grows last: what a daemon that was
 * killed left half made has another length and is made anew.
 *
 * Past the page cache, a segment is written once before it is used. What is only allocated costs a file system a change
 * of its own at the first write, and ext4 and XFS let a write that does not cover whole blocks wait for all others of
 * the file then: pages of 26.5 KiB were stored at 16 MB/s where 64 KiB went at a gigabyte.
 */
#include "daemon/host/disk-files.h"

#include "base/cleanup.h"
#include "base/contract.h"
#include "base/units.h"
#include "daemon/host/disk-probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_PREFIX "segment-"
#define NAME_BYTES 32
#define TRIES_MAX 100
#define ZEROS_BYTES (256 * KIB)
#define ZEROS_ALIGN 4096

static void disk_files_closep(struct disk_files *files)
{
	disk_files_close(files);
}

/* --- The directory -------------------------------------------------------------------------------- */

static int refuse(struct host_error *error, const char *directory, const char *why)
{
	return host_error_set(error, HOST_EXIT_NOT_CONFIGURED, "%s: %s", directory, why);
}

static int open_directory(const char *path, struct disk_files *files, struct host_error *error)
{
	struct stat status;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return host_error_set(error, HOST_EXIT_NOT_CONFIGURED, "%s: cannot make the directory: %s", path,
				      strerror(errno));
	files->directory_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (files->directory_fd < 0 || fstat(files->directory_fd, &status) < 0)
		return refuse(error, path, strerror(errno));
	if (status.st_uid != geteuid())
		return host_error_set(error, HOST_EXIT_NOT_CONFIGURED,
				      "%s: belongs to user %u, not to user %u, whom this process runs as", path,
				      status.st_uid, geteuid());
	if (status.st_mode & (S_IWGRP | S_IWOTH))
		return refuse(error, path, "others may write to it; chmod go-w");
	return 0;
}

static int take_lock(const char *path, struct disk_files *files, struct host_error *error)
{
	files->lock_fd =
		openat(files->directory_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (files->lock_fd < 0)
		return host_error_set(error, HOST_EXIT_NOT_CONFIGURED, "%s/lock: %s", path, strerror(errno));
	if (flock(files->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return host_error_set(error, HOST_EXIT_NOT_CONFIGURED,
				      "%s/lock: another process holds it; every daemon needs a directory of its own",
				      path);
	return host_error_set(error, HOST_EXIT_NOT_CONFIGURED, "%s/lock: cannot be locked: %s", path, strerror(errno));
}

static void file_name(uint32_t file, char name[NAME_BYTES])
{
	(void)snprintf(name, NAME_BYTES, NAME_PREFIX "%06" PRIu32, file);
}

/* Whether name is a segment's, as file_name() writes it. */
static bool is_file_name(const char *name, uint32_t *ret_file)
{
	char again[NAME_BYTES];
	unsigned long file;

	if (strncmp(name, NAME_PREFIX, strlen(NAME_PREFIX)) != 0)
		return false;
	file = strtoul(name + strlen(NAME_PREFIX), NULL, 10);
	if (file > UINT32_MAX)
		return false;
	file_name((uint32_t)file, again);
	*ret_file = (uint32_t)file;
	return strcmp(name, again) == 0;
}

/* Segments that do not count towards the tier's bytes would lie there for ever. */
static void look_at(struct disk_files *files, const char *name, struct log *log)
{
	struct stat status;
	uint32_t file;

	if (!is_file_name(name, &file) || fstatat(files->directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (file < files->files_max && S_ISREG(status.st_mode) && (uint64_t)status.st_size == files->file_bytes) {
		files->there[file] = 1;
		return;
	}
	log_line(log, LOG_LEVEL_INFO, "%s is of another length or number than segments are now: removed", name);
	if (unlinkat(files->directory_fd, name, 0) < 0)
		log_line(log, LOG_LEVEL_WARNING, "%s: cannot be removed: %s", name, strerror(errno));
}

static int look_around(const char *path, struct disk_files *files, struct log *log, struct host_error *error)
{
	int fd = openat(files->directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!directory) {
		int number = errno;

		(void)close_fd(fd);
		return refuse(error, path, strerror(number));
	}
	while ((entry = readdir(directory)))
		look_at(files, entry->d_name, log);
	(void)closedir(directory);
	return 0;
}

static int decide_direct(const struct disk_options *options, struct disk_files *files, struct host_error *error)
{
	const char *why = NULL;

	if (options->direct == DISK_DIRECT_NO)
		return 0;
	files->direct = disk_probe_direct(files->directory_fd, files->lock_fd, &why);
	if (files->direct)
		return 0;
	if (options->direct == DISK_DIRECT_YES)
		return host_error_set(error, HOST_EXIT_NOT_CONFIGURED,
				      "%s: O_DIRECT cannot be used: %s; use another file system, or the page cache",
				      options->directory, why);
	log_line(options->log, LOG_LEVEL_WARNING,
		 "%s: %s: what is written there goes through the page cache, which takes memory as well",
		 options->directory, why);
	return 0;
}

/* Half of the descriptors stay for clients. */
static int check_descriptors(const struct disk_options *options, struct host_error *error)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || options->files_max <= limit.rlim_cur / 2)
		return 0;
	return host_error_set(error, HOST_EXIT_NOT_CONFIGURED,
			      "%s: %" PRIu32 " segments take more than half of the %" PRIu64
			      " descriptors that this process can open; raise that limit (LimitNOFILE=, ulimit -n), or "
			      "have fewer and larger segments",
			      options->directory, options->files_max, (uint64_t)limit.rlim_cur);
}

static int allocate(struct disk_files *files, struct host_error *error)
{
	files->fds = calloc(files->files_max, sizeof(*files->fds));
	files->there = calloc(files->files_max, sizeof(*files->there));
	if (!files->fds || !files->there)
		return host_error_set(error, HOST_EXIT_FAILURE, "out of memory");
	for (uint32_t i = 0; i < files->files_max; i++)
		files->fds[i] = -1;
	return 0;
}

int disk_files_open(const struct disk_options *options, struct disk_files *ret_files, struct host_error *error)
{
	_cleanup_(disk_files_closep) struct disk_files files = DISK_FILES_NULL;
	int r = check_descriptors(options, error);

	files.file_bytes = options->file_bytes;
	files.files_max = options->files_max;
	if (r == 0)
		r = open_directory(options->directory, &files, error);
	if (r == 0)
		r = take_lock(options->directory, &files, error);
	if (r == 0)
		r = allocate(&files, error);
	if (r == 0)
		r = look_around(options->directory, &files, options->log, error);
	if (r == 0)
		r = decide_direct(options, &files, error);
	if (r < 0)
		return r;
	*ret_files = files;
	files = (struct disk_files)DISK_FILES_NULL;
	return 0;
}

void disk_files_close(struct disk_files *files)
{
	for (uint32_t i = 0; files->fds && i < files->files_max; i++)
		(void)close_fd(files->fds[i]);
	free(files->fds);
	free(files->there);
	(void)close_fd(files->lock_fd);
	(void)close_fd(files->directory_fd);
	*files = (struct disk_files)DISK_FILES_NULL;
}

/* --- Making and removing files -------------------------------------------------------------------- */

static int write_zeros(int fd, uint64_t bytes)
{
	static _Alignas(ZEROS_ALIGN) uint8_t zeros[ZEROS_BYTES];

	for (uint64_t at = 0; at < bytes;) {
		uint64_t left = bytes - at;
		ssize_t n = pwrite(fd, zeros, left < sizeof(zeros) ? left : sizeof(zeros), (off_t)at);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ENOSPC;
		at += n > 0 ? (uint64_t)n : 0;
	}
	return 0;
}

/*
 * Where the file system cannot allocate, a file that is not written at once gets its length only, and writing to it may
 * fail for want of space.
 */
static int allocate_file(const struct disk_files *files, int fd)
{
	int mode = files->direct ? FALLOC_FL_KEEP_SIZE : 0;
	int r;

	do
		r = fallocate(fd, mode, 0, (off_t)files->file_bytes) < 0 ? -errno : 0;
	while (r == -EINTR);
	if (r < 0 && r != -EOPNOTSUPP)
		return r;
	if (files->direct)
		return write_zeros(fd, files->file_bytes);
	if (r == -EOPNOTSUPP)
		r = ftruncate(fd, (off_t)files->file_bytes) < 0 ? -errno : 0;
	return r;
}

/* Gives the open file its length. Its name must outlast a power failure too. */
static int make_whole(const struct disk_files *files, int fd)
{
	struct stat status;
	int r;

	if (fstat(fd, &status) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode))
		return -EEXIST;
	if ((uint64_t)status.st_size == files->file_bytes)
		return 0;
	if (ftruncate(fd, 0) < 0)
		return -errno;
	r = allocate_file(files, fd);
	if (r < 0)
		return r;
	return fsync(files->directory_fd) < 0 ? -errno : 0;
}

static int create(struct disk_files *files, uint32_t file)
{
	int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (files->direct ? O_DIRECT : 0);
	_cleanup_close_ int fd = -1;
	char name[NAME_BYTES];
	int r;

	if (files->fds[file] >= 0)
		return 0;
	file_name(file, name);
	fd = openat(files->directory_fd, name, flags, 0600);
	if (fd < 0)
		return -errno;
	r = make_whole(files, fd);
	if (r < 0) {
		if (r != -EEXIST)
			(void)unlinkat(files->directory_fd, name, 0);
		return r;
	}
	files->fds[file] = take_fd(&fd);
	return 0;
}

static int discard(struct disk_files *files, uint32_t file)
{
	char name[NAME_BYTES];

	files->fds[file] = close_fd(files->fds[file]);
	file_name(file, name);
	return unlinkat(files->directory_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* --- Transfers ------------------------------------------------------------------------------------ */

/* With O_DIRECT the rest has to begin aligned, so some is transferred again. What then gives no more has ended. */
bool disk_files_moved(struct disk_io *io, ssize_t n, int *ret_result)
{
	uint32_t before = io->moved;

	if ((n == -EINTR || n == -EAGAIN) && io->result < TRIES_MAX) {
		io->result++;
		return false;
	}
	if (n < 0) {
		*ret_result = (int)n;
		return true;
	}
	io->moved += (uint32_t)n;
	*ret_result = 0;
	if (io->moved == io->bytes)
		return true;
	*ret_result = io->verb == DISK_READ ? -ENODATA : -ENOSPC;
	io->moved -= io->moved % DISK_ALIGN;
	return io->moved == before;
}

static int transfer(int fd, struct disk_io *io)
{
	int result;
	ssize_t n;

	io->moved = 0;
	io->result = 0;
	do {
		uint8_t *memory = (uint8_t *)io->memory + io->moved;
		off_t offset = (off_t)(io->offset + io->moved);

		if (io->verb == DISK_READ)
			n = pread(fd, memory, io->bytes - io->moved, offset);
		else
			n = pwrite(fd, memory, io->bytes - io->moved, offset);
		if (n < 0)
			n = -errno;
	} while (!disk_files_moved(io, n, &result));
	return result;
}

static int synchronize(int fd)
{
	return fdatasync(fd) < 0 ? -errno : 0;
}

int disk_files_do(struct disk_files *files, struct disk_io *io)
{
	switch (io->verb) {
	case DISK_READ:
	case DISK_WRITE:
		return transfer(files->fds[io->file], io);
	case DISK_CREATE:
		return create(files, io->file);
	case DISK_REMOVE:
		return discard(files, io->file);
	case DISK_SYNC:
		return synchronize(files->fds[io->file]);
	default:
		kvp_unreachable();
	}
}
