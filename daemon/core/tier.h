/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies below RAM: a store of whole blocks, as they are in the arena (encoded pages and their checksums). The core
 * decides what goes down and comes up (tiering.h); the tier decides where it lies, for how long, and what it drops.
 *
 * A tier is a cache below a cache. It may lose any block at any time; then the block is a miss. It never gives wrong
 * bytes: whoever loads a page compares its checksum.
 *
 * All calls come from the core's thread and return at once. What they started ends with a call of struct tier_client,
 * from the loop and never from within the call that started it. Memory handed over is the tier's to read or write until
 * that end; there is no cancelling.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/core/key.h"
#include "proto/limits.h"

struct tier;

/*
 * Names a space across restarts: a digest of its name and of every field of its schema, so that a space of another
 * shape under the same name is another one.
 */
struct tier_space {
	uint8_t digest[16];
};

/* What a tier keeps of a block beside its pages. */
struct tier_block {
	struct tier_space space;
	struct block_key key;
	struct block_key parent; /* n == 0: a root */
	uint32_t tokens;
	uint32_t page_count;
	uint32_t page_bytes; /* encoded size of each of its pages */
	uint32_t slot_bytes; /* page_bytes rounded up to KVP_SLOT_ALIGN: what is transferred */
};

/* One page of a transfer. memory begins at a multiple of KVP_SLOT_ALIGN and has slot_bytes. */
struct tier_page {
	void *memory;
	uint64_t checksum; /* of page_bytes of them */
};

/*
 * Calls upwards. context is what tier_ops.bind() was given; cookie what the call that started it was given. All but
 * resident() may call the tier again.
 */
struct tier_client {
	/*
	 * A store has ended. Results: 0, and find() finds the block (it did so since the store began); negative errno:
	 * it is lost (-ECANCELED: it was removed or replaced meanwhile).
	 */
	void (*stored)(void *context, uint64_t cookie, int result);

	/*
	 * A page is in memory, its checksum not compared yet: checksum is what it has to have. Or it is lost, result
	 * being negative errno.
	 */
	void (*page_loaded)(void *context, uint64_t cookie, uint32_t page, uint64_t checksum, int result);

	/* After the last page_loaded() of a load: its memory is not written any more. */
	void (*loaded)(void *context, uint64_t cookie);

	/*
	 * Whether the block is in RAM, asked before the tier drops or moves its copy. If it is, the core takes note
	 * that the copy goes, and stores the block anew if it was read meanwhile.
	 */
	bool (*resident)(void *context, const struct tier_block *block);
};

struct tier_stats {
	const char *engine; /* how it reads and writes: "io_uring", "threads"; static text */
	bool ready;         /* false while it finds out what it holds; it then finds and stores nothing */
	uint64_t capacity_bytes;
	uint64_t used_bytes;   /* of segments, by blocks that can be found */
	uint64_t blocks;
	uint32_t segments;
	uint64_t read_bytes_total;
	uint64_t written_bytes_total; /* all, with headers, footers and moved blocks */
	uint64_t read_errors_total;   /* transfers that failed */
	uint64_t write_errors_total;
	uint64_t dropped_blocks_total; /* reclaimed with their segments */
	uint64_t moved_blocks_total;   /* written again when their segment was reclaimed, because they were wanted */
	uint64_t recovered_blocks;     /* found at the start */
	uint64_t broken_total;         /* segments, headers and footers that were not what they should be */
};

struct tier_ops {
	/* Once, before anything else. client outlives the tier. */
	void (*bind)(struct tier *tier, const struct tier_client *client, void *context);

	/* The block, as it was stored; its keys are valid until the next call of the tier. False: it has none. */
	bool (*find)(struct tier *tier, const struct tier_space *space, struct block_key key,
		     struct tier_block *ret_block);

	/*
	 * Writes a block; a copy that is there already is replaced. pages is read during the call only, their memory
	 * until stored(). Results: 0, and stored() follows; KVP_NO_SPACE (not now: no segment is free, the queue is
	 * full, the write rate is used up; nothing follows).
	 */
	int (*store)(struct tier *tier, const struct tier_block *block, const struct tier_page *pages, uint64_t cookie,
		     uint64_t now_ns);

	/*
	 * Reads pages of a block that find() just found. order is the page numbers, in the order in which they are
	 * wanted; memory[i] takes page order[i]. Both are read during the call only. Results: 0, and n times
	 * page_loaded(), in any order, then loaded() follow; KVP_MISS; -ENOMEM.
	 */
	int (*load)(struct tier *tier, const struct tier_space *space, struct block_key key, const uint32_t *order,
		    void *const *memory, uint32_t n, uint64_t cookie, uint64_t now_ns);

	/*
	 * Forgets the block and all that descend from it, whether it is there itself or not; key.n == 0: the whole
	 * space. Descendants are found by their parents: one whose parent the tier has dropped is not. Of a very
	 * large tree the last ones may be found for a few turns of the loop more. Stays forgotten across restarts,
	 * but for a crash within the tenth of a second after.
	 */
	void (*remove)(struct tier *tier, const struct tier_space *space, struct block_key key, uint64_t now_ns);

	/* This block was found to be broken when it was loaded. */
	void (*forget)(struct tier *tier, const struct tier_space *space, struct block_key key);

	/* How long loading so many bytes would take, from what was measured lately and what is queued. */
	uint64_t (*forecast_ns)(const struct tier *tier, uint64_t bytes);

	void (*stats)(const struct tier *tier, struct tier_stats *ret_stats);

	/* When tick() is due, monotonic; UINT64_MAX: nothing waits. */
	uint64_t (*deadline_ns)(const struct tier *tier);
	void (*tick)(struct tier *tier, uint64_t now_ns);

	/*
	 * No new stores from now on; what is queued is written, and the segment in use gets its footer. Returns whether
	 * everything is written: asked again after each end of a transfer.
	 */
	bool (*stop)(struct tier *tier);
};

/* Embedded in the tier's own struct. */
struct tier {
	const struct tier_ops *ops;
};
