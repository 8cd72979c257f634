/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The built-in model against client/worker/tiny/reference.json, which the trainer's own
 * implementation wrote in double precision: tokens of the prompts, logits, greedy continuations.
 */
#include "base/cleanup.h"
#include "client/worker/forward.h"
#include "client/worker/locate.h"
#include "client/worker/sample.h"
#include "client/worker/tokenizer.h"

#include "tests/lib/harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Largest error of a logit: f32 sums against f64 ones, on logits of a size around 10, and 6
 * decimals in the file.
 */
#define LOGIT_TOLERANCE 2e-4
#define NUMBERS_MAX 1024
#define CAPACITY 1024
#define BATCH 128

struct rig {
	char *json;
	struct gguf *gguf;
	struct model *model;
	struct tokenizer *tokenizer;
	struct pool *pool;
	struct forward *forward;
	struct kvstore store;
};

static char *read_reference(void)
{
	FILE *stream = fopen(WORKER_TINY_REFERENCE, "re");
	char *text = calloc(1, 1 << 20);

	assert_non_null(stream);
	assert_non_null(text);
	assert_true(fread(text, 1, (1 << 20) - 1, stream) > 0);
	(void)fclose(stream);
	return text;
}

static void rig_init(struct rig *rig)
{
	struct fault fault;

	memset(rig, 0, sizeof(*rig));
	rig->json = read_reference();
	assert_int_equal(locate_model("tiny", &rig->gguf, &fault), 0);
	assert_int_equal(model_new(rig->gguf, &rig->model, &fault), 0);
	assert_int_equal(tokenizer_new(rig->gguf, &rig->tokenizer, &fault), 0);
	assert_int_equal(tokenizer_size(rig->tokenizer), rig->model->n_vocab);
	assert_int_equal(pool_new(2, &rig->pool), 0);
	rig->store = (struct kvstore){
		.n_layers = rig->model->n_layers, .n_heads = rig->model->n_kv_heads, .head_dim = rig->model->head_dim,
		.block_tokens = 128, .capacity = CAPACITY, .codec_k = CODEC_F32, .codec_v = CODEC_F32 };
	assert_int_equal(kvstore_init(&rig->store), 0);
	assert_int_equal(forward_new(rig->model, dot_kernels_select(NULL), rig->pool, &rig->store, &rig->forward),
			 0);
}

static void rig_done(struct rig *rig)
{
	kvstore_done(&rig->store);
	(void)forward_free(rig->forward);
	(void)pool_free(rig->pool);
	(void)tokenizer_free(rig->tokenizer);
	(void)model_free(rig->model);
	(void)gguf_free(rig->gguf);
	free(rig->json);
}

/* --- As much of JSON as the file has ---------------------------------------------------------- */

/* Behind "key": from `at` on, or NULL. */
static const char *find_value(const char *at, const char *key)
{
	char quoted[64];

	(void)snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	at = strstr(at, quoted);
	return at ? at + strlen(quoted) + strspn(at + strlen(quoted), " \n") : NULL;
}

/* The numbers of the array (or the one number) behind the key. */
static size_t read_numbers(const char *at, const char *key, double numbers[NUMBERS_MAX])
{
	const char *value = find_value(at, key);
	size_t n = 0;

	assert_non_null(value);
	value += strspn(value, "[ \n");
	for (;;) {
		char *end;

		assert_true(n < NUMBERS_MAX);
		numbers[n] = strtod(value, &end);
		if (end == value)
			return n;
		n++;
		value = end + strspn(end, " \n");
		if (*value != ',')
			return n;
		value += 1 + strspn(value + 1, " \n");
	}
}

/* The string behind the key; no escapes but \n, \" and \\. */
static size_t read_string(const char *at, const char *key, char *text, size_t size)
{
	const char *value = find_value(at, key);
	size_t n = 0;

	assert_non_null(value);
	assert_int_equal(*value, '"');
	for (value++; *value != '"'; value++) {
		assert_true(n + 1 < size);
		if (*value == '\\') {
			value++;
			assert_non_null(strchr("n\"\\", *value));
		}
		text[n++] = value[-1] == '\\' && *value == 'n' ? '\n' : *value;
	}
	return n;
}

