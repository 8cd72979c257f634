/* SPDX-License-Identifier: Apache-2.0 */
/* Looks and what follows from them; see top.h. */
#include "client/kvctl/top.h"

#include "base/units.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define VERBS "request_seconds"

const char *const top_curve_sizes[TOP_CURVE_POINTS] = { "0.25", "0.5", "1", "2", "4", "8" };

static const char *const curve_counters[TOP_CURVE_POINTS] = {
	"mrc_hits_quarter_total", "mrc_hits_half_total", "mrc_hits_one_total",
	"mrc_hits_two_total",	  "mrc_hits_four_total", "mrc_hits_eight_total",
};

static uint64_t clock_ns(void)
{
	struct timespec time;

	(void)clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

/* When the daemon started is not in the shared memory: asked once for each. */
static int find_start(struct top *top, kvc_client *client)
{
	struct kvc_stats *stats;
	int r = kvc_stats_get(client, &stats);

	if (r != KVC_OK)
		return r;
	top->start_ns = clock_ns() - stats->uptime_ms * NS_PER_MS;
	(void)kvc_stats_free(stats);
	return KVC_OK;
}

/* A daemon whose counters are of another version can still be asked. */
static int take(kvc_client *client, struct kvc_stats **ret_stats)
{
	int r = kvc_stats_look(client, ret_stats);

	return r == KVC_UNSUPPORTED ? kvc_stats_get(client, ret_stats) : r;
}

static void lost(struct top *top, kvc_client *client, int r)
{
	const char *words = kvc_error(client);

	if (top->lost_ns == 0)
		top->lost_ns = clock_ns();
	(void)snprintf(top->why, sizeof(top->why), "%s", *words ? words : kvc_strerror(r));
}

/* Numbers of a daemon not seen before: taken after the asking, which is no traffic to show. */
static int take_first(struct top *top, kvc_client *client, struct kvc_stats **stats)
{
	int r = find_start(top, client);

	if (r != KVC_OK)
		return r;
	*stats = kvc_stats_free(*stats);
	return take(client, stats);
}

int top_look(struct top *top, kvc_client *client)
{
	struct kvc_stats *stats = NULL;
	uint64_t at_ns;
	bool same;
	int r = take(client, &stats);

	same = r == KVC_OK && top->now && top->now->incarnation == stats->incarnation;
	if (r == KVC_OK && !same)
		r = take_first(top, client, &stats);
	at_ns = clock_ns();
	if (r != KVC_OK) {
		(void)kvc_stats_free(stats);
		lost(top, client, r);
		return r;
	}
	(void)kvc_stats_free(top->before);
	top->before = same ? top->now : NULL;
	if (!same)
		(void)kvc_stats_free(top->now);
	top->now = stats;
	top->seconds = same ? (double)(at_ns - top->now_ns) / (double)NS_PER_S : 0;
	top->now_ns = at_ns;
	top->lost_ns = 0;
	return KVC_OK;
}

void top_deinit(struct top *top)
{
	top->now = kvc_stats_free(top->now);
	top->before = kvc_stats_free(top->before);
}

uint64_t top_value(const struct top *top, const char *name)
{
	return kvc_stats_counter(top->now, name);
}

uint64_t top_growth(const struct top *top, const char *name)
{
	uint64_t now = kvc_stats_counter(top->now, name);
	uint64_t before = kvc_stats_counter(top->before, name);

	return top->before && now > before ? now - before : 0;
}

double top_rate(const struct top *top, const char *name)
{
	return top->seconds > 0 ? (double)top_growth(top, name) / top->seconds : 0;
}

static uint64_t bucket_bound_us(unsigned bucket)
{
	return bucket + 1 < KVC_HISTOGRAM_BUCKETS ? UINT64_C(1) << bucket : UINT64_MAX;
}

/* At most this many microseconds took a share of all; counts must not all be 0. */
static uint64_t quantile_us(const uint64_t *counts, uint64_t total, double share)
{
	uint64_t wanted = (uint64_t)ceil((double)total * share);
	uint64_t sum = 0;
	unsigned i = 0;

	while (i + 1 < KVC_HISTOGRAM_BUCKETS && (sum += counts[i]) < wanted)
		i++;
	return bucket_bound_us(i);
}

/* The histograms of the two looks lie at the same places. */
static struct top_verb verb_of(const struct top *top, size_t i)
{
	const struct kvc_histogram *now = &top->now->histograms[i];
	const struct kvc_histogram *before = &top->before->histograms[i];
	struct top_verb verb = { .name = now->label };
	uint64_t counts[KVC_HISTOGRAM_BUCKETS];

	for (unsigned bucket = 0; bucket < KVC_HISTOGRAM_BUCKETS; bucket++) {
		counts[bucket] = now->buckets[bucket] - before->buckets[bucket];
		verb.requests += counts[bucket];
	}
	verb.rate = top->seconds > 0 ? (double)verb.requests / top->seconds : 0;
	verb.p50_us = quantile_us(counts, verb.requests, 0.5);
	verb.p99_us = quantile_us(counts, verb.requests, 0.99);
	return verb;
}

size_t top_verbs(const struct top *top, struct top_verb *verbs, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; top->before && i < top->now->n_histograms && i < top->before->n_histograms; i++) {
		struct top_verb verb;
		size_t at = n;

		if (strcmp(top->now->histograms[i].name, VERBS) != 0)
			continue;
		verb = verb_of(top, i);
		while (at > 0 && verbs[at - 1].requests < verb.requests)
			at--;
		if (verb.requests == 0 || at == max)
			continue;
		n += n < max;
		memmove(&verbs[at + 1], &verbs[at], (n - at - 1) * sizeof(*verbs));
		verbs[at] = verb;
	}
	return n;
}

