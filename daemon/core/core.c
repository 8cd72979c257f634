/* SPDX-License-Identifier: Apache-2.0 */
/* The core as a whole: birth, time, end. Requests are in session.c, one file a verb beside it. */
#include "daemon/core/curve.h"
#include "daemon/core/events.h"
#include "daemon/core/hazard.h"
#include "daemon/core/loading.h"
#include "daemon/core/recover.h"
#include "daemon/core/resize.h"
#include "daemon/core/stats.h"
#include "daemon/core/tiering.h"

#include "base/contract.h"
#include "base/units.h"

#include <errno.h>
#include <stdlib.h>

#define ARENA_BYTES_PER_BLOCK (64 * KIB)

static void limits_default(struct core_limits *limits, uint64_t arena_bytes)
{
#define DEFAULT(field, value)                                                                       \
	if (limits->field == 0)                                                                     \
		limits->field = (value)
	DEFAULT(sessions_max, 1024);
	DEFAULT(sessions_per_uid_max, 256);
	DEFAULT(staging_bytes_max, 64 * MIB);
	DEFAULT(staging_bytes_per_uid_max, GIB);
	DEFAULT(pinned_bytes_per_uid_max, arena_bytes / 2);
	DEFAULT(pins_max, 65536);
	DEFAULT(pins_per_uid_max, 262144);
	DEFAULT(pin_grace_ms, 10000);
	DEFAULT(lease_ttl_ms, 30000);
	DEFAULT(lease_ttl_ms_max, 600000);
	DEFAULT(partial_ttl_ms, 60000);
	DEFAULT(keep_ttl_ms_max, 24 * 3600 * 1000);
	DEFAULT(hello_ttl_ms, 1000);
	DEFAULT(slice_bytes, 256 << 10);
	DEFAULT(events_kept, 16384);
	DEFAULT(restart_grace_ms, 2000);
#undef DEFAULT
	if (limits->lease_ttl_ms > limits->lease_ttl_ms_max)
		limits->lease_ttl_ms = limits->lease_ttl_ms_max;
}

static uint32_t blocks_for(uint64_t arena_bytes, uint32_t blocks_max)
{
	uint64_t blocks = blocks_max ? blocks_max : arena_bytes / ARENA_BYTES_PER_BLOCK;

	return blocks > INT32_MAX ? INT32_MAX : (uint32_t)blocks;
}

static int tables_init(struct core *core)
{
	uint32_t count = core->arena.blocks_count;

	core->blocks = calloc(count + 1, sizeof(*core->blocks));
	core->entries = calloc(count + 1, sizeof(*core->entries));
	core->parse = malloc(PARSE_BYTES);
	core->reply_buffer = malloc(KVP_FRAME_BYTES_MAX);
	core->marks = calloc(count + 1, sizeof(*core->marks));
	if (!core->blocks || !core->entries || !core->marks || !core->parse || !core->reply_buffer)
		return -ENOMEM;
	return 0;
}

static void numbers_free(struct core *core)
{
	for (uint32_t block = core->arena.blocks_count; block > 0; block--) {
		if (core->blocks[block].state != BLOCK_FREE)
			continue;
		core->blocks[block].free_next = core->free_block;
		core->free_block = block;
		core->free_blocks++;
	}
}

const char *core_arena_fault(const void *arena, uint64_t arena_bytes, uint32_t blocks_max)
{
	return arena_fault(arena, arena_bytes, blocks_for(arena_bytes, blocks_max));
}

static int arena_open(struct core *core, const struct core_options *options)
{
	uint32_t blocks = blocks_for(options->arena_bytes, options->blocks_max);

	if (options->recover)
		return arena_adopt(&core->arena, options->arena, options->arena_bytes, blocks, options->incarnation);
	return arena_init(&core->arena, options->arena, options->arena_bytes, blocks, options->incarnation,
			  options->hash_seed);
}

