/* SPDX-License-Identifier: Apache-2.0 */
/* How much memory the daemon's arena may take. Waiting is cut so that the connection's time limit stays far. */
#include "base/cleanup.h"
#include "base/units.h"
#include "client/client.h"
#include "client/clock.h"

#include <errno.h>
#include <time.h>

#define WAIT_MS_MAX 2000

struct resize {
	uint64_t bytes;
	uint32_t wait_ms;
	struct kvc_resized resized;
};

static int resize_op(struct kvc_client *client, void *data)
{
	_cleanup_(rpc_reply_freep) Kvpaged__V1__Reply *reply = NULL;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Resize message = KVPAGED__V1__RESIZE__INIT;
	struct resize *op = data;
	int r;

	message.bytes = op->bytes;
	message.wait_ms = op->wait_ms;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_RESIZE;
	request.resize = &message;
	r = client_exchange(client, &request, KVPAGED__V1__REPLY__VERB_RESIZE, &reply);
	if (r != 0)
		return r;
	op->resized = (struct kvc_resized){
		.is_done = reply->resize->done,
		.bytes = reply->resize->bytes,
		.held_bytes = reply->resize->held_bytes,
		.asked_bytes = reply->resize->asked_bytes,
		.evicted_blocks = reply->resize->evicted_blocks,
		.evicted_bytes = reply->resize->evicted_bytes,
		.moved_bytes = reply->resize->moved_bytes,
		.discarded_bytes = reply->resize->discarded_bytes,
	};
	return 0;
}

int kvc_resize(kvc_client *client, uint64_t bytes, uint32_t timeout_ms, struct kvc_resized *ret_resized)
{
	uint64_t end_ns = clock_now_ns(CLOCK_MONOTONIC) + timeout_ms * NS_PER_MS;
	struct resize op = { .bytes = bytes };
	uint32_t slice_ms;
	int r;

	if (!client)
		return -EINVAL;
	slice_ms = client->timeout_ms / 2 < WAIT_MS_MAX ? client->timeout_ms / 2 : WAIT_MS_MAX;
	do {
		uint32_t left_ms = (uint32_t)clock_left_ms(end_ns);

		op.wait_ms = left_ms < slice_ms ? left_ms : slice_ms;
		r = client_run(client, resize_op, &op);
	} while (r == KVC_OK && !op.resized.is_done && clock_left_ms(end_ns) > 0);
	if (r == KVC_OK && ret_resized)
		*ret_resized = op.resized;
	return r;
}
