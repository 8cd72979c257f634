/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 is checked by its definition: shortest form, no surrogates, at most U+10FFFF. */
#include "base/text.h"

#include <errno.h>
#include <stdint.h>

/* Length of the UTF-8 sequence at p (at most n bytes), with its code point, or 0 if it is not one. */
static size_t utf8_decode(const uint8_t *p, size_t n, uint32_t *ret_code)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint32_t code;
	size_t length;

	if (p[0] < 0x80) {
		*ret_code = p[0];
		return 1;
	}
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		length = 2;
	else if ((p[0] & 0xf0) == 0xe0)
		length = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		length = 4;
	else
		return 0;
	if (n < length)
		return 0;
	code = p[0] & (0xffu >> (length + 1));
	for (size_t i = 1; i < length; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (p[i] & 0x3f);
	}
	if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	*ret_code = code;
	return length;
}

bool text_is_clean(const void *bytes, size_t n)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < n;) {
		uint32_t code;
		size_t length = utf8_decode(p + i, n - i, &code);

		if (length == 0 || code < 0x20 || (code >= 0x7f && code < 0xa0))
			return false;
		i += length;
	}
	return true;
}

static const char hex_digits[] = "0123456789abcdef";

char *text_escape(const void *bytes, size_t n, char *buffer, size_t size)
{
	const uint8_t *p = bytes;
	size_t at = 0;

	for (size_t i = 0; i < n; i++) {
		if (p[i] >= 0x20 && p[i] < 0x7f && p[i] != '\\') {
			if (at + 2 > size)
				break;
			buffer[at++] = (char)p[i];
		} else {
			if (at + 5 > size)
				break;
			buffer[at++] = '\\';
			buffer[at++] = 'x';
			buffer[at++] = hex_digits[p[i] >> 4];
			buffer[at++] = hex_digits[p[i] & 15];
		}
	}
	if (size > 0)
		buffer[at] = '\0';
	return buffer;
}

char *text_hex(const void *bytes, size_t n, char *buffer, size_t size)
{
	const uint8_t *p = bytes;
	size_t at = 0;

	for (size_t i = 0; i < n && at + 3 <= size; i++) {
		buffer[at++] = hex_digits[p[i] >> 4];
		buffer[at++] = hex_digits[p[i] & 15];
	}
	if (size > 0)
		buffer[at] = '\0';
	return buffer;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int text_unhex(const char *hex, void *buffer, size_t size, size_t *ret_n)
{
	uint8_t *out = buffer;
	size_t n = 0;

	for (; *hex; hex += 2, n++) {
		int high = hex_value(hex[0]);
		int low = high < 0 ? -1 : hex_value(hex[1]);

		if (low < 0)
			return -EINVAL;
		if (n == size)
			return -ERANGE;
		out[n] = (uint8_t)(high << 4 | low);
	}
	if (n == 0)
		return -EINVAL;
	*ret_n = n;
	return 0;
}
