/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of a disk and who may have it, and which engine it gets on systems that refuse something: those are
 * made with a filter of system calls or with limits, in the test's own process.
 */
#include "tests/lib/disk-rig.h"
#include "tests/lib/harness.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534
#define BYTES 65536u

static void refused(struct disk_rig *rig, const char *why)
{
	rig->error.text[0] = '\0';
	assert_int_equal(disk_rig_try(rig), -EINVAL);
	if (!strstr(rig->error.text, why))
		fail_msg("'%s' is not in '%s'", why, rig->error.text);
	disk_rig_close(rig);
}

static void use(struct disk_rig *rig)
{
	disk_rig_must(rig, DISK_CREATE, 0, 0, NULL, 0);
	disk_rig_fill(rig->arena, BYTES, 0, 0, 1);
	disk_rig_must(rig, DISK_WRITE, 0, 0, rig->arena, BYTES);
	disk_rig_must(rig, DISK_SYNC, 0, 0, NULL, 0);
	disk_rig_must(rig, DISK_READ, 0, 0, rig->foreign, BYTES);
	assert_true(disk_rig_holds(rig->foreign, BYTES, 0, 0, 1));
}

/* --- The directory -------------------------------------------------------------------------------- */

static void test_directory(void **state)
{
	struct disk_rig rig;
	struct stat status;

	disk_rig_init(&rig, DISK_ENGINE_THREADS);
	disk_rig_open(&rig);
	assert_int_equal(stat(rig.directory, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	use(&rig);
	disk_rig_close(&rig);
	assert_int_equal(chmod(rig.directory, 0755), 0);
	disk_rig_open(&rig);
	use(&rig);
	disk_rig_close(&rig);
	assert_int_equal(chmod(rig.directory, 0720), 0);
	refused(&rig, "chmod go-w");
	assert_int_equal(chmod(rig.directory, 0702), 0);
	refused(&rig, "chmod go-w");
	disk_rig_deinit(&rig);
}

static void test_directory_missing(void **state)
{
	struct disk_rig rig;
	char path[200];

	disk_rig_init(&rig, DISK_ENGINE_THREADS);
	(void)snprintf(path, sizeof(path), "%s/a/b", harness_directory());
	rig.options.directory = path;
	refused(&rig, "a/b: cannot make the directory: No such file");
	(void)snprintf(path, sizeof(path), "%s/file", harness_directory());
	assert_int_equal(close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
	refused(&rig, "Not a directory");
	disk_rig_deinit(&rig);
}

static void test_directory_of_another(void **state)
{
	struct disk_rig rig;

	if (geteuid() != 0)
		harness_skip("only root can give a directory away");
	disk_rig_init(&rig, DISK_ENGINE_THREADS);
	assert_int_equal(mkdir(rig.directory, 0700), 0);
	assert_int_equal(chown(rig.directory, NOBODY, NOBODY), 0);
	refused(&rig, "belongs to user 65534");
	disk_rig_deinit(&rig);
}

/* One owner at a time, in this process or another. */
static void test_lock(void **state)
{
	struct disk_rig first, second;
	pid_t child;
	int status;

	disk_rig_init(&first, DISK_ENGINE_AUTO);
	disk_rig_init(&second, DISK_ENGINE_THREADS);
	disk_rig_open(&first);
	use(&first);
	refused(&second, "tier/lock: another process holds it");
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(disk_rig_try(&second) == -EINVAL ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	disk_rig_must(&first, DISK_READ, 0, 0, first.foreign, BYTES); /* the refused one removed nothing */
	disk_rig_close(&first);
	disk_rig_open(&second);
	assert_int_equal(second.disk->ops->files(second.disk)[0], 1);
	disk_rig_deinit(&second);
	disk_rig_deinit(&first);
}

/* Only segments are touched, by their exact names. */
static void test_other_files(void **state)
{
	static const char *const names[] = { "segment-1", "segment-0000001", "segment-00001x", "segment-", "x",
					     "segment-99999999999999999999", "segment-+00001", "Segment-000001" };
	struct disk_rig rig;
	char path[300];

	disk_rig_init(&rig, DISK_ENGINE_THREADS);
	assert_int_equal(mkdir(rig.directory, 0700), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", rig.directory, names[i]);
		assert_int_equal(close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
	}
	disk_rig_open(&rig);
	for (uint32_t i = 0; i < DISK_RIG_FILES; i++)
		assert_int_equal(rig.disk->ops->files(rig.disk)[i], 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", rig.directory, names[i]);
		assert_int_equal(access(path, F_OK), 0);
	}
	disk_rig_deinit(&rig);
}

static void test_descriptors(void **state)
{
	struct rlimit limit = { 200, 200 };
	struct disk_rig rig;

	disk_rig_init(&rig, DISK_ENGINE_AUTO);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	rig.options.files_max = 101;
	refused(&rig, "LimitNOFILE=");
	rig.options.files_max = 100;
	disk_rig_open(&rig);
	use(&rig);
	disk_rig_deinit(&rig);
}

/* The flags of the descriptor that the first segment is open with. */
static int flags_of_segment(const struct disk_rig *rig)
{
	for (int fd = 3; fd < 100; fd++) {
		char link[64], path[300];
		ssize_t n;

		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, path, sizeof(path) - 1);
		if (n > 0 && (path[n] = '\0', strcmp(path, disk_rig_path(rig, 0)) == 0))
			return fcntl(fd, F_GETFL);
	}
	fail_msg("the segment is not open");
	return 0;
}

static void test_direct(void **state)
{
	static const enum disk_direct modes[] = { DISK_DIRECT_AUTO, DISK_DIRECT_YES, DISK_DIRECT_NO };
	struct disk_rig rig;

	disk_rig_init(&rig, DISK_ENGINE_AUTO);
	for (unsigned i = 0; i < 3; i++) {
		rig.options.direct = modes[i];
		if (disk_rig_try(&rig) < 0 && strstr(rig.error.text, "O_DIRECT"))
			harness_skip("the test's directory is on a file system without O_DIRECT");
		use(&rig);
		if (modes[i] != DISK_DIRECT_AUTO)
			assert_int_equal(!!(flags_of_segment(&rig) & O_DIRECT), modes[i] == DISK_DIRECT_YES);
		disk_rig_close(&rig);
	}
	disk_rig_deinit(&rig);
}

/* --- Systems that refuse -------------------------------------------------------------------------- */

/* From now on the system call ends with that error in this process. */
static void forbid(unsigned call, unsigned error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		harness_skip("no filter of system calls can be set");
}

/* What this system and this build have when nothing is refused. */
static void require_uring(void)
{
	struct disk_rig rig;
	bool has;

	disk_rig_init(&rig, DISK_ENGINE_AUTO);
	disk_rig_open(&rig);
	has = strcmp(rig.disk->ops->engine, "io_uring") == 0;
	disk_rig_deinit(&rig);
	if (!has)
		harness_skip("this system refuses io_uring, or this build is without it");
}

static void with_refused_uring(unsigned call, unsigned error, const char *text)
{
	struct disk_rig rig;

	require_uring();
	disk_rig_init(&rig, DISK_ENGINE_AUTO);
	forbid(call, error);
	disk_rig_open(&rig);
	assert_string_equal(rig.disk->ops->engine, "threads");
	assert_int_equal(disk_rig_logged(&rig, "threads instead of io_uring: "), 1);
	assert_int_equal(disk_rig_logged(&rig, text), 1);
	use(&rig);
	disk_rig_close(&rig);
	rig.options.engine = DISK_ENGINE_IO_URING;
	refused(&rig, "kernel.io_uring_disabled");
	disk_rig_deinit(&rig);
}

static void test_refused_eperm(void **state)
{
	with_refused_uring(SYS_io_uring_setup, EPERM, "Operation not permitted");
}

static void test_refused_enosys(void **state)
{
	with_refused_uring(SYS_io_uring_setup, ENOSYS, "Function not implemented");
}

static void test_refused_enomem(void **state)
{
	with_refused_uring(SYS_io_uring_setup, ENOMEM, "Cannot allocate memory");
}

/* A ring that tells of nothing is of no use. */
static void test_refused_register(void **state)
{
	with_refused_uring(SYS_io_uring_register, EPERM, "Operation not permitted");
}

/* Enough for the ring, not for the arena; since Linux 6.13 the ring counts as well. */
#define MEMLOCK_FEW_BYTES 262144

static int with_memlock(rlim_t bytes)
{
	struct rlimit limit = { bytes, bytes };
	struct disk_rig rig;

	disk_rig_init(&rig, bytes > 0 ? DISK_ENGINE_IO_URING : DISK_ENGINE_AUTO);
	if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0 || setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
		return 1;
	disk_rig_open(&rig);
	assert_int_equal(disk_rig_logged(&rig, "cannot be registered") + disk_rig_logged(&rig, "instead of io_uring"),
			 1);
	assert_non_null(rig.disk->ops->buffers(rig.disk, BYTES));
	use(&rig);
	disk_rig_deinit(&rig);
	return 0;
}

/* Memory that may not be locked is used as it is. */
static void test_no_memlock(void **state)
{
	char path[200];

	if (geteuid() != 0)
		harness_skip("only root can become another user");
	require_uring();
	(void)snprintf(path, sizeof(path), "%s/tier", harness_directory());
	assert_int_equal(chown(harness_directory(), NOBODY, NOBODY), 0);
	assert_int_equal(chown(path, NOBODY, NOBODY), 0);
	(void)snprintf(path, sizeof(path), "%s/tier/lock", harness_directory());
	assert_int_equal(chown(path, NOBODY, NOBODY), 0);
	for (unsigned i = 0; i < 2; i++) {
		pid_t child = fork();
		int status;

		assert_true(child >= 0);
		if (child == 0)
			_exit(with_memlock(i * MEMLOCK_FEW_BYTES));
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_directory),
		cmocka_unit_test(test_directory_missing),
		cmocka_unit_test(test_directory_of_another),
		cmocka_unit_test(test_lock),
		cmocka_unit_test(test_other_files),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_direct),
		cmocka_unit_test(test_refused_eperm),
		cmocka_unit_test(test_refused_enosys),
		cmocka_unit_test(test_refused_enomem),
		cmocka_unit_test(test_refused_register),
		cmocka_unit_test(test_no_memlock),
	};

	disk_rig_warm();
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
