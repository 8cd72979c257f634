/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvpaged and clients that send what they should not, do not read, do not speak, or come in
 * numbers. Each time others are served.
 */
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "tests/lib/daemon.h"
#include "tests/lib/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NOBODY 65534
#define WAIT_LIMIT_MS 20000
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void pause_ms(long ms)
{
	const struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	(void)nanosleep(&pause, NULL);
}

static void await_log(const struct test_daemon *daemon, const char *text)
{
	for (int waited_ms = 0; !test_daemon_logged(daemon, text); waited_ms += 5) {
		if (waited_ms > WAIT_LIMIT_MS)
			fail_msg("the log never says '%s'", text);
		pause_ms(5);
	}
}

static void await_fds(const struct test_daemon *daemon, unsigned n)
{
	for (int waited_ms = 0; test_daemon_fds(daemon) != n; waited_ms += 5) {
		if (waited_ms > WAIT_LIMIT_MS)
			fail_msg("%u descriptors are open, not %u", test_daemon_fds(daemon), n);
		pause_ms(5);
	}
}

/*
 * The daemon's descriptors when it has so many connections: those that only looked whether it is there are gone, and
 * these have been accepted.
 */
static unsigned settled_fds(const struct test_daemon *daemon, size_t connections)
{
	struct test_peer peer;
	unsigned fds;

	peer_connect(&peer, daemon->socket_path);
	peer_hello(&peer, 0);
	while (peer_counter(&peer, "sessions") != connections + 1)
		pause_ms(1);
	(void)peer_counter(&peer, "sessions"); /* descriptors are closed at the end of a turn */
	fds = test_daemon_fds(daemon) - 1;
	peer_close(&peer);
	await_fds(daemon, fds);
	return fds;
}

static void assert_serves(const char *socket_path)
{
	struct test_peer peer;

	peer_connect(&peer, socket_path);
	peer_hello(&peer, 0);
	peer_close(&peer);
}

/* A Config request in a frame; its reply is some KiB. Returns the frame's size. */
static size_t config_frame(uint64_t id, uint8_t *frame)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Config ask = KVPAGED__V1__CONFIG__INIT;
	size_t n;

	request.id = id;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_CONFIG;
	request.config = &ask;
	n = kvpaged__v1__request__pack(&request, frame + FRAME_HEADER_BYTES);
	frame_put_header(frame, (uint32_t)n);
	return n + FRAME_HEADER_BYTES;
}

static void expect_config_reply(struct test_peer *peer, uint64_t id)
{
	Kvpaged__V1__Reply *reply = peer_receive(peer, NULL, NULL);

	assert_non_null(reply);
	assert_int_equal(reply->id, id);
	assert_int_equal(reply->verb_case, KVPAGED__V1__REPLY__VERB_CONFIG);
	kvpaged__v1__reply__free_unpacked(reply, NULL);
}

/* --- frames -------------------------------------------------------------------------- */

static void test_bad_lengths(void **state)
{
	static const uint8_t lengths[][4] = {
		{ 0, 0, 0, 0 },
		{ 1, 0, 0x10, 0 },
		{ 0xff, 0xff, 0xff, 0xff },
		{ 'G', 'E', 'T', ' ' },
	};
	struct test_daemon d;

	test_daemon_start(&d, NULL);
	for (size_t i = 0; i < COUNT(lengths); i++) {
		struct test_peer peer;

		peer_connect(&peer, d.socket_path);
		assert_int_equal(peer_send_bytes(&peer, lengths[i], sizeof(lengths[i])), 0);
		peer_expect_end(&peer);
		peer_close(&peer);
	}
	await_log(&d, "the length of a frame is out of range");
	assert_serves(d.socket_path);
	test_daemon_stop(&d);
}

static void test_one_byte_at_a_time(void **state)
{
	struct test_daemon d;
	struct test_peer peer;
	uint8_t frame[64];

	test_daemon_start(&d, NULL);
	peer_connect(&peer, d.socket_path);
	peer_hello(&peer, 0);
	for (uint64_t id = 100; id < 110; id++) {
		size_t n = config_frame(id, frame);

		for (size_t i = 0; i < n; i++)
			assert_int_equal(peer_send_bytes(&peer, frame + i, 1), 0);
		expect_config_reply(&peer, id);
	}
	peer_close(&peer);
	test_daemon_stop(&d);
}

/*
 * More than are handled in one turn, and more replies than are queued before reading stops: all are
 * answered, in order.
 */
