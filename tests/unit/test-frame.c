/* SPDX-License-Identifier: Apache-2.0 */
/* Frames: bad lengths, any division of the stream into reads, and its end at any byte. */
#include "base/cleanup.h"
#include "proto/frame.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MAX 5000u
#define FRAMES 1000u

static void feed(struct frame_reader *reader, const uint8_t *bytes, size_t n)
{
	while (n > 0) {
		size_t room;
		uint8_t *space = frame_reader_space(reader, &room);
		size_t part = n < room ? n : room;

		assert_non_null(space);
		assert_true(room > 0);
		memcpy(space, bytes, part);
		frame_reader_filled(reader, part);
		bytes += part;
		n -= part;
	}
}

static void test_bad_lengths(void **state)
{
	static const uint32_t lengths[] = { 0, BODY_MAX + 1, 0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff };

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct frame_reader reader;
		uint8_t header[FRAME_HEADER_BYTES];
		const uint8_t *body = NULL;
		size_t n = 99;

		frame_reader_init(&reader, BODY_MAX);
		frame_put_header(header, lengths[i]);
		feed(&reader, header, sizeof(header));
		assert_int_equal(frame_reader_next(&reader, &body, &n), -EPROTO);
		assert_int_equal(frame_reader_next(&reader, &body, &n), -EPROTO);
		assert_null(body);
		assert_int_equal(n, 99);
		/* Nothing was allocated for the claimed size. */
		assert_true(reader.capacity <= 4096);
		frame_reader_deinit(&reader);
	}
}

static void test_longest(void **state)
{
	_cleanup_free_ uint8_t *frame = malloc(FRAME_HEADER_BYTES + BODY_MAX);
	struct frame_reader reader;
	const uint8_t *body;
	size_t n;

	assert_non_null(frame);
	memset(frame, 0x5a, FRAME_HEADER_BYTES + BODY_MAX);
	frame_put_header(frame, BODY_MAX);
	frame_reader_init(&reader, BODY_MAX);
	feed(&reader, frame, FRAME_HEADER_BYTES + BODY_MAX - 1);
	assert_int_equal(frame_reader_next(&reader, &body, &n), 0);
	feed(&reader, frame + FRAME_HEADER_BYTES + BODY_MAX - 1, 1);
	assert_int_equal(frame_reader_next(&reader, &body, &n), 1);
	assert_int_equal(n, BODY_MAX);
	assert_memory_equal(body, frame + FRAME_HEADER_BYTES, BODY_MAX);
	assert_false(frame_reader_pending(&reader));
	assert_true(reader.capacity <= FRAME_HEADER_BYTES + BODY_MAX);
	frame_reader_deinit(&reader);
}

/* One large frame does not cost its memory for the rest of the stream. */
static void test_large_buffer_goes_back(void **state)
{
	const size_t large = 1u << 20;
	_cleanup_free_ uint8_t *frame = calloc(1, FRAME_HEADER_BYTES + large);
	struct frame_reader reader;
	const uint8_t *body;
	size_t n;

	assert_non_null(frame);
	frame_put_header(frame, (uint32_t)large);
	frame_reader_init(&reader, (uint32_t)large);
	feed(&reader, frame, FRAME_HEADER_BYTES + large);
	assert_int_equal(frame_reader_next(&reader, &body, &n), 1);
	assert_true(reader.capacity > large);
	frame_put_header(frame, 1);
	feed(&reader, frame, FRAME_HEADER_BYTES + 1);
	assert_true(reader.capacity <= 4096);
	assert_int_equal(frame_reader_next(&reader, &body, &n), 1);
	frame_reader_deinit(&reader);
}

/* Frame i has 1 + i * 7 % 300 bytes of value i. */
static size_t body_bytes(unsigned i)
{
	return 1 + i * 7 % 300;
}

static uint8_t *make_stream(size_t *ret_n)
{
	size_t n = 0;
	uint8_t *stream = malloc(FRAMES * (FRAME_HEADER_BYTES + 300));

	assert_non_null(stream);
	for (unsigned i = 0; i < FRAMES; i++) {
		frame_put_header(stream + n, (uint32_t)body_bytes(i));
		memset(stream + n + FRAME_HEADER_BYTES, (int)(i & 0xff), body_bytes(i));
		n += FRAME_HEADER_BYTES + body_bytes(i);
	}
	*ret_n = n;
	return stream;
}

/* Takes what is complete; *seen counts frames. */
static void drain(struct frame_reader *reader, unsigned *seen)
{
	const uint8_t *body;
	size_t n;
	int r;

	while ((r = frame_reader_next(reader, &body, &n)) > 0) {
		assert_int_equal(n, body_bytes(*seen));
		for (size_t i = 0; i < n; i++)
			assert_int_equal(body[i], *seen & 0xff);
		(*seen)++;
	}
	assert_int_equal(r, 0);
}

static void test_any_division(void **state)
{
	static const size_t parts[] = { 1, 2, 3, 4, 5, 7, 64, 4095, 4096, 4097, 1u << 20 };
	size_t n;
	_cleanup_free_ uint8_t *stream = make_stream(&n);

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		struct frame_reader reader;
		unsigned seen = 0;

		frame_reader_init(&reader, BODY_MAX);
		for (size_t at = 0; at < n; at += parts[i]) {
			/* A read fills at most the space that the reader offers: feed() and drain in turn. */
			size_t left = n - at < parts[i] ? n - at : parts[i];

			for (size_t done = 0; done < left;) {
				size_t room;
				size_t part;
				uint8_t *space = frame_reader_space(&reader, &room);

				assert_non_null(space);
				part = left - done < room ? left - done : room;
				memcpy(space, stream + at + done, part);
				frame_reader_filled(&reader, part);
				drain(&reader, &seen);
				done += part;
			}
		}
		assert_int_equal(seen, FRAMES);
		assert_false(frame_reader_pending(&reader));
		frame_reader_deinit(&reader);
	}
}

static void test_end_at_any_byte(void **state)
{
	uint8_t frame[FRAME_HEADER_BYTES + 20] = { 0 };

	frame_put_header(frame, 20);
	for (size_t cut = 0; cut <= sizeof(frame); cut++) {
		struct frame_reader reader;
		const uint8_t *body;
		size_t n;

		frame_reader_init(&reader, BODY_MAX);
		feed(&reader, frame, cut);
		assert_int_equal(frame_reader_next(&reader, &body, &n), cut == sizeof(frame));
		assert_int_equal(frame_reader_pending(&reader), cut > 0 && cut < sizeof(frame));
		frame_reader_deinit(&reader);
	}
}

static void test_header_bytes(void **state)
{
	uint8_t header[FRAME_HEADER_BYTES];

	frame_put_header(header, 0x01020304);
	assert_memory_equal(header, "\x04\x03\x02\x01", 4);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_bad_lengths),     cmocka_unit_test(test_longest),
	cmocka_unit_test(test_any_division),    cmocka_unit_test(test_end_at_any_byte),
	cmocka_unit_test(test_header_bytes),    cmocka_unit_test(test_large_buffer_goes_back),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
