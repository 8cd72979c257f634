/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a block.
 *
 *	FREE --block_create--> LIVE, partial --last page--> LIVE, complete
 *	     --block_kill--> (LIMBO while leased, tied or pinned) --> FREE
 *
 * A live block is in the index and its generation is even. It is partial until every page is there; meanwhile either a
 * load brings its pages up from the tier, or the sessions that append to it are its writers, and it is dropped when the
 * last of them leaves or no page came for partial_ttl_ms. A complete block is in its space's policy, that is, it may be
 * evicted, exactly when it has no resident child, no lease, no tie and no hold. block_kill() takes only blocks without
 * children: the resident blocks are always closed under "parent of".
 */
#pragma once

#include "daemon/core/internal.h"
#include "daemon/core/key.h"

static inline struct block_key key_of_block(const struct core *core, uint32_t block)
{
	const struct kvp_block *shared = shared_block(core, block);

	return (struct block_key){ .bytes = shared->key, .n = shared->key_bytes };
}

/* The live block, or 0. */
uint32_t block_find(struct core *core, uint32_t space_id, struct block_key key);

/*
 * A new live block without pages. parent is a live block or 0. The caller has seen that the key is not there.
 * Evicts to make room. Results: KVP_OK and the number; KVP_NO_SPACE; -EAGAIN (much was evicted; call again).
 */
int block_create(struct core *core, uint32_t space_id, struct block_key key, uint32_t parent, uint32_t tokens,
		 uint32_t *ret_block);

/*
 * Copies a page in. bytes is read once. The page must not be ready. Results: KVP_OK; KVP_NO_SPACE; KVP_CORRUPT;
 * -EAGAIN.
 */
int block_store_page(struct core *core, uint32_t block, uint32_t page, const void *bytes, uint32_t n,
		     uint64_t checksum);

/*
 * A page of n bytes is in its slot, which becomes the block's: its checksum was compared. It must not be ready. May
 * complete the block.
 */
void block_publish_page(struct core *core, uint32_t block, uint32_t page, uint64_t offset, uint32_t n,
			uint64_t checksum);

/* An append began this block: what became of the key before is counted, and the miss-ratio curve hears of it. */
void block_begun(struct core *core, uint32_t block);

bool block_page_ready(const struct core *core, uint32_t block, uint32_t page);
bool block_complete(const struct core *core, uint32_t block);

/* Encoded bytes of the pages that are there. */
uint64_t block_stored_bytes(struct core *core, uint32_t block);

/* Marks as used now. block_use() tells only the policy: nobody asked for the block. */
void block_touch(struct core *core, uint32_t block);
void block_use(struct core *core, uint32_t block);

/* Sets what eviction sees; 0 is normal. */
void block_set_priority(struct core *core, uint32_t block, uint32_t priority);

/* The session appends to this partial block. Results: 0, -ENOMEM. */
int block_add_writer(struct core *core, uint32_t block, struct core_session *session);

/* A writer goes; the last one's partial block is dropped, with all that descends from it. */
void block_remove_writer(struct core *core, struct writer *writer);

/* The session is its only writer. */
bool block_sole_writer(const struct core *core, uint32_t block, const struct core_session *session);

/* Holds, leases and ties keep a block out of the policy. */
void block_hold(struct core *core, uint32_t block);
void block_unhold(struct core *core, uint32_t block);
void block_lease(struct core *core, uint32_t block);
void block_unlease(struct core *core, uint32_t block);

/* The same without a session that could be asked or charged: for transfers and waiting fetches. */
void block_tie(struct core *core, uint32_t block);
void block_untie(struct core *core, uint32_t block);

/*
 * What pinning or leasing the block counts on its user's quota of bytes: its memory, or its share of the arena when it
 * has less, since block numbers can run out as well.
 */
uint64_t block_pin_cost(const struct core *core, uint32_t block);

/* The last that kept a block in limbo has gone: its memory and its number are free. */
void block_leave_limbo(struct core *core, uint32_t block);

/*
 * For recover.c. What the shared half tells is right and its slots are taken; the private half is not there yet. The
 * first becomes resident: it is complete, and its parent, if any, is resident. The second is dead, and rests. The third
 * is live and in the index, and is removed.
 */
void block_adopt(struct core *core, uint32_t block, uint32_t parent);
void block_adopt_resting(struct core *core, uint32_t block);
void block_drop_unadopted(struct core *core, uint32_t block);

/* Removes a live block without children, for this reason. Returns the stored bytes that went. */
uint64_t block_kill(struct core *core, uint32_t block, enum kvp_fate fate);

/* Removes a live block and its descendants, at most *budget of them. Whether the block itself is gone. */
bool block_kill_tree(struct core *core, uint32_t block, enum kvp_fate fate, uint32_t *budget);
