/* SPDX-License-Identifier: Apache-2.0 */
/* A file is read whole, cut into records where lines of "---" stand, and each record is encoded. */
#include "client/worker/input.h"

#include "base/cleanup.h"
#include "base/units.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct text {
	char *bytes;
	size_t n;
};

static void close_stream(FILE **stream)
{
	if (*stream && *stream != stdin)
		(void)fclose(*stream);
}

/* The whole file; one newline at its very end is an editor's, not the text's. */
static int read_file(const char *path, struct text *ret, struct fault *fault)
{
	_cleanup_(close_stream) FILE *stream = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	_cleanup_free_ char *bytes = NULL;
	size_t capacity = 0;
	size_t n = 0;

	if (!stream)
		return fault_set(fault, -errno, "cannot open %s: %s", path, strerror(errno));
	do {
		if (n == capacity) {
			char *more = realloc(bytes, capacity = 2 * capacity + 65536);

			if (!more)
				return fault_set(fault, -ENOMEM, "no memory for %s", path);
			bytes = more;
		}
		n += fread(bytes + n, 1, capacity - n, stream);
	} while (!feof(stream) && !ferror(stream) && n <= TOKENIZER_TEXT_BYTES_MAX);
	if (ferror(stream))
		return fault_set(fault, -EIO, "cannot read %s", path);
	if (n > 0 && bytes[n - 1] == '\n')
		n--;
	*ret = (struct text){ take_ptr(bytes), n };
	return 0;
}

static int encode(const struct tokenizer *tokenizer, const char *text, size_t n, struct tokens *tokens,
		  struct fault *fault)
{
	int r = tokenizer_encode(tokenizer, text, n, tokens->n == 0, tokens);

	if (r == -E2BIG)
		return fault_set(fault, r, "the text has more than %d MiB",
				 (int)(TOKENIZER_TEXT_BYTES_MAX >> 20));
	return r < 0 ? fault_set(fault, r, "no memory for the tokens") : 0;
}

#define TEXT(literal) (literal), sizeof(literal) - 1

static int encode_chat(const struct options *options, const struct tokenizer *tokenizer, const char *text,
		       size_t n, struct tokens *tokens, struct fault *fault)
{
	const struct {
		const char *bytes;
		size_t n;
	} parts[] = {
		{ TEXT("<|im_start|>system\n") },
		{ options->system, strlen(options->system) },
		{ TEXT("<|im_end|>\n<|im_start|>user\n") },
		{ text, n },
		{ TEXT("<|im_end|>\n<|im_start|>assistant\n") },
	};
	_cleanup_free_ char *whole = malloc(n + strlen(options->system) + 128);
	uint32_t unused;
	size_t length = 0;

	if (!tokenizer_find_special(tokenizer, "<|im_start|>", &unused))
		return fault_set(fault, -EINVAL, "--chat: the model does not know ChatML");
	if (!whole)
		return fault_set(fault, -ENOMEM, "no memory for the prompt");
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		memcpy(whole + length, parts[i].bytes, parts[i].n);
		length += parts[i].n;
	}
	return encode(tokenizer, whole, length, tokens, fault);
}

/* Encodes one text as the next prompt. */
static int add_prompt(const struct options *options, const struct tokenizer *tokenizer, const char *text,
		      size_t n, struct input *input, struct fault *fault)
{
	struct tokens *tokens;
	int r;

	if (input->n == INPUT_TEXTS_MAX)
		return fault_set(fault, -E2BIG, "more than %d prompts", INPUT_TEXTS_MAX);
	tokens = &input->prompts[input->n++];
	r = options->chat ? encode_chat(options, tokenizer, text, n, tokens, fault) :
			    encode(tokenizer, text, n, tokens, fault);
	if (r < 0)
		return r;
	if (tokens->n == 0)
		return fault_set(fault, -EINVAL, "text %zu is empty", input->n);
	if (tokens->n > input->n_longest)
		input->n_longest = tokens->n;
	return 0;
}

