/* SPDX-License-Identifier: Apache-2.0 */
/* Special tokens first, then pieces, then merging. */
#include "client/worker/tokenizer.h"

#include "client/worker/bpe.h"
#include "client/worker/pretoken.h"
#include "client/worker/vocab.h"

#include <errno.h>
#include <string.h>

#define END_TOKENS_MAX 4

struct tokenizer {
	struct vocab *vocab;
	enum pretoken_rule rule;
	uint32_t first_token; /* VOCAB_NONE: the model wants none */
	uint32_t end_tokens[END_TOKENS_MAX];
	unsigned n_end_tokens;
};

int tokens_push(struct tokens *tokens, uint32_t id)
{
	if (tokens->n == tokens->capacity) {
		size_t capacity = tokens->capacity ? 2 * tokens->capacity : 256;
		uint32_t *ids = realloc(tokens->ids, capacity * sizeof(ids[0]));

		if (!ids)
			return -ENOMEM;
		tokens->ids = ids;
		tokens->capacity = capacity;
	}
	tokens->ids[tokens->n++] = id;
	return 0;
}

/* --- Loading ---------------------------------------------------------------------------------- */

static int read_rule(struct tokenizer *tokenizer, const struct gguf *gguf, struct fault *fault)
{
	struct gguf_string name;
	int r = gguf_get_string(gguf, "tokenizer.ggml.pre", &name, fault);

	if (r < 0)
		return r;
	tokenizer->rule = PRETOKEN_GPT2;
	if (r > 0 || gguf_string_is(name, "gpt-2") || gguf_string_is(name, "default"))
		return 0;
	if (!gguf_string_is(name, "smollm"))
		return fault_set(fault, -ENOTSUP,
				 "the model's pre-tokenizer is not one of gpt-2, smollm, default");
	tokenizer->rule = PRETOKEN_SMOLLM;
	return 0;
}

/* The token that a key names; VOCAB_NONE where the file lacks the key. */
static int read_token(const struct tokenizer *tokenizer, const struct gguf *gguf, const char *key,
		      uint32_t *ret_token, struct fault *fault)
{
	uint64_t value = VOCAB_NONE;
	int r = gguf_get_u64(gguf, key, &value, fault);

	if (r < 0)
		return r;
	if (r == 0 && value >= vocab_size(tokenizer->vocab))
		return fault_set(fault, -EBADMSG, "%s is not a token of the vocabulary", key);
	*ret_token = (uint32_t)value;
	return 0;
}

static int read_end_tokens(struct tokenizer *tokenizer, const struct gguf *gguf, struct fault *fault)
{
	static const char *const keys[] = { "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		uint32_t token = VOCAB_NONE;
		int r = read_token(tokenizer, gguf, keys[i], &token, fault);

		if (r < 0)
			return r;
		if (token != VOCAB_NONE)
			tokenizer->end_tokens[tokenizer->n_end_tokens++] = token;
	}
	return 0;
}

static int read_first_token(struct tokenizer *tokenizer, const struct gguf *gguf, struct fault *fault)
{
	bool wanted = false;
	int r = gguf_get_bool(gguf, "tokenizer.ggml.add_bos_token", &wanted, fault);

	tokenizer->first_token = VOCAB_NONE;
	if (r < 0 || !wanted)
		return r < 0 ? r : 0;
	return read_token(tokenizer, gguf, "tokenizer.ggml.bos_token_id", &tokenizer->first_token, fault);
}

int tokenizer_new(const struct gguf *gguf, struct tokenizer **ret_tokenizer, struct fault *fault)
{
	_cleanup_(tokenizer_freep) struct tokenizer *tokenizer = calloc(1, sizeof(*tokenizer));
	int r;

	if (!tokenizer)
		return fault_set(fault, -ENOMEM, "no memory");
	r = vocab_new(gguf, &tokenizer->vocab, fault);
	if (r == 0)
		r = read_rule(tokenizer, gguf, fault);
	if (r == 0)
		r = read_end_tokens(tokenizer, gguf, fault);
	if (r == 0)
		r = read_first_token(tokenizer, gguf, fault);
	if (r < 0)
		return r;
	*ret_tokenizer = take_ptr(tokenizer);
	return 0;
}

