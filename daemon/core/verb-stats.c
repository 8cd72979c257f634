/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stats: every counter, and every space's memory. The gauges of memory satisfy
 *	arena = metadata + stored + overhead + limbo + loading + free + retired
 * where stored is encoded page bytes and overhead is slot rounding, page maps and extent tails.
 */
#include "daemon/core/curve.h"
#include "daemon/core/space.h"
#include "daemon/core/stats.h"
#include "daemon/core/tiering.h"
#include "daemon/core/verbs.h"

#include "base/units.h"

#include <string.h>

static void totals_sum(const struct core *core, struct space_totals *sum)
{
	*sum = (struct space_totals){ 0 };
	for (uint32_t id = 1; id <= KVP_SPACES_MAX; id++) {
		const struct space_totals *totals = &core->spaces[id].totals;

		if (!core->spaces[id].live)
			continue;
		sum->blocks += totals->blocks;
		sum->blocks_partial += totals->blocks_partial;
		sum->pages += totals->pages;
		sum->tokens += totals->tokens;
		sum->logical_f16_bytes += totals->logical_f16_bytes;
		sum->stored_bytes += totals->stored_bytes;
		sum->overhead_bytes += totals->overhead_bytes;
	}
}

void stats_publish_space(struct core *core, uint32_t id)
{
	struct kvp_space_entry *entry = &core->arena.spaces[id - 1];
	const struct space *space = &core->spaces[id];

#define PUBLISH(field, value) atomic_store_explicit(&entry->field, (value), memory_order_relaxed)
	PUBLISH(blocks, space->totals.blocks);
	PUBLISH(blocks_partial, space->totals.blocks_partial);
	PUBLISH(pages, space->totals.pages);
	PUBLISH(tokens, space->totals.tokens);
	PUBLISH(stored_bytes, space->totals.stored_bytes);
	PUBLISH(overhead_bytes, space->totals.overhead_bytes);
	PUBLISH(logical_f16_bytes, space->totals.logical_f16_bytes);
	PUBLISH(sessions, space->sessions);
#undef PUBLISH
}

void stats_refresh(struct core *core)
{
	const struct arena *arena = &core->arena;
	struct space_totals sum;

	for (uint32_t id = 1; id <= KVP_SPACES_MAX; id++)
		if (core->spaces[id].live)
			stats_publish_space(core, id);
	totals_sum(core, &sum);
	counter_set(core, blocks, sum.blocks);
	counter_set(core, blocks_partial, sum.blocks_partial);
	counter_set(core, pages, sum.pages);
	counter_set(core, tokens, sum.tokens);
	counter_set(core, arena_bytes, arena->bytes);
	counter_set(core, metadata_bytes, arena->extents_offset);
	counter_set(core, stored_bytes, sum.stored_bytes);
	counter_set(core, overhead_bytes, sum.overhead_bytes + arena->tail_bytes);
	counter_set(core, retired_bytes, arena->extents_retired * KVP_EXTENT_BYTES);
	counter_set(core, arena_limit_bytes, arena->extents_offset + arena->extents_limit * KVP_EXTENT_BYTES);
	counter_set(core, limbo_bytes, core->limbo_bytes);
	counter_set(core, loading_bytes, core->loading_bytes);
	counter_set(core, free_bytes, arena->free_slot_bytes + arena->extents_free * KVP_EXTENT_BYTES);
	counter_set(core, logical_f16_bytes, sum.logical_f16_bytes);
	counter_set(core, logical_f32_bytes, 2 * sum.logical_f16_bytes);
	curve_refresh(core);
	tiering_refresh(core);
}

static void stats_expire(struct core *core, struct deadline *deadline)
{
	stats_refresh(core);
}

void stats_init(struct core *core)
{
	core->stats_due.expire = stats_expire;
	stats_refresh(core);
}

void stats_later(struct core *core)
{
	if (!deadline_armed(&core->stats_due))
		(void)deadline_arm(&core->deadlines, &core->stats_due, core->now_ns + KVP_STATS_MS * NS_PER_MS);
}

static size_t counters_fill(struct core *core, Kvpaged__V1__Counter *counters, Kvpaged__V1__Counter **pointers)
{
	size_t n = 0;

#define VALUE(counter, labels, sentence)                                                            \
	kvpaged__v1__counter__init(&counters[n]);                                                   \
	counters[n].name = text_data(#counter, strlen(#counter));                                   \
	counters[n].value = counter_get(core, counter);                                             \
	pointers[n] = &counters[n];                                                                 \
	n++;
#include "proto/metrics.def"
	return n;
}

static void space_fill(struct core *core, uint32_t id, Kvpaged__V1__SpaceStats *stats, Kvpaged__V1__Schema *schema)
{
	const struct kvp_space_entry *entry = &core->arena.spaces[id - 1];
	const struct space *space = &core->spaces[id];

	kvpaged__v1__space_stats__init(stats);
	space_schema_fill(entry, schema);
	stats->space_id = id;
	stats->name = text_data(entry->name, entry->name_bytes);
	stats->schema = schema;
	stats->blocks = space->totals.blocks;
	stats->blocks_partial = space->totals.blocks_partial;
	stats->pages = space->totals.pages;
	stats->tokens = space->totals.tokens;
	stats->logical_f16_bytes = space->totals.logical_f16_bytes;
	stats->logical_f32_bytes = 2 * space->totals.logical_f16_bytes;
	stats->stored_bytes = space->totals.stored_bytes;
	stats->overhead_bytes = space->totals.overhead_bytes;
	stats->sessions = space->sessions;
}

enum verb_result verb_stats(struct core_session *session, const Request *request, Reply *reply)
{
	struct core *core = session->core;
	struct reply_scratch *scratch = &core->scratch;
	Kvpaged__V1__StatsReply answer = KVPAGED__V1__STATS_REPLY__INIT;

	stats_refresh(core);
	answer.incarnation = atomic_load_explicit(&core->arena.header->incarnation, memory_order_relaxed);
	answer.uptime_ms = (core->now_ns - core->start_ns) / NS_PER_MS;
	answer.server_version = text_data(core->version, strlen(core->version));
	answer.n_counters = counters_fill(core, scratch->counters, scratch->counter_pointers);
	answer.counters = scratch->counter_pointers;
	answer.spaces = scratch->space_pointers;
	for (uint32_t id = 1; id <= KVP_SPACES_MAX; id++) {
		if (!core->spaces[id].live)
			continue;
		space_fill(core, id, &scratch->spaces[answer.n_spaces], &scratch->schemas[answer.n_spaces]);
		scratch->space_pointers[answer.n_spaces] = &scratch->spaces[answer.n_spaces];
		answer.n_spaces++;
	}
	reply->verb_case = KVPAGED__V1__REPLY__VERB_STATS;
	reply->stats = &answer;
	reply_send(session, reply, 0);
	return VERB_QUEUED;
}