static void test_many_frames_in_one_write(void **state)
{
	enum { FRAMES = 2000 };
	static uint8_t bytes[FRAMES * 64];
	struct test_daemon d;
	struct test_peer peer;
	size_t n = 0;

	for (uint64_t i = 0; i < FRAMES; i++)
		n += config_frame(1000 + i, bytes + n);
	test_daemon_start(&d, NULL);
	peer_connect(&peer, d.socket_path);
	peer_hello(&peer, 0);
	assert_int_equal(peer_send_bytes(&peer, bytes, n), 0);
	for (uint64_t i = 0; i < FRAMES; i++)
		expect_config_reply(&peer, 1000 + i);
	peer_close(&peer);
	test_daemon_stop(&d);
}

static void test_end_within_a_frame(void **state)
{
	struct test_daemon d;
	unsigned fds;

	test_daemon_start(&d, NULL);
	fds = settled_fds(&d, 0);
	for (size_t cut = 1; cut < 7; cut++) {
		struct test_peer peer;
		uint8_t frame[64];

		(void)config_frame(1, frame);
		peer_connect(&peer, d.socket_path);
		assert_int_equal(peer_send_bytes(&peer, frame, cut), 0);
		peer_close(&peer);
	}
	await_fds(&d, fds);
	assert_serves(d.socket_path);
	test_daemon_stop(&d);
}

/* What was asked before is still answered. */
static void test_shut_down_sending_side(void **state)
{
	struct test_daemon d;
	struct test_peer peer;
	uint8_t frame[64];

	test_daemon_start(&d, NULL);
	peer_connect(&peer, d.socket_path);
	peer_hello(&peer, 0);
	assert_int_equal(peer_send_bytes(&peer, frame, config_frame(77, frame)), 0);
	assert_int_equal(shutdown(peer.fd, SHUT_WR), 0);
	expect_config_reply(&peer, 77);
	peer_expect_end(&peer);
	peer_close(&peer);
	test_daemon_stop(&d);
}

/* --- descriptors --------------------------------------------------------------------- */

static void send_descriptors(const struct test_daemon *d, size_t n, bool after_hello)
{
	int fds[253];
	struct test_peer peer;
	uint8_t frame[64];
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_true(null >= 0);
	for (size_t i = 0; i < n; i++)
		fds[i] = null;
	peer_connect(&peer, d->socket_path);
	if (after_hello)
		peer_hello(&peer, 0);
	assert_int_equal(peer_send_fds(&peer, frame, config_frame(5, frame), fds, n), 0);
	peer_expect_end(&peer);
	peer_close(&peer);
	(void)close(null);
}

static void test_unexpected_descriptors(void **state)
{
	static const size_t numbers[] = { 1, 16, 253 };
	struct test_daemon d;
	struct test_peer other;
	unsigned fds;

	test_daemon_start(&d, NULL);
	peer_connect(&other, d.socket_path);
	peer_hello(&other, 0);
	fds = settled_fds(&d, 1);
	for (size_t i = 0; i < COUNT(numbers); i++) {
		send_descriptors(&d, numbers[i], false);
		send_descriptors(&d, numbers[i], true);
	}
	await_fds(&d, fds);
	await_log(&d, "it sent descriptors");
	(void)peer_counter(&other, "sessions");
	peer_close(&other);
	test_daemon_stop(&d);
}

static void limit_fds(const struct test_daemon *d, rlim_t more, struct rlimit *ret_before)
{
	struct rlimit limit;

	assert_int_equal(prlimit(d->pid, RLIMIT_NOFILE, NULL, ret_before), 0);
	limit = *ret_before;
	limit.rlim_cur = 0;
	for (unsigned fd = 0; fd < 1024;
	     fd++) { /* the limit is on numbers, not on how many are open */
		char path[64];

		(void)snprintf(path, sizeof(path), "/proc/%d/fd/%u", (int)d->pid, fd);
		if (access(path, F_OK) < 0 && more-- == 0) {
			limit.rlim_cur = fd;
			break;
		}
	}
	assert_int_equal(prlimit(d->pid, RLIMIT_NOFILE, &limit, NULL), 0);
}

/* The kernel cuts the list at the daemon's limit. */
static void test_cut_descriptors(void **state)
{
	struct test_daemon d;
	struct rlimit before;
	unsigned fds;

	test_daemon_start(&d, NULL);
	fds = settled_fds(&d, 0);
	limit_fds(&d, 4, &before);
	send_descriptors(&d, 16, false);
	await_fds(&d, fds);
	assert_int_equal(prlimit(d.pid, RLIMIT_NOFILE, &before, NULL), 0);
	assert_serves(d.socket_path);
	test_daemon_stop(&d);
}

/*
 * No descriptor for new connections: they are dropped, who is there is served, and all is well when
 * there are some again.
 */
