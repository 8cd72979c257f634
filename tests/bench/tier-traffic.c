/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two processes that keep the tier busy while others ask: one appends blocks, one has blocks brought up that were
 * appended so long ago that most are not resident. Both go on until they are told to rest.
 */
#include "base/units.h"
#include "tests/bench/measure.h"
#include "tests/bench/normal.h"
#include "tests/bench/tier.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define AHEAD_BYTES (64 * MIB) /* appended and not stored yet, at most */
#define PAUSE_NS (200 * NS_PER_US)

static void pause_ns(uint64_t ns)
{
	struct timespec time = { .tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S) };

	(void)nanosleep(&time, NULL);
}

/* Blocks that wait to be stored, or will never be: those dropped count as stored. */
static bool is_ahead(struct tier_client *client, uint64_t appended)
{
	uint64_t done = tier_counter(client, "tier_stored_blocks_total") +
			tier_counter(client, "tier_passed_blocks_total");

	return appended > done && (appended - done) * client->bytes > AHEAD_BYTES;
}

static int store_once(struct tier_client *client, struct tier_flow *flow, uint64_t *due_ns)
{
	uint64_t next = atomic_load(&flow->appended), period_ns = atomic_load(&flow->period_ns), now = now_ns();

	if (period_ns > 0 ? now < *due_ns : is_ahead(client, next)) {
		pause_ns(PAUSE_NS);
		return 0;
	}
	*due_ns = (*due_ns + period_ns < now ? now : *due_ns) + period_ns;
	if (tier_append(client, next, 1) != 0)
		return 1;
	atomic_store(&flow->appended, next + 1);
	return 0;
}

static int load_once(struct tier_client *client, struct tier_flow *flow, uint64_t *random)
{
	uint64_t appended = atomic_load(&flow->appended), behind = atomic_load(&flow->behind);
	uint64_t span = atomic_load(&flow->span) - behind;

	pause_ns(PAUSE_NS);
	return tier_prefetch(client, appended - behind - 1 - random_u64(random) % span, 1);
}

__attribute__((noreturn)) static void serve(const struct tier_daemon *daemon, const struct tier_shape *shape,
					    struct tier_flow *flow, bool stores)
{
	const _Atomic bool *on = stores ? &flow->stores : &flow->loads;
	uint64_t due_ns = 0, random = 1;
	struct tier_client client;
	int status;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	status = tier_client_open(&client, daemon, shape);
	atomic_fetch_add(&flow->ready, 1);
	while (status == 0) {
		if (!atomic_load(on))
			pause_ns(NS_PER_MS);
		else if (stores)
			status = store_once(&client, flow, &due_ns);
		else
			status = load_once(&client, flow, &random);
	}
	_exit(1);
}

int tier_traffic_start(struct tier_traffic *traffic, const struct tier_daemon *daemon, const struct tier_shape *shape,
		       uint64_t appended)
{
	void *flow = mmap(NULL, sizeof(*traffic->flow), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	*traffic = (struct tier_traffic){ 0 };
	if (flow == MAP_FAILED)
		return bench_error("out of memory");
	traffic->flow = flow;
	atomic_store(&traffic->flow->appended, appended);
	(void)fflush(NULL);
	for (unsigned i = 0; i < 2; i++) {
		traffic->pids[i] = fork();
		if (traffic->pids[i] == 0)
			serve(daemon, shape, traffic->flow, i == 0);
		if (traffic->pids[i] < 0)
			return bench_error("fork: %s", strerror(errno));
	}
	while (atomic_load(&traffic->flow->ready) < 2)
		pause_ns(NS_PER_MS);
	return 0;
}

void tier_traffic_stop(struct tier_traffic *traffic)
{
	for (unsigned i = 0; i < 2; i++)
		if (traffic->pids[i] > 0) {
			(void)kill(traffic->pids[i], SIGKILL);
			(void)waitpid(traffic->pids[i], NULL, 0);
		}
	if (traffic->flow)
		(void)munmap(traffic->flow, sizeof(*traffic->flow));
	*traffic = (struct tier_traffic){ 0 };
}
