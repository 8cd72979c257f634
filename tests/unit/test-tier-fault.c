/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that fail: each transfer in turn, for a while, for good; files that are full, gone, cut or changed. */
#include "tests/lib/harness.h"
#include "tests/lib/tier-rig.h"

#include "base/units.h"
#include "proto/status.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define N 40

static bool acked[N + 1];

static void on_stored(struct tier_rig *rig, const struct tier_rig_store *store, int result)
{
	if (store->number <= N)
		acked[store->number] = result == 0;
}

/* It is going to be dropped, perhaps. */
static void on_asked_for(struct tier_rig *rig, uint32_t space, uint32_t number)
{
	if (number <= N)
		acked[number] = false;
}

static void begin(struct tier_rig *rig, uint64_t segment_bytes, uint32_t segments)
{
	memset(acked, 0, sizeof(acked));
	tier_rig_init(rig, segment_bytes, segments);
	rig->flat = true;
	rig->stored = on_stored;
	rig->asked_for = on_asked_for;
	tier_rig_start(rig);
}

/* Stores that are refused are tried again: what failed is tried again after a while, too. */
static void store_all(struct tier_rig *rig)
{
	for (uint32_t i = 1; i <= N; i++) {
		for (unsigned tries = 0; tier_rig_store(rig, 0, i, 1) != 0 && tries < 100; tries++)
			tier_rig_wait(rig, tries * UINT64_C(100000000));
		if (i % 3 == 0)
			tier_rig_run(rig);
	}
	tier_rig_run(rig);
	assert_int_equal(rig->stores_n, 0);
}

static uint32_t acked_count(void)
{
	uint32_t n = 0;

	for (uint32_t i = 1; i <= N; i++)
		n += acked[i];
	return n;
}

static void assert_acked_load(struct tier_rig *rig)
{
	for (uint32_t i = 1; i <= N; i++)
		if (acked[i])
			assert_int_equal(tier_rig_load(rig, 0, i).result, 0);
}

static void fail_each(unsigned verbs, int result, bool half)
{
	struct tier_rig rig;

	for (uint64_t first = 1;; first++) {
		bool over;

		begin(&rig, 128 * KIB, 8);
		rig.disk.fault = (struct disk_memory_fault){ verbs, first, 1, result, half };
		store_all(&rig);
		over = rig.disk.counted < first;
		assert_true(acked_count() + rig.asked >= N - 2);
		assert_int_equal(tier_rig_stats(&rig).write_errors_total, !over);
		assert_acked_load(&rig);
		tier_rig_crash(&rig, false);
		tier_rig_start(&rig);
		assert_acked_load(&rig);
		tier_rig_deinit(&rig);
		if (over)
			break;
	}
}

static void test_write_fails(void **state)
{
	fail_each(1 << DISK_WRITE, -EIO, false);
}

static void test_write_fails_halfway(void **state)
{
	fail_each(1 << DISK_WRITE, -ENOSPC, true);
}

static void test_sync_or_create_fails(void **state)
{
	fail_each(1 << DISK_SYNC | 1 << DISK_CREATE, -EIO, false);
}

/* What is lost is that one block. */
static void test_read_fails(void **state)
{
	struct tier_rig rig;

	begin(&rig, 128 * KIB, 8);
	store_all(&rig);
	rig.disk.fault = (struct disk_memory_fault){ 1 << DISK_READ, 1, 1, -EIO, false };
	rig.disk.counted = 0;
	assert_int_equal(tier_rig_load(&rig, 0, 7).result, -EIO);
	assert_false(tier_rig_find(&rig, 0, 7));
	assert_int_equal(tier_rig_stats(&rig).read_errors_total, 1);
	acked[7] = false;
	assert_acked_load(&rig);
	tier_rig_deinit(&rig);
}

