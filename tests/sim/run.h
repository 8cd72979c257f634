/* SPDX-License-Identifier: Apache-2.0 */
/* One run of a list of steps in a process of its own, and what came of it. */
#pragma once

#include "tests/sim/sim.h"

#include <stdio.h>
#include <sys/types.h>

struct sim_outcome {
	bool failed;
	uint32_t step;  /* that it failed in */
	char text[512]; /* what was wrong */
	uint64_t checks;
	uint64_t counters[KVP_COUNTERS];
};

struct sim_run {
	pid_t pid;
	uint64_t seed;
	struct sim_outcome *shared; /* with the process */
	FILE *errors;               /* what it wrote on stderr */
};

/* verbose: every step is printed before it is done. seconds: it is ended when it takes longer. */
void sim_run_begin(struct sim_run *run, uint64_t seed, const struct sim_steps *steps, bool verbose, unsigned seconds);
void sim_run_end(struct sim_run *run, int status, struct sim_outcome *ret_outcome);

/* Both. */
void sim_run_whole(uint64_t seed, const struct sim_steps *steps, bool verbose, unsigned seconds,
		   struct sim_outcome *ret_outcome);

/* Drops steps as long as it fails in the same way. steps is changed in place. */
void sim_minimise(uint64_t seed, struct sim_steps *steps, const struct sim_outcome *outcome, unsigned seconds);
