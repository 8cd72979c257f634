/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's memory really becomes less and more, seen from outside, while other processes read what they pinned and
 * append. What the kernel counts for the arena's file is looked at, which is what all processes together have of it.
 */
#include "tests/e2e/reader-rig.h"
#include "tests/lib/harness.h"
#include "tests/lib/process.h"

#include "base/units.h"
#include "daemon/host/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARENA (64 * MIB)
#define BLOCKS 300 /* of 192 KiB: they fill it */
#define PINS 6
#define WAIT_MS 20000

static char *key_text(unsigned i, char text[16])
{
	(void)snprintf(text, 16, "k%u", i);
	return text;
}

/* The memory of the daemon's arena. */
static uint64_t arena_memory(const struct test_daemon *daemon)
{
	char directory[64], path[340], name[64];
	DIR *dir;
	struct dirent *entry;
	struct stat status = { .st_blocks = 0 };

	(void)snprintf(directory, sizeof(directory), "/proc/%d/fd", (int)daemon->pid);
	dir = opendir(directory);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		ssize_t n;

		(void)snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
		n = readlink(path, name, sizeof(name) - 1);
		if (n <= 0)
			continue;
		name[n] = '\0';
		if (strncmp(name, "/memfd:kvpaged-arena", 20) == 0) {
			assert_int_equal(stat(path, &status), 0);
			break;
		}
	}
	(void)closedir(dir);
	return (uint64_t)status.st_blocks * 512;
}

/* Shared memory that the daemon has mapped and touched, in bytes. */
static uint64_t resident_shared(const struct test_daemon *daemon)
{
	char path[64], line[128];
	unsigned long kib = 0;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)daemon->pid);
	file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "RssShmem: %lu kB", &kib) == 1)
			break;
	assert_int_equal(fclose(file), 0);
	return kib * KIB;
}

static void fill(struct rig *rig)
{
	char key[16];

	for (unsigned i = 0; i < BLOCKS; i++)
		assert_int_equal(append_block(rig->space, key_text(i, key), NULL, i, 32), KVC_OK);
}

static struct kvc_resized resize(struct rig *rig, uint64_t bytes)
{
	struct kvc_resized resized;
	int r = kvc_resize(rig->client, bytes, WAIT_MS, &resized);

	if (r != KVC_OK)
		fail_msg("kvc_resize: %d (%s)", r, kvc_error(rig->client));
	return resized;
}

/* ---- Other processes: each runs until its pipe ends ---- */

struct other {
	pid_t pid;
	int stop; /* closing it stops the process */
};

static bool must_stop(int stop)
{
	char byte;

	return read(stop, &byte, 1) == 0;
}

/* Pins blocks, and reads these and any others as long as it may. */
static void read_on(struct rig *rig, unsigned number, int ready, int stop)
{
	kvc_block *blocks[PINS];
	char key[16];

	for (unsigned i = 0; i < PINS; i++)
		blocks[i] = pin(rig, key_text(number * 100 + i * 3, key));
	assert_int_equal(write(ready, "r", 1), 1);
	while (!must_stop(stop)) {
		unsigned any = (unsigned)random() % BLOCKS;
		int r = fetch(rig, key_text(any, key), any);

		assert_true(r == KVC_OK || r == KVC_MISS || r == KVC_STALE);
		for (unsigned i = 0; i < PINS; i++)
			assert_true(expect_block(blocks[i], number * 100 + i * 3));
	}
	for (unsigned i = 0; i < PINS; i++)
		(void)kvc_unpin(blocks[i]);
}

static void append_on(struct rig *rig, unsigned number, int ready, int stop)
{
	char key[32];

	assert_int_equal(write(ready, "r", 1), 1);
	for (unsigned i = 0; !must_stop(stop); i++) {
		(void)snprintf(key, sizeof(key), "new%u", i);
		assert_int_equal(append_block(rig->space, key, NULL, i, 32), KVC_OK);
	}
}

typedef void other_fn(struct rig *rig, unsigned number, int ready, int stop);

static struct other other_start(const struct rig *rig, other_fn *fn, unsigned number)
{
	struct other other;
	int stop[2], ready[2];
	char byte;

