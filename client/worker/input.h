/* SPDX-License-Identifier: Apache-2.0 */
/* The texts that a run is about: one, or the records of a file. */
#pragma once

#include "client/worker/fault.h"
#include "client/worker/options.h"
#include "client/worker/tokenizer.h"

#include <stddef.h>

#define INPUT_TEXTS_MAX 4096

/* The tokens of each text, chat frame included, and of what is to be followed behind it. */
struct input {
	struct tokens *prompts;
	struct tokens *follows; /* as many; empty without --follow */
	size_t n;
	size_t n_longest; /* tokens of the longest prompt */
	size_t n_follow_longest;
};

/*
 * Reads and encodes what the options name. Results: 0 and *ret, for input_done(); -EINVAL for an
 * empty text or a chat frame that the model does not know, -E2BIG, errors of open(2) and read(2),
 * with the fault set; -ENOMEM.
 */
int input_read(const struct options *options, const struct tokenizer *tokenizer, struct input *ret,
	       struct fault *fault);

void input_done(struct input *input);
