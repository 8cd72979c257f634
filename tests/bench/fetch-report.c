/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The output of kvbench fetch. With --json each figure is a line of its own, named
 *
 *	KIND.<small|big>.<p50|p99|p999|rate>[.SIZE][.split][.c2][.huge]
 *
 * SIZE is the page's (16k, 32k, 64k) unless it is 24 KiB; split: client and server on two processors, else both on one;
 * c2: two client processes; huge: an arena of 2 MiB pages. Targets are lines target.WHAT, whose ratio is at most 1 when
 * the target is met.
 */
#include "tests/bench/fetch.h"

#include "base/units.h"
#include "tests/bench/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES 80

static const char *const metric_names[FETCH_METRICS] = { "p50", "p99", "p999", "rate" };

static double median(const struct fetch_cell *cell, enum fetch_metric metric)
{
	return cell ? cell->spread[metric].median : 0;
}

static const char *set_name(const struct fetch_setting *setting)
{
	return setting->big ? "big" : "small";
}

/* metric NULL: left out. */
static void name_cell(const struct fetch_setting *setting, const struct fetch_cell *cell, const char *metric,
		      char name[NAME_BYTES])
{
	const char *kind = cell->kind->name;
	int base = (int)strcspn(kind, ".");
	char size[16] = "";

	if (setting->page_bytes != FETCH_PAGE_BYTES)
		(void)snprintf(size, sizeof(size), ".%uk", setting->page_bytes / (unsigned)KIB);
	(void)snprintf(name, NAME_BYTES, "%.*s.%s%s%s%s%s%s%s", base, kind, set_name(setting), metric ? "." : "",
		       metric ? metric : "", size, cell->place == FETCH_SPLIT ? ".split" : "",
		       cell->clients > 1 ? ".c2" : "", kind + base);
}

/* What the cell's ratio is against; NULL: nothing. In memory there is only one placement. */
static const struct fetch_cell *reference_of(const struct fetch_setting *setting, const struct fetch_cell *cell)
{
	const struct fetch_cell *reference;

	if (!cell->kind->reference)
		return NULL;
	reference = fetch_cell_find(setting, cell->kind->reference, cell->place, cell->clients);
	return reference ? reference : fetch_cell_find(setting, cell->kind->reference, FETCH_INSIDE, cell->clients);
}

static void report_json(const struct fetch_setting *setting, const struct fetch_cell *cell)
{
	const struct fetch_cell *reference = reference_of(setting, cell);
	char name[NAME_BYTES];
	struct report number = { .bench = "fetch", .name = name };

	for (unsigned i = 0; i < FETCH_METRICS; i++) {
		double against = median(reference, i);

		name_cell(setting, cell, metric_names[i], name);
		number.value = cell->spread[i];
		number.unit = i == FETCH_RATE ? "1/s" : "us";
		number.reference = against > 0 ? cell->kind->reference_text : "itself";
		number.ratio = against > 0 ? cell->spread[i].median / against : 1;
		report(&number, true);
	}
}

static void print_ratio(double value, double against)
{
	if (against > 0)
		(void)printf(" %8.3g", value / against);
	else
		(void)printf(" %8s", "");
}

static void report_text(const struct fetch_setting *setting, const struct fetch_cell *cell)
{
	const struct fetch_cell *reference = reference_of(setting, cell);
	double rate = median(cell, FETCH_RATE);
	char name[NAME_BYTES];

	name_cell(setting, cell, NULL, name);
	(void)printf("%-34s %8.3f %8.3f %8.3f %9.2f %7.2f", name, median(cell, FETCH_P50), median(cell, FETCH_P99),
		     median(cell, FETCH_P999), rate / 1e3, rate * setting->page_bytes / 1e9);
	print_ratio(median(cell, FETCH_P50), median(reference, FETCH_P50));
	print_ratio(rate, median(reference, FETCH_RATE));
	(void)printf("  %s\n", reference ? cell->kind->reference_text : "");
	(void)fflush(stdout);
}

/* --- Targets -------------------------------------------------------------------------------------- */

struct target {
	const struct fetch_setting *setting;
	const char *what;
	const char *against;
	double limit;
	bool at_least;
};

static void report_target(const struct target *target, double value)
{
	char name[NAME_BYTES];
	char reference[96];
	double ratio = target->at_least ? target->limit / value : value / target->limit;
	struct report number = { .bench = "fetch", .name = name, .value = { value, value, value }, .ratio = ratio };

	(void)snprintf(name, sizeof(name), "target.%s.%s", target->what, set_name(target->setting));
	(void)snprintf(reference, sizeof(reference), "target: at %s %.3g%s", target->at_least ? "least" : "most",
		       target->limit, ratio <= 1 ? ", met" : ", missed");
	number.unit = target->against;
	number.reference = reference;
	if (target->setting->options->json)
		report(&number, true);
	else
		(void)printf("%-34s %8.4g of %-44s %s\n", name, value, target->against, reference);
}

/* The ratio of two cells, if both were measured. */
static void report_pair(const struct target *target, const struct fetch_cell *cell, const struct fetch_cell *reference,
			enum fetch_metric metric)
{
	if (median(cell, metric) > 0 && median(reference, metric) > 0)
		report_target(target, median(cell, metric) / median(reference, metric));
}

static const struct fetch_cell *inside(const struct fetch_setting *setting, const char *kind)
{
	return fetch_cell_find(setting, kind, FETCH_INSIDE, 1);
}

/* The socket peer that is best at what, in whatever placement. */
static const struct fetch_cell *best_socket(const struct fetch_setting *setting, const char *what,
					    enum fetch_metric metric)
{
	static const char *const peers[] = { "redis", "memcached" };
	const struct fetch_cell *best = NULL;

