/* SPDX-License-Identifier: Apache-2.0 */
/* One table-free decoder; the length comes from the first byte. */
#include "client/worker/utf8.h"

/* Bytes that a character with this first byte has, or 0 for what cannot be first. */
static size_t length_of(uint8_t first)
{
	if (first < 0x80)
		return 1;
	if (first < 0xc2)
		return 0;
	if (first < 0xe0)
		return 2;
	if (first < 0xf0)
		return 3;
	return first < 0xf5 ? 4 : 0;
}

uint32_t utf8_decode(const uint8_t *bytes, size_t n, size_t *ret_length)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t length = length_of(bytes[0]);
	uint32_t code;

	*ret_length = 1;
	if (length == 1)
		return bytes[0];
	if (length == 0 || length > n)
		return UTF8_INVALID;
	code = bytes[0] & (0x7fu >> length);
	for (size_t i = 1; i < length; i++) {
		if ((bytes[i] & 0xc0) != 0x80)
			return UTF8_INVALID;
		code = code << 6 | (bytes[i] & 0x3fu);
	}
	if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return UTF8_INVALID;
	*ret_length = length;
	return code;
}

size_t utf8_incomplete_tail(const uint8_t *bytes, size_t n)
{
	for (size_t back = 1; back <= 3 && back <= n; back++) {
		uint8_t byte = bytes[n - back];

		if ((byte & 0xc0) == 0x80)
			continue;
		return length_of(byte) > back ? back : 0;
	}
	return 0;
}
