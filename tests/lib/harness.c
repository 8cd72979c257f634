/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three processes deep: the harness, a child for each test that leads its own process group, and whatever the test
 * starts. The child's output goes to a memfd that the harness reads when the child has ended. Through a pipe come the
 * reason for a skip, if any, and last WORD_DONE, without which a test that called exit() would pass. The child runs one
 * test through cmocka, looks for what it left behind, and leaves through exit(), where the leak sanitizer looks. The
 * harness then kills what is left of the group.
 */
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "tests/lib/leftover.h"
#include "tests/lib/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMEOUT_S_DEFAULT 60
#define OUTPUT_SHOWN_BYTES (64u << 10)

/* Last in the pipe: the test has come to its end. */
#define WORD_DONE '\n'

enum outcome { PASSED, FAILED, SKIPPED };

struct trial {
	const struct CMUnitTest *test;
	int output;        /* memfd: the child's stdout and stderr */
	int word[2];       /* pipe: what the child has to say */
	char directory[PATH_MAX];
	char verdict[256]; /* why it failed or was skipped */
};

/* Of the child: its end of the pipe, and its directory. */
static int word_fd = -1;
static const char *trial_directory;

void harness_skip(const char *reason)
{
	(void)!write(word_fd, reason, strlen(reason));
	skip();
	exit(EXIT_FAILURE);
}

const char *harness_directory(void)
{
	return trial_directory;
}

static uint64_t timeout_ms(void)
{
	const char *text = getenv("KVP_TEST_TIMEOUT_S");
	uint64_t seconds;

	if (!text || units_parse_u64(text, &seconds) != 0 || seconds == 0 || seconds > INT_MAX / 1000)
		seconds = TIMEOUT_S_DEFAULT;
	return seconds * 1000;
}

