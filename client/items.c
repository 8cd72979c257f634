/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests over lists of keys: match, delete, touch, keep, unkeep. Long lists go as several requests, one
 * after another.
 */
#include "base/cleanup.h"
#include "client/client.h"
#include "client/keys.h"
#include "client/reader.h"
#include "client/space.h"

#include <errno.h>
#include <stdlib.h>

/* Keys of a space, checked. */
struct key_list {
	struct kvc_space *space;
	const struct kvc_key *keys;
	size_t n;
};

/* KVC_OK, or why the call is refused. what names the function. */
static int list_check(const struct key_list *list, const char *what)
{
	if (!list->space)
		return -EINVAL;
	if (list->n > 0 && !list->keys)
		return client_refuse(list->space->client, -EINVAL, what);
	return keys_check(list->space, list->keys, list->n);
}

struct match {
	struct key_list list;
	const struct kvc_range *range;
	size_t matched; /* out */
};

int match_ask(struct kvc_space *space, const struct kvc_key *keys, size_t n, const struct range *range,
	      Kvpaged__V1__Reply **ret_reply)
{
	_cleanup_(rpc_reply_freep) Kvpaged__V1__Reply *reply = NULL;
	_cleanup_free_ ProtobufCBinaryData *packed = keys_pack(keys, n);
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Match match = KVPAGED__V1__MATCH__INIT;
	Kvpaged__V1__Range wire_range;
	int r;

	if (!packed)
		return -ENOMEM;
	range_pack(range, &wire_range);
	match.space_id = space->id;
	match.n_keys = n;
	match.keys = packed;
	match.range = &wire_range;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_MATCH;
	request.match = &match;
	r = client_exchange(space->client, &request, KVPAGED__V1__REPLY__VERB_MATCH, &reply);
	if (r != 0)
		return r;
	if (reply->match->matched > n || reply->match->loadable > n - reply->match->matched)
		return client_break(space->client, "the daemon matched more keys than it was asked for");
	*ret_reply = take_ptr(reply);
	return 0;
}

static int match_batch(const struct match *op, const struct range *range, size_t first, size_t n, size_t *ret_matched)
{
	_cleanup_(rpc_reply_freep) Kvpaged__V1__Reply *reply = NULL;
	int r = match_ask(op->list.space, op->list.keys + first, n, range, &reply);

	if (r == 0)
		*ret_matched = reply->match->matched;
	return r;
}

static int match_op(struct kvc_client *client, void *data)
{
	struct match *op = data;
	struct range range;
	const char *wrong = range_resolve(op->list.space, op->range, &range);
	int r = space_check(op->list.space);

	if (r == 0 && wrong) {
		words_set(&client->words, "%s", wrong);
		return KVC_RANGE;
	}
	op->matched = 0;
	for (size_t first = 0, n; r == 0 && first < op->list.n; first += n) {
		size_t matched = 0;

		n = keys_batch(client, op->list.n - first);
		r = match_batch(op, &range, first, n, &matched);
		op->matched += matched;
		if (matched < n)
			break;
	}
	return r;
}

int kvc_match(kvc_space *space, kvc_reader *reader, const struct kvc_key *keys, size_t n,
	      const struct kvc_range *range, size_t *ret_matched)
{
	struct match op = { .list = { .space = space, .keys = keys, .n = n }, .range = range };
	int r = list_check(&op.list, "kvc_match: keys is NULL");

	if (r != 0)
		return r;
	if (!ret_matched)
		return client_refuse(space->client, -EINVAL, "kvc_match: ret_matched is NULL");
	if (reader)
		return reader_match(reader, space, keys, n, range, ret_matched);
	r = client_run(space->client, match_op, &op);
	if (r == 0)
		*ret_matched = op.matched;
	return r;
}

/* The verbs that answer with a status for each key, and their further fields. */
struct items {
	struct key_list list;
	Kvpaged__V1__Request__VerbCase verb;
	uint32_t priority; /* of keep */
	uint64_t ttl_ms;   /* of keep */
	int *statuses;     /* NULL: not wanted */
};

/* Any of the four messages. */
union items_message {
	Kvpaged__V1__Delete delete;
	Kvpaged__V1__Touch touch;
	Kvpaged__V1__Pin pin;
	Kvpaged__V1__Unpin unpin;
};

/* The request for n packed keys; it points into message. */
static void items_fill(const struct items *op, ProtobufCBinaryData *packed, size_t n, Kvpaged__V1__Request *request,
		       union items_message *message)
{
	uint32_t space_id = op->list.space->id;

