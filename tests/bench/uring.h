/* SPDX-License-Identifier: Apache-2.0 */
/* Whether there is io_uring to measure. */
#pragma once

#include <stdbool.h>

/* Whether a tier in this directory that may choose takes io_uring. What it leaves there is a file named "lock". */
bool uring_there(const char *directory);
