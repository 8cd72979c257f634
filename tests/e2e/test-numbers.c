/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Well-formed requests with wrong numbers, and well-formed requests with flipped bits, given to the
 * real daemon. A number that is out of range is answered RANGE (or INVALID) and changes nothing.
 */
#include "tests/e2e/wire.h"
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "codec/codec.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define STAGING (64u << 10)
#define MUTATIONS 12000

struct bench {
	struct scene scene;
	struct test_peer peer;
	struct wire_space space;
};

/* A client with a space of 4 pages a block. */
static void bench_connect(struct bench *bench)
{
	Kvpaged__V1__Schema schema;

	peer_connect(&bench->peer, bench->scene.daemon.socket_path);
	peer_hello(&bench->peer, STAGING);
	wire_schema(&schema, 2, 2);
	wire_open(&bench->peer, "numbers", &schema, &bench->space);
}

static void bench_begin(struct bench *bench)
{
	scene_begin(&bench->scene, NULL);
	bench_connect(bench);
}

static void bench_end(struct bench *bench)
{
	peer_close(&bench->peer);
	scene_end(&bench->scene);
}

static ProtobufCBinaryData key_of(const char *text)
{
	return (ProtobufCBinaryData){ .data = (uint8_t *)text, .len = strlen(text) };
}

/* ---- Append ---- */

struct append_numbers {
	uint64_t offset;
	uint32_t index, length, tokens, space_id;
};

static unsigned append_one(struct bench *bench, const struct append_numbers *numbers,
			   uint64_t checksum)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Append append = KVPAGED__V1__APPEND__INIT;
	Kvpaged__V1__PageRef ref = KVPAGED__V1__PAGE_REF__INIT;
	Kvpaged__V1__PageRef *refs[] = { &ref };

	ref.offset = numbers->offset;
	ref.index = numbers->index;
	ref.length = numbers->length;
	ref.checksum = checksum;
	append.space_id = numbers->space_id;
	append.tokens = numbers->tokens;
	append.key = key_of("k");
	append.n_pages = 1;
	append.pages = refs;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_APPEND;
	request.append = &append;
	return peer_call_status(&bench->peer, &request);
}

static void test_append_numbers(void **state)
{
	struct bench bench;

	bench_begin(&bench);
	{
		const uint32_t bytes = bench.space.page_bytes, count = bench.space.page_count,
			       id = bench.space.id;
		const struct {
			struct append_numbers numbers;
			unsigned status;
		} cases[] = {
			{ { STAGING, 0, bytes, 16, id }, KVP_RANGE },
			{ { STAGING - bytes + 1, 0, bytes, 16, id }, KVP_RANGE },
			{ { UINT64_MAX, 0, bytes, 16, id }, KVP_RANGE },
			{ { UINT64_MAX - bytes + 1, 0, bytes, 16, id }, KVP_RANGE }, /* sum: 0 */
			{ { UINT64_C(1) << 63, 0, bytes, 16, id }, KVP_RANGE },
			{ { (uint64_t)-1 - UINT32_MAX, 0, UINT32_MAX, 16, id }, KVP_RANGE },
			{ { 0, count, bytes, 16, id }, KVP_RANGE },
			{ { 0, UINT32_MAX, bytes, 16, id }, KVP_RANGE },
			{ { 0, 0, 0, 16, id }, KVP_RANGE },
			{ { 0, 0, bytes - 1, 16, id }, KVP_RANGE },
			{ { 0, 0, bytes + 1, 16, id }, KVP_RANGE },
			{ { 0, 0, UINT32_MAX, 16, id }, KVP_RANGE },
			{ { 0, 0, bytes, 15, id }, KVP_RANGE }, /* not the length of 15 tokens */
			{ { 0, 0, bytes, 0, id }, KVP_RANGE },
			{ { 0, 0, bytes, 17, id }, KVP_RANGE },
			{ { 0, 0, bytes, UINT32_MAX, id }, KVP_RANGE },
			{ { 0, 0, bytes, 16, 0 }, KVP_NO_SPACE_NAMED },
			{ { 0, 0, bytes, 16, id + 1 }, KVP_NO_SPACE_NAMED },
			{ { 0, 0, bytes, 16, KVP_SPACES_MAX + 1 }, KVP_NO_SPACE_NAMED },
			{ { 0, 0, bytes, 16, UINT32_MAX }, KVP_NO_SPACE_NAMED },
		};

		for (unsigned i = 0; i < COUNT(cases); i++) {
			unsigned status = append_one(&bench, &cases[i].numbers, 0);

			if (status != cases[i].status)
				fail_msg("case %u: %s", i, status_name(status));
		}
		/* The last bytes that there are will do. */
		assert_int_equal(
			append_one(&bench,
				   &(struct append_numbers){ STAGING - bytes, count - 1, bytes, 16,
							     id },
				   kvp_page_checksum(bench.peer.staging + STAGING - bytes, bytes)),
			KVP_OK);
		assert_int_equal(peer_counter(&bench.peer, "pages"), 1);
	}
	bench_end(&bench);
}

