/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl top: its frames in a file, and on a terminal made for the test. There a small shell of the test's own starts it
 * in a process group in front, as a person's shell would, and tells of it on the same terminal.
 */
#include "tests/e2e/kvctl-rig.h"

#include "base/cleanup.h"
#include "tests/lib/process.h"

#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <utmp.h>

#define SCREEN_BYTES (4u << 20)
#define EXPECT_MS 20000
#define ENTER "\x1b[?1049h"
#define LEAVE "\x1b[?1049l"

static void put(struct shell *shell, const char *words)
{
	char line[256];

	(void)snprintf(line, sizeof(line), "put %s --k k.npy --v v.npy --model m", words);
	assert_int_equal(kvctl(shell, line), 0);
}

/* ---- In a file ---- */

static void test_batch(void **state)
{
	static const char *const parts[] = { "kvpaged ",
					     "memory ",
					     "holds    20 tokens in 1 blocks",
					     "clients  1 sessions",
					     "requests ",
					     "reads ",
					     "misses ",
					     "hit rate ",
					     "by size ",
					     "stored ",
					     "left ",
					     "loop ",
					     "SPACE  " };
	struct shell *shell = shell_open();

	write_pair();
	put(shell, "s a --codec f16");
	assert_int_equal(kvctl(shell, "stats"), 0);
	assert_int_equal(kvctl(shell, "top --batch -n 2 --interval 0.05"), 0);
	assert_string_equal(shell->err, "");
	assert_null(strchr(shell->out, '\x1b'));
	assert_contains(shell->out, ", running, every 50 ms\n");
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		char line[64];

		(void)snprintf(line, sizeof(line), "%s%s", i ? "\n" : "", parts[i]);
		assert_contains(shell->out, line);
	}
	assert_contains(strstr(shell->out, "SPACE  "), "\nkvpaged ");
	/* stdout is no terminal: the same without asking for it. */
	assert_int_equal(kvctl(shell, "top -n 1 -i 20ms"), 0);
	assert_contains(shell->out, "\nloop ");
	assert_int_equal(kvctl(shell, "top -i 5ms"), 2);
	assert_int_equal(kvctl(shell, "top -i 0"), 2);
	assert_int_equal(kvctl(shell, "top -i 0.0001"), 2);
	shell_close(shell);
}

/* Amounts are as of a moment ago. Looking is no request. */
static void test_json(void **state)
{
	struct shell *shell = shell_open();

	write_pair();
	put(shell, "s a --codec f16");
	assert_int_equal(kvctl(shell, "get s a -o back"), 0);
	do
		assert_int_equal(kvctl(shell, "top --json -n 2 -i 40ms"), 0);
	while (!strstr(shell->out, "\"blocks\":1,"));
	assert_contains(shell->out, "\n{\"reachable\":true,");
	assert_contains(shell->out, "\"requests_per_s\":0,");
	assert_contains(shell->out, "\"hit_rate_since_start\":1,");
	assert_contains(shell->out, "\"stored_bytes\":7680,");
	assert_contains(shell->out, "{\"name\":\"s\",\"codec_k\":\"f16\",\"codec_v\":\"f16\",");
	shell_close(shell);
}

/* Waits until the file holds the words behind this place; returns the place behind them. */
static size_t await(int fd, size_t from, const char *words)
{
	static const struct timespec pause = { .tv_nsec = 10000000 };
	char *text = malloc(SCREEN_BYTES);
	char *found;

	assert_non_null(text);
	for (;;) {
		ssize_t n = pread(fd, text, SCREEN_BYTES - 1, 0);

		text[n > 0 ? n : 0] = '\0';
		found = strlen(text) > from ? strstr(text + from, words) : NULL;
		if (found)
			break;
		(void)nanosleep(&pause, NULL);
	}
	from = (size_t)(found - text) + strlen(words);
	free(text);
	return from;
}

