/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side; see core-world.h. The requests are made in core-request.c. */
#include "tests/fuzz/core-world.h"

#include "base/cleanup.h"
#include "base/contract.h"
#include "base/units.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static int host_memory_create(void *context, void *peer, enum core_memory kind, uint64_t bytes, void **ret_memory)
{
	struct world_session *session = peer;
	struct world *world = context;
	void *memory;

	kvp_assert(bytes > 0 && bytes <= KVP_ARENA_BYTES_MIN);
	if (world->refuse_memory)
		return -ENOMEM;
	memory = aligned_alloc(KVP_CONTROL_ALIGN, bytes);
	kvp_assert(memory);
	memset(memory, 0, bytes);
	if (kind == CORE_MEMORY_CONTROL) {
		kvp_assert(!session->control);
		session->control = memory;
		session->control_bytes = bytes;
	} else {
		kvp_assert(!session->staging);
		session->staging = memory;
		session->staging_bytes = bytes;
	}
	*ret_memory = memory;
	return 0;
}

static void space_learn(struct world *world, const Kvpaged__V1__OpenSpaceReply *reply)
{
	const Kvpaged__V1__Schema *s = reply->schema;

	kvp_assert(reply->space_id >= 1 && reply->space_id <= KVP_SPACES_MAX && s);
	if (reply->space_id >= WORLD_SPACES)
		return;
	world->schemas[reply->space_id] = (struct page_schema){
		.layers = s->layers,
		.kv_heads = s->kv_heads,
		.head_dim_k = s->head_dim_k,
		.head_dim_v = s->head_dim_v,
		.block_tokens = s->block_tokens,
		.codec_k = s->codec_k,
		.codec_v = s->codec_v,
		.page_heads = s->page_heads,
	};
	kvp_assert(reply->page_count == page_count(&world->schemas[reply->space_id]));
	kvp_assert(reply->page_bytes == page_bytes(&world->schemas[reply->space_id], s->block_tokens));
}

static void fetch_learn(struct world *world, const Kvpaged__V1__FetchReply *reply)
{
	for (size_t i = 0; i < reply->n_items; i++) {
		const Kvpaged__V1__FetchItem *item = reply->items[i];

		kvp_assert(item->status < _KVP_STATUS_MAX);
		kvp_implies(item->status != KVP_OK, item->lease_id == 0);
		if (item->lease_id == 0)
			continue;
		kvp_assert(item->block > 0 && item->generation % 2 == 0 && item->tokens > 0);
		memmove(world->leases, world->leases + 1, sizeof(world->leases) - sizeof(world->leases[0]));
		world->leases[WORLD_LEASES - 1] = item->lease_id;
	}
}

static void statuses_check(const ProtobufCBinaryData *statuses)
{
	for (size_t i = 0; i < statuses->len; i++)
		kvp_assert(statuses->data[i] < _KVP_STATUS_MAX);
}

static void host_reply(void *context, void *peer, const uint8_t *message, size_t n, unsigned flags)
{
	struct world_session *session = peer;
	Kvpaged__V1__Reply *reply = kvpaged__v1__reply__unpack(NULL, n, message);

	kvp_assert(reply && n <= KVP_FRAME_BYTES_MAX && reply->status < _KVP_STATUS_MAX);
	kvp_assert(!session->hung_up && flags < 2 * CORE_REPLY_EVENT);
	switch (reply->verb_case) {
	case KVPAGED__V1__REPLY__VERB_OPEN_SPACE:
		if (reply->status == KVP_OK)
			space_learn(context, reply->open_space);
		break;
	case KVPAGED__V1__REPLY__VERB_FETCH:
		fetch_learn(context, reply->fetch);
		break;
	case KVPAGED__V1__REPLY__VERB_APPEND:
		statuses_check(&reply->append->page_status);
		break;
	case KVPAGED__V1__REPLY__VERB_ITEMS:
		statuses_check(&reply->items->item_status);
		break;
	default:
		break;
	}
	kvpaged__v1__reply__free_unpacked(reply, NULL);
}

static void host_hang_up(void *context, void *peer, const char *reason)
{
	struct world_session *session = peer;

	kvp_assert(!session->hung_up && reason && reason[0]);
	session->hung_up = true;
}

/* Each extent once, and then nobody may use it. */
static int host_discard(void *context, uint64_t offset, uint64_t bytes)
{
	struct world *world = context;
	uint64_t extent = offset / KVP_EXTENT_BYTES;

	kvp_assert(offset % KVP_EXTENT_BYTES == 0 && bytes == KVP_EXTENT_BYTES && offset + bytes <= world->arena_bytes);
	kvp_assert(!world->discarded[extent]);
	if (world->refuse_discard)
		return -EPERM;
	world->discarded[extent] = true;
	kvp_assert(mprotect((uint8_t *)world->arena + offset, bytes, PROT_NONE) == 0);
	return 0;
}

