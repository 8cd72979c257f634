/* SPDX-License-Identifier: Apache-2.0 */
/* Readers: finding, matching, pinning and fetching without asking, and what bounds it. */
#include "tests/e2e/reader-rig.h"
#include "tests/lib/harness.h"

#include "proto/control.h"
#include "proto/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_hits_and_misses(void **state)
{
	struct rig rig;
	kvc_block *block;
	struct kvc_key keys[3];
	size_t matched = 99;
	uint64_t requests;

	rig_start(&rig);
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	assert_int_equal(append_block(rig.space, "b", "a", 2, 17), KVC_OK);
	requests = counter_of(rig.client, "requests_total");
	keys[0] = key_of("a");
	keys[1] = key_of("b");
	keys[2] = key_of("c");
	assert_int_equal(find(&rig, "a"), KVC_OK);
	assert_int_equal(find(&rig, "c"), KVC_MISS);
	assert_int_equal(kvc_match(rig.space, rig.reader, keys, 3, NULL, &matched), KVC_OK);
	assert_int_equal(matched, 2);
	assert_int_equal(kvc_match(rig.space, rig.reader, keys + 2, 1, NULL, &matched), KVC_OK);
	assert_int_equal(matched, 0);
	block = pin(&rig, "b");
	assert_int_equal(kvc_block_tokens(block), 17);
	assert_true(expect_block(block, 2));
	assert_null(kvc_unpin(block));
	block = NULL;
	assert_int_equal(pin_try(&rig, "c", NULL, &block), KVC_MISS);
	assert_int_equal(fetch(&rig, "a", 1), KVC_OK);
	/* None of all that was a request, but the last look at the counter; a miss of a fetch is one. */
	assert_int_equal(counter_of(rig.client, "requests_total"), requests + 1);
	assert_int_equal(fetch(&rig, "c", 1), KVC_MISS);
	assert_int_equal(counter_of(rig.client, "requests_total"), requests + 3);
	rig_stop(&rig);
}

/* The miss-ratio curve hears of what was read, but neither of look-ups nor of other pages than a block's first. */
static void test_uses(void **state)
{
	static const struct kvc_range apart[] = { { .layer_begin = 1 }, { .head_begin = 2 }, { .layer_count = 1 } };
	struct rig rig, watcher;
	struct kvc_key key = key_of("a");
	kvc_block *block;
	size_t matched;

	rig_start(&rig);
	watcher.d = rig.d;
	rig_join(&watcher, &(struct kvc_options){ 0 });
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(find(&rig, "a"), KVC_OK);
		assert_int_equal(kvc_match(rig.space, rig.reader, &key, 1, NULL, &matched), KVC_OK);
		assert_int_equal(pin_try(&rig, "a", &apart[i], &block), KVC_OK);
		assert_null(kvc_unpin(block));
	}
	assert_int_equal(fetch(&rig, "a", 1), KVC_OK);
	kvc_close(rig.client); /* then all that it read is known */
	while (counter_of(watcher.client, "sessions") > 1)
		pause_ms(1);
	assert_int_equal(counter_of(watcher.client, "local_reads_total"), 7);
	assert_int_equal(counter_of(watcher.client, "mrc_references_total"), 3);
	assert_int_equal(counter_of(watcher.client, "mrc_hits_one_total"), 2);
	rig_stop(&watcher);
}

/* Without a reader the same functions ask. */
static void test_without_reader(void **state)
{
	struct rig rig;
	struct rig asking;
	kvc_block *block;
	uint64_t requests;

	rig_start(&rig);
	asking = rig;
	asking.reader = NULL;
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	requests = counter_of(rig.client, "requests_total");
	assert_int_equal(fetch(&asking, "a", 1), KVC_OK);
	block = pin(&asking, "a");
	assert_int_equal(counter_of(rig.client, "leases"), 1);
	assert_true(counter_of(rig.client, "requests_total") >= requests + 4);
	kvc_unpin(block);
	rig_stop(&rig);
}

