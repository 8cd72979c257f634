/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pinned blocks. A handle holds everything that reading needs, constant while it is pinned, so tiles are found without
 * the lock and without the daemon: the arena, the view at the generation at which it was pinned, and the geometry.
 *
 * A block is pinned by a reader's hazard, whose record holds the handle and the reference to the arena; or by a lease:
 * then the handle is one of the client's blocks, and the reference its own.
 */
#pragma once

#include "base/list.h"
#include "client/arena.h"
#include "client/kvclient.h"
#include "client/lookup.h"
#include "codec/page.h"

#include <stdint.h>

struct reader_record;

struct kvc_block {
	struct list link;             /* of a lease: in kvc_client.blocks; guarded by the lock */
	struct kvc_client *client;
	struct arena *arena;
	struct block_view view;
	struct reader_record *record; /* NULL: a lease */
	unsigned hazard;              /* of the record */
	uint64_t lease_id;
	uint64_t lease_end_ns;        /* boottime; the daemon may end the lease from then on */
	struct page_schema geometry;
	uint32_t head_groups;
	struct page_sizes sizes;
};

/* Ends the lease and frees the handle. */
void leased_unpin(struct kvc_block *block);

/* Frees a client's leased blocks without telling the daemon. */
void leased_free_all(struct kvc_client *client);
