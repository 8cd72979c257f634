/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading resident pages without asking the daemon, appending them, and the same through other caches of this machine,
 * all in one run and interleaved (fetch.h, fetch-setting.c); names of figures: fetch-report.c.
 */
#include "tests/bench/fetch.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "tests/bench/place.h"
#include "tests/bench/report.h"
#include "tests/bench/ticks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const uint32_t page_bytes[] = { FETCH_PAGE_BYTES, 16 * 1024, 32 * 1024, 64 * 1024 };

#define N_PAGE_BYTES (sizeof(page_bytes) / sizeof(page_bytes[0]))

bool bench_fetch_page(uint64_t bytes)
{
	for (size_t i = 0; i < N_PAGE_BYTES; i++)
		if (page_bytes[i] == bytes)
			return true;
	return false;
}

static uint64_t read_number(const char *path)
{
	FILE *stream = fopen(path, "re");
	uint64_t value = 0;

	if (stream && fscanf(stream, "%" SCNu64, &value) != 1)
		value = 0;
	if (stream)
		(void)fclose(stream);
	return value;
}

/* Whether the system has huge pages enough for the largest arena; says so when it has not. */
static bool huge_pages_there(const struct fetch_setting *model)
{
	struct fetch_setting largest = *model;
	uint64_t have = read_number("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
	uint64_t need;

	largest.big = true;
	largest.page_bytes = page_bytes[N_PAGE_BYTES - 1];
	need = fetch_huge_pages(&largest);
	for (size_t i = 0; i < N_PAGE_BYTES; i++) {
		largest.page_bytes = page_bytes[i];
		if (fetch_huge_pages(&largest) > need)
			need = fetch_huge_pages(&largest);
	}
	if (have < need)
		(void)fprintf(stderr,
			      "kvbench: huge pages are left out: it takes %" PRIu64 " of 2 MiB, %" PRIu64
			      " are free (sysctl vm.nr_hugepages)\n",
			      need, have);
	return have >= need;
}

static void report_clock(bool json, double cost)
{
	struct report number = {
		.bench = "fetch",
		.name = "clock",
		.value = { cost, cost, cost },
		.unit = "ns",
		.reference = "itself",
		.ratio = 1,
	};

	if (json)
		report(&number, true);
	else
		(void)printf("clock: %s; two stamps with nothing between them: %.1f ns, in every latency\n",
			     ticks_counter ? "rdtsc between fences" : "clock_gettime", cost);
}

static int run_setting(const struct fetch_setting *model, uint32_t bytes, bool big)
{
	_cleanup_free_ struct fetch_setting *setting = malloc(sizeof(*setting));
	int status;

	if (!setting)
		return bench_error("out of memory");
	*setting = *model;
	setting->page_bytes = bytes;
	setting->big = big;
	status = fetch_setting_run(setting);
	if (status == 0)
		fetch_report(setting);
	fetch_setting_end(setting);
	return status;
}

static const char about[] =
	"A page is a block: one layer, one head (q6 of 64 KiB: two) of 128 + 128 channels. small: 4 MiB of pages,\n"
	"big: 1 GiB; any of them, at random. decode: q6 to f16, of a page; deliver: q6 to 64 KiB of f16.\n"
	"get: from sockets the value is in the client's memory, from LMDB its address is known. touch: every byte\n"
	"is read. set, append: one page. Batches are of 64 pages, all pipelined or in one call: times are a batch's,\n"
	"rates count pages. bare: touch without a look-up; move_out and move_in: memcpy of a page; ping: 64 bytes\n"
	"over a Unix socket and back. Client and server on one processor; split: on two; c2: two clients, one on\n"
	"each, servers anywhere. huge: arena of 2 MiB pages. Rates are those of the median stretch of time.";

static int run(const struct bench_options *options)
{
	_cleanup_free_ struct fetch_setting *model = calloc(1, sizeof(*model));
	int status = 0;

	if (!model)
		return bench_error("out of memory");
	ticks_init();
	model->options = options;
	model->quick = options->quick;
	model->processors = place_init();
	report_title("fetch", options->json, about);
	model->clock_ns = ticks_cost_ns();
	report_clock(options->json, model->clock_ns);
	model->huge = huge_pages_there(model);
	for (size_t i = 0; i < N_PAGE_BYTES && status == 0; i++) {
		if (options->page_bytes && options->page_bytes != page_bytes[i])
			continue;
		status = run_setting(model, page_bytes[i], false);
		if (status == 0)
			status = run_setting(model, page_bytes[i], true);
	}
	return status == 0 ? fetch_report_tables(options) : status;
}

const struct bench_verb bench_fetch = {
	.name = "fetch",
	.summary = "reading without asking, and append, beside Redis, memcached, LMDB and files",
	.takes = BENCH_TAKES_ROUNDS | BENCH_TAKES_QUICK | BENCH_TAKES_PAGE,
	.run = run,
};
