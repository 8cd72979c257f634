/* SPDX-License-Identifier: Apache-2.0 */
/* No tier: evicted blocks are gone. */
#include "daemon/core/tier.h"

static enum tier_result refuse(void *context, struct core *core, uint32_t block)
{
	return TIER_REFUSED;
}

static void cancel(void *context, struct core *core, uint32_t block)
{
}

static uint64_t capacity_bytes(void *context)
{
	return 0;
}

const struct tier tier_none = {
	.name = "none",
	.submit_store = refuse,
	.submit_load = refuse,
	.cancel = cancel,
	.capacity_bytes = capacity_bytes,
};
