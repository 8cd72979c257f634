/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon is killed at random moments while two processes append as fast as they can and a third reads in place, and
 * is started again on the same arena. Every block that was acknowledged before the kill must be there with its values,
 * every other one is right or missing, no reader sees a wrong byte, and all of them go on.
 *
 * KVP_RESTART_KILLS says how often (20), KVP_SEED when.
 */
#include "tests/e2e/test-client-rig.h"
#include "tests/lib/harness.h"
#include "tests/lib/memory-file.h"

#include "base/units.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILLS_DEFAULT 20
#define WRITERS 2
#define CHILDREN (WRITERS + 1)
#define BLOCKS_A_ROUND 120 /* of a writer: so many that nothing is ever evicted */
#define CHAIN 8
#define WAIT_MS 30000

struct stage {
	char socket_path[160];
	_Atomic bool stop;
	_Atomic uint32_t round;
	/* round << 32 | how many of its blocks were acknowledged, in order */
	_Atomic uint64_t acknowledged[WRITERS];
	_Atomic uint64_t compared; /* blocks, in place */
	_Atomic uint64_t stale;
};

static uint32_t seed_of(uint32_t round, unsigned writer, uint32_t i)
{
	return round * 1009 + writer * 503 + i;
}

static void name_of(char name[32], uint32_t round, unsigned writer, uint32_t i)
{
	(void)snprintf(name, 32, "%u-%u-%u", round, writer, i);
}

static uint32_t acknowledged(const struct stage *stage, unsigned writer, uint32_t round)
{
	uint64_t word = atomic_load(&stage->acknowledged[writer]);

	return word >> 32 == round ? (uint32_t)word : 0;
}

/* ---- In processes of their own ---- */

__attribute__((noreturn, format(printf, 1, 2))) static void wrong(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	(void)vprintf(format, list);
	va_end(list);
	(void)putchar('\n');
	(void)fflush(stdout);
	_exit(EXIT_FAILURE);
}

static kvc_space *join(const struct stage *stage, kvc_client **ret_client)
{
	struct test_daemon d = { .pid = 0 };
	struct kvc_schema schema = schema_small();

	schema.codec_k = schema.codec_v = KVC_CODEC_F32;
	memcpy(d.socket_path, stage->socket_path, sizeof(d.socket_path));
	*ret_client = open_client_timeout(&d, 0, WAIT_MS);
	return open_space(*ret_client, "s", &schema);
}

/* With a daemon that comes back every call has an answer. A parent is missing only when the round was deleted. */
static void write_one(struct stage *stage, kvc_space *space, uint32_t round, unsigned writer, uint32_t i)
{
	char name[32], parent[32];
	int r;

	name_of(name, round, writer, i);
	name_of(parent, round, writer, i - 1);
	for (;;) {
		r = append_block(space, name, i % CHAIN ? parent : NULL, seed_of(round, writer, i), 32);
		/* With a tier nothing new is taken while what the process before read may still arrive. */
		if (r == KVC_NO_SPACE && getenv("KVP_TEST_TIER"))
			pause_ms(5);
		else if (r != KVC_PARTIAL) /* what the process before left unfinished */
			break;
	}
	if (r == KVC_NO_PARENT && atomic_load(&stage->round) != round)
		return;
	if (r != KVC_OK && r != KVC_PRESENT)
		wrong("writer %u, block %s: %d, %s", writer, name, r, kvc_strerror(r));
	atomic_store(&stage->acknowledged[writer], (uint64_t)round << 32 | (i + 1));
}

__attribute__((noreturn)) static void write_all(struct stage *stage, unsigned writer)
{
	kvc_client *client;
	kvc_space *space = join(stage, &client);

	while (!atomic_load(&stage->stop)) {
		uint32_t round = atomic_load(&stage->round);

		for (uint32_t i = 0; i < BLOCKS_A_ROUND && atomic_load(&stage->round) == round; i++)
			write_one(stage, space, round, writer, i);
		while (atomic_load(&stage->round) == round && !atomic_load(&stage->stop))
			pause_ms(1);
	}
	kvc_close(client);
	_exit(EXIT_SUCCESS);
}

