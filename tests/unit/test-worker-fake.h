/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fake cache for the worker: the kvc_* functions that it calls, over a table in memory that
 * encodes as the library does, and can be told to fail. For blocks of FAKE_TOKENS tokens of the
 * small llama of test-worker-file.h.
 */
#pragma once

#include "client/kvclient.h"
#include "client/worker/cachelink.h"

#include "tests/unit/test-worker-file.h"

#include <errno.h>

#define FAKE_TOKENS 8
#define FAKE_BLOCKS_MAX 64
#define TILE_BYTES_MAX (FAKE_TOKENS * LLAMA_HEAD_DIM * 4)

struct fake_block {
	uint8_t key[CACHE_KEY_BYTES];
	uint8_t tiles[LLAMA_LAYERS][LLAMA_KV_HEADS][2][TILE_BYTES_MAX];
};

enum fake_call { FAKE_MATCH, FAKE_FETCH, FAKE_PIN, FAKE_SUBMIT, FAKE_REAP, FAKE_CALLS };

/* What kvc_pin() gives. */
struct kvc_block {
	const struct fake_block *block; /* NULL: free */
	bool died;
};

static struct {
	struct kvc_schema schema;
	struct fake_block blocks[FAKE_BLOCKS_MAX];
	unsigned n_blocks;
	struct kvc_completion pending[FAKE_BLOCKS_MAX];
	unsigned n_pending;
	unsigned pending_max;   /* more are refused with -EAGAIN */
	int broken[FAKE_CALLS]; /* the result of this call from now on */
	int refuse;             /* the status of blocks, if not 0 */
	int fetch_status;       /* of the second block when it is read, if not 0 */
	struct kvc_block pinned[FAKE_BLOCKS_MAX];
	unsigned n_pinned;
	unsigned pinned_max; /* more get KVC_QUOTA */
	unsigned n_calls[FAKE_CALLS];
	unsigned n_open;
} fake;

static inline struct fake_block *fake_find(const void *key)
{
	for (unsigned i = 0; i < fake.n_blocks; i++)
		if (memcmp(fake.blocks[i].key, key, CACHE_KEY_BYTES) == 0)
			return &fake.blocks[i];
	return NULL;
}

int kvc_open(const struct kvc_options *options, kvc_client **ret_client, char *reterr, size_t reterr_size)
{
	assert_int_equal(options->struct_bytes, sizeof(*options));
	fake.n_open++;
	*ret_client = (kvc_client *)&fake;
	return KVC_OK;
}

kvc_client *kvc_close(kvc_client *client)
{
	if (client)
		fake.n_open--;
	return NULL;
}

const char *kvc_error(kvc_client *client)
{
	return "the fake is broken";
}

const char *kvc_strerror(int result)
{
	return "a result";
}

int kvc_space_open(kvc_client *client, const char *name, const struct kvc_schema *schema, kvc_space **ret_space)
{
	assert_true(strncmp(name, "test-llama-", 11) == 0);
	assert_int_equal(schema->layers, LLAMA_LAYERS);
	assert_int_equal(schema->kv_heads, LLAMA_KV_HEADS);
	assert_int_equal(schema->block_tokens, FAKE_TOKENS);
	fake.schema = *schema;
	*ret_space = (kvc_space *)&fake;
	return KVC_OK;
}

kvc_space *kvc_space_close(kvc_space *space)
{
	return NULL;
}

int kvc_reader_open(kvc_client *client, kvc_reader **ret_reader)
{
	*ret_reader = (kvc_reader *)&fake;
	return KVC_OK;
}

kvc_reader *kvc_reader_close(kvc_reader *reader)
{
	return NULL;
}

int kvc_match(kvc_space *space, kvc_reader *reader, const struct kvc_key *keys, size_t n,
	      const struct kvc_range *range, size_t *ret_matched)
{
	fake.n_calls[FAKE_MATCH]++;
	if (fake.broken[FAKE_MATCH])
		return fake.broken[FAKE_MATCH];
	*ret_matched = 0;
	while (*ret_matched < n && fake_find(keys[*ret_matched].bytes))
		(*ret_matched)++;
	return KVC_OK;
}

