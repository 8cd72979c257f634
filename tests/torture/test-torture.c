/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers and writers in processes of their own on a small arena, of which every byte is known, while this process
 * kills, stops and continues them, and kills the daemon, at random moments. Readers may find blocks gone; wrong bytes
 * they may not find. When all are gone the daemon must hold nothing of them.
 *
 * KVP_TORTURE_SECONDS says for how long. KVP_SEED fixes what each process does, not how they meet.
 */
#include "tests/torture/torture.h"

#include "base/units.h"
#include "client/clock.h"
#include "tests/e2e/wire.h"
#include "tests/lib/harness.h"
#include "tests/lib/process.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define SECONDS_DEFAULT 6
#define END_MS 30000 /* for workers to end in order, and for the harness around the test */
#define READERS 3
#define WRITERS 2
#define WORKERS (READERS + WRITERS)
#define GRACE_MS 50
#define GRACE_TEXT "50ms"

/* One of so many turns of a millisecond, on average. */
#define TURNS_A_SHORT_STOP 12
#define TURNS_A_LONG_STOP 120
#define TURNS_A_KILL 150
#define TURNS_A_DAEMON_KILL 2500

struct seat {
	struct worker worker;
	pid_t pid;
	uint64_t stopped_until_ns; /* 0: it runs */
};

struct chaos {
	struct torture *torture;
	struct scene scene;
	struct seat seats[WORKERS];
	uint64_t random;
	uint64_t kills, short_stops, long_stops, daemon_kills;
};

static const char *const tally_names[TALLY_COUNT] = {
	[TALLY_FINDS] = "found", [TALLY_MATCHES] = "matched", [TALLY_PINS] = "pinned", [TALLY_LEASES] = "leased",
	[TALLY_TILES] = "tiles compared", [TALLY_FETCHES] = "fetched", [TALLY_STALE] = "stale under a pin",
	[TALLY_CHANGED] = "changed under a void pin, and told so", [TALLY_LATE] = "stale in a fetch",
	[TALLY_MISSES] = "missed", [TALLY_TOO_MANY] = "too many pins", [TALLY_LOST] = "calls without a daemon or room",
	[TALLY_APPENDS] = "appended", [TALLY_NO_SPACE] = "no space", [TALLY_DELETES] = "deleted",
	[TALLY_EVICTIONS] = "evicted by request",
};

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

static uint64_t chance(struct chaos *chaos, uint64_t n)
{
	return random_next(&chaos->random) % n;
}

/* ---- Workers ---- */

static void work(void *context)
{
	struct worker *worker = context;

	if (worker->writes)
		torture_write(worker);
	else
		torture_read(worker);
	exit(EXIT_SUCCESS); /* where the leak sanitizer looks */
}

static void seat_start(struct chaos *chaos, unsigned i)
{
	struct seat *seat = &chaos->seats[i];

	seat->worker.torture = chaos->torture;
	seat->worker.number = i;
	seat->worker.writes = i >= READERS;
	seat->worker.random = random_next(&chaos->random);
	seat->worker.incarnation++;
	seat->stopped_until_ns = 0;
	seat->pid = begin_process(USER_SELF, work, &seat->worker);
}

static void seat_kill(struct seat *seat)
{
	pid_t pid = seat->pid;
	int status;

	seat->pid = 0;
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		fail_msg("worker %u ended by itself, wait status 0x%x; see above", seat->worker.number,
			 (unsigned)status);
}

static void seat_stop(struct seat *seat, uint64_t ms)
{
	if (seat->stopped_until_ns != 0)
		return;
	assert_int_equal(kill(seat->pid, SIGSTOP), 0);
	seat->stopped_until_ns = clock_now_ns(CLOCK_MONOTONIC) + ms * NS_PER_MS;
}

static void seat_continue(struct seat *seat)
{
	seat->stopped_until_ns = 0;
	assert_int_equal(kill(seat->pid, SIGCONT), 0);
}

