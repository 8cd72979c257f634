/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes up: whole blocks, the wanted pages first. A load makes the block, partial, takes all its slots (evicting
 * for them), and has the tier read into them; each page is published when it came and its checksum is right. Readers
 * see pages as they become ready, as those of an append.
 *
 *	load_begin() -> load_continue() until it is not negative -> pages, a layer at a time -> load over
 *
 * All loads share a window of transfers, and the one that has come least far goes on: when many blocks are loaded,
 * their first layers come before their second, so that who wants a long prefix can begin with its first layer. Small
 * pages are asked for some layers at a time.
 *
 * Slots belong to the load until their page is published, and then to the block. So a block may be deleted while it is
 * loaded: its load goes on for nobody, and gives its slots back when the tier has done with them.
 *
 * Strays: the kernel may still bring in what a process that was killed had asked the disk for, into slots that nobody
 * has now. So the arena tells the next process whether loads were under way, and that one takes no slots until its
 * grace is over (hazard.h), in which all of them come in.
 *
 * A page that is lost or broken ends the block: it is a miss, and the tier forgets it.
 */
#pragma once

#include "daemon/core/verbs.h"

struct load {
	struct list link;  /* core.loads */
	struct list parts; /* fetching.h: who waits for it */
	struct core *core;
	uint32_t block; /* 0: it is gone */
	struct tier_space space;
	struct page_range first; /* what to read first */
	uint32_t groups;
	uint32_t tokens;
	uint32_t page_bytes;
	uint32_t page_count;
	uint64_t bytes;    /* of all its slots */
	uint32_t taken;    /* slots, so far */
	uint32_t asked;    /* pages, in the order of `order` */
	uint32_t reads;    /* calls of the tier under way */
	bool ready;        /* it has its slots */
	bool lost;
	enum kvp_status status;
	uint64_t begin_ns;
	uint8_t key_bytes;
	uint8_t key[KVP_KEY_BYTES_MAX];
	uint32_t *order;
	uint64_t slots[]; /* by page; 0: it has none any more */
};

/* Whether strays may come in. */
bool loading_strays(const struct core *core);

/* Writes down for the next process whether loads are under way. */
void loading_note(struct core *core);

/* Whether loads have so much memory under way that the next has to wait for one to end. */
bool loading_busy(const struct core *core);

/*
 * Begins to load what tiering_find() found; the parent is resident, or 0. Results: KVP_OK; KVP_NO_SPACE; -EAGAIN (much
 * was evicted; call again); -EBUSY (call again when a transfer has ended: there may be room); -ENOMEM.
 */
int load_begin(struct core *core, uint32_t space_id, const struct tier_block *found, uint32_t parent,
	       const struct page_range *first, struct load **ret_load);

/*
 * Takes slots, then lets the load take part. Results: -EAGAIN, -EBUSY as load_begin(); KVP_OK; KVP_NO_SPACE, KVP_MISS
 * (it went meanwhile): the load is over.
 */
int load_continue(struct load *load);

/* Has the tier read as much as there is room for under way. */
void loading_step(struct core *core);

/* The block is going. */
void loading_forget(struct core *core, uint32_t block);

/* Calls of struct tier_client; the cookie is the load. */
void loading_page_loaded(void *context, uint64_t cookie, uint32_t page, uint64_t checksum, int result);
void loading_loaded(void *context, uint64_t cookie);
