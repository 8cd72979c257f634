/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of other processes are those that /proc lists; ones that start later inherit. */
#include "tests/bench/place.h"

#include "base/units.h"

#include <dirent.h>
#include <sched.h>
#include <stdio.h>

static cpu_set_t allowed;

int place_init(void)
{
	CPU_ZERO(&allowed);
	(void)sched_getaffinity(0, sizeof(allowed), &allowed);
	return CPU_COUNT(&allowed);
}

static cpu_set_t set_of(int processor)
{
	cpu_set_t set;
	int seen = 0;

	if (processor == PLACE_ANY)
		return allowed;
	CPU_ZERO(&set);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &allowed) && seen++ == processor)
			CPU_SET(i, &set);
	return set;
}

void place(pid_t pid, int processor)
{
	cpu_set_t set = set_of(processor);
	char path[64];
	const struct dirent *entry;
	DIR *directory;

	if (pid == 0) {
		(void)sched_setaffinity(0, sizeof(set), &set);
		return;
	}
	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	directory = opendir(path);
	while (directory && (entry = readdir(directory))) {
		uint64_t thread;

		if (units_parse_u64(entry->d_name, &thread) == 0)
			(void)sched_setaffinity((pid_t)thread, sizeof(set), &set);
	}
	if (directory)
		(void)closedir(directory);
}
