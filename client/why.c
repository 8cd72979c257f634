/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon knows of one key. */
#include "base/cleanup.h"
#include "client/client.h"
#include "client/keys.h"
#include "client/space.h"
#include "proto/limits.h"

#include <errno.h>
#include <string.h>

_Static_assert(KVC_WHY_ELSEWHERE_MAX == KVP_WHY_ELSEWHERE_MAX && KVC_NAME_BYTES_MAX == KVP_NAME_BYTES_MAX,
	       "public and wire limits");

struct why {
	struct kvc_space *space;
	const struct kvc_key *key;
	struct kvc_why *ret_why;
};

/* Returns whether the answer keeps its limits. */
static bool why_fill(const Kvpaged__V1__WhyReply *message, struct kvc_why *why)
{
	*why = (struct kvc_why){
		.fate = (int)message->fate,
		.ago_ms = message->ago_ms,
		.tokens = message->tokens,
		.pages_ready = message->pages_ready,
		.page_count = message->page_count,
		.leases = message->leases,
		.children = message->children,
		.priority = message->priority,
		.stored_bytes = message->stored_bytes,
		.remembered = message->remembered,
		.n_elsewhere = message->n_elsewhere,
	};
	if (message->n_elsewhere > KVC_WHY_ELSEWHERE_MAX)
		return false;
	for (size_t i = 0; i < message->n_elsewhere; i++) {
		/* No space is called nothing. */
		if (message->elsewhere[i].len == 0 || message->elsewhere[i].len > KVC_NAME_BYTES_MAX)
			return false;
		memcpy(why->elsewhere[i], message->elsewhere[i].data, message->elsewhere[i].len);
	}
	return true;
}

static int why_op(struct kvc_client *client, void *data)
{
	_cleanup_(rpc_reply_freep) Kvpaged__V1__Reply *reply = NULL;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Why message = KVPAGED__V1__WHY__INIT;
	const struct why *op = data;
	struct kvc_why why;
	int r = space_check(op->space);

	if (r != 0)
		return r;
	message.space_id = op->space->id;
	message.key = (ProtobufCBinaryData){ .len = op->key->n, .data = (uint8_t *)op->key->bytes };
	request.verb_case = KVPAGED__V1__REQUEST__VERB_WHY;
	request.why = &message;
	r = client_exchange(client, &request, KVPAGED__V1__REPLY__VERB_WHY, &reply);
	if (r != 0)
		return r;
	if (!why_fill(reply->why, &why))
		return client_break(client, "the daemon's answer to Why is beyond its limits");
	*op->ret_why = why;
	return 0;
}

int kvc_why(kvc_space *space, const struct kvc_key *key, struct kvc_why *ret_why)
{
	struct why op = { .space = space, .key = key, .ret_why = ret_why };

	if (!space)
		return -EINVAL;
	if (!key || !ret_why)
		return client_refuse(space->client, -EINVAL, "kvc_why: an argument is NULL");
	if (!key_valid(key))
		return client_refuse(space->client, KVC_INVALID, "the key must have 1..64 bytes");
	return client_run(space->client, why_op, &op);
}
