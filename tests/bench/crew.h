/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Client processes that do one thing at a time on command, all in step: each opens all stores, stores the values, and
 * then takes turns at what is measured, so that neighbours in time are compared. What single operations took comes back
 * in memory that is shared.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/bench/store.h"

/* Samples of one turn: enough for p99.9, and quick to sort. */
#define CREW_SAMPLES_MAX 20000

enum crew_do {
	CREW_LOAD,  /* store all values, and compare some with what went in */
	CREW_VISIT, /* get ready to read: addresses, page tables */
	CREW_TURN,  /* measure one operation: single ones for the latencies, then many for the rate */
	CREW_LOOP,  /* do it over and over, for the time given, measuring nothing but the rate */
};

struct crew_command {
	enum crew_do what;
	unsigned clients; /* that do it, at once: so many from the first on */
	unsigned store; /* number */
	enum store_op op;
	int processor[STORE_CLIENTS_MAX]; /* where each runs, see place() */
	uint64_t budget_ns;		  /* of each half of a turn */
	uint32_t ops_min;		  /* of the first half */
};

struct crew_result {
	uint32_t n_samples;
	uint32_t samples[CREW_SAMPLES_MAX]; /* ticks */
	double rate;			    /* operations a second where none is timed by itself */
};

struct crew {
	unsigned clients;
	pid_t pids[STORE_CLIENTS_MAX];
	int controls[STORE_CLIENTS_MAX];
	struct crew_result *results; /* one a client */
};

/*
 * Starts so many clients, which open all stores but those that did not start. Results: 0; or 1 after a line on stderr.
 * crew_stop() is fine in any case, also on one that is all zero.
 */
int crew_start(struct crew *crew, unsigned clients, struct store *stores, unsigned n_stores);
void crew_stop(struct crew *crew);

/* Lets the clients do it and waits. Results: 0, or 1 after a line on stderr. */
int crew_do(struct crew *crew, const struct crew_command *command);
