/* SPDX-License-Identifier: Apache-2.0 */
/* Failures in words; see words.h. */
#include "client/words.h"

#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void words_clear(struct words *words)
{
	words->text[0] = '\0';
}

void words_set(struct words *words, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(words->text, sizeof(words->text), format, args);
	va_end(args);
}

void words_quote(struct words *words, const char *prefix, const void *bytes, size_t n)
{
	char printable[384];

	(void)text_escape(bytes, n, printable, sizeof(printable));
	if (strcmp(prefix, printable) == 0)
		words_set(words, "%s", prefix);
	else
		words_set(words, "%s: %s", prefix, printable);
}
