/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same look-up (find, pin, unpin) among 1e3 to 1e6 blocks, and among as many with 1 to 64 clients connected, each
 * with control memory of its own and a block pinned. Blocks are as small as they can be, one page of 512 bytes, because
 * their bytes are not read. Each number of blocks has a daemon of its own, whose tables are made for it; all exist at
 * once, and rounds go over them in turn.
 */
#include "tests/bench/bench.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "tests/bench/crew.h"
#include "tests/bench/latency.h"
#include "tests/bench/place.h"
#include "tests/bench/report.h"
#include "tests/bench/ticks.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNTS 4
#define CLIENTS 4
#define CLIENTS_MAX 64
#define VALUE_BYTES (2 * STORE_HEAD_DIM * (uint32_t)sizeof(uint16_t)) /* one token of f16 */
#define SLOT_BYTES 1024 /* of a block in the arena: its page and its page map */
#define TABLE_BYTES 256 /* and its entry in the tables, at most */
#define CLIENTS_STORE 2 /* among whose blocks the look-ups with many clients are */
#define OPS_MIN 1000
#define TURN_NS (20 * NS_PER_MS)
#define QUICK_TURN_NS (200 * UINT64_C(1000))
#define TARGET 3.0
#define NAME_BYTES 32

static const uint32_t counts[COUNTS] = { 1000, 10000, 100000, 1000000 };
static const uint32_t quick_counts[COUNTS] = { 50, 100, 200, 400 };
static const unsigned clients[CLIENTS] = { 1, 4, 16, CLIENTS_MAX };

/* A number measured in one way, by round. */
struct line {
	char name[NAME_BYTES];
	double p50[ROUNDS_MAX];
	double p99[ROUNDS_MAX];
	double rate[ROUNDS_MAX];
};

struct scale {
	const struct bench_options *options;
	struct workset sets[COUNTS];
	struct bench_server servers[COUNTS];
	struct store stores[COUNTS];
	struct crew crew;
	kvc_client *others[CLIENTS_MAX];
	uint8_t source[VALUE_BYTES]; /* zeros */
	struct line by_count[COUNTS];
	struct line by_clients[CLIENTS];
};

/* --- Starting ------------------------------------------------------------------------------------- */

static int start_store(struct scale *scale, unsigned i)
{
	uint32_t count = scale->options->quick ? quick_counts[i] : counts[i];
	uint64_t bytes = (uint64_t)count * (SLOT_BYTES + TABLE_BYTES) * 51 / 50 + 16 * MIB;
	struct bench_server_options options = { .arena_bytes = bytes / (2 * MIB) * (2 * MIB), .blocks = count + 64 };
	struct store_shape shape = { .space = "scale",
				     .codec = KVC_CODEC_F16,
				     .heads = 1,
				     .tokens = 1,
				     .server = &scale->servers[i] };

	scale->sets[i] = (struct workset){ .value_bytes = VALUE_BYTES, .count = count, .source = scale->source };
	scale->sets[i].batch = count < STORE_BATCH ? count : STORE_BATCH;
	if (bench_server_start(&scale->servers[i], &options) != 0)
		return 1;
	return store_start(&scale->stores[i], &store_kvpaged, &scale->sets[i], &shape) == STORE_STARTED ? 0 : 1;
}

static int load_store(struct scale *scale, unsigned i)
{
	struct crew_command command = { .what = CREW_LOAD, .clients = 1, .store = i, .processor = { PLACE_ANY } };

	if (crew_do(&scale->crew, &command) != 0)
		return 1;
	command.what = CREW_VISIT;
	return crew_do(&scale->crew, &command);
}

static int start(struct scale *scale)
{
	for (unsigned i = 0; i < COUNTS; i++)
		if (start_store(scale, i) != 0)
			return 1;
	if (crew_start(&scale->crew, 1, scale->stores, COUNTS) != 0)
		return 1;
	for (unsigned i = 0; i < COUNTS; i++)
		if (load_store(scale, i) != 0)
			return 1;
	return 0;
}

static void close_others(struct scale *scale)
{
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		scale->others[i] = kvc_close(scale->others[i]);
}

static void stop(struct scale *scale)
{
	close_others(scale);
	crew_stop(&scale->crew);
	for (unsigned i = 0; i < COUNTS; i++) {
		store_stop(&scale->stores[i]);
		bench_server_stop(&scale->servers[i]);
	}
}

/* --- Other clients -------------------------------------------------------------------------------- */

/* One more client, which pins a block and keeps it. */
static int open_other(struct scale *scale, unsigned number)
{
	struct kvc_options options = { .struct_bytes = sizeof(options),
				       .socket_path = scale->servers[CLIENTS_STORE].socket_path,
				       .flags = KVC_READ_ONLY };
	struct store_item item;
	struct kvc_key key = { item.key, sizeof(item.key) };
	kvc_reader *reader;
	kvc_space *space;
	kvc_block *block;
	char reason[256] = "";
	int status = KVC_OK;
	int r;

	store_item(&scale->stores[CLIENTS_STORE], number, &item);
	r = kvc_open(&options, &scale->others[number], reason, sizeof(reason));
	if (r != KVC_OK)
		return bench_error("cannot connect client %u: %s", number, reason);
	r = kvc_space_open(scale->others[number], "scale", NULL, &space);
	if (r == KVC_OK)
		r = kvc_reader_open(scale->others[number], &reader);
	if (r == KVC_OK)
		r = kvc_pin(space, reader, &key, 1, NULL, &block, &status);
	if (r != KVC_OK || status != KVC_OK)
		return bench_error("client %u: %s", number, kvc_strerror(r ? r : status));
	return 0;
}

