/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LRU as a binary heap over (priority, tick of last use). A list would do for touches, but a parent becomes
 * evictable when its last child goes and must then enter at its own age, in the middle: the heap does that in
 * O(log n) as well.
 */
#include "daemon/core/policy.h"

#include "base/contract.h"

#include <stdlib.h>

struct lru {
	struct policy policy;
	struct policy_entry *entries;
	uint32_t capacity;
	uint32_t n;
	uint32_t *heap;
};

static struct lru *lru_of(struct policy *policy)
{
	kvp_assert(policy->ops == &policy_lru);
	return (struct lru *)policy;
}

static const struct lru *lru_of_const(const struct policy *policy)
{
	kvp_assert(policy->ops == &policy_lru);
	return (const struct lru *)policy;
}

static bool before(const struct lru *lru, uint32_t a, uint32_t b)
{
	return policy_before(&lru->entries[a], &lru->entries[b]);
}

static void put(struct lru *lru, uint32_t at, uint32_t block)
{
	lru->heap[at] = block;
	lru->entries[block].place = at;
}

static void sift_up(struct lru *lru, uint32_t at)
{
	uint32_t block = lru->heap[at];

	while (at > 0 && before(lru, block, lru->heap[(at - 1) / 2])) {
		put(lru, at, lru->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	put(lru, at, block);
}

static void sift_down(struct lru *lru, uint32_t at)
{
	uint32_t block = lru->heap[at];

	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child >= lru->n)
			break;
		if (child + 1 < lru->n && before(lru, lru->heap[child + 1], lru->heap[child]))
			child++;
		if (!before(lru, lru->heap[child], block))
			break;
		put(lru, at, lru->heap[child]);
		at = child;
	}
	put(lru, at, block);
}

static struct policy *lru_create(struct policy_entry *entries, uint32_t capacity)
{
	struct lru *lru = calloc(1, sizeof(*lru));

	if (!lru)
		return NULL;
	lru->heap = calloc(capacity, sizeof(*lru->heap));
	if (!lru->heap) {
		free(lru);
		return NULL;
	}
	lru->policy.ops = &policy_lru;
	lru->entries = entries;
	lru->capacity = capacity;
	return &lru->policy;
}

static void lru_destroy(struct policy *policy)
{
	struct lru *lru = lru_of(policy);

	free(lru->heap);
	free(lru);
}

static void lru_insert(struct policy *policy, uint32_t block)
{
	struct lru *lru = lru_of(policy);

	kvp_assert(lru->n < lru->capacity && lru->entries[block].place == POLICY_ABSENT);
	put(lru, lru->n, block);
	lru->n++;
	sift_up(lru, lru->n - 1);
}

static void lru_update(struct policy *policy, uint32_t block)
{
	struct lru *lru = lru_of(policy);

	kvp_assert(lru->entries[block].place < lru->n);
	sift_up(lru, lru->entries[block].place);
	sift_down(lru, lru->entries[block].place);
}

static void lru_remove(struct policy *policy, uint32_t block)
{
	struct lru *lru = lru_of(policy);
	uint32_t at = lru->entries[block].place;
	uint32_t last;

	kvp_assert(at < lru->n && lru->heap[at] == block);
	lru->n--;
	last = lru->heap[lru->n];
	lru->entries[block].place = POLICY_ABSENT;
	if (last == block)
		return;
	put(lru, at, last);
	lru_update(policy, last);
}

static uint32_t lru_victim(const struct policy *policy)
{
	const struct lru *lru = lru_of_const(policy);

	return lru->n > 0 ? lru->heap[0] : 0;
}

static bool lru_audit(const struct policy *policy)
{
	const struct lru *lru = lru_of_const(policy);

	for (uint32_t i = 0; i < lru->n; i++) {
		if (lru->entries[lru->heap[i]].place != i)
			return false;
		if (i > 0 && before(lru, lru->heap[i], lru->heap[(i - 1) / 2]))
			return false;
	}
	return true;
}

const struct policy_ops policy_lru = {
	.name = "lru",
	.create = lru_create,
	.destroy = lru_destroy,
	.insert = lru_insert,
	.remove = lru_remove,
	.update = lru_update,
	.victim = lru_victim,
	.audit = lru_audit,
};
