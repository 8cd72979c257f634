/* SPDX-License-Identifier: Apache-2.0 */
/* The disk that fails on demand, around one that does not: what is told, and what is in the file then. */
#include "tests/lib/disk-faulty.h"
#include "tests/lib/disk-rig.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <string.h>

#define BYTES 65536u
#define MANY 64 /* fills the arena */

struct item {
	struct disk_io io;
	unsigned times;
	int result;
};

struct rig {
	struct disk_rig host;
	struct disk *faulty;
	struct item items[MANY];
};

static void on_done(struct disk_io *io, int result)
{
	struct item *item = list_entry(io, struct item, io);

	assert_true(io->ended_ns > 0);
	item->times++;
	item->result = result;
}

static void begin(struct rig *rig, struct disk_faulty_odds odds, int error)
{
	memset(rig, 0, sizeof(*rig));
	disk_rig_init(&rig->host, DISK_ENGINE_THREADS);
	disk_rig_open(&rig->host);
	disk_rig_must(&rig->host, DISK_CREATE, 0, 0, NULL, 0);
	disk_rig_fill(rig->host.foreign, BYTES, 0, 0, 7);
	disk_rig_must(&rig->host, DISK_WRITE, 0, 0, rig->host.foreign, BYTES);
	rig->faulty = disk_faulty_new(
		&(struct disk_faulty_options){ .below = rig->host.disk, .seed = 5, .odds = odds, .error = error });
	assert_string_equal(rig->faulty->ops->engine, "threads");
	assert_int_equal(rig->faulty->file_bytes, DISK_RIG_FILE_BYTES);
	assert_int_equal(rig->faulty->ops->files(rig->faulty)[0], 0);
}

static void end(struct rig *rig)
{
	rig->faulty = disk_faulty_free(rig->faulty);
	disk_rig_deinit(&rig->host);
}

static void submit(struct rig *rig, unsigned i, enum disk_verb verb)
{
	rig->items[i] = (struct item){ .io = { .verb = verb, .memory = rig->host.arena + i * BYTES, .bytes = BYTES,
					       .done = on_done } };
	rig->faulty->ops->submit(rig->faulty, &rig->items[i].io);
}

static int do_one(struct rig *rig, enum disk_verb verb)
{
	submit(rig, 0, verb);
	while (rig->items[0].times == 0)
		(void)uv_run(&rig->host.loop, UV_RUN_ONCE);
	assert_int_equal(rig->items[0].times, 1);
	return rig->items[0].result;
}

static void test_nth(void **state)
{
	struct rig rig;

	begin(&rig, (struct disk_faulty_odds){ 0 }, 0);
	disk_faulty_fail_nth(rig.faulty, 1 << DISK_WRITE, 3, -ENOSPC);
	for (unsigned i = 1; i <= 5; i++) {
		disk_rig_fill(rig.host.arena, BYTES, 0, 0, i);
		assert_int_equal(do_one(&rig, DISK_WRITE), i == 3 ? -ENOSPC : 0);
		assert_int_equal(do_one(&rig, DISK_READ), 0);
		assert_true(disk_rig_holds(rig.host.arena, BYTES, 0, 0, i == 3 ? 2 : i)); /* the third was not done */
	}
	disk_faulty_fail_nth(rig.faulty, 1 << DISK_CREATE | 1 << DISK_SYNC, 1, -EIO);
	assert_int_equal(do_one(&rig, DISK_READ), 0);
	assert_int_equal(do_one(&rig, DISK_SYNC), -EIO);
	assert_int_equal(do_one(&rig, DISK_SYNC), 0);
	assert_int_equal(disk_faulty_counts(rig.faulty).failed, 2);
	assert_int_equal(disk_faulty_counts(rig.faulty).submitted, 13);
	end(&rig);
}

static void test_half(void **state)
{
	struct rig rig;

	begin(&rig, (struct disk_faulty_odds){ .half = 1 }, 0);
	disk_rig_fill(rig.host.arena, BYTES, 0, 0, 8);
	assert_int_equal(do_one(&rig, DISK_WRITE), -EIO);
	assert_int_equal(do_one(&rig, DISK_READ), 0);
	assert_true(disk_rig_holds(rig.host.arena, BYTES / 2, 0, 0, 8));
	assert_true(disk_rig_holds(rig.host.arena + BYTES / 2, BYTES / 2, 0, BYTES / 2, 7));
	end(&rig);
}

static unsigned bits_that_differ(const uint8_t *a, const uint8_t *b)
{
	unsigned n = 0;

	for (unsigned i = 0; i < BYTES; i++)
		n += (unsigned)__builtin_popcount(a[i] ^ b[i]);
	return n;
}

static void test_flip(void **state)
{
	struct rig rig;

	begin(&rig, (struct disk_faulty_odds){ .flip = 1 }, 0);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(do_one(&rig, DISK_READ), 0);
		assert_int_equal(bits_that_differ(rig.host.arena, rig.host.foreign), 1);
	}
	disk_faulty_set_odds(rig.faulty, &(struct disk_faulty_odds){ 0 });
	assert_int_equal(do_one(&rig, DISK_READ), 0);
	assert_int_equal(bits_that_differ(rig.host.arena, rig.host.foreign), 0);
	end(&rig);
}

/* About one of four, with the given error; the others as ever. */
static void test_odds(void **state)
{
	struct rig rig;
	unsigned failed = 0;

	begin(&rig, (struct disk_faulty_odds){ .fail = 4 }, -EROFS);
	for (unsigned i = 0; i < 200; i++) {
		int r = do_one(&rig, i % 2 ? DISK_READ : DISK_WRITE);

		assert_true(r == 0 || r == -EROFS);
		failed += r < 0;
	}
	assert_in_range(failed, 20, 80);
	assert_int_equal(disk_faulty_counts(rig.faulty).failed, failed);
	end(&rig);
}

static void test_hold(void **state)
{
	struct rig rig;
	unsigned done = 0;

	begin(&rig, (struct disk_faulty_odds){ .hold = 1 }, 0);
	for (unsigned i = 0; i < MANY; i++)
		submit(&rig, i, DISK_READ);
	while (disk_faulty_counts(rig.faulty).held < MANY)
		(void)uv_run(&rig.host.loop, UV_RUN_ONCE);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(rig.items[i].times, 0);
	assert_int_equal(disk_faulty_release(rig.faulty, MANY / 2), MANY / 2);
	for (unsigned i = 0; i < MANY / 2; i++)
		done += rig.items[i].times;
	assert_in_range(done, 1, MANY / 2 - 1); /* not the first ones first */
	assert_int_equal(disk_faulty_release(rig.faulty, 1000), MANY / 2);
	for (unsigned i = 0; i < MANY; i++)
		assert_true(rig.items[i].times == 1 && rig.items[i].result == 0);
	end(&rig);
}

/* Closing the disk below reaches the owner. */
static void test_close(void **state)
{
	struct rig rig;

	begin(&rig, (struct disk_faulty_odds){ .fail = 2 }, 0);
	for (unsigned i = 0; i < MANY; i++)
		submit(&rig, i, DISK_READ);
	disk_rig_close(&rig.host);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(rig.items[i].times, 1);
	end(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nth),  cmocka_unit_test(test_half), cmocka_unit_test(test_flip),
		cmocka_unit_test(test_odds), cmocka_unit_test(test_hold), cmocka_unit_test(test_close),
	};

	disk_rig_warm();
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
