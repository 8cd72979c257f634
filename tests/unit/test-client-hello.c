/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client library against something that is not, or not quite, kvpaged: a thread that answers Hello as the
 * case says. Whatever comes, kvc_open() ends with the right error, maps nothing that could fault, and (the
 * harness looks) leaves no descriptor.
 */
#include "client/kvclient.h"
#include "client/seals.h"
#include "client/words.h"
#include "proto/fdpass.h"
#include "proto/frame.h"
#include "proto/layout.h"
#include "tests/lib/harness.h"

#include "kvpaged.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ARENA_BYTES KVP_ARENA_BYTES_MIN
#define STAGING_BYTES KVP_STAGING_BYTES_MIN
#define ALL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* What the fake daemon answers. The defaults are right in everything. */
struct answer {
	const void *raw; /* instead of a reply */
	size_t raw_n;
	bool silent;
	uint64_t reply_id; /* 0: the request's */
	uint32_t status;
	uint32_t version;
	uint64_t incarnation;
	uint64_t arena_bytes; /* announced */
	uint64_t staging_bytes;
	uint32_t in_flight_max;
	uint32_t request_bytes_max;
	uint32_t kinds[KVP_FDS_MAX];
	size_t n_kinds;
	size_t n_fds; /* sent */
	mode_t arena_mode; /* as a file of this mode, which has no seals; 0: memory */
	int arena_seals;
	int staging_seals;
	int arena_is_pipe;
	void (*spoil)(struct kvp_arena_header *header);
	bool bytewise;
	bool fd_later;    /* an unasked descriptor with the second request */
	bool stays_open;  /* and keeps its descriptors, until the client closes */
};

static struct answer good_answer(void)
{
	return (struct answer){
		.version = 1,
		.incarnation = 5,
		.arena_bytes = ARENA_BYTES,
		.staging_bytes = STAGING_BYTES,
		.in_flight_max = 16,
		.request_bytes_max = KVP_FRAME_BYTES_MAX,
		.kinds = { KVPAGED__V1__FD_KIND__FD_ARENA, KVPAGED__V1__FD_KIND__FD_STAGING,
			   KVPAGED__V1__FD_KIND__FD_EVENT },
		.n_kinds = 3,
		.n_fds = 3,
		.arena_seals = ALL_SEALS,
		.staging_seals = F_SEAL_SHRINK,
	};
}

