/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Append and fetch through the real daemon, by one and by two client processes. A round is, in turn: a memcpy of the
 * same f32 bytes, the append of a batch, pings over a Unix socket, the fetch of the batch, its deletion; each by all
 * clients at once. So every ratio is between neighbours in time. A round to warm up is also checked: what comes back
 * must be what went in.
 */
#include "tests/bench/bench.h"

#include "base/cleanup.h"
#include "tests/bench/report.h"
#include "tests/bench/server.h"
#include "tests/bench/worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CLIENTS_MAX 2
#define MEMCPY "memcpy of the same f32 bytes"
#define PING "64-byte round trips over a Unix socket"

enum timed { TIMED_MEMCPY, TIMED_APPEND, TIMED_PING, TIMED_FETCH, TIMED_COUNT };

static const enum worker_op ops[TIMED_COUNT] = { OP_MEMCPY, OP_APPEND, OP_PING, OP_FETCH };

/* One shape, codec and number of clients. */
struct setting {
	const struct bench_options *options;
	const struct bench_shape *shape;
	const struct bench_codec *codec;
	unsigned clients;
	kvc_client *client;   /* of the parent: for stats */
	uint64_t batch_pages; /* of all clients */
	double batch_stored_bytes;
	double batch_f32_bytes;
	double *seconds[TIMED_COUNT]; /* by round */
};

static int stored_bytes(struct setting *setting, const char *space, double *ret_bytes)
{
	struct kvc_stats *stats;
	int r = kvc_stats_get(setting->client, &stats);

	if (r != KVC_OK)
		return bench_error("stats: %s", kvc_strerror(r));
	*ret_bytes = 0;
	for (size_t i = 0; i < stats->n_spaces; i++)
		if (bench_wants(space, stats->spaces[i].name))
			*ret_bytes = (double)stats->spaces[i].stored_bytes;
	(void)kvc_stats_free(stats);
	return 0;
}

static int warm_up(struct setting *setting, const struct worker *workers, const char *space)
{
	unsigned n = setting->clients;
	double seconds;

	if (workers_do(workers, n, OP_APPEND, 0, &seconds, &setting->batch_pages) != 0 ||
	    stored_bytes(setting, space, &setting->batch_stored_bytes) != 0 ||
	    workers_do(workers, n, OP_FETCH, 0, &seconds, NULL) != 0 ||
	    workers_do(workers, n, OP_CHECK, 0, &seconds, NULL) != 0 ||
	    workers_do(workers, n, OP_PING, 0, &seconds, NULL) != 0)
		return 1;
	return workers_do(workers, n, OP_DELETE, 0, &seconds, NULL);
}

static int run_rounds(struct setting *setting, const struct worker *workers)
{
	unsigned n = setting->clients;
	double ignored;

	for (uint64_t round = 0; round < setting->options->rounds; round++) {
		for (unsigned i = 0; i < TIMED_COUNT; i++)
			if (workers_do(workers, n, ops[i], round + 1, &setting->seconds[i][round], NULL) != 0)
				return 1;
		if (workers_do(workers, n, OP_DELETE, round + 1, &ignored, NULL) != 0)
			return 1;
	}
	return 0;
}

/* amount a second, over the rounds. */
static struct spread rate(const struct setting *setting, enum timed timed, double amount)
{
	double values[ROUNDS_MAX];

	for (uint64_t i = 0; i < setting->options->rounds; i++)
		values[i] = amount / setting->seconds[timed][i];
	return spread_of(values, setting->options->rounds);
}

static void report_rate(const struct setting *setting, const char *what, struct spread value, const char *unit,
			const char *reference, double ratio)
{
	char name[64];
	struct report number = {
		.bench = "roundtrip",
		.name = name,
		.value = value,
		.unit = unit,
		.reference = reference,
		.ratio = ratio,
	};

	(void)snprintf(name, sizeof(name), "%s.%s.c%u.%s", setting->shape->name, setting->codec->name, setting->clients,
		       what);
	report(&number, setting->options->json);
}

static void report_op(const struct setting *setting, enum timed timed, const char *what)
{
	double copied = rate(setting, TIMED_MEMCPY, setting->batch_f32_bytes / 1e9).median;
	double pinged = rate(setting, TIMED_PING, (double)PINGS * setting->clients).median;
	struct spread f32 = rate(setting, timed, setting->batch_f32_bytes / 1e9);
	struct spread stored = rate(setting, timed, setting->batch_stored_bytes / 1e9);
	struct spread pages = rate(setting, timed, (double)setting->batch_pages);
	char name[32];

	(void)snprintf(name, sizeof(name), "%s.f32", what);
	report_rate(setting, name, f32, "GB/s of f32", MEMCPY, f32.median / copied);
	(void)snprintf(name, sizeof(name), "%s.stored", what);
	report_rate(setting, name, stored, "GB/s of stored", MEMCPY, stored.median / copied);
	(void)snprintf(name, sizeof(name), "%s.pages", what);
	report_rate(setting, name, pages, "pages/s", PING, pages.median / pinged);
}

static void report_all(const struct setting *setting)
{
	report_op(setting, TIMED_APPEND, "append");
	report_op(setting, TIMED_FETCH, "fetch");
	report_rate(setting, "memcpy", rate(setting, TIMED_MEMCPY, setting->batch_f32_bytes / 1e9), "GB/s of f32",
		    "itself", 1);
	report_rate(setting, "ping", rate(setting, TIMED_PING, (double)PINGS * setting->clients), "round trips/s",
		    "itself", 1);
}

