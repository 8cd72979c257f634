/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients of resident blocks notice of a busy tier. One asks for small resident blocks one after the other, and
 * looks for them with a reader, while other processes load, store, or do both. Stores come of appends, which take
 * processors for themselves: the same appends to a daemon that stores none of them show how much of it is theirs.
 */
#include "base/cleanup.h"
#include "base/units.h"
#include "tests/bench/crew.h"
#include "tests/bench/latency.h"
#include "tests/bench/measure.h"
#include "tests/bench/place.h"
#include "tests/bench/ticks.h"
#include "tests/bench/tier.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ARENA_BYTES (512 * MIB)
#define TIER_BYTES (4 * GIB)
#define QUICK_ARENA_BYTES (128 * MIB)
#define QUICK_TIER_BYTES (512 * MIB)
#define SEGMENT_BYTES (64 * MIB)
#define HOT 256 /* blocks of 64 KiB */
#define HOT_TOKENS 128
#define TURN_NS (800 * NS_PER_MS) /* of asking, and of looking */
#define QUICK_TURN_NS (30 * NS_PER_MS)
#define WARM_NS (200 * NS_PER_MS)
#define SAMPLES_MAX 2000000
#define KEEP_PRIORITY 1
#define KEEP_MS 60000
#define TARGET 1.2

enum { STORING, LOADING, PASSING, DAEMONS };

struct condition {
	const char *name;
	unsigned daemon;
	bool loads;
	bool stores;
};

static const struct condition conditions[] = {
	{ "alone", STORING, false, false },
	{ "load", LOADING, true, false },
	{ "append", PASSING, false, true }, /* at the pace of the one after it, in the round before */
	{ "store", STORING, false, true },
	{ "both", STORING, true, true },
};

struct requests {
	struct tier_bench *bench;
	kvc_space *spaces[DAEMONS]; /* of what is asked for */
	struct tier_daemon daemons[DAEMONS];
	struct tier_client clients[DAEMONS];
	struct tier_traffic traffic[DAEMONS];
	struct workset set;
	struct store hot[DAEMONS];
	uint32_t *samples;
	uint64_t random;
	uint64_t turn_ns;
	uint64_t store_period_ns; /* what a block took that was stored last */
	double alone[STORE_OPS]; /* p99 in this round */
};

static const struct tier_daemon daemons_of_requests[DAEMONS] = {
	{ .name = "storing", .engine = "io_uring", .direct = "yes", .admit = "all" },
	{ .name = "loading", .engine = "io_uring", .direct = "yes", .admit = "all" },
	{ .name = "passing", .engine = "io_uring", .direct = "yes", .admit = "read" },
};

/* --- One turn ------------------------------------------------------------------------------------- */

static int measure(struct requests *requests, struct store *hot, enum store_op op, struct latency *ret_latency)
{
	uint64_t until_ns = now_ns() + requests->turn_ns;
	uint32_t n = 0;

	do {
		struct store_item item;
		uint64_t begin;

		requests->random = requests->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		store_item(hot, (uint32_t)((requests->random >> 33) % HOT), &item);
		begin = ticks_begin();
		if (hot->class->ops[op](hot, &item) != 0)
			return 1;
		if (n < SAMPLES_MAX)
			requests->samples[n++] = latency_sample(ticks_end() - begin);
	} while (now_ns() < until_ns);
	*ret_latency = latency_of(requests->samples, n);
	return 0;
}

static int measure_and_add(struct requests *requests, const struct condition *condition, enum store_op op)
{
	struct tier_table *table = &requests->bench->table;
	const char *what = op == STORE_ASK ? "ask" : "find";
	struct latency latency;
	struct tier_row *row;

	if (measure(requests, &requests->hot[condition->daemon], op, &latency) != 0)
		return 1;
	if (condition == &conditions[0])
		requests->alone[op] = latency.p99;
	(void)tier_add(table, latency.p50 / 1e3, "us", 0, "%s.%s.p50", what, condition->name);
	row = tier_add(table, latency.p99 / 1e3, "us", requests->alone[op] / 1e3, "%s.%s.p99", what, condition->name);
	if (condition != &conditions[0]) {
		row->reference = "alone";
		row->at_most = true;
		row->target = TARGET;
	}
	return 0;
}

