/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a restart takes: an arena in a file is filled, then in each round the daemon is killed (SIGKILL) and started
 * again at once. Measured are the start, from fork() to the first connection; and the longest time for which two
 * threads that do nothing but get blocks go without one: one asks (its call waits for the daemon), one reads in place
 * (it can until the new daemon takes over, and is then moved to a session of that). Beside it cold starts, on a new
 * file of the same size. Whoever supervises the daemon adds the time in which it notices and waits.
 */
#include "tests/bench/bench.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "tests/bench/measure.h"
#include "tests/bench/report.h"
#include "tests/bench/server.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAGE_BYTES (64 * KIB) /* 128 tokens of 128 + 128 values of f16 */
#define TOKENS 128
#define DIM 128
#define LAYERS 32
#define BATCH_PAGES 64
#define COLD_ROUNDS_MAX 3
#define CALM_MS 100
#define TARGET_START_MS 1000
#define TARGET_PAUSE_MS 50

struct setting {
	const char *name;
	uint64_t arena_bytes;
	uint32_t layers; /* pages a block */
};

static const struct setting settings[] = {
	{ "1g.single", GIB, 1 },
	{ "1g.layers", GIB, LAYERS },
	{ "8g.single", 8 * GIB, 1 },
	{ "8g.layers", 8 * GIB, LAYERS },
};

static const struct setting quick_settings[] = {
	{ "quick.single", 32 * MIB, 1 },
	{ "quick.layers", 32 * MIB, LAYERS },
};

/* Gets blocks until told to stop; got_ns is when it last got one, gap_ns the longest time between two. */
struct getter {
	struct bench *bench;
	pthread_t thread;
	bool in_place;
	_Atomic uint64_t got_ns;
	_Atomic uint64_t gap_ns;
};

struct bench {
	const struct bench_options *options;
	const struct setting *setting;
	struct bench_server server;
	struct bench_server_options server_options;
	char path[128];
	uint32_t blocks;
	uint8_t *values; /* zeros, of one block's K */
	struct getter getters[2];
	_Atomic bool stop;
	_Atomic bool failed;
	double cold[ROUNDS_MAX];
	double warm[ROUNDS_MAX];
	double pause[2][ROUNDS_MAX];
	double slowest_start;
	double slowest_pause;
};

static double ms_since(uint64_t begin_ns)
{
	return (double)(now_ns() - begin_ns) / NS_PER_MS;
}

/* --- Clients -------------------------------------------------------------------------------------- */

static kvc_space *join(struct bench *bench, kvc_client **ret_client)
{
	struct kvc_options options = { .struct_bytes = sizeof(options), .socket_path = bench->server.socket_path };
	struct kvc_schema schema = { .model = "kvbench", .dtype = KVC_F16, .layers = bench->setting->layers,
				     .kv_heads = 1, .page_heads = 1, .head_dim_k = DIM, .head_dim_v = DIM,
				     .block_tokens = TOKENS, .codec_k = KVC_CODEC_F16, .codec_v = KVC_CODEC_F16 };
	char reason[256] = "";
	kvc_space *space;

	if (kvc_open(&options, ret_client, reason, sizeof(reason)) != KVC_OK) {
		(void)bench_error("cannot connect: %s", reason);
		return NULL;
	}
	if (kvc_space_open(*ret_client, "restart", &schema, &space) == KVC_OK)
		return space;
	(void)bench_error("space: %s", kvc_error(*ret_client));
	*ret_client = kvc_close(*ret_client);
	return NULL;
}

static struct kvc_key key_of(uint32_t *number)
{
	return (struct kvc_key){ .bytes = number, .n = sizeof(*number) };
}

/* All but the last blocks that there is room for, which might evict others. */
static int fill(struct bench *bench, kvc_space *space)
{
	enum { BATCH_MAX = BATCH_PAGES };
	struct kvc_tensor tensor = { .data = bench->values, .dtype = KVC_F16, .stride_token = DIM,
				     .stride_head = TOKENS * DIM, .stride_layer = TOKENS * DIM };
	uint32_t batch = BATCH_PAGES / bench->setting->layers;
	struct kvc_append blocks[BATCH_MAX];
	uint32_t numbers[BATCH_MAX];

	for (uint32_t done = 0; done < bench->blocks; done += batch) {
		if (batch > bench->blocks - done)
			batch = bench->blocks - done;
		for (uint32_t i = 0; i < batch; i++) {
			numbers[i] = done + i;
			blocks[i] = (struct kvc_append){ .key = key_of(&numbers[i]), .tokens = TOKENS, .k = tensor,
							 .v = tensor };
		}
		if (kvc_append(space, blocks, batch) != KVC_OK || blocks[batch - 1].status != KVC_OK)
			return bench_error("block %" PRIu32 ": %s", done, kvc_strerror(blocks[batch - 1].status));
	}
	return 0;
}

