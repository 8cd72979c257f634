/* SPDX-License-Identifier: Apache-2.0 */
/* The only code that turns bytes of a GGUF header into numbers. */
#include "client/worker/gguf-cursor.h"

#include "base/checked.h"

#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "GGUF files are read in place: little-endian machines only"
#endif

const uint8_t *cursor_take(struct gguf_cursor *cursor, uint64_t n)
{
	const uint8_t *at = cursor->bytes + cursor->offset;

	if (cursor->failed || !checked_range(cursor->offset, n, cursor->size)) {
		cursor->failed = true;
		return NULL;
	}
	cursor->offset += n;
	return at;
}

uint32_t cursor_u32(struct gguf_cursor *cursor)
{
	const uint8_t *at = cursor_take(cursor, sizeof(uint32_t));
	uint32_t value = 0;

	if (at)
		memcpy(&value, at, sizeof(value));
	return value;
}

uint64_t cursor_u64(struct gguf_cursor *cursor)
{
	const uint8_t *at = cursor_take(cursor, sizeof(uint64_t));
	uint64_t value = 0;

	if (at)
		memcpy(&value, at, sizeof(value));
	return value;
}

struct gguf_string cursor_string(struct gguf_cursor *cursor, uint64_t limit)
{
	uint64_t length = cursor_u64(cursor);
	const uint8_t *at;

	if (length > limit)
		cursor->failed = true;
	at = cursor_take(cursor, length);
	return at ? (struct gguf_string){ (const char *)at, (size_t)length } :
		    (struct gguf_string){ "", 0 };
}

uint64_t gguf_value_size(uint32_t type)
{
	static const uint8_t sizes[] = {
		[GGUF_U8] = 1, [GGUF_I8] = 1, [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
		[GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
	};

	return type < sizeof(sizes) ? sizes[type] : 0;
}

static void skip_array(struct gguf_cursor *cursor)
{
	uint32_t type = cursor_u32(cursor);
	uint64_t count = cursor_u64(cursor);
	uint64_t size = gguf_value_size(type);

	/* No key of a model is an array of arrays, so there is nothing to recurse into. */
	if (count > GGUF_ARRAY_VALUES_MAX || (size == 0 && type != GGUF_STRING)) {
		cursor->failed = true;
		return;
	}
	if (size != 0) {
		(void)cursor_take(cursor, count * size);
		return;
	}
	for (uint64_t i = 0; i < count && !cursor->failed; i++)
		(void)cursor_string(cursor, GGUF_STRING_BYTES_MAX);
}

void cursor_skip_value(struct gguf_cursor *cursor, uint32_t type)
{
	uint64_t size = gguf_value_size(type);

	if (type == GGUF_STRING)
		(void)cursor_string(cursor, GGUF_STRING_BYTES_MAX);
	else if (type == GGUF_ARRAY)
		skip_array(cursor);
	else if (size != 0)
		(void)cursor_take(cursor, size);
	else
		cursor->failed = true;
}
