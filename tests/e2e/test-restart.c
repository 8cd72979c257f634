/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon whose arena is a file is killed or stopped, and the next one has all of it; clients go on. And files that it
 * must not take: another's, somebody else's, no arena at all.
 */
#include "tests/e2e/reader-rig.h"
#include "tests/lib/harness.h"
#include "tests/lib/memory-file.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define GRACE_MS 400
#define GRACE_TEXT "400ms"

static char arena_path[200];

static void begin_with(struct rig *rig, const char *name, const char *value)
{
	(void)snprintf(arena_path, sizeof(arena_path), "%s", memory_file("arena"));
	test_daemon_start(&rig->d, "--arena-path", arena_path, "--restart-grace-ms", GRACE_TEXT, name, value, NULL);
	rig_join(rig, &(struct kvc_options){ 0 });
}

static void begin(struct rig *rig)
{
	begin_with(rig, "--arena-bytes", "32MiB");
}

static void kill_and_restart(struct rig *rig)
{
	test_daemon_kill(&rig->d);
	test_daemon_restart(&rig->d);
}

static int delete_key(kvc_space *space, const char *name)
{
	struct kvc_key key = key_of(name);

	return kvc_delete(space, &key, 1, NULL);
}

/* ---- What is kept ---- */

static void append_family(struct rig *rig)
{
	char name[16], parent[16];

	for (uint32_t i = 0; i < 40; i++) {
		(void)snprintf(name, sizeof(name), "k%u", i);
		(void)snprintf(parent, sizeof(parent), "k%u", i - 1);
		assert_int_equal(append_block(rig->space, name, i % 8 ? parent : NULL, i, i % 3 ? 32 : 7), KVC_OK);
	}
}

static void expect_family(struct rig *rig)
{
	char name[16];

	for (uint32_t i = 0; i < 40; i++) {
		(void)snprintf(name, sizeof(name), "k%u", i);
		assert_int_equal(fetch_block(rig->space, name, i), KVC_OK);
	}
}

static void test_killed(void **state)
{
	struct rig rig;

	begin(&rig);
	append_family(&rig);
	kill_and_restart(&rig);
	expect_family(&rig);
	assert_true(test_daemon_logged(&rig.d, "arena taken over in "));
	assert_true(test_daemon_logged(&rig.d, "40 blocks in 1 spaces"));
	assert_int_equal(counter_of(rig.client, "blocks"), 40);
	assert_int_equal(append_block(rig.space, "after", "k7", 77, 32), KVC_OK);
	kill_and_restart(&rig);
	expect_family(&rig);
	assert_int_equal(fetch_block(rig.space, "after", 77), KVC_OK);
	rig_stop(&rig);
}

static void test_stopped_in_order(void **state)
{
	struct rig rig;

	begin(&rig);
	append_family(&rig);
	test_daemon_restart(&rig.d);
	expect_family(&rig);
	assert_true(test_daemon_logged(&rig.d, "arena taken over in "));
	rig_stop(&rig);
}

/* ---- Who reads meanwhile ---- */

/* Pinned before: valid as long as nothing is removed, and when it is, for the time of grace. */
static void test_pinned_over_a_restart(void **state)
{
	struct rig rig, writer;
	kvc_block *stays, *goes;
	struct kvc_tile tile;
	float first;

	begin(&rig);
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	assert_int_equal(append_block(rig.space, "b", NULL, 2, 32), KVC_OK);
	stays = pin(&rig, "a");
	goes = pin(&rig, "b");
	assert_int_equal(kvc_block_tile(goes, 'K', 0, 0, &tile), KVC_OK);
	test_daemon_kill(&rig.d);
	assert_true(expect_block(stays, 1));
	test_daemon_restart(&rig.d);
	assert_true(expect_block(stays, 1));
	writer.d = rig.d;
	rig_join(&writer, &(struct kvc_options){ 0 });
	assert_int_equal(delete_key(writer.space, "b"), KVC_OK);
	assert_int_equal(kvc_block_check(goes), KVC_STALE);
	first = *(const float *)tile.bytes;
	assert_true(first == value_at(2, 'K', 0, 0, 0, 0)); /* its bytes are there still */
	assert_int_equal(counter_of(writer.client, "blocks_limbo"), 1);
	while (counter_of(writer.client, "blocks_limbo") > 0)
		pause_ms(20);
	assert_true(expect_block(stays, 1));
	/* A pin after the restart is one of the new session's, and is known to the daemon. */
	kvc_unpin(goes);
	goes = pin(&rig, "a");
	assert_true(expect_block(goes, 1));
	assert_int_equal(delete_key(writer.space, "a"), KVC_OK);
	pause_ms(2 * GRACE_MS);
	assert_int_equal(counter_of(writer.client, "blocks_limbo"), 1);
	assert_int_equal(kvc_block_check(goes), KVC_STALE);
	kvc_unpin(goes);
	kvc_unpin(stays);
	while (counter_of(writer.client, "blocks_limbo") > 0)
		pause_ms(20);
	kvc_close(writer.client);
	rig_stop(&rig);
}