/* Bytes up to the next line of "---"; *ret_skip is the length of that line with its newlines. */
static size_t record_length(const char *text, size_t n, size_t *ret_skip)
{
	static const char separator[] = "\n---\n";
	const char *found = memmem(text, n, separator, sizeof(separator) - 1);

	*ret_skip = found ? sizeof(separator) - 1 : 0;
	return found ? (size_t)(found - text) : n;
}

static int add_records(const struct options *options, const struct tokenizer *tokenizer,
		       const struct text *text, struct input *input, struct fault *fault)
{
	size_t at = 0;

	do {
		size_t skip;
		size_t length = record_length(text->bytes + at, text->n - at, &skip);
		int r = add_prompt(options, tokenizer, text->bytes + at, length, input, fault);

		if (r < 0)
			return r;
		at += length + skip;
	} while (at < text->n);
	return 0;
}

static int read_all(const struct options *options, const struct tokenizer *tokenizer, struct input *input,
		    struct fault *fault)
{
	const char *path = options->prompts_file ? options->prompts_file :
			   options->perplexity_file ? options->perplexity_file : options->prompt_file;
	struct text text = { 0 };
	_cleanup_free_ char *bytes = NULL;
	int r;

	if (options->prompt)
		return add_prompt(options, tokenizer, options->prompt, strlen(options->prompt), input, fault);
	r = read_file(path, &text, fault);
	bytes = text.bytes;
	if (r < 0)
		return r;
	if (options->prompts_file)
		return add_records(options, tokenizer, &text, input, fault);
	return add_prompt(options, tokenizer, text.bytes, text.n, input, fault);
}

/* Numbers with spaces between them, up to the end of a line, which *at is moved behind. */
static int parse_follow(char **at, uint32_t n_vocab, struct tokens *tokens, struct fault *fault)
{
	char *line = strsep(at, "\n");
	char *word;

	while ((word = strsep(&line, " "))) {
		uint64_t token;

		if (units_parse_u64(word, &token) < 0 || token >= n_vocab)
			return fault_set(fault, -EINVAL, "--follow: \"%.20s\" is not a token", word);
		if (tokens_push(tokens, (uint32_t)token) < 0)
			return fault_set(fault, -ENOMEM, "no memory for the tokens");
	}
	return 0;
}

static int read_follows(const char *path, uint32_t n_vocab, struct input *input, struct fault *fault)
{
	struct text text = { 0 };
	_cleanup_free_ char *bytes = NULL;
	char *at;
	int r = read_file(path, &text, fault);

	if (r < 0)
		return r;
	bytes = strndup(text.bytes, text.n);
	free(text.bytes);
	if (!bytes)
		return fault_set(fault, -ENOMEM, "no memory for %s", path);
	at = bytes;
	for (size_t i = 0; i < input->n; i++) {
		if (!at)
			return fault_set(fault, -EINVAL, "--follow: %zu lines for %zu prompts", i, input->n);
		r = parse_follow(&at, n_vocab, &input->follows[i], fault);
		if (r < 0)
			return r;
		if (input->follows[i].n > input->n_follow_longest)
			input->n_follow_longest = input->follows[i].n;
	}
	return 0;
}

int input_read(const struct options *options, const struct tokenizer *tokenizer, struct input *ret,
	       struct fault *fault)
{
	_cleanup_(input_done) struct input input = { 0 };
	int r;

	input.prompts = calloc(INPUT_TEXTS_MAX, sizeof(input.prompts[0]));
	input.follows = calloc(INPUT_TEXTS_MAX, sizeof(input.follows[0]));
	if (!input.prompts || !input.follows)
		return fault_set(fault, -ENOMEM, "no memory for the prompts");
	r = read_all(options, tokenizer, &input, fault);
	if (r == 0 && options->follow_file)
		r = read_follows(options->follow_file, tokenizer_size(tokenizer), &input, fault);
	if (r < 0)
		return r;
	*ret = input;
	input = (struct input){ 0 };
	return 0;
}

void input_done(struct input *input)
{
	for (size_t i = 0; i < input->n; i++) {
		tokens_done(&input->prompts[i]);
		tokens_done(&input->follows[i]);
	}
	free(input->prompts);
	free(input->follows);
	*input = (struct input){ 0 };
}