struct tokenizer *tokenizer_free(struct tokenizer *tokenizer)
{
	if (!tokenizer)
		return NULL;
	(void)vocab_free(tokenizer->vocab);
	free(tokenizer);
	return NULL;
}

uint32_t tokenizer_size(const struct tokenizer *tokenizer)
{
	return vocab_size(tokenizer->vocab);
}

/* --- Encoding --------------------------------------------------------------------------------- */

static int emit_token(void *context, uint32_t token)
{
	return tokens_push(context, token);
}

static int encode_plain(const struct tokenizer *tokenizer, struct bpe *bpe, const uint8_t *text,
			size_t n, struct tokens *tokens)
{
	struct pretoken pretoken;
	const uint8_t *piece;
	size_t length;

	pretoken_init(&pretoken, tokenizer->rule, text, n);
	while (pretoken_next(&pretoken, &piece, &length)) {
		int r = bpe_encode(bpe, piece, length, emit_token, tokens);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Bytes up to the next special token, which is *ret_token of *ret_length bytes, or to the end. */
static size_t plain_length(const struct tokenizer *tokenizer, const uint8_t *text, size_t n,
			   uint32_t *ret_token, size_t *ret_length)
{
	size_t plain = 0;

	for (; plain < n; plain++) {
		*ret_token = vocab_match_special(tokenizer->vocab, text + plain, n - plain, ret_length);
		if (*ret_token != VOCAB_NONE)
			return plain;
	}
	*ret_token = VOCAB_NONE;
	*ret_length = 0;
	return plain;
}

static int encode_all(const struct tokenizer *tokenizer, struct bpe *bpe, const uint8_t *text, size_t n,
		      struct tokens *tokens)
{
	while (n > 0) {
		uint32_t special;
		size_t special_length;
		size_t plain = plain_length(tokenizer, text, n, &special, &special_length);
		int r = encode_plain(tokenizer, bpe, text, plain, tokens);

		if (r == 0 && special != VOCAB_NONE)
			r = tokens_push(tokens, special);
		if (r < 0)
			return r;
		text += plain + special_length;
		n -= plain + special_length;
	}
	return 0;
}

int tokenizer_encode(const struct tokenizer *tokenizer, const void *text, size_t n, bool first,
		     struct tokens *tokens)
{
	_cleanup_(bpe_done) struct bpe bpe;
	int r = 0;

	bpe_init(&bpe, tokenizer->vocab);
	if (n > TOKENIZER_TEXT_BYTES_MAX)
		return -E2BIG;
	if (first && tokenizer->first_token != VOCAB_NONE)
		r = tokens_push(tokens, tokenizer->first_token);
	return r < 0 ? r : encode_all(tokenizer, &bpe, text, n, tokens);
}

/* --- Asking ----------------------------------------------------------------------------------- */

const uint8_t *tokenizer_bytes(const struct tokenizer *tokenizer, uint32_t token, size_t *ret_n)
{
	return vocab_bytes(tokenizer->vocab, token, ret_n);
}

bool tokenizer_find_special(const struct tokenizer *tokenizer, const char *name, uint32_t *ret_token)
{
	size_t length;
	uint32_t token = vocab_match_special(tokenizer->vocab, name, strlen(name), &length);

	if (token == VOCAB_NONE || length != strlen(name))
		return false;
	*ret_token = token;
	return true;
}

bool tokenizer_is_end(const struct tokenizer *tokenizer, uint32_t token)
{
	for (unsigned i = 0; i < tokenizer->n_end_tokens; i++)
		if (tokenizer->end_tokens[i] == token)
			return true;
	return false;
}
