/* SPDX-License-Identifier: Apache-2.0 */
/* The regions in order, then extents from the next 2 MiB boundary on, so that huge pages and extents coincide. */
#include "daemon/core/arena.h"

#include "base/checked.h"
#include "base/contract.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BITMAP_WORDS (KVP_EXTENT_BYTES / KVP_SLOT_ALIGN / 64)

static uint32_t buckets_for(uint32_t blocks_count)
{
	uint32_t buckets = 1;

	/* At most half of the entries in use: probes stay within one bucket but for a few in a thousand. */
	while ((uint64_t)buckets * KVP_BUCKET_ENTRIES < 2 * (uint64_t)blocks_count)
		buckets *= 2;
	return buckets;
}

static void regions_lay(struct kvp_arena_header *header, uint64_t bytes, uint32_t blocks_max)
{
	uint64_t at = KVP_HEADER_BYTES;

	header->counters_offset = at;
	header->counters_count = KVP_COUNTERS;
	at += KVP_COUNTERS_ROOM;
	header->spaces_offset = at;
	header->spaces_count = KVP_SPACES_MAX;
	at += (uint64_t)header->spaces_count * sizeof(struct kvp_space_entry);
	header->index_offset = at;
	header->buckets_count = buckets_for(blocks_max);
	at += (uint64_t)header->buckets_count * sizeof(struct kvp_bucket);
	header->blocks_offset = at;
	header->blocks_count = blocks_max;
	at += (uint64_t)blocks_max * sizeof(struct kvp_block);
	header->extents_offset = align_up_u64(at, KVP_EXTENT_BYTES);
	if (header->extents_offset < bytes)
		header->extents_count = (uint32_t)((bytes - header->extents_offset) / KVP_EXTENT_BYTES);
}

static void regions_map(struct arena *arena)
{
	const struct kvp_arena_header *header = arena->header;

	arena->counters = arena_at(arena, header->counters_offset);
	arena->spaces = arena_at(arena, header->spaces_offset);
	arena->buckets = arena_at(arena, header->index_offset);
	arena->bucket_mask = header->buckets_count - 1;
	arena->blocks = arena_at(arena, header->blocks_offset);
	arena->blocks_count = header->blocks_count;
	arena->extents_offset = header->extents_offset;
	arena->extents_count = header->extents_count;
}

static int extents_init(struct arena *arena)
{
	arena->extents = calloc(arena->extents_count, sizeof(*arena->extents));
	arena->bitmaps = calloc(arena->extents_count, BITMAP_WORDS * sizeof(uint64_t));
	if (!arena->extents || !arena->bitmaps)
		return -ENOMEM;
	for (uint32_t i = 0; i < arena->extents_count; i++) {
		arena->extents[i].bitmap = arena->bitmaps + i * BITMAP_WORDS;
		list_push_back(&arena->free_extents, &arena->extents[i].link);
	}
	arena->extents_free = arena->extents_count;
	arena->extents_limit = arena->extents_count;
	return 0;
}

/* The header of an arena of this size but what differs from one to the next. Results: 0, -EINVAL. */
static int header_lay(struct kvp_arena_header *ret_header, uint64_t bytes, uint32_t blocks_max)
{
	struct kvp_arena_header header = {
		.magic = KVP_ARENA_MAGIC,
		.version = KVP_LAYOUT_VERSION,
		.header_bytes = KVP_HEADER_BYTES,
		.arena_bytes = bytes,
	};

	if (bytes < KVP_ARENA_BYTES_MIN || bytes > KVP_ARENA_BYTES_MAX || bytes % KVP_EXTENT_BYTES != 0 ||
	    blocks_max == 0)
		return -EINVAL;
	regions_lay(&header, bytes, blocks_max);
	if (header.extents_count == 0)
		return -EINVAL;
	*ret_header = header;
	return 0;
}

/* The private state of an arena whose header stands. */
static int private_init(struct arena *arena, void *base, uint64_t bytes)
{
	int r;

	*arena = (struct arena){ .base = base, .bytes = bytes, .header = base };
	list_init(&arena->free_extents);
	list_init(&arena->retired_extents);
	for (size_t i = 0; i < ARENA_CLASSES_MAX; i++)
		list_init(&arena->classes[i].partial);
	regions_map(arena);
	r = extents_init(arena);
	if (r < 0)
		arena_deinit(arena);
	return r;
}

