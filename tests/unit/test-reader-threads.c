/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both sides of reading without a system call in one process, for the thread sanitizer: the daemon's core in one
 * thread, which appends and deletes in an arena of few blocks, so that numbers, descriptors, page maps and slots are
 * used again all the time; and the client's readers in others, on a client made by hand around the same arena and
 * control memory.
 *
 * What the sanitizer sees: whether every two plain accesses to a byte, one of them a write, are ordered by releases and
 * acquires that met. There are two such ways, and all plain reads and writes of shared memory go over them:
 *  - The core writes a descriptor, then its generation (release); a reader loads the generation (acquire), and only
 *    then, and only while its hazard names the block, reads the descriptor. Likewise pages and the flags of their map
 *    entry.
 *  - A reader reads, then clears its hazard (release); the core's scan loads the hazard (acquire), and only then writes
 *    what it buries. Where the scan finds the same hazard set again, that is a store by the same thread, which
 *    carries the release on.
 *
 * What it does not see: fences. That reader and core cannot both overlook each other (hazard stored, generation loaded;
 * generation stored, hazard loaded) rests on a full fence on either side. To the sanitizer a program without them is
 * as good, and only bad luck shows that it is not: then the reader reads what the core writes, which is a race and
 * most likely wrong bytes. docs/memory-model.md says why that cannot be.
 *
 * Reads without a pin (a look-up before an append), and reads under a pin whose session is over, do race: what was read
 * is thrown away when the generation changed. They are no part of this test; nobody here is silent for long.
 */
#include "base/units.h"
#include "client/client.h"
#include "client/kvclient.h"
#include "client/reader.h"
#include "client/space.h"
#include "tests/lib/core-rig.h"
#include "tests/lib/harness.h"
#include "tests/lib/stumble.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define THREADS 2
#define RECORDS 8
#define KEYS 72
#define CHAIN 3
#define BLOCKS 40 /* of the arena */
#define PINS 4    /* at once */
#define STEPS 4000        /* of the core, at least */
#define STEPS_MAX 400000
#define PINNED 20000      /* by readers, at least, while it steps */
#define STUMBLE_AFTER_NS_MAX 1000000
#define STUMBLE_NS_MAX 5000000
#define LAYERS 4
#define HEADS 2
#define TOKENS 16

/*
 * What a client has after Hello, without a daemon at the other end of its socket. The library is the shared one, of
 * which only the public functions can be called: inside it there are names that the core has too.
 */
struct half_client {
	struct kvc_client client;
	struct kvc_space space;
	struct arena arena;
	struct control *control;
	int other_end;
};

struct readers {
	struct half_client *half;
	_Atomic bool stop;
	_Atomic uint64_t pinned;
	_Atomic uint64_t stale;
	_Atomic uint64_t missed;
	_Atomic uint32_t wrong;
};

struct reader_thread {
	struct readers *readers;
	pthread_t id;
	uint64_t random;
	char names[KEYS][8];
};

static uint32_t random_below(uint64_t *state, uint32_t n)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*state >> 33) % n;
}

static uint8_t fill_of(unsigned key)
{
	return (uint8_t)(key + 1);
}

static struct arena_layout layout_of(const struct rig *rig)
{
	const struct kvp_arena_header *header = rig->arena;

	return (struct arena_layout){
		.base = rig->arena,
		.bytes = rig->arena_bytes,
		.incarnation = header->incarnation,
		.hash_seed = header->hash_seed,
		.buckets = (const void *)((const uint8_t *)rig->arena + header->index_offset),
		.buckets_count = header->buckets_count,
		.blocks = (const void *)((const uint8_t *)rig->arena + header->blocks_offset),
		.blocks_count = header->blocks_count,
		.extents_offset = header->extents_offset,
	};
}

static void rpc_make(struct rpc *rpc, int socket)
{
	rpc->socket = socket;
	rpc->timeout_ms = 1000;
	rpc->request_bytes_max = KVP_FRAME_BYTES_MAX;
	rpc->in_flight_max = 1;
	list_init(&rpc->pending);
	frame_reader_init(&rpc->reader, KVP_FRAME_BYTES_MAX);
}

