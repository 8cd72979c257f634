/* SPDX-License-Identifier: Apache-2.0 */
/* What an item is to each operation is a function in a table. */
#include "tests/bench/codec-task.h"

#include "tests/bench/measure.h"
#include "tests/bench/peer.h"

#include <string.h>

#define CALIBRATION_NS (2 * NS_PER_MS)

typedef void item_fn(const struct task *task, struct sets *sets, size_t item);

static void item_encode(const struct task *task, struct sets *sets, size_t item)
{
	const size_t bytes = TILE_VALUES * codec_dtype_bytes(task->dtype);

	(void)codec_isa_encode(task->isa, task->codec, task->role, TILE_TOKENS, TILE_CHANNELS,
			       sets->values[task->dtype] + item * bytes, task->dtype, TILE_CHANNELS,
			       sets->out + item * task->item_stored_bytes, NULL);
}

static void item_decode(const struct task *task, struct sets *sets, size_t item)
{
	const size_t bytes = TILE_VALUES * codec_dtype_bytes(task->dtype);

	codec_isa_decode(task->isa, task->codec, task->role, TILE_TOKENS, TILE_CHANNELS,
			 sets->stored + item * task->item_stored_bytes, sets->out + item * bytes,
			 task->dtype, TILE_CHANNELS);
}

/* As codec_attend() does, which knows the next tile as well. */
static void prefetch_next(const struct task *task, const struct sets *sets, size_t item)
{
	const size_t next = item + 1 == task->items ? 0 : item + 1;

	if (task->memory)
		codec_prefetch(task->codec, task->role, TILE_TOKENS, TILE_CHANNELS,
			       sets->stored + next * task->item_stored_bytes);
}

static void item_scores(const struct task *task, struct sets *sets, size_t item)
{
	prefetch_next(task, sets, item);
	codec_isa_scores(task->isa, task->codec, TILE_TOKENS, TILE_CHANNELS,
			 sets->stored + item * task->item_stored_bytes, sets->rows, TILE_CHANNELS,
			 task->n_queries, sets->results, TILE_TOKENS);
}

static void item_accumulate(const struct task *task, struct sets *sets, size_t item)
{
	prefetch_next(task, sets, item);
	codec_isa_accumulate(task->isa, task->codec, TILE_TOKENS, TILE_CHANNELS,
			     sets->stored + item * task->item_stored_bytes, sets->rows, TILE_TOKENS,
			     task->n_queries, sets->results, TILE_CHANNELS);
}

static void item_page_encode(const struct task *task, struct sets *sets, size_t item)
{
	page_encode(task->isa,
		    (const float *)(sets->values[CODEC_DTYPE_F32] + item * PAGE_F32_BYTES),
		    sets->out + item * PAGE_BYTES);
}

static void item_page_decode(const struct task *task, struct sets *sets, size_t item)
{
	page_decode(task->isa, sets->stored + item * PAGE_BYTES,
		    (float *)(sets->out + item * PAGE_F32_BYTES));
}

static void item_f16_dot(const struct task *task, struct sets *sets, size_t item)
{
	peer_f16_dot(sets->stored + item * task->item_stored_bytes, TILE_TOKENS, TILE_CHANNELS,
		     sets->rows, sets->results);
}

static item_fn *const item_fns[] = {
	[TASK_ENCODE] = item_encode,
	[TASK_DECODE] = item_decode,
	[TASK_SCORES] = item_scores,
	[TASK_ACCUMULATE] = item_accumulate,
	[TASK_PAGE_ENCODE] = item_page_encode,
	[TASK_PAGE_DECODE] = item_page_decode,
	[TASK_F16_DOT] = item_f16_dot,
};

bool task_reads(const struct task *task)
{
	return task->op == TASK_SCORES || task->op == TASK_ACCUMULATE || task->op == TASK_F16_DOT;
}

