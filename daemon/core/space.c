/* SPDX-License-Identifier: Apache-2.0 */
/* The shared entry carries the schema, struct space what the daemon alone needs. state is the last write of a
 * birth. */
#include "daemon/core/space.h"
#include "daemon/core/stats.h"

#include "base/checked.h"
#include "base/contract.h"
#include "codec/codec.h"
#include "daemon/core/events.h"

#include <string.h>

static struct kvp_space_entry *entry_of(struct core *core, uint32_t id)
{
	kvp_assert(id >= 1 && id <= KVP_SPACES_MAX);
	return &core->arena.spaces[id - 1];
}

uint32_t space_find(struct core *core, const uint8_t *name, size_t n)
{
	for (uint32_t id = 1; id <= KVP_SPACES_MAX; id++) {
		const struct kvp_space_entry *entry = entry_of(core, id);

		if (core->spaces[id].live && entry->name_bytes == n && memcmp(entry->name, name, n) == 0)
			return id;
	}
	return 0;
}

static uint32_t id_unused(const struct core *core)
{
	for (uint32_t id = 1; id <= KVP_SPACES_MAX; id++)
		if (!core->spaces[id].live)
			return id;
	return 0;
}

static void space_release(struct space *space)
{
	if (space->policy)
		space->policy->ops->destroy(space->policy);
	if (space->page_class)
		arena_class_unref(space->page_class);
	if (space->map_class)
		arena_class_unref(space->map_class);
	*space = (struct space){ 0 };
}

static void entry_fill(struct core *core, uint32_t id, const struct space_request *request)
{
	struct kvp_space_entry *entry = entry_of(core, id);
	const struct page_schema *schema = &request->schema;

	entry->dtype = request->dtype;
	entry->layers = schema->layers;
	entry->kv_heads = schema->kv_heads;
	entry->head_dim_k = schema->head_dim_k;
	entry->head_dim_v = schema->head_dim_v;
	entry->block_tokens = schema->block_tokens;
	entry->codec_k = schema->codec_k;
	entry->codec_v = schema->codec_v;
	entry->page_heads = schema->page_heads;
	entry->head_groups = page_head_groups(schema);
	entry->page_count = page_count(schema);
	entry->page_bytes = page_bytes(schema, schema->block_tokens);
	entry->slot_bytes = core->spaces[id].page_class->slot_bytes;
	entry->map_bytes = core->spaces[id].map_class->slot_bytes;
	entry->name_bytes = (uint16_t)request->name.n;
	entry->model_bytes = (uint16_t)request->model.n;
	entry->revision_bytes = (uint16_t)request->revision.n;
	memset(entry->name, 0, sizeof(entry->name));
	memset(entry->model, 0, sizeof(entry->model));
	memset(entry->revision, 0, sizeof(entry->revision));
	memcpy(entry->name, request->name.bytes, request->name.n);
	memcpy(entry->model, request->model.bytes, request->model.n);
	if (request->revision.n > 0)
		memcpy(entry->revision, request->revision.bytes, request->revision.n);
	atomic_store_explicit(&entry->state, KVP_SPACE_LIVE, memory_order_release);
}

/* Of everything that a space is: what differs in any of it has other bytes. */
static struct tier_space digest_of(const struct space_request *request)
{
	const struct page_schema *schema = &request->schema;
	struct {
		uint32_t numbers[13];
		char name[KVP_NAME_BYTES_MAX];
		char model[KVP_MODEL_BYTES_MAX];
		char revision[KVP_REVISION_BYTES_MAX];
	} text = {
		.numbers = { (uint32_t)request->name.n, (uint32_t)request->model.n, (uint32_t)request->revision.n,
			     request->dtype, schema->layers, schema->kv_heads, schema->head_dim_k, schema->head_dim_v,
			     schema->block_tokens, schema->codec_k, schema->codec_v, schema->page_heads,
			     CODEC_FORMAT_VERSION },
	};
	struct tier_space digest;

	memcpy(text.name, request->name.bytes, request->name.n);
	memcpy(text.model, request->model.bytes, request->model.n);
	if (request->revision.n > 0)
		memcpy(text.revision, request->revision.bytes, request->revision.n);
	kvp_digest(&text, sizeof(text), digest.digest);
	return digest;
}