static void test_bad_arguments(void **state)
{
	struct kvc_key key = key_of("a"), empty = { "", 0 };
	struct kvc_range beyond = { .layer_begin = 3 };
	struct kvc_options too_many = { .pins_max = KVP_HAZARDS * KVP_RECORDS_MAX + 1 };
	struct kvc_options strange = { .verify = 3 };
	kvc_client *client = NULL;
	kvc_block *block;
	kvc_reader *reader;
	struct rig rig, other;
	size_t matched;
	int status;

	rig_start(&rig);
	other.d = rig.d;
	rig_join(&other, &(struct kvc_options){ 0 });
	too_many.struct_bytes = strange.struct_bytes = sizeof(strange);
	too_many.socket_path = strange.socket_path = rig.d.socket_path;
	assert_int_equal(kvc_open(&too_many, &client, NULL, 0), KVC_INVALID);
	assert_int_equal(kvc_open(&strange, &client, NULL, 0), KVC_INVALID);
	assert_int_equal(kvc_reader_open(NULL, &reader), -EINVAL);
	assert_int_equal(kvc_reader_open(rig.client, NULL), -EINVAL);
	assert_null(kvc_reader_close(NULL));
	assert_int_equal(kvc_find(NULL, rig.reader, &key, NULL), -EINVAL);
	assert_int_equal(kvc_find(rig.space, NULL, &key, NULL), -EINVAL);
	assert_int_equal(kvc_find(rig.space, rig.reader, NULL, NULL), -EINVAL);
	assert_int_equal(kvc_find(rig.space, rig.reader, &empty, NULL), KVC_INVALID);
	assert_int_equal(kvc_find(rig.space, rig.reader, &key, &beyond), KVC_RANGE);
	assert_int_equal(kvc_find(rig.space, other.reader, &key, NULL), -EINVAL);
	assert_non_null(strstr(kvc_error(rig.client), "two clients"));
	assert_int_equal(kvc_match(rig.space, other.reader, &key, 1, NULL, &matched), -EINVAL);
	assert_int_equal(kvc_match(rig.space, rig.reader, &key, 1, &beyond, &matched), KVC_RANGE);
	assert_int_equal(kvc_pin(rig.space, rig.reader, &key, 1, &beyond, &block, &status), KVC_RANGE);
	assert_int_equal(kvc_pin(rig.space, rig.reader, &empty, 1, NULL, &block, &status), KVC_INVALID);
	assert_int_equal(kvc_pin(rig.space, rig.reader, &key, 1, NULL, NULL, &status), -EINVAL);
	assert_int_equal(kvc_pin(rig.space, other.reader, &key, 1, NULL, &block, &status), -EINVAL);
	assert_int_equal(kvc_pin(rig.space, rig.reader, NULL, 0, NULL, NULL, NULL), KVC_OK);
	kvc_close(other.client);
	rig_stop(&rig);
}