struct amounts {
	uint64_t ns;
	uint64_t cpu_ns;
	uint64_t loaded; /* bytes, as below */
	uint64_t written;
	uint64_t stored; /* blocks */
};

static struct amounts amounts_of(struct requests *requests, unsigned daemon)
{
	struct tier_client *client = &requests->clients[daemon];

	return (struct amounts){
		.loaded = tier_counter_now(client, "tier_read_bytes_total"),
		.written = tier_counter_now(client, "tier_written_bytes_total"),
		.stored = tier_counter(client, "tier_stored_blocks_total"),
		.cpu_ns = tier_daemon_cpu_ns(&requests->daemons[daemon]),
		.ns = now_ns(),
	};
}

static void add_amounts(struct requests *requests, const struct condition *condition, const struct amounts *before)
{
	struct amounts after = amounts_of(requests, condition->daemon);
	struct tier_table *table = &requests->bench->table;
	double ns = (double)(after.ns - before->ns);
	uint64_t stored = after.stored - before->stored;

	(void)tier_add(table, (double)(after.cpu_ns - before->cpu_ns) * 100 / ns, "% of a CPU", 0, "daemon.%s.cpu",
		       condition->name);
	(void)tier_add(table, (double)(after.loaded - before->loaded) / ns, "GB/s", 0, "daemon.%s.loaded",
		       condition->name);
	(void)tier_add(table, (double)(after.written - before->written) / ns, "GB/s", 0, "daemon.%s.stored",
		       condition->name);
	if (condition->daemon == STORING && condition->stores && !condition->loads && stored > 0)
		requests->store_period_ns = (after.ns - before->ns) / stored;
}

/* What is measured are resident blocks: they stay so, whatever comes by. */
static int keep(struct requests *requests, unsigned i)
{
	struct store_item items[HOT];
	struct kvc_key keys[HOT];
	int r;

	for (uint32_t at = 0; at < HOT; at++) {
		store_item(&requests->hot[i], at, &items[at]);
		keys[at] = (struct kvc_key){ items[at].key, STORE_KEY_BYTES };
	}
	r = kvc_keep(requests->spaces[i], keys, HOT, KEEP_PRIORITY, KEEP_MS, NULL);
	return r == KVC_OK ? 0 : bench_error("keep: %s", kvc_strerror(r));
}

static int turn(struct requests *requests, const struct condition *condition)
{
	static const struct timespec warm = { .tv_nsec = WARM_NS };
	struct tier_flow *flow = requests->traffic[condition->daemon].flow;
	struct amounts before;
	int status;

	if (keep(requests, condition->daemon) != 0)
		return 1;
	atomic_store(&flow->period_ns, condition->daemon == PASSING ? requests->store_period_ns : 0);
	atomic_store(&flow->loads, condition->loads);
	atomic_store(&flow->stores, condition->stores);
	(void)nanosleep(&warm, NULL);
	before = amounts_of(requests, condition->daemon);
	status = measure_and_add(requests, condition, STORE_ASK);
	if (status == 0)
		status = measure_and_add(requests, condition, STORE_FIND);
	add_amounts(requests, condition, &before);
	atomic_store(&flow->loads, false);
	atomic_store(&flow->stores, false);
	(void)nanosleep(&warm, NULL);
	return status;
}

/* --- Start and end -------------------------------------------------------------------------------- */

