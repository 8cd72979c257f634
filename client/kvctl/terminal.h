/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal while a program draws on all of it: keys come one by one and unseen, drawing happens on the alternate
 * screen, and both are undone however the program ends: by terminal_end(), by a signal, by a crash. Being stopped
 * (Ctrl-Z) gives the terminal back for the time. One at a time in a process; stdout is the terminal.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

struct terminal {
	bool keys; /* stdin is a terminal too */
	struct termios saved;
	sigset_t signals_before;
	int signal_fd;
	unsigned columns;
	unsigned rows;
};

enum terminal_event {
	TERMINAL_TIME,	 /* the time is over */
	TERMINAL_KEY,	 /* a key, in *ret_key */
	TERMINAL_REDRAW, /* the size changed, or the screen was somebody else's */
	TERMINAL_END,	 /* the user or the system wants an end: the signal is in *ret_key */
};

/* Takes the terminal. Results: 0; negative errno, with nothing changed. */
int terminal_begin(struct terminal *terminal);

/* Gives it back. */
void terminal_end(struct terminal *terminal);

/* Waits for what comes first, at most so long. ret_key is written with TERMINAL_KEY and TERMINAL_END. */
enum terminal_event terminal_wait(struct terminal *terminal, uint64_t limit_ms, int *ret_key);

/* Shows these lines (each ended by a newline), cut at the screen's edges, in place of what was there. */
void terminal_show(const struct terminal *terminal, const char *lines);
