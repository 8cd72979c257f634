/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What kvctl top shows, made of two looks at the daemon's numbers: now, and an interval before. Rates are differences
 * of counters over the time between the looks; amounts are as of now.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "client/kvclient.h"

#define TOP_CURVE_POINTS 6

enum top_order { TOP_BY_STORED, TOP_BY_TOKENS, TOP_BY_BLOCKS, TOP_BY_SESSIONS, TOP_BY_NAME, TOP_ORDERS };

struct top {
	struct kvc_stats *now;	  /* NULL: never seen */
	struct kvc_stats *before; /* of the same daemon; NULL: rates are not known yet, and shown as 0 */
	double seconds;		  /* between the two */
	uint64_t now_ns;	  /* when now was, CLOCK_MONOTONIC */
	uint64_t start_ns;	  /* when the daemon started, likewise */
	uint64_t lost_ns;	  /* when it was found gone; 0: it is there */
	char why[256];		  /* it is gone */
	uint64_t interval_ms;
	enum top_order order;
	bool paused;
	bool help;
};

/* Looks again. Returns the result of the library; when it is not KVC_OK, the last numbers stay. */
int top_look(struct top *top, kvc_client *client);
void top_deinit(struct top *top);

/* A counter as of now, how much it grew, and how much that is in a second. */
uint64_t top_value(const struct top *top, const char *name);
uint64_t top_growth(const struct top *top, const char *name);
double top_rate(const struct top *top, const char *name);

/* Requests of one verb in the interval. Durations are bounds of the histogram: at most so long; UINT64_MAX: longer. */
struct top_verb {
	const char *name;
	uint64_t requests;
	double rate;
	uint64_t p50_us;
	uint64_t p99_us;
};

/* The verbs with most requests in the interval, most first. Returns their number. */
size_t top_verbs(const struct top *top, struct top_verb *verbs, size_t max);

/*
 * The share of hits among blocks that were read in place or asked for (or, with prefixes, among keys that were matched
 * against the index) in the interval, or since the daemon's start. Negative: there were none.
 */
double top_hit_rate(const struct top *top, bool prefixes, bool since_start);

/* The share of hits that an arena of each multiple of this one's size would have. */
struct top_curve {
	bool since_start; /* nothing was sampled in the interval */
	uint64_t references;
	double hits[TOP_CURVE_POINTS];
};
extern const char *const top_curve_sizes[TOP_CURVE_POINTS]; /* "0.25" */
void top_curve(const struct top *top, struct top_curve *ret_curve);

/* The spaces in the order wanted; freed with free(). NULL: none, or no memory. */
const struct kvc_space_stats **top_spaces(const struct top *top);

/* "stored": what the spaces are sorted by. */
const char *top_order_name(enum top_order order);

/* What the held values would take as f16 over what the used part of the arena takes; 0: nothing is used. */
double top_ratio(uint64_t logical_f16_bytes, uint64_t bytes);

/* Writes one frame as lines that fit columns; rows 0: however many there are. */
void top_text(FILE *out, const struct top *top, unsigned columns, unsigned rows);

/* Prints one frame as an object in a line. */
void top_json(const struct top *top);
