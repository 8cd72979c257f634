/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader: a client with several threads, each with a reader of its own, which at random find, match, fetch, and pin
 * blocks and hold them for a while. What is pinned is compared when it is pinned, and once more before it is unpinned.
 *
 * What must hold of bytes that were read:
 *  - if the block stands afterwards (kvc_block_check(), or kvc_fetch() said OK), they are the block's;
 *  - if it is pinned by a hazard, they are so even when it died meanwhile, unless the daemon ended the session before
 *    (`over` in control memory, which this test looks at behind the library's back).
 */
#include "tests/torture/torture.h"

#include "base/units.h"
#include "client/block.h"
#include "client/clock.h"
#include "client/reader.h"
#include "proto/layout.h"
#include "tests/e2e/wire.h"
#include "tests/lib/stumble.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 3
#define PINS_AT_ONCE 6
#define HOLDS 48     /* more than a record has hazards */
#define PINS_MAX 160 /* fewer records than all threads want together: one goes without at times */
#define HOLD_US_MAX 30000
#define LEASE_MS_MAX 40
#define FINDS 40
#define STUMBLE_AFTER_NS_MAX 150000
#define STUMBLE_NS_MAX 6000000

/* A pinned block. */
struct hold {
	kvc_block *block;
	struct pattern_block wanted;
	uint64_t until_ns;
	uint64_t sum;      /* of all bytes, when it was pinned */
	bool stale;        /* it was so at some check */
	unsigned n_tiles;
	struct kvc_tile tiles[PATTERN_TILES_MAX];
};

struct thread {
	struct worker *worker;
	kvc_space **spaces;
	kvc_reader *reader;
	struct stumble stumble;
	uint64_t random;
	unsigned n_holds;
	struct hold holds[HOLDS];
	float k[PATTERN_TENSOR_MAX];
	float v[PATTERN_TENSOR_MAX];
};

static uint64_t random_below(struct thread *thread, uint64_t n)
{
	return random_next(&thread->random) % n;
}

/* ---- Pinned blocks ---- */

/*
 * Whether the bytes read before this call must have been the block's. Of a hazard that holds whatever became of the
 * block, while the session stands.
 */
static bool must_hold(const struct hold *hold)
{
	bool stands = kvc_block_check(hold->block) == KVC_OK;

	return stands || (hold->block->record && !control_over(hold->block->record->control));
}

static void expect(const struct thread *thread, const struct hold *hold, bool right, const struct pattern_place *place,
		   const char *what)
{
	if (right)
		return;
	if (must_hold(hold))
		torture_wrong_place(thread->worker, &hold->wanted, hold->block->view.generation, place, what);
	tally_add(thread->worker->torture, TALLY_CHANGED, 1);
}

/*
 * The tile of a block that died after it was pinned, which the library does not hand out any more: the bytes are there
 * for those who had it before. Returns whether they are.
 */
static bool dead_tile(const kvc_block *block, char which, uint32_t layer, uint32_t head, struct kvc_tile *ret_tile)
{
	const struct page_schema *geometry = &block->geometry;
	uint32_t index = layer * block->head_groups + head / geometry->page_heads;
	const uint8_t *page = block_view_page(&block->arena->layout, &block->view, index, block->sizes.page);
	uint32_t offset, bytes;

	if (!page)
		return false;
	page_tile(&block->sizes, head % geometry->page_heads, which == 'V', &offset, &bytes);
	*ret_tile = (struct kvc_tile){
		.bytes = page + offset,
		.n = bytes,
		.codec = which == 'V' ? geometry->codec_v : geometry->codec_k,
		.tokens = block->view.tokens,
		.head_dim = which == 'V' ? geometry->head_dim_v : geometry->head_dim_k,
	};
	return true;
}

/* One tile. Returns whether it is there; it must be while must_hold(). */
static bool tile_take(const struct thread *thread, struct hold *hold, char which, uint32_t layer, uint32_t head)
{
	struct kvc_tile *tile = &hold->tiles[hold->n_tiles];
	int r = kvc_block_tile(hold->block, which, layer, head, tile);

	if (r == KVC_STALE) {
		hold->stale = true;
		if (!hold->block->record)
			return false;
		if (!dead_tile(hold->block, which, layer, head, tile)) {
			expect(thread, hold, false, &(struct pattern_place){ .which = which, .layer = layer },
			       "no page under a pin");
			return false;
		}
	} else if (r != KVC_OK) {
		torture_wrong(thread->worker, "kvc_block_tile of %s block %u: %d (%s)", hold->wanted.space->name,
			      hold->wanted.number, r, kvc_strerror(r));
	}
	hold->n_tiles++;
	return true;
}

static bool tiles_take(const struct thread *thread, struct hold *hold)
{
	const struct kvc_schema *schema = &hold->wanted.space->schema;

	hold->n_tiles = 0;
	for (uint32_t layer = 0; layer < schema->layers; layer++)
		for (uint32_t i = 0; i < 2 * schema->kv_heads; i++)
			if (!tile_take(thread, hold, i % 2 ? 'V' : 'K', layer, i / 2))
				return false;
	return true;
}

/* Compares every tile with what the block must be. */
static void tiles_compare(struct thread *thread, const struct hold *hold, const char *what)
{
	uint32_t heads = hold->wanted.space->schema.kv_heads;
	struct pattern_place place;

	for (unsigned i = 0; i < hold->n_tiles; i++)
		expect(thread, hold,
		       pattern_tile_holds(&hold->wanted, i % 2 ? 'V' : 'K', i / 2 / heads, i / 2 % heads,
					  &hold->tiles[i], &place),
		       &place, what);
	tally_add(thread->worker->torture, TALLY_TILES, hold->n_tiles);
}

static uint64_t tiles_sum(const struct hold *hold)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < hold->n_tiles; i++)
		sum = sum * 31 + kvp_page_checksum(hold->tiles[i].bytes, hold->tiles[i].n);
	return sum;
}

