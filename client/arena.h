/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's arena, mapped read-only. It is verified before it is mapped (seals and size, so that no later access
 * can fault; a file, which cannot be sealed, must be private to the user whom the daemon is) and once after (every
 * offset and count of the header lies inside); later code trusts struct arena_layout alone and never reads the
 * header's offsets again.
 *
 * A mapping is counted: the connection holds it, and so does every pinned block, so pinned bytes outlive the
 * connection. The count is guarded by the client's lock; over is set by the thread that ends the session and
 * read by all.
 */
#pragma once

#include "proto/layout.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct words;

/* What the header said, checked. */
struct arena_layout {
	const uint8_t *base;
	uint64_t bytes;
	uint64_t incarnation;
	uint64_t hash_seed;
	const struct kvp_bucket *buckets;
	uint32_t buckets_count; /* a power of two */
	const struct kvp_block *blocks;
	uint32_t blocks_count;
	const struct kvp_counters *counters; /* NULL: a list of counters that this library does not know */
	const struct kvp_space_entry *spaces;
	uint32_t spaces_count;
	uint64_t extents_offset; /* page maps and pages lie from here to the end */
};

struct arena {
	unsigned refs;
	_Atomic bool over; /* the session ended, and every lease with it */
	struct arena_layout layout;
};

/*
 * Reads the header of arena memory of this size, aligned to 64 bytes at least. Returns NULL and the layout,
 * or static text that says what is wrong.
 */
const char *arena_layout_read(const void *base, uint64_t bytes, struct arena_layout *ret_layout);

/*
 * Verifies and maps the arena behind fd, which stays the caller's. bytes and incarnation are what the daemon
 * announced, daemon_uid is the kernel's word for whose socket it is. Results: 0 and a mapping with one reference;
 * -EPROTO (not such an arena; words say why); -ENOMEM and other errors of mmap().
 */
int arena_map(int fd, uint64_t bytes, uint64_t incarnation, uid_t daemon_uid, struct words *words,
	      struct arena **ret_arena);

struct arena *arena_ref(struct arena *arena);

/* NULL is fine. Unmaps with the last reference. Returns NULL. */
struct arena *arena_unref(struct arena *arena);

/* The session that leased blocks of this arena has ended. NULL is fine. */
void arena_end_session(struct arena *arena);

/*
 * Whether what was leased in this arena may still be leased: the session stands and no other daemon process
 * took over.
 */
static inline bool arena_session_stands(const struct arena *arena)
{
	const struct kvp_arena_header *header = (const void *)arena->layout.base;

	return !atomic_load_explicit(&arena->over, memory_order_acquire) &&
	       atomic_load_explicit(&header->incarnation, memory_order_acquire) == arena->layout.incarnation;
}
