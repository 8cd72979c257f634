/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a scrape of the metrics takes, and what it does to clients: a daemon with 1e6 blocks, asked for blocks by one
 * client without a pause. In each round it does so for a while alone and for as long while another thread scrapes every
 * 100 ms; which of the two comes first changes from round to round. Then the same daemon with as many spaces as can be,
 * under names of 120 quotes, which make the longest answer. Blocks are as small as they can be, as in kvbench scale.
 */
#include "tests/bench/bench.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "tests/bench/crew.h"
#include "tests/bench/latency.h"
#include "tests/bench/place.h"
#include "tests/bench/report.h"
#include "tests/bench/spawn.h"
#include "tests/bench/ticks.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define COUNT 1000000
#define QUICK_COUNT 400
#define VALUE_BYTES (2 * STORE_HEAD_DIM * (uint32_t)sizeof(uint16_t)) /* one token of f16 */
#define BLOCK_BYTES (1024 + 256) /* its page and page map, and its entry in the tables, at most */
#define SPACES 256
#define NAME_BYTES 127
#define QUOTES 120
#define PERIOD_NS (100 * NS_PER_MS)
#define TURN_NS (2 * NS_PER_S)
#define QUICK_TURN_NS (20 * NS_PER_MS)
#define ASKS_MAX 1000000 /* of a turn */
#define SCRAPES_MAX 100000
#define SCRAPES_IN_A_ROW 20 /* a round */
#define SCRAPES_OF_A_CONNECTION 500 /* the daemon ends one after 1,000 */
#define TARGET_SCRAPE_MS 5.0
#define TARGET_RPC 1.1

static const char request[] = "GET /metrics HTTP/1.1\r\nHost: kvbench\r\n\r\n";

/* By round. */
struct line {
	double p50[ROUNDS_MAX];
	double p99[ROUNDS_MAX];
};

struct samples {
	uint32_t *ticks;
	uint32_t n;
	uint32_t max;
};

struct scraper {
	char path[128];
	int fd; /* -1: not connected */
	unsigned answered; /* on this connection */
	struct samples samples;
	size_t body_bytes; /* of the last answer */
	double cpu_s; /* of the daemon, as the last answer says */
	bool failed;
	_Atomic bool stop;
};

struct bench {
	const struct bench_options *options;
	struct workset set;
	struct bench_server server;
	struct store store;
	struct crew crew;
	struct scraper scraper;
	struct samples asks;
	uint64_t random;
	uint8_t source[VALUE_BYTES]; /* zeros */
	struct line alone;
	struct line scraped;
	uint32_t n_few; /* scrapes of the one space; the others came later */
	double few_cpu_us;
	double many_cpu_us;
};

/* --- Scraping ------------------------------------------------------------------------------------- */

static void keep(struct samples *samples, uint64_t ticks)
{
	if (samples->n < samples->max)
		samples->ticks[samples->n++] = latency_sample(ticks);
}

/* Reads one answer. Results: 0, or 1. */
static int receive(struct scraper *scraper)
{
	static char bytes[4 * MIB];
	size_t n = 0, wanted = SIZE_MAX;
	const char *cpu;

	while (n < wanted && n < sizeof(bytes) - 1) {
		ssize_t got = recv(scraper->fd, bytes + n, sizeof(bytes) - 1 - n, 0);
		const char *length, *end;

		if (got <= 0)
			return 1;
		n += (size_t)got;
		bytes[n] = '\0';
		end = wanted == SIZE_MAX ? strstr(bytes, "\r\n\r\n") : NULL;
		length = end ? strstr(bytes, "\r\nContent-Length: ") : NULL;
		if (!length)
			continue;
		scraper->body_bytes = strtoul(length + strlen("\r\nContent-Length: "), NULL, 10);
		wanted = (size_t)(end + 4 - bytes) + scraper->body_bytes;
	}
	cpu = strstr(bytes, "\nprocess_cpu_seconds_total ");
	if (n != wanted || strncmp(bytes, "HTTP/1.1 200 ", 13) != 0 || !cpu)
		return 1;
	scraper->cpu_s = strtod(cpu + strlen("\nprocess_cpu_seconds_total "), NULL);
	return 0;
}

