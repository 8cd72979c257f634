/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that works on an arena is killed between any two of its writes. It runs instruction by instruction
 * (ptrace); whenever one has changed a table, another core takes a copy of the arena over: its books must be right,
 * pages what was stored, and the blocks those from before the request or those from after it, or some of both.
 */
#include "tests/lib/core-rig.h"
#include "tests/lib/harness.h"

#include "base/units.h"
#include "daemon/core/internal.h"
#include "proto/status.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARENA (8 * MIB)
#define BLOCKS 8
#define PAGES 4
#define WATCHED_MAX (16 * KIB)
#define STEPS_MAX 20000000

static const struct core_limits limits = { .restart_grace_ms = 500, .pinned_bytes_per_uid_max = ARENA };

/* What the process that is killed works with. */
struct scene {
	struct rig rig;
	struct rig_peer *peer;
	uint32_t space;
	uint32_t single;
	Kvpaged__V1__OpenSpaceReply reply;
	Kvpaged__V1__OpenSpaceReply single_reply;
};

/* A letter is a block of this key; upper case: it must be there, or rest, in every state. */
struct story {
	const char *name;
	void (*prepare)(struct scene *scene);
	void (*act)(struct scene *scene);
	const char *before;
	const char *after;
	const char *rests; /* may be missing from the index, but its memory is nobody else's */
};

static unsigned append(struct scene *scene, const char *key, const char *parent)
{
	return rig_append(scene->peer, scene->space, key, parent, 16, scene->reply.page_bytes, 0, PAGES,
			  (uint8_t)key[0]);
}

static void begin(struct scene *scene)
{
	Kvpaged__V1__Schema schema;

	scene->peer = rig_connect_reader(&scene->rig, 0, 1000, MIB, 1);
	scene->space = rig_open_small(scene->peer, &scene->reply);
	rig_schema(&schema, 1, 2, 64);
	scene->single = rig_open(scene->peer, "single", &schema, &scene->single_reply);
}

static void chain(struct scene *scene)
{
	begin(scene);
	assert_int_equal(append(scene, "a", NULL), KVP_OK);
	assert_int_equal(append(scene, "b", "a"), KVP_OK);
	assert_int_equal(append(scene, "c", "b"), KVP_OK);
	assert_int_equal(append(scene, "d", NULL), KVP_OK);
}

static void full(struct scene *scene)
{
	chain(scene);
	for (char key[2] = "e"; key[0] <= 'h'; key[0]++)
		assert_int_equal(append(scene, key, NULL), KVP_OK);
}

static void reused(struct scene *scene)
{
	full(scene);
	assert_int_equal(rig_delete(scene->peer, scene->space, "e"), KVP_OK);
	assert_int_equal(rig_delete(scene->peer, scene->space, "f"), KVP_OK);
}

static void half(struct scene *scene)
{
	chain(scene);
	assert_int_equal(rig_append(scene->peer, scene->space, "e", "d", 16, scene->reply.page_bytes, 0, 2, 'e'),
			 KVP_OK);
}

static void pin(struct scene *scene, const char *key)
{
	scene->peer->control->records_used = 1;
	kvp_control_records(scene->peer->control)[0].hazard[0] = rig_number(&scene->rig, key);
}

static void pinned(struct scene *scene)
{
	chain(scene);
	pin(scene, "d");
}

static void resting(struct scene *scene)
{
	pinned(scene);
	assert_int_equal(rig_delete(scene->peer, scene->space, "d"), KVP_OK);
	kvp_control_records(scene->peer->control)[0].hazard[0] = 0;
}

static void resting_and_half(struct scene *scene)
{
	resting(scene);
	assert_int_equal(rig_append(scene->peer, scene->space, "e", "c", 16, scene->reply.page_bytes, 0, 2, 'e'),
			 KVP_OK);
}

static void append_root(struct scene *scene)
{
	assert_int_equal(append(scene, "e", NULL), KVP_OK);
}

static void append_child(struct scene *scene)
{
	assert_int_equal(append(scene, "e", "c"), KVP_OK);
}