static void half_client_make(struct half_client *half, const struct rig *rig, const struct rig_peer *peer,
			     uint32_t space_id)
{
	struct kvc_client *client = &half->client;
	int ends[2];

	*half = (struct half_client){ .arena = { .refs = 1, .layout = layout_of(rig) } };
	half->control = calloc(1, sizeof(*half->control) + RECORDS * sizeof(half->control->free[0]));
	assert_non_null(half->control);
	half->control->refs = 1;
	half->control->header = peer->control;
	half->control->records = RECORDS;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	half->other_end = ends[1];
	assert_int_equal(pthread_mutex_init(&client->lock, NULL), 0);
	list_init(&client->spaces);
	list_init(&client->blocks);
	list_init(&client->readers);
	list_init(&client->finished);
	rpc_make(&client->connection.rpc, ends[0]);
	client->connection.rpc.words = &client->words;
	client->connection.arena = &half->arena;
	client->connection.control = half->control;
	client->verify.mode = KVC_VERIFY_ALWAYS;
	half->space = (struct kvc_space){
		.client = client,
		.id = space_id,
		.geometry = { .layers = LAYERS, .kv_heads = HEADS, .head_dim_k = 64, .head_dim_v = 64,
			      .block_tokens = TOKENS, .codec_k = KVC_CODEC_Q8, .codec_v = KVC_CODEC_Q8 },
	};
	assert_null(page_schema_complete(&half->space.geometry));
	half->space.head_groups = page_head_groups(&half->space.geometry);
	half->space.page_count = page_count(&half->space.geometry);
	half->space.sizes = page_sizes(&half->space.geometry, TOKENS);
}

/* Its readers are closed. */
static void half_client_end(struct half_client *half)
{
	assert_int_equal(half->arena.refs, 1);
	assert_int_equal(half->control->refs, 1);
	frame_reader_deinit(&half->client.connection.rpc.reader);
	assert_int_equal(pthread_mutex_destroy(&half->client.lock), 0);
	(void)close(half->client.connection.rpc.socket);
	(void)close(half->other_end);
	free(half->control);
}

/* ---- Readers ---- */

static void compare(struct readers *readers, const struct kvc_tile *tile, unsigned key, const kvc_block *block)
{
	const uint8_t *bytes = tile->bytes;

	/* All equal to the first. At once, since for the sanitizer each access costs as much as a call. */
	if (bytes[0] == fill_of(key) && memcmp(bytes, bytes + 1, tile->n - 1) == 0)
		return;
	for (size_t i = 0; i < tile->n; i++) {
		if (bytes[i] == fill_of(key))
			continue;
		if (atomic_fetch_add(&readers->wrong, 1) == 0)
			(void)fprintf(stderr, "key %u, block %u, generation %" PRIu64 ": byte %zu is %u, not %u\n",
				      key, block->view.number, block->view.generation, i, bytes[i], fill_of(key));
		return;
	}
}

/* Reads every byte of a pinned block, which is right whether the block lives on or not. */
static void read_block(struct readers *readers, const kvc_block *block, unsigned key)
{
	struct kvc_tile tiles[LAYERS * HEADS * 2];
	unsigned n = 0;

	for (uint32_t layer = 0; layer < LAYERS; layer++)
		for (uint32_t i = 0; i < 2 * HEADS; i++) {
			int r = kvc_block_tile(block, i % 2 ? 'V' : 'K', layer, i / 2, &tiles[n]);

			n += r == KVC_OK;
			if (r != KVC_OK && r != KVC_STALE)
				(void)atomic_fetch_add(&readers->wrong, 1);
		}
	for (unsigned i = 0; i < n; i++)
		compare(readers, &tiles[i], key, block);
	if (kvc_block_check(block) != KVC_OK)
		(void)atomic_fetch_add(&readers->stale, 1);
}

static void pin_some(struct reader_thread *thread, kvc_reader *reader)
{
	struct readers *readers = thread->readers;
	kvc_block *blocks[PINS];
	int statuses[PINS];
	unsigned numbers[PINS];
	struct kvc_key keys[PINS];
	size_t n = 1 + random_below(&thread->random, PINS);

	for (size_t i = 0; i < n; i++) {
		numbers[i] = random_below(&thread->random, KEYS);
		keys[i].bytes = thread->names[numbers[i]];
		keys[i].n = strlen(thread->names[numbers[i]]);
	}
	if (kvc_pin(&readers->half->space, reader, keys, n, NULL, blocks, statuses) != KVC_OK) {
		(void)atomic_fetch_add(&readers->wrong, 1);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (!blocks[i]) {
			(void)atomic_fetch_add(&readers->missed, 1);
			continue;
		}
		(void)atomic_fetch_add(&readers->pinned, 1);
		if (blocks[i]->view.generation % 2 != 0)
			(void)atomic_fetch_add(&readers->wrong, 1);
		read_block(readers, blocks[i], numbers[i]);
	}
	for (size_t i = 0; i < n; i++)
		(void)kvc_unpin(blocks[i]);
}

