/* SPDX-License-Identifier: Apache-2.0 */
/* Text to pieces, pieces to tokens, tokens to bytes, bytes to whole characters. */
#include "client/worker/pretoken.h"
#include "client/worker/textout.h"
#include "client/worker/tokenizer.h"
#include "client/worker/utf8.h"

#include "tests/unit/test-worker-file.h"

#include <errno.h>

/* The pieces of a text with | between them. */
static void assert_pieces(enum pretoken_rule rule, const char *text, const char *expected)
{
	struct pretoken pretoken;
	const uint8_t *piece;
	size_t length;
	char joined[256];
	size_t n = 0;

	pretoken_init(&pretoken, rule, text, strlen(text));
	while (pretoken_next(&pretoken, &piece, &length)) {
		assert_true(length > 0 && n + length + 2 < sizeof(joined));
		if (n > 0)
			joined[n++] = '|';
		memcpy(joined + n, piece, length);
		n += length;
	}
	joined[n] = '\0';
	assert_string_equal(joined, expected);
}

static void test_gpt2_pieces(void **state)
{
	assert_pieces(PRETOKEN_GPT2, "", "");
	assert_pieces(PRETOKEN_GPT2, "Hello world", "Hello| world");
	assert_pieces(PRETOKEN_GPT2, "I'm we'll they've x'y 'S", "I|'m| we|'ll| they|'ve| x|'|y| '|S");
	assert_pieces(PRETOKEN_GPT2, "a1b22 333", "a|1|b|22| 333");
	assert_pieces(PRETOKEN_GPT2, "a  b", "a| | b");
	assert_pieces(PRETOKEN_GPT2, "a\n\n  b", "a|\n\n | b");
	assert_pieces(PRETOKEN_GPT2, "a\n\nb", "a|\n|\n|b");
	assert_pieces(PRETOKEN_GPT2, "a  ", "a|  ");
	assert_pieces(PRETOKEN_GPT2, " ", " ");
	assert_pieces(PRETOKEN_GPT2, "x += (y);", "x| +=| (|y|);");
	assert_pieces(PRETOKEN_GPT2, "na\xc3\xafve \xe6\x97\xa5\xe6\x9c\xac\xe3\x80\x82",
		      "na\xc3\xafve| \xe6\x97\xa5\xe6\x9c\xac|\xe3\x80\x82");
	/* Superscript two and one half are numbers; the no-break space is a space. */
	assert_pieces(PRETOKEN_GPT2, "m\xc2\xb2\xc2\xbd", "m|\xc2\xb2\xc2\xbd");
	assert_pieces(PRETOKEN_GPT2,
		      "a\xc2\xa0\xc2\xa0"
		      "b",
		      "a|\xc2\xa0|\xc2\xa0|b");
	/* Bytes that are not UTF-8 are like punctuation. */
	assert_pieces(PRETOKEN_GPT2, "a\xff\xfe!b", "a|\xff\xfe!|b");
}

static void test_smollm_pieces(void **state)
{
	assert_pieces(PRETOKEN_SMOLLM, "in 1999, 12.5", "in| |1|9|9|9|,| |1|2|.|5");
	assert_pieces(PRETOKEN_SMOLLM, "no digits here", "no| digits| here");
	assert_pieces(PRETOKEN_SMOLLM, "x'2's", "x|'|2|'s");
}

static void test_utf8(void **state)
{
	static const struct {
		const char *bytes;
		size_t tail;
	} cases[] = {
		{ "abc", 0 },
		{ "a\xc3", 1 },
		{ "a\xc3\xa9", 0 },
		{ "\xe6\x97", 2 },
		{ "\xf0\x9f\x98", 3 },
		{ "\xf0\x9f\x98\x80", 0 },
		{ "\x97\x97\x97\x97", 0 },
		{ "\xff", 0 },
	};
	size_t length;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(utf8_incomplete_tail((const uint8_t *)cases[i].bytes, strlen(cases[i].bytes)),
				 cases[i].tail);
	assert_int_equal(utf8_decode((const uint8_t *)"\xf0\x9f\x98\x80", 4, &length), 0x1f600);
	assert_int_equal(length, 4);
	assert_int_equal(utf8_decode((const uint8_t *)"\xc0\x80", 2, &length), UTF8_INVALID);
	assert_int_equal(utf8_decode((const uint8_t *)"\xed\xa0\x80", 3, &length), UTF8_INVALID);
	assert_int_equal(utf8_decode((const uint8_t *)"\xe6\x97", 2, &length), UTF8_INVALID);
	assert_int_equal(length, 1);
}

/* --- With a vocabulary ------------------------------------------------------------------------ */

struct rig {
	struct file file;
	struct gguf *gguf;
	struct tokenizer *tokenizer;
};

static void rig_init(struct rig *rig)
{
	struct fault fault;

	rig->file = llama_file(NULL);
	assert_int_equal(gguf_open_memory(rig->file.bytes, rig->file.n, &rig->gguf, &fault), 0);
	assert_int_equal(tokenizer_new(rig->gguf, &rig->tokenizer, &fault), 0);
}

static void rig_done(struct rig *rig)
{
	(void)tokenizer_free(rig->tokenizer);
	(void)gguf_free(rig->gguf);
	free(rig->file.bytes);
}

