/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's disks (daemon/host/disk-open.h) against fio on the same file system: random reads and sequential writes
 * of 64 KiB with 32 under way, past the page cache. In each round everybody has one turn of everything. Writes go to
 * files that were written before, and to new ones, where the file system has to note for each part that it is in use
 * now.
 *
 * "plain" is io_uring with memory that is not registered, "arena" the same from or to as much memory as is
 * transferred, as blocks have it: all others use the same 2 MiB again and again, which stay in processors' caches.
 * CPU time is the process's, the kernel's work for it included.
 */
#include "tests/bench/bench.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "daemon/host/disk-open.h"
#include "tests/bench/fio.h"
#include "tests/bench/measure.h"
#include "tests/bench/report.h"
#include "tests/bench/spawn.h"
#include "tests/bench/uring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define BLOCK_BYTES (64 * KIB)
#define DEPTH 32
#define FILES 4
#define FILE_BYTES (256 * MIB)
#define QUICK_FILE_BYTES (8 * MIB)
#define FIO_FILE "fio"
#define TARGET_READ 0.85
#define TARGET_WRITE 0.8

enum work { WORK_WRITE_NEW, WORK_WRITE, WORK_READ, WORKS }; /* in this order, reads and writes find written files */
enum runner { RUNNER_FIO, RUNNER_IO_URING, RUNNER_PLAIN, RUNNER_ARENA, RUNNER_THREADS, RUNNERS };

static const char *const work_names[] = { "write.new", "write", "read" };
static const char *const runner_names[] = { "fio", "io_uring", "io_uring.plain", "io_uring.arena",
					    "threads" };

struct bench {
	const struct bench_options *options;
	bool there[RUNNERS];
	char directory[256];
	uint64_t file_bytes;
	uint8_t *memory; /* as much as a turn transfers */
	uv_loop_t loop;
	struct log log;
	uint64_t random;
	double rate[WORKS][RUNNERS][ROUNDS_MAX]; /* bytes a second */
	double cpu_us[WORKS][RUNNERS][ROUNDS_MAX]; /* of a transfer; not fio's */
};

struct turn;

struct slot {
	struct disk_io io;
	struct turn *turn;
};

struct turn {
	struct bench *bench;
	struct disk *disk;
	enum work work;
	uint64_t left;	/* transfers to submit */
	uint64_t next; /* for writes */
	unsigned under_way;
	bool spread; /* over all of the memory */
	int error;
	struct slot slots[DEPTH];
};

/* --- One turn ------------------------------------------------------------------------------------- */

static uint64_t blocks_of_turn(const struct bench *bench)
{
	return bench->file_bytes * FILES / 2 / BLOCK_BYTES;
}

static void place(struct turn *turn, struct disk_io *io)
{
	uint64_t block = turn->next++;

	if (turn->work == WORK_READ) {
		turn->bench->random = turn->bench->random * UINT64_C(6364136223846793005) + 1442695040888963407;
		block = (turn->bench->random >> 33) % (turn->bench->file_bytes * FILES / BLOCK_BYTES);
	}
	if (turn->spread)
		io->memory = turn->bench->memory + turn->left % blocks_of_turn(turn->bench) * BLOCK_BYTES;
	io->file = (uint32_t)(block * BLOCK_BYTES / turn->bench->file_bytes);
	io->offset = block * BLOCK_BYTES % turn->bench->file_bytes;
}

static void go_on(struct turn *turn, struct disk_io *io)
{
	if (turn->left == 0 || turn->error < 0)
		return;
	turn->left--;
	turn->under_way++;
	place(turn, io);
	turn->disk->ops->submit(turn->disk, io);
}

static void on_done(struct disk_io *io, int result)
{
	struct turn *turn = list_entry(io, struct slot, io)->turn;

	turn->under_way--;
	if (result < 0)
		turn->error = result;
	go_on(turn, io);
}

static int wait_for(struct turn *turn)
{
	while (turn->under_way > 0)
		(void)uv_run(&turn->bench->loop, UV_RUN_ONCE);
	return turn->error;
}

static int do_files(struct turn *turn, enum disk_verb verb)
{
	for (unsigned i = 0; i < FILES; i++) {
		struct slot *slot = &turn->slots[i];

		slot->io = (struct disk_io){ .verb = verb, .file = i, .done = on_done };
		slot->turn = turn;
		turn->under_way++;
		turn->disk->ops->submit(turn->disk, &slot->io);
	}
	return wait_for(turn);
}

