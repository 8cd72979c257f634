/* SPDX-License-Identifier: Apache-2.0 */
/* Walks without following links. */
#include "tests/lib/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a path may take of the 108 bytes of a socket address; the rest is for names in the directory. */
#define BASE_BYTES_MAX 48
#define DEPTH_FDS 16

int tree_make(char *path, size_t size)
{
	const char *base = getenv("TMPDIR");

	if (!base || base[0] != '/' || strlen(base) > BASE_BYTES_MAX)
		base = "/tmp";
	if ((size_t)snprintf(path, size, "%s/kvp-test-XXXXXX", base) >= size)
		return -ENAMETOOLONG;
	if (!mkdtemp(path)) {
		path[0] = '\0';
		return -errno;
	}
	return 0;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
	(void)remove(path);
	return 0;
}

void tree_remove(const char *path)
{
	if (path[0] != '\0')
		(void)nftw(path, remove_entry, DEPTH_FDS, FTW_DEPTH | FTW_PHYS);
}

void tree_each_log(const char *path, void (*show)(int fd))
{
	DIR *directory = opendir(path);
	struct dirent *entry;

	if (!directory)
		return;
	while ((entry = readdir(directory))) {
		size_t n = strlen(entry->d_name);
		int fd;

		if (n < 4 || strcmp(entry->d_name + n - 4, ".log") != 0)
			continue;
		fd = openat(dirfd(directory), entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0)
			continue;
		show(fd);
		(void)close(fd);
	}
	(void)closedir(directory);
}
