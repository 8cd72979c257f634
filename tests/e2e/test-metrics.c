/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's metrics over HTTP: where they are served, what is answered, and that the values are the daemon's. */
#include "tests/e2e/http-rig.h"
#include "tests/e2e/wire.h"
#include "tests/lib/harness.h"
#include "tests/lib/process.h"

#include "base/cleanup.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define OUTPUT_BYTES 16384
#define WAIT_LIMIT_MS 20000

static char output[OUTPUT_BYTES];

static bool exists(const char *path)
{
	struct stat status;

	return lstat(path, &status) == 0;
}

static void await_log(const struct test_daemon *daemon, const char *text)
{
	for (int waited_ms = 0; !test_daemon_logged(daemon, text); waited_ms += 5) {
		if (waited_ms > WAIT_LIMIT_MS)
			fail_msg("the log never says '%s'", text);
		pause_ms(5);
	}
}

/* --- What is answered ------------------------------------------------------------------ */

static void assert_answers(const char *path, const char *request, unsigned status, const char *body)
{
	struct http_answer answer;

	assert_int_equal(http_ask(path, request, &answer), status);
	assert_string_equal(answer.body, body);
	http_answer_free(&answer);
}

static void test_paths(void **state)
{
	struct test_daemon d;
	const char *path;

	test_daemon_start(&d, NULL);
	path = http_socket(&d);
	assert_answers(path, "GET /healthz HTTP/1.0\r\n\r\n", 200, "ok\n");
	assert_answers(path, "GET /readyz HTTP/1.0\r\n\r\n", 200, "ready\n");
	assert_answers(path, "GET / HTTP/1.0\r\n\r\n", 200, "kvpaged 0.1.0: /metrics /healthz /readyz\n");
	assert_answers(path, "GET http://kvpaged/readyz?x=/y HTTP/1.1\r\nHost: x\r\n\r\n", 200, "ready\n");
	assert_answers(path, "HEAD /healthz HTTP/1.0\r\n\r\n", 200, "");
	assert_int_equal(http_ask(path, "GET /metrics/ HTTP/1.0\r\n\r\n", NULL), 404);
	assert_int_equal(http_ask(path, "GET /healthz/../metrics HTTP/1.0\r\n\r\n", NULL), 404);
	assert_int_equal(http_ask(path, "HEAD /metric HTTP/1.0\r\n\r\n", NULL), 404);
	test_daemon_stop(&d);
}

/* The type that an Accept header gets, and how the text ends. */
static void assert_format(const char *path, const char *accept, const char *type, bool eof)
{
	struct http_answer answer;
	char request[512];
	bool ended;

	(void)snprintf(request, sizeof(request), "GET /metrics HTTP/1.1\r\nHost: x\r\n%s\r\n", accept);
	assert_int_equal(http_ask(path, request, &answer), 200);
	assert_non_null(strstr(answer.head, type));
	ended = strcmp(answer.body + answer.n_body - strlen("# EOF\n"), "# EOF\n") == 0;
	assert_int_equal(ended, eof);
	assert_int_equal(http_has_line(answer.body, "# TYPE kvpaged_requests counter"), eof);
	assert_int_equal(http_has_line(answer.body, "# TYPE kvpaged_requests_total counter"), !eof);
	http_answer_free(&answer);
}

static void test_formats(void **state)
{
	static const char text[] = "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n";
	static const char open[] =
		"\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
	struct test_daemon d;
	const char *path;

	test_daemon_start(&d, NULL);
	path = http_socket(&d);
	assert_format(path, "", text, false);
	assert_format(path, "Accept: */*\r\n", text, false);
	assert_format(path, "Accept: application/openmetrics-text\r\n", open, true);
	assert_format(path, "Accept: text/plain;q=0.5\r\nAccept: application/openmetrics-text;q=0.6\r\n", open, true);
	assert_format(path, "Accept: text/plain, application/openmetrics-text;q=0.6\r\n", text, false);
	test_daemon_stop(&d);
}