int space_create(struct core *core, const struct space_request *request, uint32_t *ret_id)
{
	const struct page_schema *schema = &request->schema;
	uint64_t slot_bytes = align_up_u64(page_bytes(schema, schema->block_tokens), KVP_SLOT_ALIGN);
	uint64_t map_bytes = align_up_u64(page_count(schema) * sizeof(struct kvp_page), KVP_SLOT_ALIGN);
	uint32_t id = id_unused(core);
	struct space *space;

	if (!id)
		return KVP_TOO_MANY;
	space = &core->spaces[id];
	space->schema = *schema;
	space->page_count = page_count(schema);
	space->digest = digest_of(request);
	space->page_class = arena_class_ref(&core->arena, (uint32_t)slot_bytes);
	space->map_class = arena_class_ref(&core->arena, (uint32_t)map_bytes);
	space->policy = policy_lru.create(core->entries, core->arena.blocks_count);
	if (!space->page_class || !space->map_class || !space->policy) {
		space_release(space);
		return KVP_TOO_MANY;
	}
	space->live = true;
	space->life = ++core->space_lives;
	space->first_event = core->events_last + 1;
	entry_fill(core, id, request);
	counter_add(core, spaces, 1);
	*ret_id = id;
	return KVP_OK;
}

const char *space_differs(struct core *core, uint32_t id, const struct space_request *request)
{
	const struct kvp_space_entry *entry = entry_of(core, id);
	const struct page_schema *schema = &request->schema;
	const struct {
		const char *name;
		bool same;
	} fields[] = {
		{ "model", entry->model_bytes == request->model.n &&
				   memcmp(entry->model, request->model.bytes, request->model.n) == 0 },
		{ "revision",
		  entry->revision_bytes == request->revision.n &&
			  (request->revision.n == 0 ||
			   memcmp(entry->revision, request->revision.bytes, request->revision.n) == 0) },
		{ "dtype", entry->dtype == request->dtype },
		{ "layers", entry->layers == schema->layers },
		{ "kv_heads", entry->kv_heads == schema->kv_heads },
		{ "head_dim_k", entry->head_dim_k == schema->head_dim_k },
		{ "head_dim_v", entry->head_dim_v == schema->head_dim_v },
		{ "block_tokens", entry->block_tokens == schema->block_tokens },
		{ "codec_k", entry->codec_k == schema->codec_k },
		{ "codec_v", entry->codec_v == schema->codec_v },
		{ "page_heads", request->page_heads_free || entry->page_heads == schema->page_heads },
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (!fields[i].same)
			return fields[i].name;
	return NULL;
}

void space_schema_fill(const struct kvp_space_entry *entry, Kvpaged__V1__Schema *schema)
{
	kvpaged__v1__schema__init(schema);
	schema->model = (ProtobufCBinaryData){ .data = (uint8_t *)entry->model, .len = entry->model_bytes };
	schema->revision =
		(ProtobufCBinaryData){ .data = (uint8_t *)entry->revision, .len = entry->revision_bytes };
	schema->dtype = entry->dtype;
	schema->layers = entry->layers;
	schema->kv_heads = entry->kv_heads;
	schema->head_dim_k = entry->head_dim_k;
	schema->head_dim_v = entry->head_dim_v;
	schema->block_tokens = entry->block_tokens;
	schema->codec_k = entry->codec_k;
	schema->codec_v = entry->codec_v;
	schema->page_heads = entry->page_heads;
}

void space_drop(struct core *core, uint32_t id)
{
	struct space *space = &core->spaces[id];

	kvp_assert(space->live && space->sessions == 0 && space->totals.blocks == 0);
	events_cleared(core, id);
	atomic_store_explicit(&entry_of(core, id)->state, KVP_SPACE_FREE, memory_order_release);
	space_release(space);
	stats_publish_space(core, id);
	counter_sub(core, spaces, 1);
}

bool session_space_open(const struct core_session *session, uint32_t id)
{
	if (id < 1 || id > KVP_SPACES_MAX)
		return false;
	return session->spaces_open[(id - 1) / 64] >> ((id - 1) % 64) & 1;
}

void session_open_space(struct core_session *session, uint32_t id)
{
	if (session_space_open(session, id))
		return;
	session->spaces_open[(id - 1) / 64] |= UINT64_C(1) << ((id - 1) % 64);
	session->core->spaces[id].sessions++;
}

void session_close_space(struct core_session *session, uint32_t id)
{
	if (!session_space_open(session, id))
		return;
	session->spaces_open[(id - 1) / 64] &= ~(UINT64_C(1) << ((id - 1) % 64));
	kvp_assert(session->core->spaces[id].sessions > 0);
	session->core->spaces[id].sessions--;
}
