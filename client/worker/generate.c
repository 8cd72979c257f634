/* SPDX-License-Identifier: Apache-2.0 */
/* Fetch, feed, then one token at a time. */
#include "client/worker/generate.h"

#include "base/contract.h"
#include "client/worker/clock.h"

#include <errno.h>

/* Logits are made for so many tokens of a followed text at a time. */
#define FOLLOW_ROWS 16

void generation_done(struct generation *generation)
{
	tokens_done(&generation->tokens);
	*generation = (struct generation){ 0 };
}

/* Takes the prompt in; afterwards *logits are those of its last token. */
static int run_prompt(struct session *session, const struct tokens *prompt, float *logits,
		      struct generation *generation)
{
	uint32_t n = (uint32_t)prompt->n;
	uint32_t done;
	int batch = 0;
	double begin_ms;

	session_begin(session);
	done = session_fetch(session, prompt->ids, n);
	generation->n_prompt = n;
	generation->n_cached = done;
	generation->n_computed = n - done;
	begin_ms = clock_ms();
	for (; done < n; done += (uint32_t)batch) {
		batch = session_feed(session, prompt->ids + done, n - done);
		if (batch < 0)
			return batch;
	}
	generation->prompt_tokens_per_s = generation->n_computed * 1e3 / (clock_ms() - begin_ms);
	session_logits(session, (uint32_t)batch - 1, 1, logits);
	return 0;
}

static int emit(const struct tokenizer *tokenizer, struct generation *generation, struct textout *out,
		uint32_t token)
{
	size_t n;
	const uint8_t *bytes = tokenizer_bytes(tokenizer, token, &n);
	int r = tokens_push(&generation->tokens, token);

	return r < 0 ? r : textout_push(out, bytes, n);
}

/* Chooses, emits and feeds tokens until the end or the limit. */
static int run_continuation(struct session *session, const struct tokenizer *tokenizer,
			    struct sampler *sampler, const struct generate_options *options,
			    float *logits, struct textout *out, struct generation *generation, double begin_ms)
{
	uint32_t n_vocab = tokenizer_size(tokenizer);
	double first_ms = 0.0;

	while (generation->tokens.n < options->n_tokens_max) {
		uint32_t token = sample_next(sampler, logits, n_vocab);
		int r;

		if (first_ms == 0.0) {
			first_ms = clock_ms();
			generation->first_token_ms = first_ms - begin_ms;
		}
		generation->ended = !options->ignore_end && tokenizer_is_end(tokenizer, token);
		if (generation->ended)
			break;
		r = emit(tokenizer, generation, out, token);
		if (r < 0)
			return r;
		if (generation->tokens.n == options->n_tokens_max)
			break;
		r = session_feed(session, &token, 1);
		if (r < 0)
			return r;
		session_logits(session, 0, 1, logits);
	}
	if (generation->tokens.n > 1)
		generation->tokens_per_s =
			(double)(generation->tokens.n - 1) * 1e3 / (clock_ms() - first_ms);
	return textout_finish(out);
}

int generate_run(struct session *session, const struct tokenizer *tokenizer, struct sampler *sampler,
		 const struct generate_options *options, const struct tokens *prompt, struct textout *out,
		 struct generation *ret)
{
	_cleanup_free_ float *logits = malloc(tokenizer_size(tokenizer) * sizeof(*logits));
	_cleanup_(generation_done) struct generation generation = { 0 };
	double begin_ms = clock_ms();
	int r;

	kvp_assert(prompt->n > 0);
	if (!logits)
		return -ENOMEM;
	r = run_prompt(session, prompt, logits, &generation);
	if (r < 0)
		return r;
	r = run_continuation(session, tokenizer, sampler, options, logits, out, &generation, begin_ms);
	if (r < 0)
		return r;
	*ret = generation;
	generation = (struct generation){ 0 };
	return 0;
}

/* The choices behind the tokens [0, n) of the batch just fed. */
static int choose_batch(struct session *session, uint32_t n_vocab, uint32_t n, float *logits,
			struct tokens *choices)
{
	session_logits(session, 0, n, logits);
	for (uint32_t i = 0; i < n; i++) {
		int r = tokens_push(choices, sample_likeliest(logits + (size_t)i * n_vocab, n_vocab));

		if (r < 0)
			return r;
	}
	return 0;
}

int generate_follow(struct session *session, uint32_t n_vocab, const struct tokens *prompt,
		    const struct tokens *text, struct generation *ret)
{
	_cleanup_free_ float *logits = malloc((size_t)FOLLOW_ROWS * n_vocab * sizeof(*logits));
	_cleanup_(generation_done) struct generation generation = { 0 };
	uint32_t n = text->n > 0 ? (uint32_t)text->n - 1 : 0; /* the last one is fed to nobody */
	uint32_t batch;
	int r;

	kvp_assert(prompt->n > 0);
	if (!logits)
		return -ENOMEM;
	r = run_prompt(session, prompt, logits, &generation);
	if (r < 0)
		return r;
	r = text->n > 0 ? tokens_push(&generation.tokens, sample_likeliest(logits, n_vocab)) : 0;
	for (uint32_t done = 0; done < n && r == 0; done += batch) {
		uint32_t rows = n - done < FOLLOW_ROWS ? n - done : FOLLOW_ROWS;

		r = session_feed(session, text->ids + done, rows);
		if (r < 0)
			return r;
		batch = (uint32_t)r;
		r = choose_batch(session, n_vocab, batch, logits, &generation.tokens);
	}
	if (r < 0)
		return r;
	*ret = generation;
	generation = (struct generation){ 0 };
	return 0;
}
