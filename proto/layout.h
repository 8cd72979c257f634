/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena as it lies in shared memory. The daemon is its only writer; clients map it read-only. Everything is
 * little endian and addressed by offsets from the arena's start, never by pointers. docs/memory-model.md tells
 * who may read what when.
 *
 *   header 4 KiB | counters | space table | index | block table | extents (page maps and pages)
 *
 * A change of anything here changes KVP_LAYOUT_VERSION.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"
#include "proto/verbs.h"

#define KVP_ARENA_MAGIC UINT64_C(0x414e4552414b564b) /* "KVKARENA" */
#define KVP_LAYOUT_VERSION 6

#define KVP_HEADER_BYTES 4096
#define KVP_EXTENT_BYTES (UINT64_C(2) << 20)

/* Slots begin at multiples of this: the block size that O_DIRECT transfers need. */
#define KVP_SLOT_ALIGN 512

#define KVP_ARENA_BYTES_MIN (UINT64_C(8) << 20)
#define KVP_ARENA_BYTES_MAX (UINT64_C(1) << 40) /* slots are addressed by 32-bit numbers of KVP_SLOT_ALIGN */

/*
 * Written once before any client sees the arena, magic last, except incarnation: the next daemon process that takes the
 * arena over writes its own, and its number of counters, before it changes anything else.
 */
struct kvp_arena_header {
	uint64_t magic;
	uint32_t version;
	uint32_t header_bytes;
	uint64_t arena_bytes;
	_Atomic uint64_t incarnation; /* which daemon process this is; never 0, never repeated */
	uint64_t hash_seed;           /* of key hashes: kvp_key_hash() */
	uint64_t counters_offset;
	uint64_t spaces_offset;
	uint64_t index_offset;
	uint64_t blocks_offset;
	uint64_t extents_offset;
	uint32_t counters_count; /* words; histograms come behind them */
	uint32_t spaces_count;  /* entries in the space table */
	uint32_t buckets_count; /* a power of two */
	uint32_t blocks_count;
	uint32_t extents_count;
	_Atomic uint32_t loading; /* 1: a disk may be asked to write into memory that is no page yet */
};
_Static_assert(sizeof(struct kvp_arena_header) == 104, "shared layout");
_Static_assert(offsetof(struct kvp_arena_header, incarnation) == 24, "shared layout");
_Static_assert(offsetof(struct kvp_arena_header, counters_count) == 80, "shared layout");

/*
 * How often something took up to 2^i microseconds and more than half of that; the last bucket takes what is longer
 * than the one before it, 2^20 microseconds.
 */
#define KVP_HISTOGRAM_BUCKETS 22

struct kvp_histogram {
	_Atomic uint64_t buckets[KVP_HISTOGRAM_BUCKETS];
	_Atomic uint64_t sum_ns;
};

/*
 * One 64-bit word per counter, relaxed loads and stores; then the histograms. They have room to grow: a daemon with
 * more of them can take an arena over.
 */
#define KVP_COUNTERS_ROOM (UINT64_C(64) << 10)

struct kvp_counters {
#define VALUE(field, labels, sentence) _Atomic uint64_t field;
#include "proto/metrics.def"
#define HISTOGRAM(field, label, n, name) struct kvp_histogram field[n];
#include "proto/metrics.def"
};
_Static_assert(sizeof(struct kvp_counters) <= KVP_COUNTERS_ROOM, "shared layout");

enum {
#define VALUE(field, labels, sentence) _KVP_COUNTER_##field,
#include "proto/metrics.def"
	KVP_COUNTERS,
};

enum kvp_space_state { KVP_SPACE_FREE = 0, KVP_SPACE_LIVE = 1 };

/*
 * A space's schema, and what it holds. state is written last when it becomes live, first when it goes; the amounts are
 * brought up to date now and then, at the latest KVP_STATS_MS after they changed.
 */
