/* SPDX-License-Identifier: Apache-2.0 */
/* All blocks have the same values, since nothing here looks at them; no part of kvpaged makes use of that. */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/units.h"
#include "codec/half.h"
#include "proto/layout.h"
#include "tests/bench/measure.h"
#include "tests/bench/tier.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define LIMIT_NS (120 * NS_PER_S)
#define POLL_NS (100 * NS_PER_US)
#define BATCH_MAX 64
#define KEY_BYTES 16

/* Pages of 64 KiB, of one head; and those of a small model, of all its heads, at 4.5 bits. */
const struct tier_shape tier_shapes[TIER_SHAPES] = {
	{ &bench_shapes[1], KVC_CODEC_F16, 4 },
	{ &bench_shapes[0], KVC_CODEC_Q4, 12 },
};

/* --- Daemons -------------------------------------------------------------------------------------- */

bool tier_left_out(const struct tier_bench *bench, const struct tier_daemon *daemon)
{
	return !bench->uring && strcmp(daemon->engine, "io_uring") == 0;
}

int tier_daemon_start(const struct tier_bench *bench, struct tier_daemon *daemon, uint64_t arena_bytes,
		      uint64_t tier_bytes, uint64_t segment_bytes)
{
	char bytes[24], segment[24];
	const char *const more[] = { "--tier-dir",    daemon->directory, "--tier-bytes",	bytes,
				     "--tier-segment-bytes", segment,	 "--tier-engine",	daemon->engine,
				     "--tier-direct", daemon->direct,	 "--tier-admit",	daemon->admit,
				     "--tier-free-percent", "100",	 NULL };
	struct bench_server_options options = { .arena_bytes = arena_bytes / (2 * MIB) * (2 * MIB), .more = more };

	(void)snprintf(daemon->directory, sizeof(daemon->directory), "%s/%s", bench->directory, daemon->name);
	(void)snprintf(bytes, sizeof(bytes), "%" PRIu64, tier_bytes);
	(void)snprintf(segment, sizeof(segment), "%" PRIu64, segment_bytes);
	return bench_server_start(&daemon->server, &options);
}

void tier_directory_remove(const char *path)
{
	DIR *directory = opendir(path);
	const struct dirent *entry;

	while (directory && (entry = readdir(directory)))
		(void)unlinkat(dirfd(directory), entry->d_name, 0);
	if (directory)
		(void)closedir(directory);
	(void)rmdir(path);
}

void tier_daemon_stop(struct tier_daemon *daemon)
{
	bench_server_stop(&daemon->server);
	if (daemon->directory[0])
		tier_directory_remove(daemon->directory);
	daemon->directory[0] = '\0';
}

uint64_t tier_daemon_cpu_ns(const struct tier_daemon *daemon)
{
	struct timespec used = { 0 };
	clockid_t clock;

	if (clock_getcpuclockid(daemon->server.pid, &clock) == 0)
		(void)clock_gettime(clock, &used);
	return (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
}

/* --- Clients -------------------------------------------------------------------------------------- */

static int fail(const struct tier_client *client, const char *what, int result)
{
	return bench_error("%s: %s (%s)", what, kvc_strerror(result), kvc_error(client->client));
}

static int rest(uint64_t since_ns, const char *what)
{
	static const struct timespec pause = { .tv_nsec = POLL_NS };

	if (now_ns() - since_ns > LIMIT_NS)
		return bench_error("waited in vain for %s", what);
	(void)nanosleep(&pause, NULL);
	return 0;
}

static size_t block_values(const struct tier_client *client)
{
	return 2 * bench_plane_values(client->shape->model);
}

static int values_make(struct tier_client *client)
{
	size_t n = block_values(client);
	_cleanup_free_ float *values = malloc(n * sizeof(*values));

	client->values = calloc(client->shape->batch * n, sizeof(*client->values));
	if (!values || !client->values)
		return bench_error("out of memory");
	bench_fill(values, n, client->shape->model->head_dim, 1);
	for (size_t i = 0; i < n; i++)
		client->values[i] = half_from_f32_rounded(values[i], HALF_NEAREST);
	for (uint32_t block = 1; block < client->shape->batch; block++)
		memcpy(client->values + block * n, client->values, n * sizeof(*client->values));
	return 0;
}

int tier_client_open(struct tier_client *client, const struct tier_daemon *daemon, const struct tier_shape *shape)
{
	struct kvc_schema schema = bench_schema(shape->model, shape->codec);
	struct kvc_options options = { .struct_bytes = sizeof(options),
				       .socket_path = daemon->server.socket_path,
				       .client_name = "kvbench",
				       .timeout_ms = 60000,
				       .staging_bytes = 32 * MIB };
	char reason[256] = "";
	int r;

	*client = (struct tier_client){ .shape = shape };
	r = kvc_open(&options, &client->client, reason, sizeof(reason));
	if (r != KVC_OK)
		return bench_error("cannot connect: %s", reason);
	r = kvc_space_open(client->client, shape->model->name, &schema, &client->space);
	if (r == KVC_OK)
		r = kvc_reader_open(client->client, &client->reader);
	return r == KVC_OK ? values_make(client) : fail(client, "opening", r);
}

void tier_client_close(struct tier_client *client)
{
	(void)kvc_close(client->client);
	free(client->values);
	*client = (struct tier_client){ 0 };
}

/* --- Blocks --------------------------------------------------------------------------------------- */

struct names {
	char text[BATCH_MAX][KEY_BYTES + 1];
	struct kvc_key keys[BATCH_MAX];
};

static void names_make(struct names *names, uint64_t first, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		(void)snprintf(names->text[i], sizeof(names->text[i]), "%0*" PRIx64, KEY_BYTES, first + i);
		names->keys[i] = (struct kvc_key){ names->text[i], KEY_BYTES };
	}
}

