/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvpaged when memory runs out: each allocation fails once, at start-up, in every request of a
 * client's life, at a reload and while it stops. Start-up ends with a message and exit status 1 or
 * succeeds all the same; a running daemon refuses one request or one session, and nothing leaks
 * (the address sanitizer looks at the daemon's end).
 *
 * libuv allocates little and ends the process when it cannot; its calls are not among those that
 * fail here.
 */
#include "tests/e2e/failing-alloc.h"
#include "tests/e2e/http-rig.h"
#include "tests/e2e/wire.h"
#include "tests/lib/harness.h"
#include "tests/lib/process.h"

#include "base/cleanup.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAILURES_MAX 2000
#define SANITIZER_EXIT 42 /* so that its findings are no exit status of ours */

static struct failing_alloc *control;

/* From now on daemons of this test are of the failing kind. */
static void prepare(void)
{
	const char *options = getenv("ASAN_OPTIONS");
	char path[160], text[1024];
	int fd;

	assert_int_equal(setenv("KVPAGED_BIN", test_program("KVPAGED_ALLOC_BIN"), 1), 0);
	(void)snprintf(path, sizeof(path), "%s/control", harness_directory());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, sizeof(*control)), 0);
	control = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(control, MAP_FAILED);
	(void)close(fd);
	assert_int_equal(setenv("KVP_FAILING_ALLOC", path, 1), 0);
	(void)snprintf(text, sizeof(text), "%s%sexitcode=%d", options ? options : "",
		       options ? ":" : "", SANITIZER_EXIT);
	assert_int_equal(setenv("ASAN_OPTIONS", text, 1), 0);
}

static void fail_after(uint64_t n)
{
	atomic_store(&control->failed, 0);
	atomic_store(&control->countdown, n);
}

/* Ends the counting. Whether an allocation has failed. */
static bool has_failed(void)
{
	atomic_store(&control->countdown, 0);
	return atomic_load(&control->failed) > 0;
}

/* ---- start-up ---- */

static bool accepts(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	memcpy(address.sun_path, path, strlen(path));
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

/*
 * Starts a daemon that may not start. Whether it became ready; otherwise it has ended, with this
 * wait status.
 */
static bool start(char *const argv[], const char *socket_path, int log, pid_t *ret_pid,
		  int *ret_status)
{
	pid_t pid = process_start(argv, log, log);

	for (;;) {
		if (waitpid(pid, ret_status, WNOHANG) == pid)
			return false;
		if (accepts(socket_path)) {
			*ret_pid = pid;
			return true;
		}
		pause_ms(1);
	}
}

static void write_text(const char *path, const char *text)
{
	FILE *stream = fopen(path, "w");

	assert_non_null(stream);
	assert_true(fputs(text, stream) >= 0);
	assert_int_equal(fclose(stream), 0);
}

/* In order; or out of memory, which may come up while the configuration is read. */
static bool is_exit_status(bool ready, int status)
{
	return ready ? status == 0 : status == 1 || status == 78;
}

static unsigned count_lines(const char *path, const char *text)
{
	FILE *stream = fopen(path, "r");
	char line[1024];
	unsigned n = 0;

	assert_non_null(stream);
	while (fgets(line, sizeof(line), stream))
		n += strstr(line, text) != NULL;
	(void)fclose(stream);
	return n;
}

static void test_start(void **state)
{
	char socket_path[160], config_path[160], log_path[160];
	unsigned survived = 0, n = 1;
	int log;

	prepare();
	(void)snprintf(socket_path, sizeof(socket_path), "%s/s", harness_directory());
	(void)snprintf(config_path, sizeof(config_path), "%s/kvpaged.conf", harness_directory());
	(void)snprintf(log_path, sizeof(log_path), "%s/kvpaged.log", harness_directory());
	write_text(config_path, "[access]\nallow_uids = 0,1\n[arena]\nbytes = 16MiB\n");
	log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	assert_true(log >= 0);
	for (;; n++) {
		char *argv[] = { getenv("KVPAGED_BIN"), (char *)"--config", config_path,
				 (char *)"--socket",	socket_path,	    NULL };
		bool ready;
		pid_t pid = 0;
		int status;

		assert_true(n < FAILURES_MAX);
		fail_after(n);
		ready = start(argv, socket_path, log, &pid, &status);
		if (ready) {
			assert_int_equal(kill(pid, SIGTERM), 0);
			status = process_wait(pid, 20000);
		}
		if (!WIFEXITED(status) || !is_exit_status(ready, WEXITSTATUS(status)))
			fail_msg("allocation %u: %s, wait status 0x%x", n,
				 ready ? "started" : "did not start", (unsigned)status);
		assert_int_not_equal(access(socket_path, F_OK),
				     0); /* nothing is left lying around */
		if (!has_failed())
			break;
		survived += ready;
		/* If it serves then as it was told to, never with a part of its configuration. */
		assert_int_equal(count_lines(log_path, "arena 16.0 MiB"), survived);
		assert_int_equal(count_lines(log_path, " ready: "), survived);
	}
	print_message("%u allocations failed, with %u of them it served\n", n - 1, survived);
	assert_true(n > 20);
	(void)close(log);
	(void)munmap(control, sizeof(*control));
}

/* ---- a client's life ---- */

/* Sends; takes the reply, whatever it says. Whether the connection goes on. */
static bool ask(struct test_peer *peer, Kvpaged__V1__Request__VerbCase verb, void *message,
		Kvpaged__V1__Reply **ret_reply)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Reply *reply;

	request.verb_case = verb;
	request.stats = message; /* a union of pointers */
	if (peer_send(peer, &request) < 0)
		return false;
	reply = peer_receive(peer, NULL, NULL);
	if (reply && ret_reply)
		*ret_reply = reply;
	else if (reply)
		kvpaged__v1__reply__free_unpacked(reply, NULL);
	return reply != NULL;
}

