/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines for the operator on one descriptor: as entries of systemd's journal with fields (journal.h) where that reads
 * the descriptor, with the program's name in front on a terminal, otherwise with a syslog priority in front ("<4>"),
 * which journals and containers understand. Each line is escaped as a whole, so that no text from outside can begin a
 * new line or move a terminal's cursor. Lines that clients can cause are limited to LOG_CLIENT_LINES_MAX in a second;
 * what was left out is counted and told later.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define LOG_CLIENT_LINES_MAX 10

/* Of a line's escaped text, with its end. */
#define LOG_TEXT_BYTES 2049

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
	_LOG_LEVEL_MAX
};

/* The names of the levels in their order, ending with NULL. */
extern const char *const log_level_names[];

/* Events with a name that stays. */
enum log_message {
#define MESSAGE(name, level, id) MESSAGE_##name,
#include "daemon/host/messages.def"
	_LOG_MESSAGE_MAX
};

struct log {
	int fd; /* not owned */
	bool journal;
	bool terminal;
	enum log_level level;
	uint64_t window_ns; /* when the current second of client lines began */
	unsigned window_lines;
	uint64_t left_out;
};

/* Whom a line is about. */
struct log_client {
	uint64_t session; /* its number; 0: it has none */
	uid_t uid;
	pid_t pid;
};

void log_init(struct log *log, int fd, enum log_level level);

/* One line without a name for what happened; cut at about 500 characters. */
__attribute__((format(printf, 3, 4))) void log_line(struct log *log, enum log_level level, const char *format, ...);

/* One line about an event, at the event's level. */
__attribute__((format(printf, 3, 4))) void log_message(struct log *log, enum log_message message, const char *format,
						       ...);

/* The same for what a client caused. client NULL: it is not known. now_ns is monotonic. */
__attribute__((format(printf, 5, 6))) void log_client(struct log *log, uint64_t now_ns, enum log_message message,
						      const struct log_client *client, const char *format, ...);

/* Tells how many client lines were left out since the last such line, if any. */
void log_left_out(struct log *log);
