/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests made of the fuzzer's choices: every verb, with fields that are right, at a limit, or anything. What a
 * request points at lies in one struct draft, which is packed and forgotten.
 */
#include "tests/fuzz/core-world.h"

#include "base/cleanup.h"
#include "base/checked.h"
#include "base/contract.h"
#include "codec/codec.h"
#include "proto/layout.h"
#include "proto/limits.h"
#include "proto/verbs.h"

#include <stdlib.h>

#define KEYS_MAX 12
#define PAGES_MAX 24
#define SCHEMAS 4u

struct draft {
	Kvpaged__V1__Request request;
	union {
		Kvpaged__V1__Hello hello;
		Kvpaged__V1__OpenSpace open_space;
		Kvpaged__V1__Append append;
		Kvpaged__V1__Fetch fetch;
		Kvpaged__V1__Release release;
		Kvpaged__V1__Match match;
		Kvpaged__V1__Delete delete_;
		Kvpaged__V1__Touch touch;
		Kvpaged__V1__Pin pin;
		Kvpaged__V1__Unpin unpin;
		Kvpaged__V1__Stats stats;
		Kvpaged__V1__Evict evict;
		Kvpaged__V1__List list;
		Kvpaged__V1__DropSpace drop_space;
		Kvpaged__V1__Config config;
		Kvpaged__V1__Why why;
		Kvpaged__V1__Subscribe subscribe;
		Kvpaged__V1__Resize resize;
	} verb;
	Kvpaged__V1__Schema schema;
	Kvpaged__V1__Range range;
	ProtobufCBinaryData keys[KEYS_MAX];
	Kvpaged__V1__PageRef pages[PAGES_MAX];
	Kvpaged__V1__PageRef *page_pointers[PAGES_MAX];
	uint64_t leases[KEYS_MAX];
};

static ProtobufCBinaryData any_bytes(struct take *take)
{
	size_t n;
	const uint8_t *bytes = take_bytes(take, take_u8(take) % 140, &n);

	return (ProtobufCBinaryData){ .data = (uint8_t *)bytes, .len = n };
}

/* One of a few, so that blocks and spaces meet; or any bytes. */
static ProtobufCBinaryData short_name(struct take *take)
{
	static const char names[] = "abcdefghijkl";
	uint8_t choice = take_u8(take);

	if (choice >= 0xf0)
		return any_bytes(take);
	return (ProtobufCBinaryData){ .data = (uint8_t *)&names[choice % (sizeof(names) - 1)], .len = 1 };
}

static uint32_t space_id(struct take *take)
{
	uint8_t choice = take_u8(take);

	return choice < 0xf0 ? 1u + choice % 3 : (uint32_t)take_number(take);
}

static size_t keys_make(struct draft *draft, struct take *take)
{
	size_t n = take_below(take, KEYS_MAX + 1);

	for (size_t i = 0; i < n; i++)
		draft->keys[i] = short_name(take);
	return n;
}

/* NULL: no range in the request. */
static Kvpaged__V1__Range *range_make(struct draft *draft, struct take *take)
{
	uint8_t choice = take_u8(take);

	if (choice < 0x80)
		return NULL;
	kvpaged__v1__range__init(&draft->range);
	draft->range.layer_begin = (uint32_t)(choice & 1 ? take_number(take) : take_below(take, 3));
	draft->range.layer_count = (uint32_t)(choice & 2 ? take_number(take) : take_below(take, 3));
	draft->range.head_begin = (uint32_t)(choice & 4 ? take_number(take) : take_below(take, 3));
	draft->range.head_count = (uint32_t)(choice & 8 ? take_number(take) : take_below(take, 3));
	return &draft->range;
}

static void schema_make(struct draft *draft, struct take *take)
{
	static const Kvpaged__V1__Schema schemas[SCHEMAS] = {
		{ .layers = 1, .kv_heads = 1, .head_dim_k = 8, .head_dim_v = 8, .block_tokens = 4, .codec_k = 16 },
		{ .layers = 3, .kv_heads = 2, .head_dim_k = 16, .head_dim_v = 8, .block_tokens = 8, .codec_k = 35 },
		{ .layers = 5, .kv_heads = 1, .head_dim_k = 64, .head_dim_v = 0, .block_tokens = 16, .codec_k = 1 },
		{ .layers = 2, .kv_heads = 8, .head_dim_k = 256, .head_dim_v = 256, .block_tokens = 64, .codec_k = 2 },
	};
	const Kvpaged__V1__Schema *chosen = &schemas[take_below(take, SCHEMAS)];
	Kvpaged__V1__Schema *s = &draft->schema;
	uint32_t *fields[] = { &s->dtype,	 &s->layers,  &s->kv_heads, &s->head_dim_k, &s->head_dim_v,
			       &s->block_tokens, &s->codec_k, &s->codec_v,  &s->page_heads };
	uint8_t spoiled = take_u8(take);

	kvpaged__v1__schema__init(s);
	s->model = (ProtobufCBinaryData){ .data = (uint8_t *)"m", .len = 1 };
	s->dtype = 1;
	s->layers = chosen->layers;
	s->kv_heads = chosen->kv_heads;
	s->head_dim_k = chosen->head_dim_k;
	s->head_dim_v = chosen->head_dim_v;
	s->block_tokens = chosen->block_tokens;
	s->codec_k = s->codec_v = chosen->codec_k;
	if (spoiled < 0xc0)
		return;
	*fields[spoiled % (sizeof(fields) / sizeof(fields[0]))] = (uint32_t)take_number(take);
	if (spoiled >= 0xf0)
		s->model = any_bytes(take);
	if (spoiled >= 0xf8)
		s->revision = any_bytes(take);
}

