/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's side of kvpaged: finished blocks of a sequence are looked up, fetched and stored.
 *
 * A cache must never stop a worker. After opening, nothing here fails: what cannot be fetched is a
 * miss, what cannot be stored is counted. When the daemon is lost the link is dead, says so once
 * through the notice callback, and every later call returns at once.
 *
 * A block's key is a chained hash of all tokens up to its end. The space's name and revision hold
 * the model's identity and the form of the store, whose attention has bits of its own. So equal keys
 * in one space mean equal tokens before and in the block, hence equal K/V.
 */
#pragma once

#include "base/cleanup.h"
#include "client/worker/fault.h"
#include "client/worker/kvstore.h"
#include "client/worker/model.h"

#include <stdbool.h>
#include <stdint.h>

#define CACHE_KEY_BYTES 16

struct cache_key {
	uint8_t bytes[CACHE_KEY_BYTES];
};

/*
 * The key of the block of n tokens that follows the block `parent` (NULL: the first of a sequence).
 */
struct cache_key cache_key_next(const struct cache_key *parent, const uint32_t *tokens, uint32_t n);

struct cachelink_options {
	const char *socket_path; /* NULL: as libkvclient chooses */
	const char *space_name;  /* NULL: made of the model's name, its identity, codecs and form */
	void (*notice)(void *context, const char *text); /* told once when the link dies */
	void *notice_context;
};

struct cachelink_counts {
	uint64_t blocks_stored;
	uint64_t blocks_present; /* were there already */
	uint64_t blocks_refused; /* no space, no parent, quota, lost connection */
};

struct cachelink;

/*
 * Connects and opens the space for this model and the shape of this store. Results: 0 and
 * *ret_link, freed with cachelink_free(); a negative errno with the reason in the fault.
 */
int cachelink_open(const struct cachelink_options *options, const struct model *model,
		   const struct kvstore *shape, struct cachelink **ret_link, struct fault *fault);

/* Waits for answers to what was stored, then disconnects. NULL is fine. Returns NULL. */
struct cachelink *cachelink_free(struct cachelink *link);

DEFINE_CLEANUP(struct cachelink *, cachelink_free);

/* The name of the space. */
const char *cachelink_space(const struct cachelink *link);

bool cachelink_alive(const struct cachelink *link);

/*
 * Begins another sequence: its blocks may be stored again even if an earlier sequence's could not.
 */
void cachelink_begin(struct cachelink *link);

/*
 * Fetches the longest run of the blocks with these keys, from the first on, to positions 0.. of the
 * store, which is empty and has room for all of them. Returns the number of blocks; positions
 * behind them are unspecified.
 */
uint32_t cachelink_fetch(struct cachelink *link, const struct cache_key *keys, uint32_t n,
			 struct kvstore *store);

/*
 * Stores block `index` of the store, still exact, without waiting for the answer. parent is the key
 * of the block before it, NULL for the first. When a block of a sequence is refused, so are those
 * behind it.
 */
void cachelink_store(struct cachelink *link, const struct cache_key *key,
		     const struct cache_key *parent, uint32_t index, const struct kvstore *store);

/* Waits until everything stored is answered, at most a few seconds. */
void cachelink_flush(struct cachelink *link);

struct cachelink_counts cachelink_counts(const struct cachelink *link);
