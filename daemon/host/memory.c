/* SPDX-License-Identifier: Apache-2.0 */
/* Everything here is advice for a warning: what cannot be read is left out. */
#include "daemon/host/memory.h"

#include "base/cleanup.h"
#include "base/units.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define CGROUP_ROOT "/sys/fs/cgroup"

/* The first line of a small kernel file, without its end. Returns NULL if there is none. */
static char *read_line(const char *path, char *buffer, size_t size)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return NULL;
	n = read(fd, buffer, size - 1);
	if (n <= 0)
		return NULL;
	buffer[n] = '\0';
	buffer[strcspn(buffer, "\n")] = '\0';
	return buffer;
}

/* "max" and what is not a number mean no limit. */
static uint64_t read_limit(const char *path)
{
	char line[32];
	uint64_t value;

	if (!read_line(path, line, sizeof(line)) || units_parse_u64(line, &value) < 0)
		return UINT64_MAX;
	return value;
}

/* A limit anywhere above holds for us too. */
static uint64_t cgroup_bytes_max(void)
{
	char line[PATH_MAX], path[PATH_MAX + 64];
	uint64_t least = UINT64_MAX;
	char *group, *slash;

	if (!read_line("/proc/self/cgroup", line, sizeof(line)) || strncmp(line, "0::/", 4) != 0)
		return UINT64_MAX;
	group = line + 3;
	while ((slash = strrchr(group, '/'))) {
		uint64_t limit;

		(void)snprintf(path, sizeof(path), CGROUP_ROOT "%s/memory.max", group);
		limit = read_limit(path);
		if (limit < least)
			least = limit;
		*slash = '\0';
	}
	return least;
}

char *memory_cgroup_file(const char *name, char *buffer, size_t size)
{
	char line[PATH_MAX];
	int n;

	if (!read_line("/proc/self/cgroup", line, sizeof(line)) || strncmp(line, "0::/", 4) != 0 || line[4] == '\0')
		return NULL;
	n = snprintf(buffer, size, CGROUP_ROOT "%s/%s", line + 3, name);
	return n > 0 && (size_t)n < size ? buffer : NULL;
}

uint64_t memory_bytes_max(void)
{
	uint64_t cgroup = cgroup_bytes_max();
	struct sysinfo info;
	uint64_t physical;

	if (sysinfo(&info) < 0)
		return cgroup;
	physical = (uint64_t)info.totalram * info.mem_unit;
	return physical < cgroup ? physical : cgroup;
}

uint64_t memory_huge_pages_free(void)
{
	uint64_t pages = read_limit("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");

	return pages == UINT64_MAX ? 0 : pages;
}