/* There is no tier: what cannot be matched cannot be loaded. */
int kvc_forecast(kvc_space *space, const struct kvc_key *keys, size_t n, const struct kvc_range *range,
		 struct kvc_forecast *ret_forecast)
{
	*ret_forecast = (struct kvc_forecast){ 0 };
	return KVC_OK;
}

static inline float *tensor_at(const struct kvc_tensor *tensor, uint32_t layer, uint32_t head)
{
	return (float *)tensor->data + layer * tensor->stride_layer + head * tensor->stride_head;
}

int kvc_fetch(kvc_space *space, kvc_reader *reader, struct kvc_fetch *fetches, size_t n)
{
	fake.n_calls[FAKE_FETCH]++;
	if (fake.broken[FAKE_FETCH])
		return fake.broken[FAKE_FETCH];
	for (size_t i = 0; i < n; i++) {
		const struct fake_block *block = fake_find(fetches[i].key.bytes);

		for (unsigned row = 0; row < LLAMA_LAYERS * LLAMA_KV_HEADS; row++) {
			unsigned layer = row / LLAMA_KV_HEADS;
			unsigned head = row % LLAMA_KV_HEADS;

			codec_decode((enum codec_id)fake.schema.codec_k, CODEC_ROLE_K, FAKE_TOKENS, LLAMA_HEAD_DIM,
				     block->tiles[layer][head][0], tensor_at(&fetches[i].k, layer, head),
				     CODEC_DTYPE_F32, (ptrdiff_t)fetches[i].k.stride_token);
			codec_decode((enum codec_id)fake.schema.codec_v, CODEC_ROLE_V, FAKE_TOKENS, LLAMA_HEAD_DIM,
				     block->tiles[layer][head][1], tensor_at(&fetches[i].v, layer, head),
				     CODEC_DTYPE_F32, (ptrdiff_t)fetches[i].v.stride_token);
		}
		fetches[i].tokens = FAKE_TOKENS;
		fetches[i].status = block == &fake.blocks[1] ? fake.fetch_status : KVC_OK;
	}
	return KVC_OK;
}

static inline void fake_store(const struct kvc_append *append)
{
	struct fake_block *block = &fake.blocks[fake.n_blocks++];

	assert_true(fake.n_blocks <= FAKE_BLOCKS_MAX);
	memcpy(block->key, append->key.bytes, CACHE_KEY_BYTES);
	for (unsigned row = 0; row < LLAMA_LAYERS * LLAMA_KV_HEADS; row++) {
		unsigned layer = row / LLAMA_KV_HEADS;
		unsigned head = row % LLAMA_KV_HEADS;

		assert_int_equal(codec_encode((enum codec_id)fake.schema.codec_k, CODEC_ROLE_K, FAKE_TOKENS,
					      LLAMA_HEAD_DIM, tensor_at(&append->k, layer, head),
					      CODEC_DTYPE_F32, (ptrdiff_t)append->k.stride_token,
					      block->tiles[layer][head][0], NULL),
				 0);
		assert_int_equal(codec_encode((enum codec_id)fake.schema.codec_v, CODEC_ROLE_V, FAKE_TOKENS,
					      LLAMA_HEAD_DIM, tensor_at(&append->v, layer, head),
					      CODEC_DTYPE_F32, (ptrdiff_t)append->v.stride_token,
					      block->tiles[layer][head][1], NULL),
				 0);
	}
}

