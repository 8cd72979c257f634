/* SPDX-License-Identifier: Apache-2.0 */
/* In place of store-redis.c where hiredis was not there when this was built. */
#include "tests/bench/store.h"

static int start(struct store *store)
{
	return store_missing("redis", "kvbench was built without hiredis");
}

const struct store_class store_redis = { .name = "redis", .start = start };
