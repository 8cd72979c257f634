/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention over spans of mixed codecs: the scalar kernels against the textbook in double precision
 * over the decoded values, and every other instruction set against them, bit by bit.
 */
#include "tests/unit/test-codec.h"

/* --- Attention ------------------------------------------------------------------------------- */

#define HEAD_DIM_K 64u
#define HEAD_DIM_V 80u
#define QUERIES 5u

static const struct span_shape {
	enum codec_id k;
	enum codec_id v;
	uint32_t tokens;
} span_shapes[] = {
	{ CODEC_Q6, CODEC_T5G32, 128 }, { CODEC_T6, CODEC_Q8, 33 },  { CODEC_Q4, CODEC_T4G16, 64 },
	{ CODEC_T8, CODEC_T8G16, 128 }, { CODEC_F16, CODEC_Q5, 70 }, { CODEC_F32, CODEC_F32, 19 },
};

struct sequence {
	struct codec_span spans[COUNT(span_shapes)];
	float *k; /* decoded, tokens x HEAD_DIM_K */
	float *v;
	uint32_t tokens;
};

static const uint8_t *part_make(enum codec_id id, enum codec_role role, uint32_t tokens,
				uint32_t head_dim, const float *constant, uint64_t *seed,
				float *decoded)
{
	float *values = malloc(sizeof(*values) * tokens * head_dim);
	uint8_t *tile = malloc(codec_tile_bytes(id, role, tokens, head_dim));

	assert_non_null(values);
	assert_non_null(tile);
	for (uint32_t i = 0; i < tokens * head_dim; i++)
		values[i] = constant ? *constant : random_gaussian(seed);
	assert_int_equal(codec_isa_encode(codec_isa_get("scalar"), id, role, tokens, head_dim,
					  values, CODEC_DTYPE_F32, head_dim, tile, NULL),
			 0);
	codec_isa_decode(codec_isa_get("scalar"), id, role, tokens, head_dim, tile, decoded,
			 CODEC_DTYPE_F32, head_dim);
	free(values);
	return tile;
}

static void sequence_init(struct sequence *sequence, const float *constant, uint64_t *seed)
{
	const size_t tokens_max = COUNT(span_shapes) * CODEC_TOKENS_MAX;

	*sequence = (struct sequence){
		.k = calloc(tokens_max * HEAD_DIM_K, sizeof(float)),
		.v = calloc(tokens_max * HEAD_DIM_V, sizeof(float)),
	};
	assert_non_null(sequence->k);
	assert_non_null(sequence->v);
	for (size_t s = 0; s < COUNT(span_shapes); s++) {
		const struct span_shape *shape = &span_shapes[s];
		const size_t first = sequence->tokens;

		sequence->spans[s] = (struct codec_span){
			.codec_k = shape->k,
			.codec_v = shape->v,
			.tokens = shape->tokens,
			.k = part_make(shape->k, CODEC_ROLE_K, shape->tokens, HEAD_DIM_K, constant,
				       seed, sequence->k + first * HEAD_DIM_K),
			.v = part_make(shape->v, CODEC_ROLE_V, shape->tokens, HEAD_DIM_V, constant,
				       seed, sequence->v + first * HEAD_DIM_V),
		};
		sequence->tokens += shape->tokens;
	}
}

static void sequence_deinit(struct sequence *sequence)
{
	for (size_t s = 0; s < COUNT(span_shapes); s++) {
		free((void *)sequence->spans[s].k);
		free((void *)sequence->spans[s].v);
	}
	free(sequence->k);
	free(sequence->v);
}

/* Attention as the textbook has it, over the tokens from @first on. */
static void softmax_exact(const struct sequence *sequence, uint32_t first, const float *query,
			  double scale, double *out)
{
	static double weights[COUNT(span_shapes) * CODEC_TOKENS_MAX];
	double largest = -INFINITY;
	double sum = 0;

	for (uint32_t t = first; t < sequence->tokens; t++) {
		weights[t] = 0;
		for (uint32_t c = 0; c < HEAD_DIM_K; c++)
			weights[t] += (double)query[c] *
				      (double)sequence->k[(size_t)t * HEAD_DIM_K + c] * scale;
		largest = fmax(largest, weights[t]);
	}
	for (uint32_t c = 0; c < HEAD_DIM_V; c++)
		out[c] = 0;
	for (uint32_t t = first; t < sequence->tokens; t++) {
		const double weight = exp(weights[t] - largest);

		sum += weight;
		for (uint32_t c = 0; c < HEAD_DIM_V; c++)
			out[c] += weight * (double)sequence->v[(size_t)t * HEAD_DIM_V + c];
	}
	for (uint32_t c = 0; c < HEAD_DIM_V; c++)
		out[c] /= sum;
}

static void attend(const char *isa_name, const float *queries, uint32_t n, float scale,
		   const struct codec_span *spans, size_t n_spans, float out[][HEAD_DIM_V])
{
	const struct codec_attention attention = {
		.head_dim_k = HEAD_DIM_K,
		.head_dim_v = HEAD_DIM_V,
		.n_queries = n,
		.queries = queries,
		.query_stride = HEAD_DIM_K,
		.scale = scale,
		.out = out[0],
		.out_stride = HEAD_DIM_V,
	};

	memset(out, 0x5a, sizeof(float) * n * HEAD_DIM_V);
	codec_isa_attend(codec_isa_get(isa_name), &attention, spans, n_spans);
}

