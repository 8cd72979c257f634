/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stores. append: a client appends without a pause, to an arena that holds a part of it; what counts is what reaches
 * the tier meanwhile, not counting a beginning. drain: as many blocks as the arena holds are there, and become worth
 * being stored all at once; nothing else goes on. Beside fio writing a file of as many bytes from its beginning to its
 * end. All files have been written before.
 */
#include "base/cleanup.h"
#include "base/units.h"
#include "tests/bench/fio.h"
#include "tests/bench/measure.h"
#include "tests/bench/tier.h"

#include <stdlib.h>
#include <time.h>

#define ARENA_BYTES (512 * MIB)
#define QUICK_ARENA_BYTES (128 * MIB)
#define SEGMENT_BYTES (64 * MIB)
#define TURN_NS (1500 * NS_PER_MS)
#define QUICK_TURN_NS (50 * NS_PER_MS)
#define TARGET 0.8
#define DAEMONS 4 /* the last is for drain */

struct writes {
	struct tier_bench *bench;
	const struct tier_shape *shape;
	struct tier_daemon daemons[DAEMONS];
	struct tier_client clients[DAEMONS];
	uint64_t next[DAEMONS]; /* block */
	uint64_t arena_bytes;
	uint64_t turn_ns;
	double fio_rate; /* in this round, the better one; 0: no fio */
};

static const struct tier_daemon daemons_of_writes[DAEMONS] = {
	{ .name = "uring", .engine = "io_uring", .direct = "yes", .admit = "all" },
	{ .name = "threads", .engine = "threads", .direct = "yes", .admit = "all" },
	{ .name = "cached", .engine = "io_uring", .direct = "no", .admit = "all" },
	{ .name = "uring-read", .engine = "io_uring", .direct = "yes", .admit = "read" },
};

static void add(struct writes *writes, unsigned i, const char *what, double bytes, uint64_t took_ns, uint64_t cpu_ns)
{
	const char *model = writes->shape->model->name, *engine = i == DAEMONS - 1 ? "uring" : writes->daemons[i].name;
	struct tier_row *row = tier_add(&writes->bench->table, bytes / (double)took_ns, "GB/s", writes->fio_rate / 1e9,
					"write.%s.%s.%s", model, engine, what);

	if (writes->fio_rate > 0) {
		row->reference = "fio write 64k";
		row->target = i == 0 ? TARGET : 0;
	}
	if (bytes > 0)
		(void)tier_add(&writes->bench->table, (double)cpu_ns / bytes, "s of CPU/GB", 0, "write.%s.%s.%s.cpu",
			       model, engine, what);
}

static int append_for(struct writes *writes, unsigned i, uint64_t budget_ns)
{
	struct tier_client *client = &writes->clients[i];
	uint64_t until_ns = now_ns() + budget_ns;

	do {
		if (tier_append(client, writes->next[i], client->shape->batch) != 0)
			return 1;
		writes->next[i] += client->shape->batch;
	} while (now_ns() < until_ns);
	return 0;
}

/* Until nothing is under way, so that the next turn begins as this one did. */
static int settle(struct tier_client *client)
{
	uint64_t before, stored = tier_counter(client, "tier_stored_blocks_total");
	static const struct timespec pause = { .tv_nsec = 50 * NS_PER_MS };

	do {
		before = stored;
		(void)nanosleep(&pause, NULL);
		stored = tier_counter(client, "tier_stored_blocks_total");
	} while (stored > before);
	return 0;
}

static int append(struct writes *writes, unsigned i)
{
	struct tier_client *client = &writes->clients[i];
	uint64_t begin_ns, cpu_ns, stored, took_ns;

	if (append_for(writes, i, writes->turn_ns / 4) != 0)
		return 1;
	stored = tier_counter(client, "tier_stored_blocks_total");
	cpu_ns = tier_daemon_cpu_ns(&writes->daemons[i]);
	begin_ns = now_ns();
	if (append_for(writes, i, writes->turn_ns) != 0)
		return 1;
	took_ns = now_ns() - begin_ns;
	cpu_ns = tier_daemon_cpu_ns(&writes->daemons[i]) - cpu_ns;
	stored = tier_counter(client, "tier_stored_blocks_total") - stored;
	add(writes, i, "append", (double)(stored * client->bytes), took_ns, cpu_ns);
	return settle(client);
}