static int measure(struct setting *setting, const char *socket_path)
{
	char space[64];
	struct worker workers[CLIENTS_MAX] = { { .control = -1 }, { .control = -1 } };
	struct worker_job jobs[CLIENTS_MAX];
	int status = 0;

	(void)snprintf(space, sizeof(space), "%s.%s.c%u", setting->shape->name, setting->codec->name, setting->clients);
	setting->batch_f32_bytes =
		(double)bench_block_f32_bytes(setting->shape) * setting->shape->batch * setting->clients;
	for (unsigned i = 0; i < setting->clients && status == 0; i++) {
		jobs[i] = (struct worker_job){ setting->shape, setting->codec, socket_path, space, i };
		status = worker_start(&workers[i], &jobs[i]);
	}
	if (status == 0)
		status = workers_ready(workers, setting->clients);
	if (status == 0)
		status = warm_up(setting, workers, space);
	if (status == 0)
		status = run_rounds(setting, workers);
	if (status == 0)
		report_all(setting);
	workers_stop(workers, setting->clients);
	return status;
}

static void report_one(const struct setting *setting, const char *what, double value, const char *unit,
		       const char *reference, double ratio)
{
	char name[64];
	struct report number = {
		.bench = "roundtrip",
		.name = name,
		.value = { value, value, value },
		.unit = unit,
		.reference = reference,
		.ratio = ratio,
	};

	(void)snprintf(name, sizeof(name), "%s.loop.%s", setting->shape->name, what);
	report(&number, setting->options->json);
}

/* By the clock, a turn holds what other processes took of the processor; its CPU time is the daemon's own work. */
static void report_loop(const struct setting *setting, const struct kvc_stats *stats)
{
	double longest = (double)kvc_stats_counter(stats, "loop_lag_max_us") / 1e3;
	double work = (double)kvc_stats_counter(stats, "loop_work_max_us") / 1e3;
	double slow = (double)kvc_stats_counter(stats, "loop_turns_slow_total");
	double busy = (double)kvc_stats_counter(stats, "loop_turns_busy_total");
	double turns = (double)kvc_stats_counter(stats, "loop_turns_total");

	if (turns < 1)
		turns = 1;
	report_one(setting, "work.longest", work, "ms of CPU time", "1 ms, the limit for a turn of the loop", work);
	report_one(setting, "work.slow", busy, "turns above 1 ms", "all turns", busy / turns);
	report_one(setting, "longest", longest, "ms by the clock", "1 ms, the limit for a turn of the loop", longest);
	report_one(setting, "slow", slow, "turns above 1 ms", "all turns", slow / turns);
}

/* All codecs and numbers of clients with a daemon of their own. */
static int measure_shape(struct setting *setting)
{
	struct kvc_options client_options = { .struct_bytes = sizeof(client_options), .flags = KVC_READ_ONLY };
	struct bench_server server;
	struct kvc_stats *stats;
	char reason[256] = "";
	int status = bench_server_start(&server, &(struct bench_server_options){ setting->options->arena_bytes });

	client_options.socket_path = server.socket_path;
	if (status == 0 && kvc_open(&client_options, &setting->client, reason, sizeof(reason)) != KVC_OK)
		status = bench_error("cannot connect: %s", reason);
	for (size_t i = 0; i < BENCH_CODECS && status == 0; i++) {
		setting->codec = &bench_codecs[i];
		if (!bench_wants(setting->options->codec, setting->codec->name))
			continue;
		for (setting->clients = 1; setting->clients <= CLIENTS_MAX && status == 0; setting->clients++)
			status = measure(setting, server.socket_path);
	}
	if (status == 0 && kvc_stats_get(setting->client, &stats) == KVC_OK) {
		report_loop(setting, stats);
		(void)kvc_stats_free(stats);
	}
	setting->client = kvc_close(setting->client);
	bench_server_stop(&server);
	return status;
}

static int run(const struct bench_options *options)
{
	_cleanup_free_ double *seconds = calloc(TIMED_COUNT * options->rounds, sizeof(*seconds));
	struct setting setting = { .options = options };
	int status = 0;

	if (!seconds)
		return bench_error("out of memory");
	for (unsigned i = 0; i < TIMED_COUNT; i++)
		setting.seconds[i] = seconds + i * options->rounds;
	report_begin("roundtrip", options->json,
		     "blocks of 128 tokens, in f32 tensors, by c1: one client process, c2: two at once; pages/s count "
		     "encoded pages");
	for (size_t i = 0; i < BENCH_SHAPES && status == 0; i++) {
		setting.shape = &bench_shapes[i];
		if (bench_wants(options->shape, setting.shape->name))
			status = measure_shape(&setting);
	}
	return status;
}

const struct bench_verb bench_roundtrip = {
	.name = "roundtrip",
	.summary = "append and fetch through the daemon, against memcpy and a socket round trip",
	.takes = BENCH_TAKES_ROUNDS | BENCH_TAKES_ARENA_BYTES | BENCH_TAKES_SHAPE |
		 BENCH_TAKES_CODEC,
	.run = run,
};
