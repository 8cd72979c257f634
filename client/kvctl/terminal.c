/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals arrive at a descriptor, so that nothing happens in the middle of drawing. Only what cannot wait, a crash, has
 * a handler: it undoes the changes with calls that are allowed there.
 */
#include "client/kvctl/terminal.h"

#include "client/kvctl/output.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define COLUMNS_DEFAULT 80
#define ROWS_DEFAULT 24
#define COLUMNS_MIN 20
#define ROWS_MIN 5
#define LINE_BYTES 8192 /* a screen's width of any characters and styles */

/* Alternate screen, no cursor, no wrapping of long lines; and back. */
static const char sequence_enter[] = "\x1b[?1049h\x1b[?25l\x1b[?7l";
static const char sequence_leave[] = "\x1b[?7h\x1b[?25h\x1b[?1049l";

static const int crashes[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH };

/* Whose changes a crash undoes. */
static const struct terminal *active;

static void write_all(const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t written = write(STDOUT_FILENO, bytes, n);

		if (written < 0 && errno != EINTR)
			return; /* nobody looks any more */
		bytes += written > 0 ? written : 0;
		n -= written > 0 ? (size_t)written : 0;
	}
}

static void leave(const struct terminal *terminal)
{
	write_all(sequence_leave, sizeof(sequence_leave) - 1);
	if (terminal->keys)
		(void)tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal->saved);
}

static void enter(const struct terminal *terminal)
{
	struct termios raw = terminal->saved;

	if (terminal->keys) {
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO); /* Ctrl-C and Ctrl-Z stay signals */
		raw.c_cc[VMIN] = 0;
		raw.c_cc[VTIME] = 0;
		(void)tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	}
	write_all(sequence_enter, sizeof(sequence_enter) - 1);
}

static void crashed(int number)
{
	if (active)
		leave(active);
	(void)raise(number); /* the handler is gone: SA_RESETHAND */
}

static void crashes_catch(void)
{
	struct sigaction action = { .sa_handler = crashed, .sa_flags = (int)SA_RESETHAND };

	for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
		(void)sigaction(crashes[i], &action, NULL);
}

static void measure(struct terminal *terminal)
{
	struct winsize size;

	terminal->columns = COLUMNS_DEFAULT;
	terminal->rows = ROWS_DEFAULT;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0 || size.ws_row == 0)
		return;
	terminal->columns = size.ws_col > COLUMNS_MIN ? size.ws_col : COLUMNS_MIN;
	terminal->rows = size.ws_row > ROWS_MIN ? size.ws_row : ROWS_MIN;
}

int terminal_begin(struct terminal *terminal)
{
	sigset_t set;

	*terminal = (struct terminal){ .keys = isatty(STDIN_FILENO) };
	if (terminal->keys && tcgetattr(STDIN_FILENO, &terminal->saved) < 0)
		return -errno;
	(void)sigemptyset(&set);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		(void)sigaddset(&set, signals[i]);
	terminal->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (terminal->signal_fd < 0)
		return -errno;
	(void)sigprocmask(SIG_BLOCK, &set, &terminal->signals_before);
	active = terminal;
	crashes_catch();
	measure(terminal);
	enter(terminal);
	return 0;
}

void terminal_end(struct terminal *terminal)
{
	leave(terminal);
	active = NULL;
	(void)close(terminal->signal_fd);
	(void)sigprocmask(SIG_SETMASK, &terminal->signals_before, NULL);
}

/* Stops as the user wants, and goes on when it is told so. */
static void suspend(struct terminal *terminal)
{
	sigset_t set;

	leave(terminal);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTSTP);
	(void)raise(SIGTSTP);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	enter(terminal);
}

static enum terminal_event take_signal(struct terminal *terminal, int *ret_key)
{
	struct signalfd_siginfo info;

	if (read(terminal->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return TERMINAL_REDRAW;
	switch (info.ssi_signo) {
	case SIGTSTP:
		suspend(terminal);
		break;
	case SIGCONT:
		enter(terminal);
		break;
	case SIGWINCH:
		break;
	default:
		*ret_key = (int)info.ssi_signo;
		return TERMINAL_END;
	}
	measure(terminal);
	return TERMINAL_REDRAW;
}

static enum terminal_event take_key(struct terminal *terminal, int *ret_key)
{
	unsigned char key;

	if (read(STDIN_FILENO, &key, 1) == 1) {
		*ret_key = key;
		return TERMINAL_KEY;
	}
	*ret_key = SIGHUP; /* readable without a key: the terminal is gone */
	return TERMINAL_END;
}

enum terminal_event terminal_wait(struct terminal *terminal, uint64_t limit_ms, int *ret_key)
{
	struct pollfd fds[] = {
		{ .fd = terminal->signal_fd, .events = POLLIN },
		{ .fd = terminal->keys ? STDIN_FILENO : -1, .events = POLLIN },
	};
	int n = poll(fds, 2, limit_ms < INT32_MAX ? (int)limit_ms : INT32_MAX);

	if (n > 0 && fds[0].revents)
		return take_signal(terminal, ret_key);
	if (n > 0)
		return take_key(terminal, ret_key);
	return TERMINAL_TIME;
}

void terminal_show(const struct terminal *terminal, const char *lines)
{
	(void)fputs("\x1b[H", stdout);
	for (unsigned row = 0; row < terminal->rows && *lines; row++) {
		size_t n = strcspn(lines, "\n");
		char line[LINE_BYTES];

		(void)snprintf(line, sizeof(line), "%.*s", (int)n, lines);
		line[text_fit(line, terminal->columns, NULL)] = '\0';
		(void)printf("%s%s%s\x1b[K", row ? "\r\n" : "", line, style(STYLE_PLAIN));
		lines += n + (lines[n] != '\0');
	}
	(void)fputs("\x1b[J", stdout);
	(void)fflush(stdout);
}
