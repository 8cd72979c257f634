/* SPDX-License-Identifier: Apache-2.0 */
/* Redis, keeping nothing on disk, through hiredis: GET and SET, one at a time. A value arrives in hiredis's memory. */
#include "tests/bench/store.h"

#include "tests/bench/bench.h"
#include "tests/bench/peer.h"
#include "tests/bench/spawn.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROGRAM "redis-server"

static int start(struct store *store)
{
	char directory[64];
	const char *argv[] = { PROGRAM, "--port", "0", "--unixsocket", store->socket_path, "--save", "",
			 "--appendonly", "no", "--databases", "1", "--dir", directory, NULL };

	if (!spawn_there(PROGRAM))
		return store_missing("redis", "the program " PROGRAM " is not installed");
	(void)snprintf(directory, sizeof(directory), "%s", store->set->directory);
	(void)snprintf(store->socket_path, sizeof(store->socket_path), "%s/redis", store->set->directory);
	return spawn_start(store->socket_path, argv, true, &store->servers[0]) == 0 ? STORE_STARTED : STORE_FAILED;
}

static void stop(struct store *store)
{
	spawn_stop(&store->servers[0]);
	(void)unlink(store->socket_path);
}

static int open_store(struct store *store)
{
	redisContext *context = redisConnectUnix(store->socket_path);

	store->state = context;
	return context && !context->err ? 0 : bench_error("redis: %s", context ? context->errstr : "out of memory");
}

static void close_store(struct store *store)
{
	if (store->state)
		redisFree(store->state);
	store->state = NULL;
}

/* Returns the value's answer, to be freed; or NULL after a line on stderr. */
static redisReply *get_reply(struct store *store, const struct store_item *item)
{
	const char *argv[] = { "GET", item->key };
	const size_t bytes[] = { 3, STORE_KEY_BYTES };
	redisReply *reply = redisCommandArgv(store->state, 2, argv, bytes);

	if (reply && reply->type == REDIS_REPLY_STRING && reply->len == store->set->value_bytes)
		return reply;
	(void)bench_error("redis lost a value: %s", reply && reply->str ? reply->str : "no answer");
	if (reply)
		freeReplyObject(reply);
	return NULL;
}

static int get(struct store *store, const struct store_item *item)
{
	redisReply *reply = get_reply(store, item);

	if (reply)
		freeReplyObject(reply);
	return reply ? 0 : 1;
}

static int touch(struct store *store, const struct store_item *item)
{
	redisReply *reply = get_reply(store, item);

	if (!reply)
		return 1;
	store->sum += peer_read(reply->str, reply->len);
	freeReplyObject(reply);
	return 0;
}

static int copy(struct store *store, const struct store_item *item)
{
	redisReply *reply = get_reply(store, item);

	if (!reply)
		return 1;
	memcpy(store->out, reply->str, reply->len);
	freeReplyObject(reply);
	return 0;
}

static int put(struct store *store, const struct store_item *item)
{
	const char *argv[] = { "SET", item->next, (const char *)store->set->source };
	const size_t bytes[] = { 3, STORE_KEY_BYTES, store->set->value_bytes };
	redisReply *reply = redisCommandArgv(store->state, 3, argv, bytes);
	int status = reply && reply->type == REDIS_REPLY_STATUS ? 0 : 1;

	if (status != 0)
		(void)bench_error("redis refused a value: %s", reply && reply->str ? reply->str : "no answer");
	if (reply)
		freeReplyObject(reply);
	return status;
}

const struct store_class store_redis = {
	.name = "redis",
	.ops = { [STORE_FIND] = get, [STORE_TOUCH] = touch, [STORE_COPY] = copy, [STORE_PUT] = put },
	.start = start,
	.stop = stop,
	.open = open_store,
	.close = close_store,
};