static void append_single(struct scene *scene)
{
	assert_int_equal(rig_append(scene->peer, scene->single, "e", NULL, 16, scene->single_reply.page_bytes, 0, 1,
				    'e'),
			 KVP_OK);
}

static void append_rest(struct scene *scene)
{
	assert_int_equal(rig_append(scene->peer, scene->space, "e", "d", 16, scene->reply.page_bytes, 2, 2, 'e'),
			 KVP_OK);
}

static void append_evicting(struct scene *scene)
{
	assert_int_equal(append(scene, "i", NULL), KVP_OK);
}

static void delete_leaf(struct scene *scene)
{
	assert_int_equal(rig_delete(scene->peer, scene->space, "d"), KVP_OK);
}

static void delete_tree(struct scene *scene)
{
	assert_int_equal(rig_delete(scene->peer, scene->space, "a"), KVP_OK);
}

static void bury_and_reuse(struct scene *scene)
{
	rig_advance_ms(&scene->rig, 50);
	assert_int_equal(append(scene, "e", NULL), KVP_OK);
}

static void hang_up(struct scene *scene)
{
	rig_disconnect(scene->peer);
}

static void open_space(struct scene *scene)
{
	Kvpaged__V1__Schema schema;

	rig_schema(&schema, 3, 1, 96);
	(void)rig_open(scene->peer, "new", &schema, NULL);
}

static void drop_space(struct scene *scene)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__DropSpace drop = KVPAGED__V1__DROP_SPACE__INIT;

	drop.name = (ProtobufCBinaryData){ .data = (uint8_t *)"small", .len = 5 };
	request.verb_case = KVPAGED__V1__REQUEST__VERB_DROP_SPACE;
	request.drop_space = &drop;
	assert_int_equal(rig_call(scene->peer, &request)->status, KVP_OK);
}

static void take_over(struct scene *scene)
{
	void *arena = scene->rig.arena;

	rig_start_in(&scene->rig, arena, ARENA, BLOCKS, &limits, true);
}

static const struct story stories[] = {
	{ "append_root", chain, append_root, "abcd", "abcde" },
	{ "append_child", chain, append_child, "abcd", "abcde" },
	{ "append_single", chain, append_single, "abcd", "abcde" },
	{ "append_rest", half, append_rest, "abcd", "abcde" },
	{ "append_in_reused", reused, append_root, "abcdgh", "abcdegh" },
	{ "append_evicting", full, append_evicting, "abcdefgh", "abcdefghi" },
	{ "delete_leaf", chain, delete_leaf, "abcd", "abc" },
	{ "delete_tree", chain, delete_tree, "abcd", "d" },
	{ "delete_pinned", pinned, delete_leaf, "abcd", "abc", "d" },
	{ "bury_and_reuse", resting, bury_and_reuse, "abc", "abce" },
	{ "hang_up", half, hang_up, "abcd", "abcd" },
	{ "open_space", chain, open_space, "abcd", "abcd" },
	{ "drop_space", chain, drop_space, "abcd", "" },
	{ "drop_space_pinned", pinned, drop_space, "abcd", "", "d" },
	{ "take_over", resting_and_half, take_over, "abc", "abc", "d" },
};

/* ---- The killed process ---- */

__attribute__((noreturn)) static void act_traced(const struct story *story, void *arena)
{
	static struct scene scene; /* not on the stack, which the sanitizers look at */

	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
		_exit(77);
	rig_start_in(&scene.rig, arena, ARENA, BLOCKS, &limits, false);
	story->prepare(&scene);
	(void)raise(SIGSTOP);
	story->act(&scene);
	(void)raise(SIGSTOP);
	_exit(0);
}

/* Whether the process stopped as it should; 77 skips. */
static void await_stop(pid_t pid, int signal)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		harness_skip("ptrace is not allowed here");
	assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == signal);
}

/* One instruction. Whether the process goes on; it stops itself when it is done. */
static bool step(pid_t pid)
{
	int status;

	if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0)
		harness_skip("processes cannot be run by single steps here");
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status));
	assert_true(WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP);
	return WSTOPSIG(status) == SIGTRAP;
}