static uint64_t checksum_of(const struct world_session *session, uint64_t offset, uint64_t bytes)
{
	return bytes > 0 && checked_range(offset, bytes, session->staging_bytes) ?
		       kvp_page_checksum(session->staging + offset, bytes) :
		       0;
}

/* A page that is right, or has one field that may not be. */
static void page_make(Kvpaged__V1__PageRef *page, struct take *take, const struct world_session *session,
		      uint32_t index, uint32_t bytes, bool right)
{
	uint8_t choice = right ? 0 : take_u8(take);

	kvpaged__v1__page_ref__init(page);
	page->index = index;
	page->length = bytes;
	if (choice >= 0x80 && choice < 0x90)
		page->index = (uint32_t)take_number(take);
	else if (choice >= 0x90 && choice < 0xa0)
		page->length = (uint32_t)take_number(take);
	else if (choice >= 0xa0 && choice < 0xd0)
		page->offset = take_number(take);
	else if (choice >= 0xd0 && choice < 0xf0) /* around the last place where it fits */
		page->offset = session->staging_bytes - bytes + take_below(take, 16) - 8;
	page->checksum = choice < 0xf0 ? checksum_of(session, page->offset, page->length) : take_u8(take);
}

static void append_make(struct draft *draft, struct take *take, const struct world_session *session)
{
	Kvpaged__V1__Append *append = &draft->verb.append;
	uint32_t id = space_id(take), bytes = 0;
	uint8_t choice = take_u8(take);
	const struct page_schema *schema = id < WORLD_SPACES ? &session->world->schemas[id] : NULL;

	append->space_id = id;
	append->key = short_name(take);
	if (choice & 1)
		append->parent = short_name(take);
	append->no_event = choice & 2;
	append->tokens = schema && choice < 0xe0 ? schema->block_tokens : (uint32_t)take_number(take);
	if (schema && schema->layers && append->tokens >= 1 && append->tokens <= schema->block_tokens)
		bytes = page_bytes(schema, append->tokens);
	append->n_pages = take_below(take, PAGES_MAX + 1);
	if (schema && schema->layers && (choice & 0x0c) && page_count(schema) <= PAGES_MAX)
		append->n_pages = page_count(schema); /* the whole block */
	append->pages = draft->page_pointers;
	for (size_t i = 0; i < append->n_pages; i++) {
		uint32_t count = schema && schema->layers ? page_count(schema) : 1;

		draft->page_pointers[i] = &draft->pages[i];
		page_make(&draft->pages[i], take, session, (uint32_t)i % count, bytes, choice & 0x0c);
	}
}

static void hello_make(struct draft *draft, struct take *take)
{
	Kvpaged__V1__Hello *hello = &draft->verb.hello;
	uint8_t choice = take_u8(take);

	hello->version_min = choice < 0xf0 ? 1 : (uint32_t)take_number(take);
	hello->version_max = choice < 0xf8 ? 1 : (uint32_t)take_number(take);
	if (choice & 1)
		hello->client_name = short_name(take);
	hello->staging_bytes = choice & 2 ? take_number(take) : 128 << 10;
	hello->want_event = choice & 4;
	hello->records = choice & 8 ? (uint32_t)take_number(take) : 2;
}

static void release_make(struct draft *draft, struct take *take, const struct world_session *session)
{
	draft->verb.release.n_lease_ids = take_below(take, KEYS_MAX + 1);
	draft->verb.release.lease_ids = draft->leases;
	for (size_t i = 0; i < draft->verb.release.n_lease_ids; i++) {
		uint8_t choice = take_u8(take);

		draft->leases[i] =
			choice < 0xf0 ? session->world->leases[choice % WORLD_LEASES] : take_number(take);
	}
}

/* Space and keys of the verbs that have nothing else. */
#define KEYED(name)                                        \
	do {                                               \
		draft->verb.name.space_id = space_id(take); \
		draft->verb.name.keys = draft->keys;       \
		draft->verb.name.n_keys = keys_make(draft, take); \
	} while (0)

