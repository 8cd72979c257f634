/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What another user can do to the daemon and to its other clients: read the arena that it was
 * given, and nothing else. The attackers are processes of another uid that are served by the
 * daemon; the content of the arena is compared afterwards. Root and the daemon's own user are
 * trusted, so all of this needs root to become somebody else.
 */
#include "tests/e2e/wire.h"
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define STAGING (64u << 10)
#define ALICE 61001
#define MALLORY 61002

/* ---- the arena ---- */

/* The call must have failed, with this errno if it is not 0. */
#define refused(call, error) \
	do { \
		errno = 0; \
		if ((long)(call) != -1L) \
			fail_msg("%s succeeded", #call); \
		if ((error) != 0 && errno != (error)) \
			fail_msg("%s: %s, not %s", #call, strerror(errno), strerror(error)); \
	} while (0)

static void reopen(int fd)
{
	static const int flags[] = { O_RDWR, O_WRONLY, O_RDWR | O_TRUNC, O_WRONLY | O_APPEND };
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (unsigned i = 0; i < COUNT(flags); i++)
		refused(open(path, flags[i] | O_CLOEXEC), EACCES);
	refused(open(path, O_RDONLY | O_CLOEXEC),
		EACCES); /* 0600: not even a descriptor of one's own */
	refused(truncate(path, 0), EACCES);
	refused(chmod(path, 0666), EPERM);
	refused(setxattr(path, "user.x", "x", 1, 0), 0);
}

static void write_by_descriptor(int fd)
{
	struct iovec part = { .iov_base = (char *)"x", .iov_len = 1 };
	_cleanup_close_ int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);

	assert_true(zero >= 0);
	refused(write(fd, "x", 1), EBADF);
	refused(pwrite(fd, "x", 1, 4096), EBADF);
	refused(pwritev2(fd, &part, 1, 0, 0), EBADF);
	refused(sendfile(fd, zero, NULL, 1), EBADF);
	refused(copy_file_range(zero, NULL, fd, NULL, 1, 0), 0);
	refused(fallocate(fd, 0, 0, 4096), EBADF);
	refused(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 64 << 20), EBADF);
	refused(fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 4096), EBADF);
	refused(ftruncate(fd, 0), 0);
}

static void change_access(int fd)
{
	static const int seals[] = { F_SEAL_WRITE, F_SEAL_SHRINK,
				     0x0010 /* F_SEAL_FUTURE_WRITE */ };

	refused(fchmod(fd, 0666), EPERM);
	refused(fchown(fd, MALLORY, (gid_t)-1), EPERM);
	refused(futimens(fd, (struct timespec[2]){ { 0 }, { 0 } }), 0);
	for (unsigned i = 0; i < COUNT(seals); i++)
		refused(fcntl(fd, F_ADD_SEALS, seals[i]), EPERM);
	/* Flags can be set, access mode cannot. */
	(void)fcntl(fd, F_SETFL, O_RDWR | O_APPEND);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
}

static void write_by_mapping(int fd)
{
	const size_t bytes = 64 << 20;
	uint8_t *shared, *private;

	refused(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), EACCES);
	refused(mmap(NULL, bytes, PROT_WRITE, MAP_SHARED_VALIDATE, fd, 0), EACCES);
	shared = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(shared, MAP_FAILED);
	refused(mprotect(shared, bytes, PROT_READ | PROT_WRITE), EACCES);
	refused(madvise(shared, bytes, MADV_REMOVE), 0);
	refused(madvise(shared, bytes, MADV_POPULATE_WRITE), 0);
	/* What these do stays with the process that does it. */
	(void)madvise(shared, bytes, MADV_DONTNEED);
	(void)madvise(shared, bytes, MADV_FREE);
	private = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(private, MAP_FAILED);
	memset(private, 0xff, bytes);
	(void)munmap(private, bytes);
	(void)munmap(shared, bytes);
}

static void attack_arena(void *context)
{
	struct test_peer peer;
	int arena;

	peer_connect(&peer, context);
	wire_hello(&peer, 0, &arena, NULL);
	reopen(arena);
	write_by_descriptor(arena);
	change_access(arena);
	write_by_mapping(arena);
	reopen(arena);
	(void)close(arena);
	peer_close(&peer);
}

