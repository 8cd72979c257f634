/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work of one session in one turn is bounded (READ_BYTES_MAX, FRAMES_MAX). What the kernel holds
 * beyond that comes with the next poll, which is level-triggered; frames that were read but not
 * handled put the session on server.ready.
 */
#include "daemon/host/session.h"

#include "base/cleanup.h"
#include "base/contract.h"
#include "base/units.h"
#include "daemon/host/backing.h"
#include "daemon/host/reaper.h"
#include "daemon/host/server.h"
#include "proto/fdpass.h"
#include "proto/limits.h"
#include "proto/status.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define READ_BYTES_MAX (64u << 10)
#define FRAMES_MAX 64

/*
 * The queue's end, as a multiple of the amount at which reading stops: replies to what was read
 * before still fit.
 */
#define QUEUE_HARD_FACTOR 4

#define SEND_LATER_MS 20

static void on_poll(uv_poll_t *poll, int status, int events);

/* --- ends ---------------------------------------------------------------------------- */

static void on_handle_closed(uv_handle_t *handle)
{
	struct session *session = handle->data;

	if (--session->handles == 0)
		free(session);
}

void session_close(struct session *session)
{
	if (session->state == SESSION_CLOSED)
		return;
	session->state = SESSION_CLOSED;
	session->core = core_session_close(session->core);
	list_unlink(&session->node);
	list_unlink(&session->dirty);
	list_unlink(&session->ready);
	/* The poll handle must be closed before its descriptor is. */
	uv_close((uv_handle_t *)&session->poll, on_handle_closed);
	uv_close((uv_handle_t *)&session->timer, on_handle_closed);
	session->fd = close_fd(session->fd);
	frame_reader_deinit(&session->reader);
	outq_deinit(&session->outq);
	reaper_take(&session->server->loop, &session->memory[CORE_MEMORY_STAGING]);
	reaper_take(&session->server->loop, &session->memory[CORE_MEMORY_CONTROL]);
	event_close(&session->event);
}

static void mark_dirty(struct session *session)
{
	if (list_empty(&session->dirty))
		list_push_back(&session->server->dirty, &session->dirty);
}

static void end(struct session *session, enum session_state state)
{
	if (session->state < state)
		session->state = state;
	mark_dirty(session);
}

/* The client is at fault, or cannot be served: says why in the log. */
static void end_for(struct session *session, enum session_state state, uint64_t now_ns,
		    const char *reason)
{
	struct log_client client = { session->number, session->peer.uid, session->peer.pid };

	if (session->state < state)
		log_client(session->server->log, now_ns, MESSAGE_CLIENT_FAULT, &client,
			   "session %" PRIu64 " (uid %u, pid %d) ends: %s", client.session, client.uid,
			   client.pid, reason);
	end(session, state);
}

/* --- effects: called from within the core -------------------------------------------- */

static int effect_memory_create(void *context, void *peer, enum core_memory kind, uint64_t bytes,
				void **ret_memory)
{
	static const char *const names[] = {
		[CORE_MEMORY_STAGING] = "kvpaged-staging",
		[CORE_MEMORY_CONTROL] = "kvpaged-control",
	};
	struct session *session = peer;
	struct segment *segment = &session->memory[kind];
	int r;

	kvp_assert(!segment->memory);
	r = segment_create_shared(names[kind], bytes, segment);
	if (r < 0)
		return r;
	*ret_memory = segment->memory;
	return 0;
}

/*
 * The descriptors in the order that HelloReply promises. Results: their number, or negative errno.
 */
static int collect_fds(struct session *session, unsigned flags, int fds[KVP_FDS_MAX])
{
	int n = 0;

	if (!(flags & CORE_REPLY_FDS))
		return 0;
	fds[n++] = session->server->arena->read_fd;
	if (flags & CORE_REPLY_FD_STAGING)
		fds[n++] = session->memory[CORE_MEMORY_STAGING].fd;
	if (flags & CORE_REPLY_FD_EVENT) {
		int r = event_create(&session->event);

		if (r < 0)
			return r;
		fds[n++] = session->event.read_fd;
	}
	if (flags & CORE_REPLY_FD_CONTROL)
		fds[n++] = session->memory[CORE_MEMORY_CONTROL].fd;
	for (int i = 0; i < n; i++)
		kvp_assert(fds[i] >= 0);
	return n;
}

