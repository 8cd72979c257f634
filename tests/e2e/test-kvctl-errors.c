/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl where there is no daemon, or not one that it can talk to: one clear line on stderr, nothing on stdout, and the
 * exit status that the help promises.
 */
#include "tests/e2e/kvctl-rig.h"

#include "base/cleanup.h"
#include "proto/frame.h"
#include "proto/kvpaged.pb-c.h"
#include "proto/status.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define NOBODY "65534"

/* Somebody else's server: takes one connection, says its words, and hangs up or waits for the other side to do so. */
struct stranger {
	const void *words;
	size_t n;
	bool waits;
	int listener;
	pthread_t thread;
};

static void *stranger_run(void *data)
{
	const struct stranger *stranger = data;
	int fd = accept4(stranger->listener, NULL, NULL, SOCK_CLOEXEC);
	char byte;

	if (fd < 0)
		return NULL;
	(void)send(fd, stranger->words, stranger->n, MSG_NOSIGNAL);
	while (stranger->waits && recv(fd, &byte, 1, 0) > 0)
		continue;
	(void)close(fd);
	return NULL;
}

static void stranger_start(struct stranger *stranger)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "stranger" };

	(void)unlink(address.sun_path);
	stranger->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(stranger->listener >= 0);
	assert_int_equal(bind(stranger->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(stranger->listener, 1), 0);
	assert_int_equal(pthread_create(&stranger->thread, NULL, stranger_run, stranger), 0);
}

static void stranger_stop(struct stranger *stranger)
{
	assert_int_equal(pthread_join(stranger->thread, NULL), 0);
	(void)close(stranger->listener);
}

static void expect_line(const struct shell *shell, const char *part)
{
	assert_string_equal(shell->out, "");
	assert_true(strncmp(shell->err, "kvctl: cannot connect: ", 23) == 0);
	assert_contains(shell->err, part);
	assert_ptr_equal(strchr(shell->err, '\n'), shell->err + strlen(shell->err) - 1);
}

static void test_no_daemon(void **state)
{
	static const char *const verbs[] = { "status",	"top",	 "stats",  "spaces",	  "ls s",	"events",
					     "why s k", "bench", "config", "evict --all", "rm --all s", "health" };
	struct shell *shell = shell_alone();
	char words[64];

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		(void)snprintf(words, sizeof(words), "%s --socket ./nothing", verbs[i]);
		assert_int_equal(kvctl(shell, words), 69);
		expect_line(shell, "./nothing: No such file");
	}
	free(shell);
}

static void test_not_a_socket(void **state)
{
	struct shell *shell = shell_alone();
	char words[256] = "status --socket ";

	write_file("plain", "x", 1, NULL, 0);
	assert_int_equal(mkdir("directory", 0700), 0);
	assert_int_equal(kvctl(shell, "status --socket ./plain"), 69);
	expect_line(shell, "./plain: Connection refused");
	assert_int_equal(kvctl(shell, "status --socket ./directory"), 69);
	expect_line(shell, "./directory: Connection refused");
	assert_int_equal(kvctl(shell, "status --socket ./plain/s"), 69);
	expect_line(shell, "Not a directory");
	memset(words + strlen(words), 'x', 110);
	assert_int_equal(kvctl(shell, words), 78);
	expect_line(shell, "must have 1 to 107 bytes, not 110");
	free(shell);
}

static void test_left_over(void **state)
{
	struct shell *shell = shell_open();

	test_daemon_kill(&shell->daemon);
	assert_int_equal(kvctl(shell, "status"), 69);
	expect_line(shell, "Connection refused");
	shell_close(shell);
}

