/* SPDX-License-Identifier: Apache-2.0 */
/* kvbench VERB [OPTION...]: the table of verbs, and the options that they share. */
#include "tests/bench/bench.h"

#include "base/units.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_BYTES_DEFAULT (512 * MIB)
#define EXIT_USAGE 2

static const struct bench_verb *const verbs[] = { &bench_roundtrip, &bench_memory };

enum { OPTION_JSON = 256, OPTION_ROUNDS, OPTION_ARENA_BYTES, OPTION_SHAPE, OPTION_CODEC };

static const struct option options_long[] = {
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "rounds", required_argument, NULL, OPTION_ROUNDS },
	{ "arena-bytes", required_argument, NULL, OPTION_ARENA_BYTES },
	{ "shape", required_argument, NULL, OPTION_SHAPE },
	{ "codec", required_argument, NULL, OPTION_CODEC },
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
	(void)printf("Usage: kvbench VERB [OPTION...]\n\nMeasures kvpaged through a daemon that it starts and stops "
		     "itself.\n\nVerbs:\n");
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		(void)printf("  %-12s %s\n", verbs[i]->name, verbs[i]->summary);
	(void)printf("\nOptions:\n"
		     "  --json               one JSON object a line: bench, name, value, unit, reference, ratio\n"
		     "  --rounds N           timed rounds after one to warm up (default: %d)\n"
		     "  --shape NAME         only this shape:",
		     ROUNDS_DEFAULT);
	for (size_t i = 0; i < BENCH_SHAPES; i++)
		(void)printf(" %s", bench_shapes[i].name);
	(void)printf("\n  --codec NAME         only this codec:");
	for (size_t i = 0; i < BENCH_CODECS; i++)
		(void)printf(" %s", bench_codecs[i].name);
	(void)printf("\n  --arena-bytes SIZE   the daemon's arena (default: 512MiB)\n"
		     "  -h, --help           print this help\n");
}

static bool known_shape(const char *name)
{
	for (size_t i = 0; i < BENCH_SHAPES; i++)
		if (strcmp(bench_shapes[i].name, name) == 0)
			return true;
	return false;
}

static bool known_codec(const char *name)
{
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
		return units_parse_u64(value, &options->rounds) == 0 && options->rounds > 0 &&
		       options->rounds <= ROUNDS_MAX;
	case OPTION_ARENA_BYTES:
		return units_parse_bytes(value, &options->arena_bytes) == 0;
	case OPTION_SHAPE:
		options->shape = value;
		return known_shape(value);
	case OPTION_CODEC:
		options->codec = value;
		return known_codec(value);
	default:
		return false;
	}
}

int main(int argc, char **argv)
{
	struct bench_options options = { .rounds = ROUNDS_DEFAULT, .arena_bytes = ARENA_BYTES_DEFAULT };
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
	for (size_t i = 0; optind + 1 == argc && i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(verbs[i]->name, argv[optind]) == 0)
			return verbs[i]->run(&options);
	(void)bench_error("one verb is needed; see --help");
	return EXIT_USAGE;
}
