/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much K and V an arena holds. An arena is filled with blocks until the first one is evicted; what it held just
 * before, as f16 and as f32, is divided by the size of the whole arena: header, counters, tables, index, page maps,
 * slot rounding, extent tails and what was too small for one more block count as used. The bytes are the daemon's own
 * counters. Codecs are fixed-rate, so the values do not matter.
 */
#include "tests/bench/bench.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "tests/bench/report.h"
#include "tests/bench/server.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct held {
	uint64_t f16_bytes;
	uint64_t f32_bytes;
	uint64_t tokens;
	uint64_t arena_bytes;
};

/* Fills *held unless something was evicted already, which is told. */
static int look(kvc_client *client, struct held *held, bool *ret_full)
{
	struct kvc_stats *stats;
	int r = kvc_stats_get(client, &stats);

	if (r != KVC_OK)
		return bench_error("stats: %s", kvc_strerror(r));
	*ret_full = kvc_stats_counter(stats, "evictions_capacity_total") > 0;
	if (!*ret_full)
		*held = (struct held){
			.f16_bytes = kvc_stats_counter(stats, "logical_f16_bytes"),
			.f32_bytes = kvc_stats_counter(stats, "logical_f32_bytes"),
			.tokens = kvc_stats_counter(stats, "tokens"),
			.arena_bytes = kvc_stats_counter(stats, "arena_bytes"),
		};
	(void)kvc_stats_free(stats);
	return 0;
}

static int fill(kvc_client *client, kvc_space *space, const struct bench_shape *shape, struct held *held)
{
	size_t values = bench_plane_values(shape);
	_cleanup_free_ float *data = malloc(2 * values * sizeof(float));
	bool full = false;

	*held = (struct held){ 0 };
	if (!data)
		return bench_error("out of memory");
	bench_fill(data, 2 * values, shape->head_dim, 1);
	for (uint64_t key = 1; !full; key++) {
		struct kvc_append append = {
			.key = { &key, sizeof(key) },
			.tokens = BENCH_BLOCK_TOKENS,
			.k = bench_tensor(shape, data),
			.v = bench_tensor(shape, data + values),
		};
		int r = kvc_append(space, &append, 1);

		if (r != KVC_OK || append.status != KVC_OK)
			return bench_error("append: %s", kvc_strerror(r ? r : append.status));
		if (look(client, held, &full) != 0)
			return 1;
	}
	return held->tokens ? 0 : bench_error("the arena is too small for one block");
}

static void report_against(const char *codec, const char *suffix, const char *reference, double ratio, bool json)
{
	char name[48];
	struct report number = {
		.bench = "memory",
		.name = name,
		.value = { ratio, ratio, ratio },
		.unit = "x",
		.reference = reference,
		.ratio = ratio,
	};

	(void)snprintf(name, sizeof(name), "%s.vs_%s", codec, suffix);
	report(&number, json);
}

static void report_held(const char *codec, const struct held *held, bool json)
{
	double arena = (double)held->arena_bytes;
	double token_bytes = arena / (double)held->tokens;
	double f16_token_bytes = (double)held->f16_bytes / (double)held->tokens;
	char name[48];
	struct report number = {
		.bench = "memory",
		.name = name,
		.value = { token_bytes, token_bytes, token_bytes },
		.unit = "bytes/token",
		.reference = "the same token as f16",
		.ratio = token_bytes / f16_token_bytes,
	};

	report_against(codec, "f16", "the same K and V as f16", (double)held->f16_bytes / arena, json);
	report_against(codec, "f32", "the same K and V as f32", (double)held->f32_bytes / arena, json);
	(void)snprintf(name, sizeof(name), "%s.token", codec);
	report(&number, json);
}

static int measure(const struct bench_codec *codec, const struct bench_options *options)
{
	const struct bench_shape *shape = &bench_shapes[0];
	struct kvc_schema schema = bench_schema(shape, codec->codec);
	struct kvc_options client_options = { .struct_bytes = sizeof(client_options) };
	struct bench_server server;
	kvc_client *client = NULL;
	kvc_space *space;
	struct held held;
	char reason[256] = "";
	int status = bench_server_start(&server, &(struct bench_server_options){ options->arena_bytes });

	if (status == 0) {
		client_options.socket_path = server.socket_path;
		if (kvc_open(&client_options, &client, reason, sizeof(reason)) != KVC_OK)
			status = bench_error("cannot connect: %s", reason);
	}
	if (status == 0 && kvc_space_open(client, "bench", &schema, &space) != KVC_OK)
		status = bench_error("space: %s", kvc_error(client));
	if (status == 0)
		status = fill(client, space, shape, &held);
	if (status == 0)
		report_held(codec->name, &held, options->json);
	(void)kvc_close(client);
	bench_server_stop(&server);
	return status;
}

static int run(const struct bench_options *options)
{
	char about[256];
	char size[24];

	if (options->shape && !bench_wants(options->shape, bench_shapes[0].name))
		return bench_error("memory is measured with the shape %s only", bench_shapes[0].name);
	(void)snprintf(about, sizeof(about),
		       "%s: %" PRIu32 " layers, %" PRIu32 " KV heads, head_dim %" PRIu32
		       ", blocks of %d tokens, filled arena of %s, all overhead counted",
		       bench_shapes[0].model, bench_shapes[0].layers, bench_shapes[0].kv_heads,
		       bench_shapes[0].head_dim, BENCH_BLOCK_TOKENS,
		       units_format_bytes(options->arena_bytes, size, sizeof(size)));
	report_begin("memory", options->json, about);
	for (size_t i = 0; i < BENCH_CODECS; i++)
		if (bench_wants(options->codec, bench_codecs[i].name) && measure(&bench_codecs[i], options) != 0)
			return 1;
	return 0;
}

const struct bench_verb bench_memory = {
	.name = "memory",
	.summary = "memory that K and V take in a full arena, against f16 and f32",
	.takes = BENCH_TAKES_ARENA_BYTES | BENCH_TAKES_SHAPE | BENCH_TAKES_CODEC,
	.run = run,
};