/* A block was pinned into the next free hold. It stays there, or has no bytes any more and is unpinned. */
static void hold_begin(struct thread *thread)
{
	struct hold *hold = &thread->holds[thread->n_holds];
	bool there;

	hold->stale = false;
	if (hold->block->view.generation % 2 != 0)
		torture_wrong_place(thread->worker, &hold->wanted, hold->block->view.generation,
				    &(struct pattern_place){ .which = '?' }, "pinned when it was dead");
	if (kvc_block_tokens(hold->block) != hold->wanted.tokens)
		expect(thread, hold, false, &(struct pattern_place){ .which = '?' }, "another number of tokens");
	there = tiles_take(thread, hold);
	tally_add(thread->worker->torture, TALLY_STALE, hold->stale);
	if (!there) {
		(void)kvc_unpin(hold->block);
		return;
	}
	hold->sum = tiles_sum(hold);
	tiles_compare(thread, hold, "just pinned");
	hold->until_ns = clock_now_ns(CLOCK_MONOTONIC) + random_below(thread, HOLD_US_MAX) * 1000;
	thread->n_holds++;
}

static void hold_look(struct thread *thread, struct hold *hold)
{
	if (!hold->stale && kvc_block_check(hold->block) != KVC_OK) {
		hold->stale = true;
		tally_add(thread->worker->torture, TALLY_STALE, 1);
	}
}

static void hold_end(struct thread *thread, unsigned i)
{
	struct hold *hold = &thread->holds[i];

	hold_look(thread, hold);
	tiles_compare(thread, hold, "before unpinning");
	expect(thread, hold, tiles_sum(hold) == hold->sum, &(struct pattern_place){ .which = '*' },
	       "another checksum than when it was pinned");
	(void)kvc_unpin(hold->block);
	*hold = thread->holds[--thread->n_holds];
	hold->wanted.key.bytes = hold->wanted.bytes;
}

/* Ends what was held long enough, and looks at one of the others. */
static void holds_visit(struct thread *thread)
{
	uint64_t now_ns = clock_now_ns(CLOCK_MONOTONIC);

	for (unsigned i = thread->n_holds; i-- > 0;)
		if (thread->holds[i].until_ns <= now_ns)
			hold_end(thread, i);
	if (thread->n_holds > 0)
		hold_look(thread, &thread->holds[random_below(thread, thread->n_holds)]);
}

/* ---- What it does ---- */

static void note_status(const struct thread *thread, int status, const char *call)
{
	switch (status) {
	case KVC_MISS:
	case KVC_PARTIAL:
		tally_add(thread->worker->torture, TALLY_MISSES, 1);
		break;
	case KVC_TOO_MANY:
		tally_add(thread->worker->torture, TALLY_TOO_MANY, 1);
		break;
	case KVC_STALE:
		tally_add(thread->worker->torture, TALLY_LATE, 1);
		break;
	case KVC_NO_SPACE: /* it is on the tier, and what is resident is pinned */
		tally_add(thread->worker->torture, TALLY_NO_SPACE, 1);
		break;
	case KVC_QUOTA:
	case KVC_STOPPING:
		break;
	default:
		torture_wrong(thread->worker, "%s: status %d (%s)", call, status, kvc_strerror(status));
	}
}

