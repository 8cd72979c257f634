/* SPDX-License-Identifier: Apache-2.0 */
/* Reads /proc/self/fd; the descriptor of that directory itself is not counted. */
#include "tests/lib/leftover.h"

#include "base/units.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void leftover_fds_take(struct leftover_fds *fds)
{
	DIR *directory = opendir("/proc/self/fd");
	struct dirent *entry;

	memset(fds, 0, sizeof(*fds));
	if (!directory)
		return;
	while ((entry = readdir(directory))) {
		uint64_t fd;

		if (units_parse_u64(entry->d_name, &fd) != 0 || fd == (uint64_t)dirfd(directory))
			continue;
		fds->open[fd < LEFTOVER_FDS_MAX ? fd : LEFTOVER_FDS_MAX - 1] = true;
	}
	(void)closedir(directory);
}

static void print_fd(int fd)
{
	char path[64];
	char target[PATH_MAX];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target) - 1);
	target[n > 0 ? n : 0] = '\0';
	(void)fprintf(stderr, "descriptor %d was left open: %s\n", fd, target);
}

bool leftover_fds_same(const struct leftover_fds *before)
{
	static struct leftover_fds now;
	bool same = true;

	leftover_fds_take(&now);
	for (int fd = 0; fd < LEFTOVER_FDS_MAX; fd++) {
		if (now.open[fd] == before->open[fd])
			continue;
		same = false;
		if (now.open[fd])
			print_fd(fd);
		else
			(void)fprintf(stderr, "descriptor %d, which was not the test's, was closed\n", fd);
	}
	return same;
}

bool leftover_children_none(void)
{
	siginfo_t info = { 0 };

	if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD)
		return true;
	(void)fprintf(stderr, "a child process was left behind\n");
	return false;
}
