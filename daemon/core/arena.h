/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena's memory: the regions of proto/layout.h, and slots in extents.
 *
 * An extent (2 MiB) is free, or belongs to a size class and is cut into its slots. A class fills one extent
 * before it starts the next; an extent from which slots were freed goes to the end of its class's queue, so old
 * extents run empty as the blocks in them are evicted, and return to the free ones for any class. Which slots
 * are taken is private state: the page maps in shared memory tell the same, from which it can be rebuilt.
 *
 * Every byte is accounted: arena = metadata + taken slots + free slots + extent tails + free extents.
 */
#pragma once

#include "base/list.h"
#include "proto/layout.h"

#include <stdbool.h>
#include <stdint.h>

#define ARENA_CLASSES_MAX (2 * KVP_SPACES_MAX)

struct size_class {
	uint32_t slot_bytes; /* 0: unused entry */
	uint32_t slots_per_extent;
	uint32_t users;      /* spaces */
	uint32_t extents;    /* that belong to it */
	struct list partial; /* extents with free slots */
};

struct extent {
	struct list link;              /* in the free list, its class's partial list, or alone when full */
	struct size_class *size_class; /* NULL: free */
	uint32_t taken;
	uint32_t scan;    /* where the search for a free slot begins */
	uint64_t *bitmap; /* of taken slots; its words are arena.bitmaps' */
};

struct arena {
	uint8_t *base;
	uint64_t bytes;
	struct kvp_arena_header *header;
	struct kvp_counters *counters;
	struct kvp_space_entry *spaces;
	struct kvp_bucket *buckets;
	uint32_t bucket_mask;
	uint32_t blocks_count;
	struct kvp_block *blocks;
	uint64_t extents_offset;
	uint32_t extents_count;
	uint32_t extents_free;
	struct extent *extents;
	uint64_t *bitmaps;
	struct list free_extents;
	struct size_class classes[ARENA_CLASSES_MAX];
	uint64_t taken_bytes;     /* slots in use */
	uint64_t free_slot_bytes; /* in extents that belong to a class */
	uint64_t tail_bytes;      /* of extents that belong to a class */
};

/*
 * Lays the regions out in base (zeroed, page-aligned) and writes the header. Results: 0; -EINVAL (bytes out of
 * range or not whole extents, or metadata leaves no extent); -ENOMEM. arena_deinit() frees the private state.
 */
int arena_init(struct arena *arena, void *base, uint64_t bytes, uint32_t blocks_max, uint64_t incarnation,
	       uint64_t hash_seed);
void arena_deinit(struct arena *arena);

/* The class for slots of this size, a multiple of KVP_SLOT_ALIGN up to an extent; counts one user. NULL: too
 * many classes. */
struct size_class *arena_class_ref(struct arena *arena, uint32_t slot_bytes);
void arena_class_unref(struct size_class *size_class);

/* A slot: its offset from the arena's start, or 0 (no free slot and no free extent). */
uint64_t arena_slot_take(struct arena *arena, struct size_class *size_class);

/* Gives a slot back; returns its size. */
uint32_t arena_slot_return(struct arena *arena, uint64_t offset);

static inline void *arena_at(const struct arena *arena, uint64_t offset)
{
	return arena->base + offset;
}

/* Whether the private books agree with each other; for audits. */
bool arena_audit(const struct arena *arena);