int arena_init(struct arena *arena, void *base, uint64_t bytes, uint32_t blocks_max, uint64_t incarnation,
	       uint64_t hash_seed)
{
	struct kvp_arena_header header;
	int r = header_lay(&header, bytes, blocks_max);

	if (r < 0)
		return r;
	header.magic = 0;
	header.incarnation = incarnation;
	header.hash_seed = hash_seed;
	memcpy(base, &header, sizeof(header));
	atomic_thread_fence(memory_order_release);
	((struct kvp_arena_header *)base)->magic = KVP_ARENA_MAGIC;
	return private_init(arena, base, bytes);
}

const char *arena_fault(const void *base, uint64_t bytes, uint32_t blocks_max)
{
	const struct kvp_arena_header *header = base;
	struct kvp_arena_header right;

	if (bytes < KVP_HEADER_BYTES || header_lay(&right, bytes, blocks_max) < 0)
		return "no arena can have this size";
	if (header->magic != right.magic)
		return "it is no arena";
	if (header->version != right.version)
		return "it has another layout version";
	if (header->arena_bytes != right.arena_bytes || header->header_bytes != right.header_bytes)
		return "it has another size";
	if (header->blocks_count != right.blocks_count)
		return "it has tables for another number of blocks";
	if (header->incarnation == 0)
		return "its header names no incarnation";
	/* Counters may have become more, loads may have been under way; everything else is where it would be laid. */
	right.incarnation = header->incarnation;
	right.hash_seed = header->hash_seed;
	right.counters_count = header->counters_count;
	right.loading = header->loading & 1;
	return memcmp(&right, header, sizeof(right)) == 0 ? NULL : "its header is damaged";
}

int arena_adopt(struct arena *arena, void *base, uint64_t bytes, uint32_t blocks_max, uint64_t incarnation)
{
	struct kvp_arena_header *header = base;

	if (arena_fault(base, bytes, blocks_max))
		return -EINVAL;
	/* First of all: whoever reads by the rules of an earlier process can see that it is over. */
	atomic_store_explicit(&header->incarnation, incarnation, memory_order_release);
	atomic_thread_fence(memory_order_seq_cst);
	header->counters_count = KVP_COUNTERS;
	return private_init(arena, base, bytes);
}

void arena_deinit(struct arena *arena)
{
	free(arena->extents);
	free(arena->bitmaps);
	arena->extents = NULL;
	arena->bitmaps = NULL;
}

struct size_class *arena_class_ref(struct arena *arena, uint32_t slot_bytes)
{
	struct size_class *unused = NULL;

	kvp_assert(slot_bytes > 0 && slot_bytes % KVP_SLOT_ALIGN == 0 && slot_bytes <= KVP_EXTENT_BYTES);
	for (size_t i = 0; i < ARENA_CLASSES_MAX; i++) {
		struct size_class *at = &arena->classes[i];

		if (at->slot_bytes == slot_bytes) {
			at->users++;
			return at;
		}
		if (!unused && at->users == 0 && at->extents == 0)
			unused = at;
	}
	if (!unused)
		return NULL;
	unused->slot_bytes = slot_bytes;
	unused->slots_per_extent = (uint32_t)(KVP_EXTENT_BYTES / slot_bytes);
	unused->users = 1;
	return unused;
}

/* Slots in limbo may outlive the last space: the entry is free when its extents are gone too. */
static void class_settle(struct size_class *size_class)
{
	if (size_class->users == 0 && size_class->extents == 0)
		size_class->slot_bytes = 0;
}

void arena_class_unref(struct size_class *size_class)
{
	kvp_assert(size_class->users > 0);
	size_class->users--;
	class_settle(size_class);
}

static uint64_t extent_offset(const struct arena *arena, const struct extent *extent)
{
	return arena->extents_offset + (uint64_t)(extent - arena->extents) * KVP_EXTENT_BYTES;
}

