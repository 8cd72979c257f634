/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records to bytes and back. What is read is checked as if an enemy had written it: lengths before they are used, then
 * the checksum, then each field. What passes may still be untrue, but cannot lead outside of the segment.
 */
#include "daemon/tier/record.h"

#include "base/checked.h"
#include "base/contract.h"
#include "proto/layout.h"

#include <string.h>

/* What a checksum covers begins behind it. */
#define COVERED offsetof(struct tier_head, magic)

size_t tier_item_bytes(const struct tier_item *item)
{
	size_t bytes = sizeof(struct tier_item_record) + 8u * (size_t)item->block.page_count + item->block.key.n +
		       item->block.parent.n;

	return align_up_u64(bytes, 8);
}

static void key_write(uint8_t **at, const struct block_key *key)
{
	if (key->n > 0)
		memcpy(*at, key->bytes, key->n);
	*at += key->n;
}

void tier_item_write(void *to, const struct tier_item *item)
{
	const struct tier_block *block = &item->block;
	struct tier_item_record record = {
		.bytes = (uint32_t)tier_item_bytes(item),
		.kind = (uint16_t)item->kind,
		.key_bytes = (uint8_t)block->key.n,
		.parent_bytes = (uint8_t)block->parent.n,
		.offset = item->offset,
		.tokens = block->tokens,
		.page_count = block->page_count,
		.page_bytes = block->page_bytes,
		.slot_bytes = block->slot_bytes,
	};
	uint8_t *at = to, *end = at + record.bytes;

	memcpy(record.space, block->space.digest, sizeof(record.space));
	memcpy(at, &record, sizeof(record));
	at += sizeof(record);
	if (block->page_count > 0)
		memcpy(at, item->checksums, 8u * (size_t)block->page_count);
	at += 8u * (size_t)block->page_count;
	key_write(&at, &block->key);
	key_write(&at, &block->parent);
	memset(at, 0, (size_t)(end - at));
}

static bool block_possible(const struct tier_item_record *record)
{
	return record->key_bytes > 0 && record->tokens > 0 && record->tokens <= KVP_BLOCK_TOKENS_MAX &&
	       record->page_count > 0 && record->page_bytes > 0 && record->page_bytes <= KVP_PAGE_BYTES_MAX &&
	       record->slot_bytes == align_up_u64(record->page_bytes, KVP_SLOT_ALIGN) &&
	       record->offset % TIER_ALIGN == 0;
}

static bool removal_possible(const struct tier_item_record *record)
{
	return record->page_count == 0 && record->parent_bytes == 0;
}

static bool item_possible(const struct tier_item_record *record, size_t n)
{
	size_t least = sizeof(*record) + record->key_bytes + record->parent_bytes;

	if (record->key_bytes > KVP_KEY_BYTES_MAX || record->parent_bytes > KVP_KEY_BYTES_MAX ||
	    record->page_count > KVP_PAGES_PER_BLOCK_MAX)
		return false;
	if (record->bytes > n || record->bytes != align_up_u64(least + 8u * (uint64_t)record->page_count, 8))
		return false;
	return record->kind == TIER_BLOCK ? block_possible(record)
					  : record->kind == TIER_REMOVALS && removal_possible(record);
}

size_t tier_item_read(const void *from, size_t n, struct tier_item *ret_item)
{
	const struct tier_item_record *record = from;
	const uint8_t *keys;
	struct tier_block *block = &ret_item->block;

	if (n < sizeof(*record) || !item_possible(record, n))
		return 0;
	keys = (const uint8_t *)(record + 1) + 8u * (size_t)record->page_count;
	ret_item->kind = record->kind;
	ret_item->offset = record->offset;
	ret_item->checksums = (const uint64_t *)(const void *)(record + 1);
	memcpy(block->space.digest, record->space, sizeof(record->space));
	block->key = (struct block_key){ keys, record->key_bytes };
	block->parent = (struct block_key){ keys + record->key_bytes, record->parent_bytes };
	block->tokens = record->tokens;
	block->page_count = record->page_count;
	block->page_bytes = record->page_bytes;
	block->slot_bytes = record->slot_bytes;
	return record->bytes;
}

