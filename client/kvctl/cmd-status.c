/* SPDX-License-Identifier: Apache-2.0 */
/* kvctl status: the daemon at a glance. Ratios count everything in the arena but what is free. */
#include "client/kvctl/kvctl.h"

#include "base/units.h"
#include "client/kvctl/output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Counters that go into the JSON as they are, and what status says of them. */
static const char *const shown_counters[] = {
	"arena_bytes",
	"metadata_bytes",
	"stored_bytes",
	"overhead_bytes",
	"limbo_bytes",
	"free_bytes",
	"retired_bytes",
	"logical_f16_bytes",
	"logical_f32_bytes",
	"sessions",
	"spaces",
	"blocks",
	"blocks_partial",
	"tokens",
	"leases",
	"blocks_pinned",
	"local_reads_total",
	"append_blocks_total",
	"fetch_hits_total",
	"fetch_miss_never_total",
	"fetch_miss_evicted_total",
	"fetch_miss_removed_total",
	"evictions_capacity_total",
	"tier_capacity_bytes",
	"tier_used_bytes",
	"tier_blocks",
	"tier_stored_blocks_total",
	"tier_loaded_blocks_total",
	"tier_lost_blocks_total",
	"loop_turns_total",
	"loop_turns_slow_total",
	"loop_turns_busy_total",
	"loop_lag_max_us",
	"loop_work_max_us",
};

static uint64_t counter(const struct kvc_stats *stats, const char *name)
{
	return kvc_stats_counter(stats, name);
}

static uint64_t fetch_misses(const struct kvc_stats *stats)
{
	return counter(stats, "fetch_miss_never_total") + counter(stats, "fetch_miss_evicted_total") +
	       counter(stats, "fetch_miss_removed_total");
}

static uint64_t used_bytes(const struct kvc_stats *stats)
{
	return counter(stats, "arena_bytes") - counter(stats, "free_bytes") -
	       counter(stats, "retired_bytes");
}

static double ratio(uint64_t above, uint64_t below)
{
	return below ? (double)above / (double)below : 0;
}

static void print_json(const struct kvc_stats *stats, const struct kvc_info *info)
{
	struct json json = json_stdout();

	json_object_begin(&json);
	json_kv_string(&json, "server_version", stats->server_version);
	json_kv_u64(&json, "incarnation", stats->incarnation);
	json_kv_u64(&json, "uptime_ms", stats->uptime_ms);
	json_kv_u64(&json, "session_id", info->session_id);
	for (size_t i = 0; i < sizeof(shown_counters) / sizeof(shown_counters[0]); i++)
		json_kv_u64(&json, shown_counters[i], counter(stats, shown_counters[i]));
	json_kv_u64(&json, "used_bytes", used_bytes(stats));
	json_kv_double(&json, "vs_f16", ratio(counter(stats, "logical_f16_bytes"), used_bytes(stats)));
	json_kv_double(&json, "vs_f32", ratio(counter(stats, "logical_f32_bytes"), used_bytes(stats)));
	json_object_end(&json);
	json_finish(&json);
}

static void label(const char *text)
{
	(void)printf("%s%-9s%s", style(STYLE_TITLE), text, style(STYLE_PLAIN));
}

static void print_memory(const struct kvc_stats *stats)
{
	static const char *const parts[] = { "stored_bytes", "overhead_bytes", "metadata_bytes", "free_bytes" };
	char size[5][24];

	for (size_t i = 0; i < 4; i++)
		(void)units_format_bytes(counter(stats, parts[i]), size[i], sizeof(size[i]));
	(void)units_format_bytes(counter(stats, "arena_bytes"), size[4], sizeof(size[4]));
	label("memory");
	(void)printf("%s: %s pages, %s overhead, %s tables, %s free", size[4], size[0], size[1], size[2], size[3]);
	if (counter(stats, "retired_bytes") > 0)
		(void)printf(", %s given back", units_format_bytes(counter(stats, "retired_bytes"), size[0], 24));
	(void)putchar('\n');
	(void)units_format_bytes(counter(stats, "logical_f16_bytes"), size[0], sizeof(size[0]));
	(void)units_format_bytes(counter(stats, "logical_f32_bytes"), size[1], sizeof(size[1]));
	label("holds");
	(void)printf("%" PRIu64 " tokens in %" PRIu64 " blocks (%" PRIu64 " unfinished) of %" PRIu64
		     " spaces; as f16 they would take %s, as f32 %s\n",
		     counter(stats, "tokens"), counter(stats, "blocks"), counter(stats, "blocks_partial"),
		     counter(stats, "spaces"), size[0], size[1]);
}

