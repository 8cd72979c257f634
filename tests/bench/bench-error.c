/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the codecs lose, over all values x of a data set and their decoded y:
 *
 *	mean_abs_rel	mean of |x - y|, by the mean of |x|
 *	rms_rel		root of the mean of (x - y)^2, by the root of the mean of x^2
 *	bits_per_value	bits of the tiles, everything in them counted, by values
 *
 * The bounds are those of rate-distortion theory for independent normal values at the same bits,
 * which no code can beat on the set gauss (docs/codecs.md). Values of other distributions can be
 * below.
 *
 * Sets: gauss, independent N(0, 1) of shape (1, 32, 128, 96); outlier, the same with one channel in
 * sixteen ten times as wide and off zero by as much, as some channels of a model's K are; and a
 * captured sequence, in blocks of 128 tokens, under the name of its model. gauss and outlier are
 * encoded as K and as V; of a capture each is what it was.
 */
#include "tests/bench/bench.h"

#include "base/cleanup.h"
#include "codec/kernel.h"
#include "tests/bench/capture.h"
#include "tests/bench/normal.h"
#include "tests/bench/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define BLOCK_TOKENS BENCH_BLOCK_TOKENS
#define SET_HEADS 32
#define SET_HEAD_DIM 96
#define SET_VALUES ((size_t)SET_HEADS * BLOCK_TOKENS * SET_HEAD_DIM)
#define OUTLIER_EVERY 16
#define OUTLIER_FACTOR 10.0f
#define KV_VARIABLE "KVPAGED_KV"

static const char gauss_bound[] = "rate_distortion_gauss";

struct data {
	const char *name;
	const float *values[CODEC_ROLE_COUNT]; /* [head][token][channel] */
	size_t heads;			       /* of all layers */
	uint32_t tokens;		       /* what is behind the last whole block is left out */
	uint32_t head_dim;
};

struct sums {
	double abs_error;
	double abs_value;
	double square_error;
	double square_value;
	uint64_t values;
	uint64_t tile_bytes;
};

struct errors {
	double mean_abs_rel;
	double rms_rel;
	double bits_per_value;
	double mean_abs_bound;
	double rms_bound;
};

/* --- Measuring -------------------------------------------------------------------------------- */

static void add_values(struct sums *sums, const float *values, const float *decoded, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		double x = values[i];
		double error = x - (double)decoded[i];

		sums->abs_error += fabs(error);
		sums->abs_value += fabs(x);
		sums->square_error += error * error;
		sums->square_value += x * x;
	}
	sums->values += n;
}

struct room {
	uint8_t tile[CODEC_TOKENS_MAX * CODEC_HEAD_DIM_MAX * sizeof(float)];
	float decoded[CODEC_TOKENS_MAX * CODEC_HEAD_DIM_MAX];
};

static int add_tile(struct sums *sums, enum codec_id id, enum codec_role role, uint32_t head_dim,
		    const float *values, struct room *room)
{
	struct codec_fault fault;
	int r = codec_encode(id, role, BLOCK_TOKENS, head_dim, values, CODEC_DTYPE_F32,
			     (ptrdiff_t)head_dim, room->tile, &fault);

	if (r != 0)
		return bench_error("%s cannot hold a value of the data: token %u, channel %u of a block",
				   codec_name(id), fault.token, fault.channel);
	codec_decode(id, role, BLOCK_TOKENS, head_dim, room->tile, room->decoded, CODEC_DTYPE_F32,
		     (ptrdiff_t)head_dim);
	add_values(sums, values, room->decoded, (size_t)BLOCK_TOKENS * head_dim);
	sums->tile_bytes += codec_tile_bytes(id, role, BLOCK_TOKENS, head_dim);
	return 0;
}

static int add_data(struct sums *sums, enum codec_id id, enum codec_role role, const struct data *data,
		    struct room *room)
{
	for (size_t head = 0; head < data->heads; head++) {
		const float *rows = data->values[role] + head * data->tokens * data->head_dim;

		for (uint32_t token = 0; data->tokens - token >= BLOCK_TOKENS; token += BLOCK_TOKENS)
			if (add_tile(sums, id, role, data->head_dim,
				     rows + (size_t)token * data->head_dim, room) != 0)
				return 1;
	}
	return 0;
}

static struct errors errors_of(const struct sums *sums)
{
	double bits = (double)sums->tile_bytes * 8 / (double)sums->values;
	double bound = exp2(-bits);

	return (struct errors){
		.mean_abs_rel = sums->abs_error / sums->abs_value,
		.rms_rel = sqrt(sums->square_error / sums->square_value),
		.bits_per_value = bits,
		.mean_abs_bound = sqrt(2 * M_PI * M_E) / (2 * M_E) / sqrt(2 / M_PI) * bound,
		.rms_bound = bound,
	};
}

/* --- Reports ---------------------------------------------------------------------------------- */

static void report_number(const char *prefix, const char *what, double value, const char *unit,
			  const char *reference, double ratio)
{
	char name[96];
	struct report number = {
		.bench = "error",
		.name = name,
		.value = { value, value, value },
		.unit = unit,
		.reference = reference,
		.ratio = ratio,
	};

	(void)snprintf(name, sizeof(name), "%s.%s", prefix, what);
	report(&number, true);
}

