/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors come in the same recvmsg() as the last byte read before them, so they are kept in the peer until the next
 * reply is complete. The daemon sends descriptors only in answer to Hello, so that is unambiguous.
 */
#include "tests/lib/peer.h"

#include "base/cleanup.h"
#include "proto/fdpass.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_MS 30000
#define FDS_IN_MESSAGE_MAX 253

void peer_attach(struct test_peer *peer, int fd)
{
	*peer = (struct test_peer){ .fd = fd, .arena_fd = -1, .event_fd = -1, .next_id = 1 };
	frame_reader_init(&peer->reader, KVP_FRAME_BYTES_MAX);
}

void peer_connect(struct test_peer *peer, const char *socket_path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_true(strlen(socket_path) < sizeof(address.sun_path));
	memcpy(address.sun_path, socket_path, strlen(socket_path));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail_msg("connect: %s", strerror(errno));
	peer_attach(peer, fd);
}

static void drop_fds(struct test_peer *peer)
{
	for (size_t i = 0; i < peer->n_fds; i++)
		(void)close(peer->fds[i]);
	peer->n_fds = 0;
}

void peer_close(struct test_peer *peer)
{
	if (peer->fd < 0)
		return;
	drop_fds(peer);
	frame_reader_deinit(&peer->reader);
	if (peer->arena)
		(void)munmap((void *)peer->arena, peer->arena_bytes);
	if (peer->staging)
		(void)munmap(peer->staging, peer->staging_bytes);
	if (peer->control)
		(void)munmap(peer->control, peer->control_bytes);
	peer->arena = NULL;
	peer->staging = NULL;
	peer->control = NULL;
	peer->arena_fd = close_fd(peer->arena_fd);
	peer->event_fd = close_fd(peer->event_fd);
	peer->fd = close_fd(peer->fd);
}

static void await(struct test_peer *peer, short events)
{
	struct pollfd event = { .fd = peer->fd, .events = events };
	int ready;

	do
		ready = poll(&event, 1, WAIT_MS);
	while (ready < 0 && errno == EINTR);
	if (ready <= 0)
		fail_msg("the daemon neither answers nor hangs up");
}

int peer_send_fds(struct test_peer *peer, const void *bytes, size_t n, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * FDS_IN_MESSAGE_MAX)];
	} control = { .align = { 0 } };
	struct iovec part = { .iov_base = (void *)bytes, .iov_len = n };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	assert_true(n_fds <= FDS_IN_MESSAGE_MAX);
	if (n_fds > 0) {
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(&control.align), fds, sizeof(int) * n_fds);
	}
	while (part.iov_len > 0) {
		ssize_t sent = sendmsg(peer->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EAGAIN)
			await(peer, POLLOUT);
		else if (sent < 0 && errno != EINTR)
			return -errno;
		if (sent <= 0)
			continue;
		part.iov_base = (char *)part.iov_base + sent;
		part.iov_len -= (size_t)sent;
		message.msg_control = NULL;
		message.msg_controllen = 0;
	}
	return 0;
}

int peer_send_bytes(struct test_peer *peer, const void *bytes, size_t n)
{
	return peer_send_fds(peer, bytes, n, NULL, 0);
}

int peer_send(struct test_peer *peer, Kvpaged__V1__Request *request)
{
	_cleanup_free_ uint8_t *frame = NULL;
	size_t n;

	if (request->id == 0)
		request->id = peer->next_id++;
	n = kvpaged__v1__request__get_packed_size(request);
	frame = malloc(FRAME_HEADER_BYTES + n);
	assert_non_null(frame);
	frame_put_header(frame, (uint32_t)n);
	(void)kvpaged__v1__request__pack(request, frame + FRAME_HEADER_BYTES);
	return peer_send_bytes(peer, frame, FRAME_HEADER_BYTES + n);
}

/* Reads once. Returns whether the stream goes on. */
static bool fill(struct test_peer *peer)
{
	size_t room;
	size_t n_fds = 0;
	uint8_t *space = frame_reader_space(&peer->reader, &room);
	ssize_t got;

	assert_non_null(space);
	await(peer, POLLIN);
	got = fdpass_recv(peer->fd, space, room, 0, peer->fds + peer->n_fds, KVP_FDS_MAX - peer->n_fds, &n_fds);
	if (got == 0 || got == -ECONNRESET || got == -EPIPE)
		return false;
	if (got < 0)
		fail_msg("recvmsg: %s", strerror((int)-got));
	peer->n_fds += n_fds;
	frame_reader_filled(&peer->reader, (size_t)got);
	return true;
}

Kvpaged__V1__Reply *peer_receive(struct test_peer *peer, int *ret_fds, size_t *ret_n_fds)
{
	Kvpaged__V1__Reply *reply;
	const uint8_t *body;
	size_t n;
	int r;

	while ((r = frame_reader_next(&peer->reader, &body, &n)) == 0)
		if (!fill(peer))
			return NULL;
	assert_int_equal(r, 1);
	reply = kvpaged__v1__reply__unpack(NULL, n, body);
	assert_non_null(reply);
	if (ret_fds) {
		memcpy(ret_fds, peer->fds, sizeof(int) * peer->n_fds);
		*ret_n_fds = peer->n_fds;
		peer->n_fds = 0;
	}
	drop_fds(peer);
	return reply;
}