static void test_out_of_descriptors(void **state)
{
	struct test_daemon d;
	struct test_peer old, fresh[8];
	struct rlimit before;

	test_daemon_start(&d, NULL);
	peer_connect(&old, d.socket_path);
	peer_hello(&old, 1 << 20);
	(void)settled_fds(&d, 1);
	limit_fds(&d, 0, &before);
	for (size_t i = 0; i < COUNT(fresh); i++)
		peer_connect(&fresh[i], d.socket_path);
	for (size_t i = 0; i < COUNT(fresh); i++) {
		peer_expect_end(&fresh[i]);
		peer_close(&fresh[i]);
	}
	await_log(&d, "no descriptor left for a new connection: dropped");
	(void)peer_counter(&old, "sessions");
	assert_int_equal(prlimit(d.pid, RLIMIT_NOFILE, &before, NULL), 0);
	assert_serves(d.socket_path);
	peer_close(&old);
	test_daemon_stop(&d);
}

/* Enough for the connection, not for its staging memory: it is refused, and nothing stays open. */
static void test_no_descriptor_for_staging(void **state)
{
	struct test_daemon d;
	struct rlimit before;
	struct test_peer peer;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Hello hello = KVPAGED__V1__HELLO__INIT;
	unsigned fds;

	test_daemon_start(&d, NULL);
	fds = settled_fds(&d, 0);
	limit_fds(&d, 1, &before);
	hello.version_min = KVP_PROTOCOL_VERSION_MIN;
	hello.version_max = KVP_PROTOCOL_VERSION_MAX;
	hello.staging_bytes = 1 << 20;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_HELLO;
	request.hello = &hello;
	peer_connect(&peer, d.socket_path);
	assert_int_equal(peer_send(&peer, &request), 0);
	peer_expect_end(&peer);
	peer_close(&peer);
	await_fds(&d, fds);
	assert_int_equal(prlimit(d.pid, RLIMIT_NOFILE, &before, NULL), 0);
	assert_serves(d.socket_path);
	test_daemon_stop(&d);
}

static void send_hello(struct test_peer *peer)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Hello hello = KVPAGED__V1__HELLO__INIT;

	hello.version_min = KVP_PROTOCOL_VERSION_MIN;
	hello.version_max = KVP_PROTOCOL_VERSION_MAX;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_HELLO;
	request.hello = &hello;
	assert_int_equal(peer_send(peer, &request), 0);
}

static void expect_hello_reply(struct test_peer *peer)
{
	int fds[KVP_FDS_MAX];
	size_t n_fds = 0;
	Kvpaged__V1__Reply *reply = peer_receive(peer, fds, &n_fds);

	assert_non_null(reply);
	assert_int_equal(reply->verb_case, KVPAGED__V1__REPLY__VERB_HELLO);
	kvpaged__v1__reply__free_unpacked(reply, NULL);
	assert_int_equal(n_fds, 1);
	(void)close(fds[0]);
}

/*
 * Descriptors on their way that nobody takes count against the sender's user, who may not have more
 * of them than open files. The others wait until some were taken. Root has no such limit.
 */
static void test_too_many_descriptors_in_flight(void **state)
{
	struct test_daemon d;
	struct test_peer peers[60];
	struct rlimit before, few;
	struct pollfd last;

	if (geteuid() == 0) {
		assert_int_equal(chown(harness_directory(), NOBODY, NOBODY), 0);
		assert_int_equal(setgid(NOBODY), 0);
		assert_int_equal(setuid(NOBODY), 0);
	}
	if (access(test_program("KVPAGED_BIN"), X_OK) < 0)
		harness_skip("an ordinary user cannot reach the program");
	assert_int_equal(prctl(PR_SET_DUMPABLE, 1), 0);
	test_daemon_start(&d, "--session-hello-ttl-ms", "1h", NULL);
	for (size_t i = 0; i < COUNT(peers); i++)
		peer_connect(&peers[i], d.socket_path);
	(void)settled_fds(&d, COUNT(peers));
	assert_int_equal(prlimit(d.pid, RLIMIT_NOFILE, NULL, &before), 0);
	few = before;
	few.rlim_cur = 40;
	assert_int_equal(prlimit(d.pid, RLIMIT_NOFILE, &few, NULL), 0);
	for (size_t i = 0; i < COUNT(peers); i++)
		send_hello(&peers[i]);
	last = (struct pollfd){ .fd = peers[COUNT(peers) - 1].fd, .events = POLLIN };
	assert_int_equal(poll(&last, 1, 200), 0); /* it has to wait */
	for (size_t i = 0; i < COUNT(peers); i++)
		expect_hello_reply(&peers[i]);
	for (size_t i = 0; i < COUNT(peers); i++)
		peer_close(&peers[i]);
	assert_int_equal(prlimit(d.pid, RLIMIT_NOFILE, &before, NULL), 0);
	assert_serves(d.socket_path);
	test_daemon_stop(&d);
}