/* A reader that never asks the daemon for anything sees that another has taken over, and its pins count again. */
static void test_reader_moves(void **state)
{
	struct rig rig;
	struct kvc_info info;
	kvc_block *block;

	begin(&rig);
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	assert_int_equal(find(&rig, "a"), KVC_OK);
	test_daemon_kill(&rig.d);
	assert_int_equal(find(&rig, "a"), KVC_OK); /* there is no daemon, and no need of one */
	test_daemon_restart(&rig.d);
	block = pin(&rig, "a");
	assert_true(expect_block(block, 1));
	assert_int_equal(kvc_client_info(rig.client, &info), KVC_OK);
	assert_int_equal(info.reconnects, 1);
	kvc_unpin(block);
	rig_stop(&rig);
}

/* While the grace lasts a full arena takes nothing new and loses nothing; afterwards it evicts as ever. */
static void test_full(void **state)
{
	struct rig rig;
	char name[16];
	uint32_t n = 0;

	begin_with(&rig, "--arena-blocks", "64");
	for (; n < 64; n++) {
		(void)snprintf(name, sizeof(name), "n%u", n);
		assert_int_equal(append_block(rig.space, name, NULL, n, 32), KVC_OK);
	}
	kill_and_restart(&rig);
	assert_int_equal(append_block(rig.space, "more", NULL, 5, 32), KVC_NO_SPACE);
	assert_int_equal(counter_of(rig.client, "blocks"), 64);
	while (append_block(rig.space, "more", NULL, 5, 32) == KVC_NO_SPACE)
		pause_ms(20);
	assert_int_equal(fetch_block(rig.space, "more", 5), KVC_OK);
	assert_int_equal(counter_of(rig.client, "evictions_capacity_total"), 1);
	rig_stop(&rig);
}

/* ---- Another arena than is wanted ---- */

static void write_at(off_t offset, const void *bytes, size_t n)
{
	_cleanup_close_ int fd = open(arena_path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, n, offset), (ssize_t)n);
}

/* What a client has mapped of the old one stays what it is. */
static void expect_cold(struct rig *rig, const char *why)
{
	kvc_block *block = pin(rig, "a");

	test_daemon_restart(&rig->d);
	assert_true(test_daemon_logged(&rig->d, why));
	assert_true(test_daemon_logged(&rig->d, "the cache begins empty"));
	assert_true(expect_block(block, 1));
	assert_int_equal(fetch_block(rig->space, "a", 1), KVC_MISS);
	assert_int_equal(append_block(rig->space, "a", NULL, 2, 32), KVC_OK);
	kvc_unpin(block);
	rig_stop(rig);
}

static void test_another_size(void **state)
{
	struct rig rig;

	begin(&rig);
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	(void)snprintf(rig.d.arguments[5], sizeof(rig.d.arguments[5]), "48MiB");
	expect_cold(&rig, "it has another size than arena.bytes");
}

static void test_other_tables(void **state)
{
	struct rig rig;

	begin_with(&rig, "--arena-blocks", "100");
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	(void)snprintf(rig.d.arguments[5], sizeof(rig.d.arguments[5]), "101");
	expect_cold(&rig, "it has tables for another number of blocks");
}

static void test_another_version(void **state)
{
	const uint32_t version = 4711;
	struct rig rig;

	begin(&rig);
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	write_at(8, &version, sizeof(version));
	expect_cold(&rig, "it has another layout version");
}

/* Killed before it was laid out, and before it had a size. */
static void test_never_laid_out(void **state)
{
	struct rig rig;

	begin(&rig);
	for (unsigned round = 0; round < 2; round++) {
		kvc_close(rig.client); /* it has mapped what is cut */
		test_daemon_stop(&rig.d);
		assert_int_equal(truncate(arena_path, 0), 0);
		assert_int_equal(truncate(arena_path, round * (32 << 20)), 0);
		test_daemon_restart(&rig.d);
		rig_join(&rig, &(struct kvc_options){ 0 });
		assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	}
	rig_stop(&rig);
}

