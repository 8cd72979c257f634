/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulation's command line. Many seeds print TAP and end at the first that fails; one seed, or a list of steps
 * from a file, says what happened.
 */
#include "tests/sim/run.h"

#include "base/contract.h"
#include "base/units.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define JOBS_MAX 64
#define STEPS 5000

struct options {
	uint64_t seed;
	uint64_t seeds;
	uint64_t steps;
	uint64_t jobs;
	uint64_t seconds; /* of one run */
	const char *replay;
	bool minimise;
	bool verbose;
	bool counters;
};

static void usage(void)
{
	puts("Usage: sim [OPTION...]\n"
	     "\n"
	     "Runs the daemon's core and tier in a simulated machine and compares all that happens with a model.\n"
	     "\n"
	     "  --seed N       the seed, or the first one (1)\n"
	     "  --seeds N      so many seeds, as a test that prints TAP\n"
	     "  --steps N      steps of each (5000)\n"
	     "  --jobs N       so many seeds at once (1)\n"
	     "  --seconds N    a run that takes longer has failed (300)\n"
	     "  --replay FILE  run the steps in FILE, as --minimise prints them\n"
	     "  --minimise     when it fails, leave out steps as long as it fails in the same way, and print the rest\n"
	     "  --verbose      print each step before it is done\n"
	     "  --counters     of many seeds: the daemon's counters, added up, to see what happened\n"
	     "  --help         print this help");
}

static void fail_print(uint64_t seed, uint64_t steps, const struct sim_outcome *outcome)
{
	printf("# seed %" PRIu64 ", step %u: %s\n"
	       "# again: tests/sim/sim --seed %" PRIu64 " --steps %" PRIu64 " --minimise\n",
	       seed, outcome->step, outcome->text, seed, steps);
}

/* ---- One run ---- */

static int steps_get(struct options *options, struct sim_steps *ret_steps)
{
	struct sim_setup setup;
	FILE *file;
	int r;

	if (!options->replay) {
		sim_setup_make(&setup, options->seed);
		sim_steps_make(&setup, (uint32_t)options->steps, ret_steps);
		return 0;
	}
	file = fopen(options->replay, "re");
	if (!file)
		return -1;
	r = sim_steps_read(file, &options->seed, ret_steps);
	(void)fclose(file);
	return r;
}

static int run_one(struct options *options)
{
	struct sim_outcome outcome;
	struct sim_steps steps;
	struct sim_setup setup;

	if (steps_get(options, &steps) < 0) {
		fprintf(stderr, "sim: %s cannot be read, or is no list of steps\n", options->replay);
		return 2;
	}
	sim_setup_make(&setup, options->seed);
	printf("# seed %" PRIu64 ", %u steps\n", options->seed, steps.n);
	sim_setup_print(&setup);
	sim_run_whole(options->seed, &steps, options->verbose, (unsigned)options->seconds, &outcome);
	if (outcome.failed) {
		fail_print(options->seed, options->steps, &outcome);
		if (options->minimise) {
			sim_minimise(options->seed, &steps, &outcome, (unsigned)options->seconds);
			sim_steps_write(stdout, options->seed, &steps);
		}
	} else {
		printf("# nothing wrong; %" PRIu64 " pages compared\n", outcome.checks);
	}
	free(steps.steps);
	return outcome.failed;
}

/* ---- Many seeds ---- */

struct crowd {
	const struct options *options;
	struct sim_run runs[JOBS_MAX];
	uint32_t n;
	uint64_t begun;
	uint64_t ended;
	uint64_t checks;
	uint64_t counters[KVP_COUNTERS];
	bool failed;
};

static void crowd_begin(struct crowd *crowd)
{
	uint64_t seed = crowd->options->seed + crowd->begun++;
	struct sim_setup setup;
	struct sim_steps steps;

	sim_setup_make(&setup, seed);
	sim_steps_make(&setup, (uint32_t)crowd->options->steps, &steps);
	sim_run_begin(&crowd->runs[crowd->n++], seed, &steps, false, (unsigned)crowd->options->seconds);
	free(steps.steps);
}

