/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is measured side by side: kvpaged, its peers and the machine's limits, all as stores of values of one size under
 * keys of 16 characters. A store is made by the bench's own process, which starts its server, if it has one; client
 * processes that are forked then open it. Not every store can do everything.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/bench/server.h"

#define STORE_KEY_BYTES 16
#define STORE_BATCH 64
#define STORE_CLIENTS_MAX 2
#define STORE_HEAD_DIM 128 /* of K and of V, in stores of kvpaged */

enum store_op {
	STORE_FIND,      /* get a value; in memory: its address */
	STORE_FIND_BATCH, /* STORE_BATCH values with one call */
	STORE_TOUCH,     /* the same, and read every byte */
	STORE_COPY,      /* get it into the caller's memory, from kvpaged decoded to f16 */
	STORE_PUT,       /* one value */
	STORE_PUT_BATCH, /* STORE_BATCH values, sent before the first is answered */
	STORE_ASK,       /* find by asking the server, where STORE_FIND does not */
	STORE_BARE,      /* read every byte where it lies, its address being known */
	STORE_MOVE_OUT,  /* memcpy into the caller's memory, its address being known */
	STORE_MOVE_IN,   /* memcpy to it, its address being known */
	STORE_OPS
};

/* Results of starting a store. */
enum { STORE_STARTED = 0, STORE_FAILED = 1, STORE_MISSING = 2 };

/* What all stores of a setting hold. */
struct workset {
	uint32_t value_bytes;
	uint32_t count;
	uint32_t batch;        /* values of a batch: STORE_BATCH, or count where that is less */
	const char *directory; /* on tmpfs, private, empty but for what the stores put there */
	const uint8_t *source; /* what is stored: normal values of f16, as many as a store may take */
};

/* One value to get or put, made before the clock starts. */
struct store_item {
	char key[STORE_KEY_BYTES];
	char next[STORE_KEY_BYTES]; /* the key that a put gives it; another one where values cannot be replaced */
	uint32_t index;
	const void *bare; /* where it lies; NULL: not known */
};

struct store;
typedef int store_op_fn(struct store *store, const struct store_item *items); /* 0, or 1 after a line on stderr */

struct store_class {
	const char *name; /* as in names of figures: "redis" */
	bool immutable;   /* values cannot be replaced: a put stores it under another key, settle() drops the old one */
	bool lossy;       /* what comes back is not bit by bit what went in */
	bool memory;      /* reads need no system call: a client first visits all values, so that they are mapped */
	store_op_fn *ops[STORE_OPS];

	/* In the bench's process. start: STORE_..., with a line on stderr unless it started. */
	int (*start)(struct store *store);
	void (*stop)(struct store *store);
	/* May be NULL. Once all clients have opened it: takes the names of large files away, in case we are killed. */
	void (*hide)(struct store *store);

	/* In client processes: 0, or 1 after a line on stderr. */
	int (*open)(struct store *store);
	void (*close)(struct store *store);
	/* May be NULL. After all values are stored: 0, or 1 after a line on stderr. */
	int (*loaded)(struct store *store);
	/* May be NULL. After n puts, outside of what is timed. */
	int (*settle)(struct store *store, const struct store_item *items, uint32_t n);
};

/* How a store of kvpaged keeps values; all zero for others. */
struct store_shape {
	const struct bench_server *server;
	const char *space;
	uint32_t codec;
	uint32_t heads;
	uint32_t tokens;
};

struct store {
	const struct store_class *class;
	const struct workset *set;
	struct store_shape shape;
	pid_t servers[STORE_CLIENTS_MAX]; /* to be placed; 0: none */
	int fds[STORE_CLIENTS_MAX];       /* of the bench's process, for the class to use */
	char socket_path[96];
	_Atomic uint32_t *versions; /* shared by processes: how often each value was replaced; NULL if not immutable */

	/* Of one client process. */
	unsigned client;    /* its number */
	void *state;
	uint8_t *out;       /* the caller's memory: room for a value, decoded */
	const void **bare;  /* where values lie; NULL: not known */
	uint64_t sum;       /* of what was read, so that nothing can be left out */
};

extern const struct store_class store_file;
extern const struct store_class store_kvpaged;
extern const struct store_class store_kvpaged_packed; /* q6, decoded to f16 */
extern const struct store_class store_lmdb;
extern const struct store_class store_memcached;
extern const struct store_class store_ping;
extern const struct store_class store_redis;

/* How many items an operation takes. */
uint32_t store_op_items(const struct store *store, enum store_op op);

/* Bytes that a value of the store takes as the caller has it: those of f16 where a codec packs it. */
uint32_t store_caller_bytes(const struct store *store);

/* Starts the store. STORE_...; nothing is to be stopped unless it started. */
int store_start(struct store *store, const struct store_class *class, const struct workset *set,
		const struct store_shape *shape);
void store_stop(struct store *store);

/* In a client process. Results: 0, or 1 after a line on stderr. */
int store_open(struct store *store, unsigned client);
void store_close(struct store *store);

/* Makes the item of a value, as it is now. */
void store_item(const struct store *store, uint32_t index, struct store_item *ret_item);

/* Says that the store is left out, and why. Returns STORE_MISSING. */
int store_missing(const char *name, const char *why);
