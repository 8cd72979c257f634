/* SPDX-License-Identifier: Apache-2.0 */
/* A matcher for one regular expression, by hand: each character has one of four classes. */
#include "client/worker/pretoken.h"

#include "client/worker/unicode-ranges.h"
#include "client/worker/utf8.h"

#include <string.h>

enum char_class {
	CHAR_LETTER,
	CHAR_NUMBER,
	CHAR_SPACE,
	CHAR_OTHER,
};

static bool in_ranges(const struct unicode_range *ranges, size_t n, uint32_t code)
{
	size_t low = 0;

	while (low < n) {
		size_t middle = low + (n - low) / 2;

		if (code < ranges[middle].first)
			n = middle;
		else if (code > ranges[middle].last)
			low = middle + 1;
		else
			return true;
	}
	return false;
}

static bool is_space(uint32_t code)
{
	return (code >= 9 && code <= 13) || code == ' ' || code == 0x85 || code == 0xa0 ||
	       code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
	       code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

static enum char_class classify(uint32_t code)
{
	if (code < 0x80) {
		uint32_t lower = code | 0x20;

		if (lower >= 'a' && lower <= 'z')
			return CHAR_LETTER;
		if (code >= '0' && code <= '9')
			return CHAR_NUMBER;
		return is_space(code) ? CHAR_SPACE : CHAR_OTHER;
	}
	if (is_space(code))
		return CHAR_SPACE;
	if (in_ranges(unicode_letters, sizeof(unicode_letters) / sizeof(unicode_letters[0]), code))
		return CHAR_LETTER;
	if (in_ranges(unicode_numbers, sizeof(unicode_numbers) / sizeof(unicode_numbers[0]), code))
		return CHAR_NUMBER;
	return CHAR_OTHER;
}

static enum char_class class_at(const uint8_t *text, size_t n, size_t *ret_length)
{
	return classify(utf8_decode(text, n, ret_length));
}

/* Bytes of the leading characters of this class. *ret_last is the length of the last of them. */
static size_t run_length(const uint8_t *text, size_t n, enum char_class class, size_t *ret_last)
{
	size_t length = 0;

	*ret_last = 0;
	while (length < n) {
		size_t one;

		if (class_at(text + length, n - length, &one) != class)
			break;
		length += one;
		*ret_last = one;
	}
	return length;
}

static size_t match_contraction(const uint8_t *text, size_t n)
{
	static const char *const endings[] = { "'s", "'t", "'re", "'ve", "'m", "'ll", "'d" };

	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		size_t length = strlen(endings[i]);

		if (length <= n && memcmp(text, endings[i], length) == 0)
			return length;
	}
	return 0;
}

/* White space gives its last character to the word behind it, if there is one. */
static size_t match_space(const uint8_t *text, size_t n)
{
	size_t last;
	size_t length = run_length(text, n, CHAR_SPACE, &last);

	return length == n || length == last ? length : length - last;
}

static size_t match_gpt2(const uint8_t *text, size_t n)
{
	size_t lead = text[0] == ' ' ? 1 : 0;
	size_t unused;
	enum char_class class;

	if (text[0] == '\'') {
		size_t length = match_contraction(text, n);

		if (length > 0)
			return length;
	}
	if (lead == n)
		return n;
	class = class_at(text + lead, n - lead, &unused);
	if (class == CHAR_SPACE)
		return match_space(text, n);
	return lead + run_length(text + lead, n - lead, class, &unused);
}

/* Bytes up to the next number character, or the length of one that stands here. */
static size_t segment_length(const uint8_t *text, size_t n, bool *ret_number)
{
	size_t length = 0;

	*ret_number = false;
	while (length < n) {
		size_t one;

		if (class_at(text + length, n - length, &one) == CHAR_NUMBER) {
			*ret_number = length == 0;
			return length == 0 ? one : length;
		}
		length += one;
	}
	return length;
}

void pretoken_init(struct pretoken *pretoken, enum pretoken_rule rule, const void *text, size_t n)
{
	*pretoken = (struct pretoken){
		.rule = rule,
		.text = text,
		.n = n,
		.segment_end = rule == PRETOKEN_GPT2 ? n : 0,
	};
}

bool pretoken_next(struct pretoken *pretoken, const uint8_t **ret_piece, size_t *ret_length)
{
	const uint8_t *at = pretoken->text + pretoken->offset;
	size_t length = 0;
	bool number = false;

	if (pretoken->offset == pretoken->n)
		return false;
	if (pretoken->offset == pretoken->segment_end) {
		length = segment_length(at, pretoken->n - pretoken->offset, &number);
		pretoken->segment_end += length;
	}
	if (!number)
		length = match_gpt2(at, pretoken->segment_end - pretoken->offset);
	pretoken->offset += length;
	*ret_piece = at;
	*ret_length = length;
	return true;
}
