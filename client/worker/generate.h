/* SPDX-License-Identifier: Apache-2.0 */
/* A prompt and its continuation, with the times it took. */
#pragma once

#include "client/worker/sample.h"
#include "client/worker/session.h"
#include "client/worker/textout.h"
#include "client/worker/tokenizer.h"

#include <stdbool.h>
#include <stdint.h>

struct generation {
	uint32_t n_prompt;
	uint32_t n_cached;   /* of the prompt, taken from the cache */
	uint32_t n_computed; /* of the prompt */
	struct tokens tokens; /* the continuation, an end token not included */
	bool ended;          /* by an end token, not by the limit */
	double first_token_ms; /* from the prompt to the first token, look-up and fetch included */
	double prompt_tokens_per_s; /* of the computed ones, without look-up and fetch; stores included */
	double tokens_per_s;   /* of the tokens after the first; 0 with fewer than two */
};

struct generate_options {
	uint32_t n_tokens_max;
	bool ignore_end; /* an end token is a token like others */
};

/* Frees the tokens. A zeroed generation holds none. */
void generation_done(struct generation *generation);

/*
 * Runs prompt[0..n), n > 0, as a new sequence of the session, whose capacity must hold it and
 * n_tokens_max more. Text goes to `out` as it comes. Results: 0 and *ret, for generation_done();
 * -ENOMEM, -EIO.
 */
int generate_run(struct session *session, const struct tokenizer *tokenizer, struct sampler *sampler,
		 const struct generate_options *options, const struct tokens *prompt, struct textout *out,
		 struct generation *ret);

/*
 * Runs prompt[0..n) and then feeds `text` behind it, whatever the model would have said:
 * ret->tokens are the tokens that it would have chosen greedily, the first behind the prompt, each
 * other one behind the text so far. So there are as many as in `text`, and two runs over one text
 * can be compared token by token. The session's capacity must hold prompt and text. Results: 0 and
 * *ret, for generation_done(); -ENOMEM.
 */
int generate_follow(struct session *session, uint32_t n_vocab, const struct tokens *prompt,
		    const struct tokens *text, struct generation *ret);
