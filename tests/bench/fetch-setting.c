/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One setting: all its stores at once, loaded with the same values, then rounds in which every cell has its turn. The
 * files that a store needs lie in a directory of the setting's own on tmpfs.
 *
 * Processors: in "same" the client and the server have processor 0; in "split" the server has 0 and the client 1; what
 * needs no server runs on 0. Two clients have one each, and servers both.
 */
#include "tests/bench/fetch.h"

#include "base/units.h"
#include "codec/codec.h"
#include "codec/half.h"
#include "tests/bench/latency.h"
#include "tests/bench/normal.h"
#include "tests/bench/place.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BIG_BYTES GIB
#define SMALL_BYTES (4 * MIB)
#define QUICK_BIG_BYTES (2 * MIB)
#define QUICK_SMALL_BYTES (512 * KIB)

#define TURN_NS (12 * NS_PER_MS)
#define QUICK_TURN_NS (200 * UINT64_C(1000))
#define OPS_MIN 1000
#define OPS_MIN_FEW 4
#define LOOP_NS (3 * NS_PER_S)
#define QUICK_LOOP_NS (20 * NS_PER_MS)

/* The most that a value takes as the caller has it, beside the page size: q6 is 2.5 times smaller than f16. */
#define CALLER_BYTES_FACTOR 3

/* --- What is stored ------------------------------------------------------------------------------- */

static uint32_t raw_tokens(uint32_t bytes)
{
	return bytes / (2 * STORE_HEAD_DIM * (uint32_t)sizeof(uint16_t));
}

static uint32_t packed_bytes(uint32_t tokens)
{
	return codec_tile_bytes(CODEC_Q6, CODEC_ROLE_K, tokens, STORE_HEAD_DIM) +
	       codec_tile_bytes(CODEC_Q6, CODEC_ROLE_V, tokens, STORE_HEAD_DIM);
}

/* As many tokens as a page of q6 can have and be no larger. */
static struct store_shape packed_shape(uint32_t bytes)
{
	struct store_shape shape = { .space = "packed", .codec = KVC_CODEC_Q6, .heads = 1, .tokens = 1 };

	while (shape.heads * packed_bytes(CODEC_TOKENS_MAX) < bytes)
		shape.heads *= 2;
	while (shape.tokens < CODEC_TOKENS_MAX && shape.heads * packed_bytes(shape.tokens + 1) <= bytes)
		shape.tokens++;
	return shape;
}

static struct store_shape shape_of(const struct fetch_setting *setting, enum fetch_store number)
{
	struct store_shape shape = { .space = "raw", .codec = KVC_CODEC_F16, .heads = 1 };

	shape.tokens = raw_tokens(setting->page_bytes);
	if (number == FETCH_PACKED || number == FETCH_HUGE_PACKED)
		shape = packed_shape(setting->page_bytes);
	if (number == FETCH_TENSOR)
		shape = (struct store_shape){ .space = "tensor",
					      .codec = KVC_CODEC_Q6,
					      .heads = 1,
					      .tokens = raw_tokens(FETCH_DELIVER_BYTES) };
	shape.server = number == FETCH_HUGE_RAW || number == FETCH_HUGE_PACKED ? &setting->huge_server :
										 &setting->server;
	return shape;
}

static int make_values(struct fetch_setting *setting)
{
	size_t n = (size_t)setting->page_bytes * CALLER_BYTES_FACTOR / sizeof(uint16_t);
	float *values;

	if (n < FETCH_DELIVER_BYTES / sizeof(uint16_t))
		n = FETCH_DELIVER_BYTES / sizeof(uint16_t);
	values = malloc(n * sizeof(*values));
	setting->source = aligned_alloc(4096, n * sizeof(uint16_t));
	if (!values || !setting->source) {
		free(values);
		return bench_error("out of memory");
	}
	normal_fill(values, n, 1);
	for (size_t i = 0; i < n; i++) {
		uint16_t half = half_from_f32(values[i]);

		memcpy(setting->source + i * sizeof(half), &half, sizeof(half));
	}
	free(values);
	return 0;
}

static void size_set(struct fetch_setting *setting)
{
	uint64_t bytes = setting->big ? BIG_BYTES : SMALL_BYTES;

	if (setting->quick)
		bytes = setting->big ? QUICK_BIG_BYTES : QUICK_SMALL_BYTES;
	setting->set = (struct workset){
		.value_bytes = setting->page_bytes,
		.count = (uint32_t)((bytes + setting->page_bytes - 1) / setting->page_bytes),
		.directory = setting->directory,
		.source = setting->source,
	};
	setting->set.batch = setting->set.count < STORE_BATCH ? setting->set.count : STORE_BATCH;
}

/* --- Starting ------------------------------------------------------------------------------------- */

