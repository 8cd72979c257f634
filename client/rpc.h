/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests and replies over one socket. Many requests may be unanswered at a time; replies are matched by id.
 * While bytes are being sent, replies are taken too, so both directions being full cannot lock up.
 *
 * A call is linked from the moment its request is queued or sent whole until its done function ran, which happens
 * exactly once: with the reply, or with the error that ended the connection. After an error nothing works but
 * rpc_deinit().
 *
 * Not thread-safe: the client's lock guards it.
 */
#pragma once

#include "base/list.h"
#include "base/spin.h"
#include "proto/frame.h"
#include "proto/limits.h"

#include "kvpaged.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

struct rpc_call;
struct words;

/*
 * reply is the function's to free with rpc_reply_free(), and NULL when error (negative errno) is set. May
 * start no request.
 */
typedef void rpc_done_fn(struct rpc_call *call, Kvpaged__V1__Reply *reply, int error);

struct rpc_call {
	struct list link;
	uint64_t id;
	rpc_done_fn *done;
};

/* Where descriptors go while they are expected. */
struct rpc_fds {
	int fds[KVP_FDS_MAX];
	size_t n;
};

struct rpc {
	int socket;  /* own; -1: none */
	int error;   /* 0, or the negative errno that ended the connection */
	uint32_t timeout_ms;
	uint32_t request_bytes_max;
	unsigned in_flight;
	unsigned in_flight_max;
	uint64_t last_id;
	struct list pending; /* oldest first */
	struct frame_reader reader;
	uint8_t *queue; /* frames to send */
	size_t queue_n;
	size_t queue_room;
	struct rpc_fds *fds; /* NULL: descriptors are a violation */
	struct words *words; /* of the client */
	struct spin spin;    /* for answers */
};

/*
 * Takes the socket (non-blocking). timeout_ms bounds each wait without progress; answers are waited for awake for
 * spin_us, where that pays. One request in flight until told otherwise.
 */
void rpc_init(struct rpc *rpc, int socket, uint32_t timeout_ms, uint32_t spin_us, struct words *words);

/* Ends pending calls with -ECONNRESET, or the error there was, and closes the socket. */
void rpc_deinit(struct rpc *rpc);

/* Whether requests can be sent. */
static inline bool rpc_alive(const struct rpc *rpc)
{
	return rpc->socket >= 0 && rpc->error == 0;
}

/*
 * Sends a request, whose id is set here, and links the call. Waits while the socket is full or too many
 * requests are unanswered. Results: 0; -EMSGSIZE (larger than the daemon takes) and -ENOMEM, which leave the
 * connection as it was; others (-ECONNRESET, -ETIMEDOUT, -EPROTO, -EBADMSG) end it. On failure the call is
 * not linked.
 */
int rpc_send(struct rpc *rpc, Kvpaged__V1__Request *request, struct rpc_call *call);

/*
 * The same, but the request may stay in the queue until the next rpc_flush(), rpc_send(), rpc_wait() or rpc_collect():
 * several then leave with one system call. If sending fails then, the call is done with the error.
 */
int rpc_queue(struct rpc *rpc, Kvpaged__V1__Request *request, struct rpc_call *call);

/* Sends what is queued. Results: 0, or the error that ended the connection. */
int rpc_flush(struct rpc *rpc);

/* Handles the replies that are there, without waiting. Results: 0, or the error that ended the connection. */
int rpc_collect(struct rpc *rpc);

/* Waits for more replies and handles them. The same results; -ETIMEDOUT ends the connection too. */
int rpc_wait(struct rpc *rpc);

/*
 * Sends and waits for the answer. Results: 0 and the reply, whatever its status, for rpc_reply_free(); or as
 * rpc_send().
 */
int rpc_exchange(struct rpc *rpc, Kvpaged__V1__Request *request, Kvpaged__V1__Reply **ret_reply);

/* Ends the connection: every pending call is done with this error. */
void rpc_fail(struct rpc *rpc, int error);

/* The reply's status as a result: 0 or positive; a number that no daemon sends becomes KVP_PROTOCOL. */
int rpc_reply_status(const Kvpaged__V1__Reply *reply);

/* NULL is fine. Returns NULL. */
Kvpaged__V1__Reply *rpc_reply_free(Kvpaged__V1__Reply *reply);

static inline void rpc_reply_freep(Kvpaged__V1__Reply **reply)
{
	(void)rpc_reply_free(*reply);
}
