/* SPDX-License-Identifier: Apache-2.0 */
/* Looking ahead: what of a prefix is resident or on the tier, and having the latter brought up before it is needed. */
#include "base/cleanup.h"
#include "client/client.h"
#include "client/keys.h"
#include "client/space.h"
#include "client/tensor.h"
#include "proto/status.h"

#include <errno.h>
#include <stdlib.h>

struct ahead {
	struct kvc_space *space;
	const struct kvc_key *keys;
	size_t n;
	const struct kvc_range *range;
	struct kvc_forecast forecast; /* out */
	int *statuses;                /* out, of prefetch; NULL: not wanted */
};

/* One request over n keys from the first-th on. Results: 0; positive statuses of the request; negative errno. */
typedef int batch_fn(struct ahead *op, const struct range *range, size_t first, size_t n);

static int forecast_batch(struct ahead *op, const struct range *range, size_t first, size_t n)
{
	_cleanup_(rpc_reply_freep) Kvpaged__V1__Reply *reply = NULL;
	int r = match_ask(op->space, op->keys + first, n, range, &reply);

	if (r != 0)
		return r;
	/* What is resident behind something on the tier is reached by loading as well. */
	if (op->forecast.loadable == 0)
		op->forecast.resident += reply->match->matched;
	else
		op->forecast.loadable += reply->match->matched;
	op->forecast.loadable += reply->match->loadable;
	op->forecast.load_us += reply->match->load_us;
	return reply->match->matched + reply->match->loadable < n ? KVC_MISS : 0;
}

static int prefetch_batch(struct ahead *op, const struct range *range, size_t first, size_t n)
{
	_cleanup_(rpc_reply_freep) Kvpaged__V1__Reply *reply = NULL;
	_cleanup_free_ ProtobufCBinaryData *packed = keys_pack(op->keys + first, n);
	struct kvc_client *client = op->space->client;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Fetch fetch = KVPAGED__V1__FETCH__INIT;
	Kvpaged__V1__Range wire_range;
	int r;

	if (!packed)
		return -ENOMEM;
	range_pack(range, &wire_range);
	fetch.space_id = op->space->id;
	fetch.n_keys = n;
	fetch.keys = packed;
	fetch.range = &wire_range;
	fetch.prefetch = true;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_FETCH;
	request.fetch = &fetch;
	r = client_exchange(client, &request, KVPAGED__V1__REPLY__VERB_FETCH, &reply);
	if (r != 0)
		return r;
	if (reply->fetch->n_items != n)
		return client_break(client, "the daemon's answer to a fetch does not fit it");
	for (size_t i = 0; op->statuses && i < n; i++)
		op->statuses[first + i] = reply->fetch->items[i]->status <= UINT8_MAX
						  ? (int)reply->fetch->items[i]->status
						  : KVC_PROTOCOL;
	return 0;
}

static int batches_run(struct kvc_client *client, struct ahead *op, batch_fn *batch)
{
	struct range range;
	const char *wrong = range_resolve(op->space, op->range, &range);
	int r = space_check(op->space);

	if (r == 0 && wrong) {
		words_set(&client->words, "%s", wrong);
		return KVC_RANGE;
	}
	for (size_t first = 0, n; r == 0 && first < op->n; first += n) {
		n = keys_batch(client, op->n - first);
		r = batch(op, &range, first, n);
	}
	return r;
}

static int forecast_op(struct kvc_client *client, void *data)
{
	struct ahead *op = data;
	int r;

	op->forecast = (struct kvc_forecast){ 0 };
	r = batches_run(client, op, forecast_batch);
	return r == KVC_MISS ? KVC_OK : r; /* it ends where a key is nowhere */
}

static int prefetch_op(struct kvc_client *client, void *data)
{
	return batches_run(client, data, prefetch_batch);
}

int kvc_forecast(kvc_space *space, const struct kvc_key *keys, size_t n, const struct kvc_range *range,
		 struct kvc_forecast *ret_forecast)
{
	struct ahead op = { .space = space, .keys = keys, .n = n, .range = range };
	int r;

	if (!space)
		return -EINVAL;
	if ((n > 0 && !keys) || !ret_forecast)
		return client_refuse(space->client, -EINVAL, "kvc_forecast: an argument is NULL");
	r = keys_check(space, keys, n);
	if (r == KVC_OK)
		r = client_run(space->client, forecast_op, &op);
	if (r == KVC_OK)
		*ret_forecast = op.forecast;
	return r;
}

int kvc_prefetch(kvc_space *space, const struct kvc_key *keys, size_t n, const struct kvc_range *range,
		 int *ret_statuses)
{
	struct ahead op = { .space = space, .keys = keys, .n = n, .range = range, .statuses = ret_statuses };
	int r;

	if (!space)
		return -EINVAL;
	if (n > 0 && !keys)
		return client_refuse(space->client, -EINVAL, "kvc_prefetch: keys is NULL");
	r = keys_check(space, keys, n);
	return r == KVC_OK ? client_run(space->client, prefetch_op, &op) : r;
}
