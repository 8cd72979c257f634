/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request pipelining; see rpc.h. The queue is one run of frames, sent with one system call and then empty; its
 * memory is kept for the next.
 */
#include "client/rpc.h"

#include "base/cleanup.h"
#include "base/contract.h"
#include "client/clock.h"
#include "client/kvclient.h"
#include "client/words.h"
#include "proto/fdpass.h"
#include "proto/status.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

void rpc_init(struct rpc *rpc, int socket, uint32_t timeout_ms, uint32_t spin_us, struct words *words)
{
	*rpc = (struct rpc){
		.socket = socket,
		.timeout_ms = timeout_ms,
		.request_bytes_max = KVP_FRAME_BYTES_MAX,
		.in_flight_max = 1,
		.words = words,
	};
	spin_init(&rpc->spin, spin_us);
	list_init(&rpc->pending);
	frame_reader_init(&rpc->reader, KVP_FRAME_BYTES_MAX);
}

void rpc_deinit(struct rpc *rpc)
{
	rpc_fail(rpc, rpc->error ? rpc->error : -ECONNRESET);
	frame_reader_deinit(&rpc->reader);
	free(rpc->queue);
	rpc->queue = NULL;
	rpc->socket = close_fd(rpc->socket);
}

Kvpaged__V1__Reply *rpc_reply_free(Kvpaged__V1__Reply *reply)
{
	if (reply)
		kvpaged__v1__reply__free_unpacked(reply, NULL);
	return NULL;
}

int rpc_reply_status(const Kvpaged__V1__Reply *reply)
{
	return reply->status <= UINT8_MAX ? (int)reply->status : KVP_PROTOCOL;
}

/* Takes the call off the list and hands it the outcome. */
static void call_finish(struct rpc *rpc, struct rpc_call *call, Kvpaged__V1__Reply *reply, int error)
{
	list_unlink(&call->link);
	rpc->in_flight--;
	call->done(call, reply, error);
}

void rpc_fail(struct rpc *rpc, int error)
{
	struct list *node;

	kvp_assert(error < 0);
	if (rpc->error == 0)
		rpc->error = error;
	while ((node = list_first(&rpc->pending)))
		call_finish(rpc, list_entry(node, struct rpc_call, link), NULL, error);
}

/* Ends the connection with its reason in words and returns the error. */
static int rpc_break(struct rpc *rpc, int error)
{
	switch (error) {
	case -ECONNRESET:
		words_set(rpc->words, "the daemon closed the connection");
		break;
	case -ETIMEDOUT:
		words_set(rpc->words, "the daemon did not answer within %u ms", rpc->timeout_ms);
		break;
	case -EBADMSG:
		words_set(rpc->words,
			  "descriptors of the daemon did not arrive, or more than expected: this process is at its "
			  "descriptor limit (RLIMIT_NOFILE), or a security module (SELinux, AppArmor) refuses them");
		break;
	case -EPROTO:
		break; /* who found it has said what */
	default:
		words_set(rpc->words, "the connection failed: %s", kvc_strerror(error));
	}
	rpc_fail(rpc, error);
	return error;
}

static struct rpc_call *call_of(struct rpc *rpc, uint64_t id)
{
	list_for_each(node, &rpc->pending) {
		struct rpc_call *call = list_entry(node, struct rpc_call, link);

		if (call->id == id)
			return call;
	}
	return NULL;
}

static int reply_dispatch(struct rpc *rpc, const uint8_t *body, size_t n)
{
	Kvpaged__V1__Reply *reply = kvpaged__v1__reply__unpack(NULL, n, body);
	struct rpc_call *call;

	if (!reply) {
		words_set(rpc->words, "the peer does not speak kvpaged's protocol: its message cannot be read");
		return -EPROTO;
	}
	call = call_of(rpc, reply->id);
	if (!call) {
		if (reply->id == 0)
			words_quote(rpc->words, "the daemon ended the session", reply->error.data, reply->error.len);
		else
			words_set(rpc->words, "the daemon answered a request that was not asked");
		(void)rpc_reply_free(reply);
		return -EPROTO;
	}
	call_finish(rpc, call, reply, 0);
	return 0;
}

