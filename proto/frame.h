/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames on a byte stream: a u32 length, little endian, then that many bytes. No I/O happens here: the reader
 *is given bytes and yields bodies. A length of 0 or above the limit is refused before anything is allocated for
 *it.
 *
 *	uint8_t *space = frame_reader_space(&reader, &n);      room to read into
 *	frame_reader_filled(&reader, got);                     that much was read
 *	while ((r = frame_reader_next(&reader, &body, &n)) > 0)
 *		...                                            body is valid until the next call on the reader
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER_BYTES 4

struct frame_reader {
	uint8_t *buffer;
	size_t capacity;
	size_t start; /* of what is not consumed */
	size_t end;   /* of what was filled */
	uint32_t body_bytes_max;
};

/* An empty reader; allocates nothing. frame_reader_deinit() frees what it came to hold. */
void frame_reader_init(struct frame_reader *reader, uint32_t body_bytes_max);
void frame_reader_deinit(struct frame_reader *reader);

/* Room for at least one byte, owned by the reader until frame_reader_filled(). NULL: out of memory. */
uint8_t *frame_reader_space(struct frame_reader *reader, size_t *ret_n);
void frame_reader_filled(struct frame_reader *reader, size_t n);

/* The next whole frame. Results: 1 and the body, 0 (more bytes are needed), -EPROTO (bad length; the stream is
 * lost). */
int frame_reader_next(struct frame_reader *reader, const uint8_t **ret_body, size_t *ret_n);

/* Whether bytes of an unfinished frame are held: an end of the stream now would cut it. */
bool frame_reader_pending(const struct frame_reader *reader);

static inline void frame_put_header(uint8_t header[FRAME_HEADER_BYTES], uint32_t body_bytes)
{
	header[0] = (uint8_t)body_bytes;
	header[1] = (uint8_t)(body_bytes >> 8);
	header[2] = (uint8_t)(body_bytes >> 16);
	header[3] = (uint8_t)(body_bytes >> 24);
}
