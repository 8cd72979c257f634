/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each case looks at files from outside, too: what was written through the disk is read with pread(), and the other way
 * round. They are in the test's directory, with O_DIRECT where that can be.
 */
#include "tests/unit/disk-cases.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "tests/lib/disk-rig.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE (64 * KIB)
#define LONG (1u << 20)
#define EXTENTS_MAX 64

static enum disk_engine_choice cases_engine;

static void require_engine(void)
{
	if (cases_engine == DISK_ENGINE_IO_URING && syscall(SYS_io_uring_setup, 0, NULL) < 0 &&
	    (errno == ENOSYS || errno == EPERM))
		harness_skip("this system refuses io_uring");
}

void disk_cases_init(struct disk_rig *rig)
{
	require_engine();
	disk_rig_init(rig, cases_engine);
}

static void open_with_file(struct disk_rig *rig)
{
	disk_cases_init(rig);
	disk_rig_open(rig);
	disk_rig_must(rig, DISK_CREATE, 0, 0, NULL, 0);
}

static void outside(const struct disk_rig *rig, uint32_t file, bool write, uint64_t offset, void *memory, size_t bytes)
{
	_cleanup_close_ int fd = open(disk_rig_path(rig, file), O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	if (write)
		assert_int_equal(pwrite(fd, memory, bytes, (off_t)offset), bytes);
	else
		assert_int_equal(pread(fd, memory, bytes, (off_t)offset), bytes);
}

/* --- One at a time -------------------------------------------------------------------------------- */

/* There and back, with the least and the most bytes, from memory of every kind. */
static void test_round_trip(void **state)
{
	static const uint32_t sizes[] = { DISK_ALIGN, 3 * DISK_ALIGN, PAGE, DISK_IO_BYTES_MAX };
	_cleanup_free_ uint8_t *check = malloc(DISK_IO_BYTES_MAX);
	struct disk_rig rig;
	uint8_t *memory[3];

	open_with_file(&rig);
	memory[0] = rig.arena;
	memory[1] = rig.foreign;
	memory[2] = rig.disk->ops->buffers(rig.disk, DISK_RIG_ARENA_BYTES);
	assert_non_null(memory[2]);
	for (unsigned i = 0; i < 12; i++) {
		uint8_t *from = memory[i / 4] + DISK_ALIGN;
		uint32_t bytes = sizes[i % 4];
		uint64_t offset = (uint64_t)i * 5 * DISK_ALIGN;

		disk_rig_fill(from, bytes, 0, offset, i);
		disk_rig_must(&rig, DISK_WRITE, 0, offset, from, bytes);
		outside(&rig, 0, false, offset, check, bytes);
		assert_true(disk_rig_holds(check, bytes, 0, offset, i));
		memset(from, 0, bytes);
		disk_rig_must(&rig, DISK_READ, 0, offset, from, bytes);
		assert_true(disk_rig_holds(from, bytes, 0, offset, i));
	}
	disk_rig_deinit(&rig);
}

/* Memory for the tier is zeroed and aligned to pages; there is not more and more of it. */
static void test_buffers(void **state)
{
	struct disk_rig rig;
	unsigned n = 0;

	open_with_file(&rig);
	for (; n < 100; n++) {
		uint8_t *memory = rig.disk->ops->buffers(rig.disk, PAGE);

		if (!memory)
			break;
		assert_int_equal((uintptr_t)memory % 4096, 0);
		for (unsigned i = 0; i < PAGE; i++)
			assert_int_equal(memory[i], 0);
		disk_rig_must(&rig, DISK_WRITE, 0, 0, memory, PAGE);
	}
	assert_in_range(n, 2, 99);
	assert_null(rig.disk->ops->buffers(rig.disk, 0));
	disk_rig_deinit(&rig);
}

static void test_end_of_file(void **state)
{
	struct disk_rig rig;

	open_with_file(&rig);
	assert_int_equal(disk_rig_do(&rig, DISK_READ, 0, DISK_RIG_FILE_BYTES, rig.arena, PAGE), -ENODATA);
	assert_int_equal(disk_rig_do(&rig, DISK_READ, 0, DISK_RIG_FILE_BYTES - PAGE / 2, rig.arena, PAGE), -ENODATA);
	disk_rig_must(&rig, DISK_READ, 0, DISK_RIG_FILE_BYTES - PAGE, rig.arena, PAGE);
	assert_int_equal(truncate(disk_rig_path(&rig, 0), 10000), 0);
	assert_int_equal(disk_rig_do(&rig, DISK_READ, 0, 0, rig.foreign, PAGE), -ENODATA);
	assert_int_equal(disk_rig_do(&rig, DISK_READ, 0, 9728, rig.foreign, DISK_ALIGN), -ENODATA);
	disk_rig_must(&rig, DISK_READ, 0, 0, rig.foreign, 8192);
	assert_int_equal(truncate(disk_rig_path(&rig, 0), 0), 0);
	assert_int_equal(disk_rig_do(&rig, DISK_READ, 0, 0, rig.foreign, PAGE), -ENODATA);
	disk_rig_deinit(&rig);
}

/*
 * Past the page cache no part is allocated only: the first write to such a part is slow, and makes others wait. File
 * systems that do not tell are not asked.
 */
static void assert_written(const struct disk_rig *rig, uint32_t file)
{
	_Alignas(struct fiemap) uint8_t memory[sizeof(struct fiemap) + EXTENTS_MAX * sizeof(struct fiemap_extent)];
	struct fiemap *map = (struct fiemap *)memory;
	int fd = open(disk_rig_path(rig, file), O_RDONLY | O_DIRECT | O_CLOEXEC);

	*map = (struct fiemap){ .fm_length = DISK_RIG_FILE_BYTES, .fm_extent_count = EXTENTS_MAX,
				.fm_flags = FIEMAP_FLAG_SYNC };
	if (fd >= 0 && ioctl(fd, FS_IOC_FIEMAP, map) == 0)
		for (uint32_t i = 0; i < map->fm_mapped_extents; i++)
			assert_int_equal(map->fm_extents[i].fe_flags & FIEMAP_EXTENT_UNWRITTEN, 0);
	if (fd >= 0)
		(void)close(fd);
}

static void assert_whole(const struct disk_rig *rig, uint32_t file)
{
	struct stat status;

	assert_int_equal(stat(disk_rig_path(rig, file), &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(status.st_size, DISK_RIG_FILE_BYTES);
	assert_true((uint64_t)status.st_blocks * 512 >= DISK_RIG_FILE_BYTES);
	assert_written(rig, file);
}

/* Made anew, found, or made anew from something else. */
static void test_create(void **state)
{
	struct disk_rig rig;

	open_with_file(&rig);
	assert_whole(&rig, 0);
	disk_rig_fill(rig.arena, PAGE, 0, 0, 1);
	disk_rig_must(&rig, DISK_WRITE, 0, 0, rig.arena, PAGE);
	disk_rig_must(&rig, DISK_SYNC, 0, 0, NULL, 0);
	disk_rig_must(&rig, DISK_CREATE, 0, 0, NULL, 0); /* is open */
	disk_rig_close(&rig);
	disk_rig_open(&rig);
	disk_rig_must(&rig, DISK_CREATE, 0, 0, NULL, 0); /* is there */
	disk_rig_must(&rig, DISK_READ, 0, 0, rig.foreign, PAGE);
	assert_true(disk_rig_holds(rig.foreign, PAGE, 0, 0, 1));
	disk_rig_close(&rig);
	disk_rig_open(&rig);
	assert_int_equal(truncate(disk_rig_path(&rig, 0), 12345), 0);
	disk_rig_must(&rig, DISK_CREATE, 0, 0, NULL, 0); /* is of another length, which came after opening */
	assert_whole(&rig, 0);
	disk_rig_must(&rig, DISK_READ, 0, 0, rig.foreign, PAGE);
	for (unsigned i = 0; i < PAGE; i++)
		assert_int_equal(rig.foreign[i], 0);
	disk_rig_deinit(&rig);
}

/* What is no file is left alone. */
static void test_create_in_the_way(void **state)
{
	struct disk_rig rig;
	struct stat status;

	disk_cases_init(&rig);
	disk_rig_open(&rig);
	assert_int_equal(symlink("/etc/passwd", disk_rig_path(&rig, 1)), 0);
	assert_int_equal(disk_rig_do(&rig, DISK_CREATE, 1, 0, NULL, 0), -ELOOP);
	assert_int_equal(lstat(disk_rig_path(&rig, 1), &status), 0);
	assert_int_equal(mkdir(disk_rig_path(&rig, 2), 0700), 0);
	assert_int_equal(disk_rig_do(&rig, DISK_CREATE, 2, 0, NULL, 0), -EISDIR);
	assert_int_equal(mkfifo(disk_rig_path(&rig, 3), 0600), 0);
	assert_true(disk_rig_do(&rig, DISK_CREATE, 3, 0, NULL, 0) < 0);
	assert_int_equal(lstat(disk_rig_path(&rig, 3), &status), 0);
	disk_rig_deinit(&rig);
}

/* The file's number can be used again, for another file. */
static void test_remove(void **state)
{
	struct disk_rig rig;

	open_with_file(&rig);
	for (unsigned i = 0; i < 3; i++) {
		disk_rig_fill(rig.arena, PAGE, 0, 0, i);
		disk_rig_must(&rig, DISK_WRITE, 0, 0, rig.arena, PAGE);
		disk_rig_must(&rig, DISK_REMOVE, 0, 0, NULL, 0);
		assert_int_equal(access(disk_rig_path(&rig, 0), F_OK), -1);
		assert_int_equal(disk_rig_do(&rig, DISK_READ, 0, 0, rig.foreign, PAGE), -EBADF);
		assert_int_equal(disk_rig_do(&rig, DISK_SYNC, 0, 0, NULL, 0), -EBADF);
		disk_rig_must(&rig, DISK_REMOVE, 0, 0, NULL, 0); /* is not there */
		disk_rig_must(&rig, DISK_CREATE, 0, 0, NULL, 0);
		disk_rig_must(&rig, DISK_READ, 0, 0, rig.foreign, PAGE);
		assert_false(disk_rig_holds(rig.foreign, PAGE, 0, 0, i));
	}
	disk_rig_close(&rig);
	disk_rig_open(&rig);
	disk_rig_must(&rig, DISK_REMOVE, 0, 0, NULL, 0); /* is not open */
	disk_rig_deinit(&rig);
}

/* What is there is told; what cannot be used is gone. */
static void test_files(void **state)
{
	struct disk_rig rig;
	const uint8_t *there;

	disk_cases_init(&rig);
	disk_rig_open(&rig);
	there = rig.disk->ops->files(rig.disk);
	for (uint32_t i = 0; i < DISK_RIG_FILES; i++) {
		assert_int_equal(there[i], 0);
		disk_rig_must(&rig, DISK_CREATE, i, 0, NULL, 0);
	}
	assert_int_equal(there[0], 0); /* as it was */
	disk_rig_must(&rig, DISK_REMOVE, 3, 0, NULL, 0);
	disk_rig_close(&rig);
	assert_int_equal(truncate(disk_rig_path(&rig, 1), DISK_RIG_FILE_BYTES - 1), 0);
	rig.options.files_max = DISK_RIG_FILES - 1;
	disk_rig_open(&rig);
	there = rig.disk->ops->files(rig.disk);
	for (uint32_t i = 0; i < DISK_RIG_FILES - 1; i++)
		assert_int_equal(there[i], i != 1 && i != 3);
	assert_int_equal(access(disk_rig_path(&rig, 1), F_OK), -1);
	assert_int_equal(access(disk_rig_path(&rig, DISK_RIG_FILES - 1), F_OK), -1);
	disk_rig_deinit(&rig);
}

/*
 * A hole is punched into the arena: transfers go to what is mapped there then. Were it still registered, the file would
 * be read into pages that are not the arena's any more.
 */
static void test_unregister(void **state)
{
	struct disk_rig rig;

	open_with_file(&rig);
	disk_rig_fill(rig.foreign, PAGE, 0, 0, 1);
	disk_rig_must(&rig, DISK_WRITE, 0, 0, rig.foreign, PAGE);
	memset(rig.arena, 0xff, DISK_RIG_ARENA_BYTES);
	disk_rig_must(&rig, DISK_READ, 0, 0, rig.arena, PAGE);
	for (unsigned i = 0; i < 2; i++) {
		disk_unregister(rig.disk, rig.arena);
		assert_int_equal(madvise(rig.arena, DISK_RIG_ARENA_BYTES, MADV_REMOVE), 0);
		assert_int_equal(rig.arena[i], 0);
		disk_rig_must(&rig, DISK_READ, 0, 0, rig.arena, PAGE);
		assert_true(disk_rig_holds(rig.arena, PAGE, 0, 0, 1));
	}
	disk_rig_deinit(&rig);
}

/* --- Full file systems ---------------------------------------------------------------------------- */

/* A file system in memory below the test's directory, in a mount namespace of the test's own. */
static void mount_small(const struct disk_rig *rig, const char *size)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		harness_skip("no mount namespace can be had");
	assert_int_equal(mkdir(rig->directory, 0700), 0);
	if (mount("tmpfs", rig->directory, "tmpfs", 0, size) < 0)
		harness_skip("no tmpfs can be mounted");
}

/* No room for the second of two files: nothing is left of it, and the first one is as it was. */
static void test_no_space(void **state)
{
	struct disk_rig rig;

	disk_cases_init(&rig);
	mount_small(&rig, "size=12m,mode=0700");
	disk_rig_open(&rig);
	assert_int_equal(disk_rig_logged(&rig, "this file system is in memory"), 1);
	assert_int_equal(disk_rig_logged(&rig, ", through the page cache"), 1);
	disk_rig_must(&rig, DISK_CREATE, 0, 0, NULL, 0);
	disk_rig_fill(rig.arena, PAGE, 0, 0, 1);
	disk_rig_must(&rig, DISK_WRITE, 0, 0, rig.arena, PAGE);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(disk_rig_do(&rig, DISK_CREATE, 1, 0, NULL, 0), -ENOSPC);
		assert_int_equal(access(disk_rig_path(&rig, 1), F_OK), -1);
	}
	disk_rig_must(&rig, DISK_READ, 0, 0, rig.foreign, PAGE);
	assert_true(disk_rig_holds(rig.foreign, PAGE, 0, 0, 1));
	disk_rig_must(&rig, DISK_REMOVE, 0, 0, NULL, 0);
	disk_rig_must(&rig, DISK_CREATE, 1, 0, NULL, 0);
	disk_rig_close(&rig);
	rig.options.direct = DISK_DIRECT_YES;
	assert_int_equal(disk_rig_try(&rig), -EINVAL);
	assert_non_null(strstr(rig.error.text, "O_DIRECT"));
	(void)umount(rig.directory);
	disk_rig_deinit(&rig);
}

/* A file with holes, as a copy may be, is written to until there is no space. */
static void test_no_space_for_write(void **state)
{
	struct disk_rig rig;
	int result = 0;

	disk_cases_init(&rig);
	mount_small(&rig, "size=2m,mode=0700");
	{
		_cleanup_close_ int fd = open(disk_rig_path(&rig, 0), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, DISK_RIG_FILE_BYTES), 0);
	}
	disk_rig_open(&rig);
	assert_int_equal(rig.disk->ops->files(rig.disk)[0], 1);
	disk_rig_must(&rig, DISK_CREATE, 0, 0, NULL, 0);
	for (uint64_t offset = 0; result == 0 && offset < DISK_RIG_FILE_BYTES; offset += LONG)
		result = disk_rig_do(&rig, DISK_WRITE, 0, offset, rig.arena, LONG);
	assert_int_equal(result, -ENOSPC);
	disk_rig_must(&rig, DISK_READ, 0, 0, rig.foreign, LONG);
	disk_rig_close(&rig);
	(void)umount(rig.directory);
	disk_rig_deinit(&rig);
}

int disk_cases_run(enum disk_engine_choice engine)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_buffers),
		cmocka_unit_test(test_end_of_file),
		cmocka_unit_test(test_create),
		cmocka_unit_test(test_create_in_the_way),
		cmocka_unit_test(test_remove),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_unregister),
		cmocka_unit_test(test_no_space),
		cmocka_unit_test(test_no_space_for_write),
		cmocka_unit_test(test_disk_many),
		cmocka_unit_test(test_disk_order),
		cmocka_unit_test(test_disk_portions),
		cmocka_unit_test(test_disk_late_submit),
		cmocka_unit_test(test_disk_from_done),
		cmocka_unit_test(test_disk_close),
		cmocka_unit_test(test_disk_close_submits),
		cmocka_unit_test(test_disk_close_files),
	};

	cases_engine = engine;
	disk_rig_warm();
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
