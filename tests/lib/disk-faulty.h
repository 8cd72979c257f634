/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that fails on demand, around any other: it tells of errors, writes half of what it should, gives back bytes
 * with a bit turned round, and ends transfers late and in another order. What it does follows from its seed and the
 * order of submission, if that is the same each time.
 *
 * A held transfer is done by disk_faulty_release(), which the owner calls from its loop or between its steps.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/tier/disk.h"

/* What befalls one of so many of a kind, drawn by the seed; 0: none. */
struct disk_faulty_odds {
	unsigned fail; /* is not done at all and ends with error */
	unsigned half; /* of a write only the first half is done, which ends with error */
	unsigned flip; /* one bit of what was read is another one */
	unsigned hold; /* its end is kept until disk_faulty_release() */
};

struct disk_faulty_options {
	struct disk *below; /* not owned; outlives the faulty one */
	uint64_t seed;
	struct disk_faulty_odds odds;
	int error;	/* negative errno; 0: -EIO */
	unsigned verbs; /* bits 1 << enum disk_verb of what may fail; 0: all */
};

struct disk_faulty_counts {
	uint64_t submitted;
	uint64_t failed; /* with half */
	uint64_t flipped;
	uint64_t held; /* at this time */
};

struct disk *disk_faulty_new(const struct disk_faulty_options *options);

/* Nothing of it may be under way or held. Returns NULL. */
struct disk *disk_faulty_free(struct disk *disk);

/* Changes what befalls from now on. */
void disk_faulty_set_odds(struct disk *disk, const struct disk_faulty_odds *odds);

/* The n-th transfer from now (1: the next one) of those verbs ends with error, without being done. 0: none any more. */
void disk_faulty_fail_nth(struct disk *disk, unsigned verbs, uint64_t n, int error);

/* Ends at most n of those that are held, in a random order. Returns how many. */
unsigned disk_faulty_release(struct disk *disk, unsigned n);

struct disk_faulty_counts disk_faulty_counts(const struct disk *disk);