static int get_one(struct getter *getter, kvc_space *space, kvc_reader *reader, uint32_t number)
{
	struct kvc_key key = key_of(&number);
	kvc_block *block = NULL;
	int status = KVC_MISS;
	int r = kvc_pin(space, reader, &key, 1, NULL, &block, &status);

	(void)kvc_unpin(block);
	return r == KVC_OK ? status : r;
}

static void got(struct getter *getter)
{
	uint64_t time_ns = now_ns();
	uint64_t last_ns = atomic_load(&getter->got_ns);

	if (last_ns > 0 && time_ns - last_ns > atomic_load(&getter->gap_ns))
		atomic_store(&getter->gap_ns, time_ns - last_ns);
	atomic_store(&getter->got_ns, time_ns);
}

static void *get_all(void *context)
{
	struct getter *getter = context;
	struct bench *bench = getter->bench;
	kvc_client *client = NULL;
	kvc_space *space = join(bench, &client);
	kvc_reader *reader = NULL;
	uint32_t number = 0;

	if (!space || (getter->in_place && kvc_reader_open(client, &reader) != KVC_OK))
		atomic_store(&bench->failed, true);
	while (!atomic_load(&bench->stop) && !atomic_load(&bench->failed)) {
		number = (number + 7919) % bench->blocks;
		if (get_one(getter, space, reader, number) == KVC_OK)
			got(getter);
		else
			atomic_store(&bench->failed, true);
	}
	(void)kvc_close(client);
	return NULL;
}

/* --- Restarts ------------------------------------------------------------------------------------- */

static void rest_ms(long ms)
{
	const struct timespec time = { .tv_nsec = ms * (long)NS_PER_MS };

	(void)nanosleep(&time, NULL);
}

/* How long it went without a block at most, once it has got some after the restart. */
static double pause_of(struct getter *getter, uint64_t restarted_ns)
{
	while (atomic_load(&getter->got_ns) < restarted_ns && !atomic_load(&getter->bench->failed))
		rest_ms(1);
	rest_ms(CALM_MS);
	return (double)atomic_load(&getter->gap_ns) / NS_PER_MS;
}

static int restart_once(struct bench *bench, uint64_t round)
{
	uint64_t begin_ns;

	for (unsigned i = 0; i < 2; i++)
		atomic_store(&bench->getters[i].gap_ns, 0);
	bench_server_kill(&bench->server);
	begin_ns = now_ns();
	if (bench_server_again(&bench->server, &bench->server_options) != 0)
		return 1;
	bench->warm[round] = ms_since(begin_ns);
	for (unsigned i = 0; i < 2; i++)
		bench->pause[i][round] = pause_of(&bench->getters[i], now_ns());
	return atomic_load(&bench->failed) ? bench_error("a client could not get a block") : 0;
}

static int run_rounds(struct bench *bench)
{
	int status = 0;
	unsigned started = 0;

	for (; started < 2; started++) {
		bench->getters[started] = (struct getter){ .bench = bench, .in_place = started == 1 };
		if (pthread_create(&bench->getters[started].thread, NULL, get_all, &bench->getters[started]) != 0)
			break;
	}
	if (started < 2)
		status = bench_error("cannot start a thread");
	rest_ms(CALM_MS);
	for (uint64_t round = 0; status == 0 && round < bench->options->rounds; round++)
		status = restart_once(bench, round);
	atomic_store(&bench->stop, true);
	while (started > 0)
		(void)pthread_join(bench->getters[--started].thread, NULL);
	return status;
}

/* The last leaves the server running. */
static int start_cold(struct bench *bench, uint64_t rounds)
{
	for (uint64_t round = 0; round < rounds; round++) {
		uint64_t begin_ns;

		bench_server_kill(&bench->server);
		(void)unlink(bench->path);
		begin_ns = now_ns();
		if (round == 0 ? bench_server_start(&bench->server, &bench->server_options) != 0
			       : bench_server_again(&bench->server, &bench->server_options) != 0)
			return bench_error("%s: cannot start a daemon with an arena there", bench->path);
		bench->cold[round] = ms_since(begin_ns);
	}
	return 0;
}

/* --- Reporting ------------------------------------------------------------------------------------ */

static struct spread report_one(struct bench *bench, const char *what, double *values, uint64_t n, const char *unit,
				double target)
{
	char name[64], reference[32];
	struct report number = { .bench = "restart", .name = name, .value = spread_of(values, n), .unit = unit,
				 .reference = "itself", .ratio = 1 };

	(void)snprintf(name, sizeof(name), "%s.%s", bench->setting->name, what);
	(void)snprintf(reference, sizeof(reference), "%g ms", target);
	if (target > 0) {
		number.reference = reference;
		number.ratio = number.value.median / target;
	}
	report(&number, bench->options->json);
	return number.value;
}

