/* SPDX-License-Identifier: Apache-2.0 */
/* The shared entry carries the schema, struct space what the daemon alone needs. state is the last write of a
 * birth. */
#include "daemon/core/space.h"
#include "daemon/core/stats.h"

#include "base/checked.h"
#include "base/contract.h"
#include "base/text.h"
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
		if (!core->spaces[id].live && core->spaces[id].limbo == 0)
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
	*space = (struct space){ .limbo = space->limbo };
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

static uint32_t page_slot_bytes(const struct page_schema *schema)
{
	return (uint32_t)align_up_u64(page_bytes(schema, schema->block_tokens), KVP_SLOT_ALIGN);
}

static uint32_t map_bytes(const struct page_schema *schema)
{
	return (uint32_t)align_up_u64(page_count(schema) * sizeof(struct kvp_page), KVP_SLOT_ALIGN);
}

/* What follows from the schema. Results: KVP_OK, KVP_TOO_MANY. */
static int space_fill(struct core *core, struct space *space, const struct page_schema *schema)
{
	space->schema = *schema;
	space->page_count = page_count(schema);
	space->page_class = arena_class_ref(&core->arena, page_slot_bytes(schema));
	space->map_class = arena_class_ref(&core->arena, map_bytes(schema));
	space->policy = policy_lru.create(core->entries, core->arena.blocks_count);
	if (space->page_class && space->map_class && space->policy)
		return KVP_OK;
	space_release(space);
	return KVP_TOO_MANY;
}

int space_create(struct core *core, const struct space_request *request, uint32_t *ret_id)
{
	uint32_t id = id_unused(core);
	struct space *space;

	if (!id)
		return KVP_TOO_MANY;
	space = &core->spaces[id];
	if (space_fill(core, space, &request->schema) != KVP_OK)
		return KVP_TOO_MANY;
	space->digest = digest_of(request);
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

/* ---- Recovery ---- */

static bool text_right(const char *text, size_t n, size_t least, size_t most)
{
	return n >= least && n <= most && text_is_clean(text, n);
}

/* The private half from the shared one. Whether the entry's numbers agree with each other. */
static bool numbers_adopt(struct core *core, uint32_t id)
{
	const struct kvp_space_entry *entry = entry_of(core, id);
	struct space *space = &core->spaces[id];
	struct page_schema schema = {
		.layers = entry->layers,
		.kv_heads = entry->kv_heads,
		.head_dim_k = entry->head_dim_k,
		.head_dim_v = entry->head_dim_v,
		.block_tokens = entry->block_tokens,
		.codec_k = entry->codec_k,
		.codec_v = entry->codec_v,
		.page_heads = entry->page_heads,
	};

	if (entry->page_heads == 0 || page_schema_complete(&schema) || codec_dtype_bytes(entry->dtype) == 0)
		return false;
	if (entry->head_groups != page_head_groups(&schema) || entry->page_count != page_count(&schema) ||
	    entry->page_bytes != page_bytes(&schema, schema.block_tokens) ||
	    entry->slot_bytes != page_slot_bytes(&schema) || entry->map_bytes != map_bytes(&schema))
		return false;
	return space_fill(core, space, &schema) == KVP_OK;
}

static bool texts_right(struct core *core, uint32_t id)
{
	const struct kvp_space_entry *entry = entry_of(core, id);

	return text_right(entry->name, entry->name_bytes, 1, KVP_NAME_BYTES_MAX) &&
	       text_right(entry->model, entry->model_bytes, 1, KVP_MODEL_BYTES_MAX) &&
	       text_right(entry->revision, entry->revision_bytes, 0, KVP_REVISION_BYTES_MAX) &&
	       space_find(core, (const uint8_t *)entry->name, entry->name_bytes) == 0;
}

/* Its texts are right. */
static struct tier_space digest_of_entry(const struct kvp_space_entry *entry, const struct page_schema *schema)
{
	struct space_request request = {
		.name = { (const uint8_t *)entry->name, entry->name_bytes },
		.model = { (const uint8_t *)entry->model, entry->model_bytes },
		.revision = { (const uint8_t *)entry->revision, entry->revision_bytes },
		.dtype = entry->dtype,
		.schema = *schema,
	};

	return digest_of(&request);
}

bool space_adopt(struct core *core, uint32_t id)
{
	struct kvp_space_entry *entry = entry_of(core, id);
	uint32_t state = atomic_load_explicit(&entry->state, memory_order_relaxed);
	bool right = numbers_adopt(core, id) && texts_right(core, id);

	if (right && state == KVP_SPACE_LIVE) {
		core->spaces[id].digest = digest_of_entry(entry, &core->spaces[id].schema);
		core->spaces[id].live = true;
		core->spaces[id].first_event = core->events_last + 1;
		counter_add(core, spaces, 1);
		return true;
	}
	atomic_store_explicit(&entry->state, KVP_SPACE_FREE, memory_order_release);
	return state == KVP_SPACE_FREE;
}

void space_adopt_end(struct core *core)
{
	for (uint32_t id = 1; id <= KVP_SPACES_MAX; id++)
		if (!core->spaces[id].live)
			space_release(&core->spaces[id]);
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