static int frames_dispatch(struct rpc *rpc)
{
	const uint8_t *body;
	size_t n;
	int r;

	while ((r = frame_reader_next(&rpc->reader, &body, &n)) > 0) {
		r = reply_dispatch(rpc, body, n);
		if (r < 0)
			return r;
	}
	if (r < 0)
		words_set(rpc->words, "the peer does not speak kvpaged's protocol: impossible frame length");
	return r;
}

/* Reads once, descriptors included where they are expected. Results: bytes read (0: none now), negative errno. */
static ssize_t socket_read(struct rpc *rpc, uint8_t *space, size_t n)
{
	struct rpc_fds *sink = rpc->fds;
	size_t n_fds = 0;
	ssize_t got;

	if (sink)
		got = fdpass_recv(rpc->socket, space, n, MSG_DONTWAIT, sink->fds + sink->n,
				  KVP_FDS_MAX - sink->n, &n_fds);
	else
		got = fdpass_recv(rpc->socket, space, n, MSG_DONTWAIT, NULL, 0, NULL);
	if (sink)
		sink->n += n_fds;
	if (got == -EAGAIN)
		return 0;
	return got == 0 ? -ECONNRESET : got;
}

/*
 * Handles what is there. A read that did not fill the room has emptied the socket, but the end of the connection may be
 * behind it: to_end looks for that too. Results: 1; 0 when there was nothing; the error that ends the connection.
 */
static int socket_drain(struct rpc *rpc, bool to_end)
{
	for (int any = 0;; any = 1) {
		size_t n;
		uint8_t *space = frame_reader_space(&rpc->reader, &n);
		ssize_t got;
		int r;

		if (!space)
			return -ENOMEM;
		got = socket_read(rpc, space, n);
		if (got <= 0)
			return got < 0 ? (int)got : any;
		frame_reader_filled(&rpc->reader, (size_t)got);
		r = frames_dispatch(rpc);
		if (r < 0)
			return r;
		if (!to_end && (size_t)got < n)
			return 1;
	}
}

/* Waits for one of the events, whatever signals come meanwhile. Results: 0, -ETIMEDOUT, -errno of poll(). */
static int socket_poll(const struct rpc *rpc, short events)
{
	uint64_t deadline_ns = clock_now_ns(CLOCK_MONOTONIC) + rpc->timeout_ms * NS_PER_MS;
	struct pollfd wanted = { .fd = rpc->socket, .events = events };
	int n;

	do
		n = poll(&wanted, 1, clock_left_ms(deadline_ns));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n == 0 ? -ETIMEDOUT : 0;
}

/* Waits awake for a while. Results as socket_drain()'s. */
static int socket_spin(struct rpc *rpc)
{
	uint64_t begin_ns = clock_now_ns(CLOCK_MONOTONIC);
	int r;

	do
		r = socket_drain(rpc, false);
	while (r == 0 && clock_now_ns(CLOCK_MONOTONIC) - begin_ns < rpc->spin.limit_ns);
	return r;
}

/* Waits asleep. The same results. */
static int socket_sleep(struct rpc *rpc)
{
	int r = socket_poll(rpc, POLLIN);

	return r == 0 ? socket_drain(rpc, false) : r;
}

/* Sends all bytes, taking replies whenever the socket is full. */
static int socket_send_all(struct rpc *rpc, const uint8_t *bytes, size_t n)
{
	while (n > 0) {
		ssize_t sent = fdpass_send(rpc->socket, bytes, n, NULL, 0);
		int r;

		if (sent >= 0) {
			bytes += sent;
			n -= (size_t)sent;
			continue;
		}
		if (sent != -EAGAIN && sent != -EPIPE)
			return (int)sent;
		r = sent == -EPIPE ? 0 : socket_poll(rpc, POLLIN | POLLOUT);
		if (r == 0)
			r = socket_drain(rpc, true); /* a peer that closed may have said why */
		if (r < 0)
			return r;
		if (sent == -EPIPE)
			return -ECONNRESET;
	}
	return 0;
}

