/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processes of the torture test share. The parent (test-torture.c) starts writers and readers, each a process
 * with a client of its own, kills, stops and replaces them at random, and now and then the daemon; they know only
 * pattern.h and this. A worker that finds something that must not be says so and ends; the parent sees that.
 */
#pragma once

#include "client/kvclient.h"
#include "tests/torture/pattern.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What happened, over all processes. */
enum tally {
	TALLY_FINDS,      /* blocks found, without pinning them */
	TALLY_MATCHES,    /* chains matched, of which at least the root was there */
	TALLY_PINS,       /* blocks pinned with a reader */
	TALLY_LEASES,     /* blocks pinned by asking */
	TALLY_TILES,      /* tiles compared in place */
	TALLY_FETCHES,    /* blocks decoded and compared */
	TALLY_STALE,      /* blocks that died between pin and last check */
	TALLY_CHANGED,    /* pins whose memory was used again, which the check told */
	TALLY_LATE,       /* blocks that died while they were fetched */
	TALLY_MISSES,
	TALLY_TOO_MANY,   /* pins refused: the client's are all in use */
	TALLY_LOST,       /* calls that found no daemon, or no room */
	TALLY_APPENDS,    /* blocks stored */
	TALLY_NO_SPACE,   /* blocks not stored, or not loaded: everything is pinned */
	TALLY_DELETES,    /* blocks deleted by name, with what descends from them */
	TALLY_EVICTIONS,  /* blocks evicted by request */
	TALLY_COUNT
};

/* In memory that all processes share. */
struct torture {
	uint64_t seed;
	char socket_path[160];
	_Atomic bool stop;      /* end in order */
	_Atomic uint32_t wrong; /* findings */
	_Atomic uint64_t tally[TALLY_COUNT];
};

/* One process's part. */
struct worker {
	struct torture *torture;
	unsigned number;
	bool writes;
	uint64_t random;
	uint64_t incarnation; /* how often this worker was started; for people */
};

static inline void tally_add(struct torture *torture, enum tally what, uint64_t n)
{
	(void)atomic_fetch_add_explicit(&torture->tally[what], n, memory_order_relaxed);
}

static inline bool torture_over(const struct torture *torture)
{
	return atomic_load_explicit(&torture->stop, memory_order_relaxed);
}

/* Reports what must not be, and ends the process. */
__attribute__((noreturn, format(printf, 2, 3))) void torture_wrong(const struct worker *worker, const char *format,
								   ...);

/* The same for a place in a block. generation 0: not known. */
__attribute__((noreturn)) void torture_wrong_place(const struct worker *worker, const struct pattern_block *block,
						   uint64_t generation, const struct pattern_place *place,
						   const char *what);

/*
 * Opens a client with its spaces, trying until the daemon is there. Returns NULL when the test is over before. The
 * spaces go with the client.
 */
kvc_client *worker_open(const struct worker *worker, const struct kvc_options *options,
			kvc_space *ret_spaces[PATTERN_SPACES]);

/*
 * Whether the call's result is an answer. Otherwise the daemon was away or had no room, which is counted and waited
 * for a moment; results that no call may give are wrong.
 */
bool worker_answered(const struct worker *worker, int result, const char *call);

/* A block to do something with, and its space: one of few, a third of the time. */
unsigned worker_choose(uint64_t *random, struct pattern_block *ret_block);

/* One of those few, which are appended and deleted all the time. */
unsigned worker_choose_hot(uint64_t *random, struct pattern_block *ret_block);

/* Work until the test is over. Run in processes of their own. */
void torture_write(struct worker *worker);
void torture_read(struct worker *worker);