/* --- Measuring ------------------------------------------------------------------------------------ */

static int take_turn(struct scale *scale, unsigned store, struct line *line, uint64_t round)
{
	struct crew_command command = {
		.what = CREW_TURN,
		.clients = 1,
		.store = store,
		.op = STORE_FIND,
		.processor = { 0 },
		.budget_ns = scale->options->quick ? QUICK_TURN_NS : TURN_NS,
		.ops_min = OPS_MIN,
	};
	struct crew_result *result = scale->crew.results;
	struct latency latency;

	if (crew_do(&scale->crew, &command) != 0)
		return 1;
	latency = latency_of(result->samples, result->n_samples);
	line->p50[round] = latency.p50;
	line->p99[round] = latency.p99;
	line->rate[round] = result->rate;
	return 0;
}

static int run_round(struct scale *scale, uint64_t round)
{
	unsigned connected = 1;

	for (unsigned i = 0; i < COUNTS; i++)
		if (take_turn(scale, i, &scale->by_count[i], round) != 0)
			return 1;
	for (unsigned i = 0; i < CLIENTS; i++) {
		for (; connected < clients[i]; connected++)
			if (open_other(scale, connected) != 0)
				return 1;
		if (take_turn(scale, CLIENTS_STORE, &scale->by_clients[i], round) != 0)
			return 1;
	}
	close_others(scale);
	return 0;
}

/* --- Reporting ------------------------------------------------------------------------------------ */

static double report_values(const struct scale *scale, const char *what, const char *metric, double *values,
			    const char *unit, double first, const char *reference)
{
	char name[NAME_BYTES + 16];
	struct report number = {
		.bench = "scale",
		.name = name,
		.value = spread_of(values, scale->options->rounds),
		.unit = unit,
		.reference = reference,
	};

	(void)snprintf(name, sizeof(name), "%.*s.%s", NAME_BYTES, what, metric);
	number.ratio = first > 0 ? number.value.median / first : 1;
	report(&number, scale->options->json);
	return number.value.median;
}

/* Lines of one kind; ratios are against the first of them. Returns what the last has of the first, in time. */
static double report_lines(const struct scale *scale, struct line *lines, unsigned n, const char *reference)
{
	double first[3] = { 0 };
	double last = 0;

	for (unsigned i = 0; i < n; i++) {
		double p50 = report_values(scale, lines[i].name, "p50", lines[i].p50, "ns", first[0], reference);
		double p99 = report_values(scale, lines[i].name, "p99", lines[i].p99, "ns", first[1], reference);
		double rate = report_values(scale, lines[i].name, "rate", lines[i].rate, "1/s", first[2], reference);

		if (i == 0) {
			first[0] = p50;
			first[1] = p99;
			first[2] = rate;
		}
		last = p50 / first[0];
	}
	return last;
}

static void name_lines(struct scale *scale)
{
	for (unsigned i = 0; i < COUNTS; i++) {
		uint32_t count = scale->sets[i].count;
		double power = log10(count);
		char *name = scale->by_count[i].name;

		if (power == floor(power))
			(void)snprintf(name, NAME_BYTES, "blocks.1e%d", (int)power);
		else
			(void)snprintf(name, NAME_BYTES, "blocks.%" PRIu32, count);
	}
	for (unsigned i = 0; i < CLIENTS; i++)
		(void)snprintf(scale->by_clients[i].name, NAME_BYTES, "clients.%u", clients[i]);
}

static void report_all(struct scale *scale)
{
	double grown;
	char text[64];
	struct report target = { .bench = "scale", .name = "target.blocks", .unit = "x", .reference = text };

	name_lines(scale);
	grown = report_lines(scale, scale->by_count, COUNTS, "the fewest blocks");
	(void)report_lines(scale, scale->by_clients, CLIENTS, "one client");
	target.value = (struct spread){ grown, grown, grown };
	target.ratio = grown / TARGET;
	(void)snprintf(text, sizeof(text), "target: at most %g, %s", TARGET, grown <= TARGET ? "met" : "missed");
	report(&target, scale->options->json);
}

static int run(const struct bench_options *options)
{
	_cleanup_free_ struct scale *scale = calloc(1, sizeof(*scale));
	int status;

	if (!scale)
		return bench_error("out of memory");
	scale->options = options;
	ticks_init();
	(void)place_init();
	report_begin("scale", options->json,
		     "find + pin + unpin of random blocks, one reader; each number of blocks in an arena of its own. "
		     "clients: so many\nconnected, among 1e5 blocks, the reader in one of them, others with a pin.");
	status = start(scale);
	for (uint64_t round = 0; round < options->rounds && status == 0; round++)
		status = run_round(scale, round);
	if (status == 0)
		report_all(scale);
	stop(scale);
	return status;
}

const struct bench_verb bench_scale = {
	.name = "scale",
	.summary = "the look-up among more and more blocks, and clients",
	.takes = BENCH_TAKES_ROUNDS | BENCH_TAKES_QUICK,
	.run = run,
};
