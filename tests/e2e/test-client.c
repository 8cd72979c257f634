/* SPDX-License-Identifier: Apache-2.0 */
/* libkvclient against the real daemon: opening, spaces, arguments, keeping and removing, looking around. */
#include "tests/e2e/test-client-rig.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_open_errors(void **state)
{
	struct kvc_options options = { .struct_bytes = sizeof(options) };
	char path[300], why[256] = "";
	kvc_client *client = (void *)&options;

	(void)snprintf(path, sizeof(path), "%s/none", harness_directory());
	options.socket_path = path;
	assert_int_equal(kvc_open(&options, &client, why, sizeof(why)), -ENOENT);
	assert_non_null(strstr(why, path));
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(kvc_open(&options, &client, why, sizeof(why)), -ENAMETOOLONG);
	options.struct_bytes = 3;
	assert_int_equal(kvc_open(&options, &client, why, sizeof(why)), KVC_INVALID);
	assert_non_null(strstr(why, "struct_bytes"));
	options.struct_bytes = sizeof(options);
	options.flags = 1u << 31;
	assert_int_equal(kvc_open(&options, &client, why, 5), KVC_INVALID);
	assert_string_equal(why, "flag");
	options.flags = 0;
	options.client_name = "bad\nname";
	assert_int_equal(kvc_open(&options, &client, NULL, 0), KVC_INVALID);
	assert_int_equal(kvc_open(&options, NULL, why, sizeof(why)), -EINVAL);
	assert_ptr_equal(client, &options); /* never written */
	assert_null(kvc_close(NULL));
}

static void test_info(void **state)
{
	struct test_daemon d;
	struct kvc_info info;
	kvc_client *a, *b;
	uint64_t first;

	test_daemon_start(&d, NULL);
	a = open_client(&d, 0);
	b = open_client(&d, KVC_READ_ONLY);
	assert_int_equal(kvc_client_info(a, &info), KVC_OK);
	assert_int_equal(info.arena_bytes, 64u << 20);
	assert_int_equal(info.staging_bytes, 2u << 20);
	assert_int_equal(info.reconnects, 0);
	assert_true(info.incarnation != 0 && info.lease_ttl_ms_max > 0);
	assert_string_equal(info.server_version, kvc_version());
	first = info.session_id;
	assert_int_equal(kvc_client_info(b, &info), KVC_OK);
	assert_int_equal(info.staging_bytes, 0);
	assert_int_not_equal(info.session_id, first);
	assert_string_equal(kvc_error(a), "");
	assert_int_equal(kvc_client_info(a, NULL), -EINVAL);
	assert_string_not_equal(kvc_error(a), "");
	kvc_close(a);
	kvc_close(b);
	test_daemon_stop(&d);
}

static void test_strerror(void **state)
{
	assert_string_equal(kvc_strerror(KVC_OK), "ok");
	assert_string_equal(kvc_strerror(KVC_MISS), "no such block");
	assert_string_equal(kvc_strerror(12345), "?");
	assert_string_equal(kvc_strerror(-ENOENT), strerror(ENOENT));
	assert_string_equal(kvc_strerror(-99999), "unknown error -99999");
}

