/* SPDX-License-Identifier: Apache-2.0 */
/* Between the core and mrc.c: hashes, sizes and counters. */
#include "daemon/core/curve.h"

_Static_assert(CORE_MRC_SAMPLES_MAX == MRC_SAMPLES_MAX, "one limit");

int curve_init(struct core *core, uint32_t samples_max, uint64_t secret)
{
	return mrc_init(&core->mrc, samples_max, core->arena.extents_count * KVP_EXTENT_BYTES, secret);
}

static uint64_t slot_share(const struct size_class *size_class)
{
	return KVP_EXTENT_BYTES / size_class->slots_per_extent;
}

static uint64_t bytes_of(const struct core *core, const struct space *space)
{
	uint64_t bytes = space->page_count * slot_share(space->page_class);
	uint64_t share = core->mrc.capacity / core->arena.blocks_count;

	if (space->page_count > 1)
		bytes += slot_share(space->map_class);
	return bytes > share ? bytes : share;
}

void curve_use(struct core *core, uint32_t block, double weight)
{
	mrc_use(&core->mrc, shared_block(core, block)->key_hash, bytes_of(core, block_space(core, block)), weight,
		false);
}

void curve_birth(struct core *core, uint32_t block)
{
	mrc_use(&core->mrc, shared_block(core, block)->key_hash, bytes_of(core, block_space(core, block)), 1, true);
}

void curve_forget(struct core *core, uint64_t key_hash)
{
	mrc_forget(&core->mrc, key_hash);
}

void curve_refresh(struct core *core)
{
	struct mrc *mrc = &core->mrc;

	counter_set(core, mrc_references_total, mrc_uses(mrc));
	counter_set(core, mrc_hits_quarter_total, mrc_hits(mrc, 0));
	counter_set(core, mrc_hits_half_total, mrc_hits(mrc, 1));
	counter_set(core, mrc_hits_one_total, mrc_hits(mrc, 2));
	counter_set(core, mrc_hits_two_total, mrc_hits(mrc, 3));
	counter_set(core, mrc_hits_four_total, mrc_hits(mrc, 4));
	counter_set(core, mrc_hits_eight_total, mrc_hits(mrc, 5));
	counter_set(core, mrc_samples, mrc->n);
}