int rpc_flush(struct rpc *rpc)
{
	size_t n = rpc->queue_n;
	int r;

	if (rpc->error || n == 0)
		return rpc->error;
	rpc->queue_n = 0;
	r = socket_send_all(rpc, rpc->queue, n);
	return r < 0 ? rpc_break(rpc, r) : 0;
}

int rpc_collect(struct rpc *rpc)
{
	int r;

	r = rpc_flush(rpc);
	if (r < 0)
		return r;
	r = socket_drain(rpc, true);
	return r < 0 ? rpc_break(rpc, r) : 0;
}

int rpc_wait(struct rpc *rpc)
{
	int r = rpc_flush(rpc);

	if (r < 0)
		return r;
	if (spin_pays(&rpc->spin)) {
		r = socket_spin(rpc);
		spin_note(&rpc->spin, r != 0);
	}
	if (r == 0)
		r = socket_sleep(rpc);
	return r < 0 ? rpc_break(rpc, r) : 0;
}

/* Appends the request to the queue as a frame. Results: 0, -EMSGSIZE, -ENOMEM. */
static int request_pack(struct rpc *rpc, const Kvpaged__V1__Request *request)
{
	size_t n = kvpaged__v1__request__get_packed_size(request);
	size_t needed = rpc->queue_n + FRAME_HEADER_BYTES + n;
	uint8_t *frame;

	if (n > rpc->request_bytes_max) {
		words_set(rpc->words, "a request of %zu bytes is more than the daemon takes (%u)", n,
			  rpc->request_bytes_max);
		return -EMSGSIZE;
	}
	if (needed > rpc->queue_room) {
		uint8_t *larger = realloc(rpc->queue, needed);

		if (!larger)
			return -ENOMEM;
		rpc->queue = larger;
		rpc->queue_room = needed;
	}
	frame = rpc->queue + rpc->queue_n;
	frame_put_header(frame, (uint32_t)n);
	(void)kvpaged__v1__request__pack(request, frame + FRAME_HEADER_BYTES);
	rpc->queue_n = needed;
	return 0;
}

/* Gives the request its number and queues it, when not too many are unanswered. Results as rpc_queue(). */
static int request_queue(struct rpc *rpc, Kvpaged__V1__Request *request)
{
	if (rpc->error)
		return rpc->error;
	while (rpc->in_flight >= rpc->in_flight_max) {
		int r = rpc_wait(rpc);

		if (r < 0)
			return r;
	}
	request->id = ++rpc->last_id;
	return request_pack(rpc, request);
}

static void call_link(struct rpc *rpc, struct rpc_call *call, uint64_t id)
{
	call->id = id;
	list_push_back(&rpc->pending, &call->link);
	rpc->in_flight++;
}

int rpc_queue(struct rpc *rpc, Kvpaged__V1__Request *request, struct rpc_call *call)
{
	int r = request_queue(rpc, request);

	if (r == 0)
		call_link(rpc, call, request->id);
	return r;
}

int rpc_send(struct rpc *rpc, Kvpaged__V1__Request *request, struct rpc_call *call)
{
	int r = request_queue(rpc, request);

	if (r == 0)
		r = rpc_flush(rpc);
	if (r == 0)
		call_link(rpc, call, request->id);
	return r;
}

struct exchange {
	struct rpc_call call;
	Kvpaged__V1__Reply *reply;
	int error;
	bool done;
};

static void exchange_done(struct rpc_call *call, Kvpaged__V1__Reply *reply, int error)
{
	struct exchange *exchange = list_entry(call, struct exchange, call);

	exchange->reply = reply;
	exchange->error = error;
	exchange->done = true;
}

int rpc_exchange(struct rpc *rpc, Kvpaged__V1__Request *request, Kvpaged__V1__Reply **ret_reply)
{
	struct exchange exchange = { .call = { .done = exchange_done } };
	int r = rpc_send(rpc, request, &exchange.call);

	if (r < 0)
		return r;
	while (!exchange.done)
		(void)rpc_wait(rpc); /* its failure ends the call too */
	if (exchange.error)
		return exchange.error;
	*ret_reply = exchange.reply;
	return 0;
}
