/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codecs themselves: no daemon, one thread. A group is one codec and role with all its tasks, of
 * every operation, set and instruction set; its rounds run each task once, each right behind its
 * neighbour (codec-task.h), and a ratio is the median over rounds of the neighbour's time by the
 * task's. So what the machine does beside falls on both.
 */
#include "tests/bench/bench.h"

#include "base/cleanup.h"
#include "base/contract.h"
#include "tests/bench/codec-task.h"
#include "tests/bench/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TASKS_MAX 96
#define GROUPS_MAX (CODEC_INDEX_COUNT * CODEC_ROLE_COUNT + 1)
#define SCALAR "scalar"

/* The neighbours themselves, by what they do and by set: a median a group. */
enum reference { REFERENCE_COPY, REFERENCE_READ, REFERENCE_COUNT };

static const char *const reference_names[] = { "memcpy_f32", "stream_read" };

struct bench {
	const struct bench_options *options;
	struct sets sets;
	struct task tasks[TASKS_MAX]; /* of the group at hand */
	size_t n_tasks;
	double *seconds; /* TASKS_MAX x 2 x rounds, for the tasks */
	double scratch[ROUNDS_MAX];
	double gbps[REFERENCE_COUNT][2][GROUPS_MAX]; /* [][memory][] */
	size_t n_gbps[REFERENCE_COUNT][2];
};

static const char *const dtype_names[] = { "", "f32", "f16", "bf16" };

/* --- The tasks of a group --------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static struct task *
add_task(struct bench *bench, const struct task *model, const char *format, ...)
{
	const size_t rounds = bench->options->rounds;
	struct task *task = &bench->tasks[bench->n_tasks];
	va_list list;

	kvp_assert(bench->n_tasks < TASKS_MAX);
	*task = *model;
	va_start(list, format);
	(void)vsnprintf(task->name, sizeof(task->name), format, list);
	va_end(list);
	task->seconds = bench->seconds + 2 * rounds * bench->n_tasks;
	task->reference = task->seconds + rounds;
	task_init(task, &bench->sets);
	bench->n_tasks++;
	return task;
}

static void add_transfers(struct bench *bench, const struct task *model, const char *prefix,
			  const char *suffix)
{
	struct task task = *model;

	for (task.dtype = CODEC_DTYPE_F32; task.dtype <= CODEC_DTYPE_BF16; task.dtype++) {
		const char *dtype = dtype_names[task.dtype];

		task.op = TASK_ENCODE;
		(void)add_task(bench, &task, "%s.encode.%s.%s", prefix, dtype, suffix);
		task.op = TASK_DECODE;
		(void)add_task(bench, &task, "%s.decode.%s.%s", prefix, dtype, suffix);
	}
}

/* Scores of K or accumulation of V, for one query and for those of a group of heads. */
static void add_attention(struct bench *bench, const struct task *model, const char *prefix,
			  const char *suffix)
{
	const bool k = model->role == CODEC_ROLE_K;
	const char *operation = k ? "scores" : "accumulate";
	struct task task = *model;

	task.op = k ? TASK_SCORES : TASK_ACCUMULATE;
	task.n_queries = 1;
	task.first = add_task(bench, &task, "%s.%s.f32.%s", prefix, operation, suffix);
	for (task.n_queries = 4; task.n_queries <= QUERIES_MAX; task.n_queries *= 2)
		(void)add_task(bench, &task, "%s.%s.f32.%s.gqa%u", prefix, operation, suffix,
			       (unsigned)task.n_queries);
}

static void add_isa(struct bench *bench, const struct codec_isa *isa, const struct task *model)
{
	/* The plain definitions are slow; from memory they take as long as from the cache. */
	const unsigned sets = strcmp(isa->name, SCALAR) == 0 ? 1 : 2;
	struct task task = *model;
	char prefix[32];
	char suffix[32];

	task.isa = isa;
	(void)snprintf(prefix, sizeof(prefix), "%s.%c", codec_name(task.codec),
		       task.role == CODEC_ROLE_K ? 'k' : 'v');
	for (unsigned set = 0; set < sets; set++) {
		task.memory = set == 1;
		(void)snprintf(suffix, sizeof(suffix), "%s.%s", task.memory ? "memory" : "cache",
			       isa->name);
		add_transfers(bench, &task, prefix, suffix);
		add_attention(bench, &task, prefix, suffix);
	}
}

static bool supported(const struct codec_isa_entry *entry)
{
	return codec_isa_get(entry->isa->name) != NULL;
}

