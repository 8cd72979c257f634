/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk in RAM. Transfers end when the test says so, in order or not, and fail when it says so. A write changes the
 * file when it ends; one that fails or is under way when the power goes may have changed a part of it.
 */
#pragma once

#include "daemon/tier/disk.h"

#include <stdbool.h>

struct disk_memory_file {
	uint8_t *bytes; /* NULL: it does not exist */
	bool open;
};

/* Which transfers fail. Those of a verb in verbs are counted. */
struct disk_memory_fault {
	unsigned verbs; /* bits of 1 << enum disk_verb */
	uint64_t first; /* 1..: the first to fail; 0: none */
	uint64_t n;     /* how many in a row */
	int result;
	bool half; /* a write leaves half of its bytes behind */
};

struct disk_memory {
	struct disk disk;
	struct disk_memory_file *files;
	uint8_t *existed;
	unsigned depth;
	struct list queue;
	uint32_t queued;
	uint64_t seed; /* 0: in order */
	uint64_t now_ns;
	uint64_t ns_per_byte_q10; /* of a transfer, times 1024 */
	uint64_t ns_per_transfer;
	struct disk_memory_fault fault;
	uint64_t counted;   /* transfers of the fault's verbs */
	uint64_t completed; /* all transfers */
	uint64_t removed;   /* files */
	uint64_t files_possible; /* creating more fails with ENOSPC */
	struct list buffers;
	bool closed; /* all that is under way ends with -ECANCELED, also what is submitted from now on */
};

void disk_memory_init(struct disk_memory *disk, uint64_t file_bytes, uint32_t files_max, unsigned depth);
void disk_memory_deinit(struct disk_memory *disk);

/* Ends one transfer. False: none is under way. */
bool disk_memory_step(struct disk_memory *disk);

/* Power or process gone: nothing that is under way ends. torn: writes may have been done in part. */
void disk_memory_crash(struct disk_memory *disk, bool torn);

/* The same, but what is under way stays so: close the disk, and it ends in vain. */
void disk_memory_tear(struct disk_memory *disk, bool torn);

/* Opened again by the next process. */
void disk_memory_reopen(struct disk_memory *disk);

void disk_memory_file_remove(struct disk_memory *disk, uint32_t file);
uint64_t disk_memory_random(uint64_t *seed);
