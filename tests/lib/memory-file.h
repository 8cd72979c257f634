/* SPDX-License-Identifier: Apache-2.0 */
/* Names for files in memory (tmpfs), for a daemon's arena. */
#pragma once

/*
 * A path on tmpfs in a directory of this process, which is removed with what is in it when the process ends in order.
 * Skips the test where /dev/shm is no tmpfs. One at a time.
 */
const char *memory_file(const char *name);