/* --- The tests -------------------------------------------------------------------------------- */

static void check_prompt(struct rig *rig, const char *at, struct tokens *tokens)
{
	char text[8192];
	double numbers[NUMBERS_MAX];
	size_t n_text = read_string(at, "prompt", text, sizeof(text));
	size_t n = read_numbers(at, "tokens", numbers);

	assert_int_equal(tokenizer_encode(rig->tokenizer, text, n_text, true, tokens), 0);
	assert_int_equal(tokens->n, n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(tokens->ids[i], (int)numbers[i]);
}

/* Computes the next of the tokens, BATCH at most. Returns how many. */
static uint32_t run_batch(struct rig *rig, const struct tokens *tokens)
{
	uint32_t done = rig->store.n_tokens;
	uint32_t n = tokens->n - done < BATCH ? (uint32_t)tokens->n - done : BATCH;

	forward_run(rig->forward, &rig->store, tokens->ids + done, n);
	return n;
}

static void check_logits(struct rig *rig, const char *at, const struct tokens *tokens, float *logits)
{
	uint32_t n_vocab = rig->model->n_vocab;
	double expected[NUMBERS_MAX];
	uint32_t n_last;
	size_t n;

	kvstore_clear(&rig->store);
	n_last = run_batch(rig, tokens);
	n = read_numbers(at, "argmax_first_4_positions", expected);
	for (uint32_t i = 0; i < n; i++) {
		forward_logits(rig->forward, i, 1, logits);
		assert_int_equal(sample_likeliest(logits, n_vocab), (int)expected[i]);
	}
	n = read_numbers(at, "max_logit_first_4_positions", expected);
	for (uint32_t i = 0; i < n; i++) {
		forward_logits(rig->forward, i, 1, logits);
		assert_true(fabs((double)logits[sample_likeliest(logits, n_vocab)] - expected[i]) < LOGIT_TOLERANCE);
	}
	while (rig->store.n_tokens < tokens->n)
		n_last = run_batch(rig, tokens);
	forward_logits(rig->forward, n_last - 1, 1, logits);
	n = read_numbers(at, "next_logits_first_8", expected);
	assert_int_equal(n, 8);
	for (size_t i = 0; i < n; i++)
		assert_true(fabs((double)logits[i] - expected[i]) < LOGIT_TOLERANCE);
}

/* Continues greedily as long as the reference's own choice is no near tie. */
static void check_greedy(struct rig *rig, const char *at, float *logits)
{
	double expected[NUMBERS_MAX];
	double margins[NUMBERS_MAX];
	size_t n = read_numbers(at, "greedy_tokens", expected);
	size_t checked = 0;

	assert_int_equal(read_numbers(at, "greedy_margins", margins), n);
	while (checked < n && margins[checked] > 2 * LOGIT_TOLERANCE) {
		uint32_t token = sample_likeliest(logits, rig->model->n_vocab);

		assert_int_equal(token, (int)expected[checked++]);
		forward_run(rig->forward, &rig->store, &token, 1);
		forward_logits(rig->forward, 0, 1, logits);
	}
	assert_true(checked > 8);
}

static void test_reference(void **state)
{
	struct rig rig;
	unsigned n_prompts = 0;
	_cleanup_free_ float *logits = NULL;

	rig_init(&rig);
	logits = calloc(rig.model->n_vocab, sizeof(*logits));
	assert_non_null(logits);
	for (const char *at = strstr(rig.json, "\"prompt\":"); at; at = strstr(at + 1, "\"prompt\":")) {
		struct tokens tokens = { 0 };

		check_prompt(&rig, at, &tokens);
		check_logits(&rig, at, &tokens, logits);
		check_greedy(&rig, at, logits);
		tokens_done(&tokens);
		n_prompts++;
	}
	assert_true(n_prompts >= 3);
	rig_done(&rig);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reference),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
