/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSpace. (DropSpace removes blocks and is with them, in verb-remove.c.) */
#include "daemon/core/space.h"
#include "daemon/core/verbs.h"

#include "base/text.h"
#include "codec/codec.h"

#include <string.h>

static bool text_valid(ProtobufCBinaryData text, size_t least, size_t most)
{
	return text.len >= least && text.len <= most && text_is_clean(text.data, text.len);
}

static const char *schema_parse(const Kvpaged__V1__OpenSpace *open, struct space_request *ret)
{
	const Kvpaged__V1__Schema *schema = open->schema;
	struct space_request request = {
		.name = { open->name.data, open->name.len },
		.model = { schema->model.data, schema->model.len },
		.revision = { schema->revision.data, schema->revision.len },
		.dtype = schema->dtype,
		.page_heads_free = schema->page_heads == 0,
		.schema = {
			.layers = schema->layers,
			.kv_heads = schema->kv_heads,
			.head_dim_k = schema->head_dim_k,
			.head_dim_v = schema->head_dim_v,
			.block_tokens = schema->block_tokens,
			.codec_k = schema->codec_k,
			.codec_v = schema->codec_v,
			.page_heads = schema->page_heads,
		},
	};
	const char *wrong;

	if (!text_valid(schema->model, 1, KVP_MODEL_BYTES_MAX))
		return "model must be 1..128 bytes of UTF-8 without control characters";
	if (!text_valid(schema->revision, 0, KVP_REVISION_BYTES_MAX))
		return "revision must be at most 64 bytes of UTF-8 without control characters";
	if (codec_dtype_bytes(schema->dtype) == 0)
		return "dtype must be f32, f16 or bf16";
	wrong = page_schema_complete(&request.schema);
	if (!wrong)
		*ret = request;
	return wrong;
}

/* Sentences that name the field, since a reply's text is static. */
static const char *mismatch_text(const char *field)
{
	static const struct {
		const char *field;
		const char *text;
	} texts[] = {
#define X(field) { #field, "the space exists with another " #field },
		X(model) X(revision) X(dtype) X(layers) X(kv_heads) X(head_dim_k) X(head_dim_v) X(block_tokens)
			X(codec_k) X(codec_v)
#undef X
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (strcmp(field, texts[i].field) == 0)
			return texts[i].text;
	return "the space exists with another page_heads";
}

static enum verb_result opened(struct core_session *session, uint32_t id, bool created, Reply *reply)
{
	const struct kvp_space_entry *entry = &session->core->arena.spaces[id - 1];
	Kvpaged__V1__OpenSpaceReply answer = KVPAGED__V1__OPEN_SPACE_REPLY__INIT;
	Kvpaged__V1__Schema schema = KVPAGED__V1__SCHEMA__INIT;

	session_open_space(session, id);
	space_schema_fill(entry, &schema);
	answer.space_id = id;
	answer.schema = &schema;
	answer.head_groups = entry->head_groups;
	answer.page_count = entry->page_count;
	answer.page_bytes = entry->page_bytes;
	answer.created = created;
	reply->verb_case = KVPAGED__V1__REPLY__VERB_OPEN_SPACE;
	reply->open_space = &answer;
	reply_send(session, reply, 0);
	return VERB_QUEUED;
}

enum verb_result verb_open_space(struct core_session *session, const Request *request, Reply *reply)
{
	const Kvpaged__V1__OpenSpace *open = request->open_space;
	struct core *core = session->core;
	struct space_request wanted;
	const char *wrong;
	uint32_t id;
	int r;

	if (!text_valid(open->name, 1, KVP_NAME_BYTES_MAX))
		return reply_fail(reply, KVP_INVALID,
				  "name must be 1..128 bytes of UTF-8 without control characters");
	id = space_find(core, open->name.data, open->name.len);
	if (!open->schema)
		return id ? opened(session, id, false, reply)
			  : reply_fail(reply, KVP_NO_SPACE_NAMED, "no such space");
	wrong = schema_parse(open, &wanted);
	if (wrong)
		return reply_fail(reply, KVP_INVALID, wrong);
	if (id) {
		wrong = space_differs(core, id, &wanted);
		return wrong ? reply_fail(reply, KVP_SCHEMA, mismatch_text(wrong))
			     : opened(session, id, false, reply);
	}
	r = space_create(core, &wanted, &id);
	return r == KVP_OK ? opened(session, id, true, reply)
			   : reply_fail(reply, (enum kvp_status)r, "too many spaces");
}
