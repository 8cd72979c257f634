/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line is one write(): lines of several processes on one descriptor do not mix. A failed write is
 * not an error of ours.
 */
#include "daemon/host/log.h"

#include "base/text.h"
#include "base/units.h"
#include "daemon/host/journal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 512
#define PREFIX_BYTES 32

_Static_assert(LOG_TEXT_BYTES > 4 * LINE_BYTES, "a line fits however it is escaped");

const char *const log_level_names[] = { "error", "warning", "info", "debug", NULL };

/* The priorities of syslog(3). */
static const int priorities[_LOG_LEVEL_MAX] = { 3, 4, 6, 7 };

static const struct {
	enum log_level level;
	const char *id;
} messages[_LOG_MESSAGE_MAX] = {
#define MESSAGE(name, level, id) [MESSAGE_##name] = { LOG_LEVEL_##level, id },
#include "daemon/host/messages.def"
};

/* What is known of a line besides its text. */
struct origin {
	enum log_level level;
	const char *id;                  /* NULL: none */
	const struct log_client *client; /* NULL: not about one */
};

void log_init(struct log *log, int fd, enum log_level level)
{
	*log = (struct log){
		.fd = fd,
		.journal = journal_reads(fd),
		.terminal = isatty(fd) == 1,
		.level = level,
	};
}

static void write_line(const struct log *log, enum log_level level, const char *text)
{
	char line[PREFIX_BYTES + LOG_TEXT_BYTES];
	int n;

	if (log->terminal)
		n = snprintf(line, sizeof(line), "kvpaged: %s%s%s\n",
			     level < LOG_LEVEL_INFO ? log_level_names[level] : "",
			     level < LOG_LEVEL_INFO ? ": " : "", text);
	else
		n = snprintf(line, sizeof(line), "<%d>%s\n", priorities[level], text);
	if (write(log->fd, line, (size_t)n) < 0)
		return; /* there is nobody left to tell */
}

static void put_line(struct log *log, const struct origin *origin, const char *format, va_list arguments)
{
	char raw[LINE_BYTES], text[LOG_TEXT_BYTES];

	if (origin->level > log->level)
		return;
	(void)vsnprintf(raw, sizeof(raw), format, arguments);
	(void)text_escape(raw, strlen(raw), text, sizeof(text));
	if (log->journal && journal_put(priorities[origin->level], origin->id, origin->client, text) == 0)
		return;
	write_line(log, origin->level, text);
}

void log_line(struct log *log, enum log_level level, const char *format, ...)
{
	struct origin origin = { .level = level };
	va_list arguments;

	va_start(arguments, format);
	put_line(log, &origin, format, arguments);
	va_end(arguments);
}

void log_message(struct log *log, enum log_message message, const char *format, ...)
{
	struct origin origin = { .level = messages[message].level, .id = messages[message].id };
	va_list arguments;

	va_start(arguments, format);
	put_line(log, &origin, format, arguments);
	va_end(arguments);
}

void log_client(struct log *log, uint64_t now_ns, enum log_message message, const struct log_client *client,
		const char *format, ...)
{
	struct origin origin = { messages[message].level, messages[message].id, client };
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
	put_line(log, &origin, format, arguments);
	va_end(arguments);
}

void log_left_out(struct log *log)
{
	if (log->left_out > 0)
		log_message(log, MESSAGE_LINES_LEFT_OUT, "%" PRIu64 " more lines about clients were left out",
			    log->left_out);
	log->left_out = 0;
}
