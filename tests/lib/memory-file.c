/* SPDX-License-Identifier: Apache-2.0 */
/* A test that is killed leaves its directory: /dev/shm/kvpaged-test-PID-*. */
#include "tests/lib/memory-file.h"

#include "tests/lib/harness.h"
#include "tests/lib/tree.h"

#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/vfs.h>
#include <unistd.h>

static char directory[64];
static pid_t owner;

static void remove_all(void)
{
	if (getpid() == owner)
		tree_remove(directory);
}

const char *memory_file(const char *name)
{
	static char path[200];
	struct statfs system;

	if (statfs("/dev/shm", &system) < 0 || (uint32_t)system.f_type != TMPFS_MAGIC)
		harness_skip("/dev/shm is not a tmpfs");
	if (owner != getpid()) {
		(void)snprintf(directory, sizeof(directory), "/dev/shm/kvpaged-test-%d-XXXXXX", (int)getpid());
		assert_non_null(mkdtemp(directory));
		owner = getpid();
		assert_int_equal(atexit(remove_all), 0);
	}
	(void)snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}