static void effect_reply(void *context, void *peer, const uint8_t *message, size_t n,
			 unsigned flags)
{
	struct session *session = peer;
	int fds[KVP_FDS_MAX];
	int n_fds, r;

	if (session->state >= SESSION_LOST)
		return;
	n_fds = collect_fds(session, flags, fds);
	r = n_fds < 0 ? n_fds : outq_push(&session->outq, message, n, fds, (size_t)n_fds);
	if (r < 0) {
		end_for(session, SESSION_LOST, uv_hrtime(),
			r == -ENOBUFS ? "too many replies are unread" : strerror(-r));
		return;
	}
	if (flags & CORE_REPLY_EVENT) {
		session->event_due = true;
		session->event_position = session->outq.bytes_queued_total;
	}
	mark_dirty(session);
}

static void effect_hang_up(void *context, void *peer, const char *reason)
{
	end_for(peer, SESSION_ENDING, uv_hrtime(), reason);
}

static int effect_discard(void *context, uint64_t offset, uint64_t bytes)
{
	struct server *server = context;
	int r;

	host_tier_loosen(&server->tier, server->arena);
	r = backing_discard(server->arena, offset, bytes);
	if (r < 0)
		log_message(server->log, MESSAGE_MEMORY_SHORT, "the arena's memory cannot be given back: %s",
			    strerror(-r));
	return r;
}

static int effect_restore(void *context, uint64_t offset, uint64_t bytes)
{
	const struct server *server = context;
	int r = backing_restore(server->arena, offset, bytes, server->config->fields.arena_prefault);

	if (r < 0)
		log_message(server->log, MESSAGE_MEMORY_SHORT, "the arena cannot grow further: %s", strerror(-r));
	return r;
}

static uint64_t effect_clock_ns(void *context)
{
	return uv_hrtime();
}

/* Before the next poll the loop looks whether there is work. */
static void effect_wake(void *context)
{
	struct server *server = context;

	server->work_queued = true;
}

const struct core_host session_effects = {
	.memory_create = effect_memory_create,
	.reply = effect_reply,
	.hang_up = effect_hang_up,
	.discard = effect_discard,
	.restore = effect_restore,
	.clock_ns = effect_clock_ns,
	.wake = effect_wake,
};

/* --- reading ------------------------------------------------------------------------- */

static bool queue_is_long(const struct session *session)
{
	return outq_bytes(&session->outq) > session->server->config->fields.reply_queue_bytes;
}

static bool may_read(const struct session *session)
{
	return session->state == SESSION_OPEN && !queue_is_long(session) &&
	       core_session_in_flight(session->core) < KVP_REQUESTS_IN_FLIGHT_MAX;
}

/*
 * Hands frames that are in memory to the core, *frames at most. unread_frames tells whether some
 * may be left.
 */
static void handle_frames(struct session *session, unsigned *frames, uint64_t now_ns)
{
	while (session->unread_frames && may_read(session) && *frames > 0) {
		const uint8_t *body;
		size_t n;
		int r = frame_reader_next(&session->reader, &body, &n);

		if (r < 0)
			core_session_fault(session->core, "the length of a frame is out of range");
		if (r <= 0) {
			session->unread_frames = false;
			return;
		}
		core_request(session->core, body, n, now_ns);
		vigil_note(&session->server->vigil);
		session->server->work_queued = true; /* if it is not, core_run() says so */
		(*frames)--;
	}
}

/*
 * One recvmsg(). Results: bytes read; 0 when there is nothing more to read now, whatever the
 * reason.
 */
