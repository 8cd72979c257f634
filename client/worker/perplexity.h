/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Perplexity of a text under the model, with K/V as the codec keeps them.
 *
 * The text is cut into windows of `window` tokens, each a sequence of its own. Scored are the
 * tokens that are predicted from a position behind the first block, so that every prediction
 * attends to at least one finished block: positions block_tokens + 1 to the window's end. A last
 * window too short for one is left out. Perplexity is exp of the mean negative log-likelihood of
 * the scored tokens.
 */
#pragma once

#include "client/worker/session.h"

#include <stddef.h>
#include <stdint.h>

struct perplexity {
	double value;
	uint64_t n_scored;
	uint32_t n_windows;
};

/*
 * Runs tokens[0..n) through the session, whose capacity must hold a window. Results: 0 and *ret;
 * -ENODATA when no token could be scored; -ENOMEM.
 */
int perplexity_run(struct session *session, uint32_t n_vocab, const uint32_t *tokens, size_t n,
		   uint32_t window, struct perplexity *ret);
