/* SPDX-License-Identifier: Apache-2.0 */
/* Verification and mapping of the arena; see arena.h. */
#include "client/arena.h"

#include "base/checked.h"
#include "base/contract.h"
#include "client/seals.h"
#include "client/kvclient.h"
#include "client/words.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CACHE_LINE_BYTES 64

/* Whether count entries of this size, aligned to a cache line, lie in [KVP_HEADER_BYTES, bytes). */
static bool table_fits(uint64_t offset, uint64_t count, uint64_t entry_bytes, uint64_t bytes)
{
	uint64_t length;

	if (offset < KVP_HEADER_BYTES || offset % CACHE_LINE_BYTES != 0)
		return false;
	return checked_mul_u64(count, entry_bytes, &length) && checked_range(offset, length, bytes);
}

static const char *header_check(const struct kvp_arena_header *header, uint64_t bytes)
{
	if (header->magic != KVP_ARENA_MAGIC)
		return "the arena has another magic number";
	if (header->version != KVP_LAYOUT_VERSION)
		return "the arena has another layout version";
	if (header->header_bytes != KVP_HEADER_BYTES)
		return "the arena's header has another size";
	if (header->arena_bytes != bytes)
		return "the arena's header names another arena size";
	if (header->incarnation == 0)
		return "the arena's header names no incarnation";
	if (!table_fits(header->counters_offset, header->counters_count, sizeof(uint64_t), bytes))
		return "the arena's counters lie outside of it";
	if (!table_fits(header->spaces_offset, header->spaces_count, sizeof(struct kvp_space_entry), bytes))
		return "the arena's space table lies outside of it";
	if (header->spaces_count > KVP_SPACES_MAX)
		return "the arena's space table has more entries than there may be spaces";
	if (header->buckets_count == 0 || (header->buckets_count & (header->buckets_count - 1)) != 0)
		return "the arena's index does not have a power of two of buckets";
	if (!table_fits(header->index_offset, header->buckets_count, sizeof(struct kvp_bucket), bytes))
		return "the arena's index lies outside of it";
	if (!table_fits(header->blocks_offset, header->blocks_count, sizeof(struct kvp_block), bytes))
		return "the arena's block table lies outside of it";
	if (!table_fits(header->extents_offset, header->extents_count, KVP_EXTENT_BYTES, bytes))
		return "the arena's extents lie outside of it";
	return NULL;
}

/* The list grows with versions; only the one that this library was built with can be read by position. */
static const struct kvp_counters *counters_of(const void *base, const struct kvp_arena_header *header)
{
	if (header->counters_count != KVP_COUNTERS ||
	    !checked_range(header->counters_offset, sizeof(struct kvp_counters), header->spaces_offset))
		return NULL;
	return (const void *)((const uint8_t *)base + header->counters_offset);
}

const char *arena_layout_read(const void *base, uint64_t bytes, struct arena_layout *ret_layout)
{
	struct kvp_arena_header header;
	const char *wrong;

	if (bytes < KVP_ARENA_BYTES_MIN || bytes > KVP_ARENA_BYTES_MAX)
		return "the arena's size is out of range";
	memcpy(&header, base, sizeof(header));
	atomic_signal_fence(memory_order_seq_cst); /* what is checked is the copy */
	wrong = header_check(&header, bytes);
	if (wrong)
		return wrong;
	*ret_layout = (struct arena_layout){
		.base = base,
		.bytes = bytes,
		.incarnation = header.incarnation,
		.hash_seed = header.hash_seed,
		.buckets = (const void *)((const uint8_t *)base + header.index_offset),
		.buckets_count = header.buckets_count,
		.blocks = (const void *)((const uint8_t *)base + header.blocks_offset),
		.blocks_count = header.blocks_count,
		.counters = counters_of(base, &header),
		.spaces = (const void *)((const uint8_t *)base + header.spaces_offset),
		.spaces_count = header.spaces_count,
		.extents_offset = header.extents_offset,
	};
	return NULL;
}

/* A new object around a mapping, which becomes its own. On failure the mapping stays the caller's. */
static int arena_wrap(void *base, uint64_t bytes, uint64_t incarnation, struct words *words, struct arena **ret_arena)
{
	struct arena_layout layout;
	const char *wrong = arena_layout_read(base, bytes, &layout);
	struct arena *arena;

	if (!wrong && layout.incarnation != incarnation)
		wrong = "the arena belongs to another incarnation of the daemon";
	if (wrong) {
		words_set(words, "%s", wrong);
		return -EPROTO;
	}
	arena = malloc(sizeof(*arena));
	if (!arena)
		return -ENOMEM;
	*arena = (struct arena){ .refs = 1, .layout = layout };
	*ret_arena = arena;
	return 0;
}

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* Only memory can be asked for seals; a file in memory says that it has none and takes none. */
static bool is_file_in_memory(int fd)
{
	return fcntl(fd, F_GET_SEALS) == F_SEAL_SEAL;
}

int arena_map(int fd, uint64_t bytes, uint64_t incarnation, uid_t daemon_uid, struct words *words,
	      struct arena **ret_arena)
{
	void *base;
	int r;

	if (is_file_in_memory(fd))
		r = private_file_check(fd, "the arena", daemon_uid, bytes, words);
	else
		r = seals_check(fd, "the arena", SEALS, bytes, words);
	if (r < 0)
		return r;
	base = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED) {
		r = -errno;
		words_set(words, "cannot map the arena: %s", kvc_strerror(r));
		return r;
	}
	r = arena_wrap(base, bytes, incarnation, words, ret_arena);
	if (r < 0)
		(void)munmap(base, bytes);
	return r;
}

struct arena *arena_ref(struct arena *arena)
{
	kvp_assert(arena->refs > 0);
	arena->refs++;
	return arena;
}

struct arena *arena_unref(struct arena *arena)
{
	if (!arena)
		return NULL;
	kvp_assert(arena->refs > 0);
	if (--arena->refs == 0) {
		(void)munmap((void *)arena->layout.base, arena->layout.bytes);
		free(arena);
	}
	return NULL;
}

void arena_end_session(struct arena *arena)
{
	if (arena)
		atomic_store_explicit(&arena->over, true, memory_order_release);
}