int core_new(const struct core_options *options, struct core **ret_core)
{
	struct core *core;
	int r;

	kvp_assert(options->host && options->incarnation != 0);
	core = calloc(1, sizeof(*core));
	if (!core)
		return -ENOMEM;
	core->limits = options->limits;
	limits_default(&core->limits, options->arena_bytes);
	core->host = options->host;
	core->context = options->context;
	core->version = options->version;
	core->config = options->config;
	core->n_config = options->n_config;
	core->start_ns = options->now_ns;
	core->now_ns = options->now_ns;
	list_init(&core->sessions);
	list_init(&core->users);
	list_init(&core->run_queue);
	list_init(&core->loads);
	list_init(&core->fetches);
	hazard_init(core);
	r = arena_open(core, options);
	if (r == 0)
		r = tables_init(core);
	if (r == 0)
		r = intake_init(&core->intake);
	if (r == 0)
		r = past_init(&core->past, core->arena.blocks_count);
	if (r == 0)
		r = events_init(core);
	if (r == 0)
		r = curve_init(core, options->mrc_samples, options->secret);
	if (r == 0)
		r = tiering_init(core, options);
	if (r == 0)
		resize_init(core, options->fixed);
	if (r == 0 && options->recover)
		r = recover(core);
	if (r < 0) {
		(void)core_free(core);
		return r;
	}
	numbers_free(core);
	stats_init(core);
	*ret_core = core;
	return 0;
}

struct core *core_free(struct core *core)
{
	if (!core)
		return NULL;
	kvp_assert(list_empty(&core->sessions) && list_empty(&core->users));
	kvp_assert(list_empty(&core->loads) && core->loads_bytes == 0 && core->storing_bytes == 0);
	for (uint32_t id = 1; id <= KVP_SPACES_MAX; id++)
		if (core->spaces[id].policy)
			core->spaces[id].policy->ops->destroy(core->spaces[id].policy);
	/* Soft pins outlive sessions: their deadlines go with the table. */
	if (core->blocks)
		for (uint32_t block = 1; block <= core->arena.blocks_count; block++)
			deadline_disarm(&core->deadlines, &core->blocks[block].keep);
	deadline_disarm(&core->deadlines, &core->scan_due);
	deadline_disarm(&core->deadlines, &core->stats_due);
	tiering_deinit(core);
	deadline_disarm(&core->deadlines, &core->resize.step);
	events_deinit(core);
	past_deinit(&core->past);
	deadline_heap_deinit(&core->deadlines);
	arena_deinit(&core->arena);
	intake_deinit(&core->intake);
	mrc_deinit(&core->mrc);
	free(core->leases);
	free(core->free_leases);
	free(core->blocks);
	free(core->entries);
	free(core->marks);
	free(core->parse);
	free(core->reply_buffer);
	free(core);
	return NULL;
}

const struct core_recovery *core_recovery(const struct core *core)
{
	return &core->recovery;
}

uint64_t core_deadline_ns(const struct core *core)
{
	uint64_t own_ns = deadline_next_ns(&core->deadlines);
	uint64_t tier_ns = core->tier->ops->deadline_ns(core->tier);

	return own_ns < tier_ns ? own_ns : tier_ns;
}

void core_tick(struct core *core, uint64_t now_ns)
{
	struct deadline *due;

	core->now_ns = now_ns;
	while ((due = deadline_pop_due(&core->deadlines, now_ns)))
		due->expire(core, due);
	if (core->tier->ops->deadline_ns(core->tier) <= now_ns)
		core->tier->ops->tick(core->tier, now_ns);
}

void core_stop(struct core *core)
{
	core->stopping = true;
	loading_note(core); /* the grace that it was written for may be over */
}

bool core_stopped(struct core *core)
{
	return list_empty(&core->fetches) && list_empty(&core->loads) && tiering_stopped(core);
}

void core_note_turn(struct core *core, uint64_t duration_ns, uint64_t cpu_ns)
{
	counter_add(core, loop_turns_total, 1);
	histogram_add(core->arena.counters->loop_turn_seconds, duration_ns);
	if (duration_ns > NS_PER_MS)
		counter_add(core, loop_turns_slow_total, 1);
	if (cpu_ns > NS_PER_MS)
		counter_add(core, loop_turns_busy_total, 1);
	if (duration_ns / 1000 > counter_get(core, loop_lag_max_us))
		counter_set(core, loop_lag_max_us, duration_ns / 1000);
	if (cpu_ns / 1000 > counter_get(core, loop_work_max_us))
		counter_set(core, loop_work_max_us, cpu_ns / 1000);
}

void core_note_http(struct core *core, bool served)
{
	if (served)
		counter_add(core, http_answered_total, 1);
	else
		counter_add(core, http_refused_total, 1);
}

void core_refresh(struct core *core, uint64_t now_ns)
{
	core->now_ns = now_ns;
	stats_refresh(core);
}

const struct kvp_counters *core_counters(const struct core *core)
{
	return core->arena.counters;
}

const struct kvp_space_entry *core_spaces(const struct core *core)
{
	return core->arena.spaces;
}
