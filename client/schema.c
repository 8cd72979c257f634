/* SPDX-License-Identifier: Apache-2.0 */
/* Schema checks and conversions; see schema.h. The numbers' rules are codec/page.h's, the same as the daemon's. */
#include "client/schema.h"

#include "base/text.h"
#include "codec/codec.h"
#include "proto/limits.h"

#include <string.h>

#define BLOCK_TOKENS_DEFAULT 128

static bool text_fits(const char *text, size_t min, size_t max)
{
	size_t n = strnlen(text, max + 1);

	return n >= min && n <= max && text_is_clean(text, n);
}

const char *schema_check_name(const char *name)
{
	if (text_fits(name, 1, KVP_NAME_BYTES_MAX))
		return NULL;
	return "a space's name must be 1..128 bytes of UTF-8 without control characters";
}

const char *schema_check(struct kvc_schema *schema)
{
	struct page_schema geometry;

	if (!schema->model || !text_fits(schema->model, 1, KVP_MODEL_BYTES_MAX))
		return "model must be 1..128 bytes of UTF-8 without control characters";
	if (!schema->revision)
		schema->revision = "";
	if (!text_fits(schema->revision, 0, KVP_REVISION_BYTES_MAX))
		return "revision must be 0..64 bytes of UTF-8 without control characters";
	if (codec_dtype_bytes(schema->dtype) == 0)
		return "dtype is not a known type";
	if (schema->block_tokens == 0)
		schema->block_tokens = BLOCK_TOKENS_DEFAULT;
	schema_geometry(schema, &geometry);
	return page_schema_complete(&geometry);
}

void schema_pack(const struct kvc_schema *schema, Kvpaged__V1__Schema *ret_message)
{
	Kvpaged__V1__Schema message = KVPAGED__V1__SCHEMA__INIT;

	message.model.data = (uint8_t *)schema->model;
	message.model.len = strlen(schema->model);
	message.revision.data = (uint8_t *)schema->revision;
	message.revision.len = strlen(schema->revision);
	message.dtype = schema->dtype;
	message.layers = schema->layers;
	message.kv_heads = schema->kv_heads;
	message.head_dim_k = schema->head_dim_k;
	message.head_dim_v = schema->head_dim_v;
	message.block_tokens = schema->block_tokens;
	message.codec_k = schema->codec_k;
	message.codec_v = schema->codec_v;
	message.page_heads = schema->page_heads;
	*ret_message = message;
}

static bool text_take(const ProtobufCBinaryData *bytes, char *text, size_t max)
{
	if (bytes->len > max || !text_is_clean(bytes->data, bytes->len))
		return false;
	if (bytes->len > 0)
		memcpy(text, bytes->data, bytes->len);
	text[bytes->len] = '\0';
	return true;
}

struct kvc_schema schema_numbers(const Kvpaged__V1__Schema *message)
{
	return (struct kvc_schema){
		.dtype = message->dtype,
		.layers = message->layers,
		.kv_heads = message->kv_heads,
		.head_dim_k = message->head_dim_k,
		.head_dim_v = message->head_dim_v,
		.block_tokens = message->block_tokens,
		.codec_k = message->codec_k,
		.codec_v = message->codec_v,
		.page_heads = message->page_heads,
	};
}

const char *schema_unpack(const Kvpaged__V1__Schema *message, struct kvc_schema *ret_schema, char *model,
			  char *revision)
{
	if (!text_take(&message->model, model, KVP_MODEL_BYTES_MAX) ||
	    !text_take(&message->revision, revision, KVP_REVISION_BYTES_MAX))
		return "the daemon sent a schema with malformed text";
	*ret_schema = schema_numbers(message);
	ret_schema->model = model;
	ret_schema->revision = revision;
	return NULL;
}

void schema_geometry(const struct kvc_schema *schema, struct page_schema *ret_geometry)
{
	*ret_geometry = (struct page_schema){
		.layers = schema->layers,
		.kv_heads = schema->kv_heads,
		.head_dim_k = schema->head_dim_k,
		.head_dim_v = schema->head_dim_v,
		.block_tokens = schema->block_tokens,
		.codec_k = schema->codec_k,
		.codec_v = schema->codec_v,
		.page_heads = schema->page_heads,
	};
}
