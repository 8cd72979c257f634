/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A seed's setup. Each seed has a part of the verbs and faults only, and sizes of its own: what never happens in one
 * run gives room to what it would hide ("swarm testing").
 */
#include "tests/sim/sim.h"

#include "base/contract.h"
#include "base/units.h"

#include <stdio.h>

uint64_t sim_mix(uint64_t a, uint64_t b)
{
	uint64_t seed = a * UINT64_C(0x9e3779b97f4a7c15) ^ (b + UINT64_C(0x632be59bd9b4e019));

	return disk_memory_random(&seed);
}

static uint32_t below(uint64_t *seed, uint32_t n)
{
	return (uint32_t)(disk_memory_random(seed) >> 32) % n;
}

static bool one_in(uint64_t *seed, uint32_t n)
{
	return below(seed, n) == 0;
}

static void shape_make(struct page_schema *shape, bool large, uint64_t *seed)
{
	static const uint32_t dims[] = { 8, 16, 64, 128, 256 };
	static const uint32_t heads[] = { 1, 1, 2, 4 };
	uint32_t kv_heads = heads[below(seed, 4)];
	uint32_t dim = dims[below(seed, 5)];

	*shape = (struct page_schema){
		.layers = 1 + below(seed, 6),
		.kv_heads = kv_heads,
		.head_dim_k = dim,
		.head_dim_v = one_in(seed, 4) ? 0 : dim,
		.block_tokens = 4u << below(seed, 5),
		.codec_k = 16,
		.codec_v = 16,
		.page_heads = one_in(seed, 2) ? 1 : kv_heads,
	};
	if (shape->head_dim_v == 0)
		shape->codec_v = shape->codec_k;
	if (large) {
		shape->kv_heads = shape->page_heads = 4;
		shape->head_dim_k = shape->head_dim_v = 256;
		shape->block_tokens = 64;
	}
	kvp_assert(!page_schema_complete(shape) && page_count(shape) <= SIM_PAGES_MAX);
}

static void limits_make(struct core_limits *limits, uint64_t *seed)
{
	*limits = (struct core_limits){
		.sessions_max = one_in(seed, 4) ? 4 : 16,
		.sessions_per_uid_max = one_in(seed, 4) ? 2 : 8,
		.staging_bytes_max = UINT64_C(256) << 10,
		.staging_bytes_per_uid_max = (one_in(seed, 3) ? UINT64_C(300) : UINT64_C(2048)) << 10,
		.pinned_bytes_per_uid_max = one_in(seed, 3) ? 512 * KIB + below(seed, 1 << 20) : 4 * MIB,
		.pins_max = one_in(seed, 3) ? 2 * KVP_HAZARDS : 8 * KVP_HAZARDS,
		.pins_per_uid_max = one_in(seed, 3) ? 3 * KVP_HAZARDS : 32 * KVP_HAZARDS,
		.pin_grace_ms = 50 + below(seed, 2000),
		.lease_ttl_ms = 100 + below(seed, 5000),
		.lease_ttl_ms_max = 5100,
		.partial_ttl_ms = 100 + below(seed, 3000),
		.keep_ttl_ms_max = 20000,
		.hello_ttl_ms = 1000,
		.restart_grace_ms = 100 + below(seed, 1000),
		.slice_bytes = one_in(seed, 2) ? 1u : 1u << (10 + below(seed, 8)),
		.events_kept = one_in(seed, 4) ? 64 : 4096,
	};
}

static void tier_make(struct sim_setup *setup, uint64_t *seed)
{
	setup->tier = !one_in(seed, 3);
	setup->tier_admit = one_in(seed, 2) ? CORE_TIER_ADMIT_READ : CORE_TIER_ADMIT_ALL;
	setup->tier_free_percent = one_in(seed, 3) ? 100 : 20 + below(seed, 70);
	setup->segments = 3 + below(seed, 6);
	setup->segment_bytes = setup->large ? 2 * MIB : UINT64_C(64) << (10 + below(seed, 6));
	setup->depth = 1 + below(seed, 8);
	setup->write_bytes_per_s = one_in(seed, 6) ? 1 << 20 : 0;
	setup->tier_blocks = one_in(seed, 4) ? 16 : 1024;
	setup->write_faults = one_in(seed, 3);
	setup->read_faults = one_in(seed, 3);
	setup->damage = one_in(seed, 4);
	setup->torn = one_in(seed, 2);
}

