/* SPDX-License-Identifier: Apache-2.0 */
/* The cases of disks, by the engine of its name. */
#include "tests/unit/disk-cases.h"

int main(void)
{
	return disk_cases_run(DISK_ENGINE_IO_URING);
}
