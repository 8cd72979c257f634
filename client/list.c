/* SPDX-License-Identifier: Apache-2.0 */
/* Listing the blocks of a space, a part at a time. */
#include "base/cleanup.h"
#include "client/client.h"
#include "client/space.h"
#include "proto/limits.h"

#include <errno.h>
#include <string.h>

struct list_part {
	struct kvc_space *space;
	uint64_t cursor; /* in: where to begin; out: where to go on */
	struct kvc_list_item *items;
	size_t n;
	size_t taken; /* out */
};

static bool item_fill(const Kvpaged__V1__ListItem *message, struct kvc_list_item *item)
{
	if (message->key.len == 0 || message->key.len > KVC_KEY_BYTES_MAX)
		return false;
	*item = (struct kvc_list_item){
		.key_n = message->key.len,
		.tokens = message->tokens,
		.pages_ready = message->pages_ready,
		.page_count = message->page_count,
		.leases = message->leases,
		.children = message->children,
		.priority = message->priority,
		.is_root = message->root,
		.stored_bytes = message->stored_bytes,
		.idle_ms = message->idle_ms,
	};
	memcpy(item->key, message->key.data, message->key.len);
	return true;
}

static int list_op(struct kvc_client *client, void *data)
{
	_cleanup_(rpc_reply_freep) Kvpaged__V1__Reply *reply = NULL;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__List message = KVPAGED__V1__LIST__INIT;
	struct list_part *op = data;
	int r = space_check(op->space);

	if (r != 0)
		return r;
	message.space_id = op->space->id;
	message.cursor = op->cursor;
	message.limit = (uint32_t)op->n;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_LIST;
	request.list = &message;
	r = client_exchange(client, &request, KVPAGED__V1__REPLY__VERB_LIST, &reply);
	if (r != 0)
		return r;
	if (reply->list->n_items > op->n)
		return client_break(client, "the daemon listed more blocks than it was asked for");
	op->taken = reply->list->n_items;
	for (size_t i = 0; i < op->taken; i++)
		if (!item_fill(reply->list->items[i], &op->items[i]))
			return client_break(client, "the daemon listed a block with a malformed key");
	op->cursor = reply->list->next_cursor;
	return 0;
}

int kvc_list(kvc_space *space, uint64_t *cursor, struct kvc_list_item *items, size_t n, size_t *ret_n)
{
	struct list_part op = { .space = space, .items = items, .n = n < KVP_LIST_ITEMS_MAX ? n : KVP_LIST_ITEMS_MAX };
	int r;

	if (!space)
		return -EINVAL;
	if (!cursor || !items || n == 0 || !ret_n)
		return client_refuse(space->client, -EINVAL, "kvc_list: an argument is NULL, or n is 0");
	op.cursor = *cursor;
	r = client_run(space->client, list_op, &op);
	if (r == 0) {
		*cursor = op.cursor;
		*ret_n = op.taken;
	}
	return r;
}
