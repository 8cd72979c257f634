/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of replies: order, bounds, descriptors that stay with their frame; and the event that
 * wakes a peer.
 */
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "daemon/host/event.h"
#include "daemon/host/outq.h"
#include "proto/fdpass.h"
#include "proto/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct rig {
	struct outq outq;
	struct frame_reader reader;
	int ends[2]; /* the queue's, the peer's */
};

static void rig_open(struct rig *rig, size_t bytes_max)
{
	outq_init(&rig->outq, bytes_max);
	frame_reader_init(&rig->reader, KVP_FRAME_BYTES_MAX);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, rig->ends), 0);
}

static void rig_close(struct rig *rig)
{
	outq_deinit(&rig->outq);
	frame_reader_deinit(&rig->reader);
	(void)close(rig->ends[0]);
	(void)close(rig->ends[1]);
}

/* The next frame, with as many descriptors as came with the bytes read for it; NULL: none yet. */
static const uint8_t *next_frame(struct rig *rig, size_t *ret_n, int fds[KVP_FDS_MAX],
				 size_t *ret_n_fds)
{
	const uint8_t *body;

	*ret_n_fds = 0;
	while (frame_reader_next(&rig->reader, &body, ret_n) == 0) {
		size_t room, n_fds = 0;
		uint8_t *space = frame_reader_space(&rig->reader, &room);
		ssize_t got = fdpass_recv(rig->ends[1], space, room, MSG_DONTWAIT, fds, KVP_FDS_MAX,
					  &n_fds);

		if (got <= 0)
			return NULL;
		if (n_fds > 0)
			*ret_n_fds = n_fds;
		frame_reader_filled(&rig->reader, (size_t)got);
	}
	return body;
}

static void push(struct rig *rig, uint8_t fill, size_t n)
{
	_cleanup_free_ uint8_t *message = malloc(n);

	assert_non_null(message);
	memset(message, fill, n);
	assert_int_equal(outq_push(&rig->outq, message, n, NULL, 0), 0);
}

/* Large and small frames through a socket that takes a part at a time. */
static void test_order_and_content(void **state)
{
	static const size_t sizes[] = { 1, 5000, 3, 300000, 70000, 1, 900000, 17 };
	struct rig rig;
	size_t seen = 0;

	rig_open(&rig, 4u << 20);
	for (size_t round = 0; round < 3; round++)
		for (size_t i = 0; i < 8; i++)
			push(&rig, (uint8_t)(round * 8 + i), sizes[i]);
	while (seen < 24) {
		int fds[KVP_FDS_MAX];
		size_t n, n_fds;
		const uint8_t *body;

		assert_int_equal(outq_flush(&rig.outq, rig.ends[0]), 0);
		while ((body = next_frame(&rig, &n, fds, &n_fds))) {
			assert_int_equal(n, sizes[seen % 8]);
			assert_int_equal(body[0], seen);
			assert_int_equal(body[n - 1], seen);
			assert_int_equal(n_fds, 0);
			seen++;
		}
	}
	assert_int_equal(outq_bytes(&rig.outq), 0);
	assert_int_equal(rig.outq.bytes_sent_total, rig.outq.bytes_queued_total);
	assert_null(rig.outq.buffer); /* a large buffer is given back */
	rig_close(&rig);
}

static void test_bound(void **state)
{
	uint8_t message[100] = { 0 };
	struct rig rig;

	rig_open(&rig, 208); /* two of these with their headers */
	assert_int_equal(outq_push(&rig.outq, message, sizeof(message), NULL, 0), 0);
	assert_int_equal(outq_push(&rig.outq, message, sizeof(message), NULL, 0), 0);
	assert_int_equal(outq_push(&rig.outq, message, 1, NULL, 0), -ENOBUFS);
	assert_int_equal(outq_bytes(&rig.outq), 208);
	assert_int_equal(outq_flush(&rig.outq, rig.ends[0]), 0);
	assert_int_equal(outq_push(&rig.outq, message, sizeof(message), NULL, 0), 0);
	rig_close(&rig);
}

static void test_descriptors_stay_with_their_frame(void **state)
{
	_cleanup_close_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	struct stat sent, received;
	struct rig rig;
	int pair[] = { null, zero }, fds[KVP_FDS_MAX];
	size_t n, n_fds;

	rig_open(&rig, 4096);
	push(&rig, 1, 10);
	assert_int_equal(outq_push(&rig.outq, (const uint8_t *)"hello", 5, pair, 2), 0);
	push(&rig, 2, 10);
	assert_int_equal(outq_flush(&rig.outq, rig.ends[0]), 0);
	assert_int_equal(rig.outq.n_fds, 0);
	/* A reader that takes a frame at a time. */
	rig.reader.body_bytes_max = 100;
	{
		uint8_t first[14], second[9];

		assert_int_equal(
			fdpass_recv(rig.ends[1], first, sizeof(first), 0, fds, KVP_FDS_MAX, &n_fds),
			sizeof(first));
		assert_int_equal(n_fds, 0);
		assert_int_equal(fdpass_recv(rig.ends[1], second, sizeof(second), 0, fds,
					     KVP_FDS_MAX, &n_fds),
				 sizeof(second));
		assert_int_equal(n_fds, 2);
		assert_memory_equal(second + 4, "hello", 5);
	}
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(fstat(pair[i], &sent), 0);
		assert_int_equal(fstat(fds[i], &received), 0);
		assert_int_equal(sent.st_rdev, received.st_rdev);
		(void)close(fds[i]);
	}
	assert_non_null(next_frame(&rig, &n, fds, &n_fds));
	assert_int_equal(n, 10);
	assert_int_equal(n_fds, 0);
	rig_close(&rig);
}

static void test_peer_gone(void **state)
{
	struct rig rig;

	rig_open(&rig, 4096);
	push(&rig, 1, 10);
	assert_int_equal(shutdown(rig.ends[1], SHUT_RD), 0);
	assert_int_equal(outq_flush(&rig.outq, rig.ends[0]), -EPIPE);
	rig_close(&rig);
}

static bool readable(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, 0) == 1;
}

static void test_event(void **state)
{
	struct event event;
	uint64_t value = 0;

	assert_int_equal(event_create(&event), 0);
	assert_false(readable(event.read_fd));
	for (int i = 0; i < 100000; i++)
		event_signal(&event); /* never waits */
	assert_true(readable(event.read_fd));
	assert_int_equal(read(event.read_fd, &value, sizeof(value)), sizeof(value));
	assert_int_equal(value, 1);
	assert_false(readable(event.read_fd));
	event_signal(&event);
	assert_true(readable(event.read_fd));
	event_close(&event);
	event_signal(&event);
}

/* The peer's end is its own: what it does to it does not make ours wait. */
static void test_event_in_hostile_hands(void **state)
{
	struct event event;

	assert_int_equal(event_create(&event), 0);
	assert_int_equal(fcntl(event.read_fd, F_SETFL, 0), 0);
	assert_true(fcntl(event.write_fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(write(event.read_fd, "x", 1), -1);
	(void)close(event.read_fd);
	event.read_fd = -1;
	event_signal(&event);
	event_close(&event);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_order_and_content),
	cmocka_unit_test(test_bound),
	cmocka_unit_test(test_descriptors_stay_with_their_frame),
	cmocka_unit_test(test_peer_gone),
	cmocka_unit_test(test_event),
	cmocka_unit_test(test_event_in_hostile_hands),
};

int main(void)
{
	(void)signal(SIGPIPE, SIG_IGN);
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