/* A drive that takes no writes costs at most what was being cleaned, and is used again when it does. */
static void test_no_writes_for_a_while(void **state)
{
	struct tier_rig rig;
	uint64_t before;

	begin(&rig, 128 * KIB, 8);
	for (unsigned round = 0; round < 4; round++)
		store_all(&rig);
	before = tier_rig_stats(&rig).blocks;
	rig.disk.counted = 0;
	rig.disk.fault = (struct disk_memory_fault){ 1 << DISK_WRITE | 1 << DISK_SYNC, 1, UINT64_MAX, -EIO, false };
	for (uint32_t i = 100; i < 400; i++) {
		(void)tier_rig_store(&rig, 1, i, 1);
		tier_rig_run(&rig);
	}
	assert_true(tier_rig_stats(&rig).blocks > before / 2);
	assert_true(tier_rig_stats(&rig).write_errors_total < 100);
	rig.disk.fault.first = 0;
	tier_rig_wait(&rig, UINT64_C(1200) * 1000 * 1000 * 1000);
	store_all(&rig);
	assert_int_equal(acked_count(), N);
	assert_acked_load(&rig);
	tier_rig_deinit(&rig);
}

/* No room for as many files as there may be: it goes on with those that there are. */
static void test_few_files(void **state)
{
	struct tier_rig rig;
	uint32_t found = 0;

	begin(&rig, 128 * KIB, 64);
	rig.disk.files_possible = 4;
	for (unsigned round = 0; round < 5; round++)
		store_all(&rig);
	assert_int_equal(tier_rig_stats(&rig).segments, 4);
	for (uint32_t i = 1; i <= N; i++)
		found += tier_rig_load(&rig, 0, i).result == 0;
	assert_true(found > 5);
	rig.disk.files_possible = 64;
	tier_rig_wait(&rig, UINT64_C(1200) * 1000 * 1000 * 1000);
	store_all(&rig);
	store_all(&rig);
	assert_true(tier_rig_stats(&rig).segments > 4);
	tier_rig_deinit(&rig);
}

/* The start reads what it can. */
static void test_start_fails(void **state)
{
	struct tier_rig rig;
	uint32_t found;

	begin(&rig, 128 * KIB, 8);
	store_all(&rig);
	for (uint64_t first = 1; first < 40; first++) {
		if (first % 2)
			tier_rig_stop(&rig);
		else
			tier_rig_crash(&rig, false);
		rig.start_fault =
			(struct disk_memory_fault){ 1 << DISK_READ | 1 << DISK_CREATE, first, 1, -EIO, false };
		tier_rig_start(&rig);
		rig.disk.fault.first = 0;
		found = 0;
		for (uint32_t i = 1; i <= N; i++)
			found += tier_rig_load(&rig, 0, i).result == 0;
		assert_true(found > 0);
		store_all(&rig);
		assert_acked_load(&rig);
	}
	tier_rig_deinit(&rig);
}

/* Wherever a byte changes, pages are right, or lost, or their checksum tells. */
static void test_changed_bytes(void **state)
{
	struct tier_rig rig;
	uint64_t seed = 1;

	begin(&rig, 128 * KIB, 8);
	store_all(&rig);
	tier_rig_stop(&rig);
	for (unsigned i = 0; i < 400; i++) {
		uint32_t file = (uint32_t)(disk_memory_random(&seed) % 4);
		/* Mostly where heads and footers are. */
		uint64_t at = disk_memory_random(&seed) % 32 * 4096 + disk_memory_random(&seed) % (i % 2 ? 4096 : 128);
		uint8_t *bytes = rig.disk.files[file].bytes;

		if (!bytes)
			continue;
		bytes[at] ^= (uint8_t)(1 << i % 8);
		tier_rig_start(&rig);
		for (uint32_t number = 1; number <= N; number++) {
			int result = tier_rig_load(&rig, 0, number).result;

			assert_true(result == 0 || result == KVP_MISS || result == KVP_CORRUPT);
		}
		tier_rig_crash(&rig, false);
		rig.disk.files[file].bytes[at] ^= (uint8_t)(1 << i % 8);
	}
	tier_rig_start(&rig);
	tier_rig_deinit(&rig);
}

static void test_files_gone_and_swapped(void **state)
{
	struct tier_rig rig;
	uint8_t *bytes;

	begin(&rig, 128 * KIB, 8);
	store_all(&rig);
	tier_rig_stop(&rig);
	disk_memory_file_remove(&rig.disk, 1);
	bytes = rig.disk.files[2].bytes;
	rig.disk.files[2].bytes = rig.disk.files[0].bytes;
	rig.disk.files[0].bytes = bytes;
	tier_rig_start(&rig);
	assert_true(tier_rig_stats(&rig).broken_total >= 2);
	for (uint32_t number = 1; number <= N; number++) {
		int result = tier_rig_load(&rig, 0, number).result;

		assert_true(result == 0 || result == KVP_MISS);
	}
	store_all(&rig);
	assert_acked_load(&rig);
	tier_rig_deinit(&rig);
}