static unsigned append_n_pages(struct bench *bench, size_t n)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Append append = KVPAGED__V1__APPEND__INIT;
	Kvpaged__V1__PageRef ref = KVPAGED__V1__PAGE_REF__INIT;
	_cleanup_free_ Kvpaged__V1__PageRef **refs = calloc(n + 1, sizeof(*refs));

	assert_non_null(refs);
	for (size_t i = 0; i < n; i++)
		refs[i] = &ref;
	ref.length = bench->space.page_bytes;
	ref.checksum = 1;
	append.space_id = bench->space.id;
	append.tokens = bench->space.tokens;
	append.key = key_of("n");
	append.n_pages = n;
	append.pages = refs;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_APPEND;
	request.append = &append;
	return peer_call_status(&bench->peer, &request);
}

static void test_page_counts(void **state)
{
	struct bench bench;

	bench_begin(&bench);
	assert_int_equal(append_n_pages(&bench, 0), KVP_RANGE);
	assert_int_equal(append_n_pages(&bench, KVP_PAGES_PER_BLOCK_MAX + 1), KVP_RANGE);
	/* More than the block has, one page again and again: each is looked at, none is right. */
	assert_int_equal(append_n_pages(&bench, KVP_PAGES_PER_BLOCK_MAX), KVP_OK);
	assert_int_equal(peer_counter(&bench.peer, "blocks"), 0);
	bench_end(&bench);
}

/* ---- ranges and lists ---- */

static void test_ranges(void **state)
{
	static const struct {
		uint32_t layer_begin, layer_count, head_begin, head_count;
		unsigned status;
	} cases[] = {
		{ 0, 2, 0, 2, KVP_OK },			 { 1, 1, 1, 1, KVP_OK },
		{ 0, 3, 0, 0, KVP_RANGE },		 { 2, 1, 0, 0, KVP_RANGE },
		{ UINT32_MAX, 2, 0, 0, KVP_RANGE },	 { 1, UINT32_MAX, 0, 0, KVP_RANGE },
		{ UINT32_MAX, UINT32_MAX, 0, 0, KVP_RANGE }, { 0, 0, 0, 3, KVP_RANGE },
		{ 0, 0, UINT32_MAX, 1, KVP_RANGE },	 { 0, 0, 1, UINT32_MAX, KVP_RANGE },
	};
	ProtobufCBinaryData key = key_of("k");
	struct bench bench;

	bench_begin(&bench);
	for (unsigned i = 0; i < COUNT(cases); i++) {
		Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
		Kvpaged__V1__Match match = KVPAGED__V1__MATCH__INIT;
		Kvpaged__V1__Range range = KVPAGED__V1__RANGE__INIT;
		unsigned status;

		range.layer_begin = cases[i].layer_begin;
		range.layer_count = cases[i].layer_count;
		range.head_begin = cases[i].head_begin;
		range.head_count = cases[i].head_count;
		match.space_id = bench.space.id;
		match.n_keys = 1;
		match.keys = &key;
		match.range = &range;
		request.verb_case = KVPAGED__V1__REQUEST__VERB_MATCH;
		request.match = &match;
		status = peer_call_status(&bench.peer, &request);
		if (status != cases[i].status)
			fail_msg("case %u: %s", i, status_name(status));
	}
	bench_end(&bench);
}

