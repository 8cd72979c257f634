/* SPDX-License-Identifier: Apache-2.0 */
/* Reconnecting; see reconnect.h. */
#include "client/reconnect.h"

#include "client/client.h"
#include "client/clock.h"
#include "client/completion.h"
#include "client/space.h"

#include <errno.h>
#include <poll.h>

/* A daemon that finds its arena again is back in some tens of milliseconds: pauses grow by a half of themselves. */
#define PAUSE_MS_MIN 1
#define PAUSE_MS_MAX 500

void reconnect_options(const struct kvc_client *client, struct connection_options *ret_options)
{
	*ret_options = (struct connection_options){
		.socket_path = client->socket_path,
		.client_name = client->name,
		.staging_bytes = client->flags & KVC_READ_ONLY ? 0 : client->staging_bytes,
		.records = client->records,
		.timeout_ms = client->timeout_ms,
		.spin_us = client->flags & KVC_NO_SPIN ? 0 : SPIN_US_DEFAULT,
	};
}

/* Whether the daemon may just be away for a moment: being started, or stopping to be started anew. */
static bool may_pass(int r)
{
	switch (r) {
	case -ENOENT:
	case -ECONNREFUSED:
	case -ECONNRESET:
	case -EACCES: /* between bind() and chmod() */
	case KVC_STOPPING:
		return true;
	default:
		return false;
	}
}

static int connect_once(struct kvc_client *client)
{
	struct connection_options options;
	int r;

	reconnect_options(client, &options);
	r = connection_open(&client->connection, &options, &client->words);
	if (r != 0)
		return r;
	r = completion_watch(client);
	if (r == 0)
		r = space_reopen_all(client);
	if (r != 0) {
		completion_unwatch(client);
		connection_close(&client->connection);
	}
	return r;
}

/* Tries until it works, cannot work, or the time is over. */
static int connect_until(struct kvc_client *client, uint64_t deadline_ns)
{
	int pause_ms = PAUSE_MS_MIN;

	for (;;) {
		int r = connect_once(client);
		int left_ms = clock_left_ms(deadline_ns);

		if (!may_pass(r) || left_ms == 0)
			return r;
		(void)poll(NULL, 0, pause_ms < left_ms ? pause_ms : left_ms);
		pause_ms += pause_ms / 2 + 1;
		if (pause_ms > PAUSE_MS_MAX)
			pause_ms = PAUSE_MS_MAX;
	}
}

/* How long to leave it after a vain attempt; one that hung took timeout_ms, which may cost half of the time at most. */
static uint32_t rest_ms(const struct kvc_client *client, int r)
{
	return r == -ETIMEDOUT && client->timeout_ms > PAUSE_MS_MAX ? client->timeout_ms : PAUSE_MS_MAX;
}

static int connect_again(struct kvc_client *client)
{
	struct reconnect *reconnect = &client->reconnect;
	uint64_t now_ns = clock_now_ns(CLOCK_MONOTONIC);
	int r;

	if (reconnect->given_up && now_ns < reconnect->not_before_ns) {
		words_set(&client->words, "there is no connection to the daemon at %s", client->socket_path);
		return -ENOTCONN;
	}
	r = connect_until(client, reconnect->given_up ? now_ns : now_ns + client->timeout_ms * NS_PER_MS);
	reconnect->given_up = r != 0;
	reconnect->not_before_ns = clock_now_ns(CLOCK_MONOTONIC) + rest_ms(client, r) * NS_PER_MS;
	if (r == 0) {
		reconnect->count++;
		words_clear(&client->words);
	}
	return may_pass(r) ? -ENOTCONN : r;
}

/* Another daemon process has taken the arena over: the socket's end may not have been noticed yet. */
static void takeover_notice(struct connection *connection)
{
	if (connection_alive(connection) && !arena_session_stands(connection->arena))
		rpc_fail(&connection->rpc, -ECONNRESET);
}

int reconnect_if_needed(struct kvc_client *client)
{
	takeover_notice(&client->connection);
	if (connection_alive(&client->connection))
		return 0;
	completion_unwatch(client);
	connection_close(&client->connection);
	if (client->flags & KVC_NO_RECONNECT) {
		words_set(&client->words, "the connection to the daemon at %s was lost", client->socket_path);
		return -ENOTCONN;
	}
	return connect_again(client);
}
