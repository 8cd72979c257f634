/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client object and how calls run on it. A public function checks its arguments, then runs an operation
 * with client_run(): under the lock, on a living connection, and once more on a new one when the connection
 * was found lost in the middle. Operations may therefore run twice; all of them are idempotent.
 */
#pragma once

#include "base/list.h"
#include "client/connection.h"
#include "client/kvclient.h"
#include "client/verify.h"
#include "client/words.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define TIMEOUT_MS_DEFAULT 10000
#define STAGING_BYTES_DEFAULT (UINT64_C(8) << 20)
#define PINS_MAX_DEFAULT 2048

/* When to try the daemon again; see reconnect.h. */
struct reconnect {
	bool given_up;         /* the last call waited its time in vain */
	uint64_t not_before_ns;
	uint64_t count;        /* times it succeeded */
};

struct kvc_client {
	pthread_mutex_t lock;  /* guards everything below that changes */
	uint32_t forks;        /* constant; see forks.h */
	char *socket_path;     /* constant */
	char *name;            /* constant */
	uint32_t flags;        /* constant */
	uint32_t timeout_ms;   /* constant */
	uint64_t staging_bytes; /* constant; wanted */
	uint32_t records;      /* constant; of control memory, wanted */
	struct verify verify;
	int completion_fd;     /* constant; see completion.h */
	int finished_fd;       /* constant */
	struct connection connection;
	struct reconnect reconnect;
	struct list spaces;    /* struct kvc_space */
	struct list blocks;    /* struct kvc_block that are leased */
	struct list readers;   /* struct kvc_reader */
	struct list finished;  /* struct append_job whose completion waits for kvc_reap() */
	size_t n_finished;
	struct words words;
};

/* Whether this is the process that opened the client. */
bool client_is_ours(const struct kvc_client *client);

/* Takes the lock. Results: 0; -ECHILD, without the lock. */
int client_lock(struct kvc_client *client);
void client_unlock(struct kvc_client *client);

typedef int client_op_fn(struct kvc_client *client, void *op);

/*
 * Runs an operation as described above. Results: the operation's; -ECHILD; -ENOTCONN when there is no
 * connection and none can be made; errors of reconnecting.
 */
int client_run(struct kvc_client *client, client_op_fn *fn, void *op);

/*
 * Refuses a call because of its arguments: sets the words and returns result; -ECHILD in another process.
 * client may be NULL.
 */
int client_refuse(struct kvc_client *client, int result, const char *why);

/*
 * One request whose reply must be of this verb. Results: 0 and the reply, for rpc_reply_free(); a positive
 * status, in words; negative errno.
 */
int client_exchange(struct kvc_client *client, Kvpaged__V1__Request *request, Kvpaged__V1__Reply__VerbCase verb,
		    Kvpaged__V1__Reply **ret_reply);

/* Ends the connection because the daemon's answer cannot be: sets the words and returns -EPROTO. */
int client_break(struct kvc_client *client, const char *why);
