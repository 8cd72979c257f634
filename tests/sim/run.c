/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process writes where it is into memory that it shares with its parent, so that the parent knows which step failed
 * however it ended: by sim_fail(), by a broken contract, by a sanitizer, or by time.
 */
#include "tests/sim/run.h"

#include "base/contract.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAILED 3

static struct sim_outcome *here; /* in the process */

void sim_fail(const struct sim *sim, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(here->text, sizeof(here->text), format, arguments);
	va_end(arguments);
	_exit(FAILED);
}

static void run(uint64_t seed, const struct sim_steps *steps, bool verbose)
{
	struct sim *sim = calloc(1, sizeof(*sim));
	struct sim_setup setup;

	kvp_assert(sim);
	sim_setup_make(&setup, seed);
	sim_start(sim, &setup);
	for (uint32_t i = 0; i < steps->n; i++) {
		here->step = i;
		sim->step = i;
		if (verbose) {
			sim_step_print(stdout, i, &steps->steps[i]);
			(void)fflush(stdout);
		}
		sim_act(sim, &steps->steps[i]);
		sim_watch(sim);
		here->checks = sim->checks;
	}
	here->step = steps->n;
	sim_end(sim);
	for (unsigned i = 0; i < KVP_COUNTERS; i++)
		here->counters[i] = sim->past[i] + sim->counters[i];
	free(sim);
}

void sim_run_begin(struct sim_run *run_begun, uint64_t seed, const struct sim_steps *steps, bool verbose,
		   unsigned seconds)
{
	run_begun->seed = seed;
	run_begun->errors = tmpfile();
	run_begun->shared = mmap(NULL, sizeof(*run_begun->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
				 -1, 0);
	kvp_assert(run_begun->errors && run_begun->shared != MAP_FAILED);
	(void)fflush(stdout);
	run_begun->pid = fork();
	kvp_assert(run_begun->pid >= 0);
	if (run_begun->pid > 0)
		return;
	here = run_begun->shared;
	(void)dup2(fileno(run_begun->errors), STDERR_FILENO);
	(void)alarm(seconds);
	run(seed, steps, verbose);
	exit(0); /* with the leak sanitizer's look */
}

/* The first line on stderr that says something. */
static void errors_read(FILE *errors, char *text, size_t n)
{
	char line[400];

	rewind(errors);
	while (fgets(line, sizeof(line), errors)) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0] == '\0' || line[0] == '=')
			continue;
		(void)snprintf(text, n, "%s", line);
		return;
	}
}

void sim_run_end(struct sim_run *run_ended, int status, struct sim_outcome *ret_outcome)
{
	struct sim_outcome outcome = *run_ended->shared;

	outcome.failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
	if (outcome.failed && outcome.text[0] == '\0')
		errors_read(run_ended->errors, outcome.text, sizeof(outcome.text));
	if (outcome.failed && outcome.text[0] == '\0')
		(void)snprintf(outcome.text, sizeof(outcome.text), "it ended with status %#x", status);
	(void)fclose(run_ended->errors);
	(void)munmap(run_ended->shared, sizeof(*run_ended->shared));
	*ret_outcome = outcome;
}

void sim_run_whole(uint64_t seed, const struct sim_steps *steps, bool verbose, unsigned seconds,
		   struct sim_outcome *ret_outcome)
{
	struct sim_run whole;
	int status;

	sim_run_begin(&whole, seed, steps, verbose, seconds);
	kvp_assert(waitpid(whole.pid, &status, 0) == whole.pid);
	sim_run_end(&whole, status, ret_outcome);
}

/* ---- Shortening ---- */

/* The same but for its numbers. */
static bool alike(const char *a, const char *b)
{
	for (;;) {
		while (isdigit((unsigned char)*a))
			a++;
		while (isdigit((unsigned char)*b))
			b++;
		if (*a != *b)
			return false;
		if (!*a)
			return true;
		a++;
		b++;
	}
}

/* The list without n steps from `from` on, if that fails as well. */
static bool drop(uint64_t seed, struct sim_steps *steps, uint32_t from, uint32_t n, const char *text, unsigned seconds)
{
	struct sim_steps shorter = { .steps = calloc(steps->n, sizeof(*shorter.steps)), .n = steps->n - n };
	struct sim_outcome outcome;

	kvp_assert(shorter.steps);
	memcpy(shorter.steps, steps->steps, from * sizeof(*steps->steps));
	memcpy(shorter.steps + from, steps->steps + from + n, (steps->n - from - n) * sizeof(*steps->steps));
	sim_run_whole(seed, &shorter, false, seconds, &outcome);
	if (!outcome.failed || !alike(outcome.text, text)) {
		free(shorter.steps);
		return false;
	}
	free(steps->steps);
	*steps = shorter;
	if (outcome.step + 1 < steps->n)
		steps->n = outcome.step + 1;
	return true;
}

void sim_minimise(uint64_t seed, struct sim_steps *steps, const struct sim_outcome *outcome, unsigned seconds)
{
	bool shorter = true;

	if (outcome->step + 1 < steps->n)
		steps->n = outcome->step + 1;
	for (uint32_t n = steps->n / 2; n > 0; n = n > 1 ? n / 2 : shorter ? 1 : 0) {
		shorter = false;
		for (uint32_t end = steps->n; end > 0;) {
			uint32_t from = end > n ? end - n : 0, before = steps->n;

			if (end > before) {
				end = before;
				continue;
			}
			if (drop(seed, steps, from, end - from, outcome->text, seconds)) {
				shorter = true;
				printf("# %u steps\n", steps->n);
				(void)fflush(stdout);
			}
			end = from;
		}
	}
}
