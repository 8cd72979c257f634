/* SPDX-License-Identifier: Apache-2.0 */
/* The sample: a treap in an array, and a hash table that finds its nodes; see mrc.h. Nothing here recurses. */
#include "daemon/core/mrc.h"

#include "base/contract.h"

#include <errno.h>
#include <stdlib.h>

#define TWO_TO_64 18446744073709551616.0

static void threshold_set(struct mrc *mrc, uint64_t threshold)
{
	mrc->threshold = threshold;
	mrc->rate = (double)threshold / TWO_TO_64;
}

/* The smallest power of two that is not below n. */
static uint32_t buckets_for(uint32_t n)
{
	uint32_t buckets = 1;

	while (buckets < n)
		buckets *= 2;
	return buckets;
}

int mrc_init(struct mrc *mrc, uint32_t samples_max, uint64_t capacity, uint64_t secret)
{
	kvp_assert(samples_max <= MRC_SAMPLES_MAX && capacity > 0);
	*mrc = (struct mrc){ .samples_max = samples_max, .capacity = capacity, .secret = secret };
	if (samples_max == 0)
		return 0;
	mrc->bucket_mask = buckets_for(samples_max) - 1;
	mrc->samples = calloc((size_t)samples_max + 1, sizeof(*mrc->samples));
	mrc->buckets = calloc((size_t)mrc->bucket_mask + 1, sizeof(*mrc->buckets));
	if (!mrc->samples || !mrc->buckets) {
		mrc_deinit(mrc);
		return -ENOMEM;
	}
	for (uint32_t i = samples_max; i > 0; i--) {
		mrc->samples[i].next = mrc->free;
		mrc->free = i;
	}
	threshold_set(mrc, UINT64_MAX);
	return 0;
}

void mrc_deinit(struct mrc *mrc)
{
	free(mrc->samples);
	free(mrc->buckets);
	*mrc = (struct mrc){ 0 };
}

/* ---- The tree ---- */

static void sum_set(struct mrc *mrc, uint32_t at)
{
	struct mrc_sample *s = &mrc->samples[at];

	s->sum = mrc->samples[s->left].sum + s->bytes + mrc->samples[s->right].sum;
}

/* From here to the root. */
static void sums_set(struct mrc *mrc, uint32_t at)
{
	for (; at; at = mrc->samples[at].parent)
		sum_set(mrc, at);
}

static uint32_t *link_to(struct mrc *mrc, uint32_t at)
{
	struct mrc_sample *parent = &mrc->samples[mrc->samples[at].parent];

	if (!mrc->samples[at].parent)
		return &mrc->root;
	return parent->left == at ? &parent->left : &parent->right;
}

/* Puts at below parent. */
static void hang(struct mrc *mrc, uint32_t *link, uint32_t parent, uint32_t at)
{
	*link = at;
	if (at)
		mrc->samples[at].parent = parent;
}

/* Takes a node out: its two subtrees become one in its place, along the inner edges of both. */
static void tree_remove(struct mrc *mrc, uint32_t at)
{
	struct mrc_sample *s = mrc->samples;
	uint32_t *link = link_to(mrc, at);
	uint32_t parent = s[at].parent;
	uint32_t a = s[at].left, b = s[at].right;

	while (a && b) {
		if (s[a].hash > s[b].hash) {
			hang(mrc, link, parent, a);
			parent = a;
			link = &s[a].right;
			a = s[a].right;
		} else {
			hang(mrc, link, parent, b);
			parent = b;
			link = &s[b].left;
			b = s[b].left;
		}
	}
	hang(mrc, link, parent, a ? a : b);
	sums_set(mrc, parent);
}

/* As the latest: into the right edge, above those with lower hashes. */
static void tree_append(struct mrc *mrc, uint32_t at)
{
	struct mrc_sample *s = mrc->samples;
	uint32_t *link = &mrc->root;
	uint32_t parent = 0;

	while (*link && s[*link].hash > s[at].hash) {
		parent = *link;
		link = &s[parent].right;
	}
	s[at].right = 0;
	hang(mrc, &s[at].left, at, *link);
	hang(mrc, link, parent, at);
	sums_set(mrc, at);
}

/* The bytes that were used after this one. */
static uint64_t bytes_after(const struct mrc *mrc, uint32_t at)
{
	const struct mrc_sample *s = mrc->samples;
	uint64_t bytes = s[s[at].right].sum;

	for (uint32_t up = s[at].parent; up; at = up, up = s[at].parent)
		if (s[up].left == at)
			bytes += s[up].bytes + s[s[up].right].sum;
	return bytes;
}

static uint32_t oldest(const struct mrc *mrc)
{
	uint32_t at = mrc->root;

	while (mrc->samples[at].left)
		at = mrc->samples[at].left;
	return at;
}

/* ---- The table ---- */

static uint32_t *bucket_of(const struct mrc *mrc, uint64_t hash)
{
	return &mrc->buckets[hash & mrc->bucket_mask];
}

static uint32_t find(const struct mrc *mrc, uint64_t hash)
{
	uint32_t at = *bucket_of(mrc, hash);

	while (at && mrc->samples[at].hash != hash)
		at = mrc->samples[at].next;
	return at;
}

/* ---- The sample ---- */

