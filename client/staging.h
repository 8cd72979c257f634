/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ring over the staging memory. Chunks are contiguous and handed out in ring order; each is freed when the
 * daemon has answered for it, in any order. A hole in the middle is used again once the chunks before or
 * after it are gone, which is soon, since the daemon answers in order.
 */
#pragma once

#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

/* Pages lie at multiples of a cache line. */
#define STAGING_ALIGN 64u

struct staging {
	uint64_t bytes;
	struct list chunks; /* in ring order, oldest first */
};

/* Owned by the caller; linked from staging_alloc() to staging_free(). */
struct staging_chunk {
	struct list link;
	uint64_t offset;
	uint64_t bytes;
};

void staging_init(struct staging *staging, uint64_t bytes);

/*
 * A chunk of this size, a multiple of STAGING_ALIGN and not 0. False when there is no room now; nothing is
 * changed then.
 */
bool staging_alloc(struct staging *staging, struct staging_chunk *chunk, uint64_t bytes);

void staging_free(struct staging_chunk *chunk);

static inline bool staging_empty(const struct staging *staging)
{
	return list_empty(&staging->chunks);
}
