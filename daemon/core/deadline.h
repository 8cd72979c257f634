/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Things that end by time: an intrusive binary heap of deadlines. A deadline is embedded in what it ends, armed
 * at most once at a time, and calls its expire function, unarmed, when core_tick() finds it due. Times are
 * monotonic nanoseconds.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct core;

struct deadline {
	uint64_t when_ns;
	uint32_t place; /* in the heap + 1; 0: not armed */
	void (*expire)(struct core *core, struct deadline *deadline);
};

struct deadline_heap {
	struct deadline **heap;
	uint32_t n;
	uint32_t capacity;
};

void deadline_heap_deinit(struct deadline_heap *heap);

/* Arms, or moves an armed one. Results: 0, -ENOMEM (then its state is as before). expire must be set. */
int deadline_arm(struct deadline_heap *heap, struct deadline *deadline, uint64_t when_ns);

/* Not armed is fine. */
void deadline_disarm(struct deadline_heap *heap, struct deadline *deadline);

static inline bool deadline_armed(const struct deadline *deadline)
{
	return deadline->place != 0;
}

/* The next one due at now_ns, disarmed, or NULL. */
struct deadline *deadline_pop_due(struct deadline_heap *heap, uint64_t now_ns);

/* When the first is due; UINT64_MAX: none is armed. */
uint64_t deadline_next_ns(const struct deadline_heap *heap);
