/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front of attention on tiles: checks the caller's contract and hands tiles to kernels, and
 * holds the online softmax. Of each query the largest scaled score so far and the sum of
 * exponentials below it are kept; when a span brings a larger one, sum and output are scaled down.
 */
#include <math.h>

#include "base/contract.h"
#include "codec/kernel.h"

static void layout_get(enum codec_id id, enum codec_role role, uint32_t tokens, uint32_t head_dim,
		       struct codec_layout *ret_layout)
{
	const bool known = codec_layout_of(id, role, tokens, head_dim, ret_layout);

	kvp_assert(known);
}

void codec_isa_scores(const struct codec_isa *isa, enum codec_id id, uint32_t tokens,
		      uint32_t head_dim, const void *tile, const float *queries,
		      ptrdiff_t query_stride, uint32_t n, float *scores, ptrdiff_t score_stride)
{
	const struct codec_rows rows = { queries, query_stride };
	const struct codec_results results = { scores, score_stride };
	struct codec_layout layout;

	kvp_assert(n >= 1 && n <= CODEC_QUERIES_MAX);
	layout_get(id, CODEC_ROLE_K, tokens, head_dim, &layout);
	isa->ops[codec_index_of(id)][CODEC_ROLE_K].scores(&layout, tile, &rows, n, &results);
}

void codec_isa_accumulate(const struct codec_isa *isa, enum codec_id id, uint32_t tokens,
			  uint32_t head_dim, const void *tile, const float *weights,
			  ptrdiff_t weight_stride, uint32_t n, float *out, ptrdiff_t out_stride)
{
	const struct codec_rows rows = { weights, weight_stride };
	const struct codec_results results = { out, out_stride };
	struct codec_layout layout;

	kvp_assert(n >= 1 && n <= CODEC_QUERIES_MAX);
	layout_get(id, CODEC_ROLE_V, tokens, head_dim, &layout);
	isa->ops[codec_index_of(id)][CODEC_ROLE_V].accumulate(&layout, tile, &rows, n, &results);
}

/* How much of the rows, which the kernels ask for in time themselves once they run. */
#define PREFETCH_ROWS_BYTES 256u
#define PREFETCH_LINE 64u

static void bytes_prefetch(const uint8_t *from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += PREFETCH_LINE)
		__builtin_prefetch(from + i, 0, 2);
}

void codec_prefetch(enum codec_id id, enum codec_role role, uint32_t tokens, uint32_t head_dim,
		    const void *tile)
{
	struct codec_layout layout;
	size_t rows;

	layout_get(id, role, tokens, head_dim, &layout);
	rows = (size_t)layout.row_bytes * tokens;
	bytes_prefetch((const uint8_t *)tile + rows, layout.tile_bytes - rows);
	bytes_prefetch(tile, rows < PREFETCH_ROWS_BYTES ? rows : PREFETCH_ROWS_BYTES);
}

/* --- The online softmax ---------------------------------------------------------------------- */

struct softmax {
	float largest[CODEC_QUERIES_MAX]; /* scaled */
	float sum[CODEC_QUERIES_MAX];
};

static float *query_out(const struct codec_attention *attention, uint32_t i)
{
	return attention->out + (ptrdiff_t)i * attention->out_stride;
}

/* Turns the scores of one span into weights, and scales down what came before if need be. */
static void weights_make(const struct codec_softmax_ops *ops, uint32_t tokens, float scale,
			 float *scores, float *largest, float *sum, float *out, uint32_t head_dim)
{
	const float here = ops->largest(scores, tokens) * scale;

	if (here > *largest) {
		float factor = *largest;

		(void)ops->exponentials(&factor, 1, 1.0f, here);
		ops->multiply(out, head_dim, factor);
		*sum *= factor;
		*largest = here;
	}
	*sum += ops->exponentials(scores, tokens, scale, *largest);
}

/* @next: the span that follows, or NULL. */
static void span_attend(const struct codec_isa *isa, const struct codec_attention *attention,
			const struct codec_span *span, const struct codec_span *next,
			struct softmax *softmax)
{
	float scores[CODEC_QUERIES_MAX][CODEC_TOKENS_MAX];

	codec_prefetch(span->codec_v, CODEC_ROLE_V, span->tokens, attention->head_dim_v, span->v);
	codec_isa_scores(isa, span->codec_k, span->tokens, attention->head_dim_k, span->k,
			 attention->queries, attention->query_stride, attention->n_queries,
			 scores[0], CODEC_TOKENS_MAX);
	for (uint32_t i = 0; i < attention->n_queries; i++)
		weights_make(&isa->softmax, span->tokens, attention->scale, scores[i],
			     &softmax->largest[i], &softmax->sum[i], query_out(attention, i),
			     attention->head_dim_v);
	if (next)
		codec_prefetch(next->codec_k, CODEC_ROLE_K, next->tokens, attention->head_dim_k,
			       next->k);
	codec_isa_accumulate(isa, span->codec_v, span->tokens, attention->head_dim_v, span->v,
			     scores[0], CODEC_TOKENS_MAX, attention->n_queries, attention->out,
			     attention->out_stride);
}

void codec_isa_attend(const struct codec_isa *isa, const struct codec_attention *attention,
		      const struct codec_span *spans, size_t n_spans)
{
	struct softmax softmax;

	kvp_assert(attention->n_queries >= 1 && attention->n_queries <= CODEC_QUERIES_MAX);
	for (uint32_t i = 0; i < attention->n_queries; i++) {
		softmax.largest[i] = -INFINITY;
		softmax.sum[i] = 0;
		for (uint32_t c = 0; c < attention->head_dim_v; c++)
			query_out(attention, i)[c] = 0;
	}
	for (size_t s = 0; s < n_spans; s++)
		span_attend(isa, attention, &spans[s], s + 1 < n_spans ? &spans[s + 1] : NULL,
			    &softmax);
	for (uint32_t i = 0; n_spans > 0 && i < attention->n_queries; i++)
		isa->softmax.multiply(query_out(attention, i), attention->head_dim_v,
				      1.0f / softmax.sum[i]);
}