/* ---- What it has written ---- */

static size_t watch(uint8_t *buffer, size_t n, const void *memory, size_t bytes)
{
	assert_true(n + bytes <= WATCHED_MAX);
	memcpy(buffer + n, memory, bytes);
	return n + bytes;
}

/* Everything that recovery reads, but for pages. */
static size_t watch_all(uint8_t *buffer, const uint8_t *arena)
{
	const struct kvp_arena_header *header = (const void *)arena;
	const struct kvp_space_entry *spaces = (const void *)(arena + header->spaces_offset);
	const struct kvp_block *blocks = (const void *)(arena + header->blocks_offset);
	size_t n = watch(buffer, 0, header, sizeof(*header));

	for (unsigned i = 0; i < 4; i++)
		n = watch(buffer, n, &spaces[i], offsetof(struct kvp_space_entry, blocks));
	n = watch(buffer, n, arena + header->index_offset, header->buckets_count * sizeof(struct kvp_bucket));
	n = watch(buffer, n, blocks, BLOCKS * sizeof(*blocks));
	for (unsigned i = 0; i < BLOCKS; i++)
		if (blocks[i].map_offset >= header->extents_offset && blocks[i].map_offset < ARENA)
			n = watch(buffer, n, arena + blocks[i].map_offset, PAGES * sizeof(struct kvp_page));
	return n;
}

/* ---- What is left of it ---- */

static bool named_in(const char *keys, char key)
{
	return keys && strchr(keys, key);
}

/* The memory that the block had is its own, though it cannot be found. */
static bool rests(const struct rig *rig, char key)
{
	for (uint32_t block = 1; block <= BLOCKS; block++)
		if (rig->core->blocks[block].state == BLOCK_LIMBO && shared_block(rig->core, block)->key[0] == key)
			return true;
	return false;
}

static void check(const struct story *story, const void *arena, bool done)
{
	bool evicts = strcmp(story->name, "append_evicting") == 0;
	unsigned missing = 0;
	struct rig rig;

	assert_int_equal(rig_recover(&rig, arena, ARENA, BLOCKS, &limits), 0);
	(void)rig_check_pages(&rig);
	for (char key[2] = "a"; key[0] <= 'i'; key[0]++) {
		bool was = named_in(story->before, key[0]), is_to_be = named_in(story->after, key[0]);
		bool there = rig_number(&rig, key) != 0;

		if (there && !was && !is_to_be)
			fail_msg("%s: %s is there, but was not and is not to be", story->name, key);
		if (done && there && !is_to_be)
			fail_msg("%s: %s is still there", story->name, key);
		if (!there && is_to_be && (was || done)) {
			if (!evicts || ++missing > 1)
				fail_msg("%s: %s is lost", story->name, key);
		}
		if (!there && named_in(story->rests, key[0]) && !rests(&rig, key[0]))
			fail_msg("%s: the memory of %s could be used again", story->name, key);
	}
	rig_advance_ms(&rig, 600);
	rig_stop(&rig);
}

/* Returns in how many states it was killed. */
static unsigned tell(const struct story *story, pid_t pid, const uint8_t *arena)
{
	static uint8_t seen[WATCHED_MAX], now[WATCHED_MAX];
	size_t n_seen = 0;
	unsigned states = 0, steps = 0;

	do {
		size_t n = watch_all(now, arena);

		assert_true(++steps < STEPS_MAX);
		if (n == n_seen && memcmp(seen, now, n) == 0)
			continue;
		memcpy(seen, now, n);
		n_seen = n;
		check(story, arena, false);
		states++;
	} while (step(pid));
	check(story, arena, true);
	print_message("%s: %u instructions, killed in %u states\n", story->name, steps, states);
	return states;
}

static void test_killed_anywhere(void **state)
{
	for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
		void *arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		pid_t pid;

		assert_true(arena != MAP_FAILED);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			act_traced(&stories[i], arena);
		await_stop(pid, SIGSTOP);
		assert_true(tell(&stories[i], pid, arena) > 1);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		assert_int_equal(munmap(arena, ARENA), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed_anywhere),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