/* What an extent of the class is made of. */
static uint64_t slots_bytes(const struct size_class *size_class)
{
	return (uint64_t)size_class->slots_per_extent * size_class->slot_bytes;
}

static uint64_t tail_bytes(const struct size_class *size_class)
{
	return KVP_EXTENT_BYTES - slots_bytes(size_class);
}

static void extent_give(struct arena *arena, struct size_class *size_class, struct extent *extent)
{
	list_unlink(&extent->link);
	kvp_assert(extent->taken == 0 && !extent->size_class);
	extent->size_class = size_class;
	extent->scan = 0;
	size_class->extents++;
	list_push_back(&size_class->partial, &extent->link);
	arena->extents_free--;
	arena->free_slot_bytes += slots_bytes(size_class);
	arena->tail_bytes += tail_bytes(size_class);
}

/* Gives a free extent to the class. */
static struct extent *extent_assign(struct arena *arena, struct size_class *size_class)
{
	struct list *first = list_first(&arena->free_extents);
	struct extent *extent;

	if (!first || arena_extents_used(arena) >= arena->extents_limit)
		return NULL;
	extent = list_entry(first, struct extent, link);
	extent_give(arena, size_class, extent);
	return extent;
}

static void extent_release(struct arena *arena, struct extent *extent)
{
	struct size_class *size_class = extent->size_class;

	arena->free_slot_bytes -= slots_bytes(size_class);
	arena->tail_bytes -= tail_bytes(size_class);
	list_unlink(&extent->link);
	size_class->stuck -= extent->stuck;
	extent->stuck = false;
	extent->draining = false;
	extent->size_class = NULL;
	list_push_back(&arena->free_extents, &extent->link);
	arena->extents_free++;
	size_class->extents--;
	class_settle(size_class);
}

static uint32_t bitmap_take(struct extent *extent)
{
	uint32_t slots = extent->size_class->slots_per_extent;
	uint32_t words = (slots + 63) / 64;

	for (uint32_t i = 0; i < words; i++) {
		uint32_t word = (extent->scan / 64 + i) % words;
		uint64_t unused = ~extent->bitmap[word];
		uint32_t slot;

		if (unused == 0)
			continue;
		slot = word * 64 + (uint32_t)__builtin_ctzll(unused);
		if (slot >= slots)
			continue;
		extent->bitmap[word] |= UINT64_C(1) << (slot % 64);
		extent->scan = slot;
		return slot;
	}
	kvp_unreachable();
}

/* One more of the extent's slots is taken. */
static void slot_count(struct arena *arena, struct extent *extent)
{
	struct size_class *size_class = extent->size_class;

	extent->taken++;
	if (extent->taken == size_class->slots_per_extent)
		list_unlink(&extent->link);
	size_class->taken++;
	arena->taken_bytes += size_class->slot_bytes;
	arena->free_slot_bytes -= size_class->slot_bytes;
}

uint64_t arena_slot_take(struct arena *arena, struct size_class *size_class)
{
	struct list *first = list_first(&size_class->partial);
	struct extent *extent = first ? list_entry(first, struct extent, link)
				      : extent_assign(arena, size_class);
	uint32_t slot;

	if (!extent)
		return 0;
	slot = bitmap_take(extent);
	slot_count(arena, extent);
	return extent_offset(arena, extent) + (uint64_t)slot * size_class->slot_bytes;
}

bool arena_slot_claim(struct arena *arena, struct size_class *size_class, uint64_t offset)
{
	struct extent *extent;
	uint32_t within, slot;

	if (offset < arena->extents_offset || offset >= arena->bytes)
		return false;
	extent = &arena->extents[(offset - arena->extents_offset) / KVP_EXTENT_BYTES];
	within = (uint32_t)((offset - arena->extents_offset) % KVP_EXTENT_BYTES);
	slot = within / size_class->slot_bytes;
	if (within % size_class->slot_bytes != 0 || slot >= size_class->slots_per_extent)
		return false;
	if (!extent->size_class)
		extent_give(arena, size_class, extent);
	if (extent->size_class != size_class || extent->bitmap[slot / 64] >> (slot % 64) & 1)
		return false;
	extent->bitmap[slot / 64] |= UINT64_C(1) << (slot % 64);
	slot_count(arena, extent);
	return true;
}

