/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two open-addressing tables at most half full: string -> token, and pair of tokens -> merge. Both
 * hold numbers only; strings are compared in the file.
 */
#include "client/worker/vocab.h"

#include "base/contract.h"
#include "client/worker/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

/* Values of tokenizer.ggml.token_type. */
enum token_type {
	TOKEN_NORMAL = 1,
	TOKEN_CONTROL = 3,
	TOKEN_USER_DEFINED = 4,
};

struct merge {
	uint32_t left; /* VOCAB_NONE: free */
	uint32_t right;
	uint32_t merged;
	uint32_t rank;
};

struct vocab {
	uint32_t n_tokens;
	struct gguf_string *strings;
	uint32_t *special; /* tokens recognised before splitting */
	uint32_t n_special;
	bool special_first[256]; /* bytes that one of them begins with */

	uint32_t *tokens_by_string;
	uint64_t string_mask;
	struct merge *merges;
	uint64_t merge_mask;

	uint8_t *bytes; /* of all tokens, one after the other */
	uint32_t *bytes_begin; /* n_tokens + 1 */
	uint32_t byte_tokens[256];
};

/* A power of two with room for n at most half full. */
static uint64_t table_size(uint64_t n)
{
	uint64_t size = 16;

	while (size < 2 * n)
		size *= 2;
	return size;
}

/* --- Bytes and their printable characters ----------------------------------------------------- */

