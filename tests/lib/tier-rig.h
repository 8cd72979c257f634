/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log on a disk in RAM, and a client of it. Blocks have numbers, and versions of their contents: keys, parents, sizes
 * and bytes follow from these. Loads check every byte.
 */
#pragma once

#include "daemon/core/tier.h"
#include "daemon/tier/log.h"
#include "tests/lib/disk-memory.h"

#include <stdbool.h>

#define RIG_SPACES 3
#define RIG_NUMBERS 4096
#define RIG_PAGES_MAX 6

struct tier_rig_store {
	struct list link;
	uint32_t space;
	uint32_t number;
	uint32_t version;
	uint8_t *memory;
};

struct tier_rig_load {
	struct list link;
	uint32_t space;
	uint32_t number;
	uint64_t tag;
	struct tier_block block;
	uint8_t *memory;
	uint32_t wanted;
	uint32_t came;
	uint32_t broken; /* pages whose checksum is wrong */
	int result;      /* the first that is not 0 */
	uint32_t version; /* of the pages that came; 0: none yet */
};

/* What the last load of a block brought. */
struct tier_rig_outcome {
	int result; /* 0; KVP_MISS; negative errno; KVP_CORRUPT: a page had not the checksum that it should have */
	uint32_t version;
};

struct tier_rig {
	struct disk_memory disk;
	struct tier *tier;
	struct tier_log_options options;
	uint64_t now_ns;
	struct disk_memory_fault start_fault; /* the disk's, from the next start on */
	uint32_t remove_at_start; /* of space 0, before it is ready; 0: none */
	struct list stores;
	struct list loads;
	uint32_t stores_n;
	uint32_t loads_n;
	uint32_t hole;        /* before this page of each block there is one in memory that is not of it */
	bool flat;            /* no block has a parent */
	uint32_t page_bytes;  /* 0: they differ */
	uint32_t page_count;  /* 0: likewise */
	bool resident[RIG_SPACES][RIG_NUMBERS];
	uint32_t asked;
	/* Told when a store ends. */
	void (*stored)(struct tier_rig *rig, const struct tier_rig_store *store, int result);
	/* Told when a load ends. */
	void (*loaded)(struct tier_rig *rig, uint32_t space, uint32_t number, uint64_t tag,
		       struct tier_rig_outcome outcome);
	/* Told when it is asked whether a block is resident. */
	void (*asked_for)(struct tier_rig *rig, uint32_t space, uint32_t number);
	uint64_t tag; /* what loads that begin now are told with */
	struct tier_rig_outcome last;
	int last_stored;
};

void tier_rig_init(struct tier_rig *rig, uint64_t segment_bytes, uint32_t segments);
void tier_rig_deinit(struct tier_rig *rig);

/* A new process on the files that there are. Runs until the log is ready. */
void tier_rig_start(struct tier_rig *rig);
/* An orderly end. */
void tier_rig_stop(struct tier_rig *rig);
/* The end of the process at this moment. */
void tier_rig_crash(struct tier_rig *rig, bool torn);

/* One transfer, or one tick that is due. False: there is neither, at this time. */
bool tier_rig_step(struct tier_rig *rig);
/* Until nothing happens any more. */
void tier_rig_run(struct tier_rig *rig);
void tier_rig_wait(struct tier_rig *rig, uint64_t ns);

/* Result of tier_ops.store(). */
int tier_rig_store(struct tier_rig *rig, uint32_t space, uint32_t number, uint32_t version);
/* Result of tier_ops.load(), which goes on then. */
int tier_rig_load_begin(struct tier_rig *rig, uint32_t space, uint32_t number);
/* Loads and runs until it has ended. */
struct tier_rig_outcome tier_rig_load(struct tier_rig *rig, uint32_t space, uint32_t number);
bool tier_rig_find(struct tier_rig *rig, uint32_t space, uint32_t number);
void tier_rig_remove(struct tier_rig *rig, uint32_t space, uint32_t number);
void tier_rig_remove_space(struct tier_rig *rig, uint32_t space);
void tier_rig_forget(struct tier_rig *rig, uint32_t space, uint32_t number);
struct tier_stats tier_rig_stats(const struct tier_rig *rig);

/* 0: it is a root. */
uint32_t tier_rig_parent(const struct tier_rig *rig, uint32_t number);
