/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads: blocks that are on the tier and not resident, by having all of them prefetched and waiting for the last, and
 * by fetching them into tensors, a prompt of them at a time, without and with prefetching the next one. Beside fio
 * reading as many bytes of a file in random order.
 */
#include "base/cleanup.h"
#include "base/units.h"
#include "tests/bench/fio.h"
#include "tests/bench/measure.h"
#include "tests/bench/tier.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SET_BYTES (512 * MIB)
#define QUICK_SET_BYTES (48 * MIB)
#define SEGMENT_BYTES (64 * MIB)
#define FIO_TRANSFER (64 * KIB)
#define TARGET 0.85

#define DAEMONS 3

struct reads {
	struct tier_bench *bench;
	const struct tier_shape *shape;
	struct tier_daemon daemons[DAEMONS];
	struct tier_client clients[DAEMONS];
	uint64_t set_bytes;
	uint32_t blocks;
	double fio_rate; /* in this daemon's turn; 0: no fio */
};

static const struct tier_daemon daemons_of_reads[DAEMONS] = {
	{ .name = "uring", .engine = "io_uring", .direct = "yes", .admit = "all" },
	{ .name = "threads", .engine = "threads", .direct = "yes", .admit = "all" },
	{ .name = "cached", .engine = "io_uring", .direct = "no", .admit = "all" },
};

static int fill(struct reads *reads, unsigned i)
{
	struct tier_client *client = &reads->clients[i];
	uint64_t block_bytes;

	if (tier_daemon_start(reads->bench, &reads->daemons[i], reads->set_bytes * 5 / 4 + 64 * MIB,
			      2 * reads->set_bytes + 4 * SEGMENT_BYTES, SEGMENT_BYTES) != 0 ||
	    tier_client_open(client, &reads->daemons[i], reads->shape) != 0 || tier_append(client, 0, 1) != 0)
		return 1;
	block_bytes = client->bytes;
	reads->blocks = (uint32_t)(reads->set_bytes / block_bytes);
	if (tier_append(client, 1, reads->blocks - 1) != 0)
		return 1;
	return tier_await_counter(client, "tier_stored_blocks_total", reads->blocks);
}

/* What the loads took, beside what fio gave and what was forecast. */
static void add(struct reads *reads, unsigned i, const char *what, uint64_t took_ns, uint64_t cpu_ns)
{
	const struct tier_client *client = &reads->clients[i];
	const char *model = reads->shape->model->name, *name = reads->daemons[i].name;
	double bytes = (double)client->bytes * reads->blocks, seconds = (double)took_ns / 1e9;
	struct tier_row *row = tier_add(&reads->bench->table, bytes / 1e9 / seconds, "GB/s", reads->fio_rate / 1e9,
					"read.%s.%s.%s", model, name, what);

	if (reads->fio_rate > 0) {
		row->reference = "fio randread 64k";
		row->target = i == 0 ? TARGET : 0;
	}
	(void)tier_add(&reads->bench->table, (double)cpu_ns / 1e9 / (bytes / 1e9), "s of CPU/GB", 0,
		       "read.%s.%s.%s.cpu", model, name, what);
}

static int cold(struct reads *reads, unsigned i)
{
	struct kvc_forecast forecast;

	if (tier_evict_all(&reads->clients[i]) != 0 ||
	    tier_forecast(&reads->clients[i], reads->blocks, &forecast) != 0)
		return 1;
	if (forecast.resident != 0 || forecast.loadable != reads->blocks)
		return bench_error("of %u blocks %zu are resident and %zu on the tier", reads->blocks,
				   forecast.resident, forecast.loadable);
	return 0;
}

static int prefetch(struct reads *reads, unsigned i)
{
	struct tier_client *client = &reads->clients[i];
	struct kvc_forecast forecast;
	uint64_t begin_ns, cpu_ns, took_ns;
	struct tier_row *row;

	if (cold(reads, i) != 0 || tier_forecast(client, reads->blocks, &forecast) != 0)
		return 1;
	cpu_ns = tier_daemon_cpu_ns(&reads->daemons[i]);
	begin_ns = now_ns();
	if (tier_prefetch(client, 0, reads->blocks) != 0 || tier_await_resident(client, 0, reads->blocks) != 0)
		return 1;
	took_ns = now_ns() - begin_ns;
	add(reads, i, "prefetch", took_ns, tier_daemon_cpu_ns(&reads->daemons[i]) - cpu_ns);
	row = tier_add(&reads->bench->table, (double)forecast.load_us / 1e3, "ms", (double)took_ns / 1e6,
		       "forecast.%s.%s", reads->shape->model->name, reads->daemons[i].name);
	row->reference = "what the load then took";
	return 0;
}

