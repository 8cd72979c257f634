/* SPDX-License-Identifier: Apache-2.0 */
/* Two small tables, read in both directions. */
#include "client/kvctl/schema.h"

#include <stddef.h>
#include <string.h>

struct name {
	const char *text;
	uint32_t number;
};

static const struct name dtypes[] = {
	{ "f32", KVC_F32 },
	{ "f16", KVC_F16 },
	{ "bf16", KVC_BF16 },
	{ 0 },
};

static const struct name codecs[] = {
	{ "f32", KVC_CODEC_F32 },
	{ "f16", KVC_CODEC_F16 },
	{ "bf16", KVC_CODEC_BF16 },
	{ "q8", KVC_CODEC_Q8 },
	{ "q6", KVC_CODEC_Q6 },
	{ "q5", KVC_CODEC_Q5 },
	{ "q4", KVC_CODEC_Q4 },
	{ "t8", KVC_CODEC_T8 },
	{ "t6", KVC_CODEC_T6 },
	{ "t5", KVC_CODEC_T5 },
	{ "t4", KVC_CODEC_T4 },
	{ "t8g32", KVC_CODEC_T8G32 },
	{ "t6g32", KVC_CODEC_T6G32 },
	{ "t5g32", KVC_CODEC_T5G32 },
	{ "t4g32", KVC_CODEC_T4G32 },
	{ "t8g16", KVC_CODEC_T8G16 },
	{ "t6g16", KVC_CODEC_T6G16 },
	{ "t5g16", KVC_CODEC_T5G16 },
	{ "t4g16", KVC_CODEC_T4G16 },
	{ 0 },
};

static const char *name_of(const struct name *names, uint32_t number)
{
	for (; names->text; names++)
		if (names->number == number)
			return names->text;
	return "?";
}

static uint32_t number_of(const struct name *names, const char *text)
{
	for (; names->text; names++)
		if (strcmp(names->text, text) == 0)
			return names->number;
	return 0;
}

const char *dtype_name(uint32_t dtype)
{
	return name_of(dtypes, dtype);
}

const char *codec_name(uint32_t codec)
{
	return name_of(codecs, codec);
}

uint32_t dtype_number(const char *name)
{
	return number_of(dtypes, name);
}

uint32_t codec_number(const char *name)
{
	return number_of(codecs, name);
}

void json_kv_schema(struct json *json, const struct kvc_schema *schema)
{
	json_kv_string(json, "model", schema->model);
	json_kv_string(json, "revision", schema->revision);
	json_kv_string(json, "dtype", dtype_name(schema->dtype));
	json_kv_u64(json, "layers", schema->layers);
	json_kv_u64(json, "kv_heads", schema->kv_heads);
	json_kv_u64(json, "head_dim_k", schema->head_dim_k);
	json_kv_u64(json, "head_dim_v", schema->head_dim_v);
	json_kv_u64(json, "block_tokens", schema->block_tokens);
	json_kv_string(json, "codec_k", codec_name(schema->codec_k));
	json_kv_string(json, "codec_v", codec_name(schema->codec_v));
	json_kv_u64(json, "page_heads", schema->page_heads);
}