/* What is to be moved is compared first, since nobody would know later. */
static void test_moved_pages_are_compared(void **state)
{
	struct tier_rig rig;

	begin(&rig, 128 * KIB, 4);
	assert_int_equal(tier_rig_store(&rig, 0, 1, 1), 0);
	assert_int_equal(tier_rig_store(&rig, 0, 2, 1), 0);
	tier_rig_run(&rig);
	assert_int_equal(tier_rig_load(&rig, 0, 1).result, 0);
	assert_int_equal(tier_rig_load(&rig, 0, 2).result, 0);
	for (uint32_t i = 0; i < 4; i++) /* the first page of the first block, in whichever file that is */
		if (rig.disk.files[i].bytes)
			rig.disk.files[i].bytes[2 * 4096 + 100] ^= 1;
	for (uint32_t i = 100; tier_rig_stats(&rig).moved_blocks_total == 0; i++) {
		assert_true(i < 1000);
		(void)tier_rig_store(&rig, 1, i, 1);
		tier_rig_run(&rig);
	}
	assert_false(tier_rig_find(&rig, 0, 1));
	assert_int_equal(tier_rig_stats(&rig).broken_total, 1);
	assert_int_equal(tier_rig_load(&rig, 0, 2).result, 0);
	tier_rig_deinit(&rig);
}

/* A file that fails again and again is made anew when its turn comes, elsewhere on the drive. */
static void test_bad_file_is_replaced(void **state)
{
	struct tier_rig rig;

	begin(&rig, 128 * KIB, 4);
	for (uint32_t i = 1; i <= 3; i++)
		assert_int_equal(tier_rig_store(&rig, 0, i, 1), 0);
	tier_rig_run(&rig);
	rig.disk.counted = 0;
	rig.disk.fault = (struct disk_memory_fault){ 1 << DISK_READ, 1, UINT64_MAX, -EIO, false };
	for (uint32_t i = 1; i <= 3; i++)
		assert_int_equal(tier_rig_load(&rig, 0, i).result, -EIO);
	rig.disk.fault.first = 0;
	assert_int_equal(rig.disk.removed, 0);
	for (unsigned round = 0; round < 5; round++)
		store_all(&rig);
	assert_int_equal(rig.disk.removed, 1);
	assert_int_equal(tier_rig_stats(&rig).segments, 3);
	tier_rig_wait(&rig, UINT64_C(1200) * 1000 * 1000 * 1000);
	for (unsigned round = 0; round < 5; round++)
		store_all(&rig);
	assert_int_equal(tier_rig_stats(&rig).segments, 4);
	tier_rig_deinit(&rig);
}

static void test_rate_refuses(void **state)
{
	struct tier_rig rig;
	uint32_t taken = 0;

	tier_rig_init(&rig, MIB, 8);
	rig.options.write_bytes_per_s = 64 * KIB;
	tier_rig_start(&rig);
	for (uint32_t i = 1; i <= N; i++)
		taken += tier_rig_store(&rig, 0, i, 1) == 0;
	assert_true(taken > 3 && taken < 15);
	tier_rig_wait(&rig, UINT64_C(1000) * 1000 * 1000);
	assert_int_equal(tier_rig_store(&rig, 0, 50, 1), 0);
	tier_rig_deinit(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_fails),
		cmocka_unit_test(test_write_fails_halfway),
		cmocka_unit_test(test_sync_or_create_fails),
		cmocka_unit_test(test_read_fails),
		cmocka_unit_test(test_no_writes_for_a_while),
		cmocka_unit_test(test_few_files),
		cmocka_unit_test(test_start_fails),
		cmocka_unit_test(test_changed_bytes),
		cmocka_unit_test(test_files_gone_and_swapped),
		cmocka_unit_test(test_moved_pages_are_compared),
		cmocka_unit_test(test_bad_file_is_replaced),
		cmocka_unit_test(test_rate_refuses),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
