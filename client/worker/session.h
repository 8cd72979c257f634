/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One sequence under way: its tokens, its K/V, the forward pass, and the cache if there is one.
 *
 * Tokens are computed in batches that end at block boundaries. When a block is full it is offered
 * to the cache and then finished: what its codec keeps takes its place, before any later token is
 * computed. So the numbers after it are the same whether the block was computed here or fetched.
 */
#pragma once

#include "base/cleanup.h"
#include "client/worker/cachelink.h"
#include "client/worker/forward.h"
#include "client/worker/kvstore.h"
#include "client/worker/model.h"

#include <stdbool.h>
#include <stdint.h>

struct session_options {
	const struct model *model;
	const struct dot_kernels *kernels;
	struct pool *pool;
	uint32_t capacity;     /* tokens */
	uint32_t block_tokens; /* 1..FORWARD_BATCH_MAX */
	enum codec_id codec_k;
	enum codec_id codec_v;
	bool packed; /* how finished blocks are kept, and what attention runs on; see kvstore.h */
};

struct session;

/*
 * Everything in the options is borrowed. Results: 0 and *ret_session, freed with session_free();
 * -ENOMEM, -EOVERFLOW.
 */
int session_new(const struct session_options *options, struct session **ret_session);

struct session *session_free(struct session *session);

DEFINE_CLEANUP(struct session *, session_free);

/* The store, for its shape. */
const struct kvstore *session_store(const struct session *session);

/* From now on blocks are looked up in and offered to this cache, which is borrowed; NULL: none. */
void session_use_cache(struct session *session, struct cachelink *cache);

/* Begins another sequence. */
void session_begin(struct session *session);

/*
 * At the beginning of a sequence: takes as many whole blocks of tokens[0..n) from the cache as it
 * has, but never the last token, whose logits are wanted. Returns the number of tokens that need
 * not be fed.
 */
uint32_t session_fetch(struct session *session, const uint32_t *tokens, uint32_t n);

/*
 * Computes the next of tokens[0..n), n > 0, up to the end of a block. The sequence must have room.
 * Returns how many were computed, and session_logits() is about them; or -ENOMEM, and then only
 * session_begin() may follow.
 */
int session_feed(struct session *session, const uint32_t *tokens, uint32_t n);

/* Logits of the tokens [first, first + n) of the last session_feed(). */
void session_logits(struct session *session, uint32_t first, uint32_t n, float *logits);

/*
 * The first value of this sequence that its codec could not hold, or NULL. That block stayed exact
 * and, like those behind it, was not stored.
 */
const struct kvstore_fault *session_codec_fault(const struct session *session);
