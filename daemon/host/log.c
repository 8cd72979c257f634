/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line is one write(): lines of several processes on one descriptor do not mix. A failed write is
 * not an error of ours.
 */
#include "daemon/host/log.h"

#include "base/text.h"
#include "base/units.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 512
#define PREFIX_BYTES 32

const char *const log_level_names[] = { "error", "warning", "info", "debug", NULL };

/* The priorities of syslog(3). */
static const int priorities[_LOG_LEVEL_MAX] = { 3, 4, 6, 7 };

void log_init(struct log *log, int fd, enum log_level level)
{
	*log = (struct log){ .fd = fd, .terminal = isatty(fd) == 1, .level = level };
}

static void put_line(struct log *log, enum log_level level, const char *format, va_list arguments)
{
	char text[LINE_BYTES];
	char line[PREFIX_BYTES + 4 * LINE_BYTES + 1];
	size_t n;

	if (level > log->level)
		return;
	(void)vsnprintf(text, sizeof(text), format, arguments);
	if (log->terminal)
		n = (size_t)snprintf(line, PREFIX_BYTES, "kvpaged: %s%s",
				     level < LOG_LEVEL_INFO ? log_level_names[level] : "",
				     level < LOG_LEVEL_INFO ? ": " : "");
	else
		n = (size_t)snprintf(line, PREFIX_BYTES, "<%d>", priorities[level]);
	(void)text_escape(text, strlen(text), line + n, sizeof(line) - n - 1);
	n += strlen(line + n);
	line[n++] = '\n';
	if (write(log->fd, line, n) < 0)
		return; /* there is nobody left to tell */
}

void log_line(struct log *log, enum log_level level, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	put_line(log, level, format, arguments);
	va_end(arguments);
}

void log_client(struct log *log, uint64_t now_ns, const char *format, ...)
{
	va_list arguments;

	if (now_ns - log->window_ns >= NS_PER_S) {
		log_left_out(log);
		log->window_ns = now_ns;
		log->window_lines = 0;
	}
	if (log->window_lines == LOG_CLIENT_LINES_MAX) {
		log->left_out++;
		return;
	}
	log->window_lines++;
	va_start(arguments, format);
	put_line(log, LOG_LEVEL_WARNING, format, arguments);
	va_end(arguments);
}

void log_left_out(struct log *log)
{
	if (log->left_out > 0)
		log_line(log, LOG_LEVEL_WARNING,
			 "%" PRIu64 " more lines about clients were left out", log->left_out);
	log->left_out = 0;
}