static size_t receive(struct session *session, size_t *ret_room, uint64_t now_ns)
{
	uint8_t *space = frame_reader_space(&session->reader, ret_room);
	size_t n_fds;
	ssize_t got;

	if (!space) {
		end_for(session, SESSION_LOST, now_ns, strerror(ENOMEM));
		return 0;
	}
	got = fdpass_recv(session->fd, space, *ret_room, 0, NULL, 0, &n_fds);
	if (got > 0) {
		frame_reader_filled(&session->reader, (size_t)got);
		session->unread_frames = true;
		return (size_t)got;
	}
	if (got == -EBADMSG)
		core_session_fault(session->core, "it sent descriptors");
	else if (got == 0)
		end(session, SESSION_ENDING);
	else if (got != -EAGAIN)
		end(session, SESSION_LOST);
	return 0;
}

static void read_requests(struct session *session, bool from_socket, uint64_t now_ns)
{
	unsigned frames = FRAMES_MAX;
	size_t bytes = 0, room = 0, got = 0;

	handle_frames(session, &frames, now_ns);
	/* A read that did not fill the room has emptied the socket. */
	while (from_socket && may_read(session) && frames > 0 && bytes < READ_BYTES_MAX &&
	       got == room) {
		got = receive(session, &room, now_ns);
		if (got == 0)
			return;
		bytes += got;
		handle_frames(session, &frames, now_ns);
	}
}

void session_resume(struct session *session, uint64_t now_ns)
{
	list_unlink(&session->ready);
	read_requests(session, /* from_socket= */ false, now_ns);
	session_settle(session, now_ns);
}

/* --- writing ------------------------------------------------------------------------- */

/* The peer has its descriptors; ours would only take room. */
static void drop_sent_fds(struct session *session)
{
	if (session->outq.n_fds > 0 || outq_bytes(&session->outq) > 0)
		return;
	segment_close_fds(&session->memory[CORE_MEMORY_STAGING]);
	segment_close_fds(&session->memory[CORE_MEMORY_CONTROL]);
	session->event.read_fd = close_fd(session->event.read_fd);
}

/*
 * Signals whenever replies left while one that wants a signal is among those not signalled: now and
 * then one too early, never one too few for a peer that waits for signals before it reads.
 */
static void signal_event(struct session *session, uint64_t sent_before)
{
	if (!session->event_due || session->outq.bytes_sent_total == sent_before)
		return;
	event_signal(&session->event);
	session->event_due = session->outq.bytes_sent_total < session->event_position;
}

static void send_replies(struct session *session)
{
	uint64_t sent_before = session->outq.bytes_sent_total;
	int r;

	if (session->send_later || session->state >= SESSION_LOST ||
	    outq_bytes(&session->outq) == 0)
		return;
	r = outq_flush(&session->outq, session->fd);
	signal_event(session, sent_before);
	if (r == -ETOOMANYREFS)
		session->send_later = true;
	else if (r < 0)
		end(session, SESSION_LOST);
	drop_sent_fds(session);
}

/* --- time ---------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
	struct session *session = timer->data;
	uint64_t now_ns = server_turn(session->server);

	session->send_later = false;
	if (session->deadline_ns > 0 && now_ns >= session->deadline_ns) {
		if (session->state == SESSION_OPEN)
			end_for(session, SESSION_LOST, now_ns, "it does not read its replies");
		else
			end(session, SESSION_LOST);
	}
	session_settle(session, now_ns);
}

/* How long the session may stay in the way it is now: 0 for as long as it likes. */
static uint64_t patience_ms(const struct session *session)
{
	if (session->state == SESSION_ENDING)
		return SESSION_ENDING_MS;
	return queue_is_long(session) || session->send_later
		       ? session->server->config->fields.reply_stall_ms
		       : 0;
}

static void set_timer(struct session *session, uint64_t now_ns)
{
	uint64_t patience_ns = patience_ms(session) * NS_PER_MS;
	uint64_t wait_ms;

	if (patience_ns == 0) {
		session->deadline_ns = 0;
		(void)uv_timer_stop(&session->timer);
		return;
	}
	if (session->deadline_ns == 0 || session->deadline_ns > now_ns + patience_ns)
		session->deadline_ns = now_ns + patience_ns;
	wait_ms = session->deadline_ns > now_ns ? (session->deadline_ns - now_ns) / NS_PER_MS + 1
						: 1;
	if (session->send_later && wait_ms > SEND_LATER_MS)
		wait_ms = SEND_LATER_MS;
	uv_update_time(&session->server->loop);
	(void)uv_timer_start(&session->timer, on_timer, wait_ms, 0);
}