static int memory_new(uint64_t bytes, int seals, const struct answer *answer)
{
	bool file = bytes == ARENA_BYTES && answer->arena_mode != 0;
	int fd = memfd_create("fake", MFD_CLOEXEC | (file ? 0 : MFD_ALLOW_SEALING));
	struct kvp_arena_header header = {
		.magic = KVP_ARENA_MAGIC,
		.version = KVP_LAYOUT_VERSION,
		.header_bytes = KVP_HEADER_BYTES,
		.arena_bytes = ARENA_BYTES,
		.incarnation = 5,
		.counters_offset = 4096,
		.spaces_offset = 8192,
		.index_offset = 16384,
		.blocks_offset = 32768,
		.extents_offset = KVP_EXTENT_BYTES,
		.spaces_count = 1,
		.buckets_count = 1,
		.blocks_count = 1,
		.extents_count = 3,
	};

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	if (answer->spoil)
		answer->spoil(&header);
	if (bytes == ARENA_BYTES)
		assert_int_equal(pwrite(fd, &header, sizeof(header), 0), sizeof(header));
	if (file)
		assert_int_equal(fchmod(fd, answer->arena_mode), 0);
	else
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

struct fake {
	struct answer answer;
	char path[160];
	int listener;
	pthread_t thread;
};

/* Reads the client's Hello, the id of which is returned; 0: it hung up. */
static uint64_t hello_receive(int fd)
{
	uint8_t buffer[4096];
	size_t n = 0;
	uint64_t id;
	Kvpaged__V1__Request *request;

	for (;;) {
		ssize_t got = recv(fd, buffer + n, sizeof(buffer) - n, 0);

		if (got <= 0)
			return 0;
		n += (size_t)got;
		if (n > FRAME_HEADER_BYTES && n == FRAME_HEADER_BYTES + buffer[0] + 256u * buffer[1])
			break;
	}
	request = kvpaged__v1__request__unpack(NULL, n - FRAME_HEADER_BYTES, buffer + FRAME_HEADER_BYTES);
	if (!request)
		return 0;
	id = request->id;
	kvpaged__v1__request__free_unpacked(request, NULL);
	return id;
}

/* The reply's frame for free(). */
static uint8_t *reply_pack(const struct answer *answer, uint64_t id, size_t *ret_n)
{
	Kvpaged__V1__Reply reply = KVPAGED__V1__REPLY__INIT;
	Kvpaged__V1__HelloReply hello = KVPAGED__V1__HELLO_REPLY__INIT;
	static const char *const why = "because of \x1b[1m";
	uint8_t *frame;
	size_t n;

	reply.id = answer->reply_id ? answer->reply_id : id;
	reply.status = answer->status;
	if (answer->status != 0) {
		reply.error.data = (uint8_t *)why;
		reply.error.len = strlen(why);
	} else {
		hello.version = answer->version;
		hello.session_id = 1;
		hello.incarnation = answer->incarnation;
		hello.arena_bytes = answer->arena_bytes;
		hello.staging_bytes = answer->staging_bytes;
		hello.requests_in_flight_max = answer->in_flight_max;
		hello.request_bytes_max = answer->request_bytes_max;
		hello.fds = (uint32_t *)answer->kinds;
		hello.n_fds = answer->n_kinds;
		reply.verb_case = KVPAGED__V1__REPLY__VERB_HELLO;
		reply.hello = &hello;
	}
	n = kvpaged__v1__reply__get_packed_size(&reply);
	frame = malloc(FRAME_HEADER_BYTES + n);
	frame_put_header(frame, (uint32_t)n);
	(void)kvpaged__v1__reply__pack(&reply, frame + FRAME_HEADER_BYTES);
	*ret_n = FRAME_HEADER_BYTES + n;
	return frame;
}

/* Until the client closes. */
static void await_end(int fd)
{
	uint8_t byte;

	while (recv(fd, &byte, 1, 0) > 0)
		continue;
}

static void answer_send(int fd, const struct answer *answer, uint64_t id)
{
	int pipes[2] = { -1, -1 };
	int fds[KVP_FDS_MAX] = { -1, -1, -1, -1 };
	size_t n, sent = 0;
	uint8_t *frame = reply_pack(answer, id, &n);
	uint8_t byte;

	fds[0] = memory_new(ARENA_BYTES, answer->arena_seals, answer);
	fds[1] = memory_new(STAGING_BYTES, answer->staging_seals, answer);
	assert_int_equal(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
	fds[2] = answer->arena_is_pipe ? fds[0] : pipes[0];
	fds[3] = pipes[1];
	if (answer->arena_is_pipe)
		fds[0] = pipes[0];
	while (sent < n) {
		size_t part = answer->bytewise ? 1 : n - sent;
		ssize_t r = fdpass_send(fd, frame + sent, part, fds, sent == 0 ? answer->n_fds : 0);

		if (r <= 0)
			break;
		sent += (size_t)r;
	}
	if (answer->fd_later && recv(fd, &byte, 1, 0) == 1) /* the next request begins */
		(void)fdpass_send(fd, "x", 1, fds, 1);
	if (answer->stays_open)
		await_end(fd);
	for (unsigned i = 0; i < 4; i++)
		(void)close(fds[i]);
	free(frame);
}

static void *fake_run(void *data)
{
	const struct fake *fake = data;
	const struct answer *answer = &fake->answer;
	int fd = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC);
	uint64_t id = fd >= 0 ? hello_receive(fd) : 0;

	if (answer->raw)
		(void)send(fd, answer->raw, answer->raw_n, MSG_NOSIGNAL);
	else if (id != 0 && !answer->silent)
		answer_send(fd, answer, id);
	if (answer->silent)
		await_end(fd);
	(void)close(fd);
	return NULL;
}

static void fake_start(struct fake *fake, const struct answer *answer)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	fake->answer = *answer;
	(void)snprintf(fake->path, sizeof(fake->path), "%s/s", harness_directory());
	(void)unlink(fake->path);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", fake->path);
	fake->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fake->listener >= 0);
	assert_int_equal(bind(fake->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fake->listener, 8), 0);
	assert_int_equal(pthread_create(&fake->thread, NULL, fake_run, fake), 0);
}