static unsigned match_n_keys(struct bench *bench, size_t n)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Match match = KVPAGED__V1__MATCH__INIT;
	_cleanup_free_ ProtobufCBinaryData *keys = calloc(n, sizeof(*keys));

	assert_non_null(keys);
	for (size_t i = 0; i < n; i++)
		keys[i] = key_of("k");
	match.space_id = bench->space.id;
	match.n_keys = n;
	match.keys = keys;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_MATCH;
	request.match = &match;
	return peer_call_status(&bench->peer, &request);
}

static unsigned list_from(struct bench *bench, uint64_t cursor, uint32_t limit)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__List list = KVPAGED__V1__LIST__INIT;

	list.space_id = bench->space.id;
	list.cursor = cursor;
	list.limit = limit;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_LIST;
	request.list = &list;
	return peer_call_status(&bench->peer, &request);
}

static unsigned pin_for(struct bench *bench, uint32_t priority, uint64_t ttl_ms)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Pin pin = KVPAGED__V1__PIN__INIT;
	ProtobufCBinaryData key = key_of("k");

	pin.space_id = bench->space.id;
	pin.n_keys = 1;
	pin.keys = &key;
	pin.priority = priority;
	pin.ttl_ms = ttl_ms;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_PIN;
	request.pin = &pin;
	return peer_call_status(&bench->peer, &request);
}

static void test_counts_and_times(void **state)
{
	Kvpaged__V1__FetchItem item;
	struct bench bench;

	bench_begin(&bench);
	assert_int_equal(match_n_keys(&bench, KVP_ITEMS_MAX), KVP_OK);
	assert_int_equal(match_n_keys(&bench, KVP_ITEMS_MAX + 1), KVP_RANGE);
	assert_int_equal(match_n_keys(&bench, 100000), KVP_RANGE);
	assert_int_equal(list_from(&bench, UINT64_MAX, UINT32_MAX), KVP_OK);
	assert_int_equal(list_from(&bench, UINT64_C(1) << 32, 1), KVP_OK);
	assert_int_equal(pin_for(&bench, 0, 1000), KVP_RANGE);
	assert_int_equal(pin_for(&bench, KVP_PIN_PRIORITY_MAX + 1, 1000), KVP_RANGE);
	assert_int_equal(pin_for(&bench, UINT32_MAX, 1000), KVP_RANGE);
	assert_int_equal(pin_for(&bench, 1, 0), KVP_RANGE);
	assert_int_equal(pin_for(&bench, 1, UINT64_MAX),
			 KVP_RANGE); /* in nanoseconds it would wrap */
	/* A lease for ever is one for the longest time. */
	assert_int_equal(wire_append(&bench.peer, &bench.space, "k", 0, 4, 1), KVP_OK);
	assert_int_equal(wire_fetch(&bench.peer, bench.space.id, "k", UINT32_MAX, &item), KVP_OK);
	assert_int_equal(wire_release(&bench.peer, item.lease_id), KVP_OK);
	bench_end(&bench);
}

/* ---- schemas ---- */

