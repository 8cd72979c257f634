/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics read from an arena that the test writes: what is right comes back, what makes no sense is left out, and a
 * space that another takes the place of is never read as half of each.
 */
#include "client/look.h"
#include "proto/limits.h"
#include "tests/lib/harness.h"
#include "tests/lib/stumble.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_BYTES KVP_ARENA_BYTES_MIN
#define SPACES 8u
#define LOOKS 40000u
#define STUMBLE_AFTER_NS 4000u /* at most: about as long as a look takes */
#define STUMBLE_NS 20000u

struct scene {
	struct kvp_arena_header *header;
	struct kvp_counters *counters;
	struct kvp_space_entry *spaces;
};

static uint64_t aligned(uint64_t offset)
{
	return (offset + 4095) & ~UINT64_C(4095);
}

static void scene_make(struct scene *scene)
{
	uint8_t *base = aligned_alloc(4096, ARENA_BYTES);
	uint64_t spaces = KVP_HEADER_BYTES + aligned(sizeof(struct kvp_counters));
	uint64_t index = spaces + aligned(SPACES * sizeof(struct kvp_space_entry));

	assert_non_null(base);
	memset(base, 0, ARENA_BYTES);
	scene->header = (void *)base;
	scene->counters = (void *)(base + KVP_HEADER_BYTES);
	scene->spaces = (void *)(base + spaces);
	*scene->header = (struct kvp_arena_header){
		.magic = KVP_ARENA_MAGIC,
		.version = KVP_LAYOUT_VERSION,
		.header_bytes = KVP_HEADER_BYTES,
		.arena_bytes = ARENA_BYTES,
		.incarnation = 5,
		.counters_offset = KVP_HEADER_BYTES,
		.spaces_offset = spaces,
		.index_offset = index,
		.blocks_offset = index + 4096,
		.extents_offset = KVP_EXTENT_BYTES,
		.counters_count = KVP_COUNTERS,
		.spaces_count = SPACES,
		.buckets_count = 1,
		.blocks_count = 1,
		.extents_count = 3,
	};
}

static int look(const struct scene *scene, struct kvc_stats **ret_stats)
{
	struct arena_layout layout;

	assert_null(arena_layout_read(scene->header, ARENA_BYTES, &layout));
	return look_snapshot(&layout, "1.2.3", ret_stats);
}

/* A space all of whose texts and numbers are made of one letter. */
static void entry_write(struct kvp_space_entry *entry, char letter, uint16_t n)
{
	entry->dtype = (uint8_t)letter;
	entry->layers = (uint8_t)letter;
	entry->page_heads = (uint8_t)letter;
	entry->name_bytes = entry->model_bytes = n;
	entry->revision_bytes = n / 2;
	memset(entry->name, letter, n);
	memset(entry->model, letter, n);
	memset(entry->revision, letter, n / 2);
	atomic_store_explicit(&entry->state, KVP_SPACE_LIVE, memory_order_release);
}

static void test_numbers(void **state)
{
	struct kvc_stats *stats;
	struct scene scene;
	unsigned verbs = 0;

	scene_make(&scene);
	atomic_store(&scene.counters->requests_total, 7);
	atomic_store(&scene.counters->request_seconds[KVP_VERB_FETCH].buckets[21], 3);
	atomic_store(&scene.counters->request_seconds[KVP_VERB_FETCH].sum_ns, 99);
	entry_write(&scene.spaces[3], 'a', KVP_NAME_BYTES_MAX);
	atomic_store(&scene.spaces[3].tokens, 11);
	atomic_store(&scene.spaces[3].logical_f16_bytes, 100);
	entry_write(&scene.spaces[0], 'b', 1);
	assert_int_equal(look(&scene, &stats), 0);
	assert_int_equal(stats->incarnation, 5);
	assert_string_equal(stats->server_version, "1.2.3");
	assert_int_equal(kvc_stats_counter(stats, "requests_total"), 7);
	for (size_t i = 0; i < stats->n_histograms; i++) {
		const struct kvc_histogram *histogram = &stats->histograms[i];
		bool fetch = strcmp(histogram->label, "fetch") == 0;

		verbs += strcmp(histogram->name, "request_seconds") == 0;
		assert_int_equal(histogram->buckets[21], fetch ? 3 : 0);
		assert_int_equal(histogram->sum_ns, fetch ? 99 : 0);
	}
	assert_int_equal(verbs, KVP_VERBS);
	assert_int_equal(stats->n_spaces, 2);
	assert_string_equal(stats->spaces[0].name, "b");
	assert_string_equal(stats->spaces[0].schema.revision, "");
	assert_int_equal(strlen(stats->spaces[1].name), KVP_NAME_BYTES_MAX);
	assert_int_equal(stats->spaces[1].schema.layers, 'a');
	assert_int_equal(stats->spaces[1].tokens, 11);
	assert_int_equal(stats->spaces[1].logical_f32_bytes, 200);
	(void)kvc_stats_free(stats);
	free(scene.header);
}

