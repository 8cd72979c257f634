/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/self/stat has the resident pages, and the start in ticks since the machine's start. Open descriptors: since
 * Linux 6.2 the size of /proc/self/fd is their number; before, they are counted as long as they are few, for with tens
 * of thousands of sessions that would take longer than the loop may.
 */
#include "daemon/host/usage.h"

#include "base/cleanup.h"
#include "base/units.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define US_PER_S UINT64_C(1000000)
#define COUNTED_FDS_MAX 1024

/* Fields of /proc/self/stat behind the name, which may hold anything. The first there is the state, number 3. */
#define STAT_FIELD_FIRST 3
#define STAT_START_TICKS 22
#define STAT_RESIDENT_PAGES 24

static struct usage_value known(uint64_t value)
{
	return (struct usage_value){ .known = true, .value = value };
}

static bool read_stat(char *buffer, size_t size)
{
	_cleanup_close_ int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buffer, size - 1);

	if (n <= 0)
		return false;
	buffer[n] = '\0';
	return true;
}

static struct usage_value stat_field(const char *stat, int number)
{
	const char *at = strrchr(stat, ')');

	for (int i = STAT_FIELD_FIRST - 1; at && i < number; i++)
		at = strchr(at + 1, ' ');
	return at ? known(strtoull(at + 1, NULL, 10)) : (struct usage_value){ 0 };
}

static uint64_t clock_us(clockid_t clock)
{
	struct timespec now;

	(void)clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * US_PER_S + (uint64_t)now.tv_nsec / 1000;
}

static struct usage_value start_us(const char *stat)
{
	struct usage_value ticks = stat_field(stat, STAT_START_TICKS);
	long hz = sysconf(_SC_CLK_TCK);

	if (!ticks.known || hz <= 0)
		return (struct usage_value){ 0 };
	return known(clock_us(CLOCK_REALTIME) - clock_us(CLOCK_BOOTTIME) + ticks.value * US_PER_S / (uint64_t)hz);
}

static uint64_t timeval_us(struct timeval time)
{
	return (uint64_t)time.tv_sec * US_PER_S + (uint64_t)time.tv_usec;
}

static struct usage_value count_fds(void)
{
	DIR *directory = opendir("/proc/self/fd");
	uint64_t n = 0;

	if (!directory)
		return (struct usage_value){ 0 };
	for (struct dirent *entry; n <= COUNTED_FDS_MAX && (entry = readdir(directory));)
		n += entry->d_name[0] != '.';
	(void)closedir(directory);
	/* Not the one that the counting itself needed. */
	return n > 0 && n <= COUNTED_FDS_MAX ? known(n - 1) : (struct usage_value){ 0 };
}

static struct usage_value open_fds(void)
{
	struct stat status;

	if (stat("/proc/self/fd", &status) == 0 && status.st_size > 0)
		return known((uint64_t)status.st_size);
	return count_fds();
}

void usage_read(struct usage *ret_usage)
{
	static struct usage_value start;
	char stat[1024] = "";
	struct rusage used;
	struct rlimit files;

	*ret_usage = (struct usage){ 0 };
	if (getrusage(RUSAGE_SELF, &used) == 0)
		ret_usage->cpu_us = known(timeval_us(used.ru_utime) + timeval_us(used.ru_stime));
	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
		ret_usage->max_fds = known(files.rlim_cur);
	if (read_stat(stat, sizeof(stat))) {
		ret_usage->resident_bytes = stat_field(stat, STAT_RESIDENT_PAGES);
		ret_usage->resident_bytes.value *= (uint64_t)sysconf(_SC_PAGESIZE);
		if (!start.known)
			start = start_us(stat);
	}
	ret_usage->start_us = start;
	ret_usage->open_fds = open_fds();
}
