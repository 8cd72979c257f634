/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's configuration: one allocation, items and then their texts. */
#include "base/cleanup.h"
#include "client/client.h"
#include "client/textpool.h"

#include <errno.h>
#include <stdlib.h>

struct config {
	struct kvc_config_item *items; /* out */
	size_t n;                      /* out */
};

static struct kvc_config_item *items_new(const Kvpaged__V1__ConfigReply *reply)
{
	size_t bytes = reply->n_items * sizeof(struct kvc_config_item) + 1;
	struct kvc_config_item *items;
	char *pool;

	for (size_t i = 0; i < reply->n_items; i++)
		bytes += textpool_bytes(&reply->items[i]->key) + textpool_bytes(&reply->items[i]->value) +
			 textpool_bytes(&reply->items[i]->origin);
	items = calloc(1, bytes);
	if (!items)
		return NULL;
	pool = (void *)(items + reply->n_items);
	for (size_t i = 0; i < reply->n_items; i++) {
		items[i].key = textpool_put(&pool, &reply->items[i]->key);
		items[i].value = textpool_put(&pool, &reply->items[i]->value);
		items[i].origin = textpool_put(&pool, &reply->items[i]->origin);
	}
	return items;
}

static int config_op(struct kvc_client *client, void *data)
{
	_cleanup_(rpc_reply_freep) Kvpaged__V1__Reply *reply = NULL;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Config message = KVPAGED__V1__CONFIG__INIT;
	struct config *op = data;
	int r;

	request.verb_case = KVPAGED__V1__REQUEST__VERB_CONFIG;
	request.config = &message;
	r = client_exchange(client, &request, KVPAGED__V1__REPLY__VERB_CONFIG, &reply);
	if (r != 0)
		return r;
	op->items = items_new(reply->config);
	op->n = reply->config->n_items;
	return op->items ? 0 : -ENOMEM;
}

int kvc_config(kvc_client *client, struct kvc_config_item **ret_items, size_t *ret_n)
{
	struct config op = { .items = NULL };
	int r;

	if (!client || !ret_items || !ret_n)
		return client_refuse(client, -EINVAL, "kvc_config: an argument is NULL");
	r = client_run(client, config_op, &op);
	if (r == 0) {
		*ret_items = op.items;
		*ret_n = op.n;
	}
	return r;
}