/* Room for the pages, their maps of one entry each, and what is put before the old is deleted. */
static uint64_t arena_bytes(const struct fetch_setting *setting, bool all)
{
	uint64_t slot = setting->page_bytes + 1024 + 256;
	uint64_t tensor = packed_bytes(raw_tokens(FETCH_DELIVER_BYTES)) + 1024 + 256;
	uint64_t blocks = setting->set.count + 4 * STORE_BATCH;
	uint64_t bytes = 2 * blocks * slot + 32 * MIB;

	if (all && setting->there[FETCH_TENSOR])
		bytes += blocks * tensor;
	bytes += bytes / 50;
	return (bytes + 2 * MIB - 1) / (2 * MIB) * (2 * MIB);
}

uint64_t fetch_huge_pages(const struct fetch_setting *setting)
{
	struct fetch_setting sized = *setting;

	size_set(&sized);
	return arena_bytes(&sized, false) / (2 * MIB);
}

static int start_servers(struct fetch_setting *setting)
{
	struct bench_server_options options = {
		.arena_bytes = arena_bytes(setting, true),
		.blocks = (setting->there[FETCH_TENSOR] ? 3 : 2) * (setting->set.count + UINT64_C(4) * STORE_BATCH),
	};

	if (bench_server_start(&setting->server, &options) != 0)
		return 1;
	options.arena_bytes = arena_bytes(setting, false);
	options.blocks = 2 * (setting->set.count + UINT64_C(4) * STORE_BATCH);
	options.huge = true;
	return setting->huge ? bench_server_start(&setting->huge_server, &options) : 0;
}

static const struct store_class *const classes[FETCH_STORES] = {
	[FETCH_RAW] = &store_kvpaged,
	[FETCH_PACKED] = &store_kvpaged_packed,
	[FETCH_TENSOR] = &store_kvpaged_packed,
	[FETCH_HUGE_RAW] = &store_kvpaged,
	[FETCH_HUGE_PACKED] = &store_kvpaged_packed,
	[FETCH_LMDB] = &store_lmdb,
	[FETCH_MEMCACHED] = &store_memcached,
	[FETCH_REDIS] = &store_redis,
	[FETCH_FILE] = &store_file,
	[FETCH_PING] = &store_ping,
};

/* Which of the stores the setting wants; a peer that is missing is known only when it is started. */
static bool wanted(const struct fetch_setting *setting, enum fetch_store number)
{
	if (number == FETCH_TENSOR)
		return setting->big && setting->page_bytes == FETCH_DELIVER_BYTES;
	if (number == FETCH_HUGE_RAW || number == FETCH_HUGE_PACKED)
		return setting->huge;
	return true;
}

static int start_stores(struct fetch_setting *setting)
{
	for (enum fetch_store i = 0; i < FETCH_STORES; i++) {
		struct store_shape shape = shape_of(setting, i);
		int result;

		if (!setting->there[i])
			continue;
		result = store_start(&setting->stores[i], classes[i], &setting->set, &shape);
		setting->there[i] = result == STORE_STARTED;
		if (result == STORE_FAILED)
			return 1;
	}
	return 0;
}

static int start_all(struct fetch_setting *setting)
{
	(void)snprintf(setting->directory, sizeof(setting->directory), "/dev/shm/kvbench-XXXXXX");
	if (!mkdtemp(setting->directory)) {
		setting->directory[0] = '\0';
		return bench_error("/dev/shm: %s", strerror(errno));
	}
	for (enum fetch_store i = 0; i < FETCH_STORES; i++)
		setting->there[i] = wanted(setting, i);
	if (make_values(setting) != 0)
		return 1;
	size_set(setting);
	if (start_servers(setting) != 0 || start_stores(setting) != 0)
		return 1;
	if (crew_start(&setting->crew, STORE_CLIENTS_MAX, setting->stores, FETCH_STORES) != 0)
		return 1;
	for (enum fetch_store i = 0; i < FETCH_STORES; i++)
		if (setting->there[i] && classes[i]->hide)
			classes[i]->hide(&setting->stores[i]);
	return 0;
}

static int load(struct fetch_setting *setting)
{
	for (enum fetch_store i = 0; i < FETCH_STORES; i++) {
		struct crew_command command = { .what = CREW_LOAD,
						.clients = 1,
						.store = i,
						.processor = { PLACE_ANY, PLACE_ANY } };

		if (!setting->there[i])
			continue;
		if (crew_do(&setting->crew, &command) != 0)
			return 1;
		command.what = CREW_VISIT;
		command.clients = STORE_CLIENTS_MAX;
		if (crew_do(&setting->crew, &command) != 0)
			return 1;
	}
	return 0;
}

/* --- Measuring ------------------------------------------------------------------------------------ */

static void place_servers(const struct fetch_setting *setting, const struct fetch_cell *cell)
{
	const struct store *store = &setting->stores[cell->kind->store];
	int processor = cell->place == FETCH_INSIDE ? PLACE_ANY : 0;

	for (unsigned i = 0; i < STORE_CLIENTS_MAX; i++)
		if (store->servers[i] > 0)
			place(store->servers[i], processor);
	if (store->shape.server)
		place(store->shape.server->pid, processor);
}