static int drain(struct writes *writes, unsigned i)
{
	struct tier_client *client = &writes->clients[i];
	uint32_t n = (uint32_t)(writes->arena_bytes * 3 / 4 / client->bytes);
	uint64_t stored = tier_counter(client, "tier_stored_blocks_total");
	uint64_t begin_ns, cpu_ns;

	if (tier_append(client, writes->next[i], n) != 0)
		return 1;
	cpu_ns = tier_daemon_cpu_ns(&writes->daemons[i]);
	begin_ns = now_ns();
	if (tier_ask(client, writes->next[i], n) != 0 ||
	    tier_await_counter(client, "tier_stored_blocks_total", stored + n) != 0)
		return 1;
	add(writes, i, "drain", (double)(n * client->bytes), now_ns() - begin_ns,
	    tier_daemon_cpu_ns(&writes->daemons[i]) - cpu_ns);
	writes->next[i] += n;
	return 0;
}

static int limit(struct writes *writes, uint32_t transfer_bytes, const char *name, double *ret_rate)
{
	const struct tier_bench *bench = writes->bench;

	if (fio_run(bench->directory, "write", TIER_FIO_FILE, writes->arena_bytes, writes->arena_bytes,
		    transfer_bytes, TIER_FIO_DEPTH, ret_rate) != 0)
		return 1;
	(void)tier_add(&writes->bench->table, *ret_rate / 1e9, "GB/s", 0, "limit.%s.write.%s",
		       writes->shape->model->name, name);
	return 0;
}

static int limits(struct writes *writes)
{
	double rate;

	return limit(writes, MIB, "1m", &rate) != 0 || limit(writes, 64 * KIB, "64k", &writes->fio_rate) != 0;
}

static int rounds(struct writes *writes)
{
	for (uint64_t round = 0; round < writes->bench->options->rounds; round++) {
		if (writes->bench->fio && limits(writes) != 0)
			return 1;
		for (unsigned i = 0; i < DAEMONS; i++)
			if (!tier_left_out(writes->bench, &daemons_of_writes[i]) &&
			    (i == DAEMONS - 1 ? drain(writes, i) : append(writes, i)) != 0)
				return 1;
	}
	return 0;
}

/* All segments, and a little more: what is measured is a tier that has been in use for a while. */
static int fill(struct writes *writes, unsigned i)
{
	struct tier_client *client = &writes->clients[i];
	uint64_t written = 0;

	do {
		uint64_t n = writes->next[i] == 0 ? 1 : writes->arena_bytes / 4 / client->bytes;

		if (tier_append(client, writes->next[i], (uint32_t)n) != 0 ||
		    tier_ask(client, writes->next[i], (uint32_t)n) != 0)
			return 1;
		writes->next[i] += n;
		written += n * client->bytes;
		if (tier_await_counter(client, "tier_stored_blocks_total", writes->next[i]) != 0)
			return 1;
	} while (written < 2 * writes->arena_bytes + SEGMENT_BYTES);
	return 0;
}

static int run(struct writes *writes)
{
	int status = 0;

	for (unsigned i = 0; i < DAEMONS && status == 0; i++) {
		writes->daemons[i] = daemons_of_writes[i];
		if (tier_left_out(writes->bench, &writes->daemons[i]))
			continue;
		status = tier_daemon_start(writes->bench, &writes->daemons[i], writes->arena_bytes,
					   2 * writes->arena_bytes, SEGMENT_BYTES);
		if (status == 0)
			status = tier_client_open(&writes->clients[i], &writes->daemons[i], writes->shape);
		if (status == 0)
			status = fill(writes, i);
	}
	if (status == 0)
		status = rounds(writes);
	for (unsigned i = 0; i < DAEMONS; i++) {
		tier_client_close(&writes->clients[i]);
		tier_daemon_stop(&writes->daemons[i]);
	}
	return status;
}

int tier_writes(struct tier_bench *bench)
{
	int status = 0;

	for (unsigned i = 0; i < TIER_SHAPES && status == 0; i++) {
		_cleanup_free_ struct writes *writes = calloc(1, sizeof(*writes));

		if (!writes)
			return bench_error("out of memory");
		if (!bench_wants(bench->options->shape, tier_shapes[i].model->name))
			continue;
		writes->bench = bench;
		writes->shape = &tier_shapes[i];
		writes->arena_bytes = bench->options->quick ? QUICK_ARENA_BYTES : ARENA_BYTES;
		writes->turn_ns = bench->options->quick ? QUICK_TURN_NS : TURN_NS;
		status = run(writes);
	}
	return status;
}
