/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a stream of frames, in pieces of any length: what the reader yields must be what the stream says when it
 * is read at once, and a bad length must be found at the same frame.
 *
 * Input: four bytes (the limit, the lengths of three pieces that alternate), then the stream.
 */
#include "proto/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/contract.h"

#define HEADER_BYTES 4
#define PIECES 3u

/* The frame at this place by the format's definition. Results as frame_reader_next()'s. */
static int frame_at(const uint8_t *stream, size_t n, size_t at, uint32_t limit, size_t *ret_n)
{
	uint64_t length;

	if (n - at < FRAME_HEADER_BYTES)
		return 0;
	length = stream[at] | stream[at + 1] << 8 | stream[at + 2] << 16 | (uint64_t)stream[at + 3] << 24;
	if (length == 0 || length > limit)
		return -EPROTO;
	if (n - at - FRAME_HEADER_BYTES < length)
		return 0;
	*ret_n = (size_t)length;
	return 1;
}

/* Takes what is whole by now. Whether the stream goes on. */
static bool frames_check(struct frame_reader *reader, const uint8_t *stream, size_t have, size_t *at)
{
	const uint8_t *body;
	size_t n, expected_n = 0;
	int r, expected;

	do {
		r = frame_reader_next(reader, &body, &n);
		expected = frame_at(stream, have, *at, reader->body_bytes_max, &expected_n);
		kvp_assert(r == expected);
		if (r > 0) {
			kvp_assert(n == expected_n && memcmp(body, stream + *at + FRAME_HEADER_BYTES, n) == 0);
			*at += FRAME_HEADER_BYTES + n;
		}
	} while (r > 0);
	kvp_assert(r < 0 || frame_reader_pending(reader) == (have > *at));
	return r == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame_reader reader;
	size_t have = 0, at = 0;

	if (size < HEADER_BYTES)
		return 0;
	frame_reader_init(&reader, 1u << data[0] % 21);
	for (unsigned turn = 1; have < size - HEADER_BYTES; turn++) {
		size_t room, piece = (size_t)data[1 + turn % PIECES] * 16 + 1;
		uint8_t *space = frame_reader_space(&reader, &room);

		kvp_assert(space && room > 0);
		kvp_assert(reader.capacity <= reader.body_bytes_max + FRAME_HEADER_BYTES || reader.capacity <= 4096);
		piece = piece < room ? piece : room;
		piece = piece < size - HEADER_BYTES - have ? piece : size - HEADER_BYTES - have;
		memcpy(space, data + HEADER_BYTES + have, piece);
		frame_reader_filled(&reader, piece);
		have += piece;
		if (!frames_check(&reader, data + HEADER_BYTES, have, &at))
			break;
	}
	frame_reader_deinit(&reader);
	return 0;
}
