/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sequence with and without a cache gives the same bits, and whatever the cache does, the run
 * goes on. The cache is a fake: this file defines the kvc_* functions that the worker calls, over a
 * table in memory that encodes as the library does, and can be told to fail.
 */
#include "client/kvclient.h"
#include "client/worker/session.h"

#include "tests/unit/test-worker-file.h"

#include <errno.h>
#include <math.h>

#define BLOCK 8
#define PROMPT 50
#define CAPACITY 80
#define FAKE_BLOCKS_MAX 64
#define TILE_BYTES_MAX (BLOCK * LLAMA_HEAD_DIM * 4)

/* --- The fake cache --------------------------------------------------------------------------- */

struct fake_block {
	uint8_t key[CACHE_KEY_BYTES];
	uint8_t tiles[LLAMA_LAYERS][LLAMA_KV_HEADS][2][TILE_BYTES_MAX];
};

enum fake_call { FAKE_MATCH, FAKE_FETCH, FAKE_SUBMIT, FAKE_REAP, FAKE_CALLS };

static struct {
	struct kvc_schema schema;
	struct fake_block blocks[FAKE_BLOCKS_MAX];
	unsigned n_blocks;
	struct kvc_completion pending[FAKE_BLOCKS_MAX];
	unsigned n_pending;
	unsigned pending_max;   /* more are refused with -EAGAIN */
	int broken[FAKE_CALLS]; /* the result of this call from now on */
	int refuse;             /* the status of blocks, if not 0 */
	int fetch_status;       /* of the second block of a fetch, if not 0 */
	unsigned n_calls[FAKE_CALLS];
	unsigned n_open;
} fake;

static struct fake_block *fake_find(const void *key)
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
	assert_int_equal(schema->block_tokens, BLOCK);
	fake.schema = *schema;
	*ret_space = (kvc_space *)&fake;
	return KVC_OK;
}

kvc_space *kvc_space_close(kvc_space *space)
{
	return NULL;
}

int kvc_match(kvc_space *space, const struct kvc_key *keys, size_t n, const struct kvc_range *range,
	      size_t *ret_matched)
{
	fake.n_calls[FAKE_MATCH]++;
	if (fake.broken[FAKE_MATCH])
		return fake.broken[FAKE_MATCH];
	*ret_matched = 0;
	while (*ret_matched < n && fake_find(keys[*ret_matched].bytes))
		(*ret_matched)++;
	return KVC_OK;
}

static float *tensor_at(const struct kvc_tensor *tensor, uint32_t layer, uint32_t head)
{
	return (float *)tensor->data + layer * tensor->stride_layer + head * tensor->stride_head;
}

int kvc_fetch(kvc_space *space, struct kvc_fetch *fetches, size_t n)
{
	fake.n_calls[FAKE_FETCH]++;
	if (fake.broken[FAKE_FETCH])
		return fake.broken[FAKE_FETCH];
	for (size_t i = 0; i < n; i++) {
		const struct fake_block *block = fake_find(fetches[i].key.bytes);

		for (unsigned row = 0; row < LLAMA_LAYERS * LLAMA_KV_HEADS; row++) {
			unsigned layer = row / LLAMA_KV_HEADS;
			unsigned head = row % LLAMA_KV_HEADS;

			codec_decode((enum codec_id)fake.schema.codec_k, CODEC_ROLE_K, BLOCK, LLAMA_HEAD_DIM,
				     block->tiles[layer][head][0], tensor_at(&fetches[i].k, layer, head),
				     CODEC_DTYPE_F32, (ptrdiff_t)fetches[i].k.stride_token);
			codec_decode((enum codec_id)fake.schema.codec_v, CODEC_ROLE_V, BLOCK, LLAMA_HEAD_DIM,
				     block->tiles[layer][head][1], tensor_at(&fetches[i].v, layer, head),
				     CODEC_DTYPE_F32, (ptrdiff_t)fetches[i].v.stride_token);
		}
		fetches[i].tokens = BLOCK;
		fetches[i].status = i == 1 && fake.fetch_status ? fake.fetch_status : KVC_OK;
	}
	return KVC_OK;
}

