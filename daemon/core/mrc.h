/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A miss-ratio curve while serving: what the hit rate would be if the memory for pages were x0.25 .. x8 of what it is,
 * under LRU.
 *
 * LRU keeps what was used last, so a use of a block is a hit in every cache that is at least as large as the block and
 * all that was used since its last use: one number, the distance, answers for all sizes. Following every block that
 * ever came would need memory without end, so only those are followed whose hash lies below a threshold (SHARDS,
 * Waldspurger et al., FAST 2015): the sample. A distance seen in it is divided by the rate at which blocks fall into
 * it, and a miss seen in it stands for one over that rate. When the sample is full, the block with the highest hash
 * leaves and its hash is the new threshold; what falls behind eight times the memory leaves as well, which keeps the
 * rate from falling for ever. The rate never rises again.
 *
 * Only differences are taken from the sample. How many uses and misses there were in this cache is counted, and what
 * another size would have missed more or less is estimated and added. So x1 is what happened, a block that everybody
 * uses, such as a system prompt, need not be in the sample, and what is wrong with the sample as a whole cancels out.
 *
 * A use is what a request needs a block for, once: see curve.h for what is told and what not.
 *
 * Where it differs from the cache itself: eviction there takes the last block of a chain first, here the one used
 * first; a deleted block leaves room there until something new takes it, here what was used before it moves up at once;
 * leases, pins and priorities are not known here.
 *
 * Memory: 40 bytes a sample and 4 to 8 for finding it, all of it allocated by mrc_init(). Time: a multiplication and a
 * comparison for a block that is not in the sample, O(log samples_max) on average for one that is. The hash is mixed
 * with a secret, so that nobody can choose keys that make it worse.
 *
 * No system call, no clock; the same calls give the same curve.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MRC_SAMPLES_MAX (1u << 24)

/* Where misses are counted: quarters of the memory. */
#define MRC_SIZES 6
#define MRC_SIZE_ONE 2
static const uint32_t mrc_quarters[MRC_SIZES] = { 1, 2, 4, 8, 16, 32 };

/*
 * A followed block, by its number in mrc.samples; 0 is none. The samples are a treap: in order of their last use, the
 * latest rightmost, and each with a higher hash than those below it. So the sums give distances, the leftmost is the
 * one to forget, and the root is the one to go when the threshold falls.
 */
struct mrc_sample {
	uint64_t hash; /* mixed */
	uint64_t bytes;
	uint64_t sum; /* bytes of it and of all below it */
	uint32_t left;
	uint32_t right;
	uint32_t parent;
	uint32_t next; /* of the same bucket, or free */
};

struct mrc {
	struct mrc_sample *samples; /* [samples_max + 1] */
	uint32_t *buckets;
	uint32_t bucket_mask;
	uint32_t samples_max;
	uint32_t n;
	uint32_t root;
	uint32_t free;
	uint64_t secret;
	uint64_t threshold; /* blocks with a lower mixed hash are followed; 0: none */
	uint64_t capacity;
	double rate; /* threshold / 2^64 */
	double uses;
	double missed;            /* of the uses, in this cache */
	double misses[MRC_SIZES]; /* as the sample has them */
	uint64_t hits[MRC_SIZES]; /* as last told */
};

/*
 * An empty curve. samples_max 0: one that stays empty and takes no memory; at most MRC_SAMPLES_MAX. capacity: bytes of
 * memory for blocks, at x1; not 0. Results: 0, -ENOMEM. mrc_deinit() frees; it takes a zeroed struct too.
 */
int mrc_init(struct mrc *mrc, uint32_t samples_max, uint64_t capacity, uint64_t secret);
void mrc_deinit(struct mrc *mrc);

/* For mrc_use() and mrc_forget() alone. */
void mrc_use_mixed(struct mrc *mrc, uint64_t hash, uint64_t bytes, double weight);
void mrc_forget_mixed(struct mrc *mrc, uint64_t hash);

/* One to one, so blocks are told apart as well as by their keys' hashes. */
static inline uint64_t mrc_mix(const struct mrc *mrc, uint64_t key_hash)
{
	uint64_t x = (key_hash ^ mrc->secret) * UINT64_C(0x9e3779b97f4a7c15);

	return (x ^ x >> 32 ^ mrc->secret) * UINT64_C(0xd6e8feb86659fd93);
}

/*
 * A block was used: read, or (miss) stored because it was not there. bytes, not 0, are what it takes of the capacity.
 * weight is how many uses this one stands for.
 */
static inline void mrc_use(struct mrc *mrc, uint64_t key_hash, uint64_t bytes, double weight, bool miss)
{
	uint64_t hash = mrc_mix(mrc, key_hash);

	mrc->uses += weight;
	mrc->missed += miss ? weight : 0;
	if (hash < mrc->threshold)
		mrc_use_mixed(mrc, hash, bytes, weight);
}

/* The block was removed, whatever the size of the cache: its next use is a miss. Evictions are not told. */
static inline void mrc_forget(struct mrc *mrc, uint64_t key_hash)
{
	uint64_t hash = mrc_mix(mrc, key_hash);

	if (hash < mrc->threshold)
		mrc_forget_mixed(mrc, hash);
}

/* Uses so far, and how many of them are hits at mrc_quarters[size]. Neither ever falls; hits <= uses. */
uint64_t mrc_uses(const struct mrc *mrc);
uint64_t mrc_hits(struct mrc *mrc, unsigned size);

/* Whether the tree and the table are what they should be; for audits. */
bool mrc_audit(const struct mrc *mrc);