/* ---- Files that are left alone ---- */

static const char *empty_config(void)
{
	static char path[200];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/empty.conf", harness_directory());
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	return path;
}

/* It does not start, says so, and leaves what is there. */
static void expect_refused(const char *path, int exit_status, const char *says)
{
	char socket_path[200], output[2000] = "";

	(void)snprintf(socket_path, sizeof(socket_path), "%s/refused", harness_directory());
	assert_int_equal(test_daemon_run(output, sizeof(output), "--config", empty_config(), "--socket", socket_path,
					 "--arena-bytes", "16MiB", "--arena-path", path, NULL),
			 exit_status);
	if (!strstr(output, says))
		fail_msg("it says: %s", output);
}

static void test_two_owners(void **state)
{
	struct rig rig;
	char says[64];

	begin(&rig);
	assert_int_equal(append_block(rig.space, "a", NULL, 1, 32), KVC_OK);
	(void)snprintf(says, sizeof(says), "another kvpaged uses it, pid %d\n", (int)rig.d.pid);
	expect_refused(arena_path, 1, says);
	assert_int_equal(fetch_block(rig.space, "a", 1), KVC_OK);
	rig_stop(&rig);
}

static void make(const char *path, const char *content, mode_t mode)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	assert_int_equal(fchmod(fd, mode), 0);
}

static off_t size_of(const char *path)
{
	struct stat facts;

	assert_int_equal(lstat(path, &facts), 0);
	return facts.st_size;
}

static void test_not_an_arena(void **state)
{
	char path[200], other[200];

	(void)snprintf(path, sizeof(path), "%s", memory_file("file"));
	(void)snprintf(other, sizeof(other), "%s", memory_file("other"));
	make(path, "somebody's notes", 0600);
	expect_refused(path, 78, "is not an arena of kvpaged; it is left alone");
	assert_int_equal(size_of(path), 16);
	assert_int_equal(symlink(path, other), 0);
	expect_refused(other, 78, "is a symbolic link; it is left alone");
	assert_int_equal(unlink(other), 0);
	assert_int_equal(link(path, other), 0);
	expect_refused(other, 78, "has another name too");
	assert_int_equal(unlink(other), 0);
	assert_int_equal(chmod(path, 0640), 0);
	expect_refused(path, 78, "has mode 0640, not 0600");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	expect_refused(path, 1, "cannot open");
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_refused(path, 78, "is not a regular file");
	assert_int_equal(unlink(path), 0);
	make(path, "", 0600);
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 65534, 65534), 0);
		expect_refused(path, 78, "belongs to user 65534");
	}
	expect_refused(memory_file("nowhere/file"), 6, "its directory does not exist");
	expect_refused("relative", 2, "is not an absolute path of a file");
}

static void test_not_in_memory(void **state)
{
	char path[200];

	(void)snprintf(path, sizeof(path), "%s/arena", harness_directory());
	if (strncmp(path, "/dev/shm", 8) == 0)
		harness_skip("the tests' directory is in memory");
	expect_refused(path, 78, "is not on tmpfs or hugetlbfs");
	assert_int_equal(access(path, F_OK), -1);
}

static void test_strict(void **state)
{
	char output[2000] = "";

	assert_int_equal(test_daemon_run(output, sizeof(output), "--config", empty_config(), "--arena-seal", "strict",
					 "--arena-path", "/dev/shm/never", NULL),
			 78);
	assert_non_null(strstr(output, "a file cannot be sealed"));
	assert_int_equal(access("/dev/shm/never", F_OK), -1);
}

static void test_no_room(void **state)
{
	char path[256], directory[200];

	(void)snprintf(directory, sizeof(directory), "%s/small", harness_directory());
	(void)snprintf(path, sizeof(path), "%s/arena", directory);
	assert_int_equal(mkdir(directory, 0700), 0);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("small", directory, "tmpfs", 0, "size=8m") < 0)
		harness_skip("file systems cannot be mounted here");
	expect_refused(path, 6, "its file system has no room for 16777216 bytes");
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(umount(directory), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_stopped_in_order),
		cmocka_unit_test(test_pinned_over_a_restart),
		cmocka_unit_test(test_reader_moves),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_another_size),
		cmocka_unit_test(test_other_tables),
		cmocka_unit_test(test_another_version),
		cmocka_unit_test(test_never_laid_out),
		cmocka_unit_test(test_two_owners),
		cmocka_unit_test(test_not_an_arena),
		cmocka_unit_test(test_not_in_memory),
		cmocka_unit_test(test_strict),
		cmocka_unit_test(test_no_room),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
