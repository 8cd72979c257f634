/* SPDX-License-Identifier: Apache-2.0 */
/* Chained hashing in tables that never grow: what they may hold at most is known when they are made. */
#include "daemon/tier/index.h"

#include "base/checked.h"
#include "base/contract.h"
#include "proto/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int tier_index_init(struct tier_index *index, uint32_t entries_max, uint64_t seed)
{
	uint64_t buckets = 1;

	while (buckets < entries_max)
		buckets *= 2;
	*index = (struct tier_index){ .entries_max = entries_max, .mask = (uint32_t)(buckets - 1), .seed = seed };
	for (unsigned i = 0; i < TIER_SPACE_BUCKETS; i++)
		list_init(&index->spaces[i]);
	index->by_key = calloc(buckets, sizeof(*index->by_key));
	index->by_parent = calloc(buckets, sizeof(*index->by_parent));
	if (index->by_key && index->by_parent)
		return 0;
	tier_index_deinit(index);
	return -ENOMEM;
}

void tier_index_deinit(struct tier_index *index)
{
	for (uint64_t i = 0; index->by_key && i <= index->mask; i++)
		while (index->by_key[i])
			tier_index_remove(index, index->by_key[i]);
	free(index->by_key);
	free(index->by_parent);
	index->by_key = NULL;
	index->by_parent = NULL;
}

static uint32_t key_hash(const struct tier_index *index, const struct tier_space *space, const void *key, size_t n)
{
	uint64_t mix;

	memcpy(&mix, space->digest, sizeof(mix));
	return (uint32_t)kvp_key_hash(index->seed ^ mix, 0, key, n);
}

static const uint8_t *key_of(const struct tier_entry *entry)
{
	return (const uint8_t *)(entry->checksums + entry->page_count);
}

static const uint8_t *parent_of(const struct tier_entry *entry)
{
	return key_of(entry) + entry->key_bytes;
}

struct tier_log_space *tier_index_space(const struct tier_index *index, const struct tier_space *space)
{
	const struct list *bucket = &index->spaces[space->digest[0] % TIER_SPACE_BUCKETS];

	list_for_each(node, bucket) {
		struct tier_log_space *found = list_entry(node, struct tier_log_space, link);

		if (memcmp(&found->name, space, sizeof(*space)) == 0)
			return found;
	}
	return NULL;
}

static struct tier_log_space *space_make(struct tier_index *index, const struct tier_space *name)
{
	struct tier_log_space *space;

	if (index->spaces_n >= TIER_SPACES_MAX)
		return NULL;
	space = calloc(1, sizeof(*space));
	if (!space)
		return NULL;
	space->name = *name;
	list_init(&space->entries);
	list_push_back(&index->spaces[name->digest[0] % TIER_SPACE_BUCKETS], &space->link);
	index->spaces_n++;
	return space;
}

static void space_unref(struct tier_index *index, struct tier_log_space *space)
{
	kvp_assert(space->refs > 0);
	if (--space->refs > 0)
		return;
	list_unlink(&space->link);
	index->spaces_n--;
	free(space);
}

void tier_index_detach(struct tier_index *index, struct tier_log_space *space)
{
	list_unlink(&space->link);
	space->detached = true;
}

struct tier_entry *tier_index_find(const struct tier_index *index, const struct tier_space *name, struct block_key key)
{
	const struct tier_log_space *space = tier_index_space(index, name);
	uint32_t hash;

	if (!space)
		return NULL;
	hash = key_hash(index, name, key.bytes, key.n);
	for (struct tier_entry *entry = index->by_key[hash & index->mask]; entry; entry = entry->next)
		if (entry->hash == hash && entry->space == space && entry->key_bytes == key.n &&
		    memcmp(key_of(entry), key.bytes, key.n) == 0)
			return entry;
	return NULL;
}

static void keys_take(struct tier_index *index, struct tier_entry *entry, const struct tier_block *block)
{
	uint8_t *key = (uint8_t *)(entry->checksums + entry->page_count);

	entry->key_bytes = (uint8_t)block->key.n;
	entry->parent_bytes = (uint8_t)block->parent.n;
	if (block->key.n > 0)
		memcpy(key, block->key.bytes, block->key.n);
	if (block->parent.n > 0)
		memcpy(key + block->key.n, block->parent.bytes, block->parent.n);
	entry->hash = key_hash(index, &block->space, key, block->key.n);
	if (block->parent.n > 0)
		entry->parent_hash = key_hash(index, &block->space, parent_of(entry), block->parent.n);
}

