/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines for the operator on one descriptor: with a syslog priority in front ("<4>") where a journal
 * reads them, with the program's name in front on a terminal. Each line is escaped as a whole, so
 * that no text from outside can begin a new line or move a terminal's cursor. Lines that clients
 * can cause are limited to LOG_CLIENT_LINES_MAX in a second; what was left out is counted and told
 * later.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LOG_CLIENT_LINES_MAX 10

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
	_LOG_LEVEL_MAX
};

/* The names of the levels in their order, ending with NULL. */
extern const char *const log_level_names[];

struct log {
	int fd; /* not owned */
	bool terminal;
	enum log_level level;
	uint64_t window_ns; /* when the current second of client lines began */
	unsigned window_lines;
	uint64_t left_out;
};

void log_init(struct log *log, int fd, enum log_level level);

/* One line; cut at about 500 characters. */
__attribute__((format(printf, 3, 4))) void log_line(struct log *log, enum log_level level,
						    const char *format, ...);

/* One line that a client caused, at level warning. now_ns is monotonic. */
__attribute__((format(printf, 3, 4))) void log_client(struct log *log, uint64_t now_ns,
						      const char *format, ...);

/* Tells how many client lines were left out since the last such line, if any. */
void log_left_out(struct log *log);
