/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared memory: what is sealed, who can reach it, and that the read-only descriptor stays one in
 * hostile hands.
 */
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "daemon/host/compat.h"
#include "daemon/host/memory.h"
#include "daemon/host/segment.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534
#define ARENA_BYTES (8 * MIB)

static struct host_error error;
static struct log quiet;

static struct segment make_arena(struct segment_arena_options options)
{
	struct segment arena;

	log_init(&quiet, STDERR_FILENO, LOG_LEVEL_ERROR);
	options.bytes = ARENA_BYTES;
	if (segment_create_arena(&options, &quiet, &arena, &error) < 0)
		fail_msg("%s", error.text);
	return arena;
}

/* From the outside: what the descriptor says of itself. */
static void assert_fixed(int fd, uint64_t bytes, int more_seals)
{
	struct stat status;

	assert_int_equal(fcntl(fd, F_GET_SEALS) & ~0x20 /* F_SEAL_EXEC, where the kernel has it */,
			 F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | more_seals);
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(status.st_size, bytes);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static void assert_zeroed(const struct segment *segment)
{
	const uint8_t *bytes = segment->memory;

	for (uint64_t i = 0; i < segment->bytes; i++)
		assert_int_equal(bytes[i], 0);
}

static void test_arena(void **state)
{
	struct segment arena = make_arena((struct segment_arena_options){ 0 });

	assert_fixed(arena.fd, ARENA_BYTES, 0);
	assert_fixed(arena.read_fd, ARENA_BYTES, 0);
	assert_int_equal(fcntl(arena.fd, F_GETFL) & O_ACCMODE, O_RDWR);
	assert_int_equal(fcntl(arena.read_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_zeroed(&arena);
	assert_int_equal(ftruncate(arena.fd, ARENA_BYTES / 2), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(arena.fd, ARENA_BYTES * 2), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fcntl(arena.fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
	assert_int_equal(errno, EPERM);
	segment_close(&arena);
	assert_null(arena.memory);
	assert_int_equal(arena.fd, -1);
	segment_close(&arena);
}

/* What a reader maps is what the daemon writes. */
static void test_readers_see_writes(void **state)
{
	struct segment arena = make_arena((struct segment_arena_options){ 0 });
	uint8_t *view = mmap(NULL, ARENA_BYTES, PROT_READ, MAP_SHARED, arena.read_fd, 0);

	assert_true(view != MAP_FAILED);
	memset((uint8_t *)arena.memory + ARENA_BYTES - 4096, 0x5a, 4096);
	assert_int_equal(view[ARENA_BYTES - 1], 0x5a);
	(void)munmap(view, ARENA_BYTES);
	segment_close(&arena);
}

static void test_strict_arena(void **state)
{
	struct segment arena = make_arena((struct segment_arena_options){ .strict = true });
	void *view;

	assert_fixed(arena.read_fd, ARENA_BYTES, F_SEAL_FUTURE_WRITE);
	*(volatile uint8_t *)arena.memory = 1; /* the mapping from before the seal */
	view = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, arena.fd, 0);
	assert_true(view == MAP_FAILED);
	assert_int_equal(errno, EPERM);
	segment_close(&arena);
}

static void test_prefault(void **state)
{
	struct segment arena = make_arena((struct segment_arena_options){ .prefault = true });
	struct stat status;

	assert_int_equal(fstat(arena.fd, &status), 0);
	assert_true((uint64_t)status.st_blocks * 512 >= ARENA_BYTES);
	segment_close(&arena);
	arena = make_arena((struct segment_arena_options){ .prefault = false });
	assert_int_equal(fstat(arena.fd, &status), 0);
	assert_int_equal(status.st_blocks, 0);
	segment_close(&arena);
}

static void test_huge_pages_missing(void **state)
{
	struct segment_arena_options options = { .bytes = ARENA_BYTES, .huge = SEGMENT_HUGE_YES };
	struct segment arena;

	if (memory_huge_pages_free() >= ARENA_BYTES / (2 * MIB))
		harness_skip("this system has huge pages to spare");
	log_init(&quiet, STDERR_FILENO, LOG_LEVEL_ERROR);
	assert_true(segment_create_arena(&options, &quiet, &arena, &error) < 0);
	assert_int_equal(error.exit_status, HOST_EXIT_NOT_CONFIGURED);
	assert_non_null(strstr(error.text, "it needs 4 of 2 MiB"));
	assert_non_null(strstr(error.text, "vm.nr_hugepages=4"));
	arena = make_arena((struct segment_arena_options){ .huge = SEGMENT_HUGE_TRY });
	assert_false(arena.huge);
	assert_fixed(arena.fd, ARENA_BYTES, 0);
	segment_close(&arena);
}

static void test_huge_pages(void **state)
{
	struct segment arena;

	if (memory_huge_pages_free() < ARENA_BYTES / (2 * MIB))
		harness_skip("this system has too few huge pages free");
	arena = make_arena(
		(struct segment_arena_options){ .huge = SEGMENT_HUGE_YES, .prefault = true });
	assert_true(arena.huge);
	assert_fixed(arena.fd, ARENA_BYTES, 0);
	segment_close(&arena);
}

/* Nothing may be left open by what could not be finished: the harness counts. */
static void test_no_descriptors_left(void **state)
{
	struct segment_arena_options options = { .bytes = ARENA_BYTES };
	struct rlimit before, none;
	struct segment segment = SEGMENT_NULL;
	int r;

	log_init(&quiet, STDERR_FILENO, LOG_LEVEL_ERROR);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	r = segment_create_shared("test", MIB, &segment);
	assert_true(segment_create_arena(&options, &quiet, &segment, &error) < 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(r, -EMFILE);
	assert_int_equal(segment.fd, -1);
	assert_non_null(strstr(error.text, "memfd_create: Too many open files"));
}

static void test_too_large(void **state)
{
	struct segment_arena_options options = { .bytes = UINT64_C(1) << 62 };
	struct segment arena;

	log_init(&quiet, STDERR_FILENO, LOG_LEVEL_ERROR);
	assert_true(segment_create_arena(&options, &quiet, &arena, &error) < 0);
	assert_int_equal(error.exit_status, HOST_EXIT_FAILURE);
	assert_non_null(
		strstr(error.text, "cannot create the arena of 4611686018427387904 bytes: "));
}

static void test_staging(void **state)
{
	struct segment staging;

	assert_int_equal(segment_create_shared("test", 64 * KIB + 1, &staging), 0);
	assert_fixed(staging.fd, 64 * KIB + 1, 0);
	assert_int_equal(staging.read_fd, -1);
	assert_zeroed(&staging);
	assert_int_equal(pwrite(staging.fd, "x", 1, 0), 1);
	assert_int_equal(*(const char *)staging.memory, 'x');
	assert_int_equal(ftruncate(staging.fd, 0), -1);
	assert_int_equal(errno, EPERM);
	segment_close_fds(&staging);
	assert_int_equal(staging.fd, -1);
	assert_int_equal(*(const char *)staging.memory, 'x');
	segment_close(&staging);
}

/* --- what a client of another user can try with the descriptor that it is given ------ */

static bool fails_with(long r, int expected)
{
	return r == -1 && errno == expected;
}

static bool reopening_fails(int fd)
{
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return fails_with(open(path, O_RDWR | O_CLOEXEC), EACCES) &&
	       fails_with(open(path, O_WRONLY | O_CLOEXEC), EACCES);
}

static bool mapping_for_writing_fails(int fd)
{
	void *view;

	if (!fails_with((long)(intptr_t)mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
					     fd, 0),
			EACCES))
		return false;
	view = mmap(NULL, ARENA_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	return view != MAP_FAILED &&
	       fails_with(mprotect(view, ARENA_BYTES, PROT_READ | PROT_WRITE), EACCES) &&
	       fails_with(madvise(view, ARENA_BYTES, MADV_REMOVE), EACCES);
}

static bool writing_fails(int fd)
{
	return fails_with(write(fd, "x", 1), EBADF) && fails_with(pwrite(fd, "x", 1, 0), EBADF) &&
	       fails_with(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, ARENA_BYTES),
			  EBADF) &&
	       ftruncate(fd, 0) == -1;
}

static bool changing_access_fails(int fd)
{
	return fails_with(fchmod(fd, 0666), EPERM) &&
	       fails_with(fchown(fd, NOBODY, (gid_t)-1), EPERM) &&
	       fails_with(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
}

/* The exit status names the first thing that succeeded. */
static int attack(int fd)
{
	static bool (*const attempts[])(int) = {
		reopening_fails,       mapping_for_writing_fails, writing_fails,
		changing_access_fails, reopening_fails,
	};

	if (setgroups(0, NULL) < 0 || setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
		return 100;
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++)
		if (!attempts[i](fd))
			return (int)i + 1;
	return 0;
}

static void test_other_user_cannot_write(void **state)
{
	struct segment arena;
	int status;
	pid_t pid;

	if (geteuid() != 0)
		harness_skip("only root can become another user");
	arena = make_arena((struct segment_arena_options){ 0 });
	memset(arena.memory, 0x77, ARENA_BYTES);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)munmap(arena.memory, ARENA_BYTES);
		(void)close(arena.fd);
		_exit(attack(arena.read_fd));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	for (uint64_t i = 0; i < ARENA_BYTES; i++)
		assert_int_equal(((const uint8_t *)arena.memory)[i], 0x77);
	segment_close(&arena);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_arena),
	cmocka_unit_test(test_readers_see_writes),
	cmocka_unit_test(test_strict_arena),
	cmocka_unit_test(test_prefault),
	cmocka_unit_test(test_huge_pages_missing),
	cmocka_unit_test(test_huge_pages),
	cmocka_unit_test(test_no_descriptors_left),
	cmocka_unit_test(test_too_large),
	cmocka_unit_test(test_staging),
	cmocka_unit_test(test_other_user_cannot_write),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