static struct extent *extent_there(struct arena *arena, uint64_t offset)
{
	kvp_assert(offset >= arena->extents_offset && offset < arena->bytes);
	return &arena->extents[(offset - arena->extents_offset) / KVP_EXTENT_BYTES];
}

/* The extent that holds this slot; an offset that no slot can have is our own bug, seen before it is used. */
static struct extent *extent_of(struct arena *arena, uint64_t offset)
{
	struct extent *extent = extent_there(arena, offset);

	kvp_assert(extent->taken > 0);
	return extent;
}

struct extent *arena_extent_at(struct arena *arena, uint64_t offset)
{
	return extent_of(arena, offset);
}

uint32_t arena_slot_return(struct arena *arena, uint64_t offset)
{
	struct extent *extent = extent_of(arena, offset);
	struct size_class *size_class = extent->size_class;
	uint32_t slot_bytes = size_class->slot_bytes;
	uint32_t slot = (uint32_t)((offset - arena->extents_offset) % KVP_EXTENT_BYTES) / slot_bytes;
	uint64_t bit = UINT64_C(1) << (slot % 64);

	kvp_assert(extent->bitmap[slot / 64] & bit);
	extent->bitmap[slot / 64] &= ~bit;
	if (extent->taken == size_class->slots_per_extent && !extent->draining)
		list_push_back(&size_class->partial, &extent->link);
	extent->taken--;
	size_class->taken--;
	arena->taken_bytes -= slot_bytes;
	arena->free_slot_bytes += slot_bytes;
	if (extent->taken == 0)
		extent_release(arena, extent);
	return slot_bytes;
}

/* ---- The limit ---- */

uint64_t arena_surplus(struct arena *arena)
{
	struct list *first = list_first(&arena->free_extents);

	if (!first || arena_extents_used(arena) + arena->extents_free <= arena->extents_limit)
		return 0;
	return extent_offset(arena, list_entry(first, struct extent, link));
}

uint64_t arena_shortage(struct arena *arena)
{
	struct list *first = list_first(&arena->retired_extents);

	if (!first || arena_extents_used(arena) + arena->extents_free >= arena->extents_limit)
		return 0;
	return extent_offset(arena, list_entry(first, struct extent, link));
}

void arena_retire(struct arena *arena, uint64_t offset)
{
	struct extent *extent = extent_there(arena, offset);

	kvp_assert(!extent->size_class && !extent->retired);
	extent->retired = true;
	list_unlink(&extent->link);
	list_push_back(&arena->retired_extents, &extent->link);
	arena->extents_free--;
	arena->extents_retired++;
}

void arena_unretire(struct arena *arena, uint64_t offset)
{
	struct extent *extent = extent_there(arena, offset);

	kvp_assert(extent->retired);
	extent->retired = false;
	list_unlink(&extent->link);
	list_push_back(&arena->free_extents, &extent->link);
	arena->extents_retired--;
	arena->extents_free++;
}

/* ---- Draining ---- */

void arena_unstick(struct arena *arena)
{
	for (uint32_t i = 0; i < arena->extents_count; i++)
		arena->extents[i].stuck = false;
	for (size_t i = 0; i < ARENA_CLASSES_MAX; i++)
		arena->classes[i].stuck = 0;
}

void arena_stick(struct extent *extent)
{
	kvp_assert(extent->size_class);
	extent->size_class->stuck += !extent->stuck;
	extent->stuck = true;
}

static uint32_t class_needs(const struct size_class *size_class)
{
	uint32_t full = (uint32_t)div_up_u64(size_class->taken, size_class->slots_per_extent);

	return full > size_class->stuck ? full : size_class->stuck;
}

uint32_t arena_extents_needed(const struct arena *arena)
{
	uint32_t needed = 0;

	for (size_t i = 0; i < ARENA_CLASSES_MAX; i++)
		if (arena->classes[i].extents > 0)
			needed += class_needs(&arena->classes[i]);
	return needed;
}

#define FILLS 64

