/* SPDX-License-Identifier: Apache-2.0 */
/* What any engine of the host's disks must do. */
#pragma once

#include "tests/lib/disk-rig.h"

/* Runs all cases with the engine; skips them where io_uring is meant and the kernel refuses it. What main() returns. */
int disk_cases_run(enum disk_engine_choice engine);

/* The rig with that engine, not open. */
void disk_cases_init(struct disk_rig *rig);

/* Many transfers at once; disk-load.c. */
void test_disk_many(void **state);
void test_disk_order(void **state);
void test_disk_portions(void **state);
void test_disk_late_submit(void **state);
void test_disk_from_done(void **state);
void test_disk_close(void **state);
void test_disk_close_submits(void **state);
void test_disk_close_files(void **state);