/* Every value of K in place; STALE when the block died meanwhile. */
static int compare(const kvc_block *block, uint32_t seed)
{
	bool right = true;

	for (uint32_t layer = 0; layer < 3; layer++) {
		for (uint32_t head = 0; head < 4; head++) {
			struct kvc_tile tile;
			const float *values;

			if (kvc_block_tile(block, 'K', layer, head, &tile) != KVC_OK)
				return KVC_STALE;
			values = tile.bytes;
			for (uint32_t i = 0; i < tile.tokens * tile.head_dim; i++)
				right &= values[i] == value_at(seed, 'K', layer, head, i / 64, i % 64);
		}
	}
	if (kvc_block_check(block) != KVC_OK)
		return KVC_STALE;
	return right ? KVC_OK : KVC_CORRUPT;
}

static void read_one(struct stage *stage, kvc_space *space, kvc_reader *reader, uint32_t round, unsigned writer,
		     uint32_t i)
{
	char name[32];
	struct kvc_key key;
	kvc_block *block = NULL;
	int status = KVC_MISS;
	int r;

	name_of(name, round, writer, i);
	key = key_of(name);
	r = kvc_pin(space, reader, &key, 1, NULL, &block, &status);
	if (r != KVC_OK)
		wrong("reader, block %s: %d, %s", name, r, kvc_strerror(r));
	if (status == KVC_MISS && atomic_load(&stage->round) == round)
		wrong("reader: block %s was acknowledged and is missing", name);
	if (status != KVC_OK)
		return;
	r = compare(block, seed_of(round, writer, i));
	if (r == KVC_CORRUPT)
		wrong("reader: block %s has wrong bytes", name);
	(void)atomic_fetch_add(r == KVC_OK ? &stage->compared : &stage->stale, 1);
	kvc_unpin(block);
}

__attribute__((noreturn)) static void read_all(struct stage *stage)
{
	kvc_client *client;
	kvc_space *space = join(stage, &client);
	kvc_reader *reader;
	uint32_t turn = 0;

	if (kvc_reader_open(client, &reader) != KVC_OK)
		wrong("reader: %s", kvc_error(client));
	while (!atomic_load(&stage->stop)) {
		uint32_t round = atomic_load(&stage->round);
		unsigned writer = turn++ % WRITERS;
		uint32_t n = acknowledged(stage, writer, round);

		if (n > 0)
			read_one(stage, space, reader, round, writer, turn * 7919 % n);
		else
			pause_ms(1);
	}
	kvc_close(client);
	_exit(EXIT_SUCCESS);
}

static void child_start(struct stage *stage, unsigned i, pid_t *ret_pid)
{
	*ret_pid = fork();
	assert_true(*ret_pid >= 0);
	if (*ret_pid > 0)
		return;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (i < WRITERS)
		write_all(stage, i);
	read_all(stage);
}

static void expect_alive(pid_t *pids)
{
	for (unsigned i = 0; i < CHILDREN; i++) {
		int status;

		if (waitpid(pids[i], &status, WNOHANG) == pids[i])
			fail_msg("a client ended by itself, wait status 0x%x; see above", (unsigned)status);
	}
}

/* ---- The one who kills ---- */

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
	const char *text = getenv(variable);
	uint64_t number;

	if (!text)
		return otherwise;
	if (units_parse_u64(text, &number) != 0)
		fail_msg("%s is not a number: %s", variable, text);
	return number;
}

/* Both writers have come so far. */
static void await_progress(const struct stage *stage, pid_t *pids, uint32_t round, uint32_t n)
{
	for (unsigned waited_ms = 0;; waited_ms++) {
		bool all = true;

		for (unsigned writer = 0; writer < WRITERS; writer++)
			all &= acknowledged(stage, writer, round) >= n;
		if (all)
			return;
		expect_alive(pids);
		assert_true(waited_ms < WAIT_MS);
		pause_ms(1);
	}
}

