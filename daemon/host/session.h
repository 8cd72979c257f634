/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection. Its life:
 *
 *   OPEN -> ENDING -> CLOSED
 *   OPEN or ENDING -> LOST -> CLOSED
 *
 * ENDING: nothing is read any more; replies given so far leave, for at most SESSION_ENDING_MS.
 * LOST: the peer is gone, or must go at once.
 *
 * In OPEN it stops reading while too many of its requests wait in the core or too many replies wait
 * in its queue. The core's effects only queue and mark; session_settle() acts on it, outside of the
 * core.
 *
 * A client that shuts down its sending side ends the session.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/list.h"
#include "daemon/core/core.h"
#include "daemon/host/event.h"
#include "daemon/host/outq.h"
#include "daemon/host/segment.h"
#include "proto/frame.h"

#define SESSION_ENDING_MS 1000

struct server;

enum session_state { SESSION_OPEN, SESSION_ENDING, SESSION_LOST, SESSION_CLOSED };

struct session {
	struct list node;  /* in server.sessions */
	struct list dirty; /* in server.dirty while it is to be settled */
	struct list ready; /* in server.ready while it holds requests that wait for their turn */
	struct server *server;
	struct core_session *core; /* NULL once closed */
	enum session_state state;
	uint64_t number; /* for people */
	struct ucred peer;
	int fd;
	uv_poll_t poll;
	uv_timer_t timer;
	unsigned handles; /* of libuv's that are not closed */
	int interest;     /* UV_* events polled for */
	struct frame_reader reader;
	bool unread_frames; /* the reader may hold whole frames */
	struct outq outq;
	bool send_later;      /* too many descriptors are in flight; the timer tries again */
	uint64_t deadline_ns; /* when the queue ends the session unless it shrinks; 0: never */
	struct segment memory[2]; /* by enum core_memory: shared with the peer only */
	struct event event;
	bool event_due;          /* some reply with CORE_REPLY_EVENT is not signalled */
	uint64_t event_position; /* where in the stream the last such reply ends */
};

extern const struct core_host session_effects;

/*
 * Begins a session on the connection, which becomes its own on success. Results: 0; -EUSERS
 * (refused; logged); negative errno.
 */
int session_open(struct server *server, int fd, const struct ucred *peer, uint64_t now_ns);

/*
 * Sends what waits, polls for what is wanted now, and closes what has ended; the session may be
 * gone afterwards.
 */
void session_settle(struct session *session, uint64_t now_ns);

/* Gives a session on server.ready its turn. */
void session_resume(struct session *session, uint64_t now_ns);

/*
 * Closes at once. The memory goes when the loop has closed its handles. Fine when closed already.
 */
void session_close(struct session *session);