static void test_spaces(void **state)
{
	struct kvc_schema schema = schema_small(), other;
	const struct kvc_schema *known;
	kvc_client *a, *b;
	kvc_space *space, *again, *none = NULL;
	struct test_daemon d;

	test_daemon_start(&d, NULL);
	a = open_client(&d, 0);
	b = open_client(&d, 0);
	assert_int_equal(kvc_space_open(a, "s", NULL, &none), KVC_NO_SPACE_NAMED);
	assert_null(none);
	schema.page_heads = 0;
	schema.block_tokens = 0;
	schema.revision = NULL;
	space = open_space(a, "s", &schema);
	known = kvc_space_schema(space);
	assert_string_equal(known->model, "test-model");
	assert_string_equal(known->revision, "");
	assert_int_equal(known->block_tokens, 128);
	assert_int_equal(known->page_heads, 2); /* 4 heads would make a page of more than 64 KiB */
	again = open_space(b, "s", NULL);
	assert_int_equal(kvc_space_schema(again)->head_dim_k, 64);
	assert_int_equal(kvc_space_open(b, "s", known, &none), KVC_OK);
	none = kvc_space_close(none);

	other = *known;
	other.codec_k = KVC_CODEC_Q4;
	assert_int_equal(kvc_space_open(b, "s", &other, &none), KVC_SCHEMA);
	assert_non_null(strstr(kvc_error(b), "codec_k"));
	other = *known;
	other.model = "another";
	assert_int_equal(kvc_space_open(b, "s", &other, &none), KVC_SCHEMA);
	assert_non_null(strstr(kvc_error(b), "model"));
	other = *known;
	other.head_dim_v = 12;
	assert_int_equal(kvc_space_open(b, "s", &other, &none), KVC_INVALID);
	assert_non_null(strstr(kvc_error(b), "head_dim_v"));
	other = *known;
	other.model = "a\nb";
	assert_int_equal(kvc_space_open(b, "s", &other, &none), KVC_INVALID);
	assert_int_equal(kvc_space_open(b, "", known, &none), KVC_INVALID);
	assert_int_equal(kvc_space_open(b, NULL, known, &none), -EINVAL);
	assert_null(none);

	assert_int_equal(kvc_space_drop(a, "t"), KVC_NO_SPACE_NAMED);
	assert_int_equal(kvc_space_drop(a, "s"), KVC_BUSY); /* b has it open */
	kvc_close(b);
	while (kvc_space_drop(a, "s") == KVC_BUSY) /* until the daemon has seen b go */
		pause_ms(5);
	assert_int_equal(append_block(space, "k", NULL, 1, 128), KVC_NO_SPACE_NAMED);
	assert_non_null(strstr(kvc_error(a), "dropped"));
	kvc_space_close(space);
	assert_int_equal(kvc_space_open(a, "s", NULL, &none), KVC_NO_SPACE_NAMED);
	other = (struct kvc_schema){ .model = "m", .dtype = KVC_F16, .layers = 1, .kv_heads = 1, .head_dim_k = 8,
				     .codec_k = KVC_CODEC_F16 };
	space = open_space(a, "s", &other);
	assert_int_equal(kvc_space_schema(space)->head_dim_v, 0);
	kvc_close(a); /* frees the space too */
	test_daemon_stop(&d);
}