static void fake_store(const struct kvc_append *append)
{
	struct fake_block *block = &fake.blocks[fake.n_blocks++];

	assert_true(fake.n_blocks <= FAKE_BLOCKS_MAX);
	memcpy(block->key, append->key.bytes, CACHE_KEY_BYTES);
	for (unsigned row = 0; row < LLAMA_LAYERS * LLAMA_KV_HEADS; row++) {
		unsigned layer = row / LLAMA_KV_HEADS;
		unsigned head = row % LLAMA_KV_HEADS;

		assert_int_equal(codec_encode((enum codec_id)fake.schema.codec_k, CODEC_ROLE_K, BLOCK,
					      LLAMA_HEAD_DIM, tensor_at(&append->k, layer, head),
					      CODEC_DTYPE_F32, (ptrdiff_t)append->k.stride_token,
					      block->tiles[layer][head][0], NULL),
				 0);
		assert_int_equal(codec_encode((enum codec_id)fake.schema.codec_v, CODEC_ROLE_V, BLOCK,
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
	assert_int_equal(block->tokens, BLOCK);
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

/* --- The rig ---------------------------------------------------------------------------------- */

struct rig {
	struct file file;
	struct gguf *gguf;
	struct model *model;
	struct pool *pool;
	struct session *session;
	struct cachelink *cache;
	unsigned n_notices;
	uint32_t prompt[PROMPT];
};

static void count_notice(void *context, const char *text)
{
	struct rig *rig = context;

	assert_true(text[0] != '\0');
	rig->n_notices++;
}

static void rig_init(struct rig *rig, enum codec_id codec, unsigned threads, const char *isa)
{
	struct session_options options = { .capacity = CAPACITY,
					   .block_tokens = BLOCK,
					   .codec_k = codec,
					   .codec_v = codec,
					   .kernels = dot_kernels_select(isa) };
	struct fault fault;

	memset(rig, 0, sizeof(*rig));
	rig->file = llama_file(NULL);
	assert_int_equal(gguf_open_memory(rig->file.bytes, rig->file.n, &rig->gguf, &fault), 0);
	assert_int_equal(model_new(rig->gguf, &rig->model, &fault), 0);
	assert_int_equal(pool_new(threads, &rig->pool), 0);
	options.model = rig->model;
	options.pool = rig->pool;
	assert_int_equal(session_new(&options, &rig->session), 0);
	for (uint32_t i = 0; i < PROMPT; i++)
		rig->prompt[i] = i * 37 % LLAMA_VOCAB;
}

static void rig_connect(struct rig *rig)
{
	struct cachelink_options options = { .notice = count_notice, .notice_context = rig };
	struct fault fault;

	assert_int_equal(cachelink_open(&options, rig->model, session_store(rig->session), &rig->cache, &fault),
			 0);
	session_use_cache(rig->session, rig->cache);
}

static void rig_done(struct rig *rig)
{
	(void)session_free(rig->session);
	(void)cachelink_free(rig->cache);
	(void)pool_free(rig->pool);
	(void)model_free(rig->model);
	(void)gguf_free(rig->gguf);
	free(rig->file.bytes);
}

/*
 * Runs the first n tokens of the prompt in batches of at most `most`. Returns how many came from
 * the cache.
 */
static uint32_t run(struct rig *rig, uint32_t n, uint32_t most, float logits[LLAMA_VOCAB])
{
	uint32_t fetched;
	uint32_t batch = 0;

	session_begin(rig->session);
	fetched = session_fetch(rig->session, rig->prompt, n);
	for (uint32_t done = fetched; done < n; done += batch)
		batch = session_feed(rig->session, rig->prompt + done, n - done < most ? n - done : most);
	session_logits(rig->session, batch - 1, 1, logits);
	if (rig->cache)
		cachelink_flush(rig->cache);
	return fetched;
}

static void fake_reset(void)
{
	memset(&fake, 0, sizeof(fake));
	fake.pending_max = FAKE_BLOCKS_MAX;
}

/* The logits of the prompt without a cache. */
static void run_plain(enum codec_id codec, float logits[LLAMA_VOCAB])
{
	struct rig rig;

	rig_init(&rig, codec, 1, "scalar");
	assert_int_equal(run(&rig, PROMPT, PROMPT, logits), 0);
	assert_null(session_codec_fault(rig.session));
	rig_done(&rig);
}

static void assert_same(const float a[LLAMA_VOCAB], const float b[LLAMA_VOCAB])
{
	assert_memory_equal(a, b, LLAMA_VOCAB * sizeof(float));
}

/* --- The tests -------------------------------------------------------------------------------- */

static void test_any_batch_threads_and_isa(void **state)
{
	static const char *const isas[] = { "scalar", "avx2", "avx512" };
	float expected[LLAMA_VOCAB];
	float logits[LLAMA_VOCAB];

	run_plain(CODEC_Q8, expected);
	for (size_t i = 0; i < sizeof(isas) / sizeof(isas[0]); i++)
		for (unsigned threads = 1; threads <= 3; threads += 2)
			for (uint32_t most = 1; most <= BLOCK; most += 3) {
				struct rig rig;

				if (!dot_kernels_select(isas[i]))
					continue;
				rig_init(&rig, CODEC_Q8, threads, isas[i]);
				(void)run(&rig, PROMPT, most, logits);
				assert_same(logits, expected);
				rig_done(&rig);
			}
}

static void test_codec_counts(void **state)
{
	float exact[LLAMA_VOCAB];
	float q8[LLAMA_VOCAB];
	float q4[LLAMA_VOCAB];
	double error8 = 0;
	double error4 = 0;

	run_plain(CODEC_F32, exact);
	run_plain(CODEC_Q8, q8);
	run_plain(CODEC_Q4, q4);
	for (size_t i = 0; i < LLAMA_VOCAB; i++) {
		error8 += fabs((double)q8[i] - (double)exact[i]);
		error4 += fabs((double)q4[i] - (double)exact[i]);
	}
	assert_true(error8 > 0);
	assert_true(error4 > 4 * error8);
}

static void test_prefix_from_cache(void **state)
{
	static const enum codec_id codecs[] = { CODEC_F32, CODEC_F16, CODEC_Q8, CODEC_Q6, CODEC_Q4 };
	float expected[LLAMA_VOCAB];
	float logits[LLAMA_VOCAB];

	for (size_t c = 0; c < sizeof(codecs) / sizeof(codecs[0]); c++) {
		struct rig rig;

		fake_reset();
		run_plain(codecs[c], expected);
		rig_init(&rig, codecs[c], 2, NULL);
		rig_connect(&rig);
		assert_int_equal(run(&rig, PROMPT, PROMPT, logits), 0);
		assert_same(logits, expected);
		assert_int_equal(cachelink_counts(rig.cache).blocks_stored, PROMPT / BLOCK);
		/* The same again: everything but the open block comes from the cache. */
		assert_int_equal(run(&rig, PROMPT, PROMPT, logits), PROMPT / BLOCK * BLOCK);
		assert_same(logits, expected);
		/* Only the first three blocks are there. */
		fake.n_blocks = 3;
		assert_int_equal(run(&rig, PROMPT, 3, logits), 3 * BLOCK);
		assert_same(logits, expected);
		assert_int_equal(cachelink_counts(rig.cache).blocks_refused, 0);
		rig_done(&rig);
		assert_int_equal(fake.n_open, 0);
	}
}

/*
 * A prompt of whole blocks: the last one is computed for the sake of its last token, and found
 * present.
 */
static void test_last_token_is_computed(void **state)
{
	float first[LLAMA_VOCAB];
	float logits[LLAMA_VOCAB];
	struct rig rig;

	fake_reset();
	rig_init(&rig, CODEC_Q8, 1, NULL);
	rig_connect(&rig);
	assert_int_equal(run(&rig, 3 * BLOCK, PROMPT, first), 0);
	assert_int_equal(run(&rig, 3 * BLOCK, PROMPT, logits), 2 * BLOCK);
	assert_same(logits, first);
	assert_int_equal(cachelink_counts(rig.cache).blocks_stored, 3);
	assert_int_equal(cachelink_counts(rig.cache).blocks_present, 1);
	assert_int_equal(run(&rig, 1, PROMPT, logits), 0);
	rig_done(&rig);
}

/* Another prompt with the same beginning shares the blocks up to the first token that differs. */
static void test_shared_prefix(void **state)
{
	float expected[LLAMA_VOCAB];
	float logits[LLAMA_VOCAB];
	struct rig rig;

	fake_reset();
	rig_init(&rig, CODEC_Q8, 1, NULL);
	rig.prompt[20] = 5;
	(void)run(&rig, PROMPT, PROMPT, expected);
	rig_connect(&rig);
	rig.prompt[20] = 6;
	(void)run(&rig, PROMPT, PROMPT, logits);
	rig.prompt[20] = 5;
	assert_int_equal(run(&rig, PROMPT, PROMPT, logits), 16);
	assert_same(logits, expected);
	rig_done(&rig);
}

static void test_keys(void **state)
{
	static const uint32_t tokens[] = { 1, 2, 3, 4 };
	struct cache_key a = cache_key_next(NULL, tokens, 4);
	struct cache_key b = cache_key_next(&a, tokens, 4);
	struct cache_key c = cache_key_next(NULL, tokens, 3);
	struct cache_key again = cache_key_next(NULL, tokens, 4);

	assert_memory_equal(&a, &again, sizeof(a));
	assert_memory_not_equal(&a, &b, sizeof(a));
	assert_memory_not_equal(&a, &c, sizeof(a));
}

/* The daemon dies at each call: the text is the same, and it is said once. */
static void test_lost(void **state)
{
	float expected[LLAMA_VOCAB];
	float logits[LLAMA_VOCAB];

	run_plain(CODEC_Q8, expected);
	for (unsigned call = 0; call < FAKE_CALLS; call++) {
		struct rig rig;
		unsigned before[FAKE_CALLS];

		fake_reset();
		rig_init(&rig, CODEC_Q8, 1, NULL);
		rig_connect(&rig);
		(void)run(&rig, 3 * BLOCK, PROMPT, logits);
		fake.broken[call] = -EPIPE;
		(void)run(&rig, PROMPT, PROMPT, logits);
		assert_same(logits, expected);
		assert_false(cachelink_alive(rig.cache));
		assert_int_equal(rig.n_notices, 1);
		memcpy(before, fake.n_calls, sizeof(before));
		assert_int_equal(run(&rig, PROMPT, PROMPT, logits), 0);
		assert_same(logits, expected);
		assert_int_equal(rig.n_notices, 1);
		assert_memory_equal(before, fake.n_calls, sizeof(before));
		rig_done(&rig);
	}
}

/* A block that dies while it is read is a miss, and so are those behind it. */
static void test_fetch_miss(void **state)
{
	static const int statuses[] = { KVC_MISS, KVC_PARTIAL, KVC_STALE, KVC_CORRUPT };
	float expected[LLAMA_VOCAB];
	float logits[LLAMA_VOCAB];
	struct rig rig;

	fake_reset();
	run_plain(CODEC_Q8, expected);
	rig_init(&rig, CODEC_Q8, 1, NULL);
	rig_connect(&rig);
	(void)run(&rig, PROMPT, PROMPT, logits);
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		fake.fetch_status = statuses[i];
		assert_int_equal(run(&rig, PROMPT, PROMPT, logits), BLOCK);
		assert_same(logits, expected);
	}
	assert_true(cachelink_alive(rig.cache));
	assert_int_equal(rig.n_notices, 0);
	rig_done(&rig);
}

/* No space: the rest of the sequence is not offered, the next sequence is. */
static void test_refused(void **state)
{
	float expected[LLAMA_VOCAB];
	float logits[LLAMA_VOCAB];
	struct rig rig;

	fake_reset();
	run_plain(CODEC_Q8, expected);
	rig_init(&rig, CODEC_Q8, 1, NULL);
	rig_connect(&rig);
	fake.refuse = KVC_NO_SPACE;
	(void)run(&rig, PROMPT, PROMPT, logits);
	assert_same(logits, expected);
	assert_int_equal(fake.n_calls[FAKE_SUBMIT], 1);
	assert_int_equal(cachelink_counts(rig.cache).blocks_refused, 1);
	fake.refuse = 0;
	(void)run(&rig, PROMPT, PROMPT, logits);
	assert_same(logits, expected);
	assert_int_equal(cachelink_counts(rig.cache).blocks_stored, PROMPT / BLOCK);
	assert_int_equal(rig.n_notices, 0);
	rig_done(&rig);
}

/* Staging memory for one block only: submissions wait for each other. */
static void test_staging_full(void **state)
{
	float logits[LLAMA_VOCAB];
	struct rig rig;

	fake_reset();
	fake.pending_max = 1;
	rig_init(&rig, CODEC_Q8, 1, NULL);
	rig_connect(&rig);
	(void)run(&rig, PROMPT, PROMPT, logits);
	assert_int_equal(cachelink_counts(rig.cache).blocks_stored, PROMPT / BLOCK);
	assert_int_equal(cachelink_counts(rig.cache).blocks_refused, 0);
	rig_done(&rig);
}

/* A value that a codec cannot hold leaves the whole block as it was. */
static void test_codec_fault(void **state)
{
	struct kvstore store = { .n_layers = 2,
				 .n_heads = 2,
				 .head_dim = 16,
				 .block_tokens = BLOCK,
				 .capacity = 16,
				 .codec_k = CODEC_Q8,
				 .codec_v = CODEC_Q8 };
	struct kvstore_fault fault;
	size_t n = 2 * 2 * 16 * 16;
	_cleanup_free_ float *kept = malloc(n * sizeof(float));

	assert_int_equal(kvstore_init(&store), 0);
	for (size_t i = 0; i < n; i++)
		store.k[i] = store.v[i] = (float)i * 0.37f;
	store.n_tokens = 16;
	store.v[kvstore_offset(&store, 1, 0, 3) + 7] = NAN;
	memcpy(kept, store.k, n * sizeof(float));
	assert_int_equal(kvstore_finish_block(&store, 0, &fault), CODEC_NONFINITE);
	assert_int_equal(fault.tensor, 'V');
	assert_int_equal(fault.layer, 1);
	assert_int_equal(fault.head, 0);
	assert_int_equal(fault.at.token, 3);
	assert_int_equal(fault.at.channel, 7);
	assert_memory_equal(kept, store.k, n * sizeof(float));
	assert_int_equal(kvstore_finish_block(&store, 1, &fault), 0);
	assert_memory_equal(kept, store.k, BLOCK * 16 * sizeof(float));
	assert_memory_not_equal(kept, store.k, n * sizeof(float));
	kvstore_done(&store);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_batch_threads_and_isa),
		cmocka_unit_test(test_codec_counts),
		cmocka_unit_test(test_prefix_from_cache),
		cmocka_unit_test(test_last_token_is_computed),
		cmocka_unit_test(test_shared_prefix),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_lost),
		cmocka_unit_test(test_fetch_miss),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_staging_full),
		cmocka_unit_test(test_codec_fault),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