/* Every instruction set of this processor that is wanted. */
static void add_isas(struct bench *bench, const struct task *model)
{
	for (const struct codec_isa_entry *entry = codec_isas;; entry++) {
		if (supported(entry) && bench_wants(bench->options->isa, entry->isa->name))
			add_isa(bench, entry->isa, model);
		if (!entry->supported)
			break;
	}
}

/* Whether memory-resident sets are measured at all. The scalar one is the last of the list. */
static bool wants_memory(const struct bench_options *options)
{
	for (const struct codec_isa_entry *entry = codec_isas; entry->supported; entry++)
		if (supported(entry) && bench_wants(options->isa, entry->isa->name))
			return true;
	return false;
}

/* --- Reports ---------------------------------------------------------------------------------- */

/* The median ratio over rounds, times: of the neighbour's time by the task's. */
static double median_ratio(struct bench *bench, const struct task *task)
{
	const size_t rounds = bench->options->rounds;

	for (size_t i = 0; i < rounds; i++)
		bench->scratch[i] = task->reference[i] / task->seconds[i];
	return spread_of(bench->scratch, rounds).median;
}

/* bytes an item by its time: GB/s. */
static struct spread rate(struct bench *bench, const double *seconds, size_t bytes)
{
	const size_t rounds = bench->options->rounds;

	for (size_t i = 0; i < rounds; i++)
		bench->scratch[i] = (double)bytes / 1e9 / seconds[i];
	return spread_of(bench->scratch, rounds);
}

/* What each query behind the first adds, by the time of one alone. */
static struct spread extra(struct bench *bench, const struct task *task)
{
	const size_t rounds = bench->options->rounds;

	for (size_t i = 0; i < rounds; i++)
		bench->scratch[i] = (task->seconds[i] / task->first->seconds[i] - 1) /
				    (double)(task->n_queries - 1);
	return spread_of(bench->scratch, rounds);
}

static struct spread microseconds(struct bench *bench, const struct task *task)
{
	const size_t rounds = bench->options->rounds;

	for (size_t i = 0; i < rounds; i++)
		bench->scratch[i] = task->seconds[i] * 1e6;
	return spread_of(bench->scratch, rounds);
}

static void report_task(struct bench *bench, const struct task *task)
{
	const bool reads = task_reads(task);
	struct report number = {
		.bench = "codec",
		.name = task->name,
		.unit = reads ? "GB/s of stored" : "GB/s of f32",
		.reference = reference_names[reads ? REFERENCE_READ : REFERENCE_COPY],
		.ratio = median_ratio(bench, task),
	};

	if (task->first) {
		number.value = extra(bench, task);
		number.unit = "x, each more query";
		number.reference = "first_query";
		number.ratio = number.value.median;
	} else if (task->op == TASK_PAGE_ENCODE || task->op == TASK_PAGE_DECODE) {
		number.value = microseconds(bench, task);
		number.unit = "us";
	} else {
		number.value = rate(bench, task->seconds,
				    reads ? task->item_stored_bytes : task->item_f32_bytes);
	}
	report(&number, bench->options->json);
}

/* Notes how fast the neighbours of the group were. */
static void note_references(struct bench *bench)
{
	bool noted[REFERENCE_COUNT][2] = { 0 };

	for (size_t i = 0; i < bench->n_tasks; i++) {
		const struct task *task = &bench->tasks[i];
		const bool reads = task_reads(task);
		const enum reference reference = reads ? REFERENCE_READ : REFERENCE_COPY;
		const size_t bytes = reads ? task->item_stored_bytes : task->item_f32_bytes;

		if (noted[reference][task->memory])
			continue;
		noted[reference][task->memory] = true;
		bench->gbps[reference][task->memory][bench->n_gbps[reference][task->memory]++] =
			rate(bench, task->reference, bytes).median;
	}
}

static void report_reference(struct bench *bench, enum reference reference, bool memory)
{
	char name[40];
	struct report number = {
		.bench = "codec",
		.name = name,
		.unit = reference == REFERENCE_READ ? "GB/s of stored" : "GB/s of f32",
		.reference = "itself",
		.ratio = 1,
	};

	if (bench->n_gbps[reference][memory] == 0)
		return;
	number.value = spread_of(bench->gbps[reference][memory], bench->n_gbps[reference][memory]);
	(void)snprintf(name, sizeof(name), "%s.%s", reference_names[reference],
		       memory ? "memory" : "cache");
	report(&number, bench->options->json);
}