	for (unsigned i = 0; i < 4; i++) {
		char kind[32];
		const struct fetch_cell *cell;
		double value;

		(void)snprintf(kind, sizeof(kind), "%s_%s", peers[i / 2], what);
		cell = fetch_cell_find(setting, kind, i % 2 ? FETCH_SPLIT : FETCH_SAME, 1);
		value = median(cell, metric);
		if (value > 0 && (!best || (metric == FETCH_RATE ? value > median(best, metric) :
								   value < median(best, metric))))
			best = cell;
	}
	return best;
}

/* Also without the clock, which is a third of so short a time: by its cost, and by the pace of untimed operations. */
static void report_find_targets(const struct fetch_setting *s)
{
	const struct fetch_cell *ours = inside(s, "find_pin");
	const struct fetch_cell *lmdb = inside(s, "lmdb_get");
	double limit = s->big ? 0.65 : 0.45;
	double clock = s->clock_ns / 1e3;

	report_pair(&(struct target){ s, "find_pin", "LMDB's mdb_get, p50", limit, false }, ours, lmdb, FETCH_P50);
	if (!lmdb)
		return;
	report_target(&(struct target){ s, "find_pin_net", "LMDB's, p50 less the clock's cost of both", limit, false },
		      (median(ours, FETCH_P50) - clock) / (median(lmdb, FETCH_P50) - clock));
	report_target(&(struct target){ s, "find_pin_pace", "LMDB's, time of one in a row of many", limit, false },
		      median(lmdb, FETCH_RATE) / median(ours, FETCH_RATE));
}

static void report_read_targets(const struct fetch_setting *s)
{
	report_find_targets(s);
	report_pair(&(struct target){ s, "find_pin_socket", "the best socket peer's get, p50", 0.05, false },
		    inside(s, "find_pin"), best_socket(s, "get", FETCH_P50), FETCH_P50);
	report_pair(&(struct target){ s, "touch", "the same reads without a look-up, rate", 0.9, true },
		    inside(s, "touch"), inside(s, "bare"), FETCH_RATE);
	if (s->big)
		report_pair(&(struct target){ s, "touch_socket", "the best socket peer, rate", 3, true },
			    inside(s, "touch"), best_socket(s, "touch", FETCH_RATE), FETCH_RATE);
}

static void report_server_targets(const struct fetch_setting *s)
{
	report_pair(&(struct target){ s, "rpc_fetch.same", "a round trip on one processor, p50", 1.5, false },
		    fetch_cell_find(s, "rpc_fetch", FETCH_SAME, 1), fetch_cell_find(s, "ping", FETCH_SAME, 1),
		    FETCH_P50);
	report_pair(&(struct target){ s, "rpc_fetch.split", "a round trip between two processors, p50", 1.5, false },
		    fetch_cell_find(s, "rpc_fetch", FETCH_SPLIT, 1), fetch_cell_find(s, "ping", FETCH_SPLIT, 1),
		    FETCH_P50);
	report_pair(&(struct target){ s, "append", "memcached's set on one processor, p50", 1, false },
		    fetch_cell_find(s, "append", FETCH_SAME, 1), fetch_cell_find(s, "memcached_set", FETCH_SAME, 1),
		    FETCH_P50);
}

/* A batch counts in the placement that suits it best, as socket peers do. */
static void report_batch_targets(const struct fetch_setting *s)
{
	const struct fetch_cell *same = fetch_cell_find(s, "append_batch", FETCH_SAME, 1);
	const struct fetch_cell *split = fetch_cell_find(s, "append_batch", FETCH_SPLIT, 1);
	const struct fetch_cell *best = median(split, FETCH_RATE) > median(same, FETCH_RATE) ? split : same;

	report_pair(&(struct target){ s, "append_batch", "memcpy to the same memory, rate", 0.5, true }, best,
		    inside(s, "move_in"), FETCH_RATE);
	report_pair(&(struct target){ s, "append_batch_socket", "the best socket peer's set, rate", 2, true }, best,
		    best_socket(s, "set", FETCH_RATE), FETCH_RATE);
}

static void report_deliver_targets(const struct fetch_setting *s)
{
	report_pair(&(struct target){ s, "deliver", "LMDB with raw f16, rate", 1.5, true }, inside(s, "deliver"),
		    inside(s, "lmdb_deliver"), FETCH_RATE);
	report_pair(&(struct target){ s, "deliver_socket", "the best socket peer with raw f16, rate", 4, true },
		    inside(s, "deliver"), best_socket(s, "deliver", FETCH_RATE), FETCH_RATE);
}

void fetch_report(const struct fetch_setting *setting)
{
	bool json = setting->options->json;

	if (!json)
		(void)printf("\n%" PRIu32 " pages of %" PRIu32 " bytes\n%-34s %8s %8s %8s %9s %7s %8s %8s  %s\n",
			     setting->set.count, setting->page_bytes, "NAME", "P50 us", "P99", "P99.9", "1000/s",
			     "GB/s", "P50 x", "RATE x", "OF");
	for (unsigned i = 0; i < setting->n_cells; i++)
		if (json)
			report_json(setting, &setting->cells[i]);
		else
			report_text(setting, &setting->cells[i]);
	if (setting->page_bytes == FETCH_PAGE_BYTES) {
		report_read_targets(setting);
		report_server_targets(setting);
		report_batch_targets(setting);
	}
	report_deliver_targets(setting);
	if (setting->daemon_share >= 0)
		report_target(&(struct target){ setting, "daemon_cpu", "one processor, while two clients read", 0.01,
						false },
			      setting->daemon_share);
}
