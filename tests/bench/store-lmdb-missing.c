/* SPDX-License-Identifier: Apache-2.0 */
/* In place of store-lmdb.c where LMDB was not there when this was built. */
#include "tests/bench/store.h"

static int start(struct store *store)
{
	return store_missing("lmdb", "kvbench was built without liblmdb");
}

const struct store_class store_lmdb = { .name = "lmdb", .start = start };
