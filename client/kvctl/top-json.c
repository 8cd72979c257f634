/* SPDX-License-Identifier: Apache-2.0 */
/* A frame of kvctl top for programs: rates a second, amounts as of now, the names being the counters'. */
#include "client/kvctl/top.h"

#include "base/cleanup.h"
#include "client/kvctl/output.h"
#include "client/kvctl/schema.h"

#include <math.h>

#define VERBS_MAX 32

static const struct {
	const char *key;
	const char *counter;
} rates[] = {
	{ "requests_per_s", "requests_total" },
	{ "requests_failed_per_s", "requests_failed_total" },
	{ "local_reads_per_s", "local_reads_total" },
	{ "local_misses_per_s", "local_misses_total" },
	{ "fetch_hits_per_s", "fetch_hits_total" },
	{ "fetch_miss_never_per_s", "fetch_miss_never_total" },
	{ "fetch_miss_evicted_per_s", "fetch_miss_evicted_total" },
	{ "fetch_miss_removed_per_s", "fetch_miss_removed_total" },
	{ "fetch_partial_per_s", "fetch_partial_total" },
	{ "append_blocks_per_s", "append_blocks_total" },
	{ "append_bytes_per_s", "append_bytes_total" },
	{ "evictions_capacity_per_s", "evictions_capacity_total" },
	{ "evictions_request_per_s", "evictions_request_total" },
	{ "deleted_per_s", "deleted_total" },
	{ "dropped_writer_gone_per_s", "dropped_writer_gone_total" },
	{ "dropped_partial_ttl_per_s", "dropped_partial_ttl_total" },
	{ "loop_turns_per_s", "loop_turns_total" },
};

static const char *const amounts[] = {
	"arena_bytes",
	"stored_bytes",
	"overhead_bytes",
	"metadata_bytes",
	"limbo_bytes",
	"free_bytes",
	"retired_bytes",
	"arena_limit_bytes",
	"logical_f16_bytes",
	"tokens",
	"blocks",
	"blocks_partial",
	"sessions",
	"leases",
	"blocks_pinned",
	"loop_lag_max_us",
	"loop_work_max_us",
	"loop_turns_slow_total",
	"loop_turns_busy_total",
};

static void put_verbs(struct json *json, const struct top *top)
{
	struct top_verb verbs[VERBS_MAX];
	size_t n = top_verbs(top, verbs, VERBS_MAX);

	json_key(json, "verbs");
	json_array_begin(json);
	for (size_t i = 0; i < n; i++) {
		json_object_begin(json);
		json_kv_string(json, "verb", verbs[i].name);
		json_kv_double(json, "per_s", verbs[i].rate);
		json_kv_double(json, "p50_us", verbs[i].p50_us == UINT64_MAX ? INFINITY : (double)verbs[i].p50_us);
		json_kv_double(json, "p99_us", verbs[i].p99_us == UINT64_MAX ? INFINITY : (double)verbs[i].p99_us);
		json_object_end(json);
	}
	json_array_end(json);
}

/* What is not known is null. */
static void put_share(struct json *json, const char *key, double share)
{
	json_kv_double(json, key, share < 0 ? (double)NAN : share);
}

static void put_shares(struct json *json, const struct top *top)
{
	put_share(json, "hit_rate", top_hit_rate(top, false, false));
	put_share(json, "hit_rate_since_start", top_hit_rate(top, false, true));
	put_share(json, "prefix_hit_rate", top_hit_rate(top, true, false));
	put_share(json, "prefix_hit_rate_since_start", top_hit_rate(top, true, true));
}

static void put_curve(struct json *json, const struct top *top)
{
	struct top_curve curve;

	top_curve(top, &curve);
	json_key(json, "hits_by_size");
	json_object_begin(json);
	json_kv_u64(json, "references", curve.references);
	json_kv_bool(json, "since_start", curve.since_start);
	for (size_t i = 0; i < TOP_CURVE_POINTS && curve.references; i++)
		json_kv_double(json, top_curve_sizes[i], curve.hits[i]);
	json_object_end(json);
}

static void put_spaces(struct json *json, const struct top *top)
{
	_cleanup_free_ const struct kvc_space_stats **spaces = top_spaces(top);

	json_key(json, "spaces");
	json_array_begin(json);
	for (size_t i = 0; spaces && i < top->now->n_spaces; i++) {
		const struct kvc_space_stats *space = spaces[i];

		json_object_begin(json);
		json_kv_string(json, "name", space->name);
		json_kv_string(json, "codec_k", codec_name(space->schema.codec_k));
		json_kv_string(json, "codec_v", codec_name(space->schema.codec_v));
		json_kv_u64(json, "blocks", space->blocks);
		json_kv_u64(json, "tokens", space->tokens);
		json_kv_u64(json, "stored_bytes", space->stored_bytes);
		json_kv_u64(json, "overhead_bytes", space->overhead_bytes);
		json_kv_double(json, "vs_f16",
			       top_ratio(space->logical_f16_bytes, space->stored_bytes + space->overhead_bytes));
		json_kv_u64(json, "sessions", space->sessions);
		json_object_end(json);
	}
	json_array_end(json);
}

static void put_numbers(struct json *json, const struct top *top)
{
	json_kv_string(json, "server_version", top->now->server_version);
	json_kv_u64(json, "incarnation", top->now->incarnation);
	json_kv_u64(json, "uptime_ms", (top->now_ns - top->start_ns) / 1000000);
	json_kv_double(json, "seconds", top->seconds);
	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++)
		json_kv_double(json, rates[i].key, top_rate(top, rates[i].counter));
	for (size_t i = 0; i < sizeof(amounts) / sizeof(amounts[0]); i++)
		json_kv_u64(json, amounts[i], top_value(top, amounts[i]));
	json_kv_double(json, "vs_f16",
		       top_ratio(top_value(top, "logical_f16_bytes"),
				 top_value(top, "arena_bytes") - top_value(top, "free_bytes") -
					 top_value(top, "retired_bytes")));
	put_verbs(json, top);
	put_shares(json, top);
	put_curve(json, top);
	put_spaces(json, top);
}

void top_json(const struct top *top)
{
	struct json json = json_stdout();

	json_object_begin(&json);
	json_kv_bool(&json, "reachable", top->lost_ns == 0);
	if (top->lost_ns)
		json_kv_string(&json, "why", top->why);
	if (top->now)
		put_numbers(&json, top);
	json_object_end(&json);
	json_finish(&json);
}