void task_init(struct task *task, const struct sets *sets)
{
	const bool page = task->op == TASK_PAGE_ENCODE || task->op == TASK_PAGE_DECODE;

	task->item_f32_bytes = page ? PAGE_F32_BYTES : TILE_F32_BYTES;
	task->item_stored_bytes = page ? PAGE_BYTES : codec_tile_bytes(task->codec, task->role,
								       TILE_TOKENS, TILE_CHANNELS);
	task->items = 1;
	if (task->memory && task_reads(task))
		task->items = (sets->bytes + task->item_stored_bytes - 1) / task->item_stored_bytes;
	else if (task->memory)
		task->items = sets->bytes / task->item_f32_bytes;
	task->at = 0;
}

/* --- Timing ----------------------------------------------------------------------------------- */

/* n items from task->at on, around the end. */
static uint64_t time_items(const struct task *task, struct sets *sets, size_t n)
{
	item_fn *const run = item_fns[task->op];
	const uint64_t begin = now_ns();
	size_t item = task->at;

	for (size_t i = 0; i < n; i++) {
		run(task, sets, item);
		item = item + 1 == task->items ? 0 : item + 1;
	}
	return now_ns() - begin;
}

/* Where sums go, so that nothing can be left out. */
static volatile uint64_t sink;

/* The neighbour over the items [first, first + n). */
static void neighbour(const struct task *task, struct sets *sets, size_t first, size_t n)
{
	const size_t item_bytes = task_reads(task) ? task->item_stored_bytes : task->item_f32_bytes;
	const size_t at = first * item_bytes;

	if (task_reads(task))
		sink += peer_read(sets->stored + at, n * item_bytes);
	else
		memcpy(sets->out + at, sets->values[CODEC_DTYPE_F32] + at, n * item_bytes);
}

/* The whole set `times` times, each from task->at on, around the end. */
static uint64_t time_neighbour(const struct task *task, struct sets *sets, size_t times)
{
	const uint64_t begin = now_ns();

	for (size_t i = 0; i < times; i++) {
		neighbour(task, sets, task->at, task->items - task->at);
		if (task->at > 0)
			neighbour(task, sets, 0, task->at);
	}
	return now_ns() - begin;
}

typedef uint64_t time_fn(const struct task *task, struct sets *sets, size_t n);

/* How many fit into `turn_ns`: at least 1, at most `most`. */
static size_t count_fitting(const struct task *task, struct sets *sets, time_fn *time,
			    uint64_t turn_ns, size_t most)
{
	size_t n = 1;
	uint64_t ns = time(task, sets, n);
	double fitting;

	while (ns < CALIBRATION_NS && n < most) {
		n = 2 * n < most ? 2 * n : most;
		ns = time(task, sets, n);
	}
	fitting = (double)turn_ns / (double)(ns > 0 ? ns : 1) * (double)n;
	return fitting < 1 ? 1 : fitting > (double)most ? most : (size_t)fitting;
}

void task_calibrate(struct task *task, struct sets *sets)
{
	task->turn = task->memory ? count_fitting(task, sets, time_items, TURN_MEMORY_NS, task->items) :
				    count_fitting(task, sets, time_items, TURN_CACHE_NS, SIZE_MAX / 2);
	task->reference_turn =
		task->memory ? 1 :
			       count_fitting(task, sets, time_neighbour, TURN_CACHE_NS, SIZE_MAX / 2);
}

void task_round(struct task *task, struct sets *sets, size_t round)
{
	const double reference_items = (double)task->reference_turn * (double)task->items;
	uint64_t ns = time_neighbour(task, sets, task->reference_turn);

	task->reference[round] = (double)ns / 1e9 / reference_items;
	ns = time_items(task, sets, task->turn);
	task->seconds[round] = (double)(ns > 0 ? ns : 1) / 1e9 / (double)task->turn;
	task->at = (task->at + task->turn) % task->items;
}
