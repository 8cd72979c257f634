/* SPDX-License-Identifier: Apache-2.0 */
/* The host remembers the last reply of each peer; a test looks at it before it sends the next request. */
#include "tests/lib/core-rig.h"

#include "base/contract.h"
#include "base/units.h"
#include "daemon/core/internal.h"
#include "proto/layout.h"
#include "proto/status.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* So few that the threshold falls in tests with many blocks. */
#define MRC_SAMPLES 16

static int host_memory_create(void *context, void *peer_pointer, enum core_memory kind, uint64_t bytes,
			      void **ret_memory)
{
	struct rig *rig = context;
	struct rig_peer *peer = peer_pointer;

	if (kind == CORE_MEMORY_CONTROL) {
		if (rig->refuse_control)
			return -ENOMEM;
		peer->control = aligned_alloc(64, bytes);
		assert_non_null(peer->control);
		memset(peer->control, 0, bytes);
		*ret_memory = peer->control;
		return 0;
	}
	if (rig->refuse_staging)
		return -ENOMEM;
	peer->staging = aligned_alloc(64, bytes); /* not one of the functions that a test may have wrapped */
	assert_non_null(peer->staging);
	memset(peer->staging, 0, bytes);
	peer->staging_bytes = bytes;
	*ret_memory = peer->staging;
	return 0;
}

static void host_reply(void *context, void *peer_pointer, const uint8_t *message, size_t n, unsigned flags)
{
	struct rig_peer *peer = peer_pointer;

	if (peer->last)
		kvpaged__v1__reply__free_unpacked(peer->last, NULL);
	peer->last = kvpaged__v1__reply__unpack(NULL, n, message);
	assert_non_null(peer->last);
	peer->last_flags = flags;
	peer->n_replies++;
}

static void host_hang_up(void *context, void *peer_pointer, const char *reason)
{
	struct rig_peer *peer = peer_pointer;

	assert_null(peer->hung_up);
	peer->hung_up = reason;
}

/* Each extent once, and then nobody may use it. */
static int host_discard(void *context, uint64_t offset, uint64_t bytes)
{
	struct rig *rig = context;

	assert_int_equal(offset % KVP_EXTENT_BYTES, 0);
	assert_int_equal(bytes, KVP_EXTENT_BYTES);
	assert_true(offset + bytes <= rig->arena_bytes);
	assert_false(rig->discarded[offset / KVP_EXTENT_BYTES]);
	if (rig->refuse_discard)
		return -EPERM;
	rig->discarded[offset / KVP_EXTENT_BYTES] = true;
	assert_int_equal(mprotect((uint8_t *)rig->arena + offset, bytes, PROT_NONE), 0);
	return 0;
}

static int host_restore(void *context, uint64_t offset, uint64_t bytes)
{
	struct rig *rig = context;

	assert_int_equal(bytes, KVP_EXTENT_BYTES);
	assert_true(rig->discarded[offset / KVP_EXTENT_BYTES]);
	if (rig->refuse_restore)
		return -ENOSPC;
	rig->discarded[offset / KVP_EXTENT_BYTES] = false;
	assert_int_equal(mprotect((uint8_t *)rig->arena + offset, bytes, PROT_READ | PROT_WRITE), 0);
	return 0;
}

static const struct core_host host = {
	.discard = host_discard,
	.restore = host_restore,
	.memory_create = host_memory_create,
	.reply = host_reply,
	.hang_up = host_hang_up,
};

void rig_start(struct rig *rig, uint64_t arena_bytes, uint32_t blocks_max, const struct core_limits *limits)
{
	rig_start_curve(rig, arena_bytes, blocks_max, limits, MRC_SAMPLES);
}

/* On the arena's memory, which is there. */
static int core_start(struct rig *rig, struct core_options *options, const struct core_limits *limits)
{
	static const struct core_config_item config[] = { { "arena.bytes", "8MiB", "default" } };

	options->arena = rig->arena;
	options->arena_bytes = rig->arena_bytes;
	options->incarnation = options->recover ? 78 : 77;
	options->hash_seed = 12345;
	options->secret = 54321;
	options->now_ns = rig->now_ns;
	options->version = "0.1.0";
	options->host = &host;
	options->context = rig;
	options->config = config;
	options->n_config = 1;
	if (limits)
		options->limits = *limits;
	return core_new(options, &rig->core);
}

