/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions and their requests.
 *
 *	NEW --Hello--> READY --protocol error, stop, hang-up--> OVER --host closes--> gone
 *
 * A session that is OVER is deaf: what it sent is dropped, its queued operations are abandoned when it closes.
 *Queued operations are served round robin over sessions, one slice each, in order within a session.
 */
#include "daemon/core/events.h"
#include "daemon/core/fetching.h"
#include "daemon/core/hazard.h"
#include "daemon/core/lease.h"
#include "daemon/core/parse.h"
#include "daemon/core/resize.h"
#include "daemon/core/space.h"
#include "daemon/core/stats.h"
#include "daemon/core/tiering.h"
#include "daemon/core/verbs.h"

#include "base/contract.h"
#include "base/units.h"

#include <errno.h>
#include <stdlib.h>

/* ---- Life ---- */

static void hello_expire(struct core *core, struct deadline *deadline)
{
	session_end(list_entry(deadline, struct core_session, hello), "no Hello in time");
}

static int session_arm(struct core_session *session)
{
	struct core *core = session->core;

	session->hello.expire = hello_expire;
	return deadline_arm(&core->deadlines, &session->hello,
			    core->now_ns + core->limits.hello_ttl_ms * NS_PER_MS);
}

int core_session_open(struct core *core, void *peer, uint32_t uid, uint64_t now_ns,
		      struct core_session **ret_session)
{
	struct core_session *session;

	core->now_ns = now_ns;
	if (counter_get(core, sessions) >= core->limits.sessions_max) {
		counter_add(core, sessions_refused_total, 1);
		return KVP_QUOTA;
	}
	session = calloc(1, sizeof(*session));
	if (!session)
		return -ENOMEM;
	session->core = core;
	session->peer = peer;
	session->user = user_ref(&core->users, uid);
	if (!session->user || session_arm(session) < 0) {
		if (session->user)
			session->user = user_unref(session->user);
		free(session);
		return -ENOMEM;
	}
	list_init(&session->link);
	list_init(&session->run);
	list_init(&session->ops);
	list_init(&session->leases);
	list_init(&session->writers);
	list_init(&session->fetches);
	list_init(&session->wait.link);
	list_init(&session->resize.link);
	session->id = ++core->next_session_id;
	list_push_back(&core->sessions, &session->link);
	counter_add(core, sessions, 1);
	counter_add(core, sessions_total, 1);
	if (session->user->sessions > core->limits.sessions_per_uid_max) {
		counter_add(core, sessions_refused_total, 1);
		(void)core_session_close(session);
		return KVP_QUOTA;
	}
	*ret_session = session;
	return 0;
}

static void op_end(struct core_session *session, struct op *op)
{
	list_unlink(&op->link);
	session->in_flight--;
	op->destroy(session->core, op);
}

struct core_session *core_session_close(struct core_session *session)
{
	struct core *core;

	if (!session)
		return NULL;
	core = session->core;
	session->state = SESSION_OVER;
	deadline_disarm(&core->deadlines, &session->hello);
	hazard_void(session);
	/* First: what goes below could answer them, and give the session leases. */
	events_forget(session);
	fetching_forget(session);
	resize_forget(session);
	list_for_each_safe(node, after, &session->ops)
		op_end(session, list_entry(node, struct op, link));
	list_for_each_safe(node, after, &session->leases)
		lease_end(core, list_entry(node, struct lease, by_session));
	/* Dropping one block can drop others that this session writes: always take the first that is left. */
	while (!list_empty(&session->writers))
		block_remove_writer(core, list_entry(session->writers.next, struct writer, by_session));
	for (uint32_t id = 1; id <= KVP_SPACES_MAX; id++)
		session_close_space(session, id);
	hazard_take_back(session);
	if (session->staging) {
		account_discharge(&session->user->staging_bytes, session->staging_bytes);
		counter_sub(core, staging_bytes, session->staging_bytes);
	}
	list_unlink(&session->link);
	list_unlink(&session->run);
	session->user = user_unref(session->user);
	counter_sub(core, sessions, 1);
	stats_later(core);
	free(session);
	return NULL;
}

void session_end(struct core_session *session, const char *reason)
{
	struct core *core = session->core;

	if (session->state == SESSION_OVER)
		return;
	session->state = SESSION_OVER;
	list_unlink(&session->run);
	deadline_disarm(&core->deadlines, &session->hello);
	hazard_void(session);
	events_forget(session);
	fetching_forget(session);
	resize_forget(session);
	core->host->hang_up(core->context, session->peer, reason);
}

/* ---- Faults ---- */

/* Answers, then ends the session. */
static void protocol_error(struct core_session *session, uint64_t id, const char *text)
{
	Reply reply = KVPAGED__V1__REPLY__INIT;

	counter_add(session->core, protocol_errors_total, 1);
	reply.id = id;
	(void)reply_fail(&reply, KVP_PROTOCOL, text);
	reply_send(session, &reply, 0);
	session_end(session, text);
}

void core_session_fault(struct core_session *session, const char *reason)
{
	counter_add(session->core, protocol_errors_total, 1);
	session_end(session, reason);
}

/* ---- Requests ---- */

void session_note_request(struct core *core, uint32_t verb, uint64_t begin_ns)
{
	uint64_t end_ns = core_clock_ns(core);

	if (verb < KVP_VERBS)
		histogram_add(&core->arena.counters->request_seconds[verb], end_ns > begin_ns ? end_ns - begin_ns : 0);
}

