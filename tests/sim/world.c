/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine: one process of the daemon after the other on the same disk, and time. A crash is the end of everything
 * that was not done: transfers under way are torn or lost, and the old process is taken down with a disk that refuses
 * all, so that no byte of it reaches the next one.
 */
#include "tests/sim/sim.h"

#include "base/contract.h"
#include "base/units.h"
#include "daemon/tier/log.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* More steps than any step of the simulation can need: something goes round and round. */
#define ROUNDS_MAX 1000000

static void layout_fill(struct sim *sim)
{
	const struct kvp_arena_header *header = sim->arena;
	const uint8_t *base = sim->arena;

	sim->layout = (struct arena_layout){
		.base = base,
		.bytes = sim->setup.arena_bytes,
		.incarnation = header->incarnation,
		.hash_seed = header->hash_seed,
		.buckets = (const void *)(base + header->index_offset),
		.buckets_count = header->buckets_count,
		.blocks = (const void *)(base + header->blocks_offset),
		.blocks_count = header->blocks_count,
		.spaces = (const void *)(base + header->spaces_offset),
		.spaces_count = header->spaces_count,
		.extents_offset = header->extents_offset,
	};
}

static void tier_start(struct sim *sim)
{
	struct tier_log_options options = {
		.disk = &sim->disk.disk,
		.blocks_max = sim->setup.tier_blocks,
		.write_bytes_per_s = sim->setup.write_bytes_per_s,
		.seed = sim_mix(sim->setup.seed, sim->incarnation),
		.now_ns = sim->now_ns,
	};

	sim->tier = NULL;
	if (sim->setup.tier && tier_log_new(&options, &sim->tier) != 0)
		sim_fail(sim, "the tier does not start");
}

/* A new process on a fresh arena, or one that was kept, and the files that there are. */
static void boot(struct sim *sim, bool keep)
{
	struct core_options options = {
		.arena = sim->arena,
		.arena_bytes = sim->setup.arena_bytes,
		.recover = keep,
		.blocks_max = sim->setup.blocks_max,
		.hash_seed = sim_mix(sim->setup.seed, sim->incarnation + 1),
		.secret = sim_mix(sim->setup.seed, 3),
		.mrc_samples = sim->setup.mrc_samples,
		.now_ns = sim->now_ns,
		.version = "0.1.0",
		.limits = sim->setup.limits,
		.host = &sim_host,
		.context = sim,
		.tier_admit = sim->setup.tier_admit,
		.tier_free_percent = sim->setup.tier_free_percent,
	};

	sim->incarnation++;
	tier_start(sim);
	options.incarnation = sim->incarnation;
	options.tier = sim->tier;
	if (core_new(&options, &sim->core) != 0)
		sim_fail(sim, "the core does not start");
	layout_fill(sim);
	sim->runnable = true;
	sim->stopping = false;
	sim->events_last = 0;
	sim->ready_ns = 0;
	if (!keep) {
		memset(sim->ids, 0, sizeof(sim->ids));
		memset(sim->of_id, 0, sizeof(sim->of_id));
	}
	for (unsigned i = 0; i < KVP_COUNTERS; i++)
		sim->past[i] += sim->counters[i];
	memset(sim->counters, 0, sizeof(sim->counters));
	sim->counts = (struct sim_counts){ 0 };
	sim_connect(sim, SIM_OBSERVER, 0, 0, 0, true);
	if (keep) {
		sim_taken_over(sim);
	} else {
		sim->n_strays = 0;
		sim->ghosts_until_ns = 0;
	}
}

