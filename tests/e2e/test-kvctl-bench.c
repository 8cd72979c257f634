/* SPDX-License-Identifier: Apache-2.0 */
/* kvctl bench leaves nothing behind, evicts nothing unasked, and measures all that it names. Figures are not judged. */
#include "tests/e2e/kvctl-rig.h"

#include "tests/lib/process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void test_measures(void **state)
{
	static const char *const rows[] = { "append", "find+pin+unpin", "decode", "fetch", "memcpy", "socket" };
	struct shell *shell = shell_open();
	char words[64];

	assert_int_equal(kvctl(shell, "bench --seconds 1 --json"), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		(void)snprintf(words, sizeof(words), "\"name\":\"%s\",\"samples\":", rows[i]);
		assert_contains(shell->out, words);
	}
	assert_int_equal(kvctl(shell, "bench --seconds 1 --codec t4"), 0);
	assert_contains(shell->out, "t4; as f16 2.0 MiB");
	assert_contains(shell->out, "\nfind+pin+unpin ");
	assert_int_equal(kvctl(shell, "spaces --json"), 0);
	assert_string_equal(shell->out, "[]\n");
	assert_int_equal(kvctl(shell, "bench --codec q7"), 2);
	shell_close(shell);
}

static void test_needs_room(void **state)
{
	struct shell *shell = shell_alone();

	test_daemon_start(&shell->daemon, "--arena-bytes", "16MiB", NULL);
	assert_int_equal(setenv("KVPAGED_SOCKET", shell->daemon.socket_path, 1), 0);
	assert_int_equal(kvctl(shell, "bench --seconds 1"), 75);
	assert_contains(shell->err, "--force");
	assert_int_equal(kvctl(shell, "stats --json"), 0);
	assert_contains(shell->out, "\"begun_new_total\":0,");
	assert_int_equal(kvctl(shell, "bench --seconds 1 --force --codec q4"), 0);
	shell_close(shell);
}

static bool space_is_there(struct shell *shell)
{
	assert_int_equal(kvctl(shell, "spaces --names"), 0);
	return strncmp(shell->out, "kvctl-bench-", 12) == 0;
}

static void test_interrupted(void **state)
{
	static const struct timespec pause = { .tv_nsec = 20000000 };
	char *argv[] = { (char *)test_program("KVCTL_BIN"), (char *)"bench", (char *)"--seconds", (char *)"60", NULL };
	struct shell *shell = shell_open();
	pid_t pid = process_start(argv, -1, -1);

	while (!space_is_there(shell))
		(void)nanosleep(&pause, NULL);
	assert_int_equal(kill(pid, SIGINT), 0);
	assert_int_equal(process_wait(pid, 20000), 1 << 8);
	assert_false(space_is_there(shell));
	shell_close(shell);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_measures),
	cmocka_unit_test(test_needs_room),
	cmocka_unit_test(test_interrupted),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
