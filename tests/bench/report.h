/* SPDX-License-Identifier: Apache-2.0 */
/* The output of kvbench. Names, units and JSON keys are an interface. */
#pragma once

#include <stdbool.h>

#include "tests/bench/measure.h"

struct report {
	const char *bench;
	const char *name; /* of the number, dotted: "smollm2.q8.1.append" */
	struct spread value;
	const char *unit;
	const char *reference; /* what the ratio is against, in words */
	double ratio;	       /* 0: none */
};

/* What the machine is and @about; nothing with json. */
void report_title(const char *bench, bool json, const char *about);

/* The same and the heads of the columns of report(). */
void report_begin(const char *bench, bool json, const char *about);

/* One number. */
void report(const struct report *report, bool json);