/*
 * Attention over the spans from @first_span on, of all queries and of each alone, with every
 * instruction set, within @allowed of the textbook.
 */
static void check_attend(const struct sequence *sequence, size_t first_span, const float *queries,
			 float scale, double allowed)
{
	const struct codec_span *spans = sequence->spans + first_span;
	const size_t n_spans = COUNT(span_shapes) - first_span;
	float expected[QUERIES][HEAD_DIM_V], actual[QUERIES][HEAD_DIM_V];
	uint32_t first = 0;

	for (size_t s = 0; s < first_span; s++)
		first += span_shapes[s].tokens;
	attend("scalar", queries, QUERIES, scale, spans, n_spans, expected);
	for (uint32_t i = 0; i < QUERIES; i++) {
		double out[HEAD_DIM_V];

		softmax_exact(sequence, first, queries + (size_t)i * HEAD_DIM_K, (double)scale,
			      out);
		for (uint32_t c = 0; c < HEAD_DIM_V; c++) {
			const double error = fabs((double)expected[i][c] - out[c]);

			if (!(error <= allowed))
				fail_msg("query %u, channel %u: off by %g, not %g", i, c, error,
					 allowed);
		}
	}
	for (size_t k = 0; k < COUNT(isa_names); k++) {
		if (!codec_isa_get(isa_names[k]))
			continue;
		attend(isa_names[k], queries, QUERIES, scale, spans, n_spans, actual);
		assert_memory_equal(actual, expected, sizeof(expected));
		for (uint32_t i = 0; i < QUERIES; i++) {
			attend(isa_names[k], queries + (size_t)i * HEAD_DIM_K, 1, scale, spans,
			       n_spans, actual);
			assert_memory_equal(actual[0], expected[i], sizeof(expected[i]));
		}
	}
}

static void queries_fill(float factor, uint64_t *seed, float *queries)
{
	for (uint32_t i = 0; i < QUERIES * HEAD_DIM_K; i++)
		queries[i] = factor * random_gaussian(seed);
}

/*
 * Codes of 4 bits have steps of about 5 / 15; a query of 64 channels, each rounded to half of 1 in
 * 16256, then has scores within 1e-3, weights within 2e-3 of themselves, and values reach 4.
 */
static void test_attend_near_softmax(void **state)
{
	float queries[QUERIES * HEAD_DIM_K];
	struct sequence sequence;
	uint64_t seed = 11;

	sequence_init(&sequence, NULL, &seed);
	queries_fill(1, &seed, queries);
	check_attend(&sequence, 0, queries, 0.125f, 4e-3);
	check_attend(&sequence, 2, queries, 0.125f, 4e-3);
	queries_fill(0, &seed, queries);
	check_attend(&sequence, 0, queries, 0.125f, 1e-3);
	sequence_deinit(&sequence);
}

static void test_attend_constant(void **state)
{
	const float constant = -2.5f;
	float queries[QUERIES * HEAD_DIM_K];
	struct sequence sequence;
	uint64_t seed = 12;

	sequence_init(&sequence, &constant, &seed);
	queries_fill(1, &seed, queries);
	check_attend(&sequence, 0, queries, 0.125f, 4e-3);
	sequence_deinit(&sequence);
}

/* Scores of about +-1e4: a weight is 1 or nothing; f32 leaves an error of 1e-2 in such a score. */
static void test_attend_extreme(void **state)
{
	float queries[QUERIES * HEAD_DIM_K];
	struct sequence sequence;
	uint64_t seed = 13;

	sequence_init(&sequence, NULL, &seed);
	queries_fill(1250, &seed, queries);
	check_attend(&sequence, COUNT(span_shapes) - 1, queries, 1.0f, 0.05);
	for (size_t s = 0; s < COUNT(span_shapes); s++) {
		float out[QUERIES][HEAD_DIM_V];

		attend("scalar", queries, QUERIES, 1.0f, sequence.spans, s + 1, out);
		for (uint32_t i = 0; i < QUERIES * HEAD_DIM_V; i++)
			assert_true(fabsf(out[i / HEAD_DIM_V][i % HEAD_DIM_V]) < 6.0f);
	}
	sequence_deinit(&sequence);
}

static void test_attend_nothing(void **state)
{
	float queries[QUERIES * HEAD_DIM_K] = { 0 };
	const float zeros[QUERIES][HEAD_DIM_V] = { 0 };
	float out[QUERIES][HEAD_DIM_V];

	for (size_t k = 0; k < COUNT(isa_names); k++) {
		if (!codec_isa_get(isa_names[k]))
			continue;
		attend(isa_names[k], queries, QUERIES, 1.0f, NULL, 0, out);
		assert_memory_equal(out, zeros, sizeof(out));
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_attend_near_softmax),
	cmocka_unit_test(test_attend_constant),
	cmocka_unit_test(test_attend_extreme),
	cmocka_unit_test(test_attend_nothing),
};

int main(void)
{
	return harness_run(tests, COUNT(tests));
}