static void report_setting(struct bench *bench, uint64_t cold_rounds)
{
	uint64_t rounds = bench->options->rounds;
	double blocks = bench->blocks;
	struct spread warm, fetch, read;

	(void)report_one(bench, "blocks", &blocks, 1, "blocks", 0);
	(void)report_one(bench, "cold", bench->cold, cold_rounds, "ms", TARGET_START_MS);
	warm = report_one(bench, "warm", bench->warm, rounds, "ms", TARGET_START_MS);
	fetch = report_one(bench, "pause.fetch", bench->pause[0], rounds, "ms", TARGET_PAUSE_MS);
	read = report_one(bench, "pause.read", bench->pause[1], rounds, "ms", TARGET_PAUSE_MS);
	if (warm.median > bench->slowest_start)
		bench->slowest_start = warm.median;
	if (fetch.median > bench->slowest_pause)
		bench->slowest_pause = fetch.median;
	if (read.median > bench->slowest_pause)
		bench->slowest_pause = read.median;
}

static void report_target(const struct bench *bench, const char *name, double value, double target)
{
	char text[64];
	struct report number = { .bench = "restart", .name = name, .value = { value, value, value }, .unit = "ms",
				 .reference = text, .ratio = value / target };

	(void)snprintf(text, sizeof(text), "target: at most %g, %s", target, value <= target ? "met" : "missed");
	report(&number, bench->options->json);
}

/* --- Settings ------------------------------------------------------------------------------------- */

static int measure(struct bench *bench)
{
	uint64_t cold_rounds = bench->options->rounds < COLD_ROUNDS_MAX ? bench->options->rounds : COLD_ROUNDS_MAX;
	kvc_client *client = NULL;
	kvc_space *space;
	int status = start_cold(bench, cold_rounds);

	if (status != 0)
		return status;
	space = join(bench, &client);
	status = space ? fill(bench, space) : 1;
	(void)kvc_close(client);
	if (status == 0)
		status = run_rounds(bench);
	if (status == 0)
		report_setting(bench, cold_rounds);
	return status;
}

static int run_setting(struct bench *bench, const struct setting *setting)
{
	uint64_t pages = setting->arena_bytes / 100 * 95 / (PAGE_BYTES + KIB);
	char lock[160];
	int status;

	bench->setting = setting;
	bench->blocks = (uint32_t)(pages / setting->layers);
	bench->server_options = (struct bench_server_options){ .arena_bytes = setting->arena_bytes,
							       .arena_path = bench->path };
	atomic_store(&bench->stop, false);
	status = measure(bench);
	bench_server_stop(&bench->server);
	(void)snprintf(lock, sizeof(lock), "%s.lock", bench->path);
	(void)unlink(lock);
	(void)unlink(bench->path);
	return status;
}

static int run(const struct bench_options *options)
{
	_cleanup_free_ struct bench *bench = calloc(1, sizeof(*bench));
	_cleanup_free_ uint8_t *values = calloc(LAYERS, PAGE_BYTES / 2);
	const struct setting *list = options->quick ? quick_settings : settings;
	size_t n = options->quick ? sizeof(quick_settings) / sizeof(settings[0])
				  : sizeof(settings) / sizeof(settings[0]);
	int status = 0;

	if (!bench || !values)
		return bench_error("out of memory");
	bench->options = options;
	bench->values = values;
	(void)snprintf(bench->path, sizeof(bench->path), "/dev/shm/kvbench-%d", (int)getpid());
	report_begin("restart", options->json,
		     "An arena in a file, 95 % full of pages of 64 KiB, one a block (single) or 32 (layers). cold, "
		     "warm: from fork() to the\nfirst connection, with a new file and with the full one. pause: the "
		     "longest time without a block of a client that gets\none after the other over the restart, by "
		     "asking (fetch) and in place (read).");
	for (size_t i = 0; status == 0 && i < n; i++)
		status = run_setting(bench, &list[i]);
	if (status == 0) {
		report_target(bench, "target.start", bench->slowest_start, TARGET_START_MS);
		report_target(bench, "target.pause", bench->slowest_pause, TARGET_PAUSE_MS);
	}
	return status;
}

const struct bench_verb bench_restart = {
	.name = "restart",
	.summary = "a daemon that is killed: its next start, and what clients wait",
	.takes = BENCH_TAKES_ROUNDS | BENCH_TAKES_QUICK,
	.run = run,
};
