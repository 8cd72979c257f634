/* SPDX-License-Identifier: Apache-2.0 */
/* How much memory this process can hope for. */
#pragma once

#include <stdint.h>

/*
 * The least of physical memory and the memory.max of this process's cgroup (v2) and those above it.
 * UINT64_MAX: unknown.
 */
uint64_t memory_bytes_max(void);

/* Huge pages of 2 MiB that the system has free; 0 also when unknown. */
uint64_t memory_huge_pages_free(void);
