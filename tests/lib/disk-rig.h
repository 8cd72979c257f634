/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk of the host (daemon/host/disk-open.h) with a loop and an arena of its own, in the running test's directory.
 * Calls that fail end the test.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/host/disk-open.h"

#define DISK_RIG_ARENA_BYTES (4u << 20)
#define DISK_RIG_FILE_BYTES (8u << 20)
#define DISK_RIG_FILES 8

struct disk_rig {
	uv_loop_t loop;
	struct log log;
	int log_fd;
	char directory[128]; /* the disk's */
	struct disk_options options;
	struct disk *disk; /* NULL: not open */
	uint8_t *arena;
	uint8_t *foreign; /* as large, unknown to the disk */
	struct host_error error;
};

/* Before harness_run(): libuv opens a pipe for the process with its first loop, which no test then leaves behind. */
void disk_rig_warm(void);

/* Everything but the disk; rig->options can then be changed. */
void disk_rig_init(struct disk_rig *rig, enum disk_engine_choice engine);

/* Results: of disk_open(). */
int disk_rig_try(struct disk_rig *rig);
void disk_rig_open(struct disk_rig *rig);

/* Submits one and waits for it. Its result. */
int disk_rig_do(struct disk_rig *rig, enum disk_verb verb, uint32_t file, uint64_t offset, void *memory,
		uint32_t bytes);

/* The same for what must succeed. */
void disk_rig_must(struct disk_rig *rig, enum disk_verb verb, uint32_t file, uint64_t offset, void *memory,
		   uint32_t bytes);

/* Closes the disk and lets its handles end. */
void disk_rig_close(struct disk_rig *rig);

/* All of it; no handle may be left. */
void disk_rig_deinit(struct disk_rig *rig);

/* How often text stands in the log. */
unsigned disk_rig_logged(struct disk_rig *rig, const char *text);

/* The path of the file from outside; static text. */
const char *disk_rig_path(const struct disk_rig *rig, uint32_t file);

/* Fills memory with what belongs to (file, offset) under a seed; whether it is that. Multiples of 8 bytes. */
void disk_rig_fill(void *memory, uint32_t bytes, uint32_t file, uint64_t offset, uint64_t seed);
bool disk_rig_holds(const void *memory, uint32_t bytes, uint32_t file, uint64_t offset, uint64_t seed);