/*
 * Once the client has its descriptors, a session without an event costs the daemon its connection
 * only.
 */
static void test_descriptors_of_a_session(void **state)
{
	struct test_daemon d;
	struct test_peer peers[16];
	unsigned fds;

	test_daemon_start(&d, NULL);
	fds = settled_fds(&d, 0);
	for (size_t i = 0; i < COUNT(peers); i++) {
		peer_connect(&peers[i], d.socket_path);
		peer_hello(&peers[i], 1 << 20);
	}
	await_fds(&d, fds + COUNT(peers));
	for (size_t i = 0; i < COUNT(peers); i++)
		peer_close(&peers[i]);
	await_fds(&d, fds);
	test_daemon_stop(&d);
}

/* --- clients that wait --------------------------------------------------------------- */

static uint64_t memory_kib(const struct test_daemon *d)
{
	char path[64], line[128];
	unsigned long kib = 0;
	FILE *stream;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)d->pid);
	stream = fopen(path, "r");
	assert_non_null(stream);
	while (fgets(line, sizeof(line), stream))
		if (sscanf(line, "RssAnon: %lu", &kib) == 1)
			break;
	(void)fclose(stream);
	return kib;
}

/* It asks and never reads: what it makes the daemon hold is bounded, and it is sent away. */
static void test_client_that_does_not_read(void **state)
{
	struct test_daemon d;
	struct test_peer peer;
	uint64_t before_kib, id = 1000;
	uint8_t frame[64];

	test_daemon_start(&d, "--limits-reply-stall-ms", "500ms", NULL);
	peer_connect(&peer, d.socket_path);
	peer_hello(&peer, 0);
	before_kib = memory_kib(&d);
	assert_int_equal(fcntl(peer.fd, F_SETFL, O_NONBLOCK), 0);
	for (time_t limit = time(NULL) + 20; time(NULL) < limit;) {
		size_t n = config_frame(id++, frame);

		if (send(peer.fd, frame, n, MSG_NOSIGNAL) < 0) {
			if (errno != EAGAIN)
				break;
			assert_true(memory_kib(&d) < before_kib + 32 * 1024);
			pause_ms(1);
		}
	}
	await_log(&d, "it does not read its replies");
	assert_serves(d.socket_path);
	peer_close(&peer);
	test_daemon_stop(&d);
}

/*
 * Connects from now on without saying a word; those above the limit are refused, the others end by
 * time.
 */
static void test_silent_clients(void **state)
{
	struct test_daemon d;
	struct test_peer silent[40];

	test_daemon_start(&d, "--limits-sessions-per-uid", "32", "--session-hello-ttl-ms", "300ms",
			  NULL);
	for (size_t i = 0; i < COUNT(silent); i++)
		peer_connect(&silent[i], d.socket_path);
	await_log(&d, "is refused: too many sessions");
	for (size_t i = 0; i < COUNT(silent); i++) {
		peer_expect_end(&silent[i]);
		peer_close(&silent[i]);
	}
	assert_serves(d.socket_path);
	test_daemon_stop(&d);
}

static void test_many_short_connections(void **state)
{
	struct test_daemon d;
	unsigned fds;

	test_daemon_start(&d, NULL);
	fds = settled_fds(&d, 0);
	for (int i = 0; i < 2000; i++) {
		struct test_peer peer;

		peer_connect(&peer, d.socket_path);
		peer_close(&peer);
	}
	await_fds(&d, fds);
	assert_serves(d.socket_path);
	test_daemon_stop(&d);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_bad_lengths),
	cmocka_unit_test(test_one_byte_at_a_time),
	cmocka_unit_test(test_many_frames_in_one_write),
	cmocka_unit_test(test_end_within_a_frame),
	cmocka_unit_test(test_shut_down_sending_side),
	cmocka_unit_test(test_unexpected_descriptors),
	cmocka_unit_test(test_cut_descriptors),
	cmocka_unit_test(test_out_of_descriptors),
	cmocka_unit_test(test_no_descriptor_for_staging),
	cmocka_unit_test(test_too_many_descriptors_in_flight),
	cmocka_unit_test(test_descriptors_of_a_session),
	cmocka_unit_test(test_client_that_does_not_read),
	cmocka_unit_test(test_silent_clients),
	cmocka_unit_test(test_many_short_connections),
};

int main(void)
{
	return harness_run(tests, COUNT(tests));
}
