/* SPDX-License-Identifier: Apache-2.0 */
/* The ring of events and those who wait for them; see events.h. Event i lies at i modulo events_kept. */
#include "daemon/core/events.h"

#include "base/contract.h"
#include "base/units.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* From an event until those who wait are told: what happens meanwhile comes with it. */
#define TELL_AFTER_MS 2

static void waits_tell(struct core *core, struct deadline *deadline);

int events_init(struct core *core)
{
	list_init(&core->waits);
	core->waits_due.expire = waits_tell;
	core->events = calloc(core->limits.events_kept, sizeof(*core->events));
	return core->events ? 0 : -ENOMEM;
}

void events_deinit(struct core *core)
{
	deadline_disarm(&core->deadlines, &core->waits_due);
	free(core->events);
	core->events = NULL;
}

/* ---- What happened ---- */

static void publish(struct core *core, const struct event *event)
{
	core->events_last++;
	core->events[core->events_last % core->limits.events_kept] = *event;
	counter_add(core, events_total, 1);
	if (!list_empty(&core->waits) && !deadline_armed(&core->waits_due))
		(void)deadline_arm(&core->deadlines, &core->waits_due, core->now_ns + TELL_AFTER_MS * NS_PER_MS);
}

static void publish_block(struct core *core, uint32_t block, enum kvp_event_kind kind, enum kvp_fate fate)
{
	const struct kvp_block *shared = shared_block(core, block);
	struct event event = {
		.space_id = shared->space_id,
		.tokens = shared->tokens,
		.kind = (uint8_t)kind,
		.fate = (uint8_t)fate,
		.n = shared->key_bytes,
	};

	memcpy(event.bytes, shared->key, shared->key_bytes);
	publish(core, &event);
}

void events_stored(struct core *core, uint32_t block)
{
	publish_block(core, block, KVP_EVENT_STORED, KVP_FATE_PRESENT);
}

/* Nobody was told of a block that never was complete. */
void events_removed(struct core *core, uint32_t block, enum kvp_fate fate)
{
	if (block_complete(core, block))
		publish_block(core, block, KVP_EVENT_REMOVED, fate);
}

void events_cleared(struct core *core, uint32_t space_id)
{
	const struct kvp_space_entry *entry = &core->arena.spaces[space_id - 1];
	struct event event = {
		.space_id = space_id,
		.kind = KVP_EVENT_CLEARED,
		.fate = KVP_FATE_SPACE_DROPPED,
		.n = (uint8_t)entry->name_bytes,
	};

	memcpy(event.bytes, entry->name, entry->name_bytes);
	publish(core, &event);
}

/* ---- Answers ---- */

static uint64_t oldest(const struct core *core)
{
	return core->events_last >= core->limits.events_kept ? core->events_last - core->limits.events_kept + 1 : 1;
}

static void event_fill(struct core *core, uint64_t number, Kvpaged__V1__Event *answer)
{
	const struct event *event = &core->events[number % core->limits.events_kept];
	const struct space *space = &core->spaces[event->space_id];
	const struct kvp_space_entry *entry = &core->arena.spaces[event->space_id - 1];
	ProtobufCBinaryData bytes = { .data = (uint8_t *)event->bytes, .len = event->n };

	kvpaged__v1__event__init(answer);
	answer->number = number;
	answer->kind = event->kind;
	answer->space_id = event->space_id;
	answer->tokens = event->tokens;
	answer->reason = event->fate;
	if (event->kind == KVP_EVENT_CLEARED)
		answer->space = bytes;
	else
		answer->key = bytes;
	/* A number can be another space's by now. */
	if (event->kind != KVP_EVENT_CLEARED && space->live && number >= space->first_event)
		answer->space = text_data(entry->name, entry->name_bytes);
}

static void answer(struct core_session *session, uint64_t id, uint64_t after, uint32_t max)
{
	struct core *core = session->core;
	struct reply_scratch *scratch = &core->scratch;
	Kvpaged__V1__SubscribeReply body = KVPAGED__V1__SUBSCRIBE_REPLY__INIT;
	Reply reply = KVPAGED__V1__REPLY__INIT;
	uint64_t first = after + 1 > oldest(core) ? after + 1 : oldest(core);

	body.incarnation = atomic_load_explicit(&core->arena.header->incarnation, memory_order_relaxed);
	body.last = core->events_last;
	body.lost = first - (after + 1);
	body.events = scratch->event_pointers;
	for (uint64_t number = first; number <= core->events_last && body.n_events < max; number++) {
		event_fill(core, number, &scratch->events[body.n_events]);
		scratch->event_pointers[body.n_events] = &scratch->events[body.n_events];
		body.n_events++;
	}
	reply.id = id;
	reply.verb_case = KVPAGED__V1__REPLY__VERB_SUBSCRIBE;
	reply.subscribe = &body;
	reply_send(session, &reply, 0);
}

/* ---- Who waits ---- */

static void wait_end(struct core_session *session)
{
	struct core *core = session->core;

	list_unlink(&session->wait.link);
	deadline_disarm(&core->deadlines, &session->wait.over);
	counter_sub(core, subscribers, 1);
}

static void wait_answer(struct core_session *session)
{
	struct wait wait = session->wait;

	wait_end(session);
	answer(session, wait.id, wait.after, wait.max);
}

static void waits_tell(struct core *core, struct deadline *deadline)
{
	list_for_each_safe(node, after, &core->waits) {
		struct wait *wait = list_entry(node, struct wait, link);

		if (wait->after < core->events_last)
			wait_answer(wait->session);
	}
}

static void wait_over(struct core *core, struct deadline *deadline)
{
	wait_answer(list_entry(deadline, struct wait, over)->session);
}

void events_forget(struct core_session *session)
{
	if (!list_empty(&session->wait.link))
		wait_end(session);
}

bool events_waits(const struct core_session *session, uint64_t id)
{
	return !list_empty(&session->wait.link) && session->wait.id == id;
}

enum verb_result verb_subscribe(struct core_session *session, const Request *request, Reply *reply)
{
	const Kvpaged__V1__Subscribe *body = request->subscribe;
	struct core *core = session->core;
	struct wait *wait = &session->wait;
	uint64_t after = body->from_now ? core->events_last : body->after;

	if (body->max < 1 || body->max > KVP_EVENTS_MAX)
		return reply_fail(reply, KVP_RANGE, "max must be 1..512");
	if (body->wait_ms > KVP_SUBSCRIBE_WAIT_MS_MAX)
		return reply_fail(reply, KVP_RANGE, "wait_ms must be at most 60000");
	if (after > core->events_last)
		return reply_fail(reply, KVP_STALE, "there is no event of this number yet; was the daemon restarted?");
	if (!list_empty(&wait->link))
		return reply_fail(reply, KVP_TOO_MANY, "this session waits for events already");
	if (after < core->events_last || body->wait_ms == 0) {
		answer(session, request->id, after, body->max);
		return VERB_QUEUED;
	}
	wait->session = session;
	wait->id = request->id;
	wait->after = after;
	wait->max = body->max;
	wait->over.expire = wait_over;
	if (deadline_arm(&core->deadlines, &wait->over, core->now_ns + body->wait_ms * NS_PER_MS) < 0)
		return reply_fail(reply, KVP_TOO_MANY, "out of memory");
	list_push_back(&core->waits, &wait->link);
	counter_add(core, subscribers, 1);
	return VERB_QUEUED;
}