/* Each field out of its range alone, and products that do not fit 32 bits. */
static void test_schemas(void **state)
{
	static const struct {
		uint32_t layers, kv_heads, dim_k, dim_v, tokens, codec_k, codec_v, page_heads;
	} cases[] = {
		{ 0, 2, 64, 64, 16, CODEC_Q8, CODEC_Q8, 0 },
		{ KVP_LAYERS_MAX + 1, 2, 64, 64, 16, CODEC_Q8, CODEC_Q8, 0 },
		{ UINT32_MAX, 2, 64, 64, 16, CODEC_Q8, CODEC_Q8, 0 },
		{ 2, 0, 64, 64, 16, CODEC_Q8, CODEC_Q8, 0 },
		{ 2, UINT32_MAX, 64, 64, 16, CODEC_Q8, CODEC_Q8, 0 },
		{ KVP_LAYERS_MAX, KVP_KV_HEADS_MAX, 64, 64, 16, CODEC_Q8, CODEC_Q8, 1 },
		{ 65536, 65536, 64, 64, 16, CODEC_Q8, CODEC_Q8, 1 },
		{ 2, 2, 0, 64, 16, CODEC_Q8, CODEC_Q8, 0 },
		{ 2, 2, 60, 64, 16, CODEC_Q8, CODEC_Q8, 0 },
		{ 2, 2, KVP_HEAD_DIM_MAX + 8, 64, 16, CODEC_Q8, CODEC_Q8, 0 },
		{ 2, 2, UINT32_MAX - 7, 64, 16, CODEC_Q8, CODEC_Q8, 0 },
		{ 2, 2, 64, UINT32_MAX - 7, 16, CODEC_Q8, CODEC_Q8, 0 },
		{ 2, 2, 64, 64, 0, CODEC_Q8, CODEC_Q8, 0 },
		{ 2, 2, 64, 64, KVP_BLOCK_TOKENS_MAX + 1, CODEC_Q8, CODEC_Q8, 0 },
		{ 2, 2, 64, 64, UINT32_MAX, CODEC_Q8, CODEC_Q8, 0 },
		{ 2, 2, 64, 64, 16, 0, CODEC_Q8, 0 },
		{ 2, 2, 64, 64, 16, CODEC_Q8, 20, 0 },
		{ 2, 2, 64, 64, 16, UINT32_MAX, CODEC_Q8, 0 },
		{ 2, 2, 64, 64, 16, CODEC_Q8, CODEC_Q8, 3 },
		{ 2, 2, 64, 64, 16, CODEC_Q8, CODEC_Q8, UINT32_MAX },
		{ 2, 1024, 256, 256, 256, CODEC_F32, CODEC_F32, 1024 }, /* a page of half a GiB */
	};
	struct bench bench;

	bench_begin(&bench);
	for (unsigned i = 0; i < COUNT(cases); i++) {
		Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
		Kvpaged__V1__OpenSpace open = KVPAGED__V1__OPEN_SPACE__INIT;
		Kvpaged__V1__Schema schema;
		unsigned status;

		wire_schema(&schema, cases[i].layers, cases[i].kv_heads);
		schema.head_dim_k = cases[i].dim_k;
		schema.head_dim_v = cases[i].dim_v;
		schema.block_tokens = cases[i].tokens;
		schema.codec_k = cases[i].codec_k;
		schema.codec_v = cases[i].codec_v;
		schema.page_heads = cases[i].page_heads;
		open.name = key_of("schema");
		open.schema = &schema;
		request.verb_case = KVPAGED__V1__REQUEST__VERB_OPEN_SPACE;
		request.open_space = &open;
		status = peer_call_status(&bench.peer, &request);
		if (status != KVP_INVALID)
			fail_msg("case %u: %s", i, status_name(status));
	}
	assert_int_equal(peer_counter(&bench.peer, "spaces"), 1);
	bench_end(&bench);
}

/* ---- flipped bits ---- */

struct corpus {
	uint8_t body[16][256];
	size_t bytes[16];
	size_t n;
};

static void corpus_add(struct corpus *corpus, Kvpaged__V1__Request__VerbCase verb, void *message)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;

	request.id = 1;
	request.verb_case = verb;
	request.stats = message; /* a union of pointers */
	assert_true(corpus->n < COUNT(corpus->body));
	assert_true(kvpaged__v1__request__get_packed_size(&request) <= sizeof(corpus->body[0]));
	corpus->bytes[corpus->n] = kvpaged__v1__request__pack(&request, corpus->body[corpus->n]);
	corpus->n++;
}

#define VERB(name) KVPAGED__V1__REQUEST__VERB_##name