static int start_hot(struct requests *requests, unsigned i)
{
	struct store_shape shape = { .space = "hot", .codec = KVC_CODEC_F16, .heads = 1, .tokens = HOT_TOKENS,
				     .server = &requests->daemons[i].server };
	struct crew_command load = { .what = CREW_LOAD, .clients = 1, .processor = { PLACE_ANY } };
	_cleanup_(crew_stop) struct crew crew = { 0 };

	if (store_start(&requests->hot[i], &store_kvpaged, &requests->set, &shape) != STORE_STARTED ||
	    crew_start(&crew, 1, &requests->hot[i], 1) != 0 || crew_do(&crew, &load) != 0)
		return 1;
	if (kvc_space_open(requests->clients[i].client, "hot", NULL, &requests->spaces[i]) != KVC_OK)
		return bench_error("a space is gone");
	return store_open(&requests->hot[i], 0) != 0 || keep(requests, i) != 0;
}

/* With as much on the tier that loads have something to bring. */
static int start(struct requests *requests, unsigned i)
{
	bool quick = requests->bench->options->quick;
	uint64_t arena_bytes = quick ? QUICK_ARENA_BYTES : ARENA_BYTES;
	uint64_t tier_bytes = quick ? QUICK_TIER_BYTES : TIER_BYTES;
	struct tier_client *client = &requests->clients[i];
	uint64_t appended = 0, wanted = i == PASSING ? 1 : 3 * arena_bytes;
	struct tier_flow *flow;

	requests->daemons[i] = daemons_of_requests[i];
	if (tier_left_out(requests->bench, &requests->daemons[i]))
		requests->daemons[i].engine = "threads";
	if (tier_daemon_start(requests->bench, &requests->daemons[i], arena_bytes, tier_bytes, SEGMENT_BYTES) != 0 ||
	    tier_client_open(client, &requests->daemons[i], &tier_shapes[0]) != 0)
		return 1;
	for (; appended * client->bytes < wanted; appended++)
		if (tier_append(client, appended, 1) != 0 ||
		    (i != PASSING && tier_await_counter(client, "tier_stored_blocks_total", appended + 1) != 0))
			return 1;
	if (start_hot(requests, i) != 0 ||
	    tier_traffic_start(&requests->traffic[i], &requests->daemons[i], &tier_shapes[0], appended) != 0)
		return 1;
	flow = requests->traffic[i].flow;
	atomic_store(&flow->behind, i == STORING ? arena_bytes / client->bytes : 0);
	atomic_store(&flow->span, i == PASSING ? 1 : 3 * arena_bytes / client->bytes);
	return 0;
}

static void stop(struct requests *requests)
{
	for (unsigned i = 0; i < DAEMONS; i++) {
		tier_traffic_stop(&requests->traffic[i]);
		if (requests->hot[i].class) {
			store_close(&requests->hot[i]);
			store_stop(&requests->hot[i]);
		}
		tier_client_close(&requests->clients[i]);
		tier_daemon_stop(&requests->daemons[i]);
	}
	free(requests->samples);
}

static int run(struct requests *requests)
{
	for (unsigned i = 0; i < DAEMONS; i++)
		if (start(requests, i) != 0)
			return 1;
	for (uint64_t round = 0; round < requests->bench->options->rounds; round++)
		for (size_t i = 0; i < sizeof(conditions) / sizeof(conditions[0]); i++)
			if (turn(requests, &conditions[i]) != 0)
				return 1;
	return 0;
}

int tier_requests(struct tier_bench *bench)
{
	_cleanup_free_ struct requests *requests = calloc(1, sizeof(*requests));
	_cleanup_free_ uint8_t *source = NULL;
	int status;

	if (!requests)
		return bench_error("out of memory");
	requests->bench = bench;
	requests->turn_ns = bench->options->quick ? QUICK_TURN_NS : TURN_NS;
	requests->store_period_ns = 16 * NS_PER_MS;
	requests->set = (struct workset){ .value_bytes = 2 * HOT_TOKENS * STORE_HEAD_DIM * sizeof(uint16_t),
					  .count = HOT, .batch = STORE_BATCH };
	source = calloc(1, requests->set.value_bytes);
	requests->set.source = source;
	requests->samples = calloc(SAMPLES_MAX, sizeof(*requests->samples));
	ticks_init();
	(void)place_init();
	status = source && requests->samples ? run(requests) : bench_error("out of memory");
	stop(requests);
	return status;
}
