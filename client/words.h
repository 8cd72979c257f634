/* SPDX-License-Identifier: Apache-2.0 */
/* A failure in words: one bounded, always terminated text. The innermost function that knows the reason writes it. */
#pragma once

#include <stddef.h>

struct words {
	char text[512];
};

void words_clear(struct words *words);

/* Replaces the text; cut at its end. */
__attribute__((format(printf, 2, 3))) void words_set(struct words *words, const char *format, ...);

/* Replaces the text with "prefix: bytes", or with one of them if they say the same. bytes come from outside and are
 * made printable. */
void words_quote(struct words *words, const char *prefix, const void *bytes, size_t n);
