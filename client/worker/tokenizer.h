/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text to tokens and back, as the model file says. Encoding takes out special tokens, splits the
 * rest into pieces, and merges the bytes of each piece, lowest rank first, leftmost among equals.
 *
 * A tokenizer does not change after it was made; threads may share it.
 */
#pragma once

#include "base/cleanup.h"
#include "client/worker/gguf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOKENIZER_TEXT_BYTES_MAX (UINT64_C(1) << 26)

struct tokenizer;

/* Tokens on the heap. */
struct tokens {
	uint32_t *ids;
	size_t n;
	size_t capacity;
};

static inline void tokens_done(struct tokens *tokens)
{
	free(tokens->ids);
	*tokens = (struct tokens){ 0 };
}

/* Appends one token. Results: 0, -ENOMEM. */
int tokens_push(struct tokens *tokens, uint32_t id);

/*
 * Reads the tokenizer of a model file, which must outlive it. The pre-tokenizers gpt-2, smollm and
 * default (or none named; both mean gpt-2) are known. Results: 0 and *ret_tokenizer; -ENOTSUP,
 * -EBADMSG, -ENOMEM.
 */
int tokenizer_new(const struct gguf *gguf, struct tokenizer **ret_tokenizer, struct fault *fault);

struct tokenizer *tokenizer_free(struct tokenizer *tokenizer);

DEFINE_CLEANUP(struct tokenizer *, tokenizer_free);

uint32_t tokenizer_size(const struct tokenizer *tokenizer);

/*
 * Appends the tokens of text[0..n) to *tokens. A byte for which the vocabulary has no token is left
 * out. The token that the model wants in front of every text is added when `first` is set. Results:
 * 0; -E2BIG over TOKENIZER_TEXT_BYTES_MAX; -ENOMEM. On failure *tokens may hold part of the text.
 */
int tokenizer_encode(const struct tokenizer *tokenizer, const void *text, size_t n, bool first,
		     struct tokens *tokens);

/* The bytes that a token stands for; not always whole characters. */
const uint8_t *tokenizer_bytes(const struct tokenizer *tokenizer, uint32_t token, size_t *ret_n);

/*
 * The special token of this name, such as "<|im_start|>". Returns false where the model has none.
 */
bool tokenizer_find_special(const struct tokenizer *tokenizer, const char *name, uint32_t *ret_token);

/* Whether the model ends its text with this token. */
bool tokenizer_is_end(const struct tokenizer *tokenizer, uint32_t token);
