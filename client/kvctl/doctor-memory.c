/* SPDX-License-Identifier: Apache-2.0 */
/* The memory that an arena needs beside the memory that there is, and what the system may do to it. */
#include "client/kvctl/doctor.h"

#include "base/checked.h"
#include "base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HUGE_PAGE_BYTES (2 * MIB)
#define HUGE_PAGES "/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define SIZE_BYTES 24

static const char *size_text(uint64_t bytes, char *buffer)
{
	return units_format_bytes(bytes, buffer, SIZE_BYTES);
}

/* A number of /proc/meminfo, which counts in KiB. */
static int meminfo(const struct doctor *doctor, const char *name, uint64_t *ret_bytes)
{
	uint64_t kib;
	int r = doctor_read_field(doctor, "/proc/meminfo", name, 0, &kib);

	if (r == 0 && !checked_mul_u64(kib, KIB, ret_bytes))
		r = -ERANGE;
	return r;
}

static bool uses_huge_pages(const struct doctor *doctor)
{
	const char *setting = doctor_setting(doctor, "arena.huge_pages");

	return setting && strcmp(setting, "no") != 0;
}

static void say_unknown_arena(struct doctor *doctor)
{
	doctor_say(doctor, DOCTOR_INFO, "how large the arena is to be is not known");
	doctor_remedy(doctor, "name it with --arena-bytes");
}

void doctor_memory(struct doctor *doctor)
{
	uint64_t available = 0;
	uint64_t wanted = doctor->arena_bytes;
	char size[3][SIZE_BYTES];

	if (meminfo(doctor, "MemAvailable:", &available) < 0)
		return;
	if (wanted == 0) {
		say_unknown_arena(doctor);
		return;
	}
	if (doctor->stats) /* what was used once is there already */
		wanted = uses_huge_pages(doctor) ? 0 : kvc_stats_counter(doctor->stats, "free_bytes");
	if (available >= wanted) {
		doctor_say(doctor, DOCTOR_OK, "%s of memory are available, %s more can be needed by an arena of %s",
			   size_text(available, size[0]), size_text(wanted, size[1]),
			   size_text(doctor->arena_bytes, size[2]));
		return;
	}
	doctor_say(doctor, doctor->stats ? DOCTOR_WARN : DOCTOR_FAIL,
		   "%s of memory are available, but an arena of %s can come to need %s more",
		   size_text(available, size[0]), size_text(doctor->arena_bytes, size[2]), size_text(wanted, size[1]));
	doctor_remedy(doctor, "make arena.bytes smaller, or end what uses the memory; arena.prefault=yes finds out at "
			      "the start");
}

static void say_pool(struct doctor *doctor, uint64_t total, uint64_t unused)
{
	uint64_t needed = div_up_u64(doctor->arena_bytes, HUGE_PAGE_BYTES);
	const char *setting = doctor_setting(doctor, "arena.huge_pages");

	if (setting && strcmp(setting, "no") == 0) {
		doctor_say(doctor, DOCTOR_INFO, "the arena is made of ordinary pages (arena.huge_pages=no)");
		doctor_remedy(doctor,
			      "for huge pages: sysctl vm.nr_hugepages=%" PRIu64
			      " and arena.huge_pages=try",
			      needed);
	} else if (setting && total < needed) {
		doctor_say(doctor, DOCTOR_WARN,
			   "arena.huge_pages=%s, but the pool has %" PRIu64 " pages of 2 MiB and the "
			   "arena needs %" PRIu64 ", so it is made of ordinary pages",
			   setting, total, needed);
		doctor_remedy(doctor, "sysctl vm.nr_hugepages=%" PRIu64 ", then restart kvpaged", needed);
	} else if (setting) {
		doctor_say(doctor, DOCTOR_OK,
			   "arena.huge_pages=%s; the pool has %" PRIu64 " pages of 2 MiB, %" PRIu64
			   " unused, and the arena needs %" PRIu64,
			   setting, total, unused, needed);
	} else {
		doctor_say(doctor, DOCTOR_INFO,
			   "the pool of huge pages has %" PRIu64 " pages of 2 MiB, %" PRIu64
			   " unused; an arena of %" PRIu64 " MiB needs %" PRIu64,
			   total, unused, doctor->arena_bytes >> 20, needed);
		if (unused < needed)
			doctor_remedy(doctor, "for arena.huge_pages=yes: sysctl vm.nr_hugepages=%" PRIu64,
				      total - unused + needed);
	}
}

void doctor_huge_pages(struct doctor *doctor)
{
	uint64_t total = 0;
	uint64_t unused;

	if (doctor_read_u64(doctor, HUGE_PAGES "nr_hugepages", &total) < 0 ||
	    doctor_read_u64(doctor, HUGE_PAGES "free_hugepages", &unused) < 0) {
		doctor_say(doctor, DOCTOR_INFO, "the system has no pool of 2 MiB pages");
		return;
	}
	if (doctor->arena_bytes > 0)
		say_pool(doctor, total, unused < total ? unused : total);
}

