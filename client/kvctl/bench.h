/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What kvctl bench measures. Each row is one operation repeated for its share of the time, every repetition timed for
 * itself.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/kvclient.h"

#define BENCH_LAYERS 4u
#define BENCH_HEADS 8u
#define BENCH_DIM 128u
#define BENCH_TOKENS 128u
#define BENCH_BLOCKS 8u
#define BENCH_TENSOR_VALUES ((size_t)BENCH_LAYERS * BENCH_HEADS * BENCH_TOKENS * BENCH_DIM)
#define BENCH_BLOCK_F16_BYTES (2 * BENCH_TENSOR_VALUES * 2) /* K and V */

#define BENCH_ROWS_MAX 8
#define BENCH_SAMPLES_MAX 262144

struct bench_row {
	const char *name;
	const char *meaning;
	uint64_t samples;
	double p50_us;
	double p99_us;
	double rate; /* a second: repetitions, or gigabytes */
	bool gigabytes;
};

struct bench {
	uint32_t codec;
	uint64_t seconds;
	struct bench_row rows[BENCH_ROWS_MAX];
	size_t n;
	/* From bench_open() to bench_close(): */
	kvc_space *space;
	kvc_reader *reader;
	uint16_t *values; /* K, V, and room for both to be read back to */
	uint32_t *samples_ns;
	int sockets[2]; /* -1: none */
};

/* Whether the user wants an end. */
bool bench_interrupted(void);

/* Registers the space and takes memory. Results: KVC_OK, or of the library; bench_close() in any case. */
int bench_open(struct bench *bench, kvc_client *client, const char *space_name);
void bench_close(struct bench *bench);

/* Measures all rows, or those before an interruption. KVC_OK, or the result of the library that ended it. */
int bench_run(struct bench *bench);