static void test_daemon_goes_and_comes(void **state)
{
	char *argv[] = {
		(char *)test_program("KVCTL_BIN"), (char *)"top", (char *)"--json", (char *)"-i", (char *)"30ms", NULL
	};
	struct shell *shell = shell_open();
	_cleanup_close_ int out = memfd_create("out", MFD_CLOEXEC);
	pid_t pid = process_start(argv, out, -1);
	size_t at = await(out, 0, "\"reachable\":true");

	test_daemon_kill(&shell->daemon);
	at = await(out, at, "\"reachable\":false,\"why\":\"");
	test_daemon_restart(&shell->daemon);
	at = await(out, at, "\"reachable\":true");
	test_daemon_restart(&shell->daemon);
	at = await(out, at, "\"seconds\":0,");
	at = await(out, at, "\"reachable\":true");
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(process_wait(pid, 20000), SIGTERM);
	shell_close(shell);
}

/* ---- On a terminal ---- */

struct tty {
	int master;
	int slave; /* to look at its settings */
	struct termios before;
	pid_t shell;
	pid_t top;
	char *out;
	size_t n;
	size_t at; /* seen by expect() */
};

/* The shell: starts kvctl in front, says when it stops or ends, and lets what stopped go on when told. */
static void be_shell(int slave, char *const argv[])
{
	pid_t pid;
	int status;

	const char *options = getenv("ASAN_OPTIONS");
	char text[512];

	/* A search for leaks stops the process by a tracer, which a shell that waits for stops must not see. */
	(void)snprintf(text, sizeof(text), "%s%sdetect_leaks=0", options ? options : "", options ? ":" : "");
	(void)setenv("ASAN_OPTIONS", text, 1);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)signal(SIGTTOU, SIG_IGN);
	(void)signal(SIGHUP, SIG_DFL); /* whoever runs the tests may have it ignored, as nohup does */
	if (login_tty(slave) < 0)
		_exit(127);
	pid = fork();
	if (pid == 0) {
		(void)setpgid(0, 0);
		(void)tcsetpgrp(0, getpid());
		(void)signal(SIGTTOU, SIG_DFL);
		(void)execv(argv[0], argv);
		_exit(127);
	}
	(void)dprintf(1, "[pid %d]", (int)pid);
	while (waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status)) {
		(void)dprintf(1, "[stopped]");
		(void)kill(pid, SIGCONT);
	}
	(void)tcsetpgrp(0, getpid());
	(void)dprintf(1, "[status %x]", (unsigned)status);
	_exit(0);
}

/* Reads what comes until the words are there, behind what was seen before. */
/* The end of it, without escapes. */
static const char *tail(char *text)
{
	size_t n = strlen(text);
	char *last = n > 200 ? text + n - 200 : text;

	for (char *at = last; *at; at++)
		if ((unsigned char)*at < ' ')
			*at = ' ';
	return last;
}

static void expect(struct tty *tty, const char *words)
{
	for (;;) {
		char *found = strstr(tty->out + tty->at, words);
		ssize_t n;

		if (found) {
			tty->at = (size_t)(found - tty->out) + strlen(words);
			return;
		}
		/* Its slave is open here too: the end of all others is not the end of what can be read. */
		if (poll(&(struct pollfd){ .fd = tty->master, .events = POLLIN }, 1, EXPECT_MS) == 0)
			fail_msg("nothing for %d s before \"%s\"; the last was \"%s\"", EXPECT_MS / 1000,
				 words + (words[0] == '\x1b'), tail(tty->out + tty->at));
		n = read(tty->master, tty->out + tty->n, SCREEN_BYTES - 1 - tty->n);
		if (n <= 0)
			fail_msg("the terminal ended before \"%s\"", words + (words[0] == '\x1b'));
		tty->n += (size_t)n;
		tty->out[tty->n] = '\0';
	}
}