static int reconnect(struct scraper *scraper)
{
	if (scraper->fd >= 0 && ++scraper->answered < SCRAPES_OF_A_CONNECTION)
		return 0;
	scraper->fd = close_fd(scraper->fd);
	scraper->fd = spawn_connect(scraper->path);
	scraper->answered = 0;
	return scraper->fd < 0;
}

static int scrape(struct scraper *scraper)
{
	uint64_t begin;

	if (reconnect(scraper) != 0)
		return 1;
	begin = ticks_begin();
	if (send(scraper->fd, request, sizeof(request) - 1, MSG_NOSIGNAL) != sizeof(request) - 1 ||
	    receive(scraper) != 0)
		return 1;
	keep(&scraper->samples, ticks_end() - begin);
	return 0;
}

static void *scrape_now_and_then(void *context)
{
	static const struct timespec period = { .tv_nsec = PERIOD_NS };
	struct scraper *scraper = context;

	do {
		scraper->failed = scraper->failed || scrape(scraper) != 0;
		(void)nanosleep(&period, NULL);
	} while (!atomic_load(&scraper->stop));
	return NULL;
}

/* One after the other, with nothing else to do. *ret_cpu_us is the daemon's CPU time for one. */
static int scrape_in_a_row(struct bench *bench, double *ret_cpu_us)
{
	uint64_t n = bench->options->rounds * SCRAPES_IN_A_ROW;
	double begin_s;

	if (scrape(&bench->scraper) != 0)
		return bench_error("a scrape failed");
	begin_s = bench->scraper.cpu_s;
	for (uint64_t i = 0; i < n; i++)
		if (scrape(&bench->scraper) != 0)
			return bench_error("a scrape failed");
	*ret_cpu_us = (bench->scraper.cpu_s - begin_s) * 1e6 / (double)n;
	return 0;
}

/* --- Asking --------------------------------------------------------------------------------------- */

static int ask_for(struct bench *bench, uint64_t budget_ns)
{
	uint64_t until_ns = now_ns() + budget_ns;

	bench->asks.n = 0;
	do {
		struct store_item item;
		uint64_t begin;

		bench->random = bench->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		store_item(&bench->store, (uint32_t)((bench->random >> 33) % bench->set.count), &item);
		begin = ticks_begin();
		if (store_kvpaged.ops[STORE_ASK](&bench->store, &item) != 0)
			return 1;
		keep(&bench->asks, ticks_end() - begin);
	} while (now_ns() < until_ns);
	return 0;
}

static int turn(struct bench *bench, bool scraped, uint64_t round)
{
	struct line *line = scraped ? &bench->scraped : &bench->alone;
	struct latency latency;
	pthread_t thread;
	int status;

	atomic_store(&bench->scraper.stop, false);
	if (scraped && pthread_create(&thread, NULL, scrape_now_and_then, &bench->scraper) != 0)
		return bench_error("cannot start a thread");
	status = ask_for(bench, bench->options->quick ? QUICK_TURN_NS : TURN_NS);
	if (scraped) {
		atomic_store(&bench->scraper.stop, true);
		(void)pthread_join(thread, NULL);
	}
	if (status == 0 && bench->scraper.failed)
		return bench_error("a scrape failed");
	if (status != 0)
		return status;
	latency = latency_of(bench->asks.ticks, bench->asks.n);
	line->p50[round] = latency.p50;
	line->p99[round] = latency.p99;
	return 0;
}

static int run_rounds(struct bench *bench)
{
	for (uint64_t round = 0; round < bench->options->rounds; round++)
		for (unsigned half = 0; half < 2; half++)
			if (turn(bench, (round + half) % 2, round) != 0)
				return 1;
	bench->n_few = bench->scraper.samples.n;
	if (scrape_in_a_row(bench, &bench->few_cpu_us) != 0)
		return 1;
	bench->scraper.samples.n = bench->n_few; /* those that clients were asking beside are what counts */
	return 0;
}

/* --- Many spaces ---------------------------------------------------------------------------------- */