/* Blocks with pages missing: found for ranges whose pages are there. */
static void test_ranges(void **state)
{
	struct kvc_range low = { .head_count = 2 }, high = { .head_begin = 2 };
	struct kvc_append half = { .key = key_of("a"), .tokens = 32, .range = low };
	struct kvc_key key = key_of("a");
	struct box k, v;
	struct rig rig;
	kvc_block *block = NULL;
	struct kvc_tile tile;

	rig_start(&rig);
	box_new(&k, LAYOUT_HEAD_MAJOR, KVC_F32, 3, 2, 32, 64);
	box_new(&v, LAYOUT_HEAD_MAJOR, KVC_F32, 3, 2, 32, 64);
	box_fill(&k, 5, 'K', 0, 0);
	box_fill(&v, 5, 'V', 0, 0);
	half.k = k.tensor;
	half.v = v.tensor;
	assert_int_equal(kvc_append(rig.space, &half, 1), KVC_OK);
	assert_int_equal(half.status, KVC_OK);
	assert_int_equal(kvc_find(rig.space, rig.reader, &key, NULL), KVC_PARTIAL);
	assert_int_equal(kvc_find(rig.space, rig.reader, &key, &low), KVC_OK);
	assert_int_equal(kvc_find(rig.space, rig.reader, &key, &high), KVC_PARTIAL);
	assert_int_equal(pin_try(&rig, "a", NULL, &block), KVC_PARTIAL);
	assert_int_equal(fetch(&rig, "a", 5), KVC_PARTIAL);
	assert_int_equal(pin_try(&rig, "a", &low, &block), KVC_OK);
	assert_int_equal(kvc_block_tile(block, 'K', 2, 1, &tile), KVC_OK);
	assert_int_equal(kvc_block_tile(block, 'K', 2, 2, &tile), KVC_PARTIAL);
	kvc_unpin(block);
	box_free(&k);
	box_free(&v);
	rig_stop(&rig);
}

/* The limit of pins: said, and felt by nobody but who is at it. */
static void test_pins_max(void **state)
{
	enum { PINS = 2 * KVP_HAZARDS };
	struct kvc_options options = { .pins_max = PINS - 5 };
	kvc_block *blocks[PINS], *more = NULL;
	kvc_reader *second = NULL;
	struct kvc_info info;
	struct rig rig;

	test_daemon_start(&rig.d, NULL);
	rig_join(&rig, &options);
	assert_int_equal(kvc_client_info(rig.client, &info), KVC_OK);
	assert_int_equal(info.pins_max, PINS);
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	for (unsigned i = 0; i < PINS; i++)
		blocks[i] = pin(&rig, "a");
	assert_int_equal(pin_try(&rig, "a", NULL, &more), KVC_TOO_MANY);
	assert_int_equal(find(&rig, "a"), KVC_TOO_MANY);
	assert_int_equal(kvc_reader_open(rig.client, &second), KVC_TOO_MANY);
	assert_int_equal(fetch(&rig, "a", 1), KVC_OK); /* by asking */
	for (unsigned i = 0; i < PINS; i++)
		assert_true(expect_block(blocks[i], 1));
	blocks[40] = kvc_unpin(blocks[40]);
	blocks[40] = pin(&rig, "a");
	for (unsigned i = 0; i < PINS; i++)
		kvc_unpin(blocks[i]);
	for (unsigned i = 0; i < 1000; i++)
		kvc_unpin(pin(&rig, "a"));
	assert_null(kvc_reader_close(rig.reader));
	assert_int_equal(kvc_reader_open(rig.client, &rig.reader), KVC_OK);
	assert_int_equal(kvc_reader_open(rig.client, &second), KVC_OK);
	rig_stop(&rig);
}

static void test_no_control_memory(void **state)
{
	struct rig rig;
	struct kvc_options options = { .staging_bytes = KVP_STAGING_BYTES_MIN };
	char bytes[32];

	(void)snprintf(bytes, sizeof(bytes), "%u", (unsigned)KVP_STAGING_BYTES_MIN);
	test_daemon_start(&rig.d, "--limits-staging-bytes-per-uid", bytes, NULL);
	rig.client = open_with(&rig.d, &options);
	rig.reader = NULL;
	rig.space = open_space(rig.client, "s", &(struct kvc_schema){ .model = "m", .dtype = KVC_F32, .layers = 3,
		.kv_heads = 4, .head_dim_k = 64, .head_dim_v = 64, .block_tokens = 32, .codec_k = KVC_CODEC_F32,
		.codec_v = KVC_CODEC_F32 });
	assert_int_equal(kvc_reader_open(rig.client, &rig.reader), KVC_QUOTA);
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	assert_int_equal(fetch(&rig, "a", 1), KVC_OK);
	rig_stop(&rig);
}

