/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A wake-up for a peer: a descriptor that is readable (8 bytes) after a signal, until it is read.
 * It is used like an eventfd but is a pipe: both ends of an eventfd share one file description, so
 * the peer could clear O_NONBLOCK, fill the counter, and make our write() wait. A pipe's ends have
 * flags of their own.
 */
#pragma once

struct event {
	int read_fd; /* for the peer; closed here once it was sent */
	int write_fd;
};

#define EVENT_NULL { .read_fd = -1, .write_fd = -1 }

/* Results: 0, or negative errno (-EMFILE, -ENFILE). */
int event_create(struct event *ret_event);

/* Never blocks. A peer that has not read the last signal gets no second one. */
void event_signal(struct event *event);

/* Closes what is open. */
void event_close(struct event *event);
