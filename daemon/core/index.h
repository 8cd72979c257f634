/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared index: key hash -> block number. The daemon's one thread writes; clients probe it at the same time
 * by the rules of proto/layout.h. Entries never move, so a reader can miss only what is being inserted or
 * removed right then.
 */
#pragma once

#include "daemon/core/arena.h"

#include <stdbool.h>
#include <stdint.h>

/* Empties an index that another process left, in whatever state; readers meanwhile see misses. */
void index_clear(struct arena *arena);

/* The index always has room: it has twice as many entries as there are blocks. The hash must not be in it for
 * this key. */
void index_insert(struct arena *arena, uint64_t hash, uint32_t block);

/* The entry must be there. */
void index_remove(struct arena *arena, uint64_t hash, uint32_t block);

/* The live block of this space and key, or 0. */
uint32_t index_find(const struct arena *arena, uint64_t hash, uint32_t space_id, const void *key,
		    size_t key_bytes);

/* The live block of this space whose key has this hash, or 0; for parents, which are kept as hashes. */
uint32_t index_find_hash(const struct arena *arena, uint64_t hash, uint32_t space_id);
