/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cursor over untrusted bytes. A read past the end fails once and for all: it returns zeroes,
 * moves nothing and leaves `failed` set, so a parser may read a whole record and check at its end.
 */
#pragma once

#include "client/worker/gguf.h"

#include <stdbool.h>
#include <stdint.h>

struct gguf_cursor {
	const uint8_t *bytes;
	uint64_t size;
	uint64_t offset;
	bool failed;
};

/* Moves over n bytes and returns where they begin, or NULL when they are not all there. */
const uint8_t *cursor_take(struct gguf_cursor *cursor, uint64_t n);

uint32_t cursor_u32(struct gguf_cursor *cursor);
uint64_t cursor_u64(struct gguf_cursor *cursor);

/* A u64 length, at most limit, and that many bytes. */
struct gguf_string cursor_string(struct gguf_cursor *cursor, uint64_t limit);

/* Bytes of one value of a fixed-size type, or 0 for strings, arrays and unknown types. */
uint64_t gguf_value_size(uint32_t type);

/* Moves over one value of this type, checking it. */
void cursor_skip_value(struct gguf_cursor *cursor, uint32_t type);
