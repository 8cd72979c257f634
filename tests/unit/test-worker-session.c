/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sequence with and without a cache gives the same bits, and whatever the cache does, the run
 * goes on. Every test runs with a decoded and with a packed store; *state says which.
 */
#include "client/worker/session.h"

#include "tests/unit/test-worker-fake.h"

#include <math.h>

#define BLOCK FAKE_TOKENS
#define PROMPT 50
#define CAPACITY 80

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

static void rig_init(struct rig *rig, bool packed, enum codec_id codec, unsigned threads,
		     const char *isa)
{
	struct session_options options = { .capacity = CAPACITY,
					   .block_tokens = BLOCK,
					   .codec_k = codec,
					   .codec_v = codec,
					   .packed = packed,
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
	assert_int_equal(fake.n_pinned, 0);
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
	int batch = 0;

	session_begin(rig->session);
	fetched = session_fetch(rig->session, rig->prompt, n);
	for (uint32_t done = fetched; done < n; done += (uint32_t)batch) {
		batch = session_feed(rig->session, rig->prompt + done, n - done < most ? n - done : most);
		assert_true(batch > 0);
	}
	session_logits(rig->session, (uint32_t)batch - 1, 1, logits);
	if (rig->cache)
		cachelink_flush(rig->cache);
	return fetched;
}

/* The logits of the prompt without a cache. */
static void run_plain(bool packed, enum codec_id codec, float logits[LLAMA_VOCAB])
{
	struct rig rig;

	rig_init(&rig, packed, codec, 1, "scalar");
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
	bool packed = *(bool *)*state;
	static const char *const isas[] = { "scalar", "avx2", "avx512" };
	float expected[LLAMA_VOCAB];
	float logits[LLAMA_VOCAB];

	run_plain(packed, CODEC_Q8, expected);
	for (size_t i = 0; i < sizeof(isas) / sizeof(isas[0]); i++)
		for (unsigned threads = 1; threads <= 3; threads += 2)
			for (uint32_t most = 1; most <= BLOCK; most += 3) {
				struct rig rig;

				if (!dot_kernels_select(isas[i]))
					continue;
				rig_init(&rig, packed, CODEC_Q8, threads, isas[i]);
				(void)run(&rig, PROMPT, most, logits);
				assert_same(logits, expected);
				rig_done(&rig);
			}
}

static void test_codec_counts(void **state)
{
	bool packed = *(bool *)*state;
	float exact[LLAMA_VOCAB];
	float q8[LLAMA_VOCAB];
	float q4[LLAMA_VOCAB];
	double error8 = 0;
	double error4 = 0;

	run_plain(packed, CODEC_F32, exact);
	run_plain(packed, CODEC_Q8, q8);
	run_plain(packed, CODEC_Q4, q4);
	for (size_t i = 0; i < LLAMA_VOCAB; i++) {
		error8 += fabs((double)q8[i] - (double)exact[i]);
		error4 += fabs((double)q4[i] - (double)exact[i]);
	}
	assert_true(error8 > 0);
	assert_true(error4 > 4 * error8);
}

static void test_prefix_from_cache(void **state)
{
	bool packed = *(bool *)*state;
	static const enum codec_id codecs[] = { CODEC_F32, CODEC_F16,	CODEC_Q8,    CODEC_Q5,
						CODEC_Q4,  CODEC_T6,	CODEC_T8G32, CODEC_T4G16 };
	float expected[LLAMA_VOCAB];
	float logits[LLAMA_VOCAB];

	for (size_t c = 0; c < sizeof(codecs) / sizeof(codecs[0]); c++) {
		struct rig rig;

		fake_reset();
		run_plain(packed, codecs[c], expected);
		rig_init(&rig, packed, codecs[c], 2, NULL);
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
	bool packed = *(bool *)*state;
	float first[LLAMA_VOCAB];
	float logits[LLAMA_VOCAB];
	struct rig rig;

	fake_reset();
	rig_init(&rig, packed, CODEC_Q8, 1, NULL);
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
	bool packed = *(bool *)*state;
	float expected[LLAMA_VOCAB];
	float logits[LLAMA_VOCAB];
	struct rig rig;

	fake_reset();
	rig_init(&rig, packed, CODEC_Q8, 1, NULL);
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
	bool packed = *(bool *)*state;
	float expected[LLAMA_VOCAB];
	float logits[LLAMA_VOCAB];

	run_plain(packed, CODEC_Q8, expected);
	for (unsigned call = 0; call < FAKE_CALLS; call++) {
		struct rig rig;
		unsigned before[FAKE_CALLS];

		if (call == (packed ? FAKE_FETCH : FAKE_PIN))
			continue; /* the other form's */
		fake_reset();
		rig_init(&rig, packed, CODEC_Q8, 1, NULL);
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
	bool packed = *(bool *)*state;
	static const int statuses[] = { KVC_MISS, KVC_PARTIAL, KVC_STALE, KVC_CORRUPT };
	float expected[LLAMA_VOCAB];
	float logits[LLAMA_VOCAB];
	struct rig rig;

	fake_reset();
	run_plain(packed, CODEC_Q8, expected);
	rig_init(&rig, packed, CODEC_Q8, 1, NULL);
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

/* A quota of two pinned blocks: a packed store gets all the same, two at a time. */
static void test_pin_quota(void **state)
{
	bool packed = *(bool *)*state;
	float expected[LLAMA_VOCAB];
	float logits[LLAMA_VOCAB];
	struct rig rig;

	fake_reset();
	rig_init(&rig, packed, CODEC_Q8, 1, NULL);
	rig_connect(&rig);
	(void)run(&rig, PROMPT, PROMPT, expected);
	fake.pinned_max = 2;
	assert_int_equal(run(&rig, PROMPT, PROMPT, logits), PROMPT / BLOCK * BLOCK);
	assert_same(logits, expected);
	rig_done(&rig);
}

/* No space: the rest of the sequence is not offered, the next sequence is. */
static void test_refused(void **state)
{
	bool packed = *(bool *)*state;
	float expected[LLAMA_VOCAB];
	float logits[LLAMA_VOCAB];
	struct rig rig;

	fake_reset();
	run_plain(packed, CODEC_Q8, expected);
	rig_init(&rig, packed, CODEC_Q8, 1, NULL);
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
	bool packed = *(bool *)*state;
	float logits[LLAMA_VOCAB];
	struct rig rig;

	fake_reset();
	fake.pending_max = 1;
	rig_init(&rig, packed, CODEC_Q8, 1, NULL);
	rig_connect(&rig);
	(void)run(&rig, PROMPT, PROMPT, logits);
	assert_int_equal(cachelink_counts(rig.cache).blocks_stored, PROMPT / BLOCK);
	assert_int_equal(cachelink_counts(rig.cache).blocks_refused, 0);
	rig_done(&rig);
}

static bool decoded_store = false;
static bool packed_store = true;

#define BOTH(test)                                                                                 \
	{ #test "_decoded", test, NULL, NULL, &decoded_store },                                    \
	{ #test "_packed", test, NULL, NULL, &packed_store }

int main(void)
{
	static const struct CMUnitTest tests[] = {
		BOTH(test_any_batch_threads_and_isa),
		BOTH(test_codec_counts),
		BOTH(test_prefix_from_cache),
		BOTH(test_last_token_is_computed),
		BOTH(test_shared_prefix),
		BOTH(test_lost),
		BOTH(test_fetch_miss),
		BOTH(test_pin_quota),
		BOTH(test_refused),
		BOTH(test_staging_full),
		cmocka_unit_test(test_keys),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
