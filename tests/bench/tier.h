/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of kvbench tier: daemons with a tier in one directory of the disk that is measured, blocks in them, and
 * figures that are gathered round by round. Rates count bytes as they are transferred: pages rounded up to slots,
 * without what the tier adds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/bench/bench.h"
#include "tests/bench/server.h"

/* --- Figures: tier-table.c ------------------------------------------------------------------------ */

#define TIER_ROWS_MAX 128

struct tier_row {
	char name[48];
	const char *unit;
	const char *reference; /* static text; NULL: itself */
	double target;	       /* of the ratio; 0: none */
	bool at_most;	       /* the target is a limit from above */
	size_t n;
	double values[ROUNDS_MAX];
	double ratios[ROUNDS_MAX]; /* to what was measured just before */
};

struct tier_table {
	struct tier_row *rows; /* in the order of their first values; all zero at first */
	size_t n;
};

/* The row of that name, with one more value; against is what the reference was in this round, 0: there is none. */
__attribute__((format(printf, 5, 6))) struct tier_row *tier_add(struct tier_table *table, double value,
								const char *unit, double against, const char *format,
								...);

/* A line for each row, and one for each that has a target. */
void tier_report(const struct tier_table *table, bool json);
void tier_table_free(struct tier_table *table);

/* --- Daemons and blocks: tier-blocks.c ------------------------------------------------------------ */

struct tier_shape {
	const struct bench_shape *model;
	uint32_t codec;
	uint32_t batch; /* blocks of one fetch */
};

#define TIER_SHAPES 2
extern const struct tier_shape tier_shapes[TIER_SHAPES];

struct tier_daemon {
	const char *name; /* in the names of figures */
	const char *engine;
	const char *direct;
	const char *admit;
	struct bench_server server;
	char directory[512]; /* of the tier; empty: not started */
};

#define TIER_FIO_FILE "fio" /* in the bench's directory */
#define TIER_FIO_DEPTH 32

struct tier_bench {
	const struct bench_options *options;
	struct tier_table table;
	char directory[480]; /* private, on the disk */
	bool fio;   /* is there */
	bool uring; /* likewise io_uring */
};

/* Whether this daemon's figures have to be missed, as it is to use io_uring. */
bool tier_left_out(const struct tier_bench *bench, const struct tier_daemon *daemon);

/* Removes a directory with the files in it. */
void tier_directory_remove(const char *path);

/* Starts the daemon. Results here and below: 0, or 1 after a line on stderr. */
int tier_daemon_start(const struct tier_bench *bench, struct tier_daemon *daemon, uint64_t arena_bytes,
		      uint64_t tier_bytes, uint64_t segment_bytes);

/* Stops it and removes its files. One that was not started is fine. */
void tier_daemon_stop(struct tier_daemon *daemon);

/* CPU time that it has used, of all its threads. */
uint64_t tier_daemon_cpu_ns(const struct tier_daemon *daemon);

/* A connection to it, and memory for a batch of blocks. */
struct tier_client {
	const struct tier_shape *shape;
	kvc_client *client;
	kvc_space *space;
	kvc_reader *reader;
	uint16_t *values; /* of a batch, f16: first what is appended, then also what was fetched */
	uint32_t pages;	  /* of a block, once there is one */
	uint64_t bytes;	  /* of a block, as transferred */
};

/* tier_client_close() is fine in any case, also on one that is all zero. */
int tier_client_open(struct tier_client *client, const struct tier_daemon *daemon, const struct tier_shape *shape);
void tier_client_close(struct tier_client *client);

/* Blocks are numbered; so many from the first on. All of them are roots. */
int tier_append(struct tier_client *client, uint64_t first, uint32_t n);
int tier_fetch(struct tier_client *client, uint64_t first, uint32_t n);
/* Blocks that are nowhere are passed over. */
int tier_prefetch(struct tier_client *client, uint64_t first, uint32_t n);
/* Has the daemon find blocks, so that they count as read. */
int tier_ask(struct tier_client *client, uint64_t first, uint32_t n);
/* Waits until all are resident. */
int tier_await_resident(struct tier_client *client, uint64_t first, uint32_t n);
int tier_forecast(struct tier_client *client, uint32_t n, struct kvc_forecast *ret_forecast);
int tier_evict_all(struct tier_client *client);

uint64_t tier_counter(struct tier_client *client, const char *name);
/* The same of amounts that the daemon brings up to date only when it is asked. */
uint64_t tier_counter_now(struct tier_client *client, const char *name);
/* Waits until the counter has grown to that. */
int tier_await_counter(struct tier_client *client, const char *name, uint64_t value);

/* --- Other processes: tier-traffic.c -------------------------------------------------------------- */

/* Shared by all: what was appended last, and how fast. */
struct tier_flow {
	_Atomic uint64_t appended; /* blocks */
	_Atomic uint64_t behind;   /* loads take blocks older than so many before the last */
	_Atomic uint64_t span;	   /* and younger than these */
	_Atomic uint64_t period_ns; /* of appends; 0: as fast as the tier takes them */
	_Atomic unsigned ready;     /* processes that have begun */
	_Atomic bool loads; /* what goes on at present */
	_Atomic bool stores;
};

struct tier_traffic {
	struct tier_flow *flow;
	pid_t pids[2];
};

/* Starts two processes, which rest at first, and waits for them. tier_traffic_stop() is fine in any case. */
int tier_traffic_start(struct tier_traffic *traffic, const struct tier_daemon *daemon, const struct tier_shape *shape,
		       uint64_t appended);
void tier_traffic_stop(struct tier_traffic *traffic);

/* --- What is measured ----------------------------------------------------------------------------- */

int tier_reads(struct tier_bench *bench);    /* tier-reads.c */
int tier_writes(struct tier_bench *bench);   /* tier-writes.c */
int tier_requests(struct tier_bench *bench); /* tier-requests.c */