static int open_spaces(struct bench *bench, kvc_client *client)
{
	struct kvc_schema schema = { .model = "kvbench", .dtype = KVC_F16, .layers = 1, .kv_heads = 1, .page_heads = 1,
				     .head_dim_k = STORE_HEAD_DIM, .head_dim_v = STORE_HEAD_DIM, .block_tokens = 1,
				     .codec_k = KVC_CODEC_F16, .codec_v = KVC_CODEC_F16 };
	char name[NAME_BYTES + 1];

	for (unsigned i = 1; i < SPACES; i++) {
		kvc_space *space;
		int r;

		(void)snprintf(name, sizeof(name), "%0*u", NAME_BYTES, i);
		memset(name, '"', QUOTES);
		r = kvc_space_open(client, name, &schema, &space);
		if (r != KVC_OK)
			return bench_error("space %u: %s", i, kvc_strerror(r));
	}
	return scrape_in_a_row(bench, &bench->many_cpu_us);
}

static int run_many_spaces(struct bench *bench)
{
	struct kvc_options options = { .struct_bytes = sizeof(options), .socket_path = bench->server.socket_path };
	kvc_client *client = NULL;
	char reason[256] = "";
	int status;

	if (kvc_open(&options, &client, reason, sizeof(reason)) != KVC_OK)
		return bench_error("cannot connect: %s", reason);
	status = open_spaces(bench, client);
	(void)kvc_close(client);
	return status;
}

/* --- Reporting ------------------------------------------------------------------------------------ */

static void report_one(const struct bench *bench, const char *name, double value, const char *unit, double ratio,
		       const char *reference)
{
	struct report number = { .bench = "scrape", .name = name, .value = { value, value, value }, .unit = unit,
				 .reference = reference, .ratio = ratio };

	report(&number, bench->options->json);
}

/* In microseconds, against the same without scrapes. */
static double report_rounds(const struct bench *bench, const char *name, double *values, double first)
{
	struct report number = { .bench = "scrape", .name = name, .unit = "us", .reference = "no scrapes", .ratio = 1 };

	for (uint64_t i = 0; i < bench->options->rounds; i++)
		values[i] /= 1e3;
	number.value = spread_of(values, bench->options->rounds);
	if (first > 0)
		number.ratio = number.value.median / first;
	report(&number, bench->options->json);
	return number.value.median;
}

static double report_scrapes(const struct bench *bench, const char *p50, const char *p99, uint32_t begin, uint32_t end)
{
	struct latency latency = latency_of(bench->scraper.samples.ticks + begin, end - begin);

	report_one(bench, p50, latency.p50 / 1e3, "us", latency.p50 / 1e6 / TARGET_SCRAPE_MS, "5 ms");
	report_one(bench, p99, latency.p99 / 1e3, "us", latency.p99 / 1e6 / TARGET_SCRAPE_MS, "5 ms");
	return latency.p99 / 1e6;
}

static void report_target(const struct bench *bench, const char *name, double value, const char *unit, double target)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "target: at most %g, %s", target, value <= target ? "met" : "missed");
	report_one(bench, name, value, unit, value / target, text);
}

static void report_all(struct bench *bench)
{
	uint64_t rounds = bench->options->rounds;
	double ratios[ROUNDS_MAX];
	double slowest, few, p50, p99;

	/* Neighbours in time are compared. */
	for (uint64_t i = 0; i < rounds; i++)
		ratios[i] = bench->scraped.p99[i] / bench->alone.p99[i];
	p50 = report_rounds(bench, "rpc.alone.p50", bench->alone.p50, 0);
	p99 = report_rounds(bench, "rpc.alone.p99", bench->alone.p99, 0);
	(void)report_rounds(bench, "rpc.scraped.p50", bench->scraped.p50, p50);
	(void)report_rounds(bench, "rpc.scraped.p99", bench->scraped.p99, p99);
	few = report_scrapes(bench, "scrape.p50", "scrape.p99", 0, bench->n_few);
	report_one(bench, "scrape.cpu", bench->few_cpu_us, "us", bench->few_cpu_us / 1e3 / TARGET_SCRAPE_MS, "5 ms");
	slowest = report_scrapes(bench, "scrape.spaces256.p50", "scrape.spaces256.p99", bench->n_few,
				 bench->scraper.samples.n);
	report_one(bench, "scrape.spaces256.cpu", bench->many_cpu_us, "us",
		   bench->many_cpu_us / 1e3 / TARGET_SCRAPE_MS, "5 ms");
	report_one(bench, "scrape.spaces256.bytes", (double)bench->scraper.body_bytes, "B", 1, "itself");
	report_target(bench, "target.scrape", few, "ms", TARGET_SCRAPE_MS);
	report_target(bench, "target.scrape.spaces256", slowest, "ms", TARGET_SCRAPE_MS);
	report_target(bench, "target.rpc_p99", spread_of(ratios, rounds).median, "x", TARGET_RPC);
}