static bool byte_prints(unsigned byte)
{
	return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* The code point that stands for each byte. */
static void fill_byte_codes(uint32_t codes[256])
{
	uint32_t next = 0x100;

	for (unsigned byte = 0; byte < 256; byte++)
		codes[byte] = byte_prints(byte) ? byte : next++;
}

/* The other way round; the codes end at 0x143. */
static void fill_code_bytes(int16_t bytes[0x200])
{
	uint32_t codes[256];

	memset(bytes, 0xff, 0x200 * sizeof(bytes[0]));
	fill_byte_codes(codes);
	for (unsigned byte = 0; byte < 256; byte++)
		bytes[codes[byte]] = (int16_t)byte;
}

/* Writes the bytes of one token string, never more than its length. Returns how many. */
static size_t expand_token(struct gguf_string string, const int16_t code_bytes[0x200], uint8_t *out)
{
	const uint8_t *at = (const uint8_t *)string.bytes;
	size_t written = 0;

	for (size_t i = 0; i < string.length;) {
		size_t length;
		uint32_t code = utf8_decode(at + i, string.length - i, &length);

		if (code < 0x200 && code_bytes[code] >= 0) {
			out[written++] = (uint8_t)code_bytes[code];
		} else {
			memcpy(out + written, at + i, length);
			written += length;
		}
		i += length;
	}
	return written;
}

/* --- Strings ---------------------------------------------------------------------------------- */

static bool string_equals(struct gguf_string string, const void *bytes, size_t length)
{
	return string.length == length && memcmp(string.bytes, bytes, length) == 0;
}

/* The place of this string in the table: its own, or the free one where it would go. */
static uint32_t *string_place(const struct vocab *vocab, const void *bytes, size_t length)
{
	uint64_t i = XXH3_64bits(bytes, length);

	for (;; i++) {
		uint32_t *place = &vocab->tokens_by_string[i & vocab->string_mask];

		if (*place == VOCAB_NONE || string_equals(vocab->strings[*place], bytes, length))
			return place;
	}
}

uint32_t vocab_find(const struct vocab *vocab, const void *string, size_t length)
{
	return *string_place(vocab, string, length);
}

static int load_strings(struct vocab *vocab, struct gguf_array array, struct fault *fault)
{
	uint64_t size = table_size(array.count);

	vocab->n_tokens = (uint32_t)array.count;
	vocab->strings = calloc(array.count, sizeof(vocab->strings[0]));
	vocab->tokens_by_string = malloc(size * sizeof(vocab->tokens_by_string[0]));
	if (!vocab->strings || !vocab->tokens_by_string)
		return fault_set(fault, -ENOMEM, "no memory for the vocabulary");
	memset(vocab->tokens_by_string, 0xff, size * sizeof(vocab->tokens_by_string[0]));
	vocab->string_mask = size - 1;
	for (uint32_t token = 0; token < vocab->n_tokens; token++) {
		struct gguf_string string = gguf_array_string_next(&array);
		uint32_t *place;

		vocab->strings[token] = string;
		place = string_place(vocab, string.bytes, string.length);
		if (*place == VOCAB_NONE)
			*place = token;
	}
	return 0;
}

static int load_bytes(struct vocab *vocab, const uint8_t *types, struct fault *fault)
{
	int16_t code_bytes[0x200];
	uint64_t total = 1;

	for (uint32_t token = 0; token < vocab->n_tokens; token++)
		total += vocab->strings[token].length;
	vocab->bytes_begin = calloc((size_t)vocab->n_tokens + 1, sizeof(vocab->bytes_begin[0]));
	vocab->bytes = total < UINT32_MAX ? malloc(total) : NULL;
	if (!vocab->bytes_begin || !vocab->bytes)
		return fault_set(fault, -ENOMEM, "no memory for the vocabulary's bytes");
	fill_code_bytes(code_bytes);
	for (uint32_t token = 0; token < vocab->n_tokens; token++) {
		struct gguf_string string = vocab->strings[token];
		uint32_t begin = vocab->bytes_begin[token];
		size_t length = string.length;

		if (types[token] == TOKEN_USER_DEFINED)
			memcpy(vocab->bytes + begin, string.bytes, length);
		else if (types[token] == TOKEN_CONTROL)
			length = 0;
		else
			length = expand_token(string, code_bytes, vocab->bytes + begin);
		vocab->bytes_begin[token + 1] = begin + (uint32_t)length;
	}
	return 0;
}

static void find_byte_tokens(struct vocab *vocab)
{
	uint32_t codes[256];

	fill_byte_codes(codes);
	for (unsigned byte = 0; byte < 256; byte++) {
		uint32_t code = codes[byte];
		char two[2] = { (char)(0xc0 | code >> 6), (char)(0x80 | (code & 0x3f)) };
		char one = (char)code;

		vocab->byte_tokens[byte] = code < 0x80 ? vocab_find(vocab, &one, 1) :
							 vocab_find(vocab, two, 2);
	}
}

/* --- Special tokens --------------------------------------------------------------------------- */

static int load_special(struct vocab *vocab, const uint8_t *types, struct fault *fault)
{
	vocab->special = calloc(vocab->n_tokens, sizeof(vocab->special[0]));
	if (!vocab->special)
		return fault_set(fault, -ENOMEM, "no memory for the special tokens");
	for (uint32_t token = 0; token < vocab->n_tokens; token++) {
		struct gguf_string string = vocab->strings[token];

		if ((types[token] != TOKEN_CONTROL && types[token] != TOKEN_USER_DEFINED) ||
		    string.length == 0)
			continue;
		vocab->special[vocab->n_special++] = token;
		vocab->special_first[(uint8_t)string.bytes[0]] = true;
	}
	return 0;
}

uint32_t vocab_match_special(const struct vocab *vocab, const void *text, size_t n,
			     size_t *ret_length)
{
	uint32_t best = VOCAB_NONE;

	*ret_length = 0;
	if (n == 0 || !vocab->special_first[*(const uint8_t *)text])
		return best;
	for (uint32_t i = 0; i < vocab->n_special; i++) {
		struct gguf_string string = vocab->strings[vocab->special[i]];

		if (string.length > *ret_length && string.length <= n &&
		    memcmp(string.bytes, text, string.length) == 0) {
			best = vocab->special[i];
			*ret_length = string.length;
		}
	}
	return best;
}

/* --- Merges ----------------------------------------------------------------------------------- */

static struct merge *merge_place(const struct vocab *vocab, uint32_t left, uint32_t right)
{
	uint32_t pair[2] = { left, right };
	uint64_t i = XXH3_64bits(pair, sizeof(pair));

	for (;; i++) {
		struct merge *place = &vocab->merges[i & vocab->merge_mask];

		if (place->left == VOCAB_NONE || (place->left == left && place->right == right))
			return place;
	}
}

bool vocab_merge(const struct vocab *vocab, uint32_t left, uint32_t right, uint32_t *ret_merged,
		 uint32_t *ret_rank)
{
	const struct merge *merge = merge_place(vocab, left, right);

	if (merge->left == VOCAB_NONE)
		return false;
	*ret_merged = merge->merged;
	*ret_rank = merge->rank;
	return true;
}

/* "left right"; a token string holds no space, which stands as another character. */
static int parse_merge(const struct vocab *vocab, struct gguf_string text, uint32_t rank,
		       struct merge *ret_merge, struct fault *fault)
{
	const char *space = memchr(text.bytes, ' ', text.length);
	_cleanup_free_ char *joined = malloc(text.length + 1);
	size_t left_length;
	struct merge merge = { .rank = rank };

	if (!joined)
		return fault_set(fault, -ENOMEM, "no memory for a merge");
	if (!space)
		return fault_set(fault, -EBADMSG, "merge %" PRIu32 " of the vocabulary has no space", rank);
	left_length = (size_t)(space - text.bytes);
	memcpy(joined, text.bytes, left_length);
	memcpy(joined + left_length, space + 1, text.length - left_length - 1);
	merge.left = vocab_find(vocab, joined, left_length);
	merge.right = vocab_find(vocab, space + 1, text.length - left_length - 1);
	merge.merged = vocab_find(vocab, joined, text.length - 1);
	if (merge.left == VOCAB_NONE || merge.right == VOCAB_NONE || merge.merged == VOCAB_NONE)
		return fault_set(fault, -EBADMSG,
				 "merge %" PRIu32 " names a token that the vocabulary lacks", rank);
	*ret_merge = merge;
	return 0;
}

static int load_merges(struct vocab *vocab, struct gguf_array array, struct fault *fault)
{
	uint64_t size = table_size(array.count);
	uint32_t n_merges = (uint32_t)array.count;

	vocab->merges = malloc(size * sizeof(vocab->merges[0]));
	if (!vocab->merges)
		return fault_set(fault, -ENOMEM, "no memory for the merges");
	memset(vocab->merges, 0xff, size * sizeof(vocab->merges[0]));
	vocab->merge_mask = size - 1;
	for (uint32_t rank = 0; rank < n_merges; rank++) {
		struct merge merge;
		struct merge *place;
		int r = parse_merge(vocab, gguf_array_string_next(&array), rank, &merge, fault);

		if (r < 0)
			return r;
		place = merge_place(vocab, merge.left, merge.right);
		if (place->left == VOCAB_NONE)
			*place = merge;
	}
	return 0;
}

/* --- Loading ---------------------------------------------------------------------------------- */

static int missing(struct fault *fault, const char *key)
{
	return fault_set(fault, -EBADMSG, "the model file lacks the key %s", key);
}

static int check_model(const struct gguf *gguf, struct fault *fault)
{
	struct gguf_string model;
	int r = gguf_get_string(gguf, "tokenizer.ggml.model", &model, fault);

	if (r < 0)
		return r;
	if (r > 0)
		return missing(fault, "tokenizer.ggml.model");
	if (!gguf_string_is(model, "gpt2"))
		return fault_set(fault, -ENOTSUP,
				 "the model's tokenizer is not byte-level BPE (tokenizer.ggml.model gpt2)");
	return 0;
}

static int load_types(const struct gguf *gguf, uint64_t n_tokens, uint8_t **ret_types,
		      struct fault *fault)
{
	_cleanup_free_ uint8_t *types = malloc(n_tokens);
	struct gguf_array array = { 0 };
	int r = gguf_get_array(gguf, "tokenizer.ggml.token_type", GGUF_I32, &array, fault);

	if (r < 0)
		return r;
	if (!types)
		return fault_set(fault, -ENOMEM, "no memory for the token types");
	if (r == 0 && array.count != n_tokens)
		return fault_set(fault, -EBADMSG, "tokenizer.ggml.token_type has %" PRIu64
				 " entries for %" PRIu64 " tokens", array.count, n_tokens);
	for (uint64_t i = 0; i < n_tokens; i++)
		types[i] = r == 0 ? (uint8_t)gguf_array_u32(&array, i) : TOKEN_NORMAL;
	*ret_types = take_ptr(types);
	return 0;
}

static int load(struct vocab *vocab, const struct gguf *gguf, struct fault *fault)
{
	_cleanup_free_ uint8_t *types = NULL;
	struct gguf_array tokens;
	struct gguf_array merges;
	int r = gguf_get_array(gguf, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, fault);

	if (r == 0)
		r = gguf_get_array(gguf, "tokenizer.ggml.merges", GGUF_STRING, &merges, fault);
	if (r > 0)
		return missing(fault, "tokenizer.ggml.tokens or tokenizer.ggml.merges");
	if (r == 0 && (tokens.count == 0 || tokens.count > VOCAB_TOKENS_MAX))
		return fault_set(fault, -EBADMSG, "the vocabulary has %" PRIu64 " tokens (1 to %u)",
				 tokens.count, VOCAB_TOKENS_MAX);
	if (r == 0)
		r = load_types(gguf, tokens.count, &types, fault);
	if (r == 0)
		r = load_strings(vocab, tokens, fault);
	if (r == 0)
		r = load_bytes(vocab, types, fault);
	if (r == 0)
		r = load_special(vocab, types, fault);
	if (r == 0)
		r = load_merges(vocab, merges, fault);
	if (r == 0)
		find_byte_tokens(vocab);
	return r;
}

int vocab_new(const struct gguf *gguf, struct vocab **ret_vocab, struct fault *fault)
{
	_cleanup_(vocab_freep) struct vocab *vocab = calloc(1, sizeof(*vocab));
	int r;

	if (!vocab)
		return fault_set(fault, -ENOMEM, "no memory");
	r = check_model(gguf, fault);
	if (r == 0)
		r = load(vocab, gguf, fault);
	if (r < 0)
		return r;
	*ret_vocab = take_ptr(vocab);
	return 0;
}

struct vocab *vocab_free(struct vocab *vocab)
{
	if (!vocab)
		return NULL;
	free(vocab->strings);
	free(vocab->special);
	free(vocab->tokens_by_string);
	free(vocab->merges);
	free(vocab->bytes);
	free(vocab->bytes_begin);
	free(vocab);
	return NULL;
}

uint32_t vocab_size(const struct vocab *vocab)
{
	return vocab->n_tokens;
}

uint32_t vocab_byte(const struct vocab *vocab, uint8_t byte)
{
	return vocab->byte_tokens[byte];
}

const uint8_t *vocab_bytes(const struct vocab *vocab, uint32_t token, size_t *ret_n)
{
	kvp_assert(token < vocab->n_tokens);
	*ret_n = vocab->bytes_begin[token + 1] - vocab->bytes_begin[token];
	return vocab->bytes + vocab->bytes_begin[token];
}