static void print_tier(const struct kvc_stats *stats)
{
	char size[2][24];

	if (counter(stats, "tier_capacity_bytes") == 0)
		return;
	(void)units_format_bytes(counter(stats, "tier_used_bytes"), size[0], sizeof(size[0]));
	(void)units_format_bytes(counter(stats, "tier_capacity_bytes"), size[1], sizeof(size[1]));
	label("tier");
	(void)printf("%s of %s: %" PRIu64 " blocks%s; %" PRIu64 " written, %" PRIu64 " loaded, %" PRIu64 " lost\n",
		     size[0], size[1], counter(stats, "tier_blocks"),
		     counter(stats, "tier_ready") ? "" : " (still looking)", counter(stats, "tier_stored_blocks_total"),
		     counter(stats, "tier_loaded_blocks_total"), counter(stats, "tier_lost_blocks_total"));
}

static void print_text(const struct kvc_stats *stats)
{
	char version[PRINTABLE_BYTES];
	char up[32];

	label("kvpaged");
	(void)printf("%s, up %s, incarnation %" PRIx64 "\n",
		     printable(stats->server_version, strlen(stats->server_version), version),
		     format_ms(stats->uptime_ms, up), stats->incarnation);
	print_memory(stats);
	print_tier(stats);
	label("clients");
	(void)printf("%" PRIu64 " sessions, %" PRIu64 " leases, %" PRIu64 " blocks pinned\n",
		     counter(stats, "sessions"), counter(stats, "leases"), counter(stats, "blocks_pinned"));
	label("traffic");
	(void)printf("%" PRIu64 " blocks read in place, %" PRIu64 " fetched, %" PRIu64 " missed, %" PRIu64
		     " stored, %" PRIu64 " evicted for room\n",
		     counter(stats, "local_reads_total"), counter(stats, "fetch_hits_total"),
		     fetch_misses(stats), counter(stats, "append_blocks_total"),
		     counter(stats, "evictions_capacity_total"));
	label("loop");
	(void)printf("%" PRIu64 " turns; longest %.3f ms of CPU time (%" PRIu64
		     " above 1 ms), %.3f ms by the clock (%" PRIu64 " above 1 ms)\n",
		     counter(stats, "loop_turns_total"), (double)counter(stats, "loop_work_max_us") / 1e3,
		     counter(stats, "loop_turns_busy_total"), (double)counter(stats, "loop_lag_max_us") / 1e3,
		     counter(stats, "loop_turns_slow_total"));
}

static int run(struct ctl *ctl, const void *args, char **operands, size_t n)
{
	struct kvc_stats *stats;
	struct kvc_info info;
	int status = ctl_open(ctl, KVC_READ_ONLY);
	int r;

	if (status != CTL_OK)
		return status;
	r = kvc_client_info(ctl->client, &info);
	if (r == KVC_OK)
		r = kvc_stats_get(ctl->client, &stats);
	if (r != KVC_OK)
		return ctl_fail(ctl, "status", r);
	if (ctl->json)
		print_json(stats, &info);
	else
		print_text(stats);
	(void)kvc_stats_free(stats);
	return CTL_OK;
}

const struct verb verb_status = {
	.name = "status",
	.operands = "",
	.summary = "Show the daemon at a glance",
	.run = run,
};