void doctor_thp(struct doctor *doctor)
{
	static const char path[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
	char text[128];
	char *begin;
	char *end;

	if (uses_huge_pages(doctor) || doctor_read(doctor, path, text, sizeof(text)) < 0)
		return;
	begin = strchr(text, '[');
	end = begin ? strchr(begin, ']') : NULL;
	if (!end)
		return;
	*end = '\0';
	if (strcmp(begin + 1, "always") == 0 || strcmp(begin + 1, "within_size") == 0 ||
	    strcmp(begin + 1, "force") == 0) {
		doctor_say(doctor, DOCTOR_OK, "shared memory may get transparent huge pages (%s)", begin + 1);
		return;
	}
	doctor_say(doctor, DOCTOR_INFO, "shared memory gets no transparent huge pages (shmem_enabled is %s)",
		   begin + 1);
	doctor_remedy(doctor, "echo within_size > %s, before kvpaged starts", path);
}

void doctor_swap(struct doctor *doctor)
{
	uint64_t total = 0;
	char size[SIZE_BYTES];

	if (meminfo(doctor, "SwapTotal:", &total) < 0)
		return;
	if (total == 0) {
		doctor_say(doctor, DOCTOR_OK, "there is no swap");
	} else if (uses_huge_pages(doctor)) {
		doctor_say(doctor, DOCTOR_OK, "there is swap, but huge pages are not swapped out");
	} else {
		doctor_say(doctor, DOCTOR_WARN,
			   "there are %s of swap: idle parts of the arena can be swapped out, and "
			   "reading them then waits for the disk",
			   size_text(total, size));
		doctor_remedy(doctor, "MemorySwapMax=0 in kvpaged's unit, or huge pages, or swapoff -a");
	}
}

void doctor_memlock(struct doctor *doctor)
{
	uint64_t bytes;
	char size[SIZE_BYTES];

	if (doctor_read_field(doctor, "/proc/self/limits", "Max locked memory", 0, &bytes) < 0)
		return;
	if (bytes == UINT64_MAX) {
		doctor_say(doctor, DOCTOR_OK, "this user may lock any amount of memory");
	} else if (doctor->arena_bytes > 0 && bytes >= doctor->arena_bytes) {
		doctor_say(doctor, DOCTOR_OK, "this user may lock %s of memory, enough for the arena",
			   size_text(bytes, size));
	} else {
		doctor_say(doctor, DOCTOR_INFO, "this user may lock %s of memory, less than an arena",
			   size_text(bytes, size));
		doctor_remedy(doctor,
			      "only for programs that lock it or register it with a device: LimitMEMLOCK=infinity "
			      "in their unit, or ulimit -l unlimited");
	}
}

/* One limit of one group of processes. */
static void say_limit(struct doctor *doctor, const char *cgroup, const char *limit, bool daemons, unsigned *said)
{
	bool hard = strcmp(limit, "memory.max") == 0;
	char path[512];
	char size[2][SIZE_BYTES];
	uint64_t bytes;

	(void)snprintf(path, sizeof(path), "/sys/fs/cgroup%s/%s", strcmp(cgroup, "/") == 0 ? "" : cgroup, limit);
	if (doctor_read_u64(doctor, path, &bytes) < 0 || bytes == UINT64_MAX || bytes >= doctor->arena_bytes)
		return;
	++*said;
	doctor_say(
		doctor, hard && daemons ? DOCTOR_FAIL : DOCTOR_WARN,
		"%s of the cgroup %s is %s, less than an arena of %s: what runs there is %s before the arena is full",
		limit, cgroup, size_text(bytes, size[0]), size_text(doctor->arena_bytes, size[1]),
		hard ? "killed" : "slowed down");
	doctor_remedy(doctor, "raise %s of its unit above the arena's size, or make arena.bytes smaller",
		      hard ? "MemoryMax" : "MemoryHigh");
}

/* A group, and all that it lies in. */
static void look_at_cgroup(struct doctor *doctor, const char *cgroup, bool daemons)
{
	char path[256];
	unsigned said = 0;

	(void)snprintf(path, sizeof(path), "%s", cgroup);
	for (;;) {
		char *slash = strrchr(path, '/');

		say_limit(doctor, path, "memory.max", daemons, &said);
		say_limit(doctor, path, "memory.high", daemons, &said);
		if (!slash || path[1] == '\0')
			break;
		slash[slash == path] = '\0';
	}
	if (said == 0)
		doctor_say(doctor, DOCTOR_OK, "the cgroup %s (%s) leaves room for the arena", cgroup,
			   daemons ? "kvpaged's" : "this one");
}

/* "0::/path" is the line of cgroup v2. */
static bool find_own_cgroup(const struct doctor *doctor, char *buffer, size_t size)
{
	char text[4096];
	char *rest = text;

	if (doctor_read(doctor, "/proc/self/cgroup", text, sizeof(text)) < 0)
		return false;
	for (char *line; (line = strsep(&rest, "\n"));)
		if (strncmp(line, "0::/", 4) == 0)
			return (size_t)snprintf(buffer, size, "%s", line + 3) < size;
	return false;
}

void doctor_cgroup(struct doctor *doctor)
{
	static const char daemons[] = "/system.slice/kvpaged.service";
	char own[256];
	char text[64];

	if (doctor->arena_bytes == 0)
		return;
	if (doctor_read(doctor, "/sys/fs/cgroup/cgroup.controllers", text, sizeof(text)) < 0) {
		doctor_say(doctor, DOCTOR_INFO, "there is no cgroup v2 here, so its limits of memory were not checked");
		return;
	}
	if (doctor_read(doctor, "/sys/fs/cgroup/system.slice/kvpaged.service/memory.max", text, sizeof(text)) == 0)
		look_at_cgroup(doctor, daemons, true);
	if (find_own_cgroup(doctor, own, sizeof(own)) && strcmp(own, daemons) != 0)
		look_at_cgroup(doctor, own, false);
}
