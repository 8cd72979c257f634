/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thing that kvbench codec times, and the neighbour that it is timed against.
 *
 * A task walks over the items (tiles, or pages) of a set. Of a cache-resident set, which is one
 * item, a round takes that item again and again for about TURN_CACHE_NS. Of a memory-resident set a
 * round takes all items, or, of a slow kernel, as many as take TURN_MEMORY_NS; the next round goes
 * on behind them, so that what a round touches has long left the cache. The neighbour, a memcpy of
 * the items' f32 values or a read of their stored bytes, is timed just before: of a memory-resident
 * set always all of it, from where the task goes on, once around.
 */
#pragma once

#include "tests/bench/codec-sets.h"

#define TURN_CACHE_NS (1 * NS_PER_MS)
#define TURN_MEMORY_NS (50 * NS_PER_MS)

enum task_op {
	TASK_ENCODE,
	TASK_DECODE,
	TASK_SCORES,
	TASK_ACCUMULATE,
	TASK_PAGE_ENCODE,
	TASK_PAGE_DECODE,
	TASK_F16_DOT, /* no kernel of ours: what attention on plain f16 takes */
};

struct task {
	char name[64];
	enum task_op op;
	const struct codec_isa *isa;
	enum codec_id codec;
	enum codec_role role;
	enum codec_dtype dtype; /* of values outside tiles */
	uint32_t n_queries;	/* of scores and accumulate */
	const struct task *first; /* the same with one query; NULL: this is no task of several */
	bool memory;

	/* task_init() and task_calibrate() */
	size_t items;
	size_t item_f32_bytes;
	size_t item_stored_bytes;
	size_t turn; /* items a round; of a cache-resident set: times */
	size_t reference_turn;
	size_t at; /* the next item */

	/* By round, seconds an item. */
	double *seconds;
	double *reference;
};

/* Whether the task is held against reading the stored bytes, not against copying the values. */
bool task_reads(const struct task *task);

/* Sizes of the items, from the fields before. */
void task_init(struct task *task, const struct sets *sets);

/* Finds out how much fits a round, which also warms up. */
void task_calibrate(struct task *task, struct sets *sets);

/* Times the neighbour and the task. */
void task_round(struct task *task, struct sets *sets, size_t round);