/* HEAD tells the length that GET would have, but for what changes from one to the next. */
static void test_head(void **state)
{
	struct http_answer answer;
	struct test_daemon d;
	int fd;

	test_daemon_start(&d, NULL);
	fd = http_dial(http_socket(&d));
	assert_true(http_send(fd, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"));
	http_receive(fd, true, &answer);
	assert_int_equal(answer.status, 200);
	assert_null(strstr(answer.head, "Content-Length: 0\r\n"));
	http_answer_free(&answer);
	http_receive(fd, false, &answer);
	assert_string_equal(answer.body, "ok\n");
	http_answer_free(&answer);
	(void)close(fd);
	test_daemon_stop(&d);
}

static void test_keep_alive(void **state)
{
	struct http_answer answer;
	struct test_daemon d;
	int fd;

	test_daemon_start(&d, NULL);
	fd = http_dial(http_socket(&d));
	for (int i = 0; i < 3; i++) {
		assert_true(http_send(fd, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"));
		http_receive(fd, false, &answer);
		assert_true(answer.status == 200 && !answer.close);
		http_answer_free(&answer);
	}
	assert_true(http_send(fd, "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
	http_receive(fd, false, &answer);
	assert_true(answer.status == 200 && answer.close);
	http_answer_free(&answer);
	assert_true(http_ends(fd));
	(void)close(fd);
	fd = http_dial(http_socket(&d));
	assert_true(http_send(fd, "GET /readyz HTTP/1.0\r\n\r\n"));
	assert_true(http_ends(fd));
	(void)close(fd);
	test_daemon_stop(&d);
}

/* Many requests in one write are answered in order, up to the last that a connection may have. */
static void test_pipelined(void **state)
{
	static const char two[] =
		"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\n\r\n";
	static char requests[500 * (sizeof(two) - 1)];
	struct http_answer answer;
	struct test_daemon d;
	int fd;

	test_daemon_start(&d, NULL);
	fd = http_dial(http_socket(&d));
	for (size_t i = 0; i < 500; i++)
		memcpy(requests + i * (sizeof(two) - 1), two, sizeof(two) - 1);
	assert_true(http_send_bytes(fd, requests, sizeof(requests)));
	for (int i = 0; i < 1000; i++) {
		http_receive(fd, false, &answer);
		assert_string_equal(answer.body, i % 2 ? "ready\n" : "ok\n");
		assert_int_equal(answer.close, i == 999);
		http_answer_free(&answer);
	}
	assert_true(http_ends(fd));
	(void)close(fd);
	test_daemon_stop(&d);
}

/* --- Values ---------------------------------------------------------------------------- */

static double value(const struct test_daemon *d, const char *sample)
{
	_cleanup_free_ char *text = http_get(http_socket(d), "/metrics");

	return http_value(text, sample);
}

static void test_values(void **state)
{
	Kvpaged__V1__Schema schema;
	struct wire_space space;
	struct test_peer peer;
	struct scene scene;
	double before, stored;
	char *text;

	scene_begin(&scene, NULL);
	before = value(&scene.daemon, "kvpaged_http_requests_total{answer=\"served\"}");
	assert_true(value(&scene.daemon, "kvpaged_http_requests_total{answer=\"served\"}") == before + 1);
	assert_int_equal(http_ask(http_socket(&scene.daemon), "PUT / HTTP/1.1\r\n", NULL), 405);
	assert_true(value(&scene.daemon, "kvpaged_http_requests_total{answer=\"refused\"}") == 1);
	stored = value(&scene.daemon, "kvpaged_append_pages_total{result=\"stored\"}");
	peer_connect(&peer, scene.daemon.socket_path);
	peer_hello(&peer, 1 << 20);
	wire_schema(&schema, 2, 1);
	wire_open(&peer, "values", &schema, &space);
	assert_int_equal(wire_append(&peer, &space, "k", 0, space.page_count, 1), KVP_OK);
	text = http_get(http_socket(&scene.daemon), "/metrics");
	assert_true(http_value(text, "kvpaged_sessions") == 2);
	assert_true(http_value(text, "kvpaged_blocks") == 1);
	assert_true(http_value(text, "kvpaged_space_blocks{space=\"values\"}") == 1);
	assert_true(http_value(text, "kvpaged_space_pages{space=\"values\"}") == space.page_count);
	assert_true(http_value(text, "kvpaged_space_tokens{space=\"values\"}") == space.tokens);
	assert_true(http_value(text, "kvpaged_space_bytes{space=\"values\",state=\"stored\"}") ==
		    (double)space.page_count * space.page_bytes);
	assert_true(http_value(text, "kvpaged_append_pages_total{result=\"stored\"}") == stored + space.page_count);
	assert_true(http_value(text, "kvpaged_request_duration_seconds_count{verb=\"append\"}") >= 1);
	assert_true(http_value(text, "kvpaged_memory_bytes{state=\"stored\"}") ==
		    (double)space.page_count * space.page_bytes);
	assert_true(http_value(text, "kvpaged_arena_bytes") == 64 << 20);
	assert_true(http_value(text, "kvpaged_build_info{version=\"0.1.0\"}") == 1);
	assert_true(http_value(text, "process_open_fds") >= 8);
	assert_true(http_value(text, "process_cpu_seconds_total") > 0);
	free(text);
	peer_close(&peer);
	wire_drop_spaces(&scene.watcher);
	text = http_get(http_socket(&scene.daemon), "/metrics");
	assert_null(strstr(text, "space=\"values\""));
	free(text);
	scene_end(&scene);
}

/* What the table in shared memory says of its first space. */
static uint64_t shared_blocks(const struct test_peer *peer)
{
	const struct kvp_arena_header *header = peer->arena;
	const void *spaces = (const uint8_t *)peer->arena + header->spaces_offset;

	return atomic_load(&((const struct kvp_space_entry *)spaces)->blocks);
}

/* Another space in a dropped one's place begins with nothing, also before somebody asks. */
static void test_space_in_anothers_place(void **state)
{
	Kvpaged__V1__Schema schema;
	struct wire_space space;
	struct scene scene;
	struct test_peer peer;

	scene_begin(&scene, NULL);
	peer_connect(&peer, scene.daemon.socket_path);
	peer_hello(&peer, 1 << 20);
	wire_schema(&schema, 1, 1);
	wire_open(&peer, "first", &schema, &space);
	assert_int_equal(wire_append(&peer, &space, "k", 0, space.page_count, 1), KVP_OK);
	assert_true(value(&scene.daemon, "kvpaged_space_blocks{space=\"first\"}") == 1);
	assert_int_equal(shared_blocks(&scene.watcher), 1);
	peer_close(&peer);
	wire_drop_spaces(&scene.watcher);
	assert_int_equal(shared_blocks(&scene.watcher), 0);
	peer_connect(&peer, scene.daemon.socket_path);
	peer_hello(&peer, 1 << 20);
	wire_open(&peer, "second", &schema, &space);
	assert_true(value(&scene.daemon, "kvpaged_space_blocks{space=\"second\"}") == 0);
	peer_close(&peer);
	scene_end(&scene);
}

/* --- Where ----------------------------------------------------------------------------- */

static void assert_tcp_serves(int family, uint16_t port)
{
	struct http_answer answer;
	int fd = http_dial_tcp(family, port);

	assert_true(fd >= 0);
	assert_true(http_send(fd, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
	http_receive(fd, false, &answer);
	assert_int_equal(answer.status, 200);
	assert_true(http_value(answer.body, "kvpaged_sessions") >= 0);
	http_answer_free(&answer);
	(void)close(fd);
}

static void test_tcp(void **state)
{
	struct test_daemon d;

	test_daemon_start(&d, "--metrics-listen", "127.0.0.1:0", NULL);
	assert_tcp_serves(AF_INET, http_port(&d));
	test_daemon_stop(&d);
	test_daemon_start(&d, "--metrics-listen", "0.0.0.0:0", "--metrics-listen-any", "yes", "--metrics-socket", "no",
			  NULL);
	assert_false(exists(http_socket(&d)));
	assert_tcp_serves(AF_INET, http_port(&d));
	test_daemon_stop(&d);
}

static void test_tcp_v6(void **state)
{
	struct test_daemon d;
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	FILE *there = fopen("/proc/net/if_inet6", "r");
	bool loopback = fd >= 0 && there && fgetc(there) != EOF;

	if (there)
		(void)fclose(there);
	(void)close_fd(fd);
	if (!loopback)
		harness_skip("there is no IPv6 here");
	test_daemon_start(&d, "--metrics-listen", "[::1]:0", NULL);
	assert_tcp_serves(AF_INET6, http_port(&d));
	test_daemon_stop(&d);
}

/* Starting with this must fail with this status and text, and leave nothing. */
static void assert_refuses(const char *option, const char *text, int exit_status, const char *says)
{
	char socket_path[200], config[200];
	int fd;

	(void)snprintf(socket_path, sizeof(socket_path), "%s/refused", harness_directory());
	(void)snprintf(config, sizeof(config), "%s/empty.conf", harness_directory());
	fd = open(config, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(test_daemon_run(output, sizeof(output), "--config", config, "--socket", socket_path,
					 "--arena-bytes", "16MiB", option, text, NULL),
			 exit_status);
	if (!strstr(output, says))
		fail_msg("'%s' is not in: %s", says, output);
	assert_false(exists(socket_path));
}

static void test_refused_addresses(void **state)
{
	static const char *const texts[] = { "localhost:9464", "127.0.0.1", ":9464", "127.0.0.1:65536", "::1:9464",
					     "[::1]", "[::1:9464", "127.0.0.1:9464x", "127.1:80", "*:9464" };
	struct test_daemon d;
	char address[64];

	assert_refuses("--metrics-listen", "0.0.0.0:0", 78,
		       "metrics.listen: other machines could reach 0.0.0.0:0; if they may, set metrics.listen_any");
	assert_refuses("--metrics-listen", "192.0.2.1:9464", 78, "metrics.listen_any");
	assert_refuses("--metrics-listen", "[::]:0", 78, "metrics.listen_any");
	assert_refuses("--metrics-listen", "[::ffff:127.0.0.1]:0", 78, "metrics.listen_any");
	for (size_t i = 0; i < COUNT(texts); i++)
		assert_refuses("--metrics-listen", texts[i], 2, "is not an address and port in numbers");
	test_daemon_start(&d, "--metrics-listen", "127.0.0.1:0", NULL);
	(void)snprintf(address, sizeof(address), "127.0.0.1:%u", http_port(&d));
	assert_refuses("--metrics-listen", address, 1, "metrics.listen: cannot listen on 127.0.0.1:");
	test_daemon_stop(&d);
}

static mode_t mode_of(const char *path)
{
	struct stat status;

	assert_int_equal(lstat(path, &status), 0);
	return status.st_mode & 07777;
}

static void test_socket(void **state)
{
	struct test_daemon d;
	char path[200], lock[200], link_path[200];
	_cleanup_free_ char *body = NULL;

	test_daemon_start(&d, NULL);
	assert_int_equal(mode_of(http_socket(&d)), 0660);
	test_daemon_kill(&d); /* leaves the socket, which the next one takes */
	test_daemon_restart(&d);
	(void)snprintf(lock, sizeof(lock), "%s.lock", http_socket(&d));
	assert_true(exists(lock));
	test_daemon_stop(&d);
	assert_false(exists(http_socket(&d)));
	assert_false(exists(lock));

	(void)snprintf(path, sizeof(path), "%s/elsewhere", harness_directory());
	test_daemon_start(&d, "--metrics-socket", path, "--metrics-mode", "0600", NULL);
	assert_int_equal(mode_of(path), 0600);
	assert_false(exists(http_socket(&d)));
	body = http_get(path, "/healthz");
	assert_refuses("--metrics-socket", path, 1, "another kvpaged serves this socket");
	test_daemon_stop(&d);

	(void)snprintf(link_path, sizeof(link_path), "%s/link", harness_directory());
	assert_int_equal(symlink(path, link_path), 0);
	assert_refuses("--metrics-socket", link_path, 1, "is a symbolic link");
	assert_refuses("--metrics-socket", "/nonexistent/s", 6, "the directory of the socket must exist");
	assert_refuses("--metrics-socket", "off", 2, "is neither auto nor no nor a path with a slash");
}

/* A daemon whose own socket's path is as long as can be starts all the same, and says what it lacks. */
static void test_no_room_for_the_suffix(void **state)
{
	char *argv[] = { (char *)test_program("KVPAGED_BIN"), (char *)"--config", NULL, (char *)"--socket", NULL,
			 (char *)"--arena-bytes", (char *)"16MiB", NULL };
	struct test_daemon d;
	char path[120];
	int log;
	pid_t pid;

	test_daemon_start(&d, "--metrics-socket", "no", NULL); /* for its empty configuration and its log */
	(void)snprintf(path, sizeof(path), "%s/", harness_directory());
	memset(path + strlen(path), 'x', 107 - strlen(path));
	path[107] = '\0';
	argv[2] = d.config_path;
	argv[4] = path;
	log = open(d.log_path, O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_true(log >= 0);
	pid = process_start(argv, log, log);
	(void)close(log);
	await_log(&d, "metrics are not served: ");
	await_log(&d, "xxx, arena");
	scene_client_works(path);
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(process_wait(pid, WAIT_LIMIT_MS), 0);
	test_daemon_stop(&d);
}

/* --- Stopping -------------------------------------------------------------------------- */

/* Fills the daemon's queue of answers to this client, so that stopping takes until stop.drain_ms. */
static void leave_unread(struct test_peer *peer)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Config ask = KVPAGED__V1__CONFIG__INIT;
	uint8_t frame[64];

	request.verb_case = KVPAGED__V1__REQUEST__VERB_CONFIG;
	request.config = &ask;
	assert_int_equal(fcntl(peer->fd, F_SETFL, O_NONBLOCK), 0);
	for (int quiet = 0; quiet < 40;) {
		size_t n;

		request.id = peer->next_id++;
		n = kvpaged__v1__request__pack(&request, frame + FRAME_HEADER_BYTES);
		frame_put_header(frame, (uint32_t)n);
		if (send(peer->fd, frame, n + FRAME_HEADER_BYTES, MSG_NOSIGNAL) > 0) {
			quiet = 0;
			continue;
		}
		quiet++;
		pause_ms(5);
	}
}

static void test_not_ready_when_stopping(void **state)
{
	struct http_answer answer;
	struct test_daemon d;
	struct test_peer peer;
	const char *path;

	test_daemon_start(&d, "--stop-drain-ms", "1h", NULL);
	path = http_socket(&d);
	peer_connect(&peer, d.socket_path);
	peer_hello(&peer, 0);
	leave_unread(&peer);
	assert_int_equal(http_ask(path, "GET /readyz HTTP/1.0\r\n\r\n", NULL), 200);
	assert_int_equal(kill(d.pid, SIGTERM), 0);
	for (int waited_ms = 0; exists(d.socket_path); waited_ms += 5) {
		assert_true(waited_ms < WAIT_LIMIT_MS);
		pause_ms(5);
	}
	assert_int_equal(http_ask(path, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", &answer), 503);
	assert_string_equal(answer.body, "stopping\n");
	assert_true(answer.close);
	http_answer_free(&answer);
	assert_int_equal(http_ask(path, "GET /healthz HTTP/1.0\r\n\r\n", NULL), 200);
	test_daemon_stop(&d); /* the second signal */
	assert_false(exists(path));
	peer_close(&peer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_head),
		cmocka_unit_test(test_keep_alive),
		cmocka_unit_test(test_pipelined),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_space_in_anothers_place),
		cmocka_unit_test(test_tcp),
		cmocka_unit_test(test_tcp_v6),
		cmocka_unit_test(test_refused_addresses),
		cmocka_unit_test(test_socket),
		cmocka_unit_test(test_no_room_for_the_suffix),
		cmocka_unit_test(test_not_ready_when_stopping),
	};

	return harness_run(tests, COUNT(tests));
}
