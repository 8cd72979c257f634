/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tier: how fast blocks come up and go down, beside what fio gets out of the same directory, and what clients of
 * resident blocks notice of it. What is compared is measured in turn, round by round.
 */
#include "base/cleanup.h"
#include "tests/bench/report.h"
#include "tests/bench/spawn.h"
#include "tests/bench/tier.h"
#include "tests/bench/uring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char about[] =
	"read: blocks on the tier and not resident; prefetch: asks for all and waits; fetch: into tensors, a prompt\n"
	"at a time; ahead: the same, the next one prefetched. write: what reaches the tier; append: beside appending\n"
	"without a pause; drain: with nothing beside. llama8b: f16, pages of 64 KiB; smollm2: q4, pages of 27 KiB.\n"
	"uring, threads: past the page cache; cached: through it, by io_uring. forecast: what kvc_forecast() said\n"
	"before. ask, find: of resident blocks of 64 KiB, while others load, store, do both, or append to a daemon\n"
	"that stores nothing (append). limit: fio, 32 transfers under way.";

static const struct part {
	const char *name;
	int (*run)(struct tier_bench *bench);
} parts[] = {
	{ "reads", tier_reads },
	{ "writes", tier_writes },
	{ "requests", tier_requests },
};

#define N_PARTS (sizeof(parts) / sizeof(parts[0]))

bool bench_tier_part(const char *name)
{
	for (size_t i = 0; i < N_PARTS; i++)
		if (strcmp(parts[i].name, name) == 0)
			return true;
	return false;
}

static int make_directory(struct tier_bench *bench)
{
	const char *base = bench->options->directory ? bench->options->directory : "/var/tmp";
	int n = snprintf(bench->directory, sizeof(bench->directory), "%s/kvbench-tier-XXXXXX", base);

	if (n < 0 || (size_t)n >= sizeof(bench->directory) - 32)
		return bench_error("%s: the name is too long", base);
	if (!mkdtemp(bench->directory)) {
		bench->directory[0] = '\0';
		return bench_error("%s: %s", base, strerror(errno));
	}
	return 0;
}

static bool fio_there(void)
{
	if (spawn_there("fio"))
		return true;
	(void)fputs("kvbench: the limit is left out: fio is not installed\n", stderr);
	return false;
}

static bool uring_usable(const struct tier_bench *bench)
{
	char path[512];
	bool there;

	(void)snprintf(path, sizeof(path), "%s/probe", bench->directory);
	there = uring_there(path);
	tier_directory_remove(path);
	if (!there)
		(void)fputs("kvbench: figures of io_uring are left out, and requests are measured with threads: it is "
			    "refused here\n",
			    stderr);
	return there;
}

static void clean_up(struct tier_bench *bench)
{
	char fio_file[512];

	tier_table_free(&bench->table);
	if (!bench->directory[0])
		return;
	(void)snprintf(fio_file, sizeof(fio_file), "%s/" TIER_FIO_FILE, bench->directory);
	(void)unlink(fio_file);
	(void)rmdir(bench->directory);
}

static int run(const struct bench_options *options)
{
	struct tier_bench bench = { .options = options };
	int status;

	report_begin("tier", options->json, about);
	status = make_directory(&bench);
	if (status == 0) {
		bench.fio = fio_there();
		bench.uring = uring_usable(&bench);
	}
	for (size_t i = 0; i < N_PARTS && status == 0; i++)
		if (bench_wants(options->part, parts[i].name))
			status = parts[i].run(&bench);
	if (status == 0)
		tier_report(&bench.table, options->json);
	clean_up(&bench);
	return status;
}

const struct bench_verb bench_tier = {
	.name = "tier",
	.summary = "the tier on a disk, beside fio, and what clients notice of it",
	.takes = BENCH_TAKES_ROUNDS | BENCH_TAKES_QUICK | BENCH_TAKES_SHAPE | BENCH_TAKES_DIRECTORY |
		 BENCH_TAKES_PART,
	.run = run,
};