static void small_verb_make(struct draft *draft, struct take *take)
{
	switch (draft->request.verb_case) {
	case KVPAGED__V1__REQUEST__VERB_EVICT:
		draft->verb.evict.space_id = take_below(take, 4);
		draft->verb.evict.bytes = take_number(take);
		draft->verb.evict.blocks = take_number(take);
		draft->verb.evict.all = take_below(take, 8) == 0;
		break;
	case KVPAGED__V1__REQUEST__VERB_LIST:
		draft->verb.list.space_id = space_id(take);
		draft->verb.list.cursor = take_number(take);
		draft->verb.list.limit = (uint32_t)take_number(take);
		break;
	case KVPAGED__V1__REQUEST__VERB_DROP_SPACE:
		draft->verb.drop_space.name = short_name(take);
		break;
	case KVPAGED__V1__REQUEST__VERB_WHY:
		draft->verb.why.space_id = space_id(take);
		draft->verb.why.key = short_name(take);
		break;
	case KVPAGED__V1__REQUEST__VERB_SUBSCRIBE:
		draft->verb.subscribe.after = take_number(take);
		draft->verb.subscribe.max = (uint32_t)take_number(take);
		draft->verb.subscribe.wait_ms = (uint32_t)take_number(take);
		draft->verb.subscribe.from_now = take_below(take, 2);
		break;
	case KVPAGED__V1__REQUEST__VERB_RESIZE:
		draft->verb.resize.bytes = take_below(take, 5) * KVP_EXTENT_BYTES;
		if (take_below(take, 2))
			draft->verb.resize.bytes = take_number(take);
		draft->verb.resize.wait_ms = (uint32_t)take_number(take);
		break;
	default: /* Stats and Config are empty */
		break;
	}
}

static void verb_make(struct draft *draft, struct take *take, const struct world_session *session)
{
	switch (draft->request.verb_case) {
	case KVPAGED__V1__REQUEST__VERB_HELLO:
		hello_make(draft, take);
		break;
	case KVPAGED__V1__REQUEST__VERB_OPEN_SPACE:
		draft->verb.open_space.name = short_name(take);
		if (take_below(take, 8) > 0) {
			schema_make(draft, take);
			draft->verb.open_space.schema = &draft->schema;
		}
		break;
	case KVPAGED__V1__REQUEST__VERB_APPEND:
		append_make(draft, take, session);
		break;
	case KVPAGED__V1__REQUEST__VERB_FETCH:
		KEYED(fetch);
		draft->verb.fetch.range = range_make(draft, take);
		draft->verb.fetch.lease_ttl_ms = (uint32_t)take_number(take);
		draft->verb.fetch.no_lease = take_below(take, 4) == 0;
		draft->verb.fetch.prefetch = take_below(take, 4) == 3;
		draft->verb.fetch.resident_only = take_below(take, 4) == 3;
		break;
	case KVPAGED__V1__REQUEST__VERB_RELEASE:
		release_make(draft, take, session);
		break;
	case KVPAGED__V1__REQUEST__VERB_MATCH:
		KEYED(match);
		draft->verb.match.range = range_make(draft, take);
		break;
	case KVPAGED__V1__REQUEST__VERB_DELETE:
		KEYED(delete_);
		break;
	case KVPAGED__V1__REQUEST__VERB_TOUCH:
		KEYED(touch);
		break;
	case KVPAGED__V1__REQUEST__VERB_PIN:
		KEYED(pin);
		draft->verb.pin.priority = (uint32_t)take_number(take);
		draft->verb.pin.ttl_ms = take_number(take);
		break;
	case KVPAGED__V1__REQUEST__VERB_UNPIN:
		KEYED(unpin);
		break;
	default:
		small_verb_make(draft, take);
		break;
	}
}

/* Prepares the verb's message: its kind, and everything zero. Whether there is such a verb. */
static bool verb_init(struct draft *draft, unsigned verb)
{
	static void (*const init[])(void *) = {
#define INIT(NAME, name) \
	[KVPAGED__V1__REQUEST__VERB_##NAME - KVP_VERB_FIRST] = (void (*)(void *))kvpaged__v1__##name##__init
		INIT(HELLO, hello), INIT(OPEN_SPACE, open_space), INIT(APPEND, append), INIT(FETCH, fetch),
		INIT(RELEASE, release), INIT(MATCH, match), INIT(DELETE, delete), INIT(TOUCH, touch),
		INIT(PIN, pin), INIT(UNPIN, unpin), INIT(STATS, stats), INIT(EVICT, evict), INIT(LIST, list),
		INIT(DROP_SPACE, drop_space), INIT(CONFIG, config), INIT(WHY, why), INIT(SUBSCRIBE, subscribe),
		INIT(RESIZE, resize),
#undef INIT
	};

	if (verb >= sizeof(init) / sizeof(init[0]) || !init[verb])
		return false;
	init[verb](&draft->verb);
	draft->request.verb_case = KVP_VERB_FIRST + verb;
	draft->request.hello = &draft->verb.hello; /* a union of pointers */
	return true;
}

void world_request(struct world_session *session, struct take *take)
{
	struct draft draft = { .request = KVPAGED__V1__REQUEST__INIT };
	_cleanup_free_ uint8_t *message = NULL;
	uint8_t choice = take_u8(take);

	if (verb_init(&draft, take_below(take, KVP_VERBS + 1)))
		verb_make(&draft, take, session);
	draft.request.id = choice < 0xf8 ? ++session->last_id : take_number(take);
	message = malloc(kvpaged__v1__request__get_packed_size(&draft.request) + 1);
	kvp_assert(message);
	world_send(session, message, kvpaged__v1__request__pack(&draft.request, message));
}
