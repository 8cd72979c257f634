/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a page is made of. A page holds one layer of one group of heads: for each head of the group, in order,
 * its K tile and then its V tile, without gaps. Page index within a block = layer * head_groups + group.
 */
#pragma once

#include "base/contract.h"

#include <stdbool.h>
#include <stdint.h>

/* The numbers of a schema that decide geometry. */
struct page_schema {
	uint32_t layers;
	uint32_t kv_heads;
	uint32_t head_dim_k;
	uint32_t head_dim_v; /* 0: no V */
	uint32_t block_tokens;
	uint32_t codec_k;
	uint32_t codec_v;
	uint32_t page_heads; /* 0 before page_schema_complete() */
};

/* Bytes of a page with this many tokens. */
uint32_t page_bytes(const struct page_schema *schema, uint32_t tokens);

/* Of a page with so many tokens, and of a tile of each kind in it. */
struct page_sizes {
	uint32_t page;
	uint32_t k;
	uint32_t v;
};

struct page_sizes page_sizes(const struct page_schema *schema, uint32_t tokens);

/* Where a tile begins in its page, and its size. head is the head's place in its group. */
static inline void page_tile(const struct page_sizes *sizes, uint32_t head, bool value, uint32_t *ret_offset,
			     uint32_t *ret_bytes)
{
	uint32_t offset = head * (sizes->k + sizes->v) + (value ? sizes->k : 0);
	uint32_t bytes = value ? sizes->v : sizes->k;

	kvp_assert(offset + bytes <= sizes->page);
	*ret_offset = offset;
	*ret_bytes = bytes;
}

uint32_t page_head_groups(const struct page_schema *schema);
uint32_t page_count(const struct page_schema *schema);

/*
 * Checks every number against proto/limits.h and chooses page_heads when it is 0: the largest divisor of
 * kv_heads whose page is at most KVP_PAGE_BYTES_TARGET_MAX, but at least one head. Returns NULL and completes
 * the schema, or says which field is wrong and why (static text); the schema is then unchanged.
 */
const char *page_schema_complete(struct page_schema *schema);