/* Finds blocks, and some that nobody ever stored. */
static void find_some(struct thread *thread)
{
	struct pattern_block block;

	for (unsigned i = 0; i < FINDS; i++) {
		unsigned space = worker_choose(&thread->random, &block);
		bool never = i % 8 == 0;
		int r;

		if (never)
			pattern_block_of(space, block.space->blocks + block.number, &block);
		r = kvc_find(thread->spaces[space], thread->reader, &block.key, NULL);
		if (never && (r == KVC_OK || r == KVC_PARTIAL))
			torture_wrong(thread->worker, "kvc_find: found %s block %u, which nobody stored",
				      block.space->name, block.number);
		if (r == KVC_MISS || r == KVC_PARTIAL || r == KVC_TOO_MANY)
			note_status(thread, r, "kvc_find");
		else if (worker_answered(thread->worker, r, "kvc_find"))
			tally_add(thread->worker->torture, TALLY_FINDS, 1);
		if (r == KVC_TOO_MANY)
			break;
	}
}

static void match_chain(struct thread *thread)
{
	struct pattern_block blocks[PATTERN_CHAIN];
	struct kvc_key keys[PATTERN_CHAIN];
	struct pattern_block chosen;
	unsigned space = worker_choose(&thread->random, &chosen);
	bool ask = random_below(thread, 8) == 0;
	size_t matched = PATTERN_CHAIN + 1;
	int r;

	for (uint32_t i = 0; i < PATTERN_CHAIN; i++) {
		pattern_block_of(space, chosen.number / PATTERN_CHAIN * PATTERN_CHAIN + i, &blocks[i]);
		keys[i] = blocks[i].key;
	}
	r = kvc_match(thread->spaces[space], ask ? NULL : thread->reader, keys, PATTERN_CHAIN, NULL, &matched);
	if (r == KVC_TOO_MANY)
		note_status(thread, r, "kvc_match");
	else if (worker_answered(thread->worker, r, "kvc_match")) {
		if (matched > PATTERN_CHAIN)
			torture_wrong(thread->worker, "kvc_match: %zu blocks of %d", matched, PATTERN_CHAIN);
		tally_add(thread->worker->torture, TALLY_MATCHES, matched > 0);
	}
}

/* Pins several blocks of one space, with the reader or by asking. */
static void pin_some(struct thread *thread)
{
	struct pattern_block blocks[PINS_AT_ONCE];
	struct kvc_key keys[PINS_AT_ONCE];
	kvc_block *pinned[PINS_AT_ONCE];
	int statuses[PINS_AT_ONCE];
	unsigned n = 1 + (unsigned)random_below(thread, PINS_AT_ONCE);
	unsigned space = worker_choose(&thread->random, &blocks[0]);
	bool ask = random_below(thread, 16) == 0;
	uint32_t ttl_ms = 1 + (uint32_t)random_below(thread, LEASE_MS_MAX);
	int r;

	for (unsigned i = 0; i < n; i++) {
		while (i > 0 && worker_choose(&thread->random, &blocks[i]) != space)
			;
		keys[i] = blocks[i].key;
	}
	r = ask ? kvc_lease(thread->spaces[space], keys, n, NULL, ttl_ms, pinned, statuses)
		: kvc_pin(thread->spaces[space], thread->reader, keys, n, NULL, pinned, statuses);
	if (!worker_answered(thread->worker, r, "kvc_pin"))
		return;
	for (unsigned i = 0; i < n; i++) {
		struct hold *hold = &thread->holds[thread->n_holds];

		if (statuses[i] != KVC_OK) {
			note_status(thread, statuses[i], "kvc_pin");
			continue;
		}
		tally_add(thread->worker->torture, ask ? TALLY_LEASES : TALLY_PINS, 1);
		hold->block = pinned[i];
		hold->wanted = blocks[i];
		hold->wanted.key.bytes = hold->wanted.bytes;
		hold_begin(thread);
	}
}

/*
 * Pins and unpins a block that comes and goes until the thread falls asleep somewhere on the way; what is pinned then
 * is held. So blocks die between any two instructions of the library.
 */