void tier_record_finish(void *record, enum tier_kind kind, const struct tier_life *life, uint64_t offset, size_t bytes,
			uint32_t items)
{
	struct tier_head *head = record;

	*head = (struct tier_head){
		.magic = TIER_MAGIC,
		.version = TIER_VERSION,
		.kind = (uint16_t)kind,
		.sequence = life->sequence,
		.salt = life->salt,
		.offset = offset,
		.bytes = (uint32_t)bytes,
		.items = items,
	};
	head->checksum = kvp_page_checksum((const uint8_t *)record + COVERED, bytes - COVERED);
	memset((uint8_t *)record + bytes, 0, align_up_u64(bytes, TIER_ALIGN) - bytes);
}

static bool head_check(const struct tier_head *head, size_t n, uint64_t offset)
{
	if (head->magic != TIER_MAGIC || head->version != TIER_VERSION || head->offset != offset)
		return false;
	if (head->bytes < sizeof(*head) || head->bytes > n)
		return false;
	return head->checksum == kvp_page_checksum((const uint8_t *)head + COVERED, head->bytes - COVERED);
}

bool tier_record_check(const void *record, size_t n, const struct tier_life *life, uint64_t offset)
{
	const struct tier_head *head = record;

	if (n < sizeof(*head) || head->sequence != life->sequence || head->salt != life->salt)
		return false;
	return head_check(head, n, offset);
}

void tier_segment_write(void *record, const struct tier_life *life, uint32_t file, uint64_t segment_bytes)
{
	struct tier_segment_record *segment = record;

	segment->segment_bytes = segment_bytes;
	segment->file = file;
	segment->reserved = 0;
	tier_record_finish(record, TIER_SEGMENT, life, 0, sizeof(*segment), 0);
}

bool tier_segment_read(const void *record, uint32_t file, uint64_t segment_bytes, struct tier_life *ret_life)
{
	const struct tier_segment_record *segment = record;

	if (!head_check(&segment->head, TIER_ALIGN, 0) || segment->head.kind != TIER_SEGMENT ||
	    segment->head.bytes != sizeof(*segment))
		return false;
	if (segment->file != file || segment->segment_bytes != segment_bytes)
		return false;
	if (segment->head.sequence == 0 || segment->head.sequence > TIER_SEQUENCE_MAX)
		return false;
	*ret_life = (struct tier_life){ segment->head.sequence, segment->head.salt };
	return true;
}

void tier_end_write(void *record, const struct tier_life *life, uint64_t segment_bytes, uint64_t footer_offset,
		    uint32_t chunks)
{
	struct tier_end_record *end = record;

	end->footer_offset = footer_offset;
	end->chunks = chunks;
	end->reserved = 0;
	tier_record_finish(record, TIER_END, life, segment_bytes - TIER_ALIGN, sizeof(*end), 0);
}

bool tier_end_read(const void *record, const struct tier_life *life, uint64_t segment_bytes,
		   uint64_t *ret_footer_offset, uint32_t *ret_chunks)
{
	const struct tier_end_record *end = record;

	if (!tier_record_check(record, TIER_ALIGN, life, segment_bytes - TIER_ALIGN) || end->head.kind != TIER_END ||
	    end->head.bytes != sizeof(*end))
		return false;
	if (end->footer_offset % TIER_ALIGN != 0 || end->footer_offset < TIER_ALIGN ||
	    end->footer_offset > segment_bytes - TIER_ALIGN)
		return false;
	*ret_footer_offset = end->footer_offset;
	*ret_chunks = end->chunks;
	return true;
}

uint64_t tier_block_head_bytes(const struct tier_item *item)
{
	return align_up_u64(sizeof(struct tier_head) + tier_item_bytes(item), TIER_ALIGN);
}

uint64_t tier_block_record_bytes(const struct tier_item *item)
{
	uint64_t pages = (uint64_t)item->block.page_count * item->block.slot_bytes;

	return tier_block_head_bytes(item) + align_up_u64(pages, TIER_ALIGN);
}

/* All chunks but the last are at least half full, since no item is larger than half of one. */
_Static_assert(TIER_ITEM_BYTES_MAX + sizeof(struct tier_head) <= TIER_CHUNK_BYTES / 2, "items fit chunks");

uint64_t tier_footer_bytes(uint64_t item_bytes)
{
	uint64_t chunks = item_bytes / (TIER_CHUNK_BYTES / 2) + 1;

	return align_up_u64(item_bytes + chunks * (sizeof(struct tier_head) + TIER_ALIGN), TIER_ALIGN) + TIER_ALIGN;
}
