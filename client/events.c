/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Following what happens. The daemon holds the request until something does; each wait is short, so that other threads
 * get the client's lock in between, and no longer than half of what an answer may take.
 */
#include "base/cleanup.h"
#include "base/units.h"
#include "client/client.h"
#include "client/clock.h"
#include "proto/limits.h"

#include <errno.h>
#include <string.h>

#define WAIT_MS_MAX 1000

struct follow {
	struct kvc_event_cursor *cursor;
	struct kvc_event *events;
	size_t n;
	uint32_t wait_ms;
	size_t taken; /* out */
};

static bool event_fill(const Kvpaged__V1__Event *message, struct kvc_event *event)
{
	if (message->key.len > KVC_KEY_BYTES_MAX || message->space.len > KVC_NAME_BYTES_MAX)
		return false;
	*event = (struct kvc_event){
		.number = message->number,
		.kind = (int)message->kind,
		.reason = (int)message->reason,
		.tokens = message->tokens,
		.key_n = message->key.len,
	};
	if (message->key.len > 0)
		memcpy(event->key, message->key.data, message->key.len);
	if (message->space.len > 0)
		memcpy(event->space, message->space.data, message->space.len);
	return true;
}

/* Moves the cursor and fills the events in. Returns whether the answer can be. */
static bool reply_take(const Kvpaged__V1__SubscribeReply *reply, struct follow *op)
{
	struct kvc_event_cursor *cursor = op->cursor;
	uint64_t after = reply->last;

	if (reply->n_events > op->n)
		return false;
	for (size_t i = 0; i < reply->n_events; i++) {
		if (!event_fill(reply->events[i], &op->events[i]))
			return false;
		after = op->events[i].number;
	}
	op->taken = reply->n_events;
	cursor->incarnation = reply->incarnation;
	cursor->after = after;
	cursor->lost += reply->lost;
	return true;
}

/* Another daemon process: its numbers begin at 1. */
static void cursor_follow(struct kvc_event_cursor *cursor, uint64_t incarnation)
{
	if (cursor->incarnation == 0 || cursor->incarnation == incarnation)
		return;
	cursor->incarnation = incarnation;
	cursor->after = 0;
	cursor->restarted = 1;
}

static int follow_op(struct kvc_client *client, void *data)
{
	_cleanup_(rpc_reply_freep) Kvpaged__V1__Reply *reply = NULL;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Subscribe message = KVPAGED__V1__SUBSCRIBE__INIT;
	struct follow *op = data;
	int r;

	cursor_follow(op->cursor, client->connection.arena->layout.incarnation);
	message.from_now = op->cursor->after == KVC_EVENTS_FROM_NOW;
	message.after = message.from_now ? 0 : op->cursor->after;
	message.max = (uint32_t)op->n;
	message.wait_ms = op->wait_ms;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_SUBSCRIBE;
	request.subscribe = &message;
	r = client_exchange(client, &request, KVPAGED__V1__REPLY__VERB_SUBSCRIBE, &reply);
	if (r != 0)
		return r;
	if (!reply_take(reply->subscribe, op))
		return client_break(client, "the daemon's answer to Subscribe is beyond its limits");
	return 0;
}

int kvc_events(kvc_client *client, struct kvc_event_cursor *cursor, struct kvc_event *events, size_t n,
	       uint32_t timeout_ms, size_t *ret_n)
{
	uint64_t end_ns = clock_now_ns(CLOCK_MONOTONIC) + timeout_ms * NS_PER_MS;
	struct follow op = { .cursor = cursor, .events = events, .n = n < KVP_EVENTS_MAX ? n : KVP_EVENTS_MAX };
	uint32_t slice_ms;
	int r;

	if (!client || !cursor || !events || n == 0 || !ret_n)
		return client_refuse(client, -EINVAL, "kvc_events: an argument is NULL, or n is 0");
	slice_ms = client->timeout_ms / 2 < WAIT_MS_MAX ? client->timeout_ms / 2 : WAIT_MS_MAX;
	cursor->lost = 0;
	cursor->restarted = 0;
	do {
		uint32_t left_ms = (uint32_t)clock_left_ms(end_ns);

		op.wait_ms = left_ms < slice_ms ? left_ms : slice_ms;
		r = client_run(client, follow_op, &op);
	} while (r == KVC_OK && op.taken == 0 && !cursor->restarted && clock_left_ms(end_ns) > 0);
	if (r == KVC_OK)
		*ret_n = op.taken;
	return r;
}
