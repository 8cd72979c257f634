/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cache larger than its arena: the real daemon with a tier on the test's disk, by both engines; stopped, killed,
 * damaged and out of space.
 */
#include "tests/e2e/test-client-rig.h"
#include "tests/lib/harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCKS 60 /* of 2 MiB, twice the arena */
#define CHAIN 10
#define TOKENS 64

struct scene {
	struct test_daemon daemon;
	kvc_client *client;
	kvc_space *space;
	kvc_reader *reader;
	char directory[200];
};

static void client_begin(struct scene *scene)
{
	struct kvc_schema schema = schema_large();

	scene->client = open_client_timeout(&scene->daemon, 0, 30000);
	scene->space = open_space(scene->client, "s", &schema);
	assert_int_equal(kvc_reader_open(scene->client, &scene->reader), KVC_OK);
}

static void client_end(struct scene *scene)
{
	(void)kvc_reader_close(scene->reader);
	(void)kvc_space_close(scene->space);
	scene->client = kvc_close(scene->client);
}

static void scene_begin(struct scene *scene, const char *engine, const char *admit)
{
	(void)snprintf(scene->directory, sizeof(scene->directory), "%s/tier", harness_directory());
	test_daemon_start(&scene->daemon, "--tier-dir", scene->directory, "--tier-bytes", "256MiB",
			  "--tier-segment-bytes", "16MiB", "--tier-engine", engine, "--tier-admit", admit,
			  "--tier-free-percent", "100", NULL);
	client_begin(scene);
}

static void scene_end(struct scene *scene)
{
	client_end(scene);
	test_daemon_stop(&scene->daemon);
}

static const char *name_of(unsigned i, char name[16])
{
	(void)snprintf(name, 16, "block-%u", i);
	return name;
}

static void wait_for(struct scene *scene, const char *counter, uint64_t wanted)
{
	for (unsigned i = 0; counter_of(scene->client, counter) != wanted; i++) {
		if (i > 3000)
			fail_msg("%s is %llu, not %llu", counter,
				 (unsigned long long)counter_of(scene->client, counter), (unsigned long long)wanted);
		pause_ms(10);
	}
}

/*
 * Chains of ten blocks, since a chain must fit the arena; each block is written to the tier before the next is
 * stored.
 */
static void fill(struct scene *scene, unsigned n)
{
	char name[16], parent[16];

	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(append_block(scene->space, name_of(i, name),
					      i % CHAIN ? name_of(i - 1, parent) : NULL, i, TOKENS),
				 KVC_OK);
		wait_for(scene, "tier_stored_blocks_total", i + 1);
	}
}

static struct kvc_forecast forecast(struct scene *scene, unsigned n)
{
	char names[BLOCKS][16];
	struct kvc_key keys[BLOCKS];
	struct kvc_forecast answer;

	for (unsigned i = 0; i < n; i++)
		keys[i] = key_of(name_of(i, names[i]));
	assert_int_equal(kvc_forecast(scene->space, keys, n, NULL, &answer), KVC_OK);
	return answer;
}

/* Fetches each; returns how many there were. What is there is right. */
static unsigned fetch_all(struct scene *scene, unsigned n)
{
	unsigned there = 0;
	char name[16];

	for (unsigned i = 0; i < n; i++)
		there += fetch_block(scene->space, name_of(i, name), i) == KVC_OK;
	return there;
}

static void larger_than_the_arena(const char *engine)
{
	struct scene scene;
	struct kvc_forecast all;

	scene_begin(&scene, engine, "all");
	fill(&scene, BLOCKS);
	all = forecast(&scene, BLOCKS);
	assert_true(all.resident < BLOCKS / 2 && all.load_us > 0);
	assert_int_equal(all.resident + all.loadable, BLOCKS);
	assert_int_equal(fetch_all(&scene, BLOCKS), BLOCKS);
	assert_true(counter_of(scene.client, "tier_loaded_blocks_total") >= BLOCKS / 2);
	assert_int_equal(counter_of(scene.client, "tier_corrupt_pages_total"), 0);
	assert_true(test_daemon_logged(&scene.daemon, strcmp(engine, "threads") == 0 ? "threads" : "io_uring") ||
		    test_daemon_logged(&scene.daemon, "refused"));

	/* A stop and a start: it is all there. */
	client_end(&scene);
	test_daemon_restart(&scene.daemon);
	client_begin(&scene);
	wait_for(&scene, "tier_ready", 1);
	all = forecast(&scene, BLOCKS);
	assert_int_equal(all.resident, 0);
	assert_int_equal(all.loadable, BLOCKS);
	assert_int_equal(fetch_all(&scene, BLOCKS), BLOCKS);

	/* Killed: what was written is there. */
	client_end(&scene);
	test_daemon_kill(&scene.daemon);
	test_daemon_restart(&scene.daemon);
	client_begin(&scene);
	wait_for(&scene, "tier_ready", 1);
	assert_int_equal(fetch_all(&scene, BLOCKS), BLOCKS);
	scene_end(&scene);
}