static void fake_stop(struct fake *fake)
{
	assert_int_equal(pthread_join(fake->thread, NULL), 0);
	(void)close(fake->listener);
}

static int fake_open(const struct fake *fake, uint32_t timeout_ms, kvc_client **ret_client, char why[256])
{
	struct kvc_options options = {
		.struct_bytes = sizeof(options),
		.socket_path = fake->path,
		.staging_bytes = STAGING_BYTES,
		.timeout_ms = timeout_ms,
		.flags = KVC_NO_RECONNECT,
	};

	why[0] = '\0';
	return kvc_open(&options, ret_client, why, 256);
}

/* kvc_open() must fail like this, with these words. */
static void expect_refused(const struct answer *answer, int wanted, const char *words)
{
	kvc_client *client = NULL;
	struct fake fake;
	char why[256];
	int r;

	fake_start(&fake, answer);
	r = fake_open(&fake, answer->silent ? 50 : 10000, &client, why);
	fake_stop(&fake);
	if (r != wanted || !strstr(why, words))
		fail_msg("result %d with \"%s\", wanted %d with \"%s\"", r, why, wanted, words);
	assert_null(client);
}

static void test_good(void **state)
{
	struct answer answer = good_answer();
	kvc_client *client = NULL;
	struct kvc_info info;
	struct fake fake;
	char why[256];

	for (unsigned i = 0; i < 2; i++) {
		fake_start(&fake, &answer);
		assert_int_equal(fake_open(&fake, 10000, &client, why), KVC_OK);
		assert_int_equal(kvc_client_info(client, &info), KVC_OK);
		assert_int_equal(info.incarnation, 5);
		assert_int_equal(info.arena_bytes, ARENA_BYTES);
		assert_int_equal(info.staging_bytes, STAGING_BYTES);
		client = kvc_close(client);
		fake_stop(&fake);
		answer.bytewise = true; /* the second time */
	}
}

/* An unknown kind of descriptor is closed and harms nothing. */
static void test_unknown_kind(void **state)
{
	struct answer answer = good_answer();
	kvc_client *client = NULL;
	struct fake fake;
	char why[256];

	answer.n_kinds = answer.n_fds = 4;
	answer.kinds[3] = 77;
	fake_start(&fake, &answer);
	assert_int_equal(fake_open(&fake, 10000, &client, why), KVC_OK);
	kvc_close(client);
	fake_stop(&fake);
}