static void *reader_run(void *data)
{
	struct reader_thread *thread = data;
	struct readers *readers = thread->readers;
	kvc_reader *reader = NULL;
	struct stumble stumble;

	if (!stumble_begin(&stumble) || kvc_reader_open(&readers->half->client, &reader) != KVC_OK) {
		(void)atomic_fetch_add(&readers->wrong, 1);
		return NULL;
	}
	stumble_arm(&stumble, 1, 1);
	while (!atomic_load_explicit(&readers->stop, memory_order_relaxed)) {
		const char *name = thread->names[random_below(&thread->random, KEYS)];
		struct kvc_key key = { .bytes = name, .n = strlen(name) };
		size_t matched = 0;

		if (stumble_happened())
			stumble_arm(&stumble, 1 + random_below(&thread->random, STUMBLE_AFTER_NS_MAX),
				    random_below(&thread->random, STUMBLE_NS_MAX));
		(void)kvc_find(&readers->half->space, reader, &key, NULL);
		(void)kvc_match(&readers->half->space, reader, &key, 1, NULL, &matched);
		pin_some(thread, reader);
	}
	stumble_end(&stumble);
	(void)kvc_reader_close(reader);
	return NULL;
}

/* ---- The core ---- */

static void write_some(struct rig *rig, struct rig_peer *writer, uint32_t space_id, uint32_t page_bytes,
		       struct readers *readers)
{
	uint64_t random = 7;
	char key[8], parent[8];

	for (unsigned step = 0; step < STEPS_MAX; step++) {
		unsigned number = random_below(&random, KEYS);
		bool whole = random_below(&random, 4) > 0;

		(void)snprintf(key, sizeof(key), "k%u", number);
		(void)snprintf(parent, sizeof(parent), "k%u", number - 1);
		if (random_below(&random, 8) == 0) {
			(void)rig_delete(writer, space_id, key);
		} else {
			const char *above = number % CHAIN > 0 ? parent : NULL;
			uint32_t pages = whole ? LAYERS : LAYERS / 2;

			(void)rig_append(writer, space_id, key, above, TOKENS, page_bytes, 0, pages, fill_of(number));
			if (!whole)
				(void)rig_append(writer, space_id, key, above, TOKENS, page_bytes, pages, pages,
						 fill_of(number));
		}
		if (step % 4 == 0)
			rig_advance_ms(rig, 1);
		if (step > STEPS && atomic_load(&readers->pinned) > PINNED)
			break;
		if (atomic_load(&readers->wrong) > 0)
			break;
	}
}

static void test_core_and_readers(void **state)
{
	static const struct core_limits limits = { .pin_grace_ms = 1u << 30 };
	struct reader_thread threads[THREADS] = { 0 };
	Kvpaged__V1__OpenSpaceReply opened;
	struct readers readers = { 0 };
	struct half_client half;
	struct rig_peer *writer, *peer;
	uint32_t space_id;
	struct rig rig;

	rig_start(&rig, 8 << 20, BLOCKS, &limits);
	writer = rig_connect(&rig, 0, 0, 64 << 10);
	peer = rig_connect_reader(&rig, 1, 0, 0, RECORDS);
	space_id = rig_open_small(writer, &opened);
	assert_int_equal(rig_open_small(peer, NULL), space_id);
	half_client_make(&half, &rig, peer, space_id);
	assert_int_equal(half.space.page_count, opened.page_count);
	assert_int_equal(half.space.sizes.page, opened.page_bytes);
	readers.half = &half;
	for (unsigned i = 0; i < THREADS; i++) {
		threads[i].readers = &readers;
		threads[i].random = i;
		for (unsigned k = 0; k < KEYS; k++)
			(void)snprintf(threads[i].names[k], sizeof(threads[i].names[k]), "k%u", k);
		assert_int_equal(pthread_create(&threads[i].id, NULL, reader_run, &threads[i]), 0);
	}
	write_some(&rig, writer, space_id, opened.page_bytes, &readers);
	atomic_store(&readers.stop, true);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i].id, NULL), 0);
	(void)printf("%" PRIu64 " pinned, %" PRIu64 " of them died meanwhile, %" PRIu64 " missed; %" PRIu64
		     " evicted, %" PRIu64 " deleted\n",
		     atomic_load(&readers.pinned), atomic_load(&readers.stale), atomic_load(&readers.missed),
		     rig_counter(writer, "evictions_capacity_total"), rig_counter(writer, "deleted_total"));
	assert_int_equal(atomic_load(&readers.wrong), 0);
	/* Otherwise it shows nothing. */
	assert_true(atomic_load(&readers.pinned) > PINNED);
	assert_true(atomic_load(&readers.stale) > 0);
	assert_true(rig_counter(writer, "evictions_capacity_total") > STEPS / 20);
	assert_true(rig_counter(writer, "deleted_total") > 0);
	/* Nothing is pinned any more, and nobody was hung up on. */
	assert_null(peer->hung_up);
	rig_advance_ms(&rig, 10000);
	assert_int_equal(rig_counter(writer, "blocks_limbo"), 0);
	assert_int_equal(rig_counter(writer, "blocks_pinned"), 0);
	assert_true(rig_counter(writer, "local_reads_total") >= atomic_load(&readers.pinned));
	half_client_end(&half);
	rig_stop(&rig);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_core_and_readers),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
