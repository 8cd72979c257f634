/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pinned blocks. A handle holds everything that reading needs, constant from kvc_pin() on, so tiles are found
 * without the lock and without the daemon: the arena (a reference), the view at the generation of the lease,
 * and the geometry.
 */
#pragma once

#include "base/list.h"
#include "client/arena.h"
#include "client/kvclient.h"
#include "client/lookup.h"
#include "codec/page.h"

#include <stdint.h>

struct kvc_block {
	struct list link;           /* in kvc_client.blocks; guarded by the lock */
	struct kvc_client *client;
	struct arena *arena;        /* a reference */
	struct block_view view;
	uint64_t lease_id;
	uint64_t lease_end_ns;      /* boottime; the daemon may end the lease from then on */
	struct page_schema geometry;
	uint32_t head_groups;
	uint32_t page_bytes;
};

/* Frees a client's pinned blocks without telling the daemon. */
void block_free_all(struct kvc_client *client);