static void take_figures(const struct fetch_setting *setting, struct fetch_cell *cell, uint64_t round)
{
	static uint32_t samples[STORE_CLIENTS_MAX * CREW_SAMPLES_MAX];
	struct latency latency;
	uint32_t n = 0;
	double rate = 0;

	for (unsigned i = 0; i < cell->clients; i++) {
		const struct crew_result *result = &setting->crew.results[i];

		memcpy(samples + n, result->samples, result->n_samples * sizeof(*samples));
		n += result->n_samples;
		rate += result->rate;
	}
	latency = latency_of(samples, n);
	cell->values[FETCH_P50][round] = latency.p50 / 1e3;
	cell->values[FETCH_P99][round] = latency.p99 / 1e3;
	cell->values[FETCH_P999][round] = latency.p999 / 1e3;
	cell->values[FETCH_RATE][round] = rate * store_op_items(&setting->stores[cell->kind->store], cell->kind->op);
}

static int take_turn(struct fetch_setting *setting, struct fetch_cell *cell, uint64_t round)
{
	int processor = cell->place == FETCH_SPLIT ? 1 : 0;
	struct crew_command command = {
		.what = CREW_TURN,
		.clients = cell->clients,
		.store = cell->kind->store,
		.op = cell->kind->op,
		.processor = { processor, 1 },
		.budget_ns = setting->quick ? QUICK_TURN_NS : TURN_NS,
		.ops_min = cell->kind->op == STORE_PUT_BATCH || setting->quick ? OPS_MIN_FEW : OPS_MIN,
	};

	place_servers(setting, cell);
	if (crew_do(&setting->crew, &command) != 0)
		return 1;
	take_figures(setting, cell, round);
	return 0;
}

static int run_rounds(struct fetch_setting *setting)
{
	const uint64_t rounds = setting->options->rounds;

	setting->values = calloc(setting->n_cells * FETCH_METRICS * rounds, sizeof(*setting->values));
	if (!setting->values)
		return bench_error("out of memory");
	for (unsigned i = 0; i < setting->n_cells; i++)
		for (unsigned j = 0; j < FETCH_METRICS; j++)
			setting->cells[i].values[j] = setting->values + (i * FETCH_METRICS + j) * rounds;
	for (uint64_t round = 0; round < rounds; round++)
		for (unsigned i = 0; i < setting->n_cells; i++)
			if (take_turn(setting, &setting->cells[i], round) != 0)
				return 1;
	for (unsigned i = 0; i < setting->n_cells; i++)
		for (unsigned j = 0; j < FETCH_METRICS; j++)
			setting->cells[i].spread[j] = spread_of(setting->cells[i].values[j], rounds);
	return 0;
}

/* CPU time of the process, in nanoseconds: what utime + stime of /proc/PID/stat counts in ticks. */
static uint64_t cpu_ns(pid_t pid)
{
	clockid_t clock;
	struct timespec used = { 0 };

	if (clock_getcpuclockid(pid, &clock) == 0)
		(void)clock_gettime(clock, &used);
	return (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
}

static int measure_daemon(struct fetch_setting *setting)
{
	struct crew_command command = {
		.what = CREW_LOOP,
		.clients = setting->processors > 1 ? STORE_CLIENTS_MAX : 1,
		.store = FETCH_RAW,
		.op = STORE_FIND,
		.processor = { 0, 1 },
		.budget_ns = setting->quick ? QUICK_LOOP_NS : LOOP_NS,
	};
	uint64_t cpu, begin;

	place(setting->server.pid, PLACE_ANY);
	begin = now_ns();
	cpu = cpu_ns(setting->server.pid);
	if (crew_do(&setting->crew, &command) != 0)
		return 1;
	setting->daemon_share = (double)(cpu_ns(setting->server.pid) - cpu) / (double)(now_ns() - begin);
	return 0;
}

int fetch_setting_run(struct fetch_setting *setting)
{
	setting->daemon_share = -1;
	if (start_all(setting) != 0 || load(setting) != 0)
		return 1;
	fetch_cells_make(setting);
	if (run_rounds(setting) != 0)
		return 1;
	return setting->big && setting->page_bytes == FETCH_PAGE_BYTES ? measure_daemon(setting) : 0;
}

void fetch_setting_end(struct fetch_setting *setting)
{
	crew_stop(&setting->crew);
	for (enum fetch_store i = 0; i < FETCH_STORES; i++)
		store_stop(&setting->stores[i]);
	bench_server_stop(&setting->huge_server);
	bench_server_stop(&setting->server);
	if (setting->directory[0])
		(void)rmdir(setting->directory);
	free(setting->values);
	free(setting->source);
	setting->values = NULL;
	setting->source = NULL;
}