static void test_io_uring(void **state)
{
	larger_than_the_arena("auto");
}

static void test_threads(void **state)
{
	larger_than_the_arena("threads");
}

/* Only what somebody read is worth a write. */
static void test_admission(void **state)
{
	struct scene scene;

	scene_begin(&scene, "auto", "read");
	assert_int_equal(append_block(scene.space, "read", NULL, 1, TOKENS), KVC_OK);
	assert_int_equal(append_block(scene.space, "unread", NULL, 2, TOKENS), KVC_OK);
	assert_int_equal(fetch_block(scene.space, "read", 1), KVC_OK);
	wait_for(&scene, "tier_stored_blocks_total", 1);
	assert_int_equal(kvc_evict(scene.client, NULL, 0, 0, NULL, NULL), KVC_OK);
	assert_int_equal(fetch_block(scene.space, "read", 1), KVC_OK);
	assert_int_equal(fetch_block(scene.space, "unread", 2), KVC_MISS);
	scene_end(&scene);
}

/* Layers come in order, each right when it is told. */
static void test_layer_by_layer(void **state)
{
	enum { N = 8 };
	struct kvc_schema schema = schema_large();
	struct kvc_fetch blocks[N] = { 0 };
	struct box k[N], v[N];
	char names[N][16];
	kvc_fetching *fetching;
	struct scene scene;
	uint32_t layer;

	scene_begin(&scene, "auto", "all");
	fill(&scene, N);
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(kvc_evict(scene.client, NULL, 0, 0, NULL, NULL), KVC_OK);
		for (unsigned i = 0; i < N; i++) {
			box_new(&k[i], LAYOUT_TOKEN_MAJOR, KVC_F32, schema.layers, schema.kv_heads, TOKENS, 64);
			box_new(&v[i], LAYOUT_HEAD_MAJOR, KVC_F32, schema.layers, schema.kv_heads, TOKENS, 64);
			blocks[i] = (struct kvc_fetch){ .key = key_of(name_of(i, names[i])),
							.k = k[i].tensor,
							.v = v[i].tensor };
		}
		assert_int_equal(kvc_fetch_begin(scene.space, round == 1 ? NULL : scene.reader, blocks, N, &fetching),
				 KVC_OK);
		for (uint32_t l = 0; l < schema.layers; l++) {
			assert_int_equal(kvc_fetch_next(fetching, &layer), KVC_OK);
			assert_int_equal(layer, l);
			for (unsigned i = 0; i < N; i++) {
				assert_int_equal(blocks[i].status, KVC_OK);
				assert_true(box_get(&k[i], l, 3, 5, 7) == value_at(i, 'K', l, 3, 5, 7));
				assert_true(box_get(&v[i], l, 7, 63, 63) == value_at(i, 'V', l, 7, 63, 63));
			}
		}
		assert_int_equal(kvc_fetch_next(fetching, &layer), KVC_RANGE);
		assert_null(kvc_fetch_end(fetching));
		for (unsigned i = 0; i < N; i++) {
			box_expect(&k[i], i, 'K', 0, 0, TOKENS, 0);
			box_expect(&v[i], i, 'V', 0, 0, TOKENS, 0);
			box_free(&k[i]);
			box_free(&v[i]);
		}
	}
	blocks[1].range.layer_begin = 1;
	assert_int_equal(kvc_fetch_begin(scene.space, NULL, blocks, 2, &fetching), KVC_RANGE);
	blocks[0].key.n = 0;
	blocks[0].range = blocks[1].range;
	assert_int_equal(kvc_fetch_begin(scene.space, NULL, blocks, 2, &fetching), KVC_INVALID);
	assert_int_equal(kvc_fetch_begin(NULL, NULL, blocks, 2, &fetching), -EINVAL);
	assert_null(kvc_fetch_end(NULL));
	scene_end(&scene);
}

