/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory and descriptors between the daemon and a client that means harm, both of one user: what
 * the client sends is refused, what it was given cannot be resized or re-sealed, and what it writes
 * while the daemon copies is stored as its checksum says or not at all. (What another user can do
 * is in test-isolation.c.)
 */
#include "tests/e2e/wire.h"
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "codec/codec.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define STAGING (64u << 10)

/* ---- descriptors that a client sends ---- */

static int memfd_with(off_t bytes, int seals)
{
	int fd = memfd_create("donated", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, bytes), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

/* Whatever it is, the daemon wants none: it is not looked at. Returns how many were made. */
static size_t make_descriptors(int *fds)
{
	int pair[2], pipe_fds[2];
	size_t n = 0;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	fds[n++] = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	fds[n++] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fds[n++] = open("/", O_PATH | O_CLOEXEC);
	fds[n++] = open("/dev/zero", O_RDWR | O_CLOEXEC);
	fds[n++] = pipe_fds[0];
	fds[n++] = pipe_fds[1];
	fds[n++] = pair[0];
	fds[n++] = pair[1];
	fds[n++] = epoll_create1(EPOLL_CLOEXEC);
	fds[n++] = eventfd(0, EFD_CLOEXEC);
	fds[n++] = memfd_with(STAGING, 0);
	fds[n++] = memfd_with(STAGING, F_SEAL_SHRINK);
	fds[n++] = memfd_with(STAGING, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	fds[n++] = memfd_with(0, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
	for (size_t i = 0; i < n; i++)
		assert_true(fds[i] >= 0);
	return n;
}

enum place { ON_HELLO, ON_HEADER, ON_BODY, ON_LATER_FRAME, PLACES };

static void send_at(const struct scene *scene, enum place place, const int *fds, size_t n_fds)
{
	static const uint8_t stats[] = { 4, 0, 0, 0, 0x08, 0x05, 0x62, 0x00 };
	static const uint8_t hello[] = {
		8, 0, 0, 0, 0x08, 0x02, 0x12, 0x04, 0x08, 0x01, 0x10, 0x01
	};
	struct test_peer peer;
	size_t cut = place == ON_HEADER ? 2 : place == ON_BODY ? 6 : 0;

	peer_connect(&peer, scene->daemon.socket_path);
	if (place == ON_HELLO) {
		assert_int_equal(peer_send_fds(&peer, hello, sizeof(hello), fds, n_fds), 0);
	} else {
		peer_hello(&peer, STAGING);
		if (cut > 0)
			assert_int_equal(peer_send_bytes(&peer, stats, cut), 0);
		(void)peer_send_fds(&peer, stats + cut, sizeof(stats) - cut, fds, n_fds);
	}
	peer_expect_end(&peer);
	peer_close(&peer);
}

static void test_descriptors_of_every_kind(void **state)
{
	int fds[32];
	size_t n;
	struct scene scene;

	scene_begin(&scene, NULL);
	n = make_descriptors(fds);
	for (size_t i = 0; i < n; i++)
		for (enum place place = 0; place < PLACES; place++)
			send_at(&scene, place, &fds[i], 1);
	for (enum place place = 0; place < PLACES; place++)
		send_at(&scene, place, fds, n);
	for (size_t i = 0; i < n; i++)
		(void)close(fds[i]);
	scene_end(&scene);
}

/*
 * Its own end of the connection, and the arena that it was given: cycles must not keep anything
 * alive.
 */
static void test_descriptors_of_our_own(void **state)
{
	struct scene scene;

	scene_begin(&scene, NULL);
	for (int i = 0; i < 50; i++) {
		struct test_peer peer;

		peer_connect(&peer, scene.daemon.socket_path);
		peer_hello(&peer, STAGING);
		assert_int_equal(peer_send_fds(&peer, "x", 1, (int[]){ peer.fd, peer.arena_fd }, 2),
				 0);
		if (i % 2)
			peer_expect_end(&peer);
		peer_close(&peer); /* before the daemon looked, sometimes */
	}
	scene_end(&scene);
}

/* ---- descriptors that a client was given ---- */

static void assert_fixed_size(int fd, off_t bytes)
{
	struct stat status;

	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_size, bytes);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(fcntl(fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
			 F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(errno, EPERM);
}

static void test_staging_size_is_fixed(void **state)
{
	struct scene scene;
	struct test_peer peer;
	int arena, staging;

	scene_begin(&scene, NULL);
	peer_connect(&peer, scene.daemon.socket_path);
	wire_hello(&peer, STAGING, &arena, &staging);
	assert_fixed_size(staging, STAGING);
	for (off_t bytes = 0; bytes <= 2 * STAGING; bytes += STAGING / 2) {
		if (bytes == STAGING)
			continue;
		assert_int_equal(ftruncate(staging, bytes), -1);
		assert_int_equal(errno, EPERM);
	}
	assert_int_equal(fallocate(staging, 0, STAGING, STAGING), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(pwrite(staging, "x", 1, STAGING), -1);
	assert_int_equal(errno, EPERM);
	assert_fixed_size(staging, STAGING);
	(void)close(arena);
	(void)close(staging);
	peer_close(&peer);
	scene_end(&scene);
}

static void test_arena_is_read_only(void **state)
{
	struct scene scene;
	struct test_peer peer;
	struct stat status;
	int arena;
	void *memory;

	scene_begin(&scene, NULL);
	peer_connect(&peer, scene.daemon.socket_path);
	wire_hello(&peer, 0, &arena, NULL);
	assert_int_equal(fstat(arena, &status), 0);
	assert_fixed_size(arena, 64 << 20);
	assert_int_equal(fcntl(arena, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, arena, 0),
			 MAP_FAILED);
	assert_int_equal(errno, EACCES);
	memory = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, arena, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	assert_int_equal(mprotect(memory, 4096, PROT_READ | PROT_WRITE), -1);
	assert_int_equal(errno, EACCES);
	assert_int_equal(madvise(memory, 4096, MADV_REMOVE), -1);
	assert_int_equal(pwrite(arena, "x", 1, 0), -1);
	assert_int_equal(ftruncate(arena, 0), -1);
	assert_int_equal(fallocate(arena, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
	(void)munmap(memory, (size_t)status.st_size);
	(void)close(arena);
	peer_close(&peer);
	scene_end(&scene);
}

/* ---- writing while the daemon reads ---- */

#define SCRIBBLES_MAX 4000

/* Pages of about 270 KiB, so that the copy takes long enough to be disturbed. */
static void open_large(struct test_peer *peer, struct wire_space *space)
{
	Kvpaged__V1__Schema schema;

	wire_schema(&schema, 1, 4);
	schema.head_dim_k = 256;
	schema.head_dim_v = 256;
	schema.block_tokens = 128;
	schema.page_heads = 4;
	wire_open(peer, "large", &schema, space);
}

/* Changes one byte of the page and changes it back, all over it, for ever. */
__attribute__((noreturn)) static void scribble(volatile uint8_t *page, uint32_t bytes)
{
	uint64_t seed = 7;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		uint64_t at = random_next(&seed) % bytes;

		page[at] ^= 0xff;
		for (volatile int wait = 0; wait < 2000; wait++)
			;
		page[at] ^= 0xff;
		for (volatile int wait = 0; wait < 2000; wait++)
			;
	}
}

static unsigned append_whole(struct test_peer *peer, const struct wire_space *space,
			     uint64_t checksum)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Append append = KVPAGED__V1__APPEND__INIT;
	Kvpaged__V1__PageRef ref = KVPAGED__V1__PAGE_REF__INIT, *refs[] = { &ref };
	Kvpaged__V1__Reply *reply;
	unsigned status;

	ref.length = space->page_bytes;
	ref.checksum = checksum;
	append.space_id = space->id;
	append.key = (ProtobufCBinaryData){ .data = (uint8_t *)"scribbled", .len = 9 };
	append.tokens = space->tokens;
	append.n_pages = 1;
	append.pages = refs;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_APPEND;
	request.append = &append;
	reply = peer_call(peer, &request);
	assert_int_equal(reply->status, KVP_OK);
	assert_int_equal(reply->append->page_status.len, 1);
	status = reply->append->page_status.data[0];
	assert_int_equal(reply->append->complete, status == KVP_OK);
	kvpaged__v1__reply__free_unpacked(reply, NULL);
	return status;
}

/*
 * What is stored is what the checksum says, although the staging memory may say something else by
 * now.
 */
static void check_stored(struct test_peer *peer, const struct wire_space *space, uint64_t checksum)
{
	Kvpaged__V1__FetchItem item;
	const uint8_t *page;
	uint64_t recorded;

	assert_int_equal(wire_fetch(peer, space->id, "scribbled", 0, &item), KVP_OK);
	page = wire_page(peer, item.block, 0, &recorded);
	assert_non_null(page);
	assert_int_equal(recorded, checksum);
	assert_int_equal(kvp_page_checksum(page, space->page_bytes), checksum);
	assert_int_equal(wire_release(peer, item.lease_id), KVP_OK);
	assert_int_equal(wire_delete(peer, space->id, "scribbled"), KVP_OK);
}

static void test_staging_changes_during_copy(void **state)
{
	struct scene scene;
	struct test_peer peer;
	struct wire_space space;
	unsigned stored = 0, corrupt = 0;
	uint64_t checksum;
	pid_t pid;

	scene_begin(&scene, NULL);
	peer_connect(&peer, scene.daemon.socket_path);
	peer_hello(&peer, 512 << 10);
	open_large(&peer, &space);
	for (uint32_t i = 0; i < space.page_bytes; i++)
		peer.staging[i] = (uint8_t)(i * 7 + (i >> 8));
	checksum = kvp_page_checksum(peer.staging, space.page_bytes);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		scribble(peer.staging, space.page_bytes);
	for (unsigned i = 0; i < SCRIBBLES_MAX && (i < 200 || stored == 0 || corrupt == 0); i++) {
		unsigned status = append_whole(&peer, &space, checksum);

		assert_true(status == KVP_OK || status == KVP_CORRUPT);
		if (status == KVP_OK)
			check_stored(&peer, &space, checksum);
		stored += status == KVP_OK;
		corrupt += status == KVP_CORRUPT;
	}
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	print_message("%u stored, %u corrupt\n", stored, corrupt);
	assert_true(stored > 0 && corrupt > 0);
	assert_int_equal(peer_counter(&peer, "append_corrupt_total"), corrupt);
	peer_close(&peer);
	scene_end(&scene);
}

/*
 * A client may take pages out of its staging memory; the daemon then reads zeros, which match no
 * checksum.
 */
static void test_holes_in_staging(void **state)
{
	struct scene scene;
	struct test_peer peer;
	struct wire_space space;
	uint64_t checksum;

	scene_begin(&scene, NULL);
	peer_connect(&peer, scene.daemon.socket_path);
	peer_hello(&peer, 512 << 10);
	open_large(&peer, &space);
	memset(peer.staging, 0x33, space.page_bytes);
	checksum = kvp_page_checksum(peer.staging, space.page_bytes);
	assert_int_equal(madvise(peer.staging, 64 << 10, MADV_REMOVE), 0);
	assert_int_equal(append_whole(&peer, &space, checksum), KVP_CORRUPT);
	assert_int_equal(peer_counter(&peer, "blocks"), 0);
	memset(peer.staging, 0x33, space.page_bytes);
	assert_int_equal(append_whole(&peer, &space, checksum), KVP_OK);
	check_stored(&peer, &space, checksum);
	peer_close(&peer);
	scene_end(&scene);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_descriptors_of_every_kind),
	cmocka_unit_test(test_descriptors_of_our_own),
	cmocka_unit_test(test_staging_size_is_fixed),
	cmocka_unit_test(test_arena_is_read_only),
	cmocka_unit_test(test_staging_changes_during_copy),
	cmocka_unit_test(test_holes_in_staging),
};

int main(void)
{
	return harness_run(tests, COUNT(tests));
}