Kvpaged__V1__Reply *peer_call(struct test_peer *peer, Kvpaged__V1__Request *request)
{
	Kvpaged__V1__Reply *reply;

	assert_int_equal(peer_send(peer, request), 0);
	reply = peer_receive(peer, NULL, NULL);
	if (!reply)
		fail_msg("the daemon hung up instead of answering");
	assert_int_equal(reply->id, request->id);
	return reply;
}

unsigned peer_call_status(struct test_peer *peer, Kvpaged__V1__Request *request)
{
	Kvpaged__V1__Reply *reply = peer_call(peer, request);
	unsigned status = reply->status;

	kvpaged__v1__reply__free_unpacked(reply, NULL);
	return status;
}

static void *map_whole(int fd, uint64_t bytes, int protection)
{
	struct stat status;
	void *memory;

	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_size, bytes);
	memory = mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

static void take_memory(struct test_peer *peer, const Kvpaged__V1__HelloReply *hello, int *fds, size_t n_fds)
{
	assert_int_equal(hello->n_fds, n_fds);
	for (size_t i = 0; i < n_fds; i++) {
		switch (hello->fds[i]) {
		case KVPAGED__V1__FD_KIND__FD_ARENA:
			peer->arena = map_whole(fds[i], hello->arena_bytes, PROT_READ);
			peer->arena_bytes = hello->arena_bytes;
			peer->arena_fd = take_fd(&fds[i]);
			break;
		case KVPAGED__V1__FD_KIND__FD_STAGING:
			peer->staging = map_whole(fds[i], hello->staging_bytes, PROT_READ | PROT_WRITE);
			peer->staging_bytes = hello->staging_bytes;
			fds[i] = close_fd(fds[i]);
			break;
		case KVPAGED__V1__FD_KIND__FD_CONTROL:
			peer->records = hello->records;
			peer->control_bytes = kvp_control_bytes(hello->records);
			peer->control = map_whole(fds[i], peer->control_bytes, PROT_READ | PROT_WRITE);
			fds[i] = close_fd(fds[i]);
			break;
		case KVPAGED__V1__FD_KIND__FD_EVENT:
			peer->event_fd = take_fd(&fds[i]);
			break;
		default:
			fail_msg("descriptor of unknown kind %u", hello->fds[i]);
		}
	}
}

void peer_hello(struct test_peer *peer, uint64_t staging_bytes)
{
	peer_hello_reader(peer, staging_bytes, 0);
}

void peer_hello_reader(struct test_peer *peer, uint64_t staging_bytes, uint32_t records)
{
	Kvpaged__V1__Hello hello = KVPAGED__V1__HELLO__INIT;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Reply *reply;
	int fds[KVP_FDS_MAX];
	size_t n_fds = 0;

	hello.version_min = KVP_PROTOCOL_VERSION_MIN;
	hello.version_max = KVP_PROTOCOL_VERSION_MAX;
	hello.client_name = (ProtobufCBinaryData){ .data = (uint8_t *)"test", .len = 4 };
	hello.staging_bytes = staging_bytes;
	hello.records = records;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_HELLO;
	request.hello = &hello;
	assert_int_equal(peer_send(peer, &request), 0);
	reply = peer_receive(peer, fds, &n_fds);
	if (!reply)
		fail_msg("the daemon hung up instead of answering Hello");
	if (reply->status != 0)
		fail_msg("Hello: status %u, %.*s", reply->status, (int)reply->error.len,
			 (const char *)reply->error.data);
	assert_int_equal(reply->verb_case, KVPAGED__V1__REPLY__VERB_HELLO);
	take_memory(peer, reply->hello, fds, n_fds);
	peer->session_id = reply->hello->session_id;
	peer->incarnation = reply->hello->incarnation;
	kvpaged__v1__reply__free_unpacked(reply, NULL);
}

void peer_expect_end(struct test_peer *peer)
{
	while (fill(peer)) {
		const uint8_t *body;
		size_t n;

		while (frame_reader_next(&peer->reader, &body, &n) > 0)
			;
	}
}

bool peer_ended(struct test_peer *peer)
{
	struct pollfd event = { .fd = peer->fd, .events = POLLRDHUP };

	return poll(&event, 1, 0) > 0 && (event.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

uint64_t peer_counter(struct test_peer *peer, const char *name)
{
	Kvpaged__V1__Stats stats = KVPAGED__V1__STATS__INIT;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Reply *reply;
	uint64_t value = 0;
	bool found = false;

	request.verb_case = KVPAGED__V1__REQUEST__VERB_STATS;
	request.stats = &stats;
	reply = peer_call(peer, &request);
	assert_int_equal(reply->verb_case, KVPAGED__V1__REPLY__VERB_STATS);
	for (size_t i = 0; i < reply->stats->n_counters; i++) {
		const Kvpaged__V1__Counter *counter = reply->stats->counters[i];

		if (counter->name.len != strlen(name) || memcmp(counter->name.data, name, counter->name.len) != 0)
			continue;
		value = counter->value;
		found = true;
	}
	kvpaged__v1__reply__free_unpacked(reply, NULL);
	if (!found)
		fail_msg("the daemon has no counter %s", name);
	return value;
}