static void test_prefetch(void **state)
{
	struct kvc_key keys[3] = { key_of("block-0"), key_of("block-1"), key_of("nowhere") };
	struct scene scene;
	int statuses[3];

	scene_begin(&scene, "auto", "all");
	fill(&scene, 2);
	assert_int_equal(kvc_evict(scene.client, NULL, 0, 0, NULL, NULL), KVC_OK);
	assert_int_equal(kvc_prefetch(scene.space, keys, 3, NULL, statuses), KVC_OK);
	assert_int_equal(statuses[0], KVC_OK);
	assert_int_equal(statuses[1], KVC_OK);
	assert_int_equal(statuses[2], KVC_MISS);
	wait_for(&scene, "tier_loaded_blocks_total", 2);
	assert_int_equal(kvc_find(scene.space, scene.reader, &keys[1], NULL), KVC_OK);
	scene_end(&scene);
}

/* What was deleted stays so, with all that descends from it, whatever the files still hold. */
static void test_deleted_for_good(void **state)
{
	struct kvc_key key = key_of("block-2");
	struct kvc_why why;
	struct scene scene;
	char name[16];
	int status;

	scene_begin(&scene, "auto", "all");
	fill(&scene, 6);
	assert_int_equal(kvc_evict(scene.client, NULL, 0, 0, NULL, NULL), KVC_OK);
	assert_int_equal(kvc_why(scene.space, &key, &why), KVC_OK);
	assert_int_equal(why.fate, KVC_FATE_DEMOTED);
	assert_int_equal(kvc_delete(scene.space, &key, 1, &status), KVC_OK);
	assert_int_equal(status, KVC_OK);
	assert_int_equal(fetch_all(&scene, 6), 2);
	client_end(&scene);
	test_daemon_restart(&scene.daemon);
	client_begin(&scene);
	wait_for(&scene, "tier_ready", 1);
	assert_int_equal(fetch_all(&scene, 2), 2);
	assert_int_equal(append_block(scene.space, "block-2", "block-1", 2, TOKENS), KVC_OK);
	for (unsigned i = 3; i < 6; i++)
		assert_int_equal(fetch_block(scene.space, name_of(i, name), i), KVC_MISS);
	scene_end(&scene);
}

/* Calls visit for each segment file. */
static unsigned each_segment(const struct scene *scene, void (*visit)(const char *path))
{
	DIR *directory = opendir(scene->directory);
	const struct dirent *entry;
	unsigned n = 0;
	char path[500];

	assert_non_null(directory);
	while ((entry = readdir(directory))) {
		if (strncmp(entry->d_name, "segment-", 8) != 0)
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", scene->directory, entry->d_name);
		visit(path);
		n++;
	}
	(void)closedir(directory);
	return n;
}

