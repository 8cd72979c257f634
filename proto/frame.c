/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader keeps one buffer: [consumed | start .. end | room]. It grows to the size of the frame at its head,
 * never beyond header + limit, and moves what is left to the front when room runs out.
 */
#include "proto/frame.h"

#include "base/contract.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 4096

/* A larger buffer goes back when it is empty: one large frame must not cost its memory for the rest of the
 * stream. */
#define CAPACITY_KEPT (64u << 10)

void frame_reader_init(struct frame_reader *reader, uint32_t body_bytes_max)
{
	*reader = (struct frame_reader){ .body_bytes_max = body_bytes_max };
}

void frame_reader_deinit(struct frame_reader *reader)
{
	free(reader->buffer);
	*reader = (struct frame_reader){ 0 };
}

static uint32_t head_length(const struct frame_reader *reader)
{
	const uint8_t *p = reader->buffer + reader->start;

	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* What the buffer must hold for the frame at its head; a bad length needs no room, next() will refuse it. */
static size_t capacity_wanted(const struct frame_reader *reader)
{
	uint32_t length;

	if (reader->end - reader->start < FRAME_HEADER_BYTES)
		return CAPACITY_MIN;
	length = head_length(reader);
	if (length > reader->body_bytes_max || length + FRAME_HEADER_BYTES < CAPACITY_MIN)
		return CAPACITY_MIN;
	return length + FRAME_HEADER_BYTES;
}

static void buffer_drop(struct frame_reader *reader)
{
	free(reader->buffer);
	reader->buffer = NULL;
	reader->capacity = 0;
	reader->start = 0;
	reader->end = 0;
}

uint8_t *frame_reader_space(struct frame_reader *reader, size_t *ret_n)
{
	size_t wanted;

	if (reader->start == reader->end && reader->capacity > CAPACITY_KEPT)
		buffer_drop(reader);
	wanted = capacity_wanted(reader);
	if (reader->start > 0) {
		memmove(reader->buffer, reader->buffer + reader->start, reader->end - reader->start);
		reader->end -= reader->start;
		reader->start = 0;
	}
	if (reader->end == reader->capacity && wanted <= reader->capacity)
		wanted = reader->capacity + 1; /* only a caller that ignored next()'s refusal gets here */
	if (wanted > reader->capacity) {
		uint8_t *grown = realloc(reader->buffer, wanted);

		if (!grown)
			return NULL;
		reader->buffer = grown;
		reader->capacity = wanted;
	}
	*ret_n = reader->capacity - reader->end;
	return reader->buffer + reader->end;
}

void frame_reader_filled(struct frame_reader *reader, size_t n)
{
	kvp_assert(n <= reader->capacity - reader->end);
	reader->end += n;
}

int frame_reader_next(struct frame_reader *reader, const uint8_t **ret_body, size_t *ret_n)
{
	size_t held = reader->end - reader->start;
	uint32_t length;

	if (held < FRAME_HEADER_BYTES)
		return 0;
	length = head_length(reader);
	if (length == 0 || length > reader->body_bytes_max)
		return -EPROTO;
	if (held - FRAME_HEADER_BYTES < length)
		return 0;
	*ret_body = reader->buffer + reader->start + FRAME_HEADER_BYTES;
	*ret_n = length;
	reader->start += FRAME_HEADER_BYTES + (size_t)length;
	return 1;
}

bool frame_reader_pending(const struct frame_reader *reader)
{
	return reader->end != reader->start;
}
