/* SPDX-License-Identifier: Apache-2.0 */
/* No tier: it has nothing and takes nothing, so nothing ever ends, and evicted blocks are gone. */
#include "daemon/core/tier-none.h"

#include "base/contract.h"
#include "proto/status.h"

static void none_bind(struct tier *tier, const struct tier_client *client, void *context)
{
}

static bool none_find(struct tier *tier, const struct tier_space *space, struct block_key key,
		      struct tier_block *ret_block)
{
	return false;
}

static int none_store(struct tier *tier, const struct tier_block *block, const struct tier_page *pages, uint64_t cookie,
		      uint64_t now_ns)
{
	return KVP_NO_SPACE;
}

static int none_load(struct tier *tier, const struct tier_space *space, struct block_key key, const uint32_t *order,
		     void *const *memory, uint32_t n, uint64_t cookie, uint64_t now_ns)
{
	return KVP_MISS;
}

static void none_remove(struct tier *tier, const struct tier_space *space, struct block_key key, uint64_t now_ns)
{
}

static void none_forget(struct tier *tier, const struct tier_space *space, struct block_key key)
{
}

static uint64_t none_forecast_ns(const struct tier *tier, uint64_t bytes)
{
	return 0;
}

static void none_stats(const struct tier *tier, struct tier_stats *ret_stats)
{
	*ret_stats = (struct tier_stats){ .engine = "none" };
}

static uint64_t none_deadline_ns(const struct tier *tier)
{
	return UINT64_MAX;
}

static void none_tick(struct tier *tier, uint64_t now_ns)
{
}

static bool none_stop(struct tier *tier)
{
	return true;
}

static const struct tier_ops none_ops = {
	.bind = none_bind,
	.find = none_find,
	.store = none_store,
	.load = none_load,
	.remove = none_remove,
	.forget = none_forget,
	.forecast_ns = none_forecast_ns,
	.stats = none_stats,
	.deadline_ns = none_deadline_ns,
	.tick = none_tick,
	.stop = none_stop,
};

/* It has no state, so all cores share it. */
static struct tier none = { .ops = &none_ops };

struct tier *tier_none(void)
{
	return &none;
}
