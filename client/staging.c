/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The staging ring; see staging.h. Used room runs from the oldest chunk's begin to the newest chunk's end,
 * round the end.
 */
#include "client/staging.h"

#include "base/contract.h"

void staging_init(struct staging *staging, uint64_t bytes)
{
	staging->bytes = bytes;
	list_init(&staging->chunks);
}

static const struct staging_chunk *chunk_of(const struct list *node)
{
	return list_entry(node, const struct staging_chunk, link);
}

/* Where the next chunk of this size begins. False: no room. */
static bool ring_place(const struct staging *staging, uint64_t bytes, uint64_t *ret_offset)
{
	const struct staging_chunk *oldest, *newest;
	uint64_t head;

	if (staging_empty(staging)) {
		*ret_offset = 0;
		return bytes <= staging->bytes;
	}
	oldest = chunk_of(staging->chunks.next);
	newest = chunk_of(staging->chunks.prev);
	head = newest->offset + newest->bytes;
	if (newest->offset < oldest->offset) { /* the used room goes round the end */
		*ret_offset = head;
		return bytes <= oldest->offset - head;
	}
	if (bytes <= staging->bytes - head) {
		*ret_offset = head;
		return true;
	}
	*ret_offset = 0;
	return bytes <= oldest->offset;
}

bool staging_alloc(struct staging *staging, struct staging_chunk *chunk, uint64_t bytes)
{
	uint64_t offset;

	kvp_assert(bytes > 0 && bytes % STAGING_ALIGN == 0);
	if (!ring_place(staging, bytes, &offset))
		return false;
	chunk->offset = offset;
	chunk->bytes = bytes;
	list_push_back(&staging->chunks, &chunk->link);
	return true;
}

void staging_free(struct staging_chunk *chunk)
{
	list_unlink(&chunk->link);
}
