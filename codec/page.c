/* SPDX-License-Identifier: Apache-2.0 */
/* Geometry by arithmetic alone: daemon and client compute the same numbers and never send them. */
#include "codec/page.h"

#include "base/contract.h"
#include "codec/codec.h"
#include "proto/limits.h"

#include <stddef.h>

static uint32_t head_bytes_of(const struct page_schema *schema, uint32_t tokens)
{
	return codec_tile_bytes(schema->codec_k, CODEC_ROLE_K, tokens, schema->head_dim_k) +
	       codec_tile_bytes(schema->codec_v, CODEC_ROLE_V, tokens, schema->head_dim_v);
}

uint32_t page_bytes(const struct page_schema *schema, uint32_t tokens)
{
	return schema->page_heads * head_bytes_of(schema, tokens);
}

struct page_sizes page_sizes(const struct page_schema *schema, uint32_t tokens)
{
	struct page_sizes sizes = {
		.k = codec_tile_bytes(schema->codec_k, CODEC_ROLE_K, tokens, schema->head_dim_k),
		.v = codec_tile_bytes(schema->codec_v, CODEC_ROLE_V, tokens, schema->head_dim_v),
	};

	sizes.page = schema->page_heads * (sizes.k + sizes.v);
	return sizes;
}

uint32_t page_head_groups(const struct page_schema *schema)
{
	return schema->kv_heads / schema->page_heads;
}

uint32_t page_count(const struct page_schema *schema)
{
	return schema->layers * page_head_groups(schema);
}

static bool head_dim_valid(uint32_t head_dim)
{
	return head_dim > 0 && head_dim <= KVP_HEAD_DIM_MAX && head_dim % KVP_HEAD_DIM_MULTIPLE == 0;
}

static const char *numbers_check(const struct page_schema *schema)
{
	if (schema->layers == 0 || schema->layers > KVP_LAYERS_MAX)
		return "layers must be 1..1024";
	if (schema->kv_heads == 0 || schema->kv_heads > KVP_KV_HEADS_MAX)
		return "kv_heads must be 1..1024";
	if (!head_dim_valid(schema->head_dim_k))
		return "head_dim_k must be a multiple of 8, 8..256";
	if (schema->head_dim_v != 0 && !head_dim_valid(schema->head_dim_v))
		return "head_dim_v must be 0 or a multiple of 8, 8..256";
	if (schema->block_tokens == 0 || schema->block_tokens > KVP_BLOCK_TOKENS_MAX)
		return "block_tokens must be 1..256";
	if (!codec_valid(schema->codec_k))
		return "codec_k is not a known codec";
	if (schema->head_dim_v != 0 && !codec_valid(schema->codec_v))
		return "codec_v is not a known codec";
	if (schema->page_heads != 0 && schema->kv_heads % schema->page_heads != 0)
		return "page_heads must divide kv_heads";
	return NULL;
}

static uint32_t page_heads_choose(const struct page_schema *schema)
{
	uint32_t head_bytes = head_bytes_of(schema, schema->block_tokens);

	for (uint32_t heads = schema->kv_heads; heads > 1; heads--)
		if (schema->kv_heads % heads == 0 && (uint64_t)heads * head_bytes <= KVP_PAGE_BYTES_TARGET_MAX)
			return heads;
	return 1;
}

const char *page_schema_complete(struct page_schema *schema)
{
	struct page_schema complete = *schema;
	const char *wrong = numbers_check(schema);

	if (wrong)
		return wrong;
	if (complete.head_dim_v == 0)
		complete.codec_v = 0; /* it says nothing, so it cannot differ */
	if (complete.page_heads == 0)
		complete.page_heads = page_heads_choose(&complete);
	if ((uint64_t)complete.page_heads * head_bytes_of(&complete, complete.block_tokens) > KVP_PAGE_BYTES_MAX)
		return "page_heads makes a page larger than 512 KiB";
	if (page_count(&complete) > KVP_PAGES_PER_BLOCK_MAX)
		return "layers and kv_heads make more than 16384 pages in a block";
	*schema = complete;
	return NULL;
}