__attribute__((noreturn)) static void run_child(struct trial *trial)
{
	struct leftover_fds before;
	pid_t self = getpid();
	int failures;

	(void)setpgid(0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (dup2(trial->output, STDOUT_FILENO) < 0 || dup2(trial->output, STDERR_FILENO) < 0)
		exit(EXIT_FAILURE);
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	/* Descriptors without gaps below the highest: tests of descriptor limits count on it. */
	(void)close(trial->output);
	(void)close(trial->word[0]);
	word_fd = fcntl(trial->word[1], F_DUPFD_CLOEXEC, 0);
	(void)close(trial->word[1]);
	if (word_fd < 0)
		exit(EXIT_FAILURE);
	trial_directory = trial->directory;
	leftover_fds_take(&before);
	failures = _cmocka_run_group_tests("", trial->test, 1, NULL, NULL);
	if (getpid() != self)
		_exit(EXIT_FAILURE); /* an assertion in a process that the test forked: its status tells the test */
	if (!leftover_fds_same(&before) || !leftover_children_none())
		failures++;
	(void)!write(word_fd, &(char){ WORD_DONE }, 1);
	exit(failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* Waits for the child, for so long. Returns whether it ended by itself; either way it has been reaped. */
static bool wait_child(pid_t pid, uint64_t limit_ms, int *ret_status)
{
	_cleanup_close_ int pidfd = pidfd_open(pid, 0);
	struct pollfd event = { .fd = pidfd, .events = POLLIN };
	int ready;

	do
		ready = pidfd < 0 ? 1 : poll(&event, 1, (int)limit_ms);
	while (ready < 0 && errno == EINTR);
	if (ready == 0)
		(void)kill(-pid, SIGKILL);
	while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
		;
	(void)kill(-pid, SIGKILL);
	return ready != 0;
}

static enum outcome judge(struct trial *trial, bool ended, int status)
{
	char *verdict = trial->verdict;
	size_t size = sizeof(trial->verdict);
	ssize_t n = read(trial->word[0], verdict, size - 1);

	if (!ended)
		(void)snprintf(verdict, size, "took longer than %llu s", (unsigned long long)timeout_ms() / 1000);
	else if (WIFSIGNALED(status))
		(void)snprintf(verdict, size, "killed by signal %d (%s)", WTERMSIG(status),
			       strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) != 0)
		(void)snprintf(verdict, size, "exit status %d", WEXITSTATUS(status));
	else if (n <= 0 || verdict[n - 1] != WORD_DONE)
		(void)snprintf(verdict, size, "called exit()");
	else {
		verdict[n - 1] = '\0';
		return n > 1 ? SKIPPED : PASSED;
	}
	return FAILED;
}

static enum outcome run_trial(struct trial *trial)
{
	bool ended;
	int status = 0;
	pid_t pid;

	(void)fflush(NULL);
	pid = fork();
	if (pid < 0) {
		(void)snprintf(trial->verdict, sizeof(trial->verdict), "fork: %s", strerror(errno));
		return FAILED;
	}
	if (pid == 0)
		run_child(trial);
	trial->word[1] = close_fd(trial->word[1]);
	(void)setpgid(pid, pid);
	ended = wait_child(pid, timeout_ms(), &status);
	return judge(trial, ended, status);
}

/* The last bytes of a file, each line as a TAP comment. */
static void show_fd(int fd)
{
	off_t size = lseek(fd, 0, SEEK_END);
	FILE *stream;
	bool begin = true;
	int c;

	if (size > OUTPUT_SHOWN_BYTES)
		(void)lseek(fd, size - OUTPUT_SHOWN_BYTES, SEEK_SET);
	else
		(void)lseek(fd, 0, SEEK_SET);
	stream = fdopen(dup(fd), "r");
	if (!stream)
		return;
	while ((c = getc(stream)) != EOF) {
		if (begin)
			(void)fputs("# ", stdout);
		(void)putchar(c);
		begin = c == '\n';
	}
	if (!begin)
		(void)putchar('\n');
	(void)fclose(stream);
}

static void report(const struct trial *trial, size_t number, enum outcome outcome)
{
	bool verbose = getenv("KVP_TEST_VERBOSE") != NULL;

	if (outcome == SKIPPED)
		(void)printf("ok %zu - %s # SKIP %s\n", number, trial->test->name, trial->verdict);
	else
		(void)printf("%s %zu - %s\n", outcome == PASSED ? "ok" : "not ok", number, trial->test->name);
	if (outcome == FAILED)
		(void)printf("# %s: %s\n", trial->test->name, trial->verdict);
	if (outcome == FAILED || verbose) {
		show_fd(trial->output);
		tree_each_log(trial->directory, show_fd);
	}
	(void)fflush(stdout);
}

static enum outcome run_one(const struct CMUnitTest *test, size_t number)
{
	struct trial trial = { .test = test, .output = -1, .word = { -1, -1 } };
	enum outcome outcome = FAILED;

	if (tree_make(trial.directory, sizeof(trial.directory)) < 0 || pipe2(trial.word, O_CLOEXEC | O_NONBLOCK) < 0)
		(void)snprintf(trial.verdict, sizeof(trial.verdict), "cannot set up: %s", strerror(errno));
	else if ((trial.output = memfd_create("output", MFD_CLOEXEC)) < 0)
		(void)snprintf(trial.verdict, sizeof(trial.verdict), "memfd_create: %s", strerror(errno));
	else
		outcome = run_trial(&trial);
	report(&trial, number, outcome);
	tree_remove(trial.directory);
	(void)close_fd(trial.output);
	(void)close_fd(trial.word[0]);
	(void)close_fd(trial.word[1]);
	return outcome;
}

int harness_run(const struct CMUnitTest *tests, size_t n)
{
	const char *only = getenv("KVP_TEST_ONLY");
	size_t number = 0;
	size_t failed = 0;

	if (!only)
		(void)printf("1..%zu\n", n);
	for (size_t i = 0; i < n; i++) {
		if (only && strcmp(only, tests[i].name) != 0)
			continue;
		if (run_one(&tests[i], ++number) == FAILED)
			failed++;
	}
	if (only)
		(void)printf("1..%zu\n", number);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