static void test_strangers(void **state)
{
	static const char greeting[] = "SSH-2.0-OpenSSH_9.2\r\n";
	struct shell *shell = shell_alone();
	struct stranger talker = { .words = greeting, .n = sizeof(greeting) - 1, .waits = true };
	struct stranger closer = { .words = "", .n = 0 };
	struct stranger silent = { .words = "", .n = 0, .waits = true };

	stranger_start(&talker);
	assert_int_equal(kvctl(shell, "status --socket ./stranger"), 69);
	expect_line(shell, "does not speak kvpaged's protocol");
	stranger_stop(&talker);
	stranger_start(&closer);
	assert_int_equal(kvctl(shell, "status --socket ./stranger"), 69);
	expect_line(shell, "");
	stranger_stop(&closer);
	stranger_start(&silent);
	assert_int_equal(kvctl(shell, "status --socket ./stranger --timeout 100ms"), 75);
	expect_line(shell, "");
	stranger_stop(&silent);
	free(shell);
}

/* A daemon that has no version in common with this library says so. */
static void test_other_version(void **state)
{
	static const char why[] = "versions 7 to 9 are spoken here";
	struct shell *shell = shell_alone();
	Kvpaged__V1__Reply reply = KVPAGED__V1__REPLY__INIT;
	uint8_t frame[256];
	struct stranger stranger = { .words = frame, .waits = true };

	reply.id = 1;
	reply.status = KVP_VERSION;
	reply.error = (ProtobufCBinaryData){ .data = (uint8_t *)why, .len = sizeof(why) - 1 };
	frame_put_header(frame, (uint32_t)kvpaged__v1__reply__get_packed_size(&reply));
	stranger.n = FRAME_HEADER_BYTES + kvpaged__v1__reply__pack(&reply, frame + FRAME_HEADER_BYTES);
	stranger_start(&stranger);
	assert_int_equal(kvctl(shell, "status --socket ./stranger"), 69);
	expect_line(shell, why);
	stranger_stop(&stranger);
	stranger_start(&stranger);
	assert_int_equal(kvctl(shell, "doctor --socket ./stranger"), 1);
	assert_contains(shell->out, why);
	assert_contains(shell->out, "install the same version");
	stranger_stop(&stranger);
	free(shell);
}

/* kvctl as another user, who may or may not connect. */
static int as_nobody(struct shell *shell, const char *verb)
{
	char *argv[] = { (char *)"/usr/bin/setpriv",
			 (char *)"--reuid=" NOBODY,
			 (char *)"--regid=" NOBODY,
			 (char *)"--clear-groups",
			 (char *)test_program("KVCTL_BIN"),
			 (char *)verb,
			 NULL };

	return shell_run(shell, argv);
}

static void test_not_allowed(void **state)
{
	struct shell *shell;
	int status;

	if (geteuid() != 0)
		harness_skip("only root can become another user");
	if (access("/usr/bin/setpriv", X_OK) < 0)
		harness_skip("there is no setpriv");
	shell = shell_open();
	assert_int_equal(chmod(harness_directory(), 0755), 0);
	status = as_nobody(shell, "status");
	if (status == 126 || status == 127)
		harness_skip("an ordinary user cannot reach the program");
	assert_int_equal(status, 4);
	expect_line(shell, "Permission denied");
	assert_int_equal(chown(shell->daemon.socket_path, 0, 2), 0);
	assert_int_equal(as_nobody(shell, "doctor"), 1);
	assert_contains(shell->out, "nobody may not connect");
	assert_contains(shell->out, "usermod -aG bin nobody");
	assert_int_equal(chmod(shell->daemon.directory, 0750), 0);
	assert_int_equal(chown(shell->daemon.directory, 0, 2), 0);
	assert_int_equal(as_nobody(shell, "doctor"), 1);
	assert_contains(shell->out, "nobody may not enter ");
	assert_contains(shell->out, "usermod -aG bin nobody");
	assert_int_equal(chmod(shell->daemon.directory, 0755), 0);
	assert_int_equal(chmod(shell->daemon.socket_path, 0666), 0);
	assert_int_equal(as_nobody(shell, "status"), 0);
	shell_close(shell);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_no_daemon), cmocka_unit_test(test_not_a_socket),	cmocka_unit_test(test_left_over),
	cmocka_unit_test(test_strangers), cmocka_unit_test(test_other_version), cmocka_unit_test(test_not_allowed),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