int kvc_submit(kvc_space *space, struct kvc_append *block, uint64_t user_data)
{
	int status = fake.refuse;

	fake.n_calls[FAKE_SUBMIT]++;
	if (fake.broken[FAKE_SUBMIT])
		return fake.broken[FAKE_SUBMIT];
	if (fake.n_pending == fake.pending_max)
		return -EAGAIN;
	assert_int_equal(block->tokens, FAKE_TOKENS);
	if (!status && block->parent.n > 0 && !fake_find(block->parent.bytes))
		status = KVC_NO_PARENT;
	if (!status && fake_find(block->key.bytes))
		status = KVC_PRESENT;
	if (!status)
		fake_store(block);
	fake.pending[fake.n_pending++] = (struct kvc_completion){ .user_data = user_data, .status = status };
	return KVC_OK;
}

int kvc_reap(kvc_client *client, struct kvc_completion *completions, size_t n, uint32_t wait_ms, size_t *ret_n)
{
	fake.n_calls[FAKE_REAP]++;
	if (fake.broken[FAKE_REAP])
		return fake.broken[FAKE_REAP];
	*ret_n = fake.n_pending < n ? fake.n_pending : n;
	memcpy(completions, fake.pending, *ret_n * sizeof(completions[0]));
	memmove(fake.pending, fake.pending + *ret_n, (fake.n_pending - *ret_n) * sizeof(fake.pending[0]));
	fake.n_pending -= (unsigned)*ret_n;
	return KVC_OK;
}

/* --- Pins ------------------------------------------------------------------------------------- */

static inline int fake_pin(const struct kvc_key *key, kvc_block **ret_block)
{
	const struct fake_block *block = fake_find(key->bytes);
	int status = block == &fake.blocks[1] ? fake.fetch_status : KVC_OK;
	struct kvc_block *pin = fake.pinned;

	if (!block)
		return KVC_MISS;
	if (fake.n_pinned == fake.pinned_max)
		return KVC_QUOTA;
	/* A block that dies is found out only by the check after reading. */
	if (status != KVC_OK && status != KVC_STALE)
		return status;
	while (pin->block)
		pin++;
	*pin = (struct kvc_block){ .block = block, .died = status == KVC_STALE };
	fake.n_pinned++;
	*ret_block = pin;
	return KVC_OK;
}

int kvc_pin(kvc_space *space, kvc_reader *reader, const struct kvc_key *keys, size_t n,
	    const struct kvc_range *range, kvc_block **ret_blocks, int *ret_statuses)
{
	fake.n_calls[FAKE_PIN]++;
	if (fake.broken[FAKE_PIN])
		return fake.broken[FAKE_PIN];
	for (size_t i = 0; i < n; i++) {
		ret_blocks[i] = NULL;
		ret_statuses[i] = fake_pin(&keys[i], &ret_blocks[i]);
	}
	return KVC_OK;
}

kvc_block *kvc_unpin(kvc_block *block)
{
	if (block) {
		assert_non_null(block->block);
		block->block = NULL;
		fake.n_pinned--;
	}
	return NULL;
}

uint32_t kvc_block_tokens(const kvc_block *block)
{
	return FAKE_TOKENS;
}

int kvc_block_tile(const kvc_block *block, char which, uint32_t layer, uint32_t head,
		   struct kvc_tile *ret_tile)
{
	bool value = which == 'V';
	uint32_t codec = value ? fake.schema.codec_v : fake.schema.codec_k;

	assert_non_null(block->block);
	*ret_tile = (struct kvc_tile){
		.bytes = block->block->tiles[layer][head][value],
		.n = codec_tile_bytes(codec, value ? CODEC_ROLE_V : CODEC_ROLE_K, FAKE_TOKENS, LLAMA_HEAD_DIM),
		.codec = codec,
		.tokens = FAKE_TOKENS,
		.head_dim = LLAMA_HEAD_DIM,
	};
	return KVC_OK;
}

int kvc_block_check(const kvc_block *block)
{
	assert_non_null(block->block);
	return block->died ? KVC_STALE : KVC_OK;
}

static inline void fake_reset(void)
{
	memset(&fake, 0, sizeof(fake));
	fake.pending_max = FAKE_BLOCKS_MAX;
	fake.pinned_max = FAKE_BLOCKS_MAX;
}