/* Batch after batch, the next one being brought up while one is decoded. */
static int fetch_ahead(struct tier_client *client, uint32_t blocks)
{
	uint32_t batch = client->shape->batch;

	for (uint32_t i = 0; i < blocks; i += batch) {
		uint32_t n = blocks - i < batch ? blocks - i : batch, next = blocks - i - n;

		if (tier_prefetch(client, i + n, next < batch ? next : batch) != 0 || tier_fetch(client, i, n) != 0)
			return 1;
	}
	return 0;
}

static int fetch(struct reads *reads, unsigned i, bool ahead)
{
	struct tier_client *client = &reads->clients[i];
	uint64_t begin_ns, cpu_ns;

	if (cold(reads, i) != 0)
		return 1;
	cpu_ns = tier_daemon_cpu_ns(&reads->daemons[i]);
	begin_ns = now_ns();
	if ((ahead ? fetch_ahead(client, reads->blocks) : tier_fetch(client, 0, reads->blocks)) != 0)
		return 1;
	add(reads, i, ahead ? "ahead" : "fetch", now_ns() - begin_ns, tier_daemon_cpu_ns(&reads->daemons[i]) - cpu_ns);
	return 0;
}

/*
 * What fio gets out of the files that the daemon has its blocks in: on the same disk, other files may be read at a
 * rate of their own, by where they lie and who has cached what below this system.
 */
static int limit(struct reads *reads, unsigned i, uint32_t transfer_bytes, const char *name, double *ret_rate)
{
	const struct tier_daemon *daemon = &reads->daemons[i];
	uint64_t segments = (reads->set_bytes + SEGMENT_BYTES - 1) / SEGMENT_BYTES;
	char files[512] = "";
	size_t n = 0;

	for (uint64_t segment = 0; segment < segments && n < sizeof(files) - 32; segment++)
		n += (size_t)snprintf(files + n, sizeof(files) - n, "%ssegment-%06" PRIu64, segment ? ":" : "",
				      segment);
	if (fio_run(daemon->directory, "randread", files, segments * SEGMENT_BYTES, reads->set_bytes, transfer_bytes,
		    TIER_FIO_DEPTH, ret_rate) != 0)
		return 1;
	(void)tier_add(&reads->bench->table, *ret_rate / 1e9, "GB/s", 0, "limit.%s.%s.randread.%s",
		       reads->shape->model->name, daemon->name, name);
	return 0;
}

static int limits(struct reads *reads, unsigned i)
{
	const struct tier_client *client = &reads->clients[i];
	uint32_t page = (uint32_t)(client->bytes / client->pages);
	double rate;

	if (limit(reads, i, FIO_TRANSFER, "64k", &reads->fio_rate) != 0)
		return 1;
	return page == FIO_TRANSFER ? 0 : limit(reads, i, page, "page", &rate);
}

/* Blocks that come from the page cache are not held against a disk. */
static int turn(struct reads *reads, unsigned i)
{
	bool direct = strcmp(reads->daemons[i].direct, "yes") == 0;

	reads->fio_rate = 0;
	return (reads->bench->fio && direct && limits(reads, i) != 0) || prefetch(reads, i) != 0 ||
	       fetch(reads, i, false) != 0 || fetch(reads, i, true) != 0;
}

static int rounds(struct reads *reads)
{
	for (uint64_t round = 0; round < reads->bench->options->rounds; round++)
		for (unsigned i = 0; i < DAEMONS; i++)
			if (!tier_left_out(reads->bench, &daemons_of_reads[i]) && turn(reads, i) != 0)
				return 1;
	return 0;
}

static int run(struct reads *reads)
{
	int status = 0;

	for (unsigned i = 0; i < DAEMONS && status == 0; i++) {
		reads->daemons[i] = daemons_of_reads[i];
		if (!tier_left_out(reads->bench, &reads->daemons[i]))
			status = fill(reads, i);
	}
	if (status == 0)
		status = rounds(reads);
	for (unsigned i = 0; i < DAEMONS; i++) {
		tier_client_close(&reads->clients[i]);
		tier_daemon_stop(&reads->daemons[i]);
	}
	return status;
}

int tier_reads(struct tier_bench *bench)
{
	int status = 0;

	for (unsigned i = 0; i < TIER_SHAPES && status == 0; i++) {
		_cleanup_free_ struct reads *reads = calloc(1, sizeof(*reads));

		if (!reads)
			return bench_error("out of memory");
		if (!bench_wants(bench->options->shape, tier_shapes[i].model->name))
			continue;
		reads->bench = bench;
		reads->shape = &tier_shapes[i];
		reads->set_bytes = bench->options->quick ? QUICK_SET_BYTES : SET_BYTES;
		status = run(reads);
	}
	return status;
}
