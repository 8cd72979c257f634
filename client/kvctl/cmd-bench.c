/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl bench: how fast this daemon on this machine is, in a few seconds: blocks of random values are appended to a
 * space of the bench's own, found and read back. Beside them stand what bounds them: copying memory, and a message
 * there and back through a Unix socket. The space goes when the bench ends, also by Ctrl-C.
 */
#include "client/kvctl/kvctl.h"

#include "base/units.h"
#include "client/kvctl/bench.h"
#include "client/kvctl/output.h"
#include "client/kvctl/schema.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SECONDS_DEFAULT 3
#define SECONDS_MAX 600
#define PINS_MAX 256

/* Free memory that spaces and extents round up to, beside the blocks themselves. */
#define ROUNDING_BYTES (8 * MIB)

struct args {
	const char *codec;
	uint64_t seconds;
	bool force;
};

static const struct option_spec options[] = {
	{ "codec", 0, OPTION_TEXT, "NAME", "of K and V: " CODEC_NAMES " (default: q8)", offsetof(struct args, codec),
	  0 },
	{ "seconds", 0, OPTION_NUMBER, "N", "how long all of it takes (default: 3)", offsetof(struct args, seconds),
	  0 },
	{ "force", 0, OPTION_FLAG, NULL, "also when blocks of others would be evicted for it",
	  offsetof(struct args, force), 0 },
	{ 0 },
};

static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
	interrupted = number;
}

bool bench_interrupted(void)
{
	return interrupted != 0;
}

static void signals_catch(void)
{
	struct sigaction action = { .sa_handler = interrupt };

	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
	(void)sigaction(SIGHUP, &action, NULL);
}

static void print_text(const struct bench *bench)
{
	struct table table;
	char text[64];

	(void)printf("A block: %u tokens of %u layers x %u heads x %u channels, %s; as f16 %.1f MiB.\n\n", BENCH_TOKENS,
		     BENCH_LAYERS, BENCH_HEADS, BENCH_DIM, codec_name(bench->codec),
		     (double)BENCH_BLOCK_F16_BYTES / (double)MIB);
	table_init(&table, "WHAT", ">HALF WITHIN", ">99% WITHIN", ">A SECOND", "MEANING", NULL);
	for (size_t i = 0; i < bench->n; i++) {
		const struct bench_row *row = &bench->rows[i];

		table_text(&table, row->name);
		(void)snprintf(text, sizeof(text), "%.2f us", row->p50_us);
		table_text(&table, text);
		(void)snprintf(text, sizeof(text), "%.2f us", row->p99_us);
		table_text(&table, text);
		(void)snprintf(text, sizeof(text), row->gigabytes ? "%.2f GB" : "%.0f", row->rate);
		table_text(&table, text);
		table_text(&table, row->meaning);
	}
	(void)table_finish(&table);
}

static void print_json(const struct bench *bench)
{
	struct json json = json_stdout();

	json_object_begin(&json);
	json_kv_string(&json, "codec", codec_name(bench->codec));
	json_kv_u64(&json, "block_f16_bytes", BENCH_BLOCK_F16_BYTES);
	json_key(&json, "results");
	json_array_begin(&json);
	for (size_t i = 0; i < bench->n; i++) {
		json_object_begin(&json);
		json_kv_string(&json, "name", bench->rows[i].name);
		json_kv_u64(&json, "samples", bench->rows[i].samples);
		json_kv_double(&json, "p50_us", bench->rows[i].p50_us);
		json_kv_double(&json, "p99_us", bench->rows[i].p99_us);
		json_kv_double(&json, bench->rows[i].gigabytes ? "gigabytes_per_s" : "per_s", bench->rows[i].rate);
		json_object_end(&json);
	}
	json_array_end(&json);
	json_object_end(&json);
	json_finish(&json);
}

/* What the blocks take at most: as f32 with that codec, as f16 with all others. */
static uint64_t needed_bytes(uint32_t codec)
{
	return BENCH_BLOCKS * (uint64_t)BENCH_BLOCK_F16_BYTES * (codec == KVC_CODEC_F32 ? 2 : 1) + ROUNDING_BYTES;
}

static int check_room(struct ctl *ctl, uint32_t codec, bool force)
{
	uint64_t needed = needed_bytes(codec);
	struct kvc_stats *stats;
	char size[2][24];
	uint64_t unused;
	int r = kvc_stats_get(ctl->client, &stats);

	if (r != KVC_OK)
		return ctl_fail(ctl, "bench", r);
	unused = kvc_stats_counter(stats, "free_bytes");
	(void)kvc_stats_free(stats);
	if (unused >= needed || force)
		return CTL_OK;
	(void)ctl_error(
		"bench: %s of the arena are free and it may need %s: blocks of others would be evicted; --force "
		"does it all the same",
		units_format_bytes(unused, size[0], sizeof(size[0])),
		units_format_bytes(needed, size[1], sizeof(size[1])));
	return CTL_TRY_AGAIN;
}

static int measure(struct ctl *ctl, struct bench *bench)
{
	char name[64];
	int status;
	int r;

	(void)snprintf(name, sizeof(name), "kvctl-bench-%ld", (long)getpid());
	r = bench_open(bench, ctl->client, name);
	status = r == KVC_OK ? CTL_OK : ctl_fail(ctl, "bench", r);
	if (status == CTL_OK) {
		r = bench_run(bench);
		status = r == KVC_OK ? CTL_OK : ctl_fail(ctl, "bench", r);
	}
	bench_close(bench);
	r = kvc_space_drop(ctl->client, name);
	if (r != KVC_OK && r != KVC_NO_SPACE_NAMED)
		status = ctl_fail(ctl, name, r);
	return status;
}

static int run(struct ctl *ctl, const void *data, char **operands, size_t n)
{
	const struct args *args = data;
	struct kvc_options wanted = { .flags = KVC_NO_RECONNECT, .pins_max = PINS_MAX };
	struct bench bench = { .seconds = args->seconds ? args->seconds : SECONDS_DEFAULT };
	char shown[PRINTABLE_BYTES];
	int status;

	bench.codec = args->codec ? codec_number(args->codec) : KVC_CODEC_Q8;
	if (bench.codec == 0)
		return ctl_usage("--codec wants one of %s, not '%s'", CODEC_NAMES,
				 printable(args->codec, strlen(args->codec), shown));
	if (bench.seconds > SECONDS_MAX)
		return ctl_usage("--seconds may be at most %d", SECONDS_MAX);
	status = ctl_open_with(ctl, &wanted);
	if (status == CTL_OK)
		status = check_room(ctl, bench.codec, args->force);
	if (status != CTL_OK)
		return status;
	signals_catch();
	status = measure(ctl, &bench);
	if (status == CTL_OK && bench_interrupted())
		return ctl_error("bench: interrupted; its space is removed");
	if (status != CTL_OK)
		return status;
	if (ctl->json)
		print_json(&bench);
	else
		print_text(&bench);
	return CTL_OK;
}

const struct verb verb_bench = {
	.name = "bench",
	.operands = "",
	.summary = "Measure this daemon on this machine, in a few seconds",
	.details =
		"Appends blocks of random values to a space named kvctl-bench-PID, finds, pins, decodes and fetches\n"
		"them, and removes the space. When the arena is full, blocks of others are evicted for it, so it\n"
		"refuses unless there is room or --force is given. Other work on the machine shows in the figures.",
	.options = options,
	.args_bytes = sizeof(struct args),
	.run = run,
};