static void test_nonsense(void **state)
{
	struct kvc_stats *stats = NULL;
	struct arena_layout layout;
	struct scene scene;

	scene_make(&scene);
	for (unsigned i = 0; i < SPACES; i++)
		entry_write(&scene.spaces[i], (char)('a' + i), 60);
	scene.spaces[0].name_bytes = 0;
	scene.spaces[1].name_bytes = KVP_NAME_BYTES_MAX + 1;
	scene.spaces[2].model_bytes = UINT16_MAX;
	scene.spaces[3].revision_bytes = KVP_REVISION_BYTES_MAX + 1;
	scene.spaces[4].name[7] = '\x1b';
	scene.spaces[5].model[0] = '\xff';
	scene.spaces[6].state = 77;
	assert_int_equal(look(&scene, &stats), 0);
	assert_int_equal(stats->n_spaces, 1);
	assert_int_equal(stats->spaces[0].name[0], 'h');
	stats = kvc_stats_free(stats);
	scene.header->counters_count = KVP_COUNTERS + 1;
	assert_int_equal(look(&scene, &stats), KVC_UNSUPPORTED);
	assert_null(stats);
	scene.header->counters_count = KVP_COUNTERS;
	scene.header->spaces_offset = KVP_HEADER_BYTES + 64; /* in the middle of the counters */
	assert_int_equal(look(&scene, &stats), KVC_UNSUPPORTED);
	scene.header->spaces_count = KVP_SPACES_MAX + 1;
	assert_non_null(arena_layout_read(scene.header, ARENA_BYTES, &layout));
	free(scene.header);
}

struct writer {
	struct kvp_space_entry *entry;
	_Atomic bool stop;
};

/* As the daemon does it: state first when a space goes, last when one comes. */
static void *write_on(void *data)
{
	struct writer *writer = data;

	for (unsigned i = 0; !atomic_load(&writer->stop); i++) {
		atomic_store(&writer->entry->state, KVP_SPACE_FREE);
		atomic_thread_fence(memory_order_seq_cst);
		entry_write(writer->entry, (char)('a' + i % 26), (uint16_t)(16 + i % 100));
		for (volatile unsigned rest = i % 5 * 500; rest > 0; rest--)
			continue; /* so that looks find it, whole or in the middle of the next change */
	}
	return NULL;
}

static void expect_one_letter(const struct kvc_space_stats *space)
{
	char letter = space->name[0];
	char texts[3][KVP_NAME_BYTES_MAX + 1] = { "" };

	memset(texts[0], letter, strlen(space->name));
	memset(texts[1], letter, strlen(space->name));
	memset(texts[2], letter, strlen(space->name) / 2);
	assert_string_equal(space->name, texts[0]);
	assert_string_equal(space->schema.model, texts[1]);
	assert_string_equal(space->schema.revision, texts[2]);
	assert_int_equal(space->schema.dtype, letter);
	assert_int_equal(space->schema.page_heads, letter);
}

static void test_changes(void **state)
{
	struct kvc_stats *stats;
	struct scene scene;
	struct writer writer;
	struct stumble stumble;
	pthread_t thread;
	unsigned seen = 0;

	if (!stumble_begin(&stumble))
		harness_skip("there are no timers for a thread");
	scene_make(&scene);
	scene.header->spaces_count = 1;
	writer = (struct writer){ .entry = &scene.spaces[0] };
	assert_int_equal(pthread_create(&thread, NULL, write_on, &writer), 0);
	for (unsigned i = 0; i < LOOKS || seen == 0; i++) {
		stumble_arm(&stumble, 1 + i * 7919 % STUMBLE_AFTER_NS, STUMBLE_NS);
		assert_int_equal(look(&scene, &stats), 0);
		seen += stats->n_spaces > 0;
		if (stats->n_spaces > 0)
			expect_one_letter(&stats->spaces[0]);
		(void)kvc_stats_free(stats);
	}
	atomic_store(&writer.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	stumble_end(&stumble);
	print_message("%u of %u looks found it\n", seen, LOOKS);
	free(scene.header);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_numbers),
	cmocka_unit_test(test_nonsense),
	cmocka_unit_test(test_changes),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