	assert_int_equal(pipe2(stop, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	other.pid = fork();
	assert_true(other.pid >= 0);
	if (other.pid == 0) {
		struct rig own = { .d = rig->d };

		(void)close(stop[1]);
		rig_join(&own, &(struct kvc_options){ 0 });
		srandom(number);
		fn(&own, number, ready[1], stop[0]);
		_exit(0);
	}
	(void)close(ready[1]);
	(void)close(stop[0]);
	other.stop = stop[1];
	assert_int_equal(read(ready[0], &byte, 1), 1);
	(void)close(ready[0]);
	return other;
}

/* The later ones have the pipes of the earlier ones too, and end first. */
static void others_stop(const struct other *others, size_t n)
{
	for (size_t i = 0; i < n; i++)
		(void)close(others[i].stop);
	for (size_t i = n; i > 0; i--)
		assert_int_equal(process_wait(others[i - 1].pid, 20000), 0);
}

/* ---- */

static void test_memory_goes_back_while_others_read(void **state)
{
	static const uint64_t sizes[] = { 48 * MIB, 32 * MIB, 24 * MIB, 64 * MIB, 28 * MIB, 40 * MIB, 22 * MIB };
	struct rig rig;
	struct other others[3];
	uint64_t before;

	rig_start(&rig);
	fill(&rig);
	before = resident_shared(&rig.d);
	assert_true(arena_memory(&rig.d) > 56 * MIB);
	others[0] = other_start(&rig, read_on, 0);
	others[1] = other_start(&rig, read_on, 1);
	others[2] = other_start(&rig, append_on, 2);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct kvc_resized resized = resize(&rig, sizes[i]);

		print_message("%lu MiB: evicted %lu, moved %lu, gave back %lu KiB\n", sizes[i] / MIB,
			      resized.evicted_bytes / KIB, resized.moved_bytes / KIB, resized.discarded_bytes / KIB);
		assert_true(resized.is_done);
		assert_int_equal(resized.bytes, sizes[i]);
		assert_int_equal(resized.held_bytes, sizes[i]);
		assert_true(arena_memory(&rig.d) <= sizes[i]);
		pause_ms(50);
	}
	assert_true(resident_shared(&rig.d) + 30 * MIB < before);
	others_stop(others, 3);
	assert_true(arena_memory(&rig.d) <= 22 * MIB);
	rig_stop(&rig);
}

/* Other daemons than the rig's. */
#define start_with(rig, ...)                                                                                           \
	do {                                                                                                           \
		test_daemon_start(&(rig)->d, __VA_ARGS__, NULL);                                                       \
		rig_join((rig), &(struct kvc_options){ 0 });                                                           \
	} while (0)

/* What readers hold is said, and goes later. */
static void test_what_is_pinned_is_said(void **state)
{
	struct rig rig;
	struct kvc_resized resized;
	kvc_block *blocks[BLOCKS / 10];
	char key[16];

	rig_start(&rig);
	fill(&rig);
	for (unsigned i = 0; i < BLOCKS / 10; i++)
		blocks[i] = pin(&rig, key_text(i * 10, key));
	assert_int_equal(kvc_resize(rig.client, 20 * MIB, 200, &resized), KVC_OK);
	assert_false(resized.is_done);
	assert_int_equal(resized.bytes, 20 * MIB);
	assert_true(resized.held_bytes > 50 * MIB);
	for (unsigned i = 0; i < BLOCKS / 10; i++) {
		assert_true(expect_block(blocks[i], i * 10));
		(void)kvc_unpin(blocks[i]);
	}
	assert_true(resize(&rig, 20 * MIB).is_done);
	assert_true(arena_memory(&rig.d) <= 20 * MIB);
	rig_stop(&rig);
}

/* With arena.prefault the memory is there again when the call returns. */
static void test_prefault(void **state)
{
	struct rig rig = { 0 };

	start_with(&rig, "--arena-prefault", "yes");
	assert_int_equal(arena_memory(&rig.d), ARENA);
	fill(&rig);
	assert_int_equal(resize(&rig, 20 * MIB).held_bytes, 20 * MIB);
	assert_int_equal(arena_memory(&rig.d), 20 * MIB);
	assert_int_equal(resize(&rig, 50 * MIB).held_bytes, 50 * MIB);
	assert_int_equal(arena_memory(&rig.d), 50 * MIB);
	rig_stop(&rig);
}

/* With a tier, whose transfers go through memory that is registered with io_uring where it can be. */
static void tier_test(const char *engine)
{
	struct rig rig = { 0 };
	char directory[300], key[16];

	(void)snprintf(directory, sizeof(directory), "%s/tier", harness_directory());
	start_with(&rig, "--arena-prefault", "yes", "--tier-dir", directory, "--tier-bytes", "256MiB",
		   "--tier-segment-bytes", "16MiB", "--tier-engine", engine, "--tier-admit", "all",
		   "--tier-free-percent", "100");
	fill(&rig);
	while (counter_of(rig.client, "tier_stored_blocks_total") < BLOCKS)
		pause_ms(5);
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(resize(&rig, 20 * MIB).held_bytes, 20 * MIB);
		for (unsigned i = 0; i < BLOCKS; i++)
			assert_int_equal(fetch(&rig, key_text(i, key), i), KVC_OK);
		assert_true(arena_memory(&rig.d) <= 20 * MIB);
		assert_int_equal(resize(&rig, ARENA).held_bytes, ARENA);
		for (unsigned i = 0; i < BLOCKS; i++)
			assert_int_equal(fetch(&rig, key_text(i, key), i), KVC_OK);
	}
	assert_int_equal(counter_of(rig.client, "tier_corrupt_pages_total"), 0);
	assert_int_equal(counter_of(rig.client, "tier_lost_blocks_total"), 0);
	rig_stop(&rig);
}