	request->verb_case = op->verb;
	switch (op->verb) {
	case KVPAGED__V1__REQUEST__VERB_DELETE:
		message->delete = (Kvpaged__V1__Delete)KVPAGED__V1__DELETE__INIT;
		message->delete.space_id = space_id;
		message->delete.n_keys = n;
		message->delete.keys = packed;
		request->delete_ = &message->delete;
		break;
	case KVPAGED__V1__REQUEST__VERB_TOUCH:
		message->touch = (Kvpaged__V1__Touch)KVPAGED__V1__TOUCH__INIT;
		message->touch.space_id = space_id;
		message->touch.n_keys = n;
		message->touch.keys = packed;
		request->touch = &message->touch;
		break;
	case KVPAGED__V1__REQUEST__VERB_PIN:
		message->pin = (Kvpaged__V1__Pin)KVPAGED__V1__PIN__INIT;
		message->pin.space_id = space_id;
		message->pin.n_keys = n;
		message->pin.keys = packed;
		message->pin.priority = op->priority;
		message->pin.ttl_ms = op->ttl_ms;
		request->pin = &message->pin;
		break;
	default:
		message->unpin = (Kvpaged__V1__Unpin)KVPAGED__V1__UNPIN__INIT;
		message->unpin.space_id = space_id;
		message->unpin.n_keys = n;
		message->unpin.keys = packed;
		request->unpin = &message->unpin;
	}
}

static int items_batch(const struct items *op, size_t first, size_t n)
{
	_cleanup_(rpc_reply_freep) Kvpaged__V1__Reply *reply = NULL;
	_cleanup_free_ ProtobufCBinaryData *packed = keys_pack(op->list.keys + first, n);
	struct kvc_client *client = op->list.space->client;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	union items_message message;
	int r;

	if (!packed)
		return -ENOMEM;
	items_fill(op, packed, n, &request, &message);
	r = client_exchange(client, &request, KVPAGED__V1__REPLY__VERB_ITEMS, &reply);
	if (r != 0)
		return r;
	if (reply->items->item_status.len != n)
		return client_break(client, "the daemon answered for another number of keys than it was asked about");
	for (size_t i = 0; op->statuses && i < n; i++)
		op->statuses[first + i] = reply->items->item_status.data[i];
	return 0;
}

static int items_op(struct kvc_client *client, void *data)
{
	const struct items *op = data;
	int r = space_check(op->list.space);

	for (size_t first = 0, n; r == 0 && first < op->list.n; first += n) {
		n = keys_batch(client, op->list.n - first);
		r = items_batch(op, first, n);
	}
	return r;
}

static int items_run(struct items *op, const char *what)
{
	int r = list_check(&op->list, what);

	return r != 0 ? r : client_run(op->list.space->client, items_op, op);
}

int kvc_delete(kvc_space *space, const struct kvc_key *keys, size_t n, int *ret_statuses)
{
	struct items op = {
		.list = { .space = space, .keys = keys, .n = n },
		.verb = KVPAGED__V1__REQUEST__VERB_DELETE,
		.statuses = ret_statuses,
	};

	return items_run(&op, "kvc_delete: keys is NULL");
}

int kvc_touch(kvc_space *space, const struct kvc_key *keys, size_t n, int *ret_statuses)
{
	struct items op = {
		.list = { .space = space, .keys = keys, .n = n },
		.verb = KVPAGED__V1__REQUEST__VERB_TOUCH,
		.statuses = ret_statuses,
	};

	return items_run(&op, "kvc_touch: keys is NULL");
}

int kvc_keep(kvc_space *space, const struct kvc_key *keys, size_t n, uint32_t priority, uint64_t ttl_ms,
	     int *ret_statuses)
{
	struct items op = {
		.list = { .space = space, .keys = keys, .n = n },
		.verb = KVPAGED__V1__REQUEST__VERB_PIN,
		.priority = priority,
		.ttl_ms = ttl_ms,
		.statuses = ret_statuses,
	};

	return items_run(&op, "kvc_keep: keys is NULL");
}

int kvc_unkeep(kvc_space *space, const struct kvc_key *keys, size_t n, int *ret_statuses)
{
	struct items op = {
		.list = { .space = space, .keys = keys, .n = n },
		.verb = KVPAGED__V1__REQUEST__VERB_UNPIN,
		.statuses = ret_statuses,
	};

	return items_run(&op, "kvc_unkeep: keys is NULL");
}