static void test_not_kvpaged(void **state)
{
	static const uint8_t zero[] = { 0, 0, 0, 0 };
	static const uint8_t huge[] = { 0xff, 0xff, 0xff, 0xff };
	static const uint8_t above[] = { 1, 0, 16, 0 };
	static const uint8_t garbage[] = { 4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff };
	static const uint8_t cut[] = { 4, 0, 0, 0, 8 };
	static const char http[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
	struct answer answer = good_answer();

#define EXPECT_RAW(bytes, length, wanted, words)                                                    \
	do {                                                                                        \
		answer.raw = (bytes);                                                               \
		answer.raw_n = (length);                                                            \
		expect_refused(&answer, wanted, words);                                             \
	} while (0)
	EXPECT_RAW(http, sizeof(http) - 1, -EPROTO, "does not speak");
	EXPECT_RAW(zero, 4, -EPROTO, "frame length");
	EXPECT_RAW(huge, 4, -EPROTO, "frame length");
	EXPECT_RAW(above, 4, -EPROTO, "frame length");
	EXPECT_RAW(garbage, sizeof(garbage), -EPROTO, "cannot be read");
	EXPECT_RAW(cut, sizeof(cut), -ECONNRESET, "closed the connection");
	EXPECT_RAW(zero, 0, -ECONNRESET, "closed the connection");
	answer = good_answer();
	answer.silent = true;
	expect_refused(&answer, -ETIMEDOUT, "50 ms");
}

static void test_refused(void **state)
{
	struct answer answer = good_answer();

	answer.n_fds = 0;
	answer.status = KVC_VERSION;
	expect_refused(&answer, KVC_VERSION, "because of \\x1b[1m"); /* made printable */
	answer.status = KVC_QUOTA;
	expect_refused(&answer, KVC_QUOTA, "because of");
	answer.status = UINT32_MAX;
	expect_refused(&answer, KVC_PROTOCOL, "because of");
	answer.status = 0;
	answer.reply_id = 999;
	expect_refused(&answer, -EPROTO, "not asked");
}

static void test_impossible_reply(void **state)
{
	struct answer answer = good_answer();

#define EXPECT_BAD(field, value, words)                                                             \
	do {                                                                                        \
		answer = good_answer();                                                             \
		answer.field = (value);                                                             \
		expect_refused(&answer, -EPROTO, words);                                            \
	} while (0)
	EXPECT_BAD(version, 2, "version");
	EXPECT_BAD(version, 0, "version");
	EXPECT_BAD(incarnation, 0, "incarnation");
	EXPECT_BAD(incarnation, 6, "incarnation");
	EXPECT_BAD(in_flight_max, 0, "limits");
	EXPECT_BAD(request_bytes_max, 100, "limits");
	EXPECT_BAD(staging_bytes, STAGING_BYTES + 4096, "more staging");
	EXPECT_BAD(staging_bytes, STAGING_BYTES - 4096, "size");
	EXPECT_BAD(staging_bytes, 0, "staging");
	EXPECT_BAD(n_kinds, 2, "number of descriptors");
	EXPECT_BAD(n_fds, 2, "number of descriptors");
	EXPECT_BAD(n_fds, 0, "number of descriptors");
	EXPECT_BAD(kinds[1], KVPAGED__V1__FD_KIND__FD_ARENA, "two descriptors");
	EXPECT_BAD(kinds[0], 9, "no arena");
	EXPECT_BAD(kinds[1], 9, "staging");
}

static void spoil_magic(struct kvp_arena_header *header)
{
	header->magic++;
}

static void spoil_version(struct kvp_arena_header *header)
{
	header->version++;
}

static void spoil_blocks(struct kvp_arena_header *header)
{
	header->blocks_count = UINT32_MAX;
}

static void test_impossible_memory(void **state)
{
	struct answer answer;

	EXPECT_BAD(arena_seals, 0, "lacks seals");
	EXPECT_BAD(arena_seals, F_SEAL_GROW | F_SEAL_SEAL, "lacks seals");
	EXPECT_BAD(arena_seals, F_SEAL_SHRINK | F_SEAL_SEAL, "lacks seals");
	EXPECT_BAD(arena_seals, F_SEAL_SHRINK | F_SEAL_GROW, "lacks seals");
	EXPECT_BAD(staging_seals, 0, "staging memory lacks seals");
	EXPECT_BAD(arena_is_pipe, 1, "not sealed memory");
	EXPECT_BAD(arena_bytes, ARENA_BYTES + 4096, "announced size");
	EXPECT_BAD(arena_bytes, ARENA_BYTES - 4096, "announced size");
	EXPECT_BAD(arena_bytes, 0, "announced size");
	EXPECT_BAD(arena_bytes, UINT64_MAX, "announced size");
	EXPECT_BAD(spoil, spoil_magic, "magic");
	EXPECT_BAD(spoil, spoil_version, "layout version");
	EXPECT_BAD(spoil, spoil_blocks, "block table");
}

/* What cannot be sealed must be private to the user who listens. */
static void test_file(void **state)
{
	struct answer answer = good_answer();
	kvc_client *client = NULL;
	struct words words;
	struct fake fake;
	char why[256];
	int fd;

	answer.arena_mode = 0600;
	answer.stays_open = true;
	fake_start(&fake, &answer);
	assert_int_equal(fake_open(&fake, 1000, &client, why), KVC_OK);
	kvc_close(client);
	fake_stop(&fake);
	EXPECT_BAD(arena_mode, 0640, "not a file of mode 0600");
	EXPECT_BAD(arena_mode, 0602, "not a file of mode 0600");
	EXPECT_BAD(arena_mode, 0777, "not a file of mode 0600");
	answer.arena_bytes += 4096;
	answer.arena_mode = 0600;
	expect_refused(&answer, -EPROTO, "announced size");
	fd = memory_new(ARENA_BYTES, 0, &answer);
	assert_int_equal(private_file_check(fd, "it", geteuid(), ARENA_BYTES, &words), 0);
	assert_int_equal(private_file_check(fd, "it", 0, ARENA_BYTES, &words), 0);
	assert_int_equal(private_file_check(fd, "it", geteuid() + 1, ARENA_BYTES, &words), -EPROTO);
	assert_non_null(strstr(words.text, "while user "));
	assert_int_equal(private_file_check(fd, "it", (uid_t)-1, ARENA_BYTES, &words), -EPROTO);
	(void)close(fd);
}

/* At the descriptor limit the kernel cuts the list: an error that says so, and nothing left open. */
static void test_descriptor_limit(void **state)
{
	struct answer answer = good_answer();
	struct rlimit before, low;
	kvc_client *client = NULL;
	struct fake fake;
	char why[256];
	int probe, r;

	/* The fake daemon lives in this process: its descriptors count too, and stay until the client is done. */
	answer.stays_open = true;
	fake_start(&fake, &answer);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	probe = dup(0);
	assert_true(probe >= 0);
	(void)close(probe);
	/* epoll, eventfd, socket; accepted, arena, staging, pipe's two; then there is room for one of three. */
	low = before;
	low.rlim_cur = (rlim_t)probe + 9;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	r = fake_open(&fake, 10000, &client, why);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	fake_stop(&fake);
	assert_int_equal(r, -EBADMSG);
	assert_non_null(strstr(why, "RLIMIT_NOFILE"));
	assert_null(client);
}

/* After Hello a descriptor is a violation: it is closed and the connection ended. */
static void test_descriptor_later(void **state)
{
	struct answer answer = good_answer();
	kvc_client *client = NULL;
	struct kvc_stats *stats = NULL;
	struct fake fake;
	char why[256];

	answer.fd_later = true;
	answer.stays_open = true;
	fake_start(&fake, &answer);
	assert_int_equal(fake_open(&fake, 10000, &client, why), KVC_OK);
	assert_int_equal(kvc_stats_get(client, &stats), -EBADMSG);
	assert_null(stats);
	assert_int_equal(kvc_stats_get(client, &stats), -ENOTCONN);
	kvc_close(client);
	fake_stop(&fake);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_good),
	cmocka_unit_test(test_unknown_kind),
	cmocka_unit_test(test_not_kvpaged),
	cmocka_unit_test(test_refused),
	cmocka_unit_test(test_impossible_reply),
	cmocka_unit_test(test_impossible_memory), cmocka_unit_test(test_file),
	cmocka_unit_test(test_descriptor_limit),
	cmocka_unit_test(test_descriptor_later),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
