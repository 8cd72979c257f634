/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LMDB on tmpfs, with MDB_NOSYNC. A get is a read transaction (renewed, as LMDB advises), mdb_get, and the value read
 * where it is mapped; a put is a write transaction of its own. MDB_NORDAHEAD changes nothing on tmpfs and is left out.
 */
#include "tests/bench/store.h"

#include "base/units.h"
#include "tests/bench/bench.h"
#include "tests/bench/peer.h"

#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef TMPFS_MAGIC
#define TMPFS_MAGIC 0x01021994
#endif

/* Pages that a put frees are used again only two transactions later. */
#define ROOM_FACTOR 2
#define ROOM_BYTES (64 * MIB)

struct state {
	MDB_env *env;
	MDB_txn *reader;
	MDB_dbi database;
};

static int fail(const char *doing, int result)
{
	return bench_error("lmdb: %s: %s", doing, mdb_strerror(result));
}

static void name_file(const struct store *store, char path[128])
{
	(void)snprintf(path, 128, "%s/lmdb", store->set->directory);
}

static int start(struct store *store)
{
	struct statfs fs;

	if (statfs(store->set->directory, &fs) != 0 || fs.f_type != TMPFS_MAGIC)
		return store_missing("lmdb", "there is no tmpfs to put it on");
	return STORE_STARTED;
}

static void remove_files(struct store *store)
{
	char path[128];
	char lock[136];

	name_file(store, path);
	(void)snprintf(lock, sizeof(lock), "%s-lock", path);
	(void)unlink(path);
	(void)unlink(lock);
}

static int open_database(struct state *state)
{
	MDB_txn *txn;
	int r = mdb_txn_begin(state->env, NULL, 0, &txn);

	if (r == 0)
		r = mdb_dbi_open(txn, NULL, 0, &state->database);
	if (r == 0)
		r = mdb_txn_commit(txn);
	if (r == 0)
		r = mdb_txn_begin(state->env, NULL, MDB_RDONLY, &state->reader);
	if (r != 0)
		return fail("opening the database", r);
	mdb_txn_reset(state->reader);
	return 0;
}

static int open_store(struct store *store)
{
	struct state *state = calloc(1, sizeof(*state));
	size_t bytes = (size_t)store->set->count * store->set->value_bytes;
	char path[128];
	int r;

	if (!state)
		return bench_error("out of memory");
	store->state = state;
	name_file(store, path);
	r = mdb_env_create(&state->env);
	if (r == 0)
		r = mdb_env_set_mapsize(state->env, ROOM_FACTOR * bytes + ROOM_BYTES);
	if (r == 0)
		r = mdb_env_open(state->env, path, MDB_NOSYNC | MDB_NOSUBDIR, 0600);
	return r == 0 ? open_database(state) : fail("opening", r);
}

static void close_store(struct store *store)
{
	struct state *state = store->state;

	if (state && state->reader)
		mdb_txn_abort(state->reader);
	if (state && state->env)
		mdb_env_close(state->env);
	free(state);
	store->state = NULL;
}

static int begin_get(struct store *store, const struct store_item *item, MDB_val *value)
{
	struct state *state = store->state;
	MDB_val key = { STORE_KEY_BYTES, (void *)(uintptr_t)item->key };
	int r = mdb_txn_renew(state->reader);

	if (r == 0)
		r = mdb_get(state->reader, state->database, &key, value);
	return r == 0 ? 0 : fail("get", r);
}

static void end_get(struct store *store)
{
	struct state *state = store->state;

	mdb_txn_reset(state->reader);
}

static int find(struct store *store, const struct store_item *item)
{
	MDB_val value;

	if (begin_get(store, item, &value) != 0)
		return 1;
	store->sum += (uintptr_t)value.mv_data;
	end_get(store);
	return 0;
}

static int touch(struct store *store, const struct store_item *item)
{
	MDB_val value;

	if (begin_get(store, item, &value) != 0)
		return 1;
	store->sum += peer_read(value.mv_data, value.mv_size);
	end_get(store);
	return 0;
}

static int copy(struct store *store, const struct store_item *item)
{
	MDB_val value;

	if (begin_get(store, item, &value) != 0)
		return 1;
	memcpy(store->out, value.mv_data, store->set->value_bytes);
	__asm__ volatile("" : : "r"(store->out) : "memory");
	end_get(store);
	return 0;
}

static int put(struct store *store, const struct store_item *item)
{
	struct state *state = store->state;
	MDB_val key = { STORE_KEY_BYTES, (void *)(uintptr_t)item->next };
	MDB_val value = { store->set->value_bytes, (void *)(uintptr_t)store->set->source };
	MDB_txn *txn;
	int r = mdb_txn_begin(state->env, NULL, 0, &txn);

	if (r != 0)
		return fail("put", r);
	r = mdb_put(txn, state->database, &key, &value, 0);
	if (r == 0)
		r = mdb_txn_commit(txn);
	else
		mdb_txn_abort(txn);
	return r == 0 ? 0 : fail("put", r);
}

const struct store_class store_lmdb = {
	.name = "lmdb",
	.memory = true,
	.ops = { [STORE_FIND] = find, [STORE_TOUCH] = touch, [STORE_COPY] = copy, [STORE_PUT] = put },
	.start = start,
	.stop = remove_files,
	.hide = remove_files,
	.open = open_store,
	.close = close_store,
};