/* What a reader pins is neither evicted nor overwritten; what it reads stays in the cache longer. */
static void test_pressure(void **state)
{
	struct rig rig, writer;
	kvc_block *block, *deleted;
	struct kvc_key key = key_of("deleted");

	rig_start(&rig);
	writer.d = rig.d;
	rig_join(&writer, &(struct kvc_options){ 0 });
	assert_int_equal(append_block(writer.space, "pinned", NULL, 1, 32), KVC_OK);
	assert_int_equal(append_block(writer.space, "deleted", NULL, 2, 32), KVC_OK);
	assert_int_equal(append_block(writer.space, "hot", NULL, 3, 32), KVC_OK);
	assert_int_equal(append_block(writer.space, "cold", NULL, 4, 32), KVC_OK);
	block = pin(&rig, "pinned");
	deleted = pin(&rig, "deleted");
	assert_int_equal(kvc_delete(writer.space, &key, 1, NULL), KVC_OK);
	for (uint32_t i = 0; i < 600; i++) { /* twice what the arena holds */
		char name[16];

		(void)snprintf(name, sizeof(name), "n%u", i);
		assert_int_equal(append_block(writer.space, name, NULL, i, 32), KVC_OK);
		assert_int_equal(fetch(&rig, "hot", 3), KVC_OK);
		if (i % 100 == 0)
			assert_true(expect_block(block, 1));
	}
	assert_int_equal(find(&rig, "cold"), KVC_MISS);
	assert_int_equal(find(&rig, "pinned"), KVC_OK);
	assert_true(expect_block(block, 1));
	assert_int_equal(kvc_block_check(deleted), KVC_STALE);
	assert_int_equal(counter_of(rig.client, "blocks_limbo"), 1);
	kvc_unpin(block);
	kvc_unpin(deleted);
	while (counter_of(rig.client, "blocks_limbo") > 0)
		pause_ms(5);
	kvc_close(writer.client);
	rig_stop(&rig);
}

/* ---- Checksums ---- */

/* The arena, writable: the daemon's own descriptor of it, as root or its user can open it. */
static int arena_fd(const struct test_daemon *d)
{
	for (int fd = 0; fd < 64; fd++) {
		char path[64], target[64] = "";

		(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)d->pid, fd);
		if (readlink(path, target, sizeof(target) - 1) > 0 && strstr(target, "kvpaged-arena"))
			return open(path, O_RDWR | O_CLOEXEC);
	}
	return -1;
}

/* Flips a bit of the first page that begins with these bytes; a second call flips it back. */
static void flip(const struct test_daemon *d, const uint8_t *begin, size_t n)
{
	uint8_t *buffer = malloc(4096);
	int fd = arena_fd(d);
	off_t at = 2 << 20;
	bool found = false;

	assert_non_null(buffer);
	assert_true(fd >= 0);
	for (; !found && pread(fd, buffer, 4096, at) == 4096; at += 512) {
		if (memcmp(buffer, begin, n) != 0)
			continue;
		found = true;
		buffer[n] ^= 4;
		assert_int_equal(pwrite(fd, buffer + n, 1, at + (off_t)n), 1);
	}
	assert_true(found);
	(void)close(fd);
	free(buffer);
}