struct kvp_space_entry {
	_Atomic uint32_t state;
	uint32_t dtype;
	uint32_t layers;
	uint32_t kv_heads;
	uint32_t head_dim_k;
	uint32_t head_dim_v;
	uint32_t block_tokens;
	uint32_t codec_k;
	uint32_t codec_v;
	uint32_t page_heads;
	uint32_t head_groups;
	uint32_t page_count;
	uint32_t page_bytes; /* encoded size of a page with block_tokens tokens */
	uint32_t slot_bytes; /* page_bytes rounded up to KVP_SLOT_ALIGN */
	uint32_t map_bytes;  /* of a page map's slot */
	uint16_t name_bytes;
	uint16_t model_bytes;
	uint16_t revision_bytes;
	uint16_t reserved[3];
	char name[KVP_NAME_BYTES_MAX];
	char model[KVP_MODEL_BYTES_MAX];
	char revision[KVP_REVISION_BYTES_MAX];
	_Atomic uint64_t blocks;
	_Atomic uint64_t blocks_partial;
	_Atomic uint64_t pages;
	_Atomic uint64_t tokens;
	_Atomic uint64_t stored_bytes;
	_Atomic uint64_t overhead_bytes;
	_Atomic uint64_t logical_f16_bytes;
	_Atomic uint64_t sessions;
	uint8_t pad[56];
};
_Static_assert(sizeof(struct kvp_space_entry) == 512, "shared layout");

/*
 * The index: buckets of one cache line. sequence is odd while the bucket changes. A key's home bucket is its
 * hash modulo the number of buckets; when that is full the entry lies in the next bucket with room, and every
 * bucket passed counts it in overflow: a probe stops at the first bucket whose overflow is 0. Tag 0 means an
 * empty entry.
 */
#define KVP_BUCKET_ENTRIES 7

struct kvp_bucket {
	_Atomic uint32_t sequence;
	_Atomic uint32_t overflow;
	_Atomic uint16_t tag[KVP_BUCKET_ENTRIES];
	uint16_t pad;
	_Atomic uint32_t block[KVP_BUCKET_ENTRIES];
	uint32_t reserved[3];
};
_Static_assert(sizeof(struct kvp_bucket) == 64, "shared layout");

#define KVP_PAGE_READY 1u

/* A page's place. slot and checksum are written before READY is set (release) and constant until the block
 * dies. */
struct kvp_page {
	uint32_t slot; /* offset from the arena's start in units of KVP_SLOT_ALIGN */
	_Atomic uint32_t flags;
	uint64_t checksum; /* XXH3-64 of the encoded bytes */
};
_Static_assert(sizeof(struct kvp_page) == 16, "shared layout");

enum kvp_resting {
	KVP_RESTING_NO = 0,
	KVP_RESTING_DEAD = 1,  /* dead, and its memory is still its own */
	KVP_RESTING_MOVED = 2, /* alive; its generation is odd only while its pages are moved */
};

/*
 * One block. generation is even while the block can be found and read; a reader compares it before and after. All
 * other fields are constant while it is even, but pages_ready and the page map. Block numbers start at 1: number n is
 * entry n - 1 of the table. resting is the daemon's alone (enum kvp_resting): from a block's death until its memory
 * may be used again, so that a process that takes the arena over knows what earlier readers may still see, and while
 * it is moved.
 */
struct kvp_block {
	_Atomic uint64_t generation;
	uint64_t key_hash;
	uint64_t parent_hash; /* 0: a root */
	uint64_t map_offset;  /* of the page map, from the arena's start; of page below, if that is the map */
	uint32_t space_id;    /* entry space_id - 1 of the space table */
	uint32_t page_count;
	_Atomic uint32_t pages_ready;
	uint16_t tokens;
	uint8_t key_bytes;
	_Atomic uint8_t resting;
	uint8_t key[KVP_KEY_BYTES_MAX];
	struct kvp_page page; /* the map of a block of one page: a cache line less to read */
};
_Static_assert(sizeof(struct kvp_block) == 128, "shared layout");
_Static_assert(offsetof(struct kvp_block, page) == 112, "shared layout");
_Static_assert(offsetof(struct kvp_block, key) == 48, "shared layout");

/* The hash of a key within a space: XXH3-64 with a seed made of the arena's seed and the space. Never 0. */
uint64_t kvp_key_hash(uint64_t hash_seed, uint32_t space_id, const void *key, size_t key_bytes);

/* XXH3-128, the same on every machine. */
void kvp_digest(const void *bytes, size_t n, uint8_t ret_digest[16]);

/* The index tag of a hash; never 0. Its bits are not those that choose the bucket. */
static inline uint16_t kvp_hash_tag(uint64_t hash)
{
	uint16_t tag = (uint16_t)(hash >> 48);

	return tag ? tag : 1;
}

/* XXH3-64 of a page's encoded bytes. */
uint64_t kvp_page_checksum(const void *bytes, size_t n);
