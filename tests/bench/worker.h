/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client process of a benchmark. It holds a batch of blocks and does one operation at a time on command, in step with
 * other workers: all are told, then all answer with when they began and ended.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "tests/bench/bench.h"

/* Round trips of PING_BYTES between two processes over a Unix socket, in one OP_PING. */
#define PINGS 2000
#define PING_BYTES 64

enum worker_op {
	OP_APPEND, /* the batch, under keys of this round */
	OP_FETCH,  /* the batch of this round, into other memory */
	OP_CHECK,  /* that what was fetched last is what was appended, as near as the codec keeps it */
	OP_DELETE, /* the batch of this round */
	OP_MEMCPY, /* the batch as f32, to where fetches go */
	OP_PING,
};

struct worker_job {
	const struct bench_shape *shape;
	const struct bench_codec *codec;
	const char *socket_path;
	const char *space;
	unsigned number; /* of the worker */
};

struct worker {
	pid_t pid; /* 0: none */
	int control;
};

/* What a worker answers. */
struct worker_answer {
	uint64_t begin_ns;
	uint64_t end_ns;
	uint64_t pages;
	int failed; /* a line on stderr said why */
};

/* Starts one; its first answer comes when it is ready. Results: 0, or 1 after a line on stderr. */
int worker_start(struct worker *worker, const struct worker_job *job);

/* Ends them. One that was not started is fine. */
void workers_stop(struct worker *workers, unsigned n);

/*
 * Lets all workers do op and waits for them. *ret_seconds is the time from the first that began to the last that ended,
 * *ret_pages (may be NULL) the pages that all stored. Results: 0, or 1 after a line on stderr.
 */
int workers_do(const struct worker *workers, unsigned n, enum worker_op op, uint64_t round, double *ret_seconds,
	       uint64_t *ret_pages);

/* Waits until all are ready. Results as above. */
int workers_ready(const struct worker *workers, unsigned n);
