/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tier holds, in RAM: an entry a block, found by (space, key), and by (space, parent's key) so that
 * descendants can be found. An entry is one piece of memory, as large as its keys and checksums need:
 * TIER_ENTRY_BYTES, 8 bytes a page, and both keys. The two tables take 16 bytes for each block that there may be.
 *
 * An entry in the index is live. Others may hold it longer (a load, a store, a footer being written): it is freed
 * with the last of them.
 */
#pragma once

#include "base/list.h"
#include "daemon/core/tier.h"
#include "daemon/tier/record.h"

#include <stdbool.h>
#include <stdint.h>

#define TIER_SPACE_BUCKETS 256
#define TIER_SPACES_MAX 4096 /* with blocks: more than KVP_SPACES_MAX, since spaces of earlier days count */

struct tier_store;

/*
 * A space that has entries. After its removal it is detached: it cannot be found any more, nor can its entries, which
 * are freed in slices.
 */
struct tier_log_space {
	struct list link;
	struct list entries;
	struct tier_space name;
	uint32_t refs; /* one an entry */
	bool detached;
};

struct tier_entry {
	struct tier_entry *next; /* in the bucket of its key */
	struct tier_entry *next_by_parent;
	struct tier_entry **at_by_parent; /* what points at it: a parent may have very many children */
	struct list in_segment;
	struct list in_space;
	struct tier_log_space *space;
	struct tier_store *store; /* that is writing it; NULL: it is written */
	uint32_t hash;
	uint32_t parent_hash; /* valid if it has a parent */
	uint32_t segment;
	uint32_t place; /* of its record, in units of TIER_ALIGN */
	uint32_t refs;
	uint32_t tokens;
	uint32_t page_count;
	uint32_t page_bytes;
	uint8_t key_bytes;
	uint8_t parent_bytes;
	bool live;
	bool loaded; /* since it was written */
	uint64_t checksums[]; /* then the key and the parent's key */
};

#define TIER_ENTRY_BYTES sizeof(struct tier_entry)

struct tier_index {
	struct tier_entry **by_key;
	struct tier_entry **by_parent;
	uint32_t mask;
	uint32_t entries; /* live */
	uint32_t entries_max;
	uint32_t spaces_n;
	uint64_t seed;
	struct list spaces[TIER_SPACE_BUCKETS];
};

/* Results: 0, -ENOMEM. */
int tier_index_init(struct tier_index *index, uint32_t entries_max, uint64_t seed);

/* Frees all that is live; what others hold they free. */
void tier_index_deinit(struct tier_index *index);

struct tier_entry *tier_index_find(const struct tier_index *index, const struct tier_space *space,
				   struct block_key key);

struct tier_log_space *tier_index_space(const struct tier_index *index, const struct tier_space *space);

/* Makes an entry that is not in the index yet, held once by the caller. NULL: no memory, or too many spaces. */
struct tier_entry *tier_entry_new(struct tier_index *index, const struct tier_block *block);

struct tier_entry *tier_entry_ref(struct tier_entry *entry);
void tier_entry_unref(struct tier_index *index, struct tier_entry *entry);

/* Its key must not be in the index, and there must be room. The index holds it from now on. */
void tier_index_insert(struct tier_index *index, struct tier_entry *entry);

/* It is not live afterwards, and in no list. */
void tier_index_remove(struct tier_index *index, struct tier_entry *entry);

/* A live child of an entry, live or not; for one without a key: of its whole space. NULL: there is none (any more). */
struct tier_entry *tier_index_child(const struct tier_index *index, const struct tier_entry *entry);

/* From now on neither the space nor its entries are found. */
void tier_index_detach(struct tier_index *index, struct tier_log_space *space);

/* As it would be written. Pointers lead into the entry. */
void tier_entry_describe(const struct tier_entry *entry, enum tier_kind kind, struct tier_item *ret_item);

static inline uint64_t tier_entry_offset(const struct tier_entry *entry)
{
	return (uint64_t)entry->place * TIER_ALIGN;
}