/* Everything behind the counters, which change with each request, as do the amounts that spaces hold. */
static uint64_t hash_arena(const struct test_peer *peer)
{
	const struct kvp_arena_header *header = peer->arena;
	const uint8_t *base = peer->arena;
	uint64_t hash = kvp_page_checksum(base + header->index_offset, peer->arena_bytes - header->index_offset);

	for (uint32_t i = 0; i < header->spaces_count; i++)
		hash = hash * 31 + kvp_page_checksum(base + header->spaces_offset +
							     i * sizeof(struct kvp_space_entry),
						     offsetof(struct kvp_space_entry, blocks));
	return hash;
}

/* A daemon that serves every user, and a client with something to lose. */
static void begin_open_scene(struct scene *scene, struct test_peer *peer)
{
	Kvpaged__V1__Schema schema;
	struct wire_space space;

	if (geteuid() != 0)
		harness_skip("only root can become another user");
	assert_int_equal(chmod(harness_directory(), 0755), 0);
	scene_begin(scene, "--socket-mode", "0666", NULL);
	peer_connect(peer, scene->daemon.socket_path);
	peer_hello(peer, STAGING);
	wire_schema(&schema, 4, 4);
	wire_open(peer, "precious", &schema, &space);
	for (unsigned i = 0; i < 20; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "key %u", i);
		assert_int_equal(
			wire_append(peer, &space, key, 0, space.page_count, (uint8_t)(i + 1)),
			KVP_OK);
	}
}

static void test_arena_of_another_user(void **state)
{
	struct scene scene;
	struct test_peer peer;
	uint64_t hash;

	begin_open_scene(&scene, &peer);
	hash = hash_arena(&peer);
	end_process(begin_process(MALLORY, attack_arena, scene.daemon.socket_path));
	assert_int_equal(hash_arena(&peer), hash);
	peer_close(&peer);
	scene_end(&scene);
}

/* ---- other processes ---- */

struct neighbours {
	const char *socket_path;
	pid_t daemon;
	pid_t alice;
	int ready[2]; /* pipes: Alice has her memory; she may end */
	int go[2];
};

