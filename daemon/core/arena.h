/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena's memory: the regions of proto/layout.h, and slots in extents.
 *
 * An extent (2 MiB) is free, or belongs to a size class and is cut into its slots. A class fills one extent
 * before it starts the next; an extent from which slots were freed goes to the end of its class's queue, so old
 * extents run empty as the blocks in them are evicted, and return to the free ones for any class. Which slots
 * are taken is private state: the page maps in shared memory tell the same, from which recover.c rebuilds it.
 *
 * A limit says how many extents may be free or in use. Others are retired: the host has their memory, and they are
 * nobody's until the limit rises. Extents can be drained: no slot of theirs is given out, so that they run empty.
 *
 * Every byte is accounted: arena = metadata + taken slots + free slots + extent tails + free extents + retired ones.
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
	uint32_t stuck;      /* extents among them that are marked as such */
	uint64_t taken;      /* slots */
	struct list partial; /* extents with free slots that are not drained */
};

struct extent {
	struct list link; /* in the free or the retired list, its class's partial list, or alone when full or drained */
	struct size_class *size_class; /* NULL: free or retired */
	uint32_t taken;
	uint32_t scan;      /* where the search for a free slot begins */
	uint32_t emptier;   /* while extents are chosen to be drained: the next of about as many taken slots, + 1 */
	bool retired;
	bool draining;
	bool stuck; /* a slot of it could not be moved when that was last looked at */
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
	uint32_t extents_retired;
	uint32_t extents_limit; /* free or in use, once all is settled */
	struct extent *extents;
	uint64_t *bitmaps;
	struct list free_extents;
	struct list retired_extents;
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

/*
 * Whether memory that another process laid out is an arena of this size and number of blocks, as arena_init() would lay
 * it out. NULL: it is; otherwise static text.
 */
const char *arena_fault(const void *base, uint64_t bytes, uint32_t blocks_max);

/* Takes over an arena without a fault, with nothing of it taken. Results: 0; -EINVAL (a fault); -ENOMEM. */
int arena_adopt(struct arena *arena, void *base, uint64_t bytes, uint32_t blocks_max, uint64_t incarnation);

/* The class for slots of this size, a multiple of KVP_SLOT_ALIGN up to an extent; counts one user. NULL: too
 * many classes. */
struct size_class *arena_class_ref(struct arena *arena, uint32_t slot_bytes);
void arena_class_unref(struct size_class *size_class);

/* A slot: its offset from the arena's start, or 0 (no free slot and no free extent). */
uint64_t arena_slot_take(struct arena *arena, struct size_class *size_class);

/* Takes this slot. Whether it is one of the class and was free; otherwise nothing happens. */
bool arena_slot_claim(struct arena *arena, struct size_class *size_class, uint64_t offset);

/* Gives a slot back; returns its size. */
uint32_t arena_slot_return(struct arena *arena, uint64_t offset);

static inline void *arena_at(const struct arena *arena, uint64_t offset)
{
	return arena->base + offset;
}

static inline uint32_t arena_extents_used(const struct arena *arena)
{
	return arena->extents_count - arena->extents_free - arena->extents_retired;
}

/* What slots may take, as large as the arena is to be. */
static inline uint64_t arena_room_bytes(const struct arena *arena)
{
	return arena->extents_limit * KVP_EXTENT_BYTES;
}

/* What has memory behind it: metadata, and extents that are free or in use. */
static inline uint64_t arena_held_bytes(const struct arena *arena)
{
	return arena->bytes - arena->extents_retired * KVP_EXTENT_BYTES;
}

/* A free extent beyond the limit, or a retired one that it has room for: its offset, or 0. */
uint64_t arena_surplus(struct arena *arena);
uint64_t arena_shortage(struct arena *arena);

/* The extent there, which is free, is retired; or the other way round. */
void arena_retire(struct arena *arena, uint64_t offset);
void arena_unretire(struct arena *arena, uint64_t offset);

/* The extent that holds the slot at this offset. */
struct extent *arena_extent_at(struct arena *arena, uint64_t offset);

/* Forgets what is stuck; marks an extent, which is in use, as stuck. */
void arena_unstick(struct arena *arena);
void arena_stick(struct extent *extent);

/* How few extents could hold what the arena holds if all but the stuck ones' slots were moved. */
uint32_t arena_extents_needed(const struct arena *arena);

/*
 * Begins to drain at most so many extents, the emptiest that are not stuck, and of each class only as many as can run
 * empty. Returns how many. arena_drain_end() makes what did not run empty ordinary again.
 */
uint32_t arena_drain_begin(struct arena *arena, uint32_t most);
void arena_drain_end(struct arena *arena);

/* Whether the private books agree with each other; for audits. */
bool arena_audit(const struct arena *arena);
