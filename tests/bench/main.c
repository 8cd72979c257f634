/* SPDX-License-Identifier: Apache-2.0 */
/* kvbench VERB [OPTION...]: the table of verbs, and the options that they share. */
#include "tests/bench/bench.h"

#include "base/units.h"
#include "codec/kernel.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_BYTES_DEFAULT (512 * MIB)
#define EXIT_USAGE 2

static const struct bench_verb *const verbs[] = {
	&bench_roundtrip, &bench_memory, &bench_fetch, &bench_scale, &bench_scrape, &bench_restart,
	&bench_codec_verb, &bench_error_verb, &bench_disk, &bench_tier,
};

#define N_VERBS (sizeof(verbs) / sizeof(verbs[0]))

enum {
	OPTION_JSON = 256,
	OPTION_ROUNDS,
	OPTION_ARENA_BYTES,
	OPTION_SHAPE,
	OPTION_CODEC,
	OPTION_ISA,
	OPTION_KV,
	OPTION_QUICK,
	OPTION_PAGE,
	OPTION_DIRECTORY,
	OPTION_PART,
};

static const struct option options_long[] = {
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "rounds", required_argument, NULL, OPTION_ROUNDS },
	{ "arena-bytes", required_argument, NULL, OPTION_ARENA_BYTES },
	{ "shape", required_argument, NULL, OPTION_SHAPE },
	{ "codec", required_argument, NULL, OPTION_CODEC },
	{ "isa", required_argument, NULL, OPTION_ISA },
	{ "kv", required_argument, NULL, OPTION_KV },
	{ "quick", no_argument, NULL, OPTION_QUICK },
	{ "page", required_argument, NULL, OPTION_PAGE },
	{ "directory", required_argument, NULL, OPTION_DIRECTORY },
	{ "part", required_argument, NULL, OPTION_PART },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

int bench_error(const char *format, ...)
{
	va_list list;

	(void)fputs("kvbench: ", stderr);
	va_start(list, format);
	(void)vfprintf(stderr, format, list);
	va_end(list);
	(void)fputc('\n', stderr);
	return EXIT_FAILURE;
}

static void print_help(void)
{
	(void)printf("Usage: kvbench VERB [OPTION...]\n\nMeasures kvpaged: its codecs, and all of it through a "
		     "daemon that is started for it.\n\nVerbs:\n");
	for (size_t i = 0; i < N_VERBS; i++)
		(void)printf("  %-12s %s\n", verbs[i]->name, verbs[i]->summary);
	(void)printf("\nOptions:\n"
		     "  --json               one JSON object a line: bench, name, value, unit, reference, ratio\n"
		     "  --rounds N           timed rounds after one to warm up (default: %d)\n"
		     "  --shape NAME         roundtrip, tier: only this shape:",
		     ROUNDS_DEFAULT);
	for (size_t i = 0; i < BENCH_SHAPES; i++)
		(void)printf(" %s", bench_shapes[i].name);
	(void)printf("\n  --codec NAME         only this codec; roundtrip, memory:");
	for (size_t i = 0; i < BENCH_CODECS; i++)
		(void)printf(" %s", bench_codecs[i].name);
	(void)printf("\n                       codec, error:");
	for (size_t i = 0; i < CODEC_INDEX_COUNT; i++)
		(void)printf(" %s", codec_formats[i].name);
	(void)printf("\n  --isa NAME           codec: only this instruction set\n"
		     "  --kv FILE            error: also on this file of kvworker --dump-kv [$KVPAGED_KV]\n"
		     "  --arena-bytes SIZE   the daemon's arena (default: 512MiB)\n"
		     "  --page SIZE          fetch: only pages of this size: 16KiB, 24KiB, 32KiB, 64KiB\n"
		     "  --directory DIR      disk, tier: on the file system of this directory (default: /var/tmp)\n"
		     "  --part NAME          tier: only reads, writes or requests\n"
		     "  --quick              fetch, scale, scrape, restart, disk, tier: so little that the figures "
		     "mean nothing\n"
		     "  -h, --help           print this help\n");
}