static double hits_over(uint64_t hits, uint64_t lookups)
{
	return lookups > 0 ? (double)hits / (double)lookups : -1;
}

double top_hit_rate(const struct top *top, bool prefixes, bool since_start)
{
	uint64_t (*count)(const struct top *, const char *) = since_start ? top_value : top_growth;
	uint64_t local = count(top, "local_reads_total");
	uint64_t local_misses = count(top, "local_misses_total");
	uint64_t fetched = count(top, "fetch_hits_total");
	uint64_t asked = fetched + count(top, "fetch_miss_never_total") + count(top, "fetch_miss_evicted_total") +
			 count(top, "fetch_miss_removed_total");

	if (prefixes)
		return hits_over(count(top, "match_hits_total"),
				 count(top, "match_hits_total") + count(top, "match_misses_total"));
	/* A block that is not found in place is then asked for, or missed: it counts once. */
	return hits_over(local + fetched, local + (local_misses > asked ? local_misses : asked));
}

void top_curve(const struct top *top, struct top_curve *ret_curve)
{
	struct top_curve curve = { .references = top_growth(top, "mrc_references_total") };

	curve.since_start = curve.references == 0;
	if (curve.since_start)
		curve.references = top_value(top, "mrc_references_total");
	for (size_t i = 0; i < TOP_CURVE_POINTS; i++) {
		uint64_t hits = curve.since_start ? top_value(top, curve_counters[i])
						  : top_growth(top, curve_counters[i]);

		curve.hits[i] = curve.references ? (double)hits / (double)curve.references : 0;
	}
	*ret_curve = curve;
}

double top_ratio(uint64_t logical_f16_bytes, uint64_t bytes)
{
	return bytes ? (double)logical_f16_bytes / (double)bytes : 0;
}

static uint64_t sort_key(const struct kvc_space_stats *space, enum top_order order)
{
	switch (order) {
	case TOP_BY_STORED:
		return space->stored_bytes;
	case TOP_BY_TOKENS:
		return space->tokens;
	case TOP_BY_BLOCKS:
		return space->blocks;
	case TOP_BY_SESSIONS:
		return space->sessions;
	default:
		return 0; /* all alike: the name decides */
	}
}

static int compare(const void *a, const void *b, void *order)
{
	const struct kvc_space_stats *const *x = a;
	const struct kvc_space_stats *const *y = b;
	uint64_t key_x = sort_key(*x, *(enum top_order *)order);
	uint64_t key_y = sort_key(*y, *(enum top_order *)order);

	if (key_x != key_y)
		return key_x > key_y ? -1 : 1;
	return strcmp((*x)->name, (*y)->name);
}

const struct kvc_space_stats **top_spaces(const struct top *top)
{
	size_t n = top->now ? top->now->n_spaces : 0;
	const struct kvc_space_stats **spaces = n ? calloc(n, sizeof(const struct kvc_space_stats *)) : NULL;
	enum top_order order = top->order;

	for (size_t i = 0; spaces && i < n; i++)
		spaces[i] = &top->now->spaces[i];
	if (spaces)
		qsort_r(spaces, n, sizeof(const struct kvc_space_stats *), compare, &order);
	return spaces;
}

const char *top_order_name(enum top_order order)
{
	static const char *const names[TOP_ORDERS] = {
		[TOP_BY_STORED] = "stored",	[TOP_BY_TOKENS] = "tokens", [TOP_BY_BLOCKS] = "blocks",
		[TOP_BY_SESSIONS] = "sessions", [TOP_BY_NAME] = "name",
	};

	return names[order];
}