static int host_restore(void *context, uint64_t offset, uint64_t bytes)
{
	struct world *world = context;
	uint64_t extent = offset / KVP_EXTENT_BYTES;

	kvp_assert(bytes == KVP_EXTENT_BYTES && world->discarded[extent]);
	if (world->refuse_restore)
		return -ENOSPC;
	world->discarded[extent] = false;
	kvp_assert(mprotect((uint8_t *)world->arena + offset, bytes, PROT_READ | PROT_WRITE) == 0);
	return 0;
}

static const struct core_host host = {
	.discard = host_discard,
	.restore = host_restore,
	.memory_create = host_memory_create,
	.reply = host_reply,
	.hang_up = host_hang_up,
};

void world_start(struct world *world, struct take *take)
{
	static const struct core_config_item config[] = { { "arena.bytes", "8MiB", "default" } };
	struct core_options options = {
		.arena_bytes = KVP_ARENA_BYTES_MIN,
		.incarnation = 77,
		.secret = 54321,
		.now_ns = NS_PER_S,
		.version = "0.1.0",
		.limits = {
			.sessions_max = 3,
			.sessions_per_uid_max = 2,
			.staging_bytes_max = 256 << 10,
			.staging_bytes_per_uid_max = 384 << 10,
			.pins_max = 256,
			.pins_per_uid_max = 320,
			.events_kept = 16,
		},
		.host = &host,
		.context = world,
		.config = config,
		.n_config = 1,
	};

	options.blocks_max = 8u << take_below(take, 5);
	options.hash_seed = take_u8(take); /* other seeds, other chains in the index */
	options.mrc_samples = take_below(take, 8);
	options.limits.pinned_bytes_per_uid_max = take_below(take, 2) ? 256 << 10 : 0;
	options.limits.slice_bytes = 4096u << take_below(take, 6);
	*world = (struct world){ .arena_bytes = options.arena_bytes, .now_ns = options.now_ns };
	world->has_tier = take_below(take, 2);
	options.tier_admit = take_below(take, 2) ? CORE_TIER_ADMIT_READ : CORE_TIER_ADMIT_ALL;
	options.tier_free_percent = 100 - take_below(take, 101);
	options.fixed = world->fixed = take_below(take, 8) == 7;
	if (world->has_tier) {
		tier_memory_init(&world->tier);
		world->tier.blocks_max = 1 + take_below(take, 16);
		options.tier = &world->tier.tier;
	}
	world->arena = mmap(NULL, world->arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	kvp_assert(world->arena != MAP_FAILED);
	options.arena = world->arena;
	kvp_assert(core_new(&options, &world->core) == 0);
}

void world_stop(struct world *world)
{
	for (unsigned i = 0; i < WORLD_SESSIONS; i++)
		world_disconnect(&world->sessions[i]);
	world_audit(world);
	kvp_assert(atomic_load(&core_counters(world->core)->sessions) == 0);
	kvp_assert(atomic_load(&core_counters(world->core)->leases) == 0);
	core_stop(world->core);
	world_run(world);
	kvp_assert(core_stopped(world->core));
	world_audit(world);
	world->core = core_free(world->core);
	if (world->has_tier)
		tier_memory_deinit(&world->tier);
	(void)munmap(world->arena, world->arena_bytes);
}

void world_connect(struct world *world, unsigned i, uint32_t uid)
{
	struct world_session *session = &world->sessions[i];

	if (session->session)
		return;
	*session = (struct world_session){ .world = world };
	if (core_session_open(world->core, session, uid, world->now_ns, &session->session) != 0)
		session->session = NULL;
}

void world_disconnect(struct world_session *session)
{
	session->session = core_session_close(session->session);
	free(session->staging);
	free(session->control);
	session->staging = NULL;
	session->control = NULL;
	session->staging_bytes = 0;
	session->control_bytes = 0;
}

void world_send(struct world_session *session, const uint8_t *message, size_t n)
{
	_cleanup_free_ uint8_t *copy = NULL;

	if (!session->session || n == 0)
		return;
	copy = malloc(n);
	kvp_assert(copy);
	memcpy(copy, message, n);
	core_request(session->session, copy, n, session->world->now_ns);
}

void world_run(struct world *world)
{
	while (core_run(world->core, world->now_ns) || (world->has_tier && tier_memory_step(&world->tier, 0)))
		;
}

void world_audit(struct world *world)
{
	const char *wrong = core_audit(world->core);

	if (wrong)
		(void)fprintf(stderr, "audit: %s\n", wrong);
	kvp_assert(!wrong);
}