static void test_bad_arguments(void **state)
{
	struct kvc_schema schema = schema_small();
	struct kvc_range bad = { .head_begin = 1, .head_count = 2 };
	struct kvc_key key = key_of("k"), empty = { .bytes = "x", .n = 0 }, longest = { .bytes = "x", .n = 65 };
	struct kvc_append append = { .key = key, .tokens = 1 };
	struct kvc_fetch fetch = { .key = key };
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;
	kvc_block *block = NULL;
	struct box k, v;
	size_t matched = 42;
	int status;

	test_daemon_start(&d, NULL);
	client = open_client(&d, 0);
	space = open_space(client, "s", &schema);
	box_new(&k, LAYOUT_HEAD_MAJOR, KVC_F32, 3, 4, 32, 64);
	box_new(&v, LAYOUT_HEAD_MAJOR, KVC_F32, 3, 4, 32, 64);
	box_fill(&k, 1, 'K', 0, 0);
	box_fill(&v, 1, 'V', 0, 0);
	append.k = k.tensor;
	append.v = v.tensor;

	assert_int_equal(kvc_append(NULL, &append, 1), -EINVAL);
	assert_int_equal(kvc_append(space, NULL, 1), -EINVAL);
	assert_int_equal(kvc_append(space, NULL, 0), KVC_OK);
#define EXPECT_APPEND(field, value, wanted)                                                         \
	do {                                                                                        \
		struct kvc_append changed = append;                                                 \
		changed.field = (value);                                                            \
		assert_int_equal(kvc_append(space, &changed, 1), KVC_OK);                           \
		assert_int_equal(changed.status, wanted);                                           \
		assert_string_not_equal(kvc_error(client), "");                                     \
		assert_int_equal(kvc_submit(space, &changed, 0), wanted);                           \
	} while (0)
	EXPECT_APPEND(key, empty, KVC_INVALID);
	EXPECT_APPEND(key, longest, KVC_INVALID);
	EXPECT_APPEND(key.bytes, NULL, KVC_INVALID);
	EXPECT_APPEND(parent, longest, KVC_INVALID);
	EXPECT_APPEND(k.data, NULL, KVC_INVALID);
	EXPECT_APPEND(v.data, NULL, KVC_INVALID);
	EXPECT_APPEND(k.dtype, 0, KVC_INVALID);
	EXPECT_APPEND(v.dtype, 4, KVC_INVALID);
	EXPECT_APPEND(k.stride_layer, INT64_MIN, KVC_INVALID);
	EXPECT_APPEND(k.stride_token, INT64_MAX, KVC_INVALID);
	EXPECT_APPEND(tokens, 0, KVC_RANGE);
	EXPECT_APPEND(tokens, 33, KVC_RANGE);
	EXPECT_APPEND(range, bad, KVC_RANGE);
	EXPECT_APPEND(range.layer_begin, 3, KVC_RANGE);
	EXPECT_APPEND(range.layer_count, 4, KVC_RANGE);
	EXPECT_APPEND(range.layer_count, UINT32_MAX, KVC_RANGE);
	EXPECT_APPEND(range.head_begin, 4, KVC_RANGE);
	EXPECT_APPEND(range.head_count, 1, KVC_RANGE);
	assert_int_equal(counter_of(client, "blocks"), 0);

	assert_int_equal(kvc_fetch(space, NULL, NULL, 1), -EINVAL);
	fetch.range = bad;
	assert_int_equal(kvc_fetch(space, NULL, &fetch, 1), KVC_OK);
	assert_int_equal(fetch.status, KVC_RANGE);
	fetch.range = (struct kvc_range){ 0 };
	fetch.k = k.tensor;
	fetch.k.stride_token = 63; /* rows overlap */
	assert_int_equal(kvc_fetch(space, NULL, &fetch, 1), KVC_OK);
	assert_int_equal(fetch.status, KVC_INVALID);

	assert_int_equal(kvc_match(space, NULL, &longest, 1, NULL, &matched), KVC_INVALID);
	assert_int_equal(kvc_match(space, NULL, &key, 1, &bad, &matched), KVC_RANGE);
	assert_int_equal(kvc_match(space, NULL, NULL, 1, NULL, &matched), -EINVAL);
	assert_int_equal(kvc_match(space, NULL, &key, 1, NULL, NULL), -EINVAL);
	assert_int_equal(matched, 42);
	assert_int_equal(kvc_lease(space, &key, 1, &bad, 0, &block, &status), KVC_RANGE);
	assert_int_equal(kvc_lease(space, &empty, 1, NULL, 0, &block, &status), KVC_INVALID);
	assert_int_equal(kvc_lease(space, &key, 1, NULL, 0, NULL, &status), -EINVAL);
	assert_int_equal(kvc_delete(space, &empty, 1, NULL), KVC_INVALID);
	assert_int_equal(kvc_keep(space, &key, 1, 16, 1000, &status), KVC_RANGE);
	assert_int_equal(kvc_list(space, NULL, NULL, 0, NULL), -EINVAL);
	box_free(&k);
	box_free(&v);
	kvc_close(client);
	test_daemon_stop(&d);
}

static void test_read_only(void **state)
{
	struct kvc_schema schema = schema_small();
	struct test_daemon d;
	kvc_client *writer, *reader;
	kvc_space *written, *read;

	test_daemon_start(&d, NULL);
	writer = open_client(&d, 0);
	reader = open_client(&d, KVC_READ_ONLY);
	written = open_space(writer, "s", &schema);
	read = open_space(reader, "s", NULL);
	assert_int_equal(append_block(written, "k", NULL, 1, 32), KVC_OK);
	assert_int_equal(append_block(read, "l", NULL, 1, 32), KVC_PERMISSION);
	assert_int_equal(submit_block(read, "l", NULL, 1, 32, 0), KVC_PERMISSION);
	assert_int_equal(fetch_block(read, "k", 1), KVC_OK);
	kvc_close(writer);
	kvc_close(reader);
	test_daemon_stop(&d);
}