/* ---- Chaos ---- */

static void expect_all_run(const struct chaos *chaos)
{
	int status;

	if (atomic_load(&chaos->torture->wrong) > 0)
		return; /* whoever found it has ended */
	for (unsigned i = 0; i < WORKERS; i++)
		if (waitpid(chaos->seats[i].pid, &status, WNOHANG) != 0)
			fail_msg("worker %u ended by itself, wait status 0x%x; see above", i, (unsigned)status);
	if (waitpid(chaos->scene.daemon.pid, &status, WNOHANG) != 0)
		fail_msg("the daemon ended by itself, wait status 0x%x; see its log below", (unsigned)status);
}

static void turn(struct chaos *chaos)
{
	uint64_t now_ns = clock_now_ns(CLOCK_MONOTONIC);
	struct seat *seat = &chaos->seats[chance(chaos, WORKERS)];

	for (unsigned i = 0; i < WORKERS; i++)
		if (chaos->seats[i].stopped_until_ns != 0 && chaos->seats[i].stopped_until_ns <= now_ns)
			seat_continue(&chaos->seats[i]);
	if (chance(chaos, TURNS_A_SHORT_STOP) == 0) {
		seat_stop(seat, chance(chaos, GRACE_MS / 10));
		chaos->short_stops++;
	}
	if (chance(chaos, TURNS_A_LONG_STOP) == 0) {
		seat_stop(seat, GRACE_MS + chance(chaos, 2 * GRACE_MS));
		chaos->long_stops++;
	}
	if (chance(chaos, TURNS_A_KILL) == 0) {
		seat_kill(seat);
		seat_start(chaos, seat->worker.number);
		chaos->kills++;
	}
}

static void daemon_replace(struct chaos *chaos)
{
	test_daemon_kill(&chaos->scene.daemon);
	chaos->daemon_kills++;
	test_daemon_restart(&chaos->scene.daemon);
}

static void rage(struct chaos *chaos, uint64_t seconds)
{
	uint64_t begin_ns = clock_now_ns(CLOCK_MONOTONIC);
	uint64_t end_ns = begin_ns + seconds * NS_PER_S;
	uint64_t now_ns;

	while ((now_ns = clock_now_ns(CLOCK_MONOTONIC)) < end_ns && atomic_load(&chaos->torture->wrong) == 0) {
		expect_all_run(chaos);
		turn(chaos);
		if (chance(chaos, TURNS_A_DAEMON_KILL) == 0 ||
		    (chaos->daemon_kills == 0 && now_ns - begin_ns > seconds * NS_PER_S / 2))
			daemon_replace(chaos);
		pause_ms(1);
	}
}

/* Every other worker is killed where it is; the others end in order. */
static void end_all(struct chaos *chaos)
{
	for (unsigned i = 0; i < WORKERS; i++)
		if (i % 2 == 0)
			seat_kill(&chaos->seats[i]);
		else
			seat_continue(&chaos->seats[i]);
	atomic_store(&chaos->torture->stop, true);
	for (unsigned i = 1; i < WORKERS; i += 2) {
		int status = process_wait(chaos->seats[i].pid, END_MS);

		if (status != 0)
			fail_msg("worker %u did not end well, wait status 0x%x; see above", i, (unsigned)status);
	}
}

/* ---- Afterwards ---- */

static void report(const struct chaos *chaos)
{
	(void)printf("KVP_SEED=%" PRIu64 ": %" PRIu64 " workers killed, %" PRIu64 " stopped shortly, %" PRIu64
		     " beyond their grace, %" PRIu64 " daemons killed; wrong: %u\n",
		     chaos->torture->seed, chaos->kills, chaos->short_stops, chaos->long_stops, chaos->daemon_kills,
		     atomic_load(&chaos->torture->wrong));
	for (unsigned i = 0; i < TALLY_COUNT; i++)
		(void)printf("%12" PRIu64 " %s\n", atomic_load(&chaos->torture->tally[i]), tally_names[i]);
}

