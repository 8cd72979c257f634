/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of a reply's texts at the end of one allocation that the caller frees as a whole. */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include <stddef.h>
#include <string.h>

/* What a copy takes. */
static inline size_t textpool_bytes(const ProtobufCBinaryData *text)
{
	return text->len + 1;
}

/* Copies the text, terminated, to *pool and moves *pool behind it. */
static inline const char *textpool_put(char **pool, const ProtobufCBinaryData *text)
{
	char *copy = *pool;

	if (text->len > 0)
		memcpy(copy, text->data, text->len);
	copy[text->len] = '\0';
	*pool += text->len + 1;
	return copy;
}
