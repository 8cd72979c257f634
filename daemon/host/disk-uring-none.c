/* SPDX-License-Identifier: Apache-2.0 */
/* In place of disk-uring.c in a build without liburing: as if the kernel had refused. */
#include "daemon/host/disk-engine.h"

#include <errno.h>

int disk_uring_new(const struct disk_options *options, struct disk_files *files, struct disk_engine **ret_engine,
		   const char **ret_step)
{
	*ret_step = "this kvpaged is built without it";
	return -ENOSYS;
}