/* Of K or V of the block at this place of the batch. */
static struct kvc_tensor tensor(const struct tier_client *client, uint32_t place, char which)
{
	struct kvc_tensor k = bench_tensor(client->shape->model, NULL);
	size_t plane = bench_plane_values(client->shape->model);

	k.data = client->values + place * 2 * plane + (which == 'V' ? plane : 0);
	k.dtype = KVC_F16;
	return k;
}

static int measure_block(struct tier_client *client, const struct kvc_key *key)
{
	struct kvc_why why;
	int r = kvc_why(client->space, key, &why);

	if (r != KVC_OK || why.page_count == 0)
		return fail(client, "asking about a block", r);
	client->pages = why.page_count;
	client->bytes = why.page_count * align_up_u64(why.stored_bytes / why.page_count, KVP_SLOT_ALIGN);
	return 0;
}

/* Where all memory is being stored and loaded there may be no room for a moment. */
static int append_batch(struct tier_client *client, uint64_t first, uint32_t n)
{
	struct kvc_append appends[BATCH_MAX];
	uint64_t since_ns = now_ns();
	struct names names;
	int r;

	names_make(&names, first, n);
	for (uint32_t i = 0; i < n; i++)
		appends[i] = (struct kvc_append){
			.key = names.keys[i],
			.tokens = BENCH_BLOCK_TOKENS,
			.k = tensor(client, 0, 'K'),
			.v = tensor(client, 0, 'V'),
		};
	do {
		r = kvc_append(client->space, appends, n);
		for (uint32_t i = 0; r == KVC_OK && i < n; i++)
			r = appends[i].status == KVC_PRESENT ? KVC_OK : appends[i].status;
	} while (r == KVC_NO_SPACE && rest(since_ns, "room in the arena") == 0);
	if (r != KVC_OK)
		return fail(client, "append", r);
	return client->pages > 0 ? 0 : measure_block(client, &names.keys[0]);
}

static int fetch_batch(struct tier_client *client, uint64_t first, uint32_t n)
{
	struct kvc_fetch fetches[BATCH_MAX];
	struct names names;
	int r;

	names_make(&names, first, n);
	for (uint32_t i = 0; i < n; i++)
		fetches[i] = (struct kvc_fetch){
			.key = names.keys[i],
			.k = tensor(client, i, 'K'),
			.v = tensor(client, i, 'V'),
		};
	r = kvc_fetch(client->space, client->reader, fetches, n);
	for (uint32_t i = 0; r == KVC_OK && i < n; i++)
		r = fetches[i].status;
	return r == KVC_OK ? 0 : fail(client, "fetch", r);
}