static void pin_and_stumble(struct thread *thread)
{
	struct hold *hold = &thread->holds[thread->n_holds];
	unsigned space = worker_choose_hot(&thread->random, &hold->wanted);
	int status = KVC_MISS;

	stumble_arm(&thread->stumble, 1 + (uint32_t)random_below(thread, STUMBLE_AFTER_NS_MAX),
		    (uint32_t)random_below(thread, STUMBLE_NS_MAX));
	do {
		int r;

		if (status != KVC_OK)
			space = worker_choose_hot(&thread->random, &hold->wanted);
		else
			hold->block = kvc_unpin(hold->block);
		r = kvc_pin(thread->spaces[space], thread->reader, &hold->wanted.key, 1, NULL, &hold->block, &status);
		if (!worker_answered(thread->worker, r, "kvc_pin"))
			status = KVC_MISS;
	} while (!stumble_happened());
	if (status != KVC_OK) {
		note_status(thread, status, "kvc_pin");
		return;
	}
	tally_add(thread->worker->torture, TALLY_PINS, 1);
	hold_begin(thread);
}

static void fetch_one(struct thread *thread)
{
	struct pattern_block block;
	struct pattern_place place;
	unsigned space = worker_choose(&thread->random, &block);
	bool ask = random_below(thread, 4) == 0;
	struct kvc_fetch fetch = {
		.key = block.key,
		.k = pattern_tensor(block.space, 'K', thread->k),
		.v = pattern_tensor(block.space, 'V', thread->v),
		.status = -1,
	};
	int r = kvc_fetch(thread->spaces[space], ask ? NULL : thread->reader, &fetch, 1);

	if (!worker_answered(thread->worker, r, "kvc_fetch"))
		return;
	if (fetch.status != KVC_OK) {
		note_status(thread, fetch.status, "kvc_fetch");
		return;
	}
	place = (struct pattern_place){ .which = '#', .got = (float)fetch.tokens, .wanted = (float)block.tokens };
	if (fetch.tokens != block.tokens || !pattern_holds(&block, 'K', thread->k, &place) ||
	    !pattern_holds(&block, 'V', thread->v, &place))
		torture_wrong_place(thread->worker, &block, 0, &place, ask ? "fetched by asking" : "fetched");
	tally_add(thread->worker->torture, TALLY_FETCHES, 1);
}

/* ---- Threads ---- */

static bool thread_begin(struct thread *thread, kvc_client *client)
{
	int r;

	do
		r = kvc_reader_open(client, &thread->reader);
	while (!worker_answered(thread->worker, r, "kvc_reader_open") && !torture_over(thread->worker->torture));
	return r == KVC_OK;
}

static void *thread_run(void *data)
{
	struct thread *thread = data;

	if (!stumble_begin(&thread->stumble))
		torture_wrong(thread->worker, "cannot make a timer");
	while (!torture_over(thread->worker->torture)) {
		uint64_t choice = random_below(thread, 16);

		if (choice < 5)
			find_some(thread);
		else if (choice < 6)
			match_chain(thread);
		else if (choice < 7 && thread->n_holds < HOLDS)
			pin_and_stumble(thread);
		else if (choice < 11 && thread->n_holds + PINS_AT_ONCE <= HOLDS)
			pin_some(thread);
		else
			fetch_one(thread);
		holds_visit(thread);
	}
	while (thread->n_holds > 0)
		hold_end(thread, thread->n_holds - 1);
	stumble_end(&thread->stumble);
	thread->reader = kvc_reader_close(thread->reader);
	return NULL;
}

static void threads_run(struct worker *worker, kvc_client *client, kvc_space **spaces, struct thread *threads)
{
	pthread_t ids[THREADS];
	unsigned n = 0;

	for (unsigned i = 0; i < THREADS; i++) {
		threads[i].worker = worker;
		threads[i].spaces = spaces;
		threads[i].random = random_next(&worker->random);
		if (!thread_begin(&threads[i], client))
			break;
		if (pthread_create(&ids[n], NULL, thread_run, &threads[i]) != 0)
			torture_wrong(worker, "cannot start a thread");
		n++;
	}
	for (unsigned i = 0; i < n; i++)
		(void)pthread_join(ids[i], NULL);
}

void torture_read(struct worker *worker)
{
	struct kvc_options options = {
		.struct_bytes = sizeof(options),
		.socket_path = worker->torture->socket_path,
		.client_name = "reader",
		.flags = KVC_READ_ONLY,
		.pins_max = PINS_MAX,
		.verify = worker->number % (KVC_VERIFY_ALWAYS + 1),
	};
	struct thread *threads = calloc(THREADS, sizeof(*threads));
	kvc_space *spaces[PATTERN_SPACES];
	kvc_client *client;

	if (!threads)
		torture_wrong(worker, "no memory");
	client = worker_open(worker, &options, spaces);
	if (client)
		threads_run(worker, client, spaces, threads);
	(void)kvc_close(client);
	free(threads);
}
