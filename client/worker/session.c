/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the tokens of the sequence and the keys of its finished blocks. */
#include "client/worker/session.h"

#include "base/contract.h"

#include <errno.h>
#include <string.h>

struct session {
	const struct model *model;
	struct forward *forward;
	struct kvstore store;
	struct cachelink *cache;
	uint32_t *tokens;       /* capacity */
	struct cache_key *keys; /* of whole blocks, as far as they are finished */
	bool codec_failed;
	struct kvstore_fault codec_fault;
};

static int allocate(struct session *session, const struct session_options *options)
{
	const struct model *m = options->model;
	int r;

	session->store = (struct kvstore){
		.n_layers = m->n_layers,
		.n_heads = m->n_kv_heads,
		.head_dim = m->head_dim,
		.block_tokens = options->block_tokens,
		.capacity = options->capacity,
		.codec_k = options->codec_k,
		.codec_v = options->codec_v,
		.packed = options->packed,
	};
	r = kvstore_init(&session->store);
	if (r == 0)
		r = forward_new(m, options->kernels, options->pool, &session->store, &session->forward);
	session->tokens = calloc(options->capacity, sizeof(session->tokens[0]));
	session->keys = calloc(options->capacity / options->block_tokens + 1, sizeof(session->keys[0]));
	if (r == 0 && (!session->tokens || !session->keys))
		r = -ENOMEM;
	return r;
}

int session_new(const struct session_options *options, struct session **ret_session)
{
	_cleanup_(session_freep) struct session *session = calloc(1, sizeof(*session));
	int r;

	kvp_assert(options->block_tokens >= 1 && options->block_tokens <= FORWARD_BATCH_MAX);
	if (!session)
		return -ENOMEM;
	session->model = options->model;
	r = allocate(session, options);
	if (r < 0)
		return r;
	*ret_session = take_ptr(session);
	return 0;
}

struct session *session_free(struct session *session)
{
	if (!session)
		return NULL;
	kvstore_done(&session->store);
	(void)forward_free(session->forward);
	free(session->tokens);
	free(session->keys);
	free(session);
	return NULL;
}

const struct kvstore *session_store(const struct session *session)
{
	return &session->store;
}

void session_use_cache(struct session *session, struct cachelink *cache)
{
	session->cache = cache;
}

void session_begin(struct session *session)
{
	kvstore_clear(&session->store);
	session->codec_failed = false;
	if (session->cache)
		cachelink_begin(session->cache);
}

/* Computes the key of a block from the tokens that the session has noted. */
static void derive_key(struct session *session, uint32_t index)
{
	uint32_t n = session->store.block_tokens;

	session->keys[index] = cache_key_next(index > 0 ? &session->keys[index - 1] : NULL,
					      session->tokens + (size_t)index * n, n);
}

uint32_t session_fetch(struct session *session, const uint32_t *tokens, uint32_t n)
{
	struct kvstore *store = &session->store;
	uint32_t n_blocks = n > 0 ? (n - 1) / store->block_tokens : 0;
	uint32_t fetched;

	kvp_assert(store->n_tokens == 0 && n <= store->capacity);
	if (!session->cache)
		return 0;
	memcpy(session->tokens, tokens, (size_t)n * sizeof(tokens[0]));
	for (uint32_t i = 0; i < n_blocks; i++)
		derive_key(session, i);
	fetched = cachelink_fetch(session->cache, session->keys, n_blocks, store);
	kvstore_filled(store, fetched);
	return store->n_tokens;
}

/* Stores a full block and puts what the codec keeps in its place. */
static int finish_block(struct session *session, uint32_t index)
{
	struct kvstore_fault fault;
	int r;

	derive_key(session, index);
	if (session->cache && !session->codec_failed)
		cachelink_store(session->cache, &session->keys[index],
				index > 0 ? &session->keys[index - 1] : NULL, index, &session->store);
	r = kvstore_finish_block(&session->store, index, &fault);
	if (r > 0 && !session->codec_failed) {
		session->codec_failed = true;
		session->codec_fault = fault;
	}
	return r < 0 ? r : 0;
}

int session_feed(struct session *session, const uint32_t *tokens, uint32_t n)
{
	struct kvstore *store = &session->store;
	uint32_t index = store->n_tokens / store->block_tokens;
	uint32_t room = store->block_tokens - store->n_tokens % store->block_tokens;
	uint32_t n_batch = n < room ? n : room;
	int r = 0;

	kvp_assert(n > 0 && n_batch <= store->capacity - store->n_tokens);
	memcpy(session->tokens + store->n_tokens, tokens, n_batch * sizeof(tokens[0]));
	forward_run(session->forward, store, tokens, n_batch);
	if (n_batch == room)
		r = finish_block(session, index);
	return r < 0 ? r : (int)n_batch;
}

void session_logits(struct session *session, uint32_t first, uint32_t n, float *logits)
{
	forward_logits(session->forward, first, n, logits);
}

const struct kvstore_fault *session_codec_fault(const struct session *session)
{
	return session->codec_failed ? &session->codec_fault : NULL;
}
