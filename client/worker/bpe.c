/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The symbols form a linked list over an array; a heap holds the merges that may be due, least rank
 * and leftmost on top. A merge changes two neighbours, so an entry whose tokens no longer stand
 * there is stale and is dropped when it comes up. Every merge adds at most two entries and removes
 * a symbol: 3n bounds the heap.
 */
#include "client/worker/bpe.h"

#include "base/contract.h"

#include <errno.h>

#define NO_SYMBOL SIZE_MAX

struct bpe_symbol {
	uint32_t token; /* VOCAB_NONE: merged into the one before it */
	size_t before;
	size_t after;
};

struct bpe_candidate {
	uint32_t rank;
	uint32_t merged;
	uint32_t left;
	uint32_t right;
	size_t at;
};

void bpe_done(struct bpe *bpe)
{
	free(bpe->symbols);
	free(bpe->heap);
	*bpe = (struct bpe){ 0 };
}

static int reserve(struct bpe *bpe, size_t n)
{
	if (n <= bpe->capacity)
		return 0;
	n = n < 256 ? 256 : n;
	bpe_done(&(struct bpe){ .symbols = bpe->symbols, .heap = bpe->heap });
	bpe->capacity = 0;
	bpe->symbols = malloc(n * sizeof(bpe->symbols[0]));
	bpe->heap = malloc(3 * n * sizeof(bpe->heap[0]));
	if (!bpe->symbols || !bpe->heap)
		return -ENOMEM;
	bpe->capacity = n;
	return 0;
}

static bool due_before(const struct bpe_candidate *a, const struct bpe_candidate *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(struct bpe *bpe, struct bpe_candidate candidate)
{
	size_t i = bpe->n_heap++;

	kvp_assert(i < 3 * bpe->capacity);
	while (i > 0 && due_before(&candidate, &bpe->heap[(i - 1) / 2])) {
		bpe->heap[i] = bpe->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	bpe->heap[i] = candidate;
}

static struct bpe_candidate heap_pop(struct bpe *bpe)
{
	struct bpe_candidate top = bpe->heap[0];
	struct bpe_candidate last = bpe->heap[--bpe->n_heap];
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= bpe->n_heap)
			break;
		if (child + 1 < bpe->n_heap && due_before(&bpe->heap[child + 1], &bpe->heap[child]))
			child++;
		if (!due_before(&bpe->heap[child], &last))
			break;
		bpe->heap[i] = bpe->heap[child];
		i = child;
	}
	bpe->heap[i] = last;
	return top;
}

/* Adds the merge of a symbol with the one behind it, if there is such a merge. */
static void consider(struct bpe *bpe, size_t at)
{
	struct bpe_candidate candidate = { .at = at };
	size_t after;

	if (at == NO_SYMBOL || bpe->symbols[at].after == NO_SYMBOL)
		return;
	after = bpe->symbols[at].after;
	candidate.left = bpe->symbols[at].token;
	candidate.right = bpe->symbols[after].token;
	if (vocab_merge(bpe->vocab, candidate.left, candidate.right, &candidate.merged, &candidate.rank))
		heap_push(bpe, candidate);
}

static void apply(struct bpe *bpe, const struct bpe_candidate *candidate)
{
	struct bpe_symbol *left = &bpe->symbols[candidate->at];
	struct bpe_symbol *right;

	if (left->token != candidate->left || left->after == NO_SYMBOL)
		return;
	right = &bpe->symbols[left->after];
	if (right->token != candidate->right)
		return;
	left->token = candidate->merged;
	left->after = right->after;
	right->token = VOCAB_NONE;
	if (left->after != NO_SYMBOL)
		bpe->symbols[left->after].before = candidate->at;
	consider(bpe, left->before);
	consider(bpe, candidate->at);
}

/* One symbol a byte, those without a token left out. Returns how many. */
static size_t lay_out(struct bpe *bpe, const uint8_t *piece, size_t n)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++) {
		uint32_t token = vocab_byte(bpe->vocab, piece[i]);

		if (token == VOCAB_NONE)
			continue;
		bpe->symbols[count] = (struct bpe_symbol){
			.token = token,
			.before = count > 0 ? count - 1 : NO_SYMBOL,
			.after = count + 1,
		};
		count++;
	}
	if (count > 0)
		bpe->symbols[count - 1].after = NO_SYMBOL;
	return count;
}

int bpe_encode(struct bpe *bpe, const uint8_t *piece, size_t n,
	       int (*emit)(void *context, uint32_t token), void *context)
{
	int r = reserve(bpe, n);
	size_t count;

	if (r < 0)
		return r;
	bpe->n_heap = 0;
	count = lay_out(bpe, piece, n);
	for (size_t i = 0; i < count; i++)
		consider(bpe, i);
	while (bpe->n_heap > 0) {
		struct bpe_candidate candidate = heap_pop(bpe);

		apply(bpe, &candidate);
	}
	for (size_t i = 0; i < count && r >= 0; i++)
		if (bpe->symbols[i].token != VOCAB_NONE)
			r = emit(context, bpe->symbols[i].token);
	return r;
}