/* --- Start and end -------------------------------------------------------------------------------- */

static int start(struct bench *bench)
{
	uint32_t count = bench->options->quick ? QUICK_COUNT : COUNT;
	uint64_t bytes = (uint64_t)count * BLOCK_BYTES * 51 / 50 + 16 * MIB;
	struct bench_server_options options = { .arena_bytes = bytes / (2 * MIB) * (2 * MIB), .blocks = count + 64 };
	struct crew_command load = { .what = CREW_LOAD, .clients = 1, .processor = { PLACE_ANY } };
	struct store_shape shape = { .space = "scrape", .codec = KVC_CODEC_F16, .heads = 1, .tokens = 1,
				     .server = &bench->server };

	bench->set = (struct workset){ .value_bytes = VALUE_BYTES, .count = count, .source = bench->source,
				       .batch = STORE_BATCH };
	if (bench_server_start(&bench->server, &options) != 0 ||
	    store_start(&bench->store, &store_kvpaged, &bench->set, &shape) != STORE_STARTED ||
	    crew_start(&bench->crew, 1, &bench->store, 1) != 0 || crew_do(&bench->crew, &load) != 0)
		return 1;
	crew_stop(&bench->crew);
	(void)snprintf(bench->scraper.path, sizeof(bench->scraper.path), "%s.metrics", bench->server.socket_path);
	return store_open(&bench->store, 0);
}

static void stop(struct bench *bench)
{
	crew_stop(&bench->crew);
	store_close(&bench->store);
	store_stop(&bench->store);
	bench->scraper.fd = close_fd(bench->scraper.fd);
	bench_server_stop(&bench->server);
	free(bench->asks.ticks);
	free(bench->scraper.samples.ticks);
}

static int run(const struct bench_options *options)
{
	_cleanup_free_ struct bench *bench = calloc(1, sizeof(*bench));
	int status = 1;

	if (!bench)
		return bench_error("out of memory");
	bench->options = options;
	bench->scraper.fd = -1;
	bench->asks = (struct samples){ .ticks = calloc(ASKS_MAX, sizeof(uint32_t)), .max = ASKS_MAX };
	bench->scraper.samples = (struct samples){ .ticks = calloc(SCRAPES_MAX, sizeof(uint32_t)),
						   .max = SCRAPES_MAX };
	ticks_init();
	(void)place_init();
	report_begin("scrape", options->json,
		     "rpc: fetches by asking, one after the other, among 1e6 blocks, alone and with a scrape every "
		     "100 ms. scrape: from the\nrequest to the whole answer, beside those fetches; of 256 spaces with "
		     "the longest names, alone. cpu: of the daemon.");
	if (!bench->asks.ticks || !bench->scraper.samples.ticks)
		(void)bench_error("out of memory");
	else
		status = start(bench);
	if (status == 0)
		status = run_rounds(bench);
	if (status == 0)
		status = run_many_spaces(bench);
	if (status == 0)
		report_all(bench);
	stop(bench);
	return status;
}

const struct bench_verb bench_scrape = {
	.name = "scrape",
	.summary = "the metrics: what a scrape takes, and takes from clients",
	.takes = BENCH_TAKES_ROUNDS | BENCH_TAKES_QUICK,
	.run = run,
};