static double cpu_us(void)
{
	struct rusage usage;

	(void)getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static int transfer(struct turn *turn, double *ret_rate, double *ret_cpu_us)
{
	uint64_t blocks = blocks_of_turn(turn->bench);
	double begin_us = cpu_us();
	uint64_t begin_ns = now_ns();
	int r;

	turn->left = blocks;
	for (unsigned i = 0; i < DEPTH; i++) {
		struct slot *slot = &turn->slots[i];

		slot->io = (struct disk_io){ .verb = turn->work == WORK_READ ? DISK_READ : DISK_WRITE,
					     .memory = turn->bench->memory + i * BLOCK_BYTES,
					     .bytes = BLOCK_BYTES,
					     .done = on_done };
		slot->turn = turn;
		go_on(turn, &slot->io);
	}
	r = wait_for(turn);
	*ret_rate = (double)(blocks * BLOCK_BYTES) * 1e9 / (double)(now_ns() - begin_ns);
	*ret_cpu_us = (cpu_us() - begin_us) / (double)blocks;
	return r;
}

/* Also writes what a turn leaves out, so that reads and later writes find all of it written. */
static int write_rest(struct turn *turn)
{
	double ignored;

	return turn->work == WORK_WRITE_NEW ? transfer(turn, &ignored, &ignored) : 0;
}

static int run_turn(struct bench *bench, enum runner runner, enum work work, double *ret_rate, double *ret_cpu_us)
{
	struct disk_options options = {
		.directory = bench->directory, .file_bytes = bench->file_bytes, .files_max = FILES,
		.loop = &bench->loop, .log = &bench->log, .memory = bench->memory,
		.memory_bytes = DEPTH * BLOCK_BYTES, .register_memory = runner == RUNNER_IO_URING,
		.engine = runner == RUNNER_THREADS ? DISK_ENGINE_THREADS : DISK_ENGINE_IO_URING, .depth = DEPTH,
	};
	struct turn turn = { .bench = bench, .work = work, .spread = runner == RUNNER_ARENA };
	struct host_error error;
	int r;

	if (disk_open(&options, &turn.disk, &error) < 0)
		return bench_error("%s", error.text);
	r = work == WORK_WRITE_NEW ? do_files(&turn, DISK_REMOVE) : 0;
	if (r == 0)
		r = do_files(&turn, DISK_CREATE);
	if (r == 0)
		r = transfer(&turn, ret_rate, ret_cpu_us);
	if (r == 0)
		r = write_rest(&turn);
	disk_close(turn.disk);
	(void)uv_run(&bench->loop, UV_RUN_DEFAULT);
	return r < 0 ? bench_error("%s: %s", bench->directory, strerror(-r)) : 0;
}

static void fio_path(const struct bench *bench, char path[300])
{
	(void)snprintf(path, 300, "%s/%s", bench->directory, FIO_FILE);
}

static int run_fio(struct bench *bench, enum work work, double *ret_rate)
{
	uint64_t all = bench->file_bytes * FILES;
	char path[300];
	double ignored;
	int status;

	fio_path(bench, path);
	if (work == WORK_WRITE_NEW)
		(void)unlink(path);
	status = fio_run(bench->directory, work == WORK_READ ? "randread" : "write", FIO_FILE, all, all / 2,
			 BLOCK_BYTES, DEPTH, ret_rate);
	if (status == 0 && work == WORK_WRITE_NEW)
		status = fio_run(bench->directory, "write", FIO_FILE, all, all, BLOCK_BYTES, DEPTH, &ignored);
	return status;
}

/* Who comes first changes from round to round. */
static int run_rounds(struct bench *bench)
{
	for (uint64_t round = 0; round < bench->options->rounds; round++)
		for (unsigned work = 0; work < WORKS; work++)
			for (unsigned i = 0; i < RUNNERS; i++) {
				unsigned runner = (unsigned)((i + round) % RUNNERS);
				double *rate = &bench->rate[work][runner][round];
				int status = 0;

				if (bench->there[runner] && runner == RUNNER_FIO)
					status = run_fio(bench, work, rate);
				else if (bench->there[runner])
					status = run_turn(bench, runner, work, rate,
							  &bench->cpu_us[work][runner][round]);
				if (status != 0)
					return status;
			}
	return 0;
}

/* --- Reporting ------------------------------------------------------------------------------------ */

static void report_values(const struct bench *bench, const char *work, const char *runner, const char *what,
			  double *values, const char *unit, double ratio, const char *reference)
{
	char name[64];
	struct report number = { .bench = "disk", .name = name, .unit = unit, .reference = reference, .ratio = ratio };

	(void)snprintf(name, sizeof(name), "%s.%s%s", work, runner, what);
	number.value = spread_of(values, bench->options->rounds);
	report(&number, bench->options->json);
}

/* The median of what this one did in parts of fio, round by round. */
static double ratio_to_fio(const struct bench *bench, unsigned work, unsigned runner)
{
	double ratios[ROUNDS_MAX];

	for (uint64_t i = 0; i < bench->options->rounds; i++)
		ratios[i] = bench->rate[work][runner][i] / bench->rate[work][RUNNER_FIO][i];
	return spread_of(ratios, bench->options->rounds).median;
}

static void report_target(const struct bench *bench, const char *name, double value, double target)
{
	char text[64];
	struct report number = { .bench = "disk", .name = name, .value = { value, value, value }, .unit = "x",
				 .reference = text, .ratio = value / target };

	(void)snprintf(text, sizeof(text), "target: at least %g of fio, %s", target,
		       value >= target ? "met" : "missed");
	report(&number, bench->options->json);
}

static void report_work(struct bench *bench, unsigned work, double ratios[RUNNERS])
{
	bool fio = bench->there[RUNNER_FIO];

	for (unsigned runner = 0; runner < RUNNERS; runner++)
		ratios[runner] = fio ? ratio_to_fio(bench, work, runner) : 1;
	for (unsigned runner = 0; runner < RUNNERS; runner++) {
		double *rates = bench->rate[work][runner];

		if (!bench->there[runner])
			continue;
		for (uint64_t i = 0; i < bench->options->rounds; i++)
			rates[i] /= 1e6;
		report_values(bench, work_names[work], runner_names[runner], "", rates, "MB/s", ratios[runner],
			      fio ? "fio" : "itself: there is no fio");
		if (runner != RUNNER_FIO)
			report_values(bench, work_names[work], runner_names[runner], ".cpu",
				      bench->cpu_us[work][runner], "us", 1, "itself");
	}
}

static void report_all(struct bench *bench)
{
	double ratios[WORKS][RUNNERS] = { 0 };

	for (unsigned work = 0; work < WORKS; work++)
		report_work(bench, work, ratios[work]);
	if (!bench->there[RUNNER_FIO] || !bench->there[RUNNER_IO_URING])
		return;
	report_target(bench, "target.read", ratios[WORK_READ][RUNNER_IO_URING], TARGET_READ);
	report_target(bench, "target.write", ratios[WORK_WRITE][RUNNER_IO_URING], TARGET_WRITE);
	report_target(bench, "target.write.new", ratios[WORK_WRITE_NEW][RUNNER_IO_URING], TARGET_WRITE);
}

/* --- Start and end -------------------------------------------------------------------------------- */

static void clean(const struct bench *bench)
{
	char path[300];

	fio_path(bench, path);
	(void)unlink(path);
	for (unsigned i = 0; i < FILES; i++) {
		(void)snprintf(path, sizeof(path), "%s/segment-%06u", bench->directory, i);
		(void)unlink(path);
	}
	(void)snprintf(path, sizeof(path), "%s/lock", bench->directory);
	(void)unlink(path);
	(void)rmdir(bench->directory);
}

/* What this machine has. */
static void look_around(struct bench *bench)
{
	bool has = uring_there(bench->directory);

	bench->there[RUNNER_FIO] = spawn_there("fio");
	bench->there[RUNNER_IO_URING] = has;
	bench->there[RUNNER_PLAIN] = has;
	bench->there[RUNNER_ARENA] = has;
	bench->there[RUNNER_THREADS] = true;
}

static int run_in_directory(struct bench *bench)
{
	uint64_t bytes = blocks_of_turn(bench) * BLOCK_BYTES;
	int status;

	bench->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (bench->memory == MAP_FAILED || uv_loop_init(&bench->loop) < 0)
		return bench_error("out of memory");
	log_init(&bench->log, STDERR_FILENO, LOG_LEVEL_WARNING);
	for (uint64_t i = 0; i < bytes; i++) /* zeros might be stored as nothing */
		bench->memory[i] = (uint8_t)((bench->random = bench->random * 69069 + 1) >> 16);
	look_around(bench);
	status = run_rounds(bench);
	if (status == 0)
		report_all(bench);
	(void)uv_loop_close(&bench->loop);
	(void)munmap(bench->memory, bytes);
	return status;
}

static int run(const struct bench_options *options)
{
	_cleanup_free_ struct bench *bench = calloc(1, sizeof(*bench));
	int status;

	if (!bench)
		return bench_error("out of memory");
	bench->options = options;
	bench->file_bytes = options->quick ? QUICK_FILE_BYTES : FILE_BYTES;
	(void)snprintf(bench->directory, sizeof(bench->directory), "%s/kvbench-XXXXXX",
		       options->directory ? options->directory : "/var/tmp");
	if (!mkdtemp(bench->directory))
		return bench_error("%s: cannot make a directory", bench->directory);
	report_begin("disk", options->json,
		     "Transfers of 64 KiB, 32 under way, past the page cache: random reads, sequential writes to files "
		     "that were\nwritten before and to new ones. cpu: of a transfer. Ratios are the rounds' median.");
	status = run_in_directory(bench);
	clean(bench);
	return status;
}

const struct bench_verb bench_disk = {
	.name = "disk",
	.summary = "the tier's transfers by io_uring and by threads, against fio",
	.takes = BENCH_TAKES_ROUNDS | BENCH_TAKES_QUICK | BENCH_TAKES_DIRECTORY,
	.run = run,
};