static void tty_start(struct tty *tty, unsigned short columns, unsigned short rows)
{
	char *argv[] = { (char *)test_program("KVCTL_BIN"), (char *)"top", (char *)"-i", (char *)"0.05", NULL };
	struct winsize size = { .ws_row = rows, .ws_col = columns };
	char text[32];
	const char *found;

	*tty = (struct tty){ .out = calloc(1, SCREEN_BYTES) };
	assert_non_null(tty->out);
	assert_int_equal(openpty(&tty->master, &tty->slave, NULL, NULL, &size), 0);
	assert_int_equal(tcgetattr(tty->slave, &tty->before), 0);
	tty->shell = fork();
	assert_true(tty->shell >= 0);
	if (tty->shell == 0) {
		(void)close(tty->master);
		be_shell(tty->slave, argv);
	}
	expect(tty, "[pid ");
	expect(tty, "]");
	found = strstr(tty->out, "[pid ");
	(void)snprintf(text, sizeof(text), "%.*s", (int)strcspn(found + 5, "]"), found + 5);
	tty->top = (pid_t)strtol(text, NULL, 10);
	expect(tty, "\x1b[H");
}

static bool is_as_before(const struct tty *tty)
{
	struct termios now;

	assert_int_equal(tcgetattr(tty->slave, &now), 0);
	return now.c_lflag == tty->before.c_lflag && now.c_cc[VMIN] == tty->before.c_cc[VMIN];
}

static void press(struct tty *tty, const char *keys)
{
	assert_int_equal(write(tty->master, keys, strlen(keys)), strlen(keys));
}

/* It must have ended with this wait status and given the terminal back. */
static void tty_stop(struct tty *tty, unsigned status)
{
	char text[32];

	expect(tty, LEAVE);
	(void)snprintf(text, sizeof(text), "[status %x]", status);
	expect(tty, text);
	assert_true(is_as_before(tty));
	assert_int_equal(process_wait(tty->shell, 20000), 0);
	(void)close(tty->master);
	(void)close(tty->slave);
	free(tty->out);
}

/* The widest line and the number of lines of the frame that begins here. */
static void measure(const char *frame, unsigned *ret_columns, unsigned *ret_rows)
{
	unsigned width = 0;

	*ret_columns = 0;
	*ret_rows = 1;
	for (const char *at = frame; *at && strncmp(at, "\x1b[J", 3) != 0; at++) {
		if (*at == '\x1b') {
			at += strcspn(at, "mK");
			continue;
		}
		if (*at == '\n') {
			++*ret_rows;
			width = 0;
		} else if (*at != '\r') {
			width++;
		}
		*ret_columns = width > *ret_columns ? width : *ret_columns;
	}
}

static void test_keys(void **state)
{
	struct shell *shell = shell_open();
	struct tty tty;

	assert_int_equal(setenv("TERM", "xterm", 1), 0);
	write_pair();
	put(shell, "s a");
	put(shell, "t a");
	tty_start(&tty, 80, 24);
	assert_non_null(strstr(tty.out, ENTER));
	expect(&tty, "running");
	assert_false(is_as_before(&tty));
	press(&tty, "h");
	expect(&tty, "this help");
	press(&tty, "h");
	expect(&tty, "memory");
	press(&tty, " ");
	expect(&tty, "paused");
	press(&tty, " ");
	expect(&tty, "running");
	press(&tty, "+");
	expect(&tty, "every 100 ms");
	press(&tty, "-");
	press(&tty, "s");
	press(&tty, "x");
	expect(&tty, "memory");
	press(&tty, "q");
	tty_stop(&tty, 0);
	shell_close(shell);
}

static void test_colour(void **state)
{
	struct shell *shell = shell_open();
	struct tty tty;

	assert_int_equal(setenv("TERM", "xterm", 1), 0);
	assert_int_equal(unsetenv("NO_COLOR"), 0);
	tty_start(&tty, 80, 24);
	expect(&tty, "\x1b[1mmemory");
	press(&tty, "q");
	tty_stop(&tty, 0);
	assert_int_equal(setenv("NO_COLOR", "1", 1), 0);
	tty_start(&tty, 80, 24);
	expect(&tty, "loop ");
	press(&tty, "q");
	expect(&tty, LEAVE);
	assert_null(strstr(tty.out, "m"
				    "memory"));
	assert_null(strstr(tty.out, "\x1b[0m"));
	tty.at = 0;
	tty_stop(&tty, 0);
	shell_close(shell);
}

