/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl stats: every counter, and the spaces. With --watch a line an interval with what happened in it, until
 * interrupted. The sentences beside the counters are this program's; a counter of a newer daemon is shown without one.
 */
#include "client/kvctl/kvctl.h"

#include "base/units.h"
#include "client/kvctl/output.h"
#include "client/kvctl/schema.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define WATCH_MS_DEFAULT 1000
#define TITLE_EVERY 20

struct args {
	uint64_t watch_ms;
	uint64_t count;
};

static const struct option_spec options[] = {
	{ "watch", 'w', OPTION_INTERVAL, "SEC", "print a line every so many seconds (1), or with --json all of it",
	  offsetof(struct args, watch_ms), WATCH_MS_DEFAULT },
	{ "count", 'c', OPTION_NUMBER, "N", "with --watch: end after N lines", offsetof(struct args, count), 0 },
	{ 0 },
};

static const struct {
	const char *name;
	const char *sentence;
} sentences[] = {
#define VALUE(field, labels, sentence) { #field, sentence },
#include "proto/metrics.def"
};

static const char *sentence_of(const char *name)
{
	for (size_t i = 0; i < sizeof(sentences) / sizeof(sentences[0]); i++)
		if (strcmp(sentences[i].name, name) == 0)
			return sentences[i].sentence;
	return "";
}

static void json_space(struct json *json, const struct kvc_space_stats *space)
{
	json_object_begin(json);
	json_kv_string(json, "name", space->name);
	json_kv_schema(json, &space->schema);
	json_kv_u64(json, "blocks", space->blocks);
	json_kv_u64(json, "blocks_partial", space->blocks_partial);
	json_kv_u64(json, "pages", space->pages);
	json_kv_u64(json, "tokens", space->tokens);
	json_kv_u64(json, "logical_f16_bytes", space->logical_f16_bytes);
	json_kv_u64(json, "logical_f32_bytes", space->logical_f32_bytes);
	json_kv_u64(json, "stored_bytes", space->stored_bytes);
	json_kv_u64(json, "overhead_bytes", space->overhead_bytes);
	json_kv_u64(json, "sessions", space->sessions);
	json_object_end(json);
}

static void print_json(const struct kvc_stats *stats)
{
	struct json json = json_stdout();

	json_object_begin(&json);
	json_kv_string(&json, "server_version", stats->server_version);
	json_kv_u64(&json, "incarnation", stats->incarnation);
	json_kv_u64(&json, "uptime_ms", stats->uptime_ms);
	json_key(&json, "counters");
	json_object_begin(&json);
	for (size_t i = 0; i < stats->n_counters; i++)
		json_kv_u64(&json, stats->counters[i].name, stats->counters[i].value);
	json_object_end(&json);
	json_key(&json, "spaces");
	json_array_begin(&json);
	for (size_t i = 0; i < stats->n_spaces; i++)
		json_space(&json, &stats->spaces[i]);
	json_array_end(&json);
	json_object_end(&json);
	json_finish(&json);
}

static int print_text(const struct kvc_stats *stats)
{
	struct table table;

	table_init(&table, ">VALUE", "COUNTER", "MEANING", NULL);
	for (size_t i = 0; i < stats->n_counters; i++) {
		table_u64(&table, stats->counters[i].value);
		table_text(&table, stats->counters[i].name);
		table_text(&table, sentence_of(stats->counters[i].name));
	}
	return table_finish(&table);
}

static double rate(const struct kvc_stats *now, const struct kvc_stats *before, const char *name)
{
	uint64_t ms = now->uptime_ms > before->uptime_ms ? now->uptime_ms - before->uptime_ms : 1;

	return (double)(kvc_stats_counter(now, name) - kvc_stats_counter(before, name)) * 1000.0 / (double)ms;
}

static void print_line(const struct kvc_stats *now, const struct kvc_stats *before, uint64_t line)
{
	char free_text[24];

	if (line % TITLE_EVERY == 0)
		(void)printf("%10s %10s %10s %10s %10s %10s %8s %10s %8s\n", "requests/s", "stored/s", "MB/s",
			     "fetched/s", "missed/s", "evicted/s", "blocks", "free", "sessions");
	(void)printf("%10.1f %10.1f %10.1f %10.1f %10.1f %10.1f %8" PRIu64 " %10s %8" PRIu64 "\n",
		     rate(now, before, "requests_total"), rate(now, before, "append_blocks_total"),
		     rate(now, before, "append_bytes_total") / 1e6, rate(now, before, "fetch_hits_total"),
		     rate(now, before, "fetch_miss_never_total") + rate(now, before, "fetch_miss_evicted_total") +
			     rate(now, before, "fetch_miss_removed_total"),
		     rate(now, before, "evictions_capacity_total"),
		     kvc_stats_counter(now, "blocks"),
		     units_format_bytes(kvc_stats_counter(now, "free_bytes"), free_text, sizeof(free_text)),
		     kvc_stats_counter(now, "sessions"));
}

static void pause_ms(uint64_t ms)
{
	struct timespec left = { .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000 * NS_PER_MS) };

	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

/* Whoever reads may be gone: then there is nobody to print for. */
static bool flushed(void)
{
	return fflush(stdout) == 0 && !ferror(stdout);
}

static int watch(struct ctl *ctl, const struct args *args)
{
	struct kvc_stats *before = NULL;
	struct kvc_stats *now = NULL;
	int r = kvc_stats_get(ctl->client, &before);

	for (uint64_t line = 0; r == KVC_OK && (args->count == 0 || line < args->count) && flushed(); line++) {
		pause_ms(args->watch_ms);
		r = kvc_stats_get(ctl->client, &now);
		if (r != KVC_OK)
			break;
		if (ctl->json)
			print_json(now);
		else
			print_line(now, before, line);
		(void)kvc_stats_free(before);
		before = now;
		now = NULL;
	}
	(void)kvc_stats_free(before);
	return r == KVC_OK ? CTL_OK : ctl_fail(ctl, "stats", r);
}

static int run(struct ctl *ctl, const void *data, char **operands, size_t n)
{
	const struct args *args = data;
	int status;

	if (args->count && !args->watch_ms)
		return ctl_usage("--count goes with --watch");
	status = ctl_open(ctl, KVC_READ_ONLY);
	if (status != CTL_OK)
		return status;
	if (args->watch_ms)
		return watch(ctl, args);
	return ctl_show_stats(ctl, "stats", print_json, print_text);
}

const struct verb verb_stats = {
	.name = "stats",
	.operands = "",
	.summary = "Show every counter of the daemon",
	.details = "With --json the spaces' numbers are there too; with --json --watch one object a line.",
	.options = options,
	.args_bytes = sizeof(struct args),
	.run = run,
};