static void corpus_add_keyed(struct corpus *corpus, const struct bench *bench)
{
	Kvpaged__V1__Range range = KVPAGED__V1__RANGE__INIT;
	ProtobufCBinaryData keys[] = { key_of("a"), key_of("b") };
	Kvpaged__V1__Fetch fetch = KVPAGED__V1__FETCH__INIT;
	Kvpaged__V1__Match match = KVPAGED__V1__MATCH__INIT;
	Kvpaged__V1__Delete delete = KVPAGED__V1__DELETE__INIT;
	Kvpaged__V1__Touch touch = KVPAGED__V1__TOUCH__INIT;
	Kvpaged__V1__Pin pin = KVPAGED__V1__PIN__INIT;
	Kvpaged__V1__Unpin unpin = KVPAGED__V1__UNPIN__INIT;

	range.layer_count = 1;
	range.head_count = 1;
	fetch.space_id = match.space_id = delete.space_id = touch.space_id = pin.space_id =
		unpin.space_id = bench->space.id;
	fetch.n_keys = match.n_keys = delete.n_keys = touch.n_keys = pin.n_keys = unpin.n_keys =
		COUNT(keys);
	fetch.keys = match.keys = delete.keys = touch.keys = pin.keys = unpin.keys = keys;
	fetch.range = match.range = &range;
	pin.priority = 3;
	pin.ttl_ms = 1000;
	corpus_add(corpus, VERB(FETCH), &fetch);
	corpus_add(corpus, VERB(MATCH), &match);
	corpus_add(corpus, VERB(DELETE), &delete);
	corpus_add(corpus, VERB(TOUCH), &touch);
	corpus_add(corpus, VERB(PIN), &pin);
	corpus_add(corpus, VERB(UNPIN), &unpin);
}

/* Two pages of a block; half of them make it whole if nothing is flipped. */
static void corpus_add_append(struct corpus *corpus, const struct bench *bench, const char *key,
			      uint32_t first)
{
	Kvpaged__V1__Append append = KVPAGED__V1__APPEND__INIT;
	Kvpaged__V1__PageRef refs[2] = { KVPAGED__V1__PAGE_REF__INIT, KVPAGED__V1__PAGE_REF__INIT };
	Kvpaged__V1__PageRef *pages[] = { &refs[0], &refs[1] };

	for (uint32_t i = 0; i < 2; i++) {
		refs[i].index = first + i;
		refs[i].length = bench->space.page_bytes;
		refs[i].checksum = kvp_page_checksum(bench->peer.staging, bench->space.page_bytes);
	}
	append.space_id = bench->space.id;
	append.key = key_of(key);
	append.tokens = bench->space.tokens;
	append.n_pages = 2;
	append.pages = pages;
	corpus_add(corpus, VERB(APPEND), &append);
}

/* One valid request of each verb but Hello. */
static void corpus_fill(struct corpus *corpus, const struct bench *bench)
{
	Kvpaged__V1__Schema schema;
	Kvpaged__V1__OpenSpace open = KVPAGED__V1__OPEN_SPACE__INIT;
	Kvpaged__V1__Release release = KVPAGED__V1__RELEASE__INIT;
	Kvpaged__V1__Stats stats = KVPAGED__V1__STATS__INIT;
	Kvpaged__V1__Evict evict = KVPAGED__V1__EVICT__INIT;
	Kvpaged__V1__List list = KVPAGED__V1__LIST__INIT;
	Kvpaged__V1__DropSpace drop = KVPAGED__V1__DROP_SPACE__INIT;
	Kvpaged__V1__Config config = KVPAGED__V1__CONFIG__INIT;
	uint64_t lease = UINT64_C(1) << 32;

	wire_schema(&schema, 2, 2);
	open.name = key_of("other");
	open.schema = &schema;
	drop.name = key_of("other");
	release.n_lease_ids = 1;
	release.lease_ids = &lease;
	evict.blocks = 1;
	list.space_id = bench->space.id;
	corpus_add_append(corpus, bench, "a", 0);
	corpus_add_append(corpus, bench, "a", 2);
	corpus_add_append(corpus, bench, "b", 1);
	corpus_add_keyed(corpus, bench);
	corpus_add(corpus, VERB(OPEN_SPACE), &open);
	corpus_add(corpus, VERB(RELEASE), &release);
	corpus_add(corpus, VERB(STATS), &stats);
	corpus_add(corpus, VERB(EVICT), &evict);
	corpus_add(corpus, VERB(LIST), &list);
	corpus_add(corpus, VERB(DROP_SPACE), &drop);
	corpus_add(corpus, VERB(CONFIG), &config);
}