static void arena_map(struct rig *rig, uint64_t arena_bytes)
{
	*rig = (struct rig){ .arena_bytes = arena_bytes, .now_ns = NS_PER_S };
	rig->arena = mmap(NULL, arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(rig->arena != MAP_FAILED);
}

void rig_start_curve(struct rig *rig, uint64_t arena_bytes, uint32_t blocks_max, const struct core_limits *limits,
		     uint32_t mrc_samples)
{
	struct core_options options = { .blocks_max = blocks_max, .mrc_samples = mrc_samples };

	arena_map(rig, arena_bytes);
	assert_int_equal(core_start(rig, &options, limits), 0);
	rig_audit(rig);
}

void rig_start_tier(struct rig *rig, uint64_t arena_bytes, uint32_t blocks_max, struct tier_memory *tier,
		    enum core_tier_admit admit, uint32_t free_percent)
{
	struct core_options options = {
		.blocks_max = blocks_max,
		.mrc_samples = MRC_SAMPLES,
		.tier = &tier->tier,
		.tier_admit = admit,
		.tier_free_percent = free_percent,
	};

	tier_memory_init(tier);
	arena_map(rig, arena_bytes);
	assert_int_equal(core_start(rig, &options, NULL), 0);
	rig_audit(rig);
	rig->tier = tier;
}

void rig_start_in(struct rig *rig, void *arena, uint64_t arena_bytes, uint32_t blocks_max,
		  const struct core_limits *limits, bool recover)
{
	struct core_options options = { .blocks_max = blocks_max, .mrc_samples = MRC_SAMPLES, .recover = recover };

	*rig = (struct rig){ .arena = arena, .arena_bytes = arena_bytes, .now_ns = NS_PER_S };
	assert_int_equal(core_start(rig, &options, limits), 0);
}

/* Pages of zeros stay what they are: most of them. */
static void arena_copy(uint8_t *to, const uint8_t *from, uint64_t bytes)
{
	static const uint8_t zeros[4 * KIB];

	for (uint64_t at = 0; at < bytes; at += sizeof(zeros))
		if (memcmp(from + at, zeros, sizeof(zeros)) != 0)
			memcpy(to + at, from + at, sizeof(zeros));
}

int rig_recover(struct rig *rig, const void *arena, uint64_t arena_bytes, uint32_t blocks_max,
		const struct core_limits *limits)
{
	struct core_options options = { .blocks_max = blocks_max, .mrc_samples = MRC_SAMPLES, .recover = true };
	int r;

	arena_map(rig, arena_bytes);
	arena_copy(rig->arena, arena, arena_bytes);
	r = core_start(rig, &options, limits);
	if (r == 0)
		rig_audit(rig);
	else
		assert_int_equal(munmap(rig->arena, arena_bytes), 0);
	return r;
}

static void block_check_pages(const struct rig *rig, uint32_t block)
{
	const struct kvp_block *shared = shared_block(rig->core, block);
	const struct space *space = &rig->core->spaces[shared->space_id];
	uint32_t n = page_bytes(&space->schema, shared->tokens);

	for (uint32_t page = 0; page < shared->page_count; page++) {
		const struct kvp_page *entry = &shared_pages(rig->core, block)[page];

		if (entry->flags & KVP_PAGE_READY)
			assert_int_equal(kvp_page_checksum((const uint8_t *)rig->arena +
								   (uint64_t)entry->slot * KVP_SLOT_ALIGN, n),
					 entry->checksum);
	}
}

uint32_t rig_check_pages(const struct rig *rig)
{
	uint32_t n = 0;

	for (uint32_t block = 1; block <= rig->core->arena.blocks_count; block++) {
		if (rig->core->blocks[block].state != BLOCK_LIVE)
			continue;
		block_check_pages(rig, block);
		n++;
	}
	return n;
}

uint32_t rig_number(const struct rig *rig, const char *key)
{
	for (uint32_t block = 1; block <= rig->core->arena.blocks_count; block++) {
		const struct kvp_block *shared = shared_block(rig->core, block);

		if (rig->core->blocks[block].state == BLOCK_LIVE && shared->key_bytes == strlen(key) &&
		    memcmp(shared->key, key, strlen(key)) == 0)
			return block;
	}
	return 0;
}

void rig_stop(struct rig *rig)
{
	rig_audit(rig);
	for (unsigned i = 0; i < RIG_PEERS_MAX; i++)
		rig_disconnect(&rig->peers[i]);
	rig_audit(rig);
	if (rig->tier) {
		core_stop(rig->core);
		rig->tier_held = false;
		rig_run(rig);
		assert_true(core_stopped(rig->core));
		rig_audit(rig);
	}
	rig->core = core_free(rig->core);
	if (rig->tier)
		tier_memory_deinit(rig->tier);
	assert_int_equal(munmap(rig->arena, rig->arena_bytes), 0);
}

int rig_connect_raw(struct rig *rig, unsigned i, uint32_t uid)
{
	struct rig_peer *peer = &rig->peers[i];

	kvp_assert(i < RIG_PEERS_MAX && !peer->session);
	*peer = (struct rig_peer){ .rig = rig };
	return core_session_open(rig->core, peer, uid, rig->now_ns, &peer->session);
}

struct rig_peer *rig_connect(struct rig *rig, unsigned i, uint32_t uid, uint64_t staging_bytes)
{
	return rig_connect_reader(rig, i, uid, staging_bytes, 0);
}

struct rig_peer *rig_connect_reader(struct rig *rig, unsigned i, uint32_t uid, uint64_t staging_bytes,
				    uint32_t records)
{
	struct rig_peer *peer = &rig->peers[i];
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Hello hello = KVPAGED__V1__HELLO__INIT;

	assert_int_equal(rig_connect_raw(rig, i, uid), 0);
	hello.version_min = 1;
	hello.version_max = 1;
	hello.staging_bytes = staging_bytes;
	hello.records = records;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_HELLO;
	request.hello = &hello;
	assert_int_equal(rig_call(peer, &request)->status, KVP_OK);
	assert_true(records == 0 || peer->control);
	return peer;
}

void rig_disconnect(struct rig_peer *peer)
{
	peer->session = core_session_close(peer->session);
	if (peer->last)
		kvpaged__v1__reply__free_unpacked(peer->last, NULL);
	free(peer->staging);
	free(peer->control);
	*peer = (struct rig_peer){ 0 };
}

void rig_send(struct rig_peer *peer, Kvpaged__V1__Request *request)
{
	size_t n;
	uint8_t *message;

	if (request->id == 0)
		request->id = ++peer->next_id;
	n = kvpaged__v1__request__get_packed_size(request);
	message = malloc(n);
	assert_non_null(message);
	(void)kvpaged__v1__request__pack(request, message);
	core_request(peer->session, message, n, peer->rig->now_ns);
	free(message);
}

void rig_run(struct rig *rig)
{
	bool more = true;

	while (more) {
		more = core_run(rig->core, rig->now_ns);
		if (!more && rig->tier && !rig->tier_held)
			more = tier_memory_step(rig->tier, 0);
	}
}

const Kvpaged__V1__Reply *rig_call(struct rig_peer *peer, Kvpaged__V1__Request *request)
{
	unsigned before = peer->n_replies;

	rig_send(peer, request);
	rig_run(peer->rig);
	assert_true(peer->n_replies > before);
	return peer->last;
}

void rig_advance_ms(struct rig *rig, uint64_t ms)
{
	rig->now_ns += ms * NS_PER_MS;
	core_tick(rig->core, rig->now_ns);
}

void rig_audit(struct rig *rig)
{
	const char *wrong = core_audit(rig->core);

	if (wrong)
		fail_msg("audit: %s", wrong);
}

void rig_schema(Kvpaged__V1__Schema *schema, uint32_t layers, uint32_t kv_heads, uint32_t head_dim)
{
	kvpaged__v1__schema__init(schema);
	schema->model = (ProtobufCBinaryData){ .data = (uint8_t *)"model", .len = 5 };
	schema->dtype = 1;
	schema->layers = layers;
	schema->kv_heads = kv_heads;
	schema->head_dim_k = head_dim;
	schema->head_dim_v = head_dim;
	schema->block_tokens = 16;
	schema->codec_k = 16;
	schema->codec_v = 16;
}

static ProtobufCBinaryData text(const char *s)
{
	return (ProtobufCBinaryData){ .data = (uint8_t *)s, .len = s ? strlen(s) : 0 };
}

uint32_t rig_open(struct rig_peer *peer, const char *name, const Kvpaged__V1__Schema *schema,
		  Kvpaged__V1__OpenSpaceReply *ret_reply)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__OpenSpace open = KVPAGED__V1__OPEN_SPACE__INIT;
	const Kvpaged__V1__Reply *reply;

	open.name = text(name);
	open.schema = (Kvpaged__V1__Schema *)schema;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_OPEN_SPACE;
	request.open_space = &open;
	reply = rig_call(peer, &request);
	assert_int_equal(reply->status, KVP_OK);
	if (ret_reply) {
		*ret_reply = *reply->open_space;
		ret_reply->schema = NULL; /* belongs to the reply */
	}
	return reply->open_space->space_id;
}

