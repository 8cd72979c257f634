/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the arena may take while the system is short of memory. Decides only: state, what happened, and the time make
 * the bytes that are wanted.
 *
 * Every sign of pressure takes a sixteenth of the arena's size away from what it takes now (what was never touched
 * gives nothing back, so it goes along at once), down to a least; but not while the step before is not done, nor twice
 * in PRESSURE_STEP_NS. After PRESSURE_CALM_NS without a sign a sixteenth comes back every PRESSURE_GROW_NS, until
 * nothing is held back any more.
 */
#pragma once

#include <stdint.h>

#include "base/units.h"

#define PRESSURE_STEPS 16
#define PRESSURE_STEP_NS NS_PER_S
#define PRESSURE_CALM_NS (60 * NS_PER_S)
#define PRESSURE_GROW_NS (10 * NS_PER_S)

/* Wanted, when nothing is. */
#define PRESSURE_NONE UINT64_MAX

struct pressure {
	uint64_t bytes; /* the arena's size */
	uint64_t least; /* what is left to it in any case */
	uint64_t wanted;
	uint64_t shrunk_ns; /* when it last was to shrink; 0: never */
	uint64_t grow_ns;   /* when it may grow next; UINT64_MAX: it need not */
};

enum pressure_event {
	PRESSURE_SIGN, /* the system is short of memory */
	PRESSURE_TIME, /* nothing happened until pressure_due_ns() */
};

/* The arena as it is: what it takes at most, what of that it has touched, and what it was asked to take at most. */
struct pressure_sight {
	uint64_t held_bytes;
	uint64_t touched_bytes;
	uint64_t asked_bytes;
};

/* least 0: a quarter. */
void pressure_init(struct pressure *pressure, uint64_t bytes, uint64_t least);

/* What the arena may take from now on, beside what it was asked to; PRESSURE_NONE: all that. */
uint64_t pressure_next(struct pressure *pressure, enum pressure_event event, const struct pressure_sight *sight,
		       uint64_t now_ns);

/* When PRESSURE_TIME is due; UINT64_MAX: never. */
uint64_t pressure_due_ns(const struct pressure *pressure);
