/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics. A snapshot is one allocation: struct kvc_stats, counters, spaces, texts. */
#include "base/cleanup.h"
#include "client/client.h"
#include "client/schema.h"
#include "client/textpool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The schema's numbers are the daemon's word; nobody computes with them here. */
static void schema_fill(const Kvpaged__V1__Schema *message, struct kvc_schema *schema, char **pool)
{
	*schema = schema_numbers(message);
	schema->model = textpool_put(pool, &message->model);
	schema->revision = textpool_put(pool, &message->revision);
}

static void space_fill(const Kvpaged__V1__SpaceStats *message, struct kvc_space_stats *space, char **pool)
{
	*space = (struct kvc_space_stats){
		.name = textpool_put(pool, &message->name),
		.blocks = message->blocks,
		.blocks_partial = message->blocks_partial,
		.pages = message->pages,
		.tokens = message->tokens,
		.logical_f16_bytes = message->logical_f16_bytes,
		.logical_f32_bytes = message->logical_f32_bytes,
		.stored_bytes = message->stored_bytes,
		.overhead_bytes = message->overhead_bytes,
		.sessions = message->sessions,
	};
	if (message->schema)
		schema_fill(message->schema, &space->schema, pool);
}

static size_t texts_bytes(const Kvpaged__V1__StatsReply *reply)
{
	size_t bytes = textpool_bytes(&reply->server_version);

	for (size_t i = 0; i < reply->n_counters; i++)
		bytes += textpool_bytes(&reply->counters[i]->name);
	for (size_t i = 0; i < reply->n_spaces; i++) {
		const Kvpaged__V1__SpaceStats *space = reply->spaces[i];

		bytes += textpool_bytes(&space->name);
		if (space->schema)
			bytes += textpool_bytes(&space->schema->model) + textpool_bytes(&space->schema->revision);
	}
	return bytes;
}

static struct kvc_stats *stats_new(const Kvpaged__V1__StatsReply *reply)
{
	size_t spaces_bytes = reply->n_spaces * sizeof(struct kvc_space_stats);
	size_t counters_bytes = reply->n_counters * sizeof(struct kvc_counter);
	struct kvc_stats *stats = calloc(1, sizeof(*stats) + spaces_bytes + counters_bytes + texts_bytes(reply));
	struct kvc_space_stats *spaces;
	struct kvc_counter *counters;
	char *pool;

	if (!stats)
		return NULL;
	spaces = (void *)(stats + 1);
	counters = (void *)(spaces + reply->n_spaces);
	pool = (void *)(counters + reply->n_counters);
	stats->incarnation = reply->incarnation;
	stats->uptime_ms = reply->uptime_ms;
	stats->server_version = textpool_put(&pool, &reply->server_version);
	stats->n_counters = reply->n_counters;
	stats->counters = counters;
	stats->n_spaces = reply->n_spaces;
	stats->spaces = spaces;
	for (size_t i = 0; i < reply->n_counters; i++)
		counters[i] = (struct kvc_counter){
			.name = textpool_put(&pool, &reply->counters[i]->name),
			.value = reply->counters[i]->value,
		};
	for (size_t i = 0; i < reply->n_spaces; i++)
		space_fill(reply->spaces[i], &spaces[i], &pool);
	return stats;
}

static int stats_op(struct kvc_client *client, void *data)
{
	_cleanup_(rpc_reply_freep) Kvpaged__V1__Reply *reply = NULL;
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Stats message = KVPAGED__V1__STATS__INIT;
	struct kvc_stats **ret_stats = data;
	int r;

	request.verb_case = KVPAGED__V1__REQUEST__VERB_STATS;
	request.stats = &message;
	r = client_exchange(client, &request, KVPAGED__V1__REPLY__VERB_STATS, &reply);
	if (r != 0)
		return r;
	*ret_stats = stats_new(reply->stats);
	return *ret_stats ? 0 : -ENOMEM;
}

int kvc_stats_get(kvc_client *client, struct kvc_stats **ret_stats)
{
	struct kvc_stats *stats = NULL;
	int r;

	if (!client || !ret_stats)
		return client_refuse(client, -EINVAL, "kvc_stats_get: an argument is NULL");
	r = client_run(client, stats_op, &stats);
	if (r == 0)
		*ret_stats = stats;
	return r;
}

struct kvc_stats *kvc_stats_free(struct kvc_stats *stats)
{
	free(stats);
	return NULL;
}

uint64_t kvc_stats_counter(const struct kvc_stats *stats, const char *name)
{
	for (size_t i = 0; stats && name && i < stats->n_counters; i++)
		if (strcmp(stats->counters[i].name, name) == 0)
			return stats->counters[i].value;
	return 0;
}
