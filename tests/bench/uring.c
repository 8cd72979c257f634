/* SPDX-License-Identifier: Apache-2.0 */
/* Asks the tier's own code, which tries and falls back; see uring.h. */
#include "tests/bench/uring.h"

#include "base/units.h"
#include "daemon/host/disk-open.h"

#include <string.h>
#include <unistd.h>

bool uring_there(const char *directory)
{
	struct disk_options options = { .directory = directory, .file_bytes = MIB, .files_max = 1, .depth = 1 };
	struct host_error error;
	struct disk *disk;
	struct log log;
	uv_loop_t loop;
	bool there = false;

	if (uv_loop_init(&loop) < 0)
		return false;
	log_init(&log, STDERR_FILENO, LOG_LEVEL_WARNING);
	options.loop = &loop;
	options.log = &log;
	if (disk_open(&options, &disk, &error) == 0) {
		there = strcmp(disk->ops->engine, "io_uring") == 0;
		disk_close(disk);
	}
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	(void)uv_loop_close(&loop);
	return there;
}