/* A bit in every 300,000 bytes. */
static void flip_bits(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct stat status;
	uint8_t byte;

	assert_true(fd >= 0 && fstat(fd, &status) == 0);
	for (off_t at = 150000; at < status.st_size; at += 300000) {
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 8;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	(void)close(fd);
}

static void cut(const char *path)
{
	struct stat status;

	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(truncate(path, status.st_size / 2 + 777), 0);
}

static void take_away(const char *path)
{
	assert_int_equal(unlink(path), 0);
}

/* Whatever happens to the files, nothing wrong is ever read, and the daemon goes on. */
static void damaged(void (*damage)(const char *path))
{
	struct scene scene;
	unsigned there;

	scene_begin(&scene, "auto", "all");
	fill(&scene, 12);
	client_end(&scene);
	test_daemon_kill(&scene.daemon);
	assert_true(each_segment(&scene, damage) > 0);
	test_daemon_restart(&scene.daemon);
	client_begin(&scene);
	wait_for(&scene, "tier_ready", 1);
	there = fetch_all(&scene, 12);
	assert_true(there < 12);
	assert_int_equal(append_block(scene.space, "new", NULL, 77, TOKENS), KVC_OK);
	wait_for(&scene, "tier_stored_blocks_total", 1);
	assert_int_equal(kvc_evict(scene.client, NULL, 0, 0, NULL, NULL), KVC_OK);
	assert_int_equal(fetch_block(scene.space, "new", 77), KVC_OK);
	scene_end(&scene);
}

static void test_flipped_bits(void **state)
{
	damaged(flip_bits);
}

static void test_cut_files(void **state)
{
	damaged(cut);
}

static void test_removed_files(void **state)
{
	damaged(take_away);
}

/* Bits that flip under a running daemon. */
static void test_flipped_while_running(void **state)
{
	struct scene scene;
	unsigned there;

	scene_begin(&scene, "auto", "all");
	fill(&scene, 12);
	assert_int_equal(kvc_evict(scene.client, NULL, 0, 0, NULL, NULL), KVC_OK);
	assert_true(each_segment(&scene, flip_bits) > 0);
	there = fetch_all(&scene, 12);
	assert_true(there < 12);
	assert_true(counter_of(scene.client, "tier_lost_blocks_total") > 0);
	scene_end(&scene);
}

/* A file system that is full: fewer segments, and nothing else. */
static void test_no_space_left(void **state)
{
	char mount_point[190];
	struct scene scene;
	char name[16];

	(void)snprintf(mount_point, sizeof(mount_point), "%s/small", harness_directory());
	(void)snprintf(scene.directory, sizeof(scene.directory), "%s/tier", mount_point);
	assert_int_equal(mkdir(mount_point, 0700), 0);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", mount_point, "tmpfs", 0, "size=72m") < 0) {
		print_message("cannot mount: %s\n", strerror(errno));
		skip();
	}
	test_daemon_start(&scene.daemon, "--tier-dir", scene.directory, "--tier-bytes", "256MiB",
			  "--tier-segment-bytes", "16MiB", "--tier-admit", "all", "--tier-free-percent", "100", NULL);
	client_begin(&scene);
	for (unsigned i = 0; i < BLOCKS; i++) {
		assert_int_equal(append_block(scene.space, name_of(i, name), NULL, i, TOKENS), KVC_OK);
		pause_ms(20);
	}
	assert_true(fetch_all(&scene, BLOCKS) > 20);
	assert_true(counter_of(scene.client, "tier_stored_blocks_total") > 0);
	assert_true(counter_of(scene.client, "tier_segments") <= 4);
	scene_end(&scene);
}

static void test_refused_directories(void **state)
{
	char output[2000], path[200];
	struct scene scene;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/file", harness_directory());
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_not_equal(test_daemon_run(output, sizeof(output), "--config", path, "--socket", "/nowhere/s",
					     "--tier-dir", path, NULL), 0);
	assert_non_null(strstr(output, path));
	assert_int_not_equal(test_daemon_run(output, sizeof(output), "--config", path, "--tier-dir", "relative",
					     NULL), 0);
	assert_non_null(strstr(output, "absolute"));
	assert_int_not_equal(test_daemon_run(output, sizeof(output), "--config", path, "--tier-dir", "/tmp/x",
					     "--tier-bytes", "100MiB", NULL), 0);
	assert_non_null(strstr(output, "three times"));
	scene_begin(&scene, "auto", "all");
	assert_int_not_equal(test_daemon_run(output, sizeof(output), "--config", path, "--socket", "/nowhere/s",
					     "--tier-dir", scene.directory, NULL), 0);
	assert_non_null(strstr(output, scene.directory));
	scene_end(&scene);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_io_uring),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_admission),
		cmocka_unit_test(test_layer_by_layer),
		cmocka_unit_test(test_prefetch),
		cmocka_unit_test(test_deleted_for_good),
		cmocka_unit_test(test_flipped_bits),
		cmocka_unit_test(test_cut_files),
		cmocka_unit_test(test_removed_files),
		cmocka_unit_test(test_flipped_while_running),
		cmocka_unit_test(test_no_space_left),
		cmocka_unit_test(test_refused_directories),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