#define VERB(name) KVPAGED__V1__REQUEST__VERB_##name

static bool say_hello(struct test_peer *peer)
{
	Kvpaged__V1__Hello hello = KVPAGED__V1__HELLO__INIT;

	hello.version_min = hello.version_max = KVP_PROTOCOL_VERSION_MAX;
	hello.staging_bytes = 64 << 10;
	hello.want_event = true;
	return ask(peer, VERB(HELLO), &hello, NULL);
}

static bool open_space(struct test_peer *peer, uint32_t *ret_id, uint32_t *ret_page_bytes)
{
	Kvpaged__V1__OpenSpace open = KVPAGED__V1__OPEN_SPACE__INIT;
	Kvpaged__V1__Schema schema;
	Kvpaged__V1__Reply *reply;

	wire_schema(&schema, 1, 2);
	open.name = (ProtobufCBinaryData){ .data = (uint8_t *)"poor", .len = 4 };
	open.schema = &schema;
	if (!ask(peer, VERB(OPEN_SPACE), &open, &reply))
		return false;
	*ret_id = reply->status == KVP_OK ? reply->open_space->space_id : 0;
	*ret_page_bytes = reply->status == KVP_OK ? reply->open_space->page_bytes : 0;
	kvpaged__v1__reply__free_unpacked(reply, NULL);
	return true;
}

/* The staging memory is zero, and so are the pages. */
static bool append_page(struct test_peer *peer, uint32_t space_id, uint32_t page_bytes,
			uint32_t index)
{
	static const uint8_t zeros[4096];
	Kvpaged__V1__Append append = KVPAGED__V1__APPEND__INIT;
	Kvpaged__V1__PageRef ref = KVPAGED__V1__PAGE_REF__INIT, *refs[] = { &ref };

	assert_true(page_bytes <= sizeof(zeros));
	ref.index = index;
	ref.length = page_bytes;
	ref.checksum = kvp_page_checksum(zeros, page_bytes);
	append.space_id = space_id;
	append.key = (ProtobufCBinaryData){ .data = (uint8_t *)"k", .len = 1 };
	append.tokens = 16;
	append.n_pages = 1;
	append.pages = refs;
	return ask(peer, VERB(APPEND), &append, NULL);
}

static bool use_block(struct test_peer *peer, uint32_t space_id)
{
	ProtobufCBinaryData key = { .data = (uint8_t *)"k", .len = 1 };
	Kvpaged__V1__Fetch fetch = KVPAGED__V1__FETCH__INIT;
	Kvpaged__V1__Match match = KVPAGED__V1__MATCH__INIT;
	Kvpaged__V1__Pin pin = KVPAGED__V1__PIN__INIT;
	Kvpaged__V1__List list = KVPAGED__V1__LIST__INIT;
	Kvpaged__V1__Stats stats = KVPAGED__V1__STATS__INIT;
	Kvpaged__V1__Config config = KVPAGED__V1__CONFIG__INIT;

	fetch.space_id = match.space_id = pin.space_id = list.space_id = space_id;
	fetch.n_keys = match.n_keys = pin.n_keys = 1;
	fetch.keys = match.keys = pin.keys = &key;
	pin.priority = 1;
	pin.ttl_ms = 1000;
	return ask(peer, VERB(FETCH), &fetch, NULL) && ask(peer, VERB(MATCH), &match, NULL) &&
	       ask(peer, VERB(PIN), &pin, NULL) && ask(peer, VERB(LIST), &list, NULL) &&
	       ask(peer, VERB(STATS), &stats, NULL) && ask(peer, VERB(CONFIG), &config, NULL);
}

static bool remove_all(struct test_peer *peer, uint32_t space_id)
{
	ProtobufCBinaryData key = { .data = (uint8_t *)"k", .len = 1 };
	Kvpaged__V1__Delete delete = KVPAGED__V1__DELETE__INIT;
	Kvpaged__V1__Evict evict = KVPAGED__V1__EVICT__INIT;
	Kvpaged__V1__DropSpace drop = KVPAGED__V1__DROP_SPACE__INIT;

	delete.space_id = space_id;
	delete.n_keys = 1;
	delete.keys = &key;
	evict.all = true;
	drop.name = (ProtobufCBinaryData){ .data = (uint8_t *)"poor", .len = 4 };
	return ask(peer, VERB(DELETE), &delete, NULL) && ask(peer, VERB(EVICT), &evict, NULL) &&
	       ask(peer, VERB(DROP_SPACE), &drop, NULL);
}

