/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte-pair merging of one piece: O(n log n) in its length, so that a text without any space costs
 * no more than another.
 */
#pragma once

#include "client/worker/vocab.h"

/* Scratch that grows with the longest piece; reused between pieces, one user at a time. */
struct bpe {
	const struct vocab *vocab;
	struct bpe_symbol *symbols;
	struct bpe_candidate *heap;
	size_t capacity; /* symbols; the heap holds twice as many */
	size_t n_heap;
};

static inline void bpe_init(struct bpe *bpe, const struct vocab *vocab)
{
	*bpe = (struct bpe){ .vocab = vocab };
}

void bpe_done(struct bpe *bpe);

/*
 * Merges piece[0..n), n > 0, and hands each token to emit() in order. Results: 0, -ENOMEM, or the
 * first negative result of emit().
 */
int bpe_encode(struct bpe *bpe, const uint8_t *piece, size_t n,
	       int (*emit)(void *context, uint32_t token), void *context);
