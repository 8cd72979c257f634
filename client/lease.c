/* SPDX-License-Identifier: Apache-2.0 */
/* Asking for leases, checking what they name, giving them back; see lease.h. */
#include "client/lease.h"

#include "base/cleanup.h"
#include "client/client.h"
#include "client/clock.h"
#include "client/keys.h"
#include "proto/status.h"

#include <errno.h>
#include <stdlib.h>

static void request_done(struct rpc_call *call, Kvpaged__V1__Reply *reply, int error)
{
	struct lease_request *request = list_entry(call, struct lease_request, call);

	request->reply = reply;
	request->error = error;
	request->done = true;
}

int lease_ask(struct lease_request *request, struct kvc_space *space, const struct kvc_key *keys, size_t n,
	      const struct range *range, uint32_t ttl_ms, struct kvp_record *record)
{
	_cleanup_free_ ProtobufCBinaryData *packed = keys_pack(keys, n);
	Kvpaged__V1__Request message = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Fetch fetch = KVPAGED__V1__FETCH__INIT;
	Kvpaged__V1__Range wire_range;

	*request = (struct lease_request){
		.call = { .done = request_done },
		.space = space,
		.keys = keys,
		.n = n,
		.record = record,
		.asked_ns = record ? 0 : clock_now_ns(CLOCK_BOOTTIME),
	};
	if (!packed)
		return -ENOMEM;
	range_pack(range, &wire_range);
	fetch.space_id = space->id;
	fetch.n_keys = n;
	fetch.keys = packed;
	fetch.range = &wire_range;
	fetch.lease_ttl_ms = ttl_ms;
	fetch.no_lease = record != NULL;
	message.verb_case = KVPAGED__V1__REQUEST__VERB_FETCH;
	message.fetch = &fetch;
	return rpc_send(&space->client->connection.rpc, &message, &request->call);
}

int lease_wait(struct lease_request *request)
{
	struct kvc_client *client = request->space->client;
	const Kvpaged__V1__Reply *reply;

	while (!request->done)
		(void)rpc_wait(&client->connection.rpc); /* its failure ends the call too */
	if (request->error)
		return request->error;
	reply = request->reply;
	if (reply->status != KVP_OK) {
		words_quote(&client->words, "fetch", reply->error.data, reply->error.len);
		return rpc_reply_status(reply);
	}
	if (reply->verb_case != KVPAGED__V1__REPLY__VERB_FETCH || reply->fetch->n_items != request->n)
		return client_break(client, "the daemon's answer to a fetch does not fit it");
	return 0;
}

int lease_take(struct lease_request *request, size_t i, struct lease *ret_lease)
{
	struct kvc_space *space = request->space;
	struct kvc_client *client = space->client;
	const Kvpaged__V1__FetchItem *item = request->reply->fetch->items[i];
	struct lease lease = { .id = item->lease_id };
	bool fits;
	int r;

	if (item->status != KVP_OK)
		return item->status <= UINT8_MAX ? (int)item->status : KVC_PROTOCOL;
	if (request->record)
		hazard_set(request->record, (unsigned)i, item->block);
	r = block_view_at(&client->connection.arena->layout, item->block, item->generation, &lease.view);
	if (r == -EPROTO)
		return client_break(client, "the daemon leased a block that cannot be");
	if (r == 0) {
		fits = block_view_is(&lease.view, space->id, request->keys[i].bytes, request->keys[i].n) &&
		       lease.view.page_count == space->page_count && lease.view.tokens == item->tokens &&
		       lease.view.tokens <= space->geometry.block_tokens;
		if (!block_view_stands(&lease.view))
			r = KVC_STALE;
		else if (!fits)
			return client_break(client, "the daemon leased another block than it was asked for");
	}
	if (r == 0)
		*ret_lease = lease;
	else if (request->record)
		hazard_clear(request->record, (unsigned)i);
	else
		lease_release(client, &lease.id, 1);
	return r;
}

static void leases_return(struct lease_request *request)
{
	_cleanup_free_ uint64_t *ids = calloc(request->n ? request->n : 1, sizeof(*ids));
	size_t n = 0;

	if (!ids)
		return;
	for (size_t i = 0; i < request->n; i++)
		if (request->reply->fetch->items[i]->status == KVP_OK)
			ids[n++] = request->reply->fetch->items[i]->lease_id;
	lease_release(request->space->client, ids, n);
}

void lease_forget(struct lease_request *request)
{
	if (!request->done && lease_wait(request) == 0 && !request->record)
		leases_return(request);
	request->reply = rpc_reply_free(request->reply);
}

static void release_done(struct rpc_call *call, Kvpaged__V1__Reply *reply, int error)
{
	(void)rpc_reply_free(reply);
	free(call);
}

void lease_release(struct kvc_client *client, const uint64_t *ids, size_t n)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Release release = KVPAGED__V1__RELEASE__INIT;
	_cleanup_free_ struct rpc_call *call = NULL;

	if (n == 0 || !connection_alive(&client->connection))
		return;
	call = calloc(1, sizeof(*call));
	if (!call)
		return;
	call->done = release_done;
	release.n_lease_ids = n;
	release.lease_ids = (uint64_t *)ids;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_RELEASE;
	request.release = &release;
	if (rpc_send(&client->connection.rpc, &request, call) == 0)
		(void)take_ptr(call);
}