/* Returns how many were there though nobody was told so. */
static unsigned expect_blocks(kvc_space *space, uint32_t round, const uint32_t told[WRITERS])
{
	unsigned more = 0;

	for (unsigned writer = 0; writer < WRITERS; writer++) {
		for (uint32_t i = 0; i < BLOCKS_A_ROUND; i++) {
			char name[32];
			int r;

			name_of(name, round, writer, i);
			r = fetch_block(space, name, seed_of(round, writer, i));
			if (i < told[writer] && r != KVC_OK)
				fail_msg("block %s was acknowledged before the kill; now: %s", name, kvc_strerror(r));
			if (r != KVC_OK && r != KVC_MISS && r != KVC_PARTIAL)
				fail_msg("block %s: %s", name, kvc_strerror(r));
			more += i >= told[writer] && r == KVC_OK;
		}
	}
	return more;
}

static void delete_round(kvc_space *space, uint32_t round)
{
	for (unsigned writer = 0; writer < WRITERS; writer++) {
		for (uint32_t i = 0; i < BLOCKS_A_ROUND; i += CHAIN) {
			char name[32];
			struct kvc_key key;

			name_of(name, round, writer, i);
			key = key_of(name);
			assert_int_equal(kvc_delete(space, &key, 1, NULL), KVC_OK);
		}
	}
}

static void kill_once(struct test_daemon *d, struct stage *stage, kvc_space *space, pid_t *pids)
{
	uint32_t round = atomic_load(&stage->round);
	uint32_t told[WRITERS];
	unsigned more;

	await_progress(stage, pids, round, 1);
	(void)usleep((useconds_t)rand() % 30000);
	test_daemon_kill(d);
	for (unsigned writer = 0; writer < WRITERS; writer++)
		told[writer] = acknowledged(stage, writer, round);
	test_daemon_restart(d);
	more = expect_blocks(space, round, told);
	print_message("round %u: %u and %u blocks were acknowledged and are there; %u more since\n", round, told[0],
		      told[1], more);
	await_progress(stage, pids, round, told[0] < told[1] ? told[0] : told[1]);
	atomic_store(&stage->round, round + 1);
	delete_round(space, round);
	expect_alive(pids);
}

static void test_killed_under_load(void **state)
{
	uint64_t kills = number_from("KVP_RESTART_KILLS", KILLS_DEFAULT);
	uint64_t seed = number_from("KVP_SEED", (uint64_t)getpid());
	struct stage *stage = mmap(NULL, sizeof(*stage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pids[CHILDREN];
	struct test_daemon d;
	kvc_client *client;
	kvc_space *space;

	assert_true(stage != MAP_FAILED);
	print_message("KVP_SEED=%llu\n", (unsigned long long)seed);
	srand((unsigned)seed);
	test_daemon_start(&d, "--arena-bytes", "256MiB", "--arena-path", memory_file("arena"), "--restart-grace-ms",
			  "20ms", NULL);
	memcpy(stage->socket_path, d.socket_path, sizeof(stage->socket_path));
	stage->round = 1;
	space = join(stage, &client);
	for (unsigned i = 0; i < CHILDREN; i++)
		child_start(stage, i, &pids[i]);
	for (uint64_t i = 0; i < kills; i++)
		kill_once(&d, stage, space, pids);
	assert_int_equal(counter_of(client, "evictions_capacity_total"), 0);
	atomic_store(&stage->stop, true);
	for (unsigned i = 0; i < CHILDREN; i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	print_message("%llu blocks compared in place, %llu died meanwhile\n", (unsigned long long)stage->compared,
		      (unsigned long long)stage->stale);
	assert_true(stage->compared > 0);
	kvc_close(client);
	test_daemon_stop(&d);
	assert_int_equal(munmap(stage, sizeof(*stage)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed_under_load),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