/* Frames keep within the screen, also after it changed. */
static void test_sizes(void **state)
{
	static const struct winsize sizes[] = {
		{ .ws_col = 80, .ws_row = 24 },
		{ .ws_col = 40, .ws_row = 10 },
		{ .ws_col = 300, .ws_row = 100 },
		{ .ws_col = 80, .ws_row = 17 },
	};
	struct shell *shell = shell_open();
	struct tty tty;
	char words[64];

	assert_int_equal(setenv("TERM", "xterm", 1), 0);
	write_pair();
	for (unsigned i = 0; i < 12; i++) {
		(void)snprintf(words, sizeof(words), "a-space-with-quite-a-long-name-%u-and-more-of-it a", i);
		put(shell, words);
	}
	tty_start(&tty, 132, 50);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		unsigned columns = 0;
		unsigned rows = 0;
		size_t begin = 0;

		assert_int_equal(ioctl(tty.master, TIOCSWINSZ, &sizes[i]), 0);
		/* Frames of the old size may be on their way. */
		for (unsigned frame = 0; frame < 6; frame++) {
			expect(&tty, "\x1b[H");
			begin = tty.at;
			expect(&tty, "\x1b[J");
			measure(tty.out + begin, &columns, &rows);
		}
		print_message("%u x %u on %u x %u\n", columns, rows, sizes[i].ws_col, sizes[i].ws_row);
		assert_true(columns <= sizes[i].ws_col && rows <= sizes[i].ws_row);
		assert_true(rows >= 10);
		if (sizes[i].ws_row < 20 && sizes[i].ws_row > 10)
			assert_non_null(strstr(tty.out + begin, "more, by stored"));
	}
	press(&tty, "q");
	tty_stop(&tty, 0);
	shell_close(shell);
}

/* Whatever ends it gives the terminal back. */
static void test_ends(void **state)
{
	static const struct {
		int signal;
		unsigned status;
	} ends[] = { { SIGINT, 0 }, { SIGTERM, SIGTERM }, { SIGHUP, SIGHUP }, { SIGABRT, SIGABRT } };
	struct shell *shell = shell_open();
	struct rlimit none = { 0 };
	struct tty tty;

	assert_int_equal(setrlimit(RLIMIT_CORE, &none), 0);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		tty_start(&tty, 80, 24);
		expect(&tty, "loop ");
		assert_int_equal(kill(tty.top, ends[i].signal), 0);
		tty_stop(&tty, ends[i].status);
	}
	/* As a person does it. */
	tty_start(&tty, 80, 24);
	expect(&tty, "loop ");
	press(&tty, "\x03");
	tty_stop(&tty, 0);
	shell_close(shell);
}

static void test_stopped(void **state)
{
	struct shell *shell = shell_open();
	struct tty tty;

	tty_start(&tty, 80, 24);
	expect(&tty, "loop ");
	press(&tty, "\x1a");
	expect(&tty, LEAVE);
	expect(&tty, "[stopped]");
	expect(&tty, ENTER);
	expect(&tty, "loop ");
	assert_false(is_as_before(&tty));
	press(&tty, "q");
	tty_stop(&tty, 0);
	shell_close(shell);
}

static void test_daemon_gone_in_place(void **state)
{
	struct shell *shell = shell_open();
	struct tty tty;

	tty_start(&tty, 100, 30);
	expect(&tty, "running");
	test_daemon_kill(&shell->daemon);
	expect(&tty, "no daemon, looking for it");
	expect(&tty, "memory"); /* what it was */
	test_daemon_restart(&shell->daemon);
	expect(&tty, "running");
	press(&tty, "q");
	tty_stop(&tty, 0);
	shell_close(shell);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_batch), cmocka_unit_test(test_json),    cmocka_unit_test(test_daemon_goes_and_comes),
	cmocka_unit_test(test_keys),  cmocka_unit_test(test_colour),  cmocka_unit_test(test_sizes),
	cmocka_unit_test(test_ends),  cmocka_unit_test(test_stopped), cmocka_unit_test(test_daemon_gone_in_place),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