static void leave(struct mrc *mrc, uint32_t at)
{
	struct mrc_sample *s = mrc->samples;
	uint32_t *link = bucket_of(mrc, s[at].hash);

	tree_remove(mrc, at);
	while (*link != at)
		link = &s[*link].next;
	*link = s[at].next;
	s[at].next = mrc->free;
	mrc->free = at;
	mrc->n--;
}

static void enter(struct mrc *mrc, uint64_t hash, uint64_t bytes)
{
	uint32_t at = mrc->free;
	uint32_t *bucket = bucket_of(mrc, hash);

	mrc->free = mrc->samples[at].next;
	mrc->samples[at] = (struct mrc_sample){ .hash = hash, .bytes = bytes, .next = *bucket };
	*bucket = at;
	tree_append(mrc, at);
	mrc->n++;
}

/* The estimated distance of a block with so many sampled bytes used after it. Its own bytes are known. */
static double distance(const struct mrc *mrc, uint64_t after, uint64_t bytes)
{
	return (double)after / mrc->rate + (double)bytes;
}

static double size_bytes(const struct mrc *mrc, unsigned size)
{
	return (double)mrc->capacity * mrc_quarters[size] / 4;
}

/* Counts what misses: at every size that the distance exceeds. */
static void count(struct mrc *mrc, double distance_bytes, double weight)
{
	for (unsigned size = 0; size < MRC_SIZES && distance_bytes > size_bytes(mrc, size); size++)
		mrc->misses[size] += weight / mrc->rate;
}

/* What the largest cache would have evicted. */
static void forget_old(struct mrc *mrc)
{
	while (mrc->n > 1) {
		uint32_t at = oldest(mrc);
		uint64_t bytes = mrc->samples[at].bytes;

		if (distance(mrc, mrc->samples[mrc->root].sum - bytes, bytes) <= size_bytes(mrc, MRC_SIZES - 1))
			return;
		leave(mrc, at);
	}
}

/* Room for a block of this hash, which is below the threshold, or a threshold that excludes it. */
static bool make_room(struct mrc *mrc, uint64_t hash)
{
	if (mrc->n < mrc->samples_max)
		return true;
	if (hash > mrc->samples[mrc->root].hash) {
		threshold_set(mrc, hash);
		return false;
	}
	threshold_set(mrc, mrc->samples[mrc->root].hash);
	leave(mrc, mrc->root);
	return true;
}

void mrc_use_mixed(struct mrc *mrc, uint64_t hash, uint64_t bytes, double weight)
{
	uint32_t at = find(mrc, hash);

	kvp_assert(bytes > 0);
	if (at) {
		count(mrc, distance(mrc, bytes_after(mrc, at), bytes), weight);
		tree_remove(mrc, at);
		mrc->samples[at].bytes = bytes;
		tree_append(mrc, at);
	} else {
		count(mrc, size_bytes(mrc, MRC_SIZES - 1) * 2, weight);
		if (make_room(mrc, hash))
			enter(mrc, hash, bytes);
	}
	forget_old(mrc);
}

void mrc_forget_mixed(struct mrc *mrc, uint64_t hash)
{
	uint32_t at = find(mrc, hash);

	if (at)
		leave(mrc, at);
}

/* ---- Results ---- */

uint64_t mrc_uses(const struct mrc *mrc)
{
	return mrc->samples_max > 0 ? (uint64_t)mrc->uses : 0;
}

uint64_t mrc_hits(struct mrc *mrc, unsigned size)
{
	double more = mrc->misses[MRC_SIZE_ONE] - mrc->misses[size];
	double hits = mrc->uses - mrc->missed + more;

	kvp_assert(size < MRC_SIZES);
	if (hits > mrc->uses)
		hits = mrc->uses;
	/* A sampled miss takes back the hits of those that it stands for: then the number waits. */
	if (mrc->samples_max > 0 && hits > (double)mrc->hits[size])
		mrc->hits[size] = (uint64_t)hits;
	return mrc->hits[size];
}

/* ---- Audit ---- */

static bool node_audit(const struct mrc *mrc, uint32_t at)
{
	const struct mrc_sample *s = mrc->samples;
	const uint32_t below[2] = { s[at].left, s[at].right };

	for (unsigned i = 0; i < 2; i++)
		if (below[i] && (s[below[i]].parent != at || s[below[i]].hash >= s[at].hash))
			return false;
	return s[at].sum == s[below[0]].sum + s[at].bytes + s[below[1]].sum && s[at].hash < mrc->threshold &&
	       find(mrc, s[at].hash) == at;
}

bool mrc_audit(const struct mrc *mrc)
{
	uint32_t found = 0, unused = 0;

	if (mrc->samples_max == 0)
		return mrc->n == 0 && mrc->threshold == 0;
	for (uint32_t bucket = 0; bucket <= mrc->bucket_mask; bucket++)
		for (uint32_t at = mrc->buckets[bucket]; at; at = mrc->samples[at].next, found++)
			if (found > mrc->n || !node_audit(mrc, at))
				return false;
	for (uint32_t at = mrc->free; at && unused <= mrc->samples_max; at = mrc->samples[at].next)
		unused++;
	return found == mrc->n && unused + found == mrc->samples_max && mrc->samples[0].sum == 0 &&
	       (mrc->n == 0) == (mrc->root == 0) && (mrc->n == 0 || mrc->samples[mrc->root].parent == 0);
}
