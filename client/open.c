/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a client, and what it tells about itself. */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "client/block.h"
#include "client/client.h"
#include "client/completion.h"
#include "client/forks.h"
#include "client/reader.h"
#include "client/reconnect.h"
#include "client/space.h"
#include "proto/limits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SOCKET_PATH_DEFAULT "/run/kvpaged/kvpaged.sock"
#define STAGING_PAGE_BYTES 4096

/* Frees what kvc_open() built; in a forked child the copies only: the daemon and the parent notice nothing. */
static void client_free(struct kvc_client *client)
{
	if (client_is_ours(client))
		completion_unwatch(client);
	connection_close(&client->connection);
	leased_free_all(client);
	reader_free_all(client);
	space_free_all(client);
	completion_deinit(client);
	verify_deinit(&client->verify);
	(void)pthread_mutex_destroy(&client->lock);
	free(client->socket_path);
	free(client->name);
	free(client);
}

DEFINE_CLEANUP(struct kvc_client *, client_free);

static const char *options_check(const struct kvc_options *options)
{
	if (options->struct_bytes != sizeof(*options))
		return "struct_bytes is not sizeof(struct kvc_options)";
	if (options->flags & ~(KVC_READ_ONLY | KVC_NO_RECONNECT | KVC_NO_SPIN))
		return "flags has an unknown bit";
	if (options->pins_max > KVP_HAZARDS * KVP_RECORDS_MAX)
		return "pins_max is more than 131,072";
	if (options->verify > KVC_VERIFY_ALWAYS)
		return "verify is not an enum kvc_verify";
	if (options->client_name && (strlen(options->client_name) > KVP_NAME_BYTES_MAX ||
				     !text_is_clean(options->client_name, strlen(options->client_name))))
		return "client_name must be at most 128 bytes of UTF-8 without control characters";
	return NULL;
}

static const char *path_choose(const struct kvc_options *options)
{
	const char *path = options->socket_path;

	if (!path)
		path = secure_getenv("KVPAGED_SOCKET");
	return path && *path ? path : SOCKET_PATH_DEFAULT;
}

static const char *name_choose(const struct kvc_options *options)
{
	const char *name = options->client_name ? options->client_name : program_invocation_short_name;

	return strlen(name) <= KVP_NAME_BYTES_MAX && text_is_clean(name, strlen(name)) ? name : "?";
}

/* Whole pages, and at least what the daemon gives at all; the daemon refuses what is too much. */
static uint64_t staging_choose(const struct kvc_options *options)
{
	uint64_t bytes = options->staging_bytes ? options->staging_bytes : STAGING_BYTES_DEFAULT;

	if (bytes < KVP_STAGING_BYTES_MIN)
		bytes = KVP_STAGING_BYTES_MIN;
	if (!checked_align_u64(bytes, STAGING_PAGE_BYTES, &bytes))
		bytes = UINT64_MAX - (STAGING_PAGE_BYTES - 1);
	return bytes;
}

static uint32_t records_choose(const struct kvc_options *options)
{
	uint32_t pins = options->pins_max ? options->pins_max : PINS_MAX_DEFAULT;

	return (uint32_t)div_up_u64(pins, KVP_HAZARDS);
}

static int client_new(const struct kvc_options *options, struct kvc_client **ret_client)
{
	_cleanup_(client_freep) struct kvc_client *client = calloc(1, sizeof(*client));
	int r;

	if (!client)
		return -ENOMEM;
	r = pthread_mutex_init(&client->lock, NULL);
	client->forks = forks_count();
	client->flags = options->flags;
	client->timeout_ms = options->timeout_ms ? options->timeout_ms : TIMEOUT_MS_DEFAULT;
	client->staging_bytes = staging_choose(options);
	client->records = records_choose(options);
	client->completion_fd = -1;
	client->finished_fd = -1;
	list_init(&client->spaces);
	list_init(&client->blocks);
	list_init(&client->readers);
	list_init(&client->finished);
	connection_init(&client->connection);
	if (r != 0)
		return -r;
	client->socket_path = strdup(path_choose(options));
	client->name = strdup(name_choose(options));
	if (!client->socket_path || !client->name)
		return -ENOMEM;
	r = completion_init(client);
	if (r == 0)
		r = verify_init(&client->verify, options->verify);
	if (r == 0)
		r = forks_watch();
	if (r < 0)
		return r;
	*ret_client = take_ptr(client);
	return 0;
}

/* The words are the client's, or say that there is none. */
static int open_connected(const struct kvc_options *options, struct words *words, struct kvc_client **ret_client)
{
	_cleanup_(client_freep) struct kvc_client *client = NULL;
	struct connection_options wanted;
	int r = client_new(options, &client);

	if (r < 0) {
		words_set(words, "cannot create a client: %s", kvc_strerror(r));
		return r;
	}
	reconnect_options(client, &wanted);
	r = connection_open(&client->connection, &wanted, &client->words);
	if (r == 0)
		r = completion_watch(client);
	if (r != 0) {
		*words = client->words;
		return r;
	}
	*ret_client = take_ptr(client);
	return 0;
}

static void reterr_copy(char *reterr, size_t size, const struct words *words)
{
	size_t n = strlen(words->text);

	if (!reterr || size == 0)
		return;
	if (n >= size)
		n = size - 1;
	memcpy(reterr, words->text, n);
	reterr[n] = '\0';
}

int kvc_open(const struct kvc_options *options, kvc_client **ret_client, char *reterr, size_t reterr_size)
{
	static const struct kvc_options defaults = { .struct_bytes = sizeof(defaults) };
	struct words words = { .text = "" };
	const char *wrong;
	int r;

	if (!options)
		options = &defaults;
	wrong = options_check(options);
	if (!ret_client) {
		words_set(&words, "ret_client is NULL");
		r = -EINVAL;
	} else if (wrong) {
		words_set(&words, "%s", wrong);
		r = KVC_INVALID;
	} else {
		r = open_connected(options, &words, ret_client);
	}
	if (r != 0)
		reterr_copy(reterr, reterr_size, &words);
	return r;
}

kvc_client *kvc_close(kvc_client *client)
{
	if (client)
		client_free(client);
	return NULL;
}

const char *kvc_error(kvc_client *client)
{
	if (!client)
		return "";
	return client_is_ours(client) ? client->words.text : "the client belongs to another process";
}

int kvc_client_info(kvc_client *client, struct kvc_info *ret_info)
{
	const struct connection *connection;
	int r;

	if (!client || !ret_info)
		return client_refuse(client, -EINVAL, "kvc_client_info: an argument is NULL");
	r = client_lock(client);
	if (r < 0)
		return r;
	connection = &client->connection;
	*ret_info = (struct kvc_info){
		.session_id = connection->session_id,
		.incarnation = connection->arena ? connection->arena->layout.incarnation : 0,
		.arena_bytes = connection->arena ? connection->arena->layout.bytes : 0,
		.staging_bytes = connection->staging.bytes,
		.reconnects = client->reconnect.count,
		.lease_ttl_ms_max = connection->lease_ttl_ms_max,
		.pins_max = connection->control ? connection->control->records * KVP_HAZARDS : 0,
	};
	memcpy(ret_info->server_version, connection->server_version, sizeof(connection->server_version));
	client_unlock(client);
	return KVC_OK;
}