static bool known_shape(const char *name)
{
	for (size_t i = 0; i < BENCH_SHAPES; i++)
		if (strcmp(bench_shapes[i].name, name) == 0)
			return true;
	return false;
}

static bool known_codec(const char *name, bool all)
{
	enum codec_id id;

	if (all)
		return codec_from_name(name, &id);
	for (size_t i = 0; i < BENCH_CODECS; i++)
		if (strcmp(bench_codecs[i].name, name) == 0)
			return true;
	return false;
}

/* Whether the value is fine. */
static bool take_option(struct bench_options *options, int option, const char *value)
{
	switch (option) {
	case OPTION_JSON:
		options->json = true;
		return true;
	case 'h':
		options->help = true;
		return true;
	case OPTION_ROUNDS:
		options->given |= BENCH_TAKES_ROUNDS;
		return units_parse_u64(value, &options->rounds) == 0 && options->rounds > 0 &&
		       options->rounds <= ROUNDS_MAX;
	case OPTION_ARENA_BYTES:
		options->given |= BENCH_TAKES_ARENA_BYTES;
		return units_parse_bytes(value, &options->arena_bytes) == 0;
	case OPTION_SHAPE:
		options->given |= BENCH_TAKES_SHAPE;
		options->shape = value;
		return known_shape(value);
	case OPTION_CODEC:
		options->given |= BENCH_TAKES_CODEC;
		options->codec = value;
		return known_codec(value, true);
	case OPTION_ISA:
		options->given |= BENCH_TAKES_ISA;
		options->isa = value;
		return true;
	case OPTION_KV:
		options->given |= BENCH_TAKES_KV;
		options->kv = value;
		return true;
	case OPTION_QUICK:
		options->given |= BENCH_TAKES_QUICK;
		options->quick = true;
		return true;
	case OPTION_PAGE:
		options->given |= BENCH_TAKES_PAGE;
		return units_parse_bytes(value, &options->page_bytes) == 0 && bench_fetch_page(options->page_bytes);
	case OPTION_DIRECTORY:
		options->given |= BENCH_TAKES_DIRECTORY;
		options->directory = value;
		return true;
	case OPTION_PART:
		options->given |= BENCH_TAKES_PART;
		options->part = value;
		return bench_tier_part(value);
	default:
		return false;
	}
}

static const struct bench_verb *find_verb(int argc, char **argv)
{
	for (size_t i = 0; optind + 1 == argc && i < N_VERBS; i++)
		if (strcmp(verbs[i]->name, argv[optind]) == 0)
			return verbs[i];
	return NULL;
}

/* Whether the options are such as the verb takes; says what is not. */
static bool check_options(const struct bench_verb *verb, const struct bench_options *options)
{
	static const char *const names[] = { "rounds", "arena-bytes", "shape", "codec",
					     "isa",    "kv",	      "quick", "page",  "directory", "part" };
	unsigned refused = options->given & ~verb->takes;

	if (refused) {
		(void)bench_error("%s takes no --%s; see --help", verb->name, names[__builtin_ctz(refused)]);
		return false;
	}
	if (options->codec && !known_codec(options->codec, verb->all_codecs)) {
		(void)bench_error("%s does not measure the codec %s; see --help", verb->name, options->codec);
		return false;
	}
	if (options->isa && !codec_isa_get(options->isa)) {
		(void)bench_error("this processor, or this program, does not have the instruction set %s",
				  options->isa);
		return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	struct bench_options options = { .rounds = ROUNDS_DEFAULT, .arena_bytes = ARENA_BYTES_DEFAULT };
	const struct bench_verb *verb;
	int option;

	while ((option = getopt_long(argc, argv, "h", options_long, NULL)) != -1) {
		if (option == '?')
			return EXIT_USAGE;
		if (!take_option(&options, option, optarg)) {
			(void)bench_error("'%s' is not a good value; see --help", optarg);
			return EXIT_USAGE;
		}
	}
	if (options.help) {
		print_help();
		return EXIT_SUCCESS;
	}
	verb = find_verb(argc, argv);
	if (!verb)
		(void)bench_error("one verb is needed; see --help");
	if (!verb || !check_options(verb, &options))
		return EXIT_USAGE;
	return verb->run(&options);
}