static void test_tier_by_io_uring(void **state)
{
	tier_test("auto");
}

static void test_tier_by_threads(void **state)
{
	tier_test("threads");
}

static void test_sealed_arenas_cannot(void **state)
{
	struct rig rig = { 0 };

	start_with(&rig, "--arena-seal", "strict");
	assert_int_equal(kvc_resize(rig.client, 20 * MIB, 0, NULL), KVC_UNSUPPORTED);
	assert_non_null(strstr(kvc_error(rig.client), "arena.seal"));
	assert_int_equal(kvc_resize(NULL, 20 * MIB, 0, NULL), -EINVAL);
	rig_stop(&rig);
}

/* Huge pages go back to the pool. When somebody else has taken them the arena stays small, and nobody dies. */
static void test_huge_pages(void **state)
{
	struct rig rig = { 0 };
	struct kvc_resized resized;
	uint64_t pool = memory_huge_pages_free();
	uint64_t taken = 8 * MIB;
	void *others;
	char key[16];

	if (pool < 2 * ARENA / (2 * MIB) || pool > 1024)
		harness_skip("64 to 1,024 free huge pages are needed (sysctl vm.nr_hugepages=64)");
	start_with(&rig, "--arena-huge-pages", "yes");
	fill(&rig);
	assert_int_equal(memory_huge_pages_free() - (pool - arena_memory(&rig.d) / (2 * MIB)), 0);
	resized = resize(&rig, 20 * MIB);
	assert_true(resized.is_done);
	assert_int_equal(arena_memory(&rig.d), 20 * MIB);
	/* All that is free, but for 8 MiB. */
	taken = memory_huge_pages_free() * 2 * MIB - taken;
	others = mmap(NULL, taken, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1,
		      0);
	assert_true(others != MAP_FAILED);
	resized = resize(&rig, 64 * MIB);
	assert_int_equal(resized.held_bytes, 28 * MIB);
	assert_int_equal(resized.asked_bytes, 64 * MIB);
	for (unsigned i = 0; i < BLOCKS; i++)
		assert_int_equal(append_block(rig.space, key_text(1000 + i, key), NULL, i, 32), KVC_OK);
	assert_int_equal(munmap(others, taken), 0);
	assert_int_equal(resize(&rig, 64 * MIB).held_bytes, 64 * MIB);
	rig_stop(&rig);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_goes_back_while_others_read),
		cmocka_unit_test(test_what_is_pinned_is_said),
		cmocka_unit_test(test_prefault),
		cmocka_unit_test(test_tier_by_io_uring),
		cmocka_unit_test(test_tier_by_threads),
		cmocka_unit_test(test_sealed_arenas_cannot),
		cmocka_unit_test(test_huge_pages),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