/* How often each verb comes; a third of them not at all. */
static void weights_make(struct sim_setup *setup, uint64_t *seed)
{
	static const uint32_t usual[SIM_VERB_COUNT] = {
		[SIM_CONNECT] = 4, [SIM_HANG_UP] = 2, [SIM_OPEN] = 4, [SIM_APPEND] = 160, [SIM_FETCH] = 70,
		[SIM_RELEASE] = 20, [SIM_MATCH] = 10, [SIM_FORECAST] = 6, [SIM_DELETE] = 10, [SIM_TOUCH] = 6,
		[SIM_PIN] = 6, [SIM_UNPIN] = 3, [SIM_STATS] = 3, [SIM_EVICT] = 6, [SIM_EVICT_ONE] = 6, [SIM_LIST] = 6,
		[SIM_DROP] = 3, [SIM_WHY] = 6, [SIM_SUBSCRIBE] = 6, [SIM_RESIZE] = 4, [SIM_GARBAGE] = 1,
		[SIM_LOOK] = 30,
		[SIM_SETTLE_PIN] = 30, [SIM_LET_GO] = 15, [SIM_RUN] = 30, [SIM_SETTLE] = 10, [SIM_TIME] = 25,
		[SIM_DISK] = 80, [SIM_FAULT] = 6, [SIM_DAMAGE] = 3, [SIM_STOP] = 2, [SIM_CRASH] = 2,
	};

	for (unsigned verb = 0; verb < SIM_VERB_COUNT; verb++)
		setup->weights[verb] = one_in(seed, 4) ? 0 : usual[verb] * (1 + below(seed, 4));
	if (setup->weights[SIM_APPEND] == 0)
		setup->weights[SIM_APPEND] = 100;
	if (!setup->readers)
		setup->weights[SIM_LOOK] = setup->weights[SIM_SETTLE_PIN] = setup->weights[SIM_LET_GO] = 0;
	if (!setup->tier)
		setup->weights[SIM_DISK] = setup->weights[SIM_FORECAST] = 0;
	if (!setup->tier || !(setup->write_faults || setup->read_faults))
		setup->weights[SIM_FAULT] = 0;
	if (!setup->tier || !setup->damage)
		setup->weights[SIM_DAMAGE] = 0;
}

void sim_setup_make(struct sim_setup *setup, uint64_t seed)
{
	uint64_t state = sim_mix(seed, 1);

	*setup = (struct sim_setup){
		.seed = seed,
		.arena_bytes = one_in(&state, 4) ? 16 * MIB : 8 * MIB,
		.blocks_max = 8 + below(&state, one_in(&state, 3) ? 80 : 24),
		.peers = 1 + below(&state, SIM_PEERS_MAX),
		.uids = 1 + below(&state, 3),
		.large = one_in(&state, 8),
		.keys = one_in(&state, 4) ? 3 + below(&state, 8) : 16 + below(&state, SIM_KEYS_MAX - 15),
		.roots = 1 + below(&state, 8),
		.branch = 1 + below(&state, 4),
		.names = one_in(&state, 3) ? 1 + below(&state, SIM_NAMES) : 1,
		.mrc_samples = one_in(&state, 3) ? 0 : 16,
		.prompt_percent = below(&state, 101),
		.readers = !one_in(&state, 3),
	};
	for (unsigned i = 0; i < SIM_SHAPES; i++)
		shape_make(&setup->shapes[i], setup->large, &state);
	limits_make(&setup->limits, &state);
	if (setup->large)
		setup->limits.staging_bytes_max = setup->limits.staging_bytes_per_uid_max = 4 * MIB;
	tier_make(setup, &state);
	weights_make(setup, &state);
}

void sim_setup_print(const struct sim_setup *setup)
{
	printf("# arena %llu MiB, %u blocks, %u clients%s, %u keys from %u roots, %u spaces of %u and %u pages\n",
	       (unsigned long long)(setup->arena_bytes >> 20), setup->blocks_max, setup->peers,
	       setup->readers ? " that also read without asking" : "", setup->keys, setup->roots,
	       setup->names * SIM_SHAPES, page_count(&setup->shapes[0]), page_count(&setup->shapes[1]));
	if (setup->tier)
		printf("# tier of %u segments of %llu KiB%s%s%s%s\n", setup->segments,
		       (unsigned long long)(setup->segment_bytes >> 10), setup->write_faults ? ", failing writes" : "",
		       setup->read_faults ? ", failing reads" : "", setup->damage ? ", damaged files" : "",
		       setup->torn ? ", torn writes" : "");
}