static void assert_tokens(const struct rig *rig, const char *text, const uint32_t *expected, size_t n)
{
	struct tokens tokens = { 0 };

	assert_int_equal(tokenizer_encode(rig->tokenizer, text, strlen(text), true, &tokens), 0);
	assert_int_equal(tokens.n, n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(tokens.ids[i], expected[i]);
	tokens_done(&tokens);
}

static void test_encode(void **state)
{
	/* Tokens 0..255 are bytes; then he, ll, hell, hello, " w", <|end|>, <|im_start|>. */
	static const uint32_t hello[] = { 259 };
	static const uint32_t hello_world[] = { 259, 260, 'o', 'r', 'l', 'd' };
	static const uint32_t partly[] = { 'l', 256, 257, 257, 'l' };
	static const uint32_t special[] = { 262, 'u', '\n', 256, 261 };
	static const uint32_t nearly[] = { '<', '|', 'e', 'n', 'd', '|' };
	struct rig rig;

	rig_init(&rig);
	assert_tokens(&rig, "", NULL, 0);
	assert_tokens(&rig, "hello", hello, 1);
	assert_tokens(&rig, "hello world", hello_world, 6);
	assert_tokens(&rig, "lhelllll", (const uint32_t[]){ 'l', 258, 257, 'l' }, 4);
	assert_tokens(&rig, "lhe", partly, 2);
	assert_tokens(&rig, "<|im_start|>u\nhe<|end|>", special, 5);
	assert_tokens(&rig, "<|end|", nearly, 6);
	rig_done(&rig);
}

static void test_decode(void **state)
{
	struct rig rig;
	size_t n;

	rig_init(&rig);
	for (unsigned byte = 0; byte < LLAMA_BYTES; byte++) {
		assert_int_equal(*tokenizer_bytes(rig.tokenizer, byte, &n), byte);
		assert_int_equal(n, 1);
	}
	assert_memory_equal(tokenizer_bytes(rig.tokenizer, 260, &n), " w", 2);
	assert_int_equal(n, 2);
	(void)tokenizer_bytes(rig.tokenizer, 261, &n);
	assert_int_equal(n, 0);
	assert_true(tokenizer_is_end(rig.tokenizer, 261));
	assert_false(tokenizer_is_end(rig.tokenizer, 262));
	rig_done(&rig);
}

/* Every sequence of bytes comes back, whatever it is cut into. */
static void test_round_trip(void **state)
{
	uint8_t text[3000];
	struct rig rig;
	struct tokens tokens = { 0 };
	size_t at = 0;
	uint32_t random = 3;

	rig_init(&rig);
	for (size_t i = 0; i < sizeof(text); i++) {
		random = random * 1664525u + 1013904223u;
		text[i] = i % 3 ? (uint8_t) "hello w"[(random >> 16) % 7] : (uint8_t)(random >> 24);
	}
	assert_int_equal(tokenizer_encode(rig.tokenizer, text, sizeof(text), false, &tokens), 0);
	assert_true(tokens.n < sizeof(text));
	for (size_t i = 0; i < tokens.n; i++) {
		size_t n;
		const uint8_t *bytes = tokenizer_bytes(rig.tokenizer, tokens.ids[i], &n);

		assert_true(at + n <= sizeof(text));
		assert_memory_equal(text + at, bytes, n);
		at += n;
	}
	assert_int_equal(at, sizeof(text));
	tokens_done(&tokens);
	rig_done(&rig);
}

/* One piece of a million letters: merging must not take the square of that. */
static void test_long_piece(void **state)
{
	size_t n = 1 << 20;
	char *text = malloc(n);
	struct rig rig;
	struct tokens tokens = { 0 };

	assert_non_null(text);
	memset(text, 'l', n);
	rig_init(&rig);
	assert_int_equal(tokenizer_encode(rig.tokenizer, text, n, false, &tokens), 0);
	assert_int_equal(tokens.n, n / 2);
	assert_int_equal(tokens.ids[0], 257);
	tokens_done(&tokens);
	rig_done(&rig);
	free(text);
}

static void test_stream(void **state)
{
	char *written = NULL;
	size_t n_written = 0;
	struct textout out = { .stream = open_memstream(&written, &n_written) };

	assert_int_equal(textout_push(&out, "a\xe6", 2), 0);
	assert_string_equal(written, "a");
	assert_int_equal(textout_push(&out, "\x97", 1), 0);
	assert_string_equal(written, "a");
	assert_int_equal(textout_push(&out,
				      "\xa5"
				      "b\xc3",
				      3),
			 0);
	assert_string_equal(written, "a\xe6\x97\xa5"
				     "b");
	assert_int_equal(textout_finish(&out), 0);
	(void)fclose(out.stream);
	assert_string_equal(written, "a\xe6\x97\xa5"
				     "b\xc3");
	textout_done(&out);
	free(written);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gpt2_pieces), cmocka_unit_test(test_smollm_pieces),
		cmocka_unit_test(test_utf8),        cmocka_unit_test(test_encode),
		cmocka_unit_test(test_decode),      cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_long_piece),  cmocka_unit_test(test_stream),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