static void test_touch_and_keep(void **state)
{
	struct kvc_schema schema = schema_small();
	struct kvc_key keys[2] = { key_of("k"), key_of("none") };
	struct kvc_list_item item;
	uint64_t cursor = 0;
	size_t n;
	int statuses[2] = { -1, -1 };
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;

	test_daemon_start(&d, NULL);
	client = open_client(&d, 0);
	space = open_space(client, "s", &schema);
	assert_int_equal(append_block(space, "k", NULL, 1, 32), KVC_OK);
	assert_int_equal(kvc_touch(space, keys, 2, statuses), KVC_OK);
	assert_int_equal(statuses[0], KVC_OK);
	assert_int_equal(statuses[1], KVC_MISS);
	assert_int_equal(kvc_touch(space, keys, 2, NULL), KVC_OK);
	assert_int_equal(kvc_keep(space, keys, 2, 5, 60000, statuses), KVC_OK);
	assert_int_equal(statuses[0], KVC_OK);
	assert_int_equal(statuses[1], KVC_MISS);
	assert_int_equal(kvc_list(space, &cursor, &item, 1, &n), KVC_OK);
	assert_int_equal(n, 1);
	assert_int_equal(item.priority, 5);
	assert_int_equal(kvc_unkeep(space, keys, 2, statuses), KVC_OK);
	assert_int_equal(statuses[0], KVC_OK);
	cursor = 0;
	assert_int_equal(kvc_list(space, &cursor, &item, 1, &n), KVC_OK);
	assert_int_equal(item.priority, 0);
	kvc_close(client);
	test_daemon_stop(&d);
}

static void test_evict(void **state)
{
	struct kvc_schema schema = schema_small();
	uint64_t blocks = 99, bytes = 99;
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;
	char key[16];

	test_daemon_start(&d, NULL);
	client = open_client(&d, 0);
	space = open_space(client, "s", &schema);
	for (unsigned i = 0; i < 10; i++) {
		(void)snprintf(key, sizeof(key), "k%u", i);
		assert_int_equal(append_block(space, key, NULL, i, 32), KVC_OK);
	}
	assert_int_equal(kvc_evict(client, space, 0, 3, &blocks, &bytes), KVC_OK);
	assert_int_equal(blocks, 3);
	assert_true(bytes > 0);
	assert_int_equal(kvc_evict(client, NULL, 1, 0, &blocks, NULL), KVC_OK);
	assert_int_equal(blocks, 1);
	assert_int_equal(fetch_block(space, "k9", 9), KVC_OK); /* the newest */
	assert_int_equal(kvc_evict(client, NULL, 0, 0, &blocks, &bytes), KVC_OK);
	assert_int_equal(blocks, 6);
	assert_int_equal(counter_of(client, "blocks"), 0);
	kvc_close(client);
	test_daemon_stop(&d);
}

static void test_list(void **state)
{
	struct kvc_schema schema = schema_small();
	struct kvc_list_item items[4];
	bool seen[10] = { false };
	uint64_t cursor = 0;
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;
	size_t n, total = 0;
	char key[16];

	test_daemon_start(&d, NULL);
	client = open_client(&d, 0);
	space = open_space(client, "s", &schema);
	for (unsigned i = 0; i < 10; i++) {
		(void)snprintf(key, sizeof(key), "k%u", i);
		assert_int_equal(append_block(space, key, i > 0 ? "k0" : NULL, i, i + 1), KVC_OK);
	}
	do {
		assert_int_equal(kvc_list(space, &cursor, items, 4, &n), KVC_OK);
		assert_true(n <= 4);
		for (size_t i = 0; i < n; i++, total++) {
			unsigned which = items[i].key[1] - '0';

			assert_int_equal(items[i].key_n, 2);
			assert_int_equal(items[i].tokens, which + 1);
			assert_int_equal(items[i].pages_ready, 6);
			assert_int_equal(items[i].page_count, 6);
			assert_int_equal(items[i].is_root, which == 0);
			assert_int_equal(items[i].children, which == 0 ? 9 : 0);
			assert_true(items[i].stored_bytes > 0);
			assert_false(seen[which]);
			seen[which] = true;
		}
	} while (cursor != 0);
	assert_int_equal(total, 10);
	kvc_close(client);
	test_daemon_stop(&d);
}