static int prefetch_batch(struct tier_client *client, uint64_t first, uint32_t n)
{
	struct names names;
	int r;

	names_make(&names, first, n);
	r = kvc_prefetch(client->space, names.keys, n, NULL, NULL);
	return r == KVC_OK ? 0 : fail(client, "prefetch", r);
}

static int ask_batch(struct tier_client *client, uint64_t first, uint32_t n)
{
	struct kvc_fetch fetches[BATCH_MAX];
	struct names names;
	int r;

	names_make(&names, first, n);
	for (uint32_t i = 0; i < n; i++)
		fetches[i] = (struct kvc_fetch){ .key = names.keys[i] };
	r = kvc_fetch(client->space, NULL, fetches, n);
	for (uint32_t i = 0; r == KVC_OK && i < n; i++)
		r = fetches[i].status;
	return r == KVC_OK ? 0 : fail(client, "asking", r);
}

typedef int batch_fn(struct tier_client *client, uint64_t first, uint32_t n);

static int in_batches(struct tier_client *client, uint64_t first, uint32_t n, batch_fn *batch)
{
	for (uint32_t i = 0, part; i < n; i += part) {
		part = n - i < client->shape->batch ? n - i : client->shape->batch;
		if (batch(client, first + i, part) != 0)
			return 1;
	}
	return 0;
}

int tier_append(struct tier_client *client, uint64_t first, uint32_t n)
{
	return in_batches(client, first, n, append_batch);
}

int tier_fetch(struct tier_client *client, uint64_t first, uint32_t n)
{
	return in_batches(client, first, n, fetch_batch);
}

int tier_prefetch(struct tier_client *client, uint64_t first, uint32_t n)
{
	return in_batches(client, first, n, prefetch_batch);
}

int tier_ask(struct tier_client *client, uint64_t first, uint32_t n)
{
	return in_batches(client, first, n, ask_batch);
}

int tier_forecast(struct tier_client *client, uint32_t n, struct kvc_forecast *ret_forecast)
{
	_cleanup_free_ struct kvc_key *keys = calloc(n, sizeof(*keys));
	_cleanup_free_ char *text = calloc(n, KEY_BYTES + 1);
	int r;

	if (!keys || !text)
		return bench_error("out of memory");
	for (uint32_t i = 0; i < n; i++) {
		char *key = text + (size_t)i * (KEY_BYTES + 1);

		(void)snprintf(key, KEY_BYTES + 1, "%0*x", KEY_BYTES, i);
		keys[i] = (struct kvc_key){ key, KEY_BYTES };
	}
	r = kvc_forecast(client->space, keys, n, NULL, ret_forecast);
	return r == KVC_OK ? 0 : fail(client, "forecast", r);
}

int tier_evict_all(struct tier_client *client)
{
	int r = kvc_evict(client->client, NULL, 0, 0, NULL, NULL);

	return r == KVC_OK ? 0 : fail(client, "evict", r);
}

/* --- Waiting -------------------------------------------------------------------------------------- */

int tier_await_resident(struct tier_client *client, uint64_t first, uint32_t n)
{
	uint64_t since_ns = now_ns();

	for (uint32_t i = 0; i < n;) {
		struct names names;

		names_make(&names, first + i, 1);
		if (kvc_find(client->space, client->reader, &names.keys[0], NULL) == KVC_OK)
			i++;
		else if (rest(since_ns, "blocks to be loaded") != 0)
			return 1;
	}
	return 0;
}

static uint64_t counter_of(struct tier_client *client, const char *name,
			   int get(kvc_client *client, struct kvc_stats **ret_stats))
{
	struct kvc_stats *stats;
	uint64_t value = 0;

	if (get(client->client, &stats) == KVC_OK) {
		value = kvc_stats_counter(stats, name);
		(void)kvc_stats_free(stats);
	}
	return value;
}

uint64_t tier_counter(struct tier_client *client, const char *name)
{
	return counter_of(client, name, kvc_stats_look);
}

uint64_t tier_counter_now(struct tier_client *client, const char *name)
{
	return counter_of(client, name, kvc_stats_get);
}

int tier_await_counter(struct tier_client *client, const char *name, uint64_t value)
{
	uint64_t since_ns = now_ns();

	while (tier_counter(client, name) < value)
		if (rest(since_ns, name) != 0)
			return 1;
	return 0;
}