/* Every verb, as far as it gets. Whether it got to the end. */
static bool live(const char *socket_path)
{
	struct test_peer peer;
	uint32_t space_id, page_bytes;
	bool through;

	peer_connect(&peer, socket_path);
	through = say_hello(&peer) && open_space(&peer, &space_id, &page_bytes) &&
		  append_page(&peer, space_id, page_bytes, 0) &&
		  append_page(&peer, space_id, page_bytes, 1) && use_block(&peer, space_id) &&
		  remove_all(&peer, space_id);
	peer_close(&peer);
	return through;
}

static void test_requests(void **state)
{
	unsigned n = 1, through = 0;
	struct scene scene;

	prepare();
	scene_begin(&scene, NULL);
	for (;; n++) {
		bool ended;

		assert_true(n < FAILURES_MAX);
		fail_after(n);
		ended = live(scene.daemon.socket_path);
		through += ended;
		scene_await(&scene, "sessions",
			    1); /* its end allocates nothing, but may come late */
		if (!has_failed()) {
			assert_true(ended);
			break;
		}
		scene_settle(&scene);
	}
	print_message("%u allocations failed, %u clients got through\n", n - 1, through);
	assert_true(n > 10 && through > 1);
	scene_end(&scene);
	(void)munmap(control, sizeof(*control));
}

/* ---- metrics ---- */

static void test_scrapes(void **state)
{
	unsigned n = 1, status = 0, refused = 0;
	struct scene scene;

	prepare();
	scene_begin(&scene, NULL);
	for (bool failed = true; failed; n++) {
		struct http_answer answer;

		assert_true(n < FAILURES_MAX);
		fail_after(n);
		status = http_ask(http_socket(&scene.daemon), "GET /metrics HTTP/1.0\r\n\r\n", &answer);
		http_answer_free(&answer);
		failed = has_failed();
		refused += status == 0 || status == 500; /* no connection; no text */
		assert_true(status == 0 || status == 500 || status == 200);
	}
	assert_int_equal(status, 200);
	assert_true(refused >= 2);
	scene_end(&scene);
	(void)munmap(control, sizeof(*control));
}

/* ---- reload and stop ---- */

static void test_reload(void **state)
{
	unsigned n = 1;
	struct scene scene;

	prepare();
	scene_begin(&scene, NULL);
	write_text(scene.daemon.config_path, "[lease]\nttl_ms = 20s\n");
	for (;; n++) {
		unsigned done = scene_log_lines(&scene, "configuration reloaded");
		unsigned kept = scene_log_lines(&scene, "everything stays as it is");

		assert_true(n < FAILURES_MAX);
		fail_after(n);
		assert_int_equal(kill(scene.daemon.pid, SIGHUP), 0);
		while (scene_log_lines(&scene, "configuration reloaded") == done &&
		       scene_log_lines(&scene, "everything stays as it is") == kept)
			pause_ms(1);
		if (!has_failed())
			break;
		assert_int_equal(scene_log_lines(&scene, "everything stays as it is"), kept + 1);
	}
	print_message("%u allocations failed\n", n - 1);
	assert_true(n > 10);
	scene_end(&scene);
	(void)munmap(control, sizeof(*control));
}

/*
 * With sessions, leases and half a block. All that is allocated from the signal on fails: the
 * first, the second, ...
 */
static void test_stop(void **state)
{
	unsigned n = 1;

	prepare();
	for (bool failed = true; failed; n++) {
		struct test_daemon d;
		struct test_peer peer;
		struct wire_space space;
		Kvpaged__V1__Schema schema;

		assert_true(n < FAILURES_MAX);
		atomic_store(&control->countdown, 0);
		test_daemon_start(&d, NULL);
		peer_connect(&peer, d.socket_path);
		peer_hello(&peer, 64 << 10);
		wire_schema(&schema, 2, 2);
		wire_open(&peer, "stop", &schema, &space);
		assert_int_equal(wire_append(&peer, &space, "whole", 0, space.page_count, 1),
				 KVP_OK);
		assert_int_equal(wire_append(&peer, &space, "half", 0, 1, 1), KVP_OK);
		assert_int_equal(wire_fetch(&peer, space.id, "whole", 0, NULL), KVP_OK);
		fail_after(n);
		test_daemon_stop(&d);
		failed = has_failed();
		peer_close(&peer);
	}
	(void)munmap(control, sizeof(*control));
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_start),
	cmocka_unit_test(test_requests),
	cmocka_unit_test(test_scrapes),
	cmocka_unit_test(test_reload),
	cmocka_unit_test(test_stop),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