struct tier_entry *tier_entry_new(struct tier_index *index, const struct tier_block *block)
{
	struct tier_log_space *space = tier_index_space(index, &block->space);
	struct tier_entry *entry = calloc(1, sizeof(*entry) + 8u * (size_t)block->page_count + block->key.n +
						     block->parent.n);

	if (entry && !space)
		space = space_make(index, &block->space);
	if (!entry || !space) {
		free(entry);
		return NULL;
	}
	space->refs++;
	entry->space = space;
	entry->refs = 1;
	entry->tokens = block->tokens;
	entry->page_count = block->page_count;
	entry->page_bytes = block->page_bytes;
	list_init(&entry->in_segment);
	list_init(&entry->in_space);
	keys_take(index, entry, block);
	return entry;
}

struct tier_entry *tier_entry_ref(struct tier_entry *entry)
{
	entry->refs++;
	return entry;
}

void tier_entry_unref(struct tier_index *index, struct tier_entry *entry)
{
	kvp_assert(entry->refs > 0);
	if (--entry->refs > 0)
		return;
	kvp_assert(!entry->live);
	space_unref(index, entry->space);
	free(entry);
}

static void by_parent_insert(struct tier_entry **bucket, struct tier_entry *entry)
{
	entry->next_by_parent = *bucket;
	entry->at_by_parent = bucket;
	if (*bucket)
		(*bucket)->at_by_parent = &entry->next_by_parent;
	*bucket = entry;
}

static void by_parent_remove(struct tier_entry *entry)
{
	*entry->at_by_parent = entry->next_by_parent;
	if (entry->next_by_parent)
		entry->next_by_parent->at_by_parent = entry->at_by_parent;
}

void tier_index_insert(struct tier_index *index, struct tier_entry *entry)
{
	struct tier_entry **bucket = &index->by_key[entry->hash & index->mask];

	kvp_assert(!entry->live && entry->key_bytes > 0 && index->entries < index->entries_max);
	kvp_assert(!entry->space->detached);
	entry->next = *bucket;
	*bucket = tier_entry_ref(entry);
	if (entry->parent_bytes > 0)
		by_parent_insert(&index->by_parent[entry->parent_hash & index->mask], entry);
	list_push_back(&entry->space->entries, &entry->in_space);
	entry->live = true;
	index->entries++;
}

void tier_index_remove(struct tier_index *index, struct tier_entry *entry)
{
	struct tier_entry **at = &index->by_key[entry->hash & index->mask];

	kvp_assert(entry->live);
	while (*at != entry)
		at = &(*at)->next;
	*at = entry->next;
	if (entry->parent_bytes > 0)
		by_parent_remove(entry);
	list_unlink(&entry->in_segment);
	list_unlink(&entry->in_space);
	entry->live = false;
	index->entries--;
	tier_entry_unref(index, entry);
}

static bool child_is(const struct tier_entry *child, const struct tier_entry *entry)
{
	return child->parent_hash == entry->hash && child->space == entry->space &&
	       child->parent_bytes == entry->key_bytes &&
	       memcmp(parent_of(child), key_of(entry), entry->key_bytes) == 0;
}

struct tier_entry *tier_index_child(const struct tier_index *index, const struct tier_entry *entry)
{
	if (entry->key_bytes == 0) {
		struct list *first = list_first(&entry->space->entries);

		return first ? list_entry(first, struct tier_entry, in_space) : NULL;
	}
	for (struct tier_entry *child = index->by_parent[entry->hash & index->mask]; child;
	     child = child->next_by_parent)
		if (child_is(child, entry))
			return child;
	return NULL;
}

void tier_entry_describe(const struct tier_entry *entry, enum tier_kind kind, struct tier_item *ret_item)
{
	*ret_item = (struct tier_item){
		.kind = kind,
		.offset = kind == TIER_BLOCK ? tier_entry_offset(entry) : 0,
		.block = {
			.space = entry->space->name,
			.key = { key_of(entry), entry->key_bytes },
			.tokens = entry->tokens,
		},
	};
	if (kind == TIER_REMOVALS)
		return;
	ret_item->checksums = entry->checksums;
	ret_item->block.parent = (struct block_key){ parent_of(entry), entry->parent_bytes };
	ret_item->block.page_count = entry->page_count;
	ret_item->block.page_bytes = entry->page_bytes;
	ret_item->block.slot_bytes = (uint32_t)align_up_u64(entry->page_bytes, KVP_SLOT_ALIGN);
}