/*
 * Leaves it as it is, flips bits, sets bytes, cuts it, or puts the end of another behind it. The
 * new length, not 0.
 */
static size_t mutate(uint8_t *body, size_t n, const struct corpus *corpus, uint64_t *seed)
{
	uint64_t r = random_next(seed);
	size_t other = (r >> 32) % corpus->n;
	size_t tail = (r >> 40) % corpus->bytes[other];

	switch (r & 15) {
	case 0:
		return (r >> 8) % n + 1;
	case 1:
		memcpy(body + n, corpus->body[other] + tail, corpus->bytes[other] - tail);
		return n + corpus->bytes[other] - tail;
	case 2:
		body[(r >> 8) % n] = 0xff;
		return n;
	case 3:
	case 4:
	case 5:
	case 6:
		return n; /* so that there is something for the others to find */
	default:
		for (uint64_t flips = (r >> 4 & 1) + 1; flips > 0; flips--) {
			uint64_t at = random_next(seed);

			body[at % n] ^= (uint8_t)(1u << (at >> 32 & 7));
		}
		return n;
	}
}

/* Each is answered or ends the session, whatever it says; nothing else happens. */
static void test_mutated_requests(void **state)
{
	struct corpus corpus = { .n = 0 };
	const char *text = getenv("KVP_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 10) : 1;
	unsigned answered = 0, ended = 0, fine = 0;
	struct bench bench;

	(void)printf("KVP_SEED=%" PRIu64 "\n", seed);
	bench_begin(&bench);
	corpus_fill(&corpus, &bench);
	for (unsigned i = 0; i < MUTATIONS; i++) {
		uint8_t body[512];
		size_t which = random_next(&seed) % corpus.n;
		size_t n;
		Kvpaged__V1__Reply *reply;

		memcpy(body, corpus.body[which], corpus.bytes[which]);
		n = mutate(body, corpus.bytes[which], &corpus, &seed);
		assert_int_equal(wire_send_body(&bench.peer, body, n), 0);
		reply = peer_receive(&bench.peer, NULL, NULL);
		assert_non_null(reply); /* PROTOCOL comes with an answer, too */
		fine += reply->status == KVP_OK;
		answered++;
		if (reply->status == KVP_PROTOCOL) {
			peer_expect_end(&bench.peer);
			peer_close(&bench.peer);
			bench_connect(&bench);
			ended++;
		}
		kvpaged__v1__reply__free_unpacked(reply, NULL);
	}
	(void)printf("%u answered, %u of them OK, %u sessions ended\n", answered, fine, ended);
	/* The mutations are of a kind that reaches everything. */
	assert_int_equal(answered, MUTATIONS);
	assert_true(ended > MUTATIONS / 50 && fine > MUTATIONS / 10 &&
		    answered - ended - fine > MUTATIONS / 50);
	assert_true(peer_counter(&bench.peer, "append_pages_total") > 0);
	scene_assert_memory(&bench.scene, 16 * MIB);
	bench_end(&bench);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_append_numbers), cmocka_unit_test(test_page_counts),
	cmocka_unit_test(test_ranges),	       cmocka_unit_test(test_counts_and_times),
	cmocka_unit_test(test_schemas),	       cmocka_unit_test(test_mutated_requests),
};

int main(void)
{
	return harness_run(tests, COUNT(tests));
}