static void verify_case(const struct test_daemon *d, uint32_t mode, int read_before, int after_flip)
{
	struct rig rig = { .d = *d };
	struct kvc_fetch wanted = { .key = key_of("a") };
	struct box k;
	struct kvc_tile tile;
	kvc_block *block;
	float begin[16];

	rig_join(&rig, &(struct kvc_options){ .verify = mode });
	for (uint32_t c = 0; c < 16; c++)
		begin[c] = value_at(1, 'K', 0, 0, 0, c);
	box_new(&k, LAYOUT_HEAD_MAJOR, KVC_F32, 3, 4, 32, 64);
	wanted.k = k.tensor;
	for (int asked = 0; asked < 2; asked++) {
		kvc_reader *reader = asked ? NULL : rig.reader;

		if (read_before) {
			assert_int_equal(kvc_fetch(rig.space, reader, &wanted, 1), KVC_OK);
			assert_int_equal(wanted.status, KVC_OK);
		}
		flip(d, (const uint8_t *)begin, sizeof(begin));
		assert_int_equal(kvc_fetch(rig.space, reader, &wanted, 1), KVC_OK);
		assert_int_equal(wanted.status, after_flip);
		block = pin(&rig, "a");
		assert_int_equal(kvc_block_tile(block, 'K', 0, 0, &tile), after_flip);
		assert_int_equal(kvc_block_tile(block, 'K', 1, 0, &tile), KVC_OK);
		kvc_unpin(block);
		flip(d, (const uint8_t *)begin, sizeof(begin));
	}
	box_free(&k);
	kvc_close(rig.client);
}

static void test_verify(void **state)
{
	struct rig rig;

	rig_start(&rig);
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	verify_case(&rig.d, KVC_VERIFY_NEVER, 1, KVC_OK);
	verify_case(&rig.d, KVC_VERIFY_FIRST, 0, KVC_CORRUPT);
	verify_case(&rig.d, KVC_VERIFY_FIRST, 1, KVC_OK); /* it was right when it was looked at */
	verify_case(&rig.d, KVC_VERIFY_ALWAYS, 1, KVC_CORRUPT);
	rig_stop(&rig);
}

/* ---- Threads ---- */

struct worker {
	struct rig rig;
	unsigned seed;
	unsigned hits;
};

static void *worker_run(void *data)
{
	struct worker *worker = data;
	struct rig *rig = &worker->rig;

	for (unsigned i = 0; i < 400; i++) {
		uint32_t which = (worker->seed + i * 7) % 24;
		kvc_block *block = NULL;
		char key[16];

		(void)snprintf(key, sizeof(key), "w%u", which);
		if (pin_try(rig, key, NULL, &block) == KVC_OK && expect_block(block, which))
			worker->hits++;
		kvc_unpin(block);
	}
	return NULL;
}

/* A reader a thread on one client, while blocks come and go by requests on the same client. */
static void test_threads(void **state)
{
	enum { THREADS = 3 };
	struct worker workers[THREADS];
	pthread_t threads[THREADS];
	struct rig rig;
	char key[16];

	rig_start(&rig);
	for (unsigned i = 0; i < 24; i++) {
		(void)snprintf(key, sizeof(key), "w%u", i);
		assert_int_equal(append_block(rig.space, key, NULL, i, 32), KVC_OK);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ .rig = rig, .seed = i };
		assert_int_equal(kvc_reader_open(rig.client, &workers[i].rig.reader), KVC_OK);
		assert_int_equal(pthread_create(&threads[i], NULL, worker_run, &workers[i]), 0);
	}
	for (unsigned i = 0; i < 200; i++) {
		struct kvc_key gone;

		(void)snprintf(key, sizeof(key), "w%u", i % 24);
		(void)append_block(rig.space, key, NULL, i % 24, 32);
		(void)snprintf(key, sizeof(key), "w%u", (i * 5 + 3) % 24);
		gone = key_of(key);
		if (i % 3 == 0)
			assert_int_equal(kvc_delete(rig.space, &gone, 1, NULL), KVC_OK);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_true(workers[i].hits > 0);
	}
	rig_stop(&rig);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_hits_and_misses),
	cmocka_unit_test(test_uses),
	cmocka_unit_test(test_without_reader),
	cmocka_unit_test(test_bad_arguments),
	cmocka_unit_test(test_ranges),
	cmocka_unit_test(test_pins_max),
	cmocka_unit_test(test_no_control_memory),
	cmocka_unit_test(test_pressure),
	cmocka_unit_test(test_verify),
	cmocka_unit_test(test_threads),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
