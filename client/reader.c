/* SPDX-License-Identifier: Apache-2.0 */
/* Readers' records and sessions; see reader.h. Pinning is in reader-pin.c. */
#include "client/reader.h"

#include "base/cleanup.h"
#include "client/client.h"
#include "client/forks.h"
#include "client/space.h"

#include <errno.h>
#include <stdlib.h>

/* ---- Records ---- */

static void record_free(struct reader_record *record)
{
	list_unlink(&record->link);
	if (record->control && client_is_ours(record->reader->client)) {
		for (unsigned i = 0; i < KVP_HAZARDS; i++)
			hazard_clear(record->shared, i);
		control_give(record->control, record->number);
	}
	record->control = control_unref(record->control);
	record->arena = arena_unref(record->arena);
	free(record);
}

/* Takes a record of the client's session for the reader, with the lock. Results: KVC_OK; KVC_TOO_MANY; -ENOMEM. */
static int record_take(struct kvc_reader *reader)
{
	struct connection *connection = &reader->client->connection;
	_cleanup_free_ struct reader_record *record = calloc(1, sizeof(*record));

	if (!record)
		return -ENOMEM;
	record->shared = control_take(connection->control, &record->number);
	if (!record->shared) {
		words_set(&reader->client->words,
			  "all %u pins of this client are in use, or lie in records of other readers",
			  connection->control->records * KVP_HAZARDS);
		return KVC_TOO_MANY;
	}
	record->reader = reader;
	record->free = READER_ALL_FREE;
	record->arena = arena_ref(connection->arena);
	record->control = control_ref(connection->control);
	list_push_back(&reader->records, &record->link);
	reader->room = take_ptr(record);
	return KVC_OK;
}

/* ---- Sessions ---- */

/* Leaves the session: only records with pins stay. */
static void session_leave(struct kvc_reader *reader)
{
	reader->room = NULL;
	list_for_each_safe(node, after, &reader->records) {
		struct reader_record *record = list_entry(node, struct reader_record, link);

		if (record->free == READER_ALL_FREE)
			record_free(record);
	}
	reader->arena = arena_unref(reader->arena);
	reader->control = control_unref(reader->control);
}

static bool session_over(const struct connection *connection)
{
	return !arena_session_stands(connection->arena) ||
	       (connection->control && control_over(connection->control));
}

/* The daemon, or the next one, ended the session in shared memory; the socket's end follows. */
static int socket_end_wait(struct connection *connection)
{
	int r = rpc_collect(&connection->rpc);

	while (r == 0 && session_over(connection))
		r = rpc_wait(&connection->rpc);
	return r;
}

static int session_join_op(struct kvc_client *client, void *data)
{
	struct kvc_reader *reader = data;
	int r = socket_end_wait(&client->connection);

	if (r < 0)
		return r;
	if (!client->connection.control) {
		words_set(&client->words, "the daemon gave this client no control memory to read through");
		return KVC_QUOTA;
	}
	if (reader->control == client->connection.control)
		return KVC_OK;
	session_leave(reader);
	r = record_take(reader);
	if (r != KVC_OK)
		return r;
	reader->arena = arena_ref(client->connection.arena);
	reader->control = control_ref(client->connection.control);
	return KVC_OK;
}

static int session_join(struct kvc_reader *reader)
{
	return client_run(reader->client, session_join_op, reader);
}

static int room_op(struct kvc_client *client, void *data)
{
	struct kvc_reader *reader = data;

	return reader->control == client->connection.control ? record_take(reader) : session_join_op(client, reader);
}

/* A record of the session with a free hazard. */
static int room_find(struct kvc_reader *reader)
{
	list_for_each(node, &reader->records) {
		struct reader_record *record = list_entry(node, struct reader_record, link);

		if (record->free && record->control == reader->control) {
			reader->room = record;
			return KVC_OK;
		}
	}
	return client_run(reader->client, room_op, reader);
}

int reader_ready(struct kvc_reader *reader)
{
	int r = reader_stands(reader) ? KVC_OK : session_join(reader);

	if (r == KVC_OK && !reader->room)
		r = room_find(reader);
	return r;
}

int reader_space_refuse(const struct kvc_space *space)
{
	int r = client_lock(space->client);

	if (r < 0)
		return r;
	r = space_check((struct kvc_space *)space);
	client_unlock(space->client);
	return r;
}

int reader_check(struct kvc_reader *reader, const struct kvc_space *space)
{
	if (!space)
		return -EINVAL;
	if (reader->client->forks != forks_count())
		return -ECHILD;
	if (reader->client != space->client)
		return client_refuse(space->client, -EINVAL, "the reader and the space are of two clients");
	return space_broken(space) == KVC_OK ? KVC_OK : reader_space_refuse(space);
}

void reader_record_retire(struct reader_record *record)
{
	struct kvc_client *client = record->reader->client;

	if (client_lock(client) < 0)
		return;
	record_free(record);
	client_unlock(client);
}

/* ---- Readers ---- */

/* With the lock, or in a forked child. */
static void reader_free(struct kvc_reader *reader)
{
	list_for_each_safe(node, after, &reader->records)
		record_free(list_entry(node, struct reader_record, link));
	reader->arena = arena_unref(reader->arena);
	reader->control = control_unref(reader->control);
	list_unlink(&reader->link);
	free(reader);
}

void reader_free_all(struct kvc_client *client)
{
	list_for_each_safe(node, after, &client->readers)
		reader_free(list_entry(node, struct kvc_reader, link));
}

static int reader_open_op(struct kvc_client *client, void *data)
{
	struct kvc_reader *reader = data;
	int r = session_join_op(client, reader);

	if (r == KVC_OK)
		list_push_back(&client->readers, &reader->link);
	return r;
}

int kvc_reader_open(kvc_client *client, kvc_reader **ret_reader)
{
	struct kvc_reader *reader;
	int r;

	if (!client || !ret_reader)
		return client_refuse(client, -EINVAL, "kvc_reader_open: an argument is NULL");
	reader = calloc(1, sizeof(*reader));
	if (!reader)
		return client_refuse(client, -ENOMEM, kvc_strerror(-ENOMEM));
	list_init(&reader->link);
	list_init(&reader->records);
	reader->client = client;
	r = client_run(client, reader_open_op, reader);
	if (r == KVC_OK)
		*ret_reader = reader;
	else
		free(reader);
	return r;
}

kvc_reader *kvc_reader_close(kvc_reader *reader)
{
	struct kvc_client *client;
	bool locked;

	if (!reader)
		return NULL;
	client = reader->client;
	locked = client_lock(client) == 0;
	reader_free(reader);
	if (locked)
		client_unlock(client);
	return NULL;
}