uint32_t rig_open_small(struct rig_peer *peer, Kvpaged__V1__OpenSpaceReply *ret_reply)
{
	Kvpaged__V1__Schema schema;

	rig_schema(&schema, 4, 2, 64);
	return rig_open(peer, "small", &schema, ret_reply);
}

unsigned rig_append(struct rig_peer *peer, uint32_t space_id, const char *key, const char *parent,
		    uint32_t tokens, uint32_t page_bytes, uint32_t first, uint32_t n, uint8_t fill)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Append append = KVPAGED__V1__APPEND__INIT;
	Kvpaged__V1__PageRef *pages = calloc(n, sizeof(*pages));
	Kvpaged__V1__PageRef **pointers = calloc(n, sizeof(*pointers));
	unsigned status;

	kvp_assert(peer->staging_bytes >= page_bytes);
	memset(peer->staging, fill, page_bytes);
	for (uint32_t i = 0; i < n; i++) {
		kvpaged__v1__page_ref__init(&pages[i]);
		pages[i].index = first + i;
		pages[i].length = page_bytes;
		pages[i].checksum = kvp_page_checksum(peer->staging, page_bytes);
		pointers[i] = &pages[i];
	}
	append.space_id = space_id;
	append.key = text(key);
	append.parent = text(parent);
	append.tokens = tokens;
	append.n_pages = n;
	append.pages = pointers;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_APPEND;
	request.append = &append;
	status = rig_call(peer, &request)->status;
	free(pointers);
	free(pages);
	return status;
}