void sim_start(struct sim *sim, const struct sim_setup *setup)
{
	sim->setup = *setup;
	sim->now_ns = NS_PER_S;
	sim->arena = mmap(NULL, setup->arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	kvp_assert(sim->arena != MAP_FAILED);
	if (setup->tier)
		disk_memory_init(&sim->disk, setup->segment_bytes, setup->segments, setup->depth);
	for (unsigned i = 0; i <= SIM_PEERS_MAX; i++) {
		sim->peers[i].sim = sim;
		sim->peers[i].number = i;
		list_init(&sim->peers[i].asks);
	}
	sim->kept = malloc(setup->arena_bytes);
	kvp_assert(sim->kept);
	boot(sim, false);
}

/* ---- Strays ---- */

/* What the disk was asked to read into the arena comes in although who asked is gone: at the latest in the grace. */
static void strays_note(struct sim *sim)
{
	const uint8_t *arena = sim->arena;

	if (sim->now_ns >= sim->ghosts_until_ns)
		sim->n_strays = 0; /* of the process before this one */
	list_for_each(node, &sim->disk.queue) {
		const struct disk_io *io = list_entry(node, struct disk_io, link);
		const uint8_t *memory = io->memory;

		if (io->verb == DISK_READ && memory >= arena && memory < arena + sim->setup.arena_bytes &&
		    sim->n_strays < SIM_STRAYS_MAX)
			sim->strays[sim->n_strays++] = (struct sim_stray){ io->memory, io->bytes };
	}
}

static void stray_comes(struct sim *sim)
{
	if (sim->n_strays == 0)
		return;
	sim->n_strays--;
	if (sim->now_ns < sim->ghosts_until_ns)
		memset(sim->strays[sim->n_strays].memory, 0xee, sim->strays[sim->n_strays].bytes);
}

/* ---- Work and time ---- */

void sim_run(struct sim *sim, uint32_t slices)
{
	while (slices-- > 0 && sim->runnable) {
		sim->runnable = false;
		if (core_run(sim->core, sim->now_ns))
			sim->runnable = true;
	}
}

static bool tick_due(struct sim *sim)
{
	if (core_deadline_ns(sim->core) > sim->now_ns) {
		sim->ticked_ns = sim->now_ns;
		return false;
	}
	core_tick(sim->core, sim->now_ns);
	return true;
}

bool sim_disk_step(struct sim *sim)
{
	if (!sim->setup.tier)
		return false;
	if (sim->disk.now_ns < sim->now_ns)
		sim->disk.now_ns = sim->now_ns;
	if (!disk_memory_step(&sim->disk))
		return false;
	sim->now_ns = sim->disk.now_ns;
	return true;
}

void sim_settle(struct sim *sim, bool disk)
{
	for (unsigned rounds = 0; rounds < ROUNDS_MAX; rounds++) {
		sim_run(sim, ROUNDS_MAX);
		if (sim->runnable)
			break;
		if (!tick_due(sim) && !(disk && sim_disk_step(sim)) && !sim->runnable)
			return;
	}
	sim_fail(sim, "work without end");
}

void sim_time(struct sim *sim, uint64_t ns, bool at_once)
{
	uint64_t target_ns = sim->now_ns + ns;

	stray_comes(sim);
	for (unsigned rounds = 0; rounds < ROUNDS_MAX; rounds++) {
		uint64_t due_ns = core_deadline_ns(sim->core);

		if (due_ns > target_ns)
			break;
		if (at_once)
			sim->now_ns = target_ns;
		else if (due_ns > sim->now_ns)
			sim->now_ns = due_ns;
		core_tick(sim->core, sim->now_ns);
		if (!at_once)
			sim_run(sim, 2);
		if (rounds == ROUNDS_MAX - 1)
			sim_fail(sim, "a deadline that is always due");
	}
	if (sim->now_ns < target_ns)
		sim->now_ns = target_ns;
	sim->ticked_ns = sim->now_ns;
}

/* ---- Ends ---- */

static void peers_close(struct sim *sim)
{
	for (unsigned i = 0; i <= SIM_PEERS_MAX; i++)
		if (sim->peers[i].session)
			sim_disconnect(&sim->peers[i]);
}

/* Clients notice the end of a process a little later: until then they read what they had pinned. */
static void ghosts_note(struct sim *sim)
{
	unsigned n = 0;

	memset(sim->ghosts, 0, sizeof(sim->ghosts));
	for (unsigned i = 0; i < SIM_PEERS_MAX; i++)
		for (unsigned k = 0; sim->peers[i].session && k < SIM_PINS_MAX && n < SIM_GHOSTS_MAX; k++)
			if (sim->peers[i].pins[k].used && sim->peers[i].pins[k].settled &&
			    !sim->peers[i].control->over)
				sim->ghosts[n++] = sim->peers[i].pins[k];
	sim->ghosts_until_ns = sim->now_ns + sim->setup.limits.restart_grace_ms * NS_PER_MS;
}

static void process_free(struct sim *sim, bool keep)
{
	sim->core = core_free(sim->core);
	if (sim->tier)
		tier_log_free(sim->tier);
	sim->tier = NULL;
	if (sim->setup.tier)
		disk_memory_reopen(&sim->disk);
	if (keep)
		memcpy(sim->arena, sim->kept, sim->setup.arena_bytes);
	else if (madvise(sim->arena, sim->setup.arena_bytes, MADV_DONTNEED) != 0)
		sim_fail(sim, "madvise");
}

static void stop_wait(struct sim *sim)
{
	core_stop(sim->core);
	sim->stopping = true;
	sim_settle(sim, true);
	for (unsigned rounds = 0; !core_stopped(sim->core); rounds++) {
		if (rounds == 10000)
			sim_fail(sim, "it does not stop");
		sim_settle(sim, true);
		sim_time(sim, 10 * NS_PER_MS, false);
	}
}

/* What was asked before is answered; only who waits for events is not. */
static void asks_check(struct sim *sim)
{
	for (unsigned i = 0; i < SIM_PEERS_MAX; i++) {
		struct sim_peer *peer = &sim->peers[i];

		if (!peer->session || peer->hung_up)
			continue;
		list_for_each(node, &peer->asks) {
			struct sim_ask *ask = list_entry(node, struct sim_ask, link);

			if (ask != peer->waiting && ask != peer->resizing)
				sim_fail(sim, "peer %u was never answered: %s", i, sim_verb_name(ask->step.verb));
		}
	}
}

/* With those that it dropped since it started, to have room for the next. */
static uint64_t tier_blocks(const struct sim *sim, bool dropped)
{
	struct tier_stats stats;

	sim->tier->ops->stats(sim->tier, &stats);
	return stats.blocks + (dropped ? stats.dropped_blocks_total : 0);
}

void sim_stop(struct sim *sim, bool keep)
{
	uint64_t held = 0;

	stop_wait(sim);
	asks_check(sim);
	sim_watch(sim);
	if (sim->tier)
		held = tier_blocks(sim, false);
	memcpy(sim->kept, sim->arena, sim->setup.arena_bytes);
	ghosts_note(sim);
	peers_close(sim);
	process_free(sim, keep);
	sim_floors_crash(sim, false);
	boot(sim, keep);
	if (!sim->tier)
		return;
	sim_settle(sim, true);
	if (sim->faults == 0 && tier_blocks(sim, true) < held)
		sim_fail(sim, "the tier held %llu blocks before an orderly restart and %llu after",
			 (unsigned long long)held, (unsigned long long)tier_blocks(sim, true));
}

void sim_crash(struct sim *sim, bool torn, bool keep)
{
	if (sim->setup.tier) {
		strays_note(sim);
		disk_memory_tear(&sim->disk, torn);
		sim->disk.closed = true;
	}
	memcpy(sim->kept, sim->arena, sim->setup.arena_bytes);
	ghosts_note(sim);
	peers_close(sim);
	stop_wait(sim);
	process_free(sim, keep);
	sim_floors_crash(sim, true);
	boot(sim, keep);
}

void sim_end(struct sim *sim)
{
	stop_wait(sim);
	asks_check(sim);
	sim_watch(sim);
	peers_close(sim);
	process_free(sim, false);
	free(sim->kept);
	if (sim->setup.tier)
		disk_memory_deinit(&sim->disk);
	kvp_assert(munmap(sim->arena, sim->setup.arena_bytes) == 0);
}