/* Lists, linked by extent.emptier, of those that could be drained, by how full they are. */
static void drainable_list(struct arena *arena, uint32_t firsts[FILLS])
{
	for (uint32_t i = 0; i < arena->extents_count; i++) {
		struct extent *extent = &arena->extents[i];
		uint32_t fill;

		if (!extent->size_class || extent->stuck)
			continue;
		fill = (uint32_t)((uint64_t)(extent->taken - 1) * FILLS / extent->size_class->slots_per_extent);
		extent->emptier = firsts[fill];
		firsts[fill] = i + 1;
	}
}

uint32_t arena_drain_begin(struct arena *arena, uint32_t most)
{
	uint32_t spare[ARENA_CLASSES_MAX];
	uint32_t firsts[FILLS] = { 0 };
	uint32_t n = 0;

	for (size_t i = 0; i < ARENA_CLASSES_MAX; i++)
		spare[i] = arena->classes[i].extents > 0 ? arena->classes[i].extents - class_needs(&arena->classes[i])
							 : 0;
	drainable_list(arena, firsts);
	for (unsigned fill = 0; fill < FILLS && n < most; fill++) {
		for (uint32_t at = firsts[fill]; at && n < most; at = arena->extents[at - 1].emptier) {
			struct extent *extent = &arena->extents[at - 1];
			uint32_t *left = &spare[extent->size_class - arena->classes];

			if (*left == 0)
				continue;
			(*left)--;
			n++;
			extent->draining = true;
			list_unlink(&extent->link);
		}
	}
	return n;
}

void arena_drain_end(struct arena *arena)
{
	for (uint32_t i = 0; i < arena->extents_count; i++) {
		struct extent *extent = &arena->extents[i];

		if (!extent->draining)
			continue;
		extent->draining = false;
		if (extent->taken < extent->size_class->slots_per_extent)
			list_push_back(&extent->size_class->partial, &extent->link);
	}
}

/* ---- Audit ---- */

static bool classes_audit(const struct arena *arena)
{
	uint64_t slots = 0, bytes = 0;
	uint32_t extents = 0, stuck = 0;

	for (size_t i = 0; i < ARENA_CLASSES_MAX; i++) {
		bytes += arena->classes[i].taken * arena->classes[i].slot_bytes;
		slots += arena->classes[i].taken;
		extents += arena->classes[i].extents;
		stuck += arena->classes[i].stuck;
	}
	for (uint32_t i = 0; i < arena->extents_count; i++) {
		slots -= arena->extents[i].taken;
		stuck -= arena->extents[i].stuck;
	}
	return slots == 0 && stuck == 0 && bytes == arena->taken_bytes && extents == arena_extents_used(arena);
}

bool arena_audit(const struct arena *arena)
{
	uint64_t taken = 0, unused = 0, tails = 0, metadata = arena->extents_offset;
	uint32_t extents_free = 0, extents_retired = 0;

	for (uint32_t i = 0; i < arena->extents_count; i++) {
		const struct extent *extent = &arena->extents[i];
		uint32_t bits = 0;

		for (size_t word = 0; word < BITMAP_WORDS; word++)
			bits += (uint32_t)__builtin_popcountll(extent->bitmap[word]);
		if (bits != extent->taken || (extent->taken == 0) != (extent->size_class == NULL))
			return false;
		if (extent->retired && (extent->size_class || extent->draining))
			return false;
		if (!extent->size_class) {
			extents_free += !extent->retired;
			extents_retired += extent->retired;
			continue;
		}
		taken += (uint64_t)extent->taken * extent->size_class->slot_bytes;
		unused += (uint64_t)(extent->size_class->slots_per_extent - extent->taken) *
			  extent->size_class->slot_bytes;
		tails += tail_bytes(extent->size_class);
	}
	return taken == arena->taken_bytes && unused == arena->free_slot_bytes && tails == arena->tail_bytes &&
	       extents_free == arena->extents_free && extents_retired == arena->extents_retired &&
	       classes_audit(arena) &&
	       metadata + taken + unused + tails + (extents_free + extents_retired) * KVP_EXTENT_BYTES == arena->bytes;
}
