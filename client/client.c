/* SPDX-License-Identifier: Apache-2.0 */
/* How calls run on a client; see client.h. Opening and closing is in open.c. */
#include "client/client.h"

#include "base/contract.h"
#include "client/forks.h"
#include "client/reconnect.h"

#include <errno.h>

bool client_is_ours(const struct kvc_client *client)
{
	return client->forks == forks_count();
}

int client_lock(struct kvc_client *client)
{
	if (!client_is_ours(client))
		return -ECHILD;
	kvp_assert(pthread_mutex_lock(&client->lock) == 0);
	return 0;
}

void client_unlock(struct kvc_client *client)
{
	kvp_assert(pthread_mutex_unlock(&client->lock) == 0);
}

static int run_locked(struct kvc_client *client, client_op_fn *fn, void *op)
{
	int r = reconnect_if_needed(client);

	if (r != 0)
		return r;
	r = fn(client, op);
	if (r != -ECONNRESET || connection_alive(&client->connection))
		return r;
	r = reconnect_if_needed(client);
	return r != 0 ? r : fn(client, op);
}

int client_run(struct kvc_client *client, client_op_fn *fn, void *op)
{
	struct words before; /* a success keeps the last failure's words */
	int r = client_lock(client);

	if (r < 0)
		return r;
	before = client->words;
	words_clear(&client->words);
	r = run_locked(client, fn, op);
	if (client->words.text[0] == '\0') {
		if (r == 0)
			client->words = before;
		else
			words_set(&client->words, "%s", kvc_strerror(r));
	}
	client_unlock(client);
	return r;
}

int client_refuse(struct kvc_client *client, int result, const char *why)
{
	int r;

	if (!client)
		return result;
	r = client_lock(client);
	if (r < 0)
		return r;
	words_set(&client->words, "%s", why);
	client_unlock(client);
	return result;
}

int client_exchange(struct kvc_client *client, Kvpaged__V1__Request *request, Kvpaged__V1__Reply__VerbCase verb,
		    Kvpaged__V1__Reply **ret_reply)
{
	Kvpaged__V1__Reply *reply;
	int r = rpc_exchange(&client->connection.rpc, request, &reply);

	if (r < 0)
		return r;
	r = rpc_reply_status(reply);
	if (r == 0 && reply->verb_case == verb) {
		*ret_reply = reply;
		return 0;
	}
	if (r == 0)
		r = client_break(client, "the daemon's answer is of another kind than the request");
	else
		words_quote(&client->words, kvc_strerror(r), reply->error.data, reply->error.len);
	(void)rpc_reply_free(reply);
	return r;
}

int client_break(struct kvc_client *client, const char *why)
{
	words_set(&client->words, "%s", why);
	rpc_fail(&client->connection.rpc, -EPROTO);
	return -EPROTO;
}
