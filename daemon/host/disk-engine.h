/* SPDX-License-Identifier: Apache-2.0 */
/* What the engines of disk-open.h share: memory for the tier, the end, and how much is handled in a turn. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/units.h"
#include "daemon/host/disk-files.h"

/* What has ended is told of in portions, between which the loop serves clients. */
#define DISK_PORTION_MAX 64
#define DISK_PORTION_NS (50 * NS_PER_US)

struct disk_portion {
	unsigned n;
	uint64_t until_ns;
};

static inline void disk_portion_begin(struct disk_portion *portion)
{
	*portion = (struct disk_portion){ .until_ns = uv_hrtime() + DISK_PORTION_NS };
}

/* After each one. */
static inline bool disk_portion_over(struct disk_portion *portion)
{
	return ++portion->n >= DISK_PORTION_MAX || uv_hrtime() >= portion->until_ns;
}

#define DISK_BUFFERS_MAX 16

struct disk_buffer {
	void *memory;
	size_t bytes;
};

struct disk_engine;

struct disk_engine_ops {
	/* Memory that the engine shall know as it knows the arena. NULL: it does not care. */
	void (*know)(struct disk_engine *engine, void *memory, size_t bytes);

	/* It need not know that any more; what is under way there ends as it began. NULL: it does not care. */
	void (*unknow)(struct disk_engine *engine, const void *memory);

	/* Waits for what is under way, and lets it be done. What waits goes to engine->cancelled. */
	void (*finish)(struct disk_engine *engine);

	/* Ends handles; calls disk_engine_free() when they have ended. */
	void (*release)(struct disk_engine *engine);
};

/* The beginning of each engine's own struct, which it allocates. */
struct disk_engine {
	struct disk disk;
	const struct disk_engine_ops *ops;
	struct disk_files files;
	struct log *log;
	bool closing;
	struct list cancelled;
	struct disk_buffer buffers[DISK_BUFFERS_MAX];
	unsigned n_buffers;
};

/*
 * Make an engine; disk_engine_init() was not called yet, files are taken over on success only. Results: 0; negative
 * errno, and *ret_step, static text, was refused.
 */
int disk_uring_new(const struct disk_options *options, struct disk_files *files, struct disk_engine **ret_engine,
		   const char **ret_step);
int disk_threads_new(const struct disk_options *options, struct disk_files *files, struct disk_engine **ret_engine,
		     const char **ret_step);

/* Fills in what is common; *files are taken over. */
void disk_engine_init(struct disk_engine *engine, const struct disk_options *options, struct disk_files *files,
		      const struct disk_ops *disk_ops, const struct disk_engine_ops *ops);

/* Whether io is refused because the disk is closing: it then is in the list of what is cancelled. Checks io. */
bool disk_engine_refuses(struct disk_engine *engine, struct disk_io *io);

/* disk_ops.files and disk_ops.buffers, for all engines. */
const uint8_t *disk_engine_files(const struct disk *disk);
void *disk_engine_buffers(struct disk *disk, size_t bytes);

/* Frees the engine, after files and buffers. */
void disk_engine_free(struct disk_engine *engine);

static inline struct disk_engine *disk_engine_of(const struct disk *disk)
{
	return list_entry(disk, struct disk_engine, disk);
}