/* --- the loop's side ----------------------------------------------------------------- */

/* While it reads, the end of the stream is found by reading; otherwise by being told of it. */
static void set_interest(struct session *session)
{
	int wanted = may_read(session) ? UV_READABLE : 0;

	if (!wanted && session->state == SESSION_OPEN)
		wanted = UV_DISCONNECT;
	if (outq_bytes(&session->outq) > 0 && !session->send_later)
		wanted |= UV_WRITABLE;
	if (wanted == session->interest)
		return;
	session->interest = wanted;
	if (wanted)
		(void)uv_poll_start(&session->poll, wanted, on_poll);
	else
		(void)uv_poll_stop(&session->poll);
}

void session_settle(struct session *session, uint64_t now_ns)
{
	list_unlink(&session->dirty);
	if (session->state == SESSION_CLOSED)
		return;
	if (session->state >= SESSION_ENDING)
		session->core = core_session_close(session->core);
	send_replies(session);
	if (session->state == SESSION_LOST ||
	    (session->state == SESSION_ENDING && outq_bytes(&session->outq) == 0)) {
		session_close(session);
		return;
	}
	list_unlink(&session->dirty);
	set_timer(session, now_ns);
	set_interest(session);
	if (session->unread_frames && may_read(session) && list_empty(&session->ready))
		list_push_back(&session->server->ready, &session->ready);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct session *session = poll->data;
	uint64_t now_ns = server_turn(session->server);

	if (status < 0)
		end(session, SESSION_LOST); /* an error on the socket; libuv stopped the poll */
	else if ((events & UV_DISCONNECT) && !(session->interest & UV_READABLE))
		end(session, SESSION_ENDING);
	else if (events & UV_READABLE)
		read_requests(session, /* from_socket= */ true, now_ns);
	session_settle(session, now_ns);
}

static int start_handles(struct session *session)
{
	int r = uv_poll_init(&session->server->loop, &session->poll, session->fd);

	if (r < 0)
		return r;
	(void)uv_timer_init(&session->server->loop, &session->timer);
	session->poll.data = session;
	session->timer.data = session;
	session->handles = 2;
	return 0;
}

static void refuse(struct server *server, const struct ucred *peer, uint64_t now_ns,
		   const char *reason)
{
	struct log_client client = { .uid = peer->uid, .pid = peer->pid };

	log_client(server->log, now_ns, MESSAGE_SESSION_REFUSED, &client, "uid %u (pid %d) is refused: %s",
		   peer->uid, peer->pid, reason);
}

int session_open(struct server *server, int fd, const struct ucred *peer, uint64_t now_ns)
{
	_cleanup_free_ struct session *session = calloc(1, sizeof(*session));
	int r;

	if (!session)
		return -ENOMEM;
	*session = (struct session){
		.server = server,
		.fd = fd,
		.peer = *peer,
		.memory = { SEGMENT_NULL, SEGMENT_NULL },
		.event = EVENT_NULL,
	};
	list_init(&session->dirty);
	list_init(&session->ready);
	frame_reader_init(&session->reader, KVP_FRAME_BYTES_MAX);
	outq_init(&session->outq, server->config->fields.reply_queue_bytes * QUEUE_HARD_FACTOR);
	r = core_session_open(server->core, session, peer->uid, now_ns, &session->core);
	if (r != 0) {
		refuse(server, peer, now_ns, r == KVP_QUOTA ? "too many sessions" : strerror(-r));
		return r < 0 ? r : -EUSERS;
	}
	r = start_handles(session);
	if (r < 0) {
		refuse(server, peer, now_ns, strerror(-r));
		session->core = core_session_close(session->core);
		return r;
	}
	session->number = ++server->sessions_opened;
	list_push_back(&server->sessions, &session->node);
	set_interest(session);
	(void)take_ptr(session);
	return 0;
}
