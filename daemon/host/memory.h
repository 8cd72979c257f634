/* SPDX-License-Identifier: Apache-2.0 */
/* How much memory this process can hope for. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * The least of physical memory and the memory.max of this process's cgroup (v2) and those above it.
 * UINT64_MAX: unknown.
 */
uint64_t memory_bytes_max(void);

/*
 * The path of this file of our own cgroup (v2), for reading or writing; it may not exist. NULL: there is no such group,
 * or it is the root, which has no such files. Returns buffer.
 */
char *memory_cgroup_file(const char *name, char *buffer, size_t size);

/* Huge pages of 2 MiB that the system has free; 0 also when unknown. */
uint64_t memory_huge_pages_free(void);