unsigned rig_fetch(struct rig_peer *peer, uint32_t space_id, const char *key, uint32_t ttl_ms,
		   Kvpaged__V1__FetchItem *ret_item)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Fetch fetch = KVPAGED__V1__FETCH__INIT;
	ProtobufCBinaryData keys[1] = { text(key) };
	const Kvpaged__V1__Reply *reply;

	fetch.space_id = space_id;
	fetch.keys = keys;
	fetch.n_keys = 1;
	fetch.lease_ttl_ms = ttl_ms;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_FETCH;
	request.fetch = &fetch;
	reply = rig_call(peer, &request);
	if (reply->status != KVP_OK)
		return reply->status;
	if (ret_item)
		*ret_item = *reply->fetch->items[0];
	return reply->fetch->items[0]->status;
}

unsigned rig_delete(struct rig_peer *peer, uint32_t space_id, const char *key)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Delete body = KVPAGED__V1__DELETE__INIT;
	ProtobufCBinaryData keys[1] = { text(key) };
	const Kvpaged__V1__Reply *reply;

	body.space_id = space_id;
	body.keys = keys;
	body.n_keys = 1;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_DELETE;
	request.delete_ = &body;
	reply = rig_call(peer, &request);
	return reply->status != KVP_OK ? reply->status : reply->items->item_status.data[0];
}

uint64_t rig_counter(struct rig_peer *peer, const char *name)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Stats stats = KVPAGED__V1__STATS__INIT;
	const Kvpaged__V1__Reply *reply;

	request.verb_case = KVPAGED__V1__REQUEST__VERB_STATS;
	request.stats = &stats;
	reply = rig_call(peer, &request);
	assert_int_equal(reply->status, KVP_OK);
	for (size_t i = 0; i < reply->stats->n_counters; i++) {
		const ProtobufCBinaryData *at = &reply->stats->counters[i]->name;

		if (at->len == strlen(name) && memcmp(at->data, name, at->len) == 0)
			return reply->stats->counters[i]->value;
	}
	fail_msg("no counter %s", name);
	return 0;
}