static void test_stats_and_config(void **state)
{
	struct kvc_schema schema = schema_small();
	struct kvc_config_item *items = NULL;
	struct kvc_stats *stats = NULL;
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;
	bool found = false;
	size_t n;

	test_daemon_start(&d, NULL);
	client = open_client(&d, 0);
	space = open_space(client, "s", &schema);
	assert_int_equal(append_block(space, "k", NULL, 1, 32), KVC_OK);
	assert_int_equal(kvc_stats_get(client, &stats), KVC_OK);
	assert_string_equal(stats->server_version, kvc_version());
	assert_int_equal(stats->n_spaces, 1);
	assert_string_equal(stats->spaces[0].name, "s");
	assert_string_equal(stats->spaces[0].schema.model, "test-model");
	assert_string_equal(stats->spaces[0].schema.revision, "r1");
	assert_int_equal(stats->spaces[0].schema.head_dim_v, 64);
	assert_int_equal(stats->spaces[0].blocks, 1);
	assert_int_equal(stats->spaces[0].pages, 6);
	assert_int_equal(stats->spaces[0].tokens, 32);
	assert_int_equal(stats->spaces[0].logical_f32_bytes, 3 * 4 * 32 * 128 * 4);
	assert_int_equal(stats->spaces[0].logical_f16_bytes, 3 * 4 * 32 * 128 * 2);
	assert_int_equal(stats->spaces[0].sessions, 1);
	assert_int_equal(kvc_stats_counter(stats, "append_pages_total"), 6);
	assert_int_equal(kvc_stats_counter(stats, "no such counter"), 0);
	assert_int_equal(kvc_stats_counter(stats, "arena_bytes"), 64 << 20);
	assert_null(kvc_stats_free(stats));
	assert_null(kvc_stats_free(NULL));
	assert_int_equal(kvc_config(client, &items, &n), KVC_OK);
	for (size_t i = 0; i < n; i++)
		found = found || strcmp(items[i].value, d.socket_path) == 0;
	assert_true(found);
	free(items);
	kvc_close(client);
	test_daemon_stop(&d);
}

/* A histogram of a snapshot, which must be there. */
static const struct kvc_histogram *histogram_of(const struct kvc_stats *stats, const char *name, const char *label)
{
	for (size_t i = 0; i < stats->n_histograms; i++)
		if (strcmp(stats->histograms[i].name, name) == 0 && strcmp(stats->histograms[i].label, label) == 0)
			return &stats->histograms[i];
	fail_msg("no histogram %s %s", name, label);
	return NULL;
}

static uint64_t histogram_count(const struct kvc_stats *stats, const char *name, const char *label)
{
	const struct kvc_histogram *histogram = histogram_of(stats, name, label);
	uint64_t sum = 0;

	for (unsigned i = 0; i < KVC_HISTOGRAM_BUCKETS; i++)
		sum += histogram->buckets[i];
	return sum;
}

/* The daemon brings amounts up to date a moment after they changed: looks until all are there. */
static struct kvc_stats *look_until(kvc_client *client, const struct kvc_stats *asked)
{
	struct kvc_stats *seen;

	for (;;) {
		assert_int_equal(kvc_stats_look(client, &seen), KVC_OK);
		assert_int_equal(seen->n_spaces, asked->n_spaces);
		if (seen->spaces[0].stored_bytes == asked->spaces[0].stored_bytes &&
		    kvc_stats_counter(seen, "stored_bytes") == kvc_stats_counter(asked, "stored_bytes"))
			return seen;
		kvc_stats_free(seen);
		(void)usleep(5000);
	}
}

