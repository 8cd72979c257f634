/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors over a socket: what arrives is owned, what is too much or was cut is closed. */
#include "base/cleanup.h"
#include "proto/fdpass.h"
#include "proto/limits.h"
#include "tests/lib/harness.h"
#include "tests/lib/leftover.h"
#include "tests/lib/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define FLOOD 253

struct pair {
	int near;
	int far;
};

static struct pair pair_open(void)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	return (struct pair){ .near = fds[0], .far = fds[1] };
}

static void pair_close(struct pair *pair)
{
	pair->near = close_fd(pair->near);
	pair->far = close_fd(pair->far);
}

static bool same_file(int a, int b)
{
	struct stat status_a;
	struct stat status_b;

	assert_int_equal(fstat(a, &status_a), 0);
	assert_int_equal(fstat(b, &status_b), 0);
	return status_a.st_dev == status_b.st_dev && status_a.st_ino == status_b.st_ino;
}

/* Sends one byte with n copies of a memfd from a raw peer, which has no limit of its own. */
static void flood(int socket, size_t n)
{
	_cleanup_close_ int memory = memfd_create("flood", MFD_CLOEXEC);
	struct test_peer peer;
	int fds[FLOOD];

	assert_true(memory >= 0);
	for (size_t i = 0; i < n; i++)
		fds[i] = memory;
	peer_attach(&peer, dup(socket));
	assert_int_equal(peer_send_fds(&peer, "x", 1, fds, n), 0);
	peer_close(&peer);
}

static void test_round_trip(void **state)
{
	struct pair pair = pair_open();
	int sent[KVP_FDS_MAX];
	int received[KVP_FDS_MAX];
	size_t n = 0;
	char byte;

	for (size_t i = 0; i < KVP_FDS_MAX; i++)
		assert_true((sent[i] = memfd_create("round", MFD_CLOEXEC)) >= 0);
	assert_int_equal(fdpass_send(pair.near, "x", 1, sent, KVP_FDS_MAX), 1);
	assert_int_equal(fdpass_recv(pair.far, &byte, 1, 0, received, KVP_FDS_MAX, &n), 1);
	assert_int_equal(n, KVP_FDS_MAX);
	assert_int_equal(byte, 'x');
	for (size_t i = 0; i < n; i++) {
		assert_true(same_file(sent[i], received[i]));
		assert_true(fcntl(received[i], F_GETFD) & FD_CLOEXEC);
		(void)close(sent[i]);
		(void)close(received[i]);
	}
	pair_close(&pair);
}

static void test_plain_bytes(void **state)
{
	struct pair pair = pair_open();
	int fds[KVP_FDS_MAX];
	char bytes[8];
	size_t n = 99;

	assert_int_equal(fdpass_send(pair.near, "abc", 3, NULL, 0), 3);
	assert_int_equal(fdpass_recv(pair.far, bytes, sizeof(bytes), 0, fds, KVP_FDS_MAX, &n), 3);
	assert_int_equal(n, 0);
	assert_memory_equal(bytes, "abc", 3);
	assert_int_equal(fdpass_recv(pair.far, bytes, sizeof(bytes), MSG_DONTWAIT, fds, KVP_FDS_MAX, &n), -EAGAIN);
	pair.near = close_fd(pair.near);
	assert_int_equal(fdpass_recv(pair.far, bytes, sizeof(bytes), 0, fds, KVP_FDS_MAX, &n), 0);
	pair_close(&pair);
}

/* Table of floods: descriptors that nobody asked for are closed, whatever their number. */
static void test_unexpected_are_closed(void **state)
{
	static const size_t counts[] = { 1, 2, 16, FLOOD };
	static struct leftover_fds before;
	struct pair pair = pair_open();

	leftover_fds_take(&before);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		char byte;

		flood(pair.near, counts[i]);
		assert_int_equal(fdpass_recv(pair.far, &byte, 1, 0, NULL, 0, NULL), -EBADMSG);
		assert_true(leftover_fds_same(&before));
	}
	pair_close(&pair);
}

static void test_more_than_asked_are_closed(void **state)
{
	static const size_t counts[] = { 3, KVP_FDS_MAX + 1, FLOOD };
	static struct leftover_fds before;
	struct pair pair = pair_open();

	leftover_fds_take(&before);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		int fds[2] = { -7, -7 };
		size_t n = 99;
		char byte;

		flood(pair.near, counts[i]);
		assert_int_equal(fdpass_recv(pair.far, &byte, 1, 0, fds, 2, &n), -EBADMSG);
		assert_int_equal(n, 99);
		assert_int_equal(fds[0], -7);
		assert_true(leftover_fds_same(&before));
	}
	pair_close(&pair);
}

/* The receiver's own descriptor limit cuts the list: none is kept, and the next message is received as ever. */
static void test_cut_by_descriptor_limit(void **state)
{
	static struct leftover_fds before;
	struct pair pair = pair_open();
	int memory = memfd_create("cut", MFD_CLOEXEC);
	int three[3] = { memory, memory, memory };
	int fds[KVP_FDS_MAX] = { -7, -7, -7, -7 };
	struct rlimit limit;
	struct rlimit tight;
	size_t n = 99;
	char byte;

	leftover_fds_take(&before);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(fdpass_send(pair.near, "x", 1, three, 3), 1);
	/* Room for one more descriptor only: they take the lowest free numbers. */
	tight = limit;
	tight.rlim_cur = (rlim_t)dup(memory) + 1;
	(void)close((int)tight.rlim_cur - 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	assert_int_equal(fdpass_recv(pair.far, &byte, 1, 0, fds, KVP_FDS_MAX, &n), -EBADMSG);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(n, 99);
	assert_int_equal(fds[0], -7);
	assert_true(leftover_fds_same(&before));

	assert_int_equal(fdpass_send(pair.near, "y", 1, three, 1), 1);
	assert_int_equal(fdpass_recv(pair.far, &byte, 1, 0, fds, KVP_FDS_MAX, &n), 1);
	assert_int_equal(n, 1);
	assert_true(same_file(fds[0], memory));
	(void)close(fds[0]);
	(void)close(memory);
	pair_close(&pair);
}

static void test_send_never_signals_nor_waits(void **state)
{
	struct pair pair = pair_open();
	static const uint8_t block[65536];
	ssize_t sent;

	do
		sent = fdpass_send(pair.near, block, sizeof(block), NULL, 0);
	while (sent > 0);
	assert_int_equal(sent, -EAGAIN);
	pair.far = close_fd(pair.far);
	/* Without MSG_NOSIGNAL this would end the process. */
	assert_int_equal(fdpass_send(pair.near, block, 1, NULL, 0), -EPIPE);
	pair_close(&pair);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_round_trip),
	cmocka_unit_test(test_plain_bytes),
	cmocka_unit_test(test_unexpected_are_closed),
	cmocka_unit_test(test_more_than_asked_are_closed),
	cmocka_unit_test(test_cut_by_descriptor_limit),
	cmocka_unit_test(test_send_never_signals_nor_waits),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
