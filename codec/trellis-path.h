/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way back through the trellis, 64 channels at a time: bit c of a word is channel c. The search
 * forward, which differs from one instruction set to the next, fills upper and last; the walk then
 * finds every token's lowest bit. A state is three words, so that one step back is a choice among
 * eight words by three.
 */
#pragma once

#include <string.h>

#include "codec/trellis.h"

#define TRELLIS_CHUNK 64u

struct trellis_path {
	/* Per token and state: whether it was reached from the upper of its two predecessors. */
	uint64_t upper[CODEC_TOKENS_MAX][TRELLIS_STATES];
	uint64_t last[3];		     /* the bits of the last state: u, u1, u2 */
	uint64_t steering[CODEC_TOKENS_MAX]; /* what the walk finds: u of every token */
};

/* Sets what a vector's channels have of a word: @bytes of it, at byte @offset. */
static inline void trellis_word_put(uint64_t *word, size_t offset, const void *part, size_t bytes)
{
	memcpy((uint8_t *)word + offset, part, bytes);
}

/* Bits of @one where @chooser is 1, else of @zero. */
static inline uint64_t trellis_choose(uint64_t chooser, uint64_t zero, uint64_t one)
{
	return zero ^ ((zero ^ one) & chooser);
}

/* Out of line: one copy for all kernels of a file. */
static __attribute__((noinline)) void trellis_walk(struct trellis_path *path, uint32_t tokens)
{
	uint64_t u = path->last[0];
	uint64_t u1 = path->last[1];
	uint64_t u2 = path->last[2];

	for (uint32_t t = tokens; t-- > 0;) {
		const uint64_t *upper = path->upper[t];
		/* u2 chooses last: it is the one that the step before has only just found. */
		const uint64_t low = trellis_choose(u1, trellis_choose(u, upper[0], upper[1]),
						    trellis_choose(u, upper[2], upper[3]));
		const uint64_t high = trellis_choose(u1, trellis_choose(u, upper[4], upper[5]),
						     trellis_choose(u, upper[6], upper[7]));

		path->steering[t] = u;
		u = u1;
		u1 = u2;
		u2 = trellis_choose(u2, low, high);
	}
}

/* Words that say which set of levels each channel uses at a token: 2 * high + low. */
struct trellis_sets {
	uint64_t low;
	uint64_t high;
};

static inline struct trellis_sets trellis_sets_at(const struct trellis_path *path, uint32_t token)
{
	const uint64_t u1 = token >= 1 ? path->steering[token - 1] : 0;
	const uint64_t u2 = token >= 2 ? path->steering[token - 2] : 0;
	const uint64_t u3 = token >= 3 ? path->steering[token - 3] : 0;

	return (struct trellis_sets){ u2, path->steering[token] ^ u1 ^ u3 };
}

/*
 * The search bounds a position to these two before it rounds: between them every set's nearest
 * level exists, since rint((1.5 - j) / 4) is 0 and rint((levels - 2.5 - j) / 4) is levels / 4 - 1
 * for each set j, as they are for any position beyond. So rounding the bounded position gives the
 * definition's k, and k needs no bounds. From 1.5 on, (position - j) / 4 is exact in f32.
 */
static inline float trellis_position_min(void)
{
	return 1.5f;
}

static inline float trellis_position_max(unsigned bits)
{
	return trellis_levels(bits) - 2.5f;
}