static void report_references(struct bench *bench)
{
	for (unsigned reference = 0; reference < REFERENCE_COUNT; reference++)
		for (unsigned memory = 0; memory < 2; memory++)
			report_reference(bench, (enum reference)reference, memory == 1);
}

/* --- Groups ----------------------------------------------------------------------------------- */

static void run_group(struct bench *bench)
{
	for (size_t i = 0; i < bench->n_tasks; i++)
		task_calibrate(&bench->tasks[i], &bench->sets);
	for (size_t round = 0; round < bench->options->rounds; round++)
		for (size_t i = 0; i < bench->n_tasks; i++)
			task_round(&bench->tasks[i], &bench->sets, round);
	for (size_t i = 0; i < bench->n_tasks; i++)
		report_task(bench, &bench->tasks[i]);
	note_references(bench);
	bench->n_tasks = 0;
}

/* What attention on tiles of f16 is, without the kernels of the codec f16. */
static void add_f16_dot(struct bench *bench, const struct task *model)
{
	struct task task = *model;

	task.op = TASK_F16_DOT;
	(void)add_task(bench, &task, "peer.f16_dot.cache");
	task.memory = true;
	if (wants_memory(bench->options))
		(void)add_task(bench, &task, "peer.f16_dot.memory");
}

static void measure_codec(struct bench *bench, const struct codec_format *format,
			  enum codec_role role)
{
	const struct task model = { .codec = format->id, .role = role };

	/* The K tiles of t*g32 and t*g16 are those of t*. */
	if (role == CODEC_ROLE_K && format->scale_channels > 0 && !bench->options->codec)
		return;
	sets_store_tiles(&bench->sets, format->id, role);
	if (format->id == CODEC_F16 && role == CODEC_ROLE_K)
		add_f16_dot(bench, &model);
	add_isas(bench, &model);
	run_group(bench);
}

/* By the instruction set in use; from memory unless that is the plain one. */
static void measure_page(struct bench *bench)
{
	const char *name = bench->options->isa ? bench->options->isa : codec_isa_name();
	struct task task = {
		.codec = PAGE_CODEC,
		.isa = codec_isa_get(name),
		.memory = wants_memory(bench->options) && strcmp(name, SCALAR) != 0,
		.op = TASK_PAGE_ENCODE,
	};

	sets_store_pages(&bench->sets);
	(void)add_task(bench, &task, "page32k.%s.encode", codec_name(PAGE_CODEC));
	task.op = TASK_PAGE_DECODE;
	(void)add_task(bench, &task, "page32k.%s.decode", codec_name(PAGE_CODEC));
	run_group(bench);
}

static void measure_all(struct bench *bench)
{
	for (size_t i = 0; i < CODEC_INDEX_COUNT; i++) {
		const struct codec_format *format = &codec_formats[i];

		if (!bench_wants(bench->options->codec, format->name))
			continue;
		measure_codec(bench, format, CODEC_ROLE_K);
		measure_codec(bench, format, CODEC_ROLE_V);
	}
	if (bench_wants(bench->options->codec, codec_name(PAGE_CODEC)))
		measure_page(bench);
	report_references(bench);
}

static const char about[] =
	"tiles of 128 x 128, one thread; cache: one tile (64 KiB of f32) again and again, memory: 256 MiB\n"
	"(of f32; of stored bytes for scores and accumulate). RATIO: against copying the f32 values, or\n"
	"reading the stored bytes, right before. gqa4, gqa8: what each query behind the first adds.\n"
	"Left out: scalar from memory; without --codec, K of t*g32 and t*g16, which is that of t*.";

static int run(const struct bench_options *options)
{
	_cleanup_free_ struct bench *bench = calloc(1, sizeof(*bench));
	_cleanup_free_ double *seconds = calloc(TASKS_MAX * 2 * options->rounds, sizeof(*seconds));
	int status = 0;

	if (!bench || !seconds)
		return bench_error("out of memory");
	bench->options = options;
	bench->seconds = seconds;
	if (sets_init(&bench->sets, wants_memory(options)) < 0)
		status = bench_error("no memory for the sets: they take %d MiB",
				     (int)(4 * SET_BYTES / MIB));
	if (status == 0) {
		report_begin("codec", options->json, about);
		measure_all(bench);
	}
	sets_done(&bench->sets);
	return status;
}

const struct bench_verb bench_codec_verb = {
	.name = "codec",
	.summary = "every codec, operation and instruction set, against memcpy and reading",
	.takes = BENCH_TAKES_ROUNDS | BENCH_TAKES_CODEC | BENCH_TAKES_ISA,
	.all_codecs = true,
	.run = run,
};
