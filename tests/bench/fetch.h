/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of kvbench fetch. A setting is one size of pages in one size of working set: its stores hold the same
 * values, and its cells, each an operation of a store by one or two clients in one placement, take turns. A cell's
 * figures are medians over the rounds.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/bench/bench.h"
#include "tests/bench/crew.h"
#include "tests/bench/measure.h"
#include "tests/bench/store.h"

#define FETCH_CELLS_MAX 96

/* The page size that names leave out, and of most targets. */
#define FETCH_PAGE_BYTES (24 * 1024)

/* K and V of one head and 128 tokens as f16: what "deliver" delivers. */
#define FETCH_DELIVER_BYTES (64 * 1024)

/* Stores of a setting. */
enum fetch_store {
	FETCH_RAW,    /* kvpaged, pages of f16 */
	FETCH_PACKED, /* kvpaged, pages of q6 of the page size */
	FETCH_TENSOR, /* kvpaged, pages of q6 of a tensor that takes FETCH_DELIVER_BYTES as f16 */
	FETCH_HUGE_RAW,
	FETCH_HUGE_PACKED,
	FETCH_LMDB,
	FETCH_MEMCACHED,
	FETCH_REDIS,
	FETCH_FILE,
	FETCH_PING,
	FETCH_STORES
};

enum fetch_place { FETCH_INSIDE, FETCH_SAME, FETCH_SPLIT };

/* What is measured, without where: a row of the table of cells. */
struct fetch_kind {
	const char *name;
	enum fetch_store store;
	enum store_op op;
	bool server;  /* another process answers, so that placement matters */
	bool deliver; /* only where the values are tensors of FETCH_DELIVER_BYTES, in the big set */
	bool alone;   /* not with two clients */
	const char *reference;	    /* name of the kind that the ratio is against; NULL: none */
	const char *reference_text;
};

enum fetch_metric { FETCH_P50, FETCH_P99, FETCH_P999, FETCH_RATE, FETCH_METRICS };

struct fetch_cell {
	const struct fetch_kind *kind;
	enum fetch_place place;
	unsigned clients;
	double *values[FETCH_METRICS]; /* by round; microseconds, and operations a second */
	struct spread spread[FETCH_METRICS];
};

struct fetch_setting {
	const struct bench_options *options;
	bool big;
	bool quick;
	bool huge; /* there are huge pages for it */
	int processors;
	double clock_ns; /* what a pair of stamps costs */
	uint32_t page_bytes;
	struct workset set;
	uint8_t *source;
	char directory[64];
	struct bench_server server;
	struct bench_server huge_server;
	struct store stores[FETCH_STORES];
	bool there[FETCH_STORES];
	struct crew crew;
	struct fetch_cell cells[FETCH_CELLS_MAX];
	unsigned n_cells;
	double *values;
	double daemon_share; /* of one processor, while all clients read; below 0: not measured */
};

/* Makes the cells that the setting's stores can have. */
void fetch_cells_make(struct fetch_setting *setting);

/* The cell of that kind, or NULL. */
const struct fetch_cell *fetch_cell_find(const struct fetch_setting *setting, const char *kind, enum fetch_place place,
					 unsigned clients);

/*
 * Starts everything, loads, measures, and leaves the figures in the cells; fetch_setting_end() stops it in any case.
 * Results: 0, or 1 after a line on stderr.
 */
int fetch_setting_run(struct fetch_setting *setting);
void fetch_setting_end(struct fetch_setting *setting);

/* How many huge pages of 2 MiB the setting's arena takes. */
uint64_t fetch_huge_pages(const struct fetch_setting *setting);

/* The figures of all cells, and the targets that hold for them. */
void fetch_report(const struct fetch_setting *setting);

/* Index and tables against pages of FETCH_PAGE_BYTES. Results: 0, or 1 after a line on stderr. */
int fetch_report_tables(const struct bench_options *options);
