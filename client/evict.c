/* SPDX-License-Identifier: Apache-2.0 */
/* Eviction on request. */
#include "base/cleanup.h"
#include "client/client.h"
#include "client/space.h"

#include <errno.h>

struct evict {
	struct kvc_space *space; /* NULL: any */
	uint64_t bytes;          /* in: wanted; out: went */
	uint64_t blocks;
};

static int evict_op(struct kvc_client *client, void *data)
{
	_cleanup_(rpc_reply_freep) Kvpaged__V1__Reply *reply = NULL;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Evict message = KVPAGED__V1__EVICT__INIT;
	struct evict *op = data;
	int r = op->space ? space_check(op->space) : 0;

	if (r != 0)
		return r;
	message.space_id = op->space ? op->space->id : 0;
	message.bytes = op->bytes;
	message.blocks = op->blocks;
	message.all = op->bytes == 0 && op->blocks == 0;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_EVICT;
	request.evict = &message;
	r = client_exchange(client, &request, KVPAGED__V1__REPLY__VERB_EVICT, &reply);
	if (r != 0)
		return r;
	op->bytes = reply->evict->bytes;
	op->blocks = reply->evict->blocks;
	return 0;
}

int kvc_evict(kvc_client *client, kvc_space *space, uint64_t bytes, uint64_t blocks, uint64_t *ret_blocks,
	      uint64_t *ret_bytes)
{
	struct evict op = { .space = space, .bytes = bytes, .blocks = blocks };
	int r;

	if (!client)
		return -EINVAL;
	if (space && space->client != client)
		return client_refuse(client, -EINVAL, "kvc_evict: the space is of another client");
	r = client_run(client, evict_op, &op);
	if (r == 0 && ret_blocks)
		*ret_blocks = op.blocks;
	if (r == 0 && ret_bytes)
		*ret_bytes = op.bytes;
	return r;
}