static void report_json(const char *prefix, const struct errors *errors)
{
	report_number(prefix, "mean_abs_rel", 100 * errors->mean_abs_rel, "%", gauss_bound,
		      errors->mean_abs_rel / errors->mean_abs_bound);
	report_number(prefix, "rms_rel", 100 * errors->rms_rel, "%", gauss_bound,
		      errors->rms_rel / errors->rms_bound);
	report_number(prefix, "bits_per_value", errors->bits_per_value, "bits", "f32",
		      errors->bits_per_value / 32);
}

static void print_heads(void)
{
	(void)printf("%-28s %10s  %10s %10s  %10s %10s %10s\n", "NAME", "BITS/VALUE", "MEAN-ABS %",
		     "BOUND %", "RMS %", "BOUND %", "RMS/BOUND");
}

static void print_row(const char *prefix, const struct errors *errors)
{
	(void)printf("%-28s %10.4f  %10.4g %10.4g  %10.4g %10.4g", prefix, errors->bits_per_value,
		     100 * errors->mean_abs_rel, 100 * errors->mean_abs_bound, 100 * errors->rms_rel,
		     100 * errors->rms_bound);
	if (errors->rms_rel > 0)
		(void)printf(" %10.3f", errors->rms_rel / errors->rms_bound);
	(void)putchar('\n');
	(void)fflush(stdout);
}

static int measure(const struct bench_options *options, const struct data *data, struct room *room,
		   const struct codec_format *format, enum codec_role role)
{
	struct sums sums = { 0 };
	struct errors errors;
	char prefix[64];

	if (add_data(&sums, format->id, role, data, room) != 0)
		return 1;
	if (!(sums.abs_value > 0))
		return bench_error("%s: all values are 0", data->name);
	errors = errors_of(&sums);
	(void)snprintf(prefix, sizeof(prefix), "%s.%c.%s", format->name, role == CODEC_ROLE_K ? 'k' : 'v',
		       data->name);
	if (options->json)
		report_json(prefix, &errors);
	else
		print_row(prefix, &errors);
	return 0;
}

static int measure_data(const struct bench_options *options, const struct data *data,
			struct room *room)
{
	for (size_t i = 0; i < CODEC_INDEX_COUNT; i++) {
		if (!bench_wants(options->codec, codec_formats[i].name))
			continue;
		for (unsigned role = 0; role < CODEC_ROLE_COUNT; role++)
			if (measure(options, data, room, &codec_formats[i], (enum codec_role)role) != 0)
				return 1;
	}
	return 0;
}

/* --- Data ------------------------------------------------------------------------------------- */

/* Wide channels, off zero to one side or the other, the same for all tokens of a head. */
static void make_outliers(float *values)
{
	for (size_t i = 0; i < SET_VALUES; i++) {
		size_t channel = i % SET_HEAD_DIM;
		float sign = channel / OUTLIER_EVERY % 2 == 0 ? 1.0f : -1.0f;

		if (channel % OUTLIER_EVERY == 0)
			values[i] = OUTLIER_FACTOR * (values[i] + sign);
	}
}

static int measure_made(const struct bench_options *options, struct room *room)
{
	_cleanup_free_ float *values = malloc(SET_VALUES * sizeof(*values));
	struct data data = {
		.name = "gauss",
		.values = { values, values },
		.heads = SET_HEADS,
		.tokens = BLOCK_TOKENS,
		.head_dim = SET_HEAD_DIM,
	};

	if (!values)
		return bench_error("out of memory");
	normal_fill(values, SET_VALUES, 1);
	if (measure_data(options, &data, room) != 0)
		return 1;
	make_outliers(values);
	data.name = "outlier";
	return measure_data(options, &data, room);
}

static int measure_capture(const struct bench_options *options, const struct capture *capture,
			   struct room *room)
{
	struct data data = {
		.name = capture->name,
		.values = { [CODEC_ROLE_K] = capture->k, [CODEC_ROLE_V] = capture->v },
		.heads = (size_t)capture->layers * capture->heads,
		.tokens = capture->tokens,
		.head_dim = capture->head_dim,
	};

	if (capture->tokens < BLOCK_TOKENS)
		return bench_error("%s: %u tokens are less than a block of %d", capture->name,
				   capture->tokens, BLOCK_TOKENS);
	return measure_data(options, &data, room);
}

static int run(const struct bench_options *options)
{
	const char *path = options->kv ? options->kv : getenv(KV_VARIABLE);
	_cleanup_(capture_done) struct capture capture = { 0 };
	_cleanup_free_ struct room *room = malloc(sizeof(*room));

	if (!room)
		return bench_error("out of memory");
	if (path && capture_read(path, &capture) != 0)
		return 1;
	report_title("error", options->json,
		     "BOUND: the least that any code has at these bits on independent normal values");
	if (!options->json)
		print_heads();
	if (measure_made(options, room) != 0 || (path && measure_capture(options, &capture, room) != 0))
		return 1;
	if (!path)
		(void)fputs("kvbench: no K and V of a model: name a file by --kv or $" KV_VARIABLE
			    ", made by\n  kvworker --model smollm2 --no-cache --codec f32 --attend decoded"
			    " --prompt-file TEXT -n 1 --dump-kv FILE\n",
			    stderr);
	return 0;
}

const struct bench_verb bench_error_verb = {
	.name = "error",
	.summary = "what each codec loses, and how many bits it takes, beside the bound",
	.takes = BENCH_TAKES_CODEC | BENCH_TAKES_KV,
	.all_codecs = true,
	.run = run,
};
