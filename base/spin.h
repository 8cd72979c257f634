/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting awake before sleeping, where it pays: to be woken takes a few microseconds on one processor, and 50 and more
 * from one to another on a virtual machine, which is longer than most answers take.
 *
 * It pays as long as what is waited for usually comes within the limit, which only waits that were awake can tell: who
 * is waited for may need this very processor. After several in vain nobody spins but now and then, to find out whether
 * that has changed, and less and less often while it has not.
 *
 * Not thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SPIN_US_DEFAULT 50
#define SPIN_US_MAX 10000
#define SPIN_SKIP_MIN 32   /* waits between two trials, at first */
#define SPIN_SKIP_MAX 4096 /* and at last */

struct spin {
	uint64_t limit_ns; /* 0: never */
	unsigned credit;   /* how well it went lately; 0: only trials */
	unsigned skip;     /* waits between trials */
	unsigned skipped;
};

/* Off with a limit of 0, and where this thread may run on one processor only. */
void spin_init(struct spin *spin, uint32_t limit_us);

/* Whether to spin this time, for limit_ns at most; spin_note() follows then. */
bool spin_pays(struct spin *spin);

/* A wait that began awake is over: whether what was waited for came within the limit. */
void spin_note(struct spin *spin, bool came);
