/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which block goes next. One policy instance a space, behind a vtable. The core tells it which blocks can be
 * evicted now (complete, no resident child, no lease) and when they were used; the policy orders them. It never
 * sees others, so what it names as victim may always go: that is how eviction stays prefix-closed and pins
 * hold.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What a policy knows of a block; one array for all, indexed by block number. The core writes priority and
 * used, the policy place. */
struct policy_entry {
	uint64_t used;     /* tick of the last use: a counter, not a clock */
	uint32_t place;    /* POLICY_ABSENT when the policy does not hold it */
	uint32_t priority; /* higher stays longer */
};

#define POLICY_ABSENT UINT32_MAX

struct policy;

struct policy_ops {
	const char *name;
	/* For at most capacity blocks at a time. NULL: out of memory. entries outlive the policy. */
	struct policy *(*create)(struct policy_entry *entries, uint32_t capacity);
	void (*destroy)(struct policy *policy);
	void (*insert)(struct policy *policy, uint32_t block);
	void (*remove)(struct policy *policy, uint32_t block);
	/* used or priority of a block that it holds changed. */
	void (*update)(struct policy *policy, uint32_t block);
	/* The block to go next, or 0. It stays in the policy until removed. */
	uint32_t (*victim)(const struct policy *policy);
	/* Whether its own order holds; for audits. */
	bool (*audit)(const struct policy *policy);
};

struct policy {
	const struct policy_ops *ops;
};

/* Whether a goes before b. Shared so that victims of several policies can be compared. */
static inline bool policy_before(const struct policy_entry *a, const struct policy_entry *b)
{
	return a->priority != b->priority ? a->priority < b->priority : a->used < b->used;
}

/* Least recently used first, lower priorities before higher ones. */
extern const struct policy_ops policy_lru;