static void crowd_end(struct crowd *crowd)
{
	struct sim_outcome outcome;
	int status;
	pid_t pid = waitpid(-1, &status, 0);

	for (uint32_t i = 0; i < crowd->n; i++) {
		struct sim_run run = crowd->runs[i];

		if (run.pid != pid)
			continue;
		sim_run_end(&run, status, &outcome);
		crowd->ended++;
		crowd->checks += outcome.checks;
		for (unsigned c = 0; c < KVP_COUNTERS; c++)
			crowd->counters[c] += outcome.counters[c];
		if (outcome.failed)
			fail_print(run.seed, crowd->options->steps, &outcome);
		crowd->failed |= outcome.failed;
		crowd->runs[i] = crowd->runs[--crowd->n];
		return;
	}
}

static int run_many(const struct options *options)
{
	struct crowd *crowd = calloc(1, sizeof(*crowd));
	bool failed;

	kvp_assert(crowd);
	crowd->options = options;
	printf("1..1\n# seeds %" PRIu64 " to %" PRIu64 ", %" PRIu64 " steps each\n", options->seed,
	       options->seed + options->seeds - 1, options->steps);
	while (crowd->n > 0 || (crowd->begun < options->seeds && !crowd->failed)) {
		if (crowd->n < options->jobs && crowd->begun < options->seeds && !crowd->failed)
			crowd_begin(crowd);
		else
			crowd_end(crowd);
	}
	failed = crowd->failed;
	for (unsigned i = 0; options->counters && i < KVP_COUNTERS; i++)
		printf("# %12" PRIu64 " %s\n", crowd->counters[i], sim_counter_names[i]);
	printf("# %" PRIu64 " pages compared\n%sok 1 - %" PRIu64 " steps\n", crowd->checks, failed ? "not " : "",
	       crowd->ended * options->steps);
	free(crowd);
	return failed;
}

/* ---- Options ---- */

static bool number(const char *text, uint64_t most, uint64_t *ret_value)
{
	return units_parse_u64(text, ret_value) == 0 && *ret_value <= most;
}

static int parse(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{ "seed", required_argument, NULL, 's' },    { "seeds", required_argument, NULL, 'n' },
		{ "steps", required_argument, NULL, 'm' },   { "jobs", required_argument, NULL, 'j' },
		{ "seconds", required_argument, NULL, 't' }, { "replay", required_argument, NULL, 'r' },
		{ "minimise", no_argument, NULL, 'M' },	     { "verbose", no_argument, NULL, 'v' },
		{ "counters", no_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },	     { NULL, 0, NULL, 0 },
	};
	bool good = true;
	int option;

	while (good && (option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 's':
			good = number(optarg, UINT64_MAX, &options->seed);
			break;
		case 'n':
			good = number(optarg, UINT32_MAX, &options->seeds);
			break;
		case 'm':
			good = number(optarg, UINT32_MAX / 2, &options->steps);
			break;
		case 'j':
			good = number(optarg, JOBS_MAX, &options->jobs) && options->jobs > 0;
			break;
		case 't':
			good = number(optarg, UINT32_MAX, &options->seconds);
			break;
		case 'r':
			options->replay = optarg;
			break;
		case 'M':
			options->minimise = true;
			break;
		case 'v':
			options->verbose = true;
			break;
		case 'c':
			options->counters = true;
			break;
		case 'h':
			usage();
			exit(0);
		default:
			good = false;
		}
	}
	return good && optind == argc ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct options options = { .seed = 1, .steps = STEPS, .jobs = 1, .seconds = 300 };

	if (parse(argc, argv, &options) < 0) {
		fprintf(stderr, "sim: a bad option; see --help\n");
		return 2;
	}
	return options.seeds > 0 ? run_many(&options) : run_one(&options);
}
