/* SPDX-License-Identifier: Apache-2.0 */
/* A binary heap of pointers; every deadline knows its place, so that it can be moved and removed. */
#include "daemon/core/deadline.h"

#include "base/contract.h"

#include <errno.h>
#include <stdlib.h>

void deadline_heap_deinit(struct deadline_heap *heap)
{
	kvp_assert(heap->n == 0);
	free(heap->heap);
	*heap = (struct deadline_heap){ 0 };
}

static void put(struct deadline_heap *heap, uint32_t at, struct deadline *deadline)
{
	heap->heap[at] = deadline;
	deadline->place = at + 1;
}

static void sift_up(struct deadline_heap *heap, uint32_t at)
{
	struct deadline *deadline = heap->heap[at];

	while (at > 0 && deadline->when_ns < heap->heap[(at - 1) / 2]->when_ns) {
		put(heap, at, heap->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	put(heap, at, deadline);
}

static void sift_down(struct deadline_heap *heap, uint32_t at)
{
	struct deadline *deadline = heap->heap[at];

	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child >= heap->n)
			break;
		if (child + 1 < heap->n && heap->heap[child + 1]->when_ns < heap->heap[child]->when_ns)
			child++;
		if (heap->heap[child]->when_ns >= deadline->when_ns)
			break;
		put(heap, at, heap->heap[child]);
		at = child;
	}
	put(heap, at, deadline);
}

int deadline_arm(struct deadline_heap *heap, struct deadline *deadline, uint64_t when_ns)
{
	kvp_assert(deadline->expire);
	if (!deadline_armed(deadline)) {
		if (heap->n == heap->capacity) {
			uint32_t capacity = heap->capacity ? heap->capacity * 2 : 64;
			struct deadline **grown = realloc(heap->heap, capacity * sizeof(struct deadline *));

			if (!grown)
				return -ENOMEM;
			heap->heap = grown;
			heap->capacity = capacity;
		}
		put(heap, heap->n, deadline);
		heap->n++;
	}
	deadline->when_ns = when_ns;
	sift_up(heap, deadline->place - 1);
	sift_down(heap, deadline->place - 1);
	return 0;
}

void deadline_disarm(struct deadline_heap *heap, struct deadline *deadline)
{
	uint32_t at = deadline->place - 1;
	struct deadline *last;

	if (!deadline_armed(deadline))
		return;
	kvp_assert(at < heap->n && heap->heap[at] == deadline);
	heap->n--;
	last = heap->heap[heap->n];
	deadline->place = 0;
	if (last == deadline)
		return;
	put(heap, at, last);
	sift_up(heap, at);
	sift_down(heap, last->place - 1);
}

struct deadline *deadline_pop_due(struct deadline_heap *heap, uint64_t now_ns)
{
	struct deadline *first = heap->n > 0 ? heap->heap[0] : NULL;

	if (!first || first->when_ns > now_ns)
		return NULL;
	deadline_disarm(heap, first);
	return first;
}

uint64_t deadline_next_ns(const struct deadline_heap *heap)
{
	return heap->n > 0 ? heap->heap[0]->when_ns : UINT64_MAX;
}