/* The daemon holds nothing of anybody. */
static void audit(struct chaos *chaos)
{
	static const char *const nothing[] = { "leases", "blocks_partial", "blocks_limbo", "limbo_bytes",
					       "control_bytes", "staging_bytes", "blocks_pinned", "reader_records" };
	struct test_peer *watcher = &chaos->scene.watcher;

	peer_connect(watcher, chaos->scene.daemon.socket_path);
	peer_hello(watcher, 0);
	scene_await(&chaos->scene, "sessions", 1);
	for (unsigned i = 0; i < sizeof(nothing) / sizeof(nothing[0]); i++)
		scene_await(&chaos->scene, nothing[i], 0);
	(void)printf("of the last daemon: %" PRIu64 " evicted for room, %" PRIu64 " passed over, %" PRIu64
		     " stuck sessions, %" PRIu64 " local reads, %" PRIu64 " scans\n",
		     peer_counter(watcher, "evictions_capacity_total"), peer_counter(watcher, "evictions_pinned_total"),
		     peer_counter(watcher, "sessions_stuck_total"), peer_counter(watcher, "local_reads_total"),
		     peer_counter(watcher, "hazard_scans_total"));
	assert_int_equal(peer_counter(watcher, "protocol_errors_total"), 0);
	(void)wire_evict_all(watcher);
	scene_await(&chaos->scene, "stored_bytes", 0);
	scene_await(&chaos->scene, "overhead_bytes", 0);
	scene_await(&chaos->scene, "free_bytes",
		    peer_counter(watcher, "arena_bytes") - peer_counter(watcher, "metadata_bytes"));
	scene_end(&chaos->scene);
}

static void test_torture(void **state)
{
	static const enum tally proof[] = { TALLY_FINDS, TALLY_MATCHES, TALLY_PINS, TALLY_LEASES, TALLY_TILES,
					    TALLY_FETCHES, TALLY_STALE, TALLY_APPENDS, TALLY_DELETES };
	struct chaos chaos = { .random = number_from("KVP_SEED", 1) };

	chaos.torture = mmap(NULL, sizeof(*chaos.torture), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(chaos.torture, MAP_FAILED);
	chaos.torture->seed = chaos.random;
	pattern_init();
	scene_begin(&chaos.scene, "--arena-bytes", "16MiB", "--reader-pin-grace-ms", GRACE_TEXT, NULL);
	peer_close(&chaos.scene.watcher);
	(void)snprintf(chaos.torture->socket_path, sizeof(chaos.torture->socket_path), "%s",
		       chaos.scene.daemon.socket_path);
	for (unsigned i = 0; i < WORKERS; i++)
		seat_start(&chaos, i);
	rage(&chaos, number_from("KVP_TORTURE_SECONDS", SECONDS_DEFAULT));
	if (atomic_load(&chaos.torture->wrong) == 0)
		end_all(&chaos);
	report(&chaos);
	if (atomic_load(&chaos.torture->wrong) > 0)
		fail_msg("%u findings; see above", atomic_load(&chaos.torture->wrong));
	/* Otherwise it shows nothing. */
	for (unsigned i = 0; i < sizeof(proof) / sizeof(proof[0]); i++)
		if (atomic_load(&chaos.torture->tally[proof[i]]) == 0)
			fail_msg("nothing was ever %s", tally_names[proof[i]]);
	audit(&chaos);
	(void)munmap(chaos.torture, sizeof(*chaos.torture));
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_torture),
};

int main(void)
{
	uint64_t seconds = number_from("KVP_TORTURE_SECONDS", SECONDS_DEFAULT);
	char limit[32];

	(void)snprintf(limit, sizeof(limit), "%" PRIu64, seconds + 3 * END_MS / 1000);
	(void)setenv("KVP_TEST_TIMEOUT_S", limit, 0);
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
