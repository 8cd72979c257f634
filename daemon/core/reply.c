/* SPDX-License-Identifier: Apache-2.0 */
/* Replies: packed into the core's one buffer and handed to the host, which copies what it cannot send at once. */
#include "daemon/core/verbs.h"

#include "base/contract.h"

#include <string.h>

void reply_send(struct core_session *session, const Reply *reply, unsigned flags)
{
	struct core *core = session->core;
	size_t n = kvpaged__v1__reply__get_packed_size(reply);

	if (session->state == SESSION_OVER)
		return; /* it ended while its request was being done: nothing comes after hang_up() */
	/* Every list in a reply has a limit that keeps it below a frame. */
	kvp_assert(n > 0 && n <= KVP_FRAME_BYTES_MAX);
	(void)kvpaged__v1__reply__pack(reply, core->reply_buffer);
	if (reply->status != KVP_OK)
		counter_add(core, requests_failed_total, 1);
	core->host->reply(core->context, session->peer, core->reply_buffer, n, flags);
}

enum verb_result reply_fail(Reply *reply, enum kvp_status status, const char *text)
{
	reply->status = status;
	reply->error = text_data(text, strlen(text));
	return VERB_REPLY;
}

enum verb_result reply_items(struct core_session *session, Reply *reply, uint8_t *item_status, size_t n)
{
	Kvpaged__V1__ItemsReply items = KVPAGED__V1__ITEMS_REPLY__INIT;

	items.item_status = (ProtobufCBinaryData){ .data = item_status, .len = n };
	reply->verb_case = KVPAGED__V1__REPLY__VERB_ITEMS;
	reply->items = &items;
	reply_send(session, reply, 0);
	return VERB_QUEUED;
}