/* What is read from shared memory is what the daemon answers, and reading it is no request. */
static void test_look(void **state)
{
	struct kvc_schema schema = schema_small();
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;
	struct kvc_stats *asked;
	struct kvc_stats *seen;
	struct kvc_stats *later;

	test_daemon_start(&d, NULL);
	client = open_client(&d, 0);
	space = open_space(client, "s", &schema);
	(void)open_space(client, "an\xc3\xb6ther", &schema);
	assert_int_equal(append_block(space, "k", NULL, 1, 32), KVC_OK);
	assert_int_equal(kvc_stats_get(client, &asked), KVC_OK);
	assert_int_equal(asked->n_histograms, 0);
	seen = look_until(client, asked);
	assert_int_equal(seen->uptime_ms, 0);
	assert_int_equal(seen->incarnation, asked->incarnation);
	assert_string_equal(seen->server_version, asked->server_version);
	assert_int_equal(seen->n_counters, asked->n_counters);
	for (size_t i = 0; i < asked->n_counters; i++)
		assert_string_equal(seen->counters[i].name, asked->counters[i].name);
	assert_int_equal(kvc_stats_counter(seen, "append_pages_total"), 6);
	assert_int_equal(kvc_stats_counter(seen, "stored_bytes"), kvc_stats_counter(asked, "stored_bytes"));
	assert_int_equal(seen->n_spaces, 2);
	for (size_t i = 0; i < 2; i++) {
		const struct kvc_space_stats *a = &asked->spaces[i];
		const struct kvc_space_stats *b = &seen->spaces[i];

		assert_string_equal(b->name, a->name);
		assert_string_equal(b->schema.model, a->schema.model);
		assert_string_equal(b->schema.revision, a->schema.revision);
		assert_memory_equal(&b->schema.dtype, &a->schema.dtype,
				    sizeof(b->schema) - offsetof(struct kvc_schema, dtype));
		assert_memory_equal(&b->blocks, &a->blocks, sizeof(*b) - offsetof(struct kvc_space_stats, blocks));
	}
	assert_int_equal(histogram_count(seen, "request_seconds", "open_space"), 2);
	assert_int_equal(histogram_count(seen, "request_seconds", "append"), 1);
	assert_int_equal(histogram_count(seen, "request_seconds", "hello"), 1);
	assert_true(histogram_of(seen, "request_seconds", "append")->sum_ns > 0);
	assert_true(histogram_count(seen, "loop_turn_seconds", "") > 0);
	assert_int_equal(kvc_stats_look(client, &later), KVC_OK);
	assert_int_equal(kvc_stats_counter(later, "requests_total"), kvc_stats_counter(seen, "requests_total"));
	assert_int_equal(kvc_stats_look(client, NULL), -EINVAL);
	/* Amounts come by themselves. */
	assert_int_equal(append_block(space, "l", "k", 2, 32), KVC_OK);
	do {
		kvc_stats_free(later);
		assert_int_equal(kvc_stats_look(client, &later), KVC_OK);
	} while (later->spaces[0].tokens != 64 || kvc_stats_counter(later, "tokens") != 64);
	kvc_stats_free(asked);
	kvc_stats_free(seen);
	kvc_stats_free(later);
	kvc_close(client);
	test_daemon_stop(&d);
}

/* A daemon that went away is noticed, and the next one found. */
static void test_look_after_restart(void **state)
{
	struct kvc_stats *stats;
	struct test_daemon d;
	kvc_client *client;
	uint64_t before;

	test_daemon_start(&d, NULL);
	client = open_client_timeout(&d, KVC_READ_ONLY, 1000);
	assert_int_equal(kvc_stats_look(client, &stats), KVC_OK);
	before = stats->incarnation;
	kvc_stats_free(stats);
	test_daemon_kill(&d);
	assert_int_equal(kvc_stats_look(client, &stats), -ENOTCONN);
	test_daemon_restart(&d);
	while (kvc_stats_look(client, &stats) != KVC_OK)
		(void)usleep(10000);
	assert_int_not_equal(stats->incarnation, before);
	kvc_stats_free(stats);
	kvc_close(client);
	test_daemon_stop(&d);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_open_errors),
	cmocka_unit_test(test_info),
	cmocka_unit_test(test_strerror),
	cmocka_unit_test(test_spaces),
	cmocka_unit_test(test_bad_arguments),
	cmocka_unit_test(test_read_only),
	cmocka_unit_test(test_touch_and_keep),
	cmocka_unit_test(test_evict),
	cmocka_unit_test(test_list),
	cmocka_unit_test(test_stats_and_config),
	cmocka_unit_test(test_look),
	cmocka_unit_test(test_look_after_restart),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
