/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies in a segment file. All numbers are little endian. A file is a row of records that begin at multiples of
 * TIER_ALIGN:
 *
 *	segment   once, at 0
 *	block     its item, padded to TIER_ALIGN, then its pages
 *	removals  items, one for each key that was removed
 *	chunk     the footer: the items of all the records above, in their order; as many chunks as they need
 *	end       once, in the last TIER_ALIGN bytes: where the chunks begin
 *
 * Each begins with a head. The head names the life of the file in which it was written (sequence, salt) and its
 * place, so that bytes of an earlier life, misplaced ones, and pages that were made to look like records are never
 * taken for records. The salt is random and known to nobody but the files.
 */
#pragma once

#include "daemon/core/tier.h"
#include "proto/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TIER_ALIGN 4096u /* so that pages of whole 4 KiB lie as file systems and drives like them */
#define TIER_MAGIC UINT32_C(0x544c564b)
#define TIER_VERSION 1

enum tier_kind {
	TIER_SEGMENT = 1,
	TIER_BLOCK,
	TIER_REMOVALS,
	TIER_CHUNK,
	TIER_END,
};

struct tier_head {
	uint64_t checksum; /* XXH3-64 of all that follows, as many as bytes says */
	uint32_t magic;
	uint16_t version;
	uint16_t kind;
	uint64_t sequence; /* of the segment's life */
	uint64_t salt;     /* likewise */
	uint64_t offset;   /* where it lies */
	uint32_t bytes;    /* with the head, without padding */
	uint32_t items;
};
_Static_assert(sizeof(struct tier_head) == 48, "layout on disk");

struct tier_segment_record {
	struct tier_head head;
	uint64_t segment_bytes;
	uint32_t file;
	uint32_t reserved;
};
_Static_assert(sizeof(struct tier_segment_record) == 64, "layout on disk");

struct tier_end_record {
	struct tier_head head;
	uint64_t footer_offset;
	uint32_t chunks;
	uint32_t reserved;
};
_Static_assert(sizeof(struct tier_end_record) == 64, "layout on disk");

/* Followed by page_count checksums of 64 bits, the key, the parent's key, and zeros up to a multiple of 8. */
struct tier_item_record {
	uint32_t bytes; /* with all of that */
	uint16_t kind;  /* TIER_BLOCK, TIER_REMOVALS */
	uint8_t key_bytes;
	uint8_t parent_bytes;
	uint64_t offset; /* of the record of its own */
	uint8_t space[16];
	uint32_t tokens;
	uint32_t page_count;
	uint32_t page_bytes;
	uint32_t slot_bytes;
};
_Static_assert(sizeof(struct tier_item_record) == 48, "layout on disk");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are written as they are in memory");

#define TIER_ITEM_BYTES_MAX \
	(sizeof(struct tier_item_record) + 8u * KVP_PAGES_PER_BLOCK_MAX + 2u * KVP_KEY_BYTES_MAX)
/* The largest head of a block's record. */
#define TIER_BLOCK_HEAD_MAX \
	((sizeof(struct tier_head) + TIER_ITEM_BYTES_MAX + TIER_ALIGN - 1) / TIER_ALIGN * TIER_ALIGN)
#define TIER_CHUNK_BYTES (512u << 10)

/* The life of a file. */
struct tier_life {
	uint64_t sequence; /* 1.. */
	uint64_t salt;
};

#define TIER_SEQUENCE_MAX (UINT64_MAX / 2)

/* An item, taken apart. Pointers lead into the bytes that it was read from. */
struct tier_item {
	enum tier_kind kind;
	uint64_t offset;
	struct tier_block block; /* a removal's has no pages; key.n == 0: the whole space */
	const uint64_t *checksums;
};

size_t tier_item_bytes(const struct tier_item *item);

/* Writes tier_item_bytes() bytes at a multiple of 8. */
void tier_item_write(void *to, const struct tier_item *item);

/*
 * Reads one item out of n bytes that begin at a multiple of 8, and checks that its fields can be true. Returns the
 * bytes that it takes; 0: it is none.
 */
size_t tier_item_read(const void *from, size_t n, struct tier_item *ret_item);

/* Completes a record whose body is there: writes the head, and zeros behind bytes up to a multiple of TIER_ALIGN. */
void tier_record_finish(void *record, enum tier_kind kind, const struct tier_life *life, uint64_t offset, size_t bytes,
			uint32_t items);

/* Whether n bytes begin with a record of this life and place; the kind is for the caller to look at. */
bool tier_record_check(const void *record, size_t n, const struct tier_life *life, uint64_t offset);

/* The record of a segment of this size and file: says which life. */
void tier_segment_write(void *record, const struct tier_life *life, uint32_t file, uint64_t segment_bytes);
bool tier_segment_read(const void *record, uint32_t file, uint64_t segment_bytes, struct tier_life *ret_life);

void tier_end_write(void *record, const struct tier_life *life, uint64_t segment_bytes, uint64_t footer_offset,
		    uint32_t chunks);
bool tier_end_read(const void *record, const struct tier_life *life, uint64_t segment_bytes,
		   uint64_t *ret_footer_offset, uint32_t *ret_chunks);

/* Bytes in front of a block's pages, and of its whole record. */
uint64_t tier_block_head_bytes(const struct tier_item *item);
uint64_t tier_block_record_bytes(const struct tier_item *item);

/* How much room a footer of items of so many bytes in all may need, with the end record. */
uint64_t tier_footer_bytes(uint64_t item_bytes);