static void alice(void *context)
{
	const struct neighbours *neighbours = context;
	struct test_peer peer;
	int arena, staging;
	uint8_t *memory;

	peer_connect(&peer, neighbours->socket_path);
	wire_hello(&peer, STAGING, &arena, &staging);
	memory = mmap(NULL, STAGING, PROT_READ | PROT_WRITE, MAP_SHARED, staging, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	memset(memory, 0x41, STAGING);
	assert_int_equal(write(neighbours->ready[1], "r", 1), 1);
	assert_int_equal(read(neighbours->go[0], &(char){ 0 }, 1), 1);
	for (unsigned i = 0; i < STAGING; i++)
		assert_int_equal(memory[i], 0x41);
}

/* Tries each descriptor number and each file mapping of the process. */
static void reach_into(pid_t pid)
{
	char path[64];
	struct iovec local = { .iov_base = (char *)"x", .iov_len = 1 };
	struct iovec remote = { .iov_base = path, .iov_len = 1 };

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	assert_null(opendir(path));
	for (int fd = 0; fd < 64; fd++) {
		(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
		refused(open(path, O_RDWR | O_CLOEXEC), 0);
		refused(open(path, O_RDONLY | O_CLOEXEC), 0);
	}
	(void)snprintf(path, sizeof(path), "/proc/%d/map_files", (int)pid);
	assert_null(opendir(path));
	(void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	refused(open(path, O_RDWR | O_CLOEXEC), 0);
	refused(process_vm_writev(pid, &local, 1, &remote, 1, 0), EPERM);
	refused(ptrace(PTRACE_ATTACH, pid, NULL, NULL), EPERM);
	refused(kill(pid, 0), EPERM);
}

/* As a client of the same daemon, with staging memory: hers must be another. */
static void attack_neighbours(void *context)
{
	const struct neighbours *neighbours = context;
	struct test_peer peer;
	int arena, staging;
	uint8_t *memory;

	peer_connect(&peer, neighbours->socket_path);
	wire_hello(&peer, STAGING, &arena, &staging);
	memory = mmap(NULL, STAGING, PROT_READ | PROT_WRITE, MAP_SHARED, staging, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	for (unsigned i = 0; i < STAGING; i++)
		assert_int_equal(memory[i], 0); /* nothing of anybody's is in it */
	memset(memory, 0x4d, STAGING);
	reach_into(neighbours->daemon);
	reach_into(neighbours->alice);
	(void)close(arena);
	(void)close(staging);
	peer_close(&peer);
}

static void test_staging_of_another_user(void **state)
{
	struct neighbours neighbours;
	struct scene scene;
	struct test_peer peer;

	begin_open_scene(&scene, &peer);
	neighbours = (struct neighbours){ .socket_path = scene.daemon.socket_path,
					  .daemon = scene.daemon.pid };
	assert_int_equal(pipe2(neighbours.ready, O_CLOEXEC), 0);
	assert_int_equal(pipe2(neighbours.go, O_CLOEXEC), 0);
	neighbours.alice = begin_process(ALICE, alice, &neighbours);
	(void)close(neighbours.ready[1]);
	assert_int_equal(read(neighbours.ready[0], &(char){ 0 }, 1), 1);
	end_process(begin_process(MALLORY, attack_neighbours, &neighbours));
	assert_int_equal(write(neighbours.go[1], "g", 1), 1);
	end_process(neighbours.alice);
	(void)close(neighbours.ready[0]);
	(void)close(neighbours.go[0]);
	(void)close(neighbours.go[1]);
	peer_close(&peer);
	scene_end(&scene);
}

/* Memory that a session had is not what the next one gets. */
static void test_staging_is_fresh(void **state)
{
	struct scene scene;
	struct stat first, second;
	struct test_peer a, b;
	int arena, staging[2];
	uint8_t *memory;

	scene_begin(&scene, NULL);
	peer_connect(&a, scene.daemon.socket_path);
	wire_hello(&a, STAGING, &arena, &staging[0]);
	(void)close(arena);
	assert_int_equal(pwrite(staging[0], "secret", 6, 0), 6);
	peer_connect(&b, scene.daemon.socket_path);
	wire_hello(&b, STAGING, &arena, &staging[1]);
	(void)close(arena);
	assert_int_equal(fstat(staging[0], &first), 0);
	assert_int_equal(fstat(staging[1], &second), 0);
	assert_true(first.st_ino != second.st_ino || first.st_dev != second.st_dev);
	memory = mmap(NULL, STAGING, PROT_READ, MAP_SHARED, staging[1], 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	for (unsigned i = 0; i < STAGING; i++)
		assert_int_equal(memory[i], 0);
	(void)munmap(memory, STAGING);
	(void)close(staging[0]);
	(void)close(staging[1]);
	peer_close(&a);
	peer_close(&b);
	scene_end(&scene);
}

/* ---- the socket ---- */

struct caller {
	const char *socket_path;
	int error; /* what connect() must say; 0: it succeeds */
	bool served;
	gid_t group; /* a further one, which only root can take; 0: none */
};

/* To a Hello that is right. */
static void expect_no_answer(struct test_peer *peer)
{
	static const uint8_t hello[] = { 0x08, 0x02, 0x12, 0x04, 0x08, 0x01, 0x10, 0x01 };

	(void)wire_send_body(peer, hello, sizeof(hello));
	assert_null(peer_receive(peer, NULL, NULL));
}

static void call(void *context)
{
	const struct caller *caller = context;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct test_peer peer;
	int r;

	if (caller->group)
		assert_int_equal(setgroups(1, &caller->group), 0);
	assert_true(fd >= 0);
	memcpy(address.sun_path, caller->socket_path, strlen(caller->socket_path));
	r = connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? errno : 0;
	assert_int_equal(r, caller->error);
	if (r != 0)
		return;
	peer_attach(&peer, fd);
	if (caller->served)
		peer_hello(&peer, STAGING);
	else
		expect_no_answer(&peer);
	peer_close(&peer);
}

static void assert_call(const struct test_daemon *d, uint32_t uid, int error, bool served)
{
	struct caller caller = { .socket_path = d->socket_path, .error = error, .served = served };

	end_process(begin_process(uid, call, &caller));
}

static void test_socket_mode(void **state)
{
	struct test_daemon d;

	if (geteuid() != 0)
		harness_skip("only root can become another user");
	assert_int_equal(chmod(harness_directory(), 0755), 0);
	test_daemon_start(&d, NULL); /* 0660, root's */
	assert_call(&d, ALICE, EACCES, false);
	assert_call(&d, 0, 0, true);
	test_daemon_stop(&d);
	test_daemon_start(&d, "--socket-mode", "0660", "--socket-group", "61001", NULL);
	assert_call(&d, ALICE, 0, true); /* as one of the group */
	assert_call(&d, MALLORY, EACCES, false);
	test_daemon_stop(&d);
	test_daemon_start(&d, "--socket-mode", "0600", "--socket-owner", "61002", NULL);
	assert_call(&d, MALLORY, 0, true);
	assert_call(&d, ALICE, EACCES, false);
	test_daemon_stop(&d);
}

static void test_allowed_uids(void **state)
{
	struct test_daemon d;

	if (geteuid() != 0)
		harness_skip("only root can become another user");
	assert_int_equal(chmod(harness_directory(), 0755), 0);
	test_daemon_start(&d, "--socket-mode", "0666", "--access-allow-uids", "61001,4000000000",
			  NULL);
	assert_call(&d, ALICE, 0, true);
	assert_call(&d, MALLORY, 0, false);
	assert_call(&d, 0, 0, false); /* not even root */
	assert_true(test_daemon_logged(&d, "uid 61002"));
	assert_false(test_daemon_logged(&d, "uid 61001"));
	assert_call(&d, ALICE, 0, true);
	test_daemon_stop(&d);
}

static void test_allowed_gids(void **state)
{
	struct test_daemon d;
	struct caller member = { .served = true, .group = 61077 }, other = { .group = 61078 };

	if (geteuid() != 0)
		harness_skip("only root can become another user");
	assert_int_equal(chmod(harness_directory(), 0755), 0);
	test_daemon_start(&d, "--socket-mode", "0666", "--access-allow-gids", "61077,61001", NULL);
	assert_call(&d, ALICE, 0, true); /* her own group */
	assert_call(&d, MALLORY, 0, false);
	member.socket_path = other.socket_path = d.socket_path;
	end_process(begin_process(0, call, &member));
	end_process(begin_process(0, call, &other));
	test_daemon_stop(&d);
	test_daemon_start(&d, "--socket-mode", "0666", "--access-allow-gids", "61077", "--access-allow-uids", "61002",
			  NULL);
	assert_call(&d, MALLORY, 0, true);
	assert_call(&d, ALICE, 0, false);
	member.socket_path = d.socket_path;
	end_process(begin_process(0, call, &member));
	test_daemon_stop(&d);
}

/* A daemon for each tenant: what one may not read it cannot even map. */
static void test_tenants_have_arenas_of_their_own(void **state)
{
	struct test_daemon alices, mallorys;

	if (geteuid() != 0)
		harness_skip("only root can become another user");
	assert_int_equal(chmod(harness_directory(), 0755), 0);
	test_daemon_start(&alices, "--socket-mode", "0600", "--socket-owner", "61001", NULL);
	test_daemon_start(&mallorys, "--socket-mode", "0600", "--socket-owner", "61002", NULL);
	assert_call(&alices, ALICE, 0, true);
	assert_call(&alices, MALLORY, EACCES, false);
	assert_call(&mallorys, MALLORY, 0, true);
	assert_call(&mallorys, ALICE, EACCES, false);
	test_daemon_stop(&alices);
	test_daemon_stop(&mallorys);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_arena_of_another_user),
	cmocka_unit_test(test_staging_of_another_user),
	cmocka_unit_test(test_staging_is_fresh),
	cmocka_unit_test(test_socket_mode),
	cmocka_unit_test(test_allowed_uids),
	cmocka_unit_test(test_allowed_gids),
	cmocka_unit_test(test_tenants_have_arenas_of_their_own),
};

int main(void)
{
	return harness_run(tests, COUNT(tests));
}