static verb_fn *const verbs[] = {
	[KVPAGED__V1__REQUEST__VERB_HELLO] = verb_hello,
	[KVPAGED__V1__REQUEST__VERB_OPEN_SPACE] = verb_open_space,
	[KVPAGED__V1__REQUEST__VERB_APPEND] = verb_append,
	[KVPAGED__V1__REQUEST__VERB_FETCH] = verb_fetch,
	[KVPAGED__V1__REQUEST__VERB_RELEASE] = verb_release,
	[KVPAGED__V1__REQUEST__VERB_MATCH] = verb_match,
	[KVPAGED__V1__REQUEST__VERB_DELETE] = verb_delete,
	[KVPAGED__V1__REQUEST__VERB_TOUCH] = verb_touch,
	[KVPAGED__V1__REQUEST__VERB_PIN] = verb_pin,
	[KVPAGED__V1__REQUEST__VERB_UNPIN] = verb_unpin,
	[KVPAGED__V1__REQUEST__VERB_STATS] = verb_stats,
	[KVPAGED__V1__REQUEST__VERB_EVICT] = verb_evict,
	[KVPAGED__V1__REQUEST__VERB_LIST] = verb_list,
	[KVPAGED__V1__REQUEST__VERB_DROP_SPACE] = verb_drop_space,
	[KVPAGED__V1__REQUEST__VERB_CONFIG] = verb_config,
	[KVPAGED__V1__REQUEST__VERB_WHY] = verb_why,
	[KVPAGED__V1__REQUEST__VERB_SUBSCRIBE] = verb_subscribe,
	[KVPAGED__V1__REQUEST__VERB_RESIZE] = verb_resize,
};

static bool id_in_flight(const struct core_session *session, uint64_t id)
{
	list_for_each(node, &session->ops)
		if (list_entry(node, struct op, link)->id == id)
			return true;
	return events_waits(session, id) || fetching_waits(session, id) || resize_waits(session, id);
}

/* What ends a session. NULL, or static text. */
static const char *order_check(const struct core_session *session, const Request *request)
{
	if (request->id == 0)
		return "a request without id";
	if (session->state == SESSION_NEW && request->verb_case != KVPAGED__V1__REQUEST__VERB_HELLO)
		return "a request before Hello";
	if (id_in_flight(session, request->id))
		return "an id that is in use";
	if (session->in_flight >= KVP_REQUESTS_IN_FLIGHT_MAX)
		return "too many requests at once";
	return NULL;
}

static void request_dispatch(struct core_session *session, const Request *request)
{
	Reply reply = KVPAGED__V1__REPLY__INIT;
	size_t verb = (size_t)request->verb_case;
	enum verb_result result;

	reply.id = request->id;
	if (session->core->stopping)
		result = reply_fail(&reply, KVP_STOPPING, "the daemon is stopping");
	else if (verb >= sizeof(verbs) / sizeof(verbs[0]) || !verbs[verb])
		result = reply_fail(&reply, KVP_UNSUPPORTED, "unknown request");
	else
		result = verbs[verb](session, request, &reply);
	if (result == VERB_REPLY)
		reply_send(session, &reply, 0);
}

void core_request(struct core_session *session, const uint8_t *message, size_t n, uint64_t now_ns)
{
	struct core *core = session->core;
	const Request *request;
	const char *wrong;
	unsigned queued = session->in_flight;

	core->now_ns = now_ns;
	if (session->state == SESSION_OVER)
		return;
	counter_add(core, requests_total, 1);
	session->control.asked = true;
	request = request_parse(core, message, n);
	if (!request) {
		protocol_error(session, 0, "a malformed message");
		return;
	}
	wrong = order_check(session, request);
	if (wrong) {
		protocol_error(session, request->id, wrong);
		return;
	}
	core->verb = (uint32_t)request->verb_case - KVP_VERB_FIRST;
	request_dispatch(session, request);
	if (session->in_flight == queued)
		session_note_request(core, core->verb, now_ns);
	stats_later(core);
}

unsigned core_session_in_flight(const struct core_session *session)
{
	return session->in_flight;
}

/* ---- Queued work ---- */

void op_queue(struct core_session *session, struct op *op)
{
	op->verb = session->core->verb;
	op->begin_ns = session->core->now_ns;
	list_push_back(&session->ops, &op->link);
	session->in_flight++;
	if (list_empty(&session->run))
		list_push_back(&session->core->run_queue, &session->run);
}

/* One slice of the first session's work. */
static void session_run(struct core *core)
{
	struct list *first = list_first(&core->run_queue);
	struct core_session *session;
	struct op *op;

	if (!first)
		return;
	session = list_entry(first, struct core_session, run);
	op = list_entry(session->ops.next, struct op, link);
	kvp_assert(!list_empty(&session->ops));
	if (op->step(session, op) == OP_DONE) {
		session_note_request(core, op->verb, op->begin_ns);
		op_end(session, op);
	}
	/* To the end of the queue; a session that ended during the step is out of it already. */
	if (session->state != SESSION_OVER) {
		list_unlink(&session->run);
		if (!list_empty(&session->ops))
			list_push_back(&core->run_queue, &session->run);
	}
}

bool core_run(struct core *core, uint64_t now_ns)
{
	bool more;

	core->now_ns = now_ns;
	if (!list_empty(&core->run_queue))
		stats_later(core);
	session_run(core);
	more = fetching_step(core);
	loading_step(core);
	more |= tiering_step(core);
	return more || !list_empty(&core->run_queue);
}
