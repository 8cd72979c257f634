/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bad clients of the daemon's metrics: each gets an error or is hung up on within bounds, while others read metrics and
 * clients of pages notice nothing. Every scene ends with the daemon holding what it held before.
 */
#include "tests/e2e/http-rig.h"
#include "tests/e2e/wire.h"
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "proto/status.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define CONNECTIONS_MAX 16
#define MANY 100

/* Metrics are read and pages are served. */
static void assert_all_works(struct scene *scene)
{
	_cleanup_free_ char *text = http_get(http_socket(&scene->daemon), "/metrics");

	assert_true(http_value(text, "kvpaged_sessions") >= 1);
	scene_client_works(scene->daemon.socket_path);
}

/* --- Bytes ----------------------------------------------------------------------------- */

static void test_refused_requests(void **state)
{
	static const struct {
		const char *text;
		unsigned status;
	} cases[] = {
		{ "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 405 },
		{ "DELETE / HTTP/1.0\r\n\r\n", 405 },
		{ "CONNECT x:80 HTTP/1.1\r\n\r\n", 405 },
		{ "GET /metrics HTTP/1.1\r\n\r\n", 400 },
		{ "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 400 },
		{ "GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400 },
		{ "GET /metrics HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n", 400 },
		{ "GET /metrics\r\n\r\n", 400 },
		{ "GET /met\x1b[31mrics HTTP/1.1\r\nHost: x\r\n\r\n", 400 },
		{ "GET /metrics HTTP/2.0\r\n\r\n", 505 },
		{ "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505 },
		{ "\x16\x03\x01\x02\r\n\r\n", 400 },
		{ "SSH-2.0-OpenSSH_9.2\r\n", 400 },
		{ "\r\n\r\n\r\n", 400 },
	};
	struct scene scene;

	scene_begin(&scene, NULL);
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct http_answer answer;
		int fd = http_dial(http_socket(&scene.daemon));

		(void)http_send(fd, cases[i].text);
		http_receive(fd, false, &answer);
		if (answer.status != cases[i].status || !answer.close)
			fail_msg("%u instead of %u for: %s", answer.status, cases[i].status, cases[i].text);
		assert_true(http_ends(fd));
		assert_int_equal(strstr(answer.head, "\r\nAllow: GET, HEAD\r\n") != NULL, answer.status == 405);
		http_answer_free(&answer);
		(void)close(fd);
	}
	assert_int_equal(peer_counter(&scene.watcher, "http_refused_total"), COUNT(cases));
	assert_all_works(&scene);
	scene_end(&scene);
}

/* The daemon answers as soon as it has seen enough, and drops the rest. */
static void test_megabyte_of_header(void **state)
{
	static char megabyte[MIB];
	static const struct {
		const char *begin;
		unsigned status;
	} cases[] = {
		{ "GET / HTTP/1.1\r\nHost: x\r\nX: ", 431 },
		{ "GET /", 414 },
		{ "", 414 },
	};
	struct scene scene;

	scene_begin(&scene, NULL);
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct http_answer answer;
		int fd = http_dial(http_socket(&scene.daemon));

		memset(megabyte, 'x', sizeof(megabyte));
		(void)http_send(fd, cases[i].begin);
		assert_true(http_send_bytes(fd, megabyte, sizeof(megabyte)));
		http_receive(fd, false, &answer);
		assert_int_equal(answer.status, cases[i].status);
		http_answer_free(&answer);
		assert_true(http_ends(fd));
		(void)close(fd);
	}
	scene_assert_memory(&scene, 4 * MIB);
	assert_all_works(&scene);
	scene_end(&scene);
}

static void test_pipelined_garbage(void **state)
{
	struct http_answer answer;
	struct scene scene;
	int fd;

	scene_begin(&scene, NULL);
	fd = http_dial(http_socket(&scene.daemon));
	assert_true(http_send(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n\x01\x02 garbage\r\n\r\n"
				  "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"));
	http_receive(fd, false, &answer);
	assert_int_equal(answer.status, 200);
	http_answer_free(&answer);
	http_receive(fd, false, &answer);
	assert_int_equal(answer.status, 400);
	http_answer_free(&answer);
	assert_true(http_ends(fd)); /* what follows garbage is not looked at */
	(void)close(fd);
	assert_int_equal(peer_counter(&scene.watcher, "http_answered_total"), 1);
	assert_all_works(&scene);
	scene_end(&scene);
}

static void test_random_bytes(void **state)
{
	uint64_t seed = 1;
	struct scene scene;

	scene_begin(&scene, NULL);
	for (int i = 0; i < 200; i++) {
		uint64_t noise[64];
		int fd = http_dial(http_socket(&scene.daemon));

		for (size_t j = 0; j < COUNT(noise); j++)
			noise[j] = random_next(&seed);
		if (i % 2)
			(void)http_send(fd, "GET / HTTP/1.1\r\nHost: x\r\n");
		(void)http_send_bytes(fd, noise, random_next(&seed) % sizeof(noise));
		(void)close(fd);
	}
	assert_all_works(&scene);
	scene_end(&scene);
}

/* --- Time ------------------------------------------------------------------------------ */

static bool has_something(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, 0) > 0;
}

/* Asks for one thing, and begins to ask for another. */
static int ask_and_begin(const struct scene *scene)
{
	struct http_answer answer;
	int fd = http_dial(http_socket(&scene->daemon));

	assert_true(http_send(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HT"));
	http_receive(fd, false, &answer);
	assert_int_equal(answer.status, 200);
	http_answer_free(&answer);
	return fd;
}

/* A byte now and then does not keep a connection, and saying nothing does not either. */
static void test_slow_requests(void **state)
{
	static const char request[] = "GET /metrics HTTP/1.1\r\nHost: x\r\nX: ";
	struct http_answer answer;
	struct scene scene;
	int slow[4], silent;

	scene_begin(&scene, NULL);
	silent = http_dial(http_socket(&scene.daemon));
	for (size_t i = 0; i < COUNT(slow); i++)
		slow[i] = i == 1 ? ask_and_begin(&scene) : http_dial(http_socket(&scene.daemon));
	for (int waited = 0; !has_something(slow[0]); waited++) {
		assert_true(waited < 300); /* 30 s of pauses */
		for (size_t i = 0; i < COUNT(slow); i++) /* the second one sends nothing more */
			(void)http_send_bytes(slow[i], waited < (int)sizeof(request) - 1 ? &request[waited] : "x",
					      i != 1);
		if (waited % 10 == 0)
			assert_all_works(&scene);
		pause_ms(100);
	}
	for (size_t i = 0; i < COUNT(slow); i++) {
		http_receive(slow[i], false, &answer);
		assert_int_equal(answer.status, 408);
		http_answer_free(&answer);
		assert_true(http_ends(slow[i]));
		(void)close(slow[i]);
	}
	http_receive(silent, false, &answer);
	assert_int_equal(answer.status, 0);
	http_answer_free(&answer);
	(void)close(silent);
	assert_int_equal(peer_counter(&scene.watcher, "http_refused_total"), COUNT(slow));
	scene_end(&scene);
}

/* --- Numbers --------------------------------------------------------------------------- */

/* All of them ask at once, and each is answered, though there is room for a few at a time. */
static void test_many_at_once(void **state)
{
	struct scene scene;
	int fds[MANY];

	scene_begin(&scene, NULL);
	assert_int_equal(kill(scene.daemon.pid, SIGSTOP), 0); /* so that it finds them all at once */
	for (unsigned i = 0; i < MANY; i++) {
		fds[i] = http_dial(http_socket(&scene.daemon));
		assert_true(http_send(fds[i], "GET /metrics HTTP/1.0\r\n\r\n"));
	}
	assert_int_equal(kill(scene.daemon.pid, SIGCONT), 0);
	/* Who is answered has the daemon look into /proc for a moment. */
	assert_true(test_daemon_fds(&scene.daemon) <= scene.fds + CONNECTIONS_MAX + 1);
	scene_client_works(scene.daemon.socket_path);
	for (unsigned i = 0; i < MANY; i++) {
		struct http_answer answer;

		http_receive(fds[i], false, &answer);
		assert_int_equal(answer.status, 200);
		http_answer_free(&answer);
		(void)close(fds[i]);
	}
	scene_end(&scene);
}

/* Connections that say nothing, or not enough, make room for one that asks. */
static void test_many_silent(void **state)
{
	struct scene scene;
	int fds[MANY];

	scene_begin(&scene, NULL);
	for (unsigned i = 0; i < MANY; i++) {
		fds[i] = http_dial(http_socket(&scene.daemon));
		if (i % 2)
			(void)http_send(fds[i], "GET /metrics HTT");
	}
	assert_true(test_daemon_fds(&scene.daemon) <= scene.fds + CONNECTIONS_MAX);
	assert_all_works(&scene);
	for (unsigned i = 0; i < MANY; i++)
		(void)close(fds[i]);
	scene_end(&scene);
}

/* Idle connections that are kept alive do, too. */
static void test_many_kept_alive(void **state)
{
	struct scene scene;
	int fds[CONNECTIONS_MAX];

	scene_begin(&scene, NULL);
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		struct http_answer answer;

		fds[i] = http_dial(http_socket(&scene.daemon));
		assert_true(http_send(fds[i], "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"));
		http_receive(fds[i], false, &answer);
		assert_int_equal(answer.status, 200);
		http_answer_free(&answer);
	}
	assert_all_works(&scene);
	assert_true(http_ends(fds[0])); /* the one that was idle for longest */
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
		(void)close(fds[i]);
	assert_int_equal(peer_counter(&scene.watcher, "http_refused_total"), 0);
	scene_end(&scene);
}

/* As many as can be but for a few, with names that take most to write: answers larger than what a socket takes. */
static void open_many_spaces(struct test_peer *peer)
{
	Kvpaged__V1__Schema schema;
	struct wire_space space;
	char name[128];

	wire_schema(&schema, 1, 1);
	memset(name, '"', sizeof(name));
	for (unsigned i = 0; i < KVP_SPACES_MAX - 4; i++) {
		(void)snprintf(name, sizeof(name), "%0127u", i);
		for (size_t j = 0; j < 120; j++)
			name[j] = '"';
		wire_open(peer, name, &schema, &space);
	}
}

/* They ask on and on and read nothing: one answer each is held, and whoever reads gets his. */
static void test_answers_are_never_read(void **state)
{
	static const char ask[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
	struct test_peer peer;
	struct scene scene;
	int fds[MANY];

	scene_begin(&scene, NULL);
	peer_connect(&peer, scene.daemon.socket_path);
	peer_hello(&peer, 0);
	open_many_spaces(&peer);
	for (unsigned i = 0; i < MANY; i++) {
		fds[i] = http_dial(http_socket(&scene.daemon));
		for (int j = 0; j < 50; j++)
			(void)send(fds[i], ask, sizeof(ask) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	assert_true(test_daemon_fds(&scene.daemon) <= scene.fds + CONNECTIONS_MAX + 3);
	assert_all_works(&scene);
	scene_assert_memory(&scene, 64 * MIB);
	for (unsigned i = 0; i < MANY; i++)
		(void)close(fds[i]);
	peer_close(&peer);
	scene_end(&scene);
}

static void test_hung_up_in_the_middle(void **state)
{
	struct test_peer peer;
	struct scene scene;

	scene_begin(&scene, NULL);
	peer_connect(&peer, scene.daemon.socket_path);
	peer_hello(&peer, 0);
	open_many_spaces(&peer);
	for (unsigned i = 0; i < 50; i++) {
		int fd = http_dial(http_socket(&scene.daemon));
		char bytes[1000];

		assert_true(http_send(fd, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
		if (i % 2)
			assert_true(recv(fd, bytes, sizeof(bytes), 0) > 0);
		(void)close(fd);
	}
	assert_all_works(&scene);
	peer_close(&peer);
	scene_end(&scene);
}

/* --- Labels ---------------------------------------------------------------------------- */

static unsigned register_space(struct test_peer *peer, const char *name)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__OpenSpace open = KVPAGED__V1__OPEN_SPACE__INIT;
	Kvpaged__V1__Schema schema;

	wire_schema(&schema, 1, 1);
	open.name = (ProtobufCBinaryData){ .data = (uint8_t *)(uintptr_t)name, .len = strlen(name) };
	open.schema = &schema;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_OPEN_SPACE;
	request.open_space = &open;
	return peer_call_status(peer, &request);
}

static void test_names_in_labels(void **state)
{
	static const struct {
		const char *name;
		const char *label;
	} cases[] = {
		{ "x\"} 1", "x\\\"} 1" },
		{ "back\\slash\\", "back\\\\slash\\\\" },
		{ "\\n", "\\\\n" },
		{ "a\",space=\"b", "a\\\",space=\\\"b" },
		{ "{}#,= \xc3\xa4\xf0\x9f\x98\x80", "{}#,= \xc3\xa4\xf0\x9f\x98\x80" },
	};
	_cleanup_free_ char *text = NULL;
	struct test_peer peer;
	struct scene scene;
	char line[256];

	scene_begin(&scene, NULL);
	peer_connect(&peer, scene.daemon.socket_path);
	peer_hello(&peer, 0);
	for (size_t i = 0; i < COUNT(cases); i++)
		assert_int_equal(register_space(&peer, cases[i].name), KVP_OK);
	assert_int_equal(register_space(&peer, "a\nkvpaged_injected 1\n"), KVP_INVALID);
	text = http_get(http_socket(&scene.daemon), "/metrics");
	for (size_t i = 0; i < COUNT(cases); i++) {
		(void)snprintf(line, sizeof(line), "kvpaged_space_blocks{space=\"%s\"} 0", cases[i].label);
		if (!http_has_line(text, line))
			fail_msg("no line: %s", line);
	}
	assert_null(strstr(text, "injected"));
	peer_close(&peer);
	scene_end(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused_requests),
		cmocka_unit_test(test_megabyte_of_header),
		cmocka_unit_test(test_pipelined_garbage),
		cmocka_unit_test(test_random_bytes),
		cmocka_unit_test(test_slow_requests),
		cmocka_unit_test(test_many_at_once),
		cmocka_unit_test(test_many_silent),
		cmocka_unit_test(test_many_kept_alive),
		cmocka_unit_test(test_answers_are_never_read),
		cmocka_unit_test(test_hung_up_in_the_middle),
		cmocka_unit_test(test_names_in_labels),
	};

	return harness_run(tests, COUNT(tests));
}
