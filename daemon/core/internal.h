/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core's private state, for the files of daemon/core only.
 *
 * Ownership: the core owns spaces, blocks, users and sessions; a session owns its leases, its writer marks and
 * its queued operations. Block numbers begin at 1; blocks[n] is the private half of arena.blocks[n - 1]. Space
 * ids likewise.
 */
#pragma once

#include "base/list.h"
#include "codec/page.h"
#include "daemon/core/account.h"
#include "daemon/core/arena.h"
#include "daemon/core/core.h"
#include "daemon/core/deadline.h"
#include "daemon/core/intake.h"
#include "daemon/core/mrc.h"
#include "daemon/core/past.h"
#include "daemon/core/policy.h"
#include "daemon/core/tier.h"
#include "proto/control.h"
#include "proto/kvpaged.pb-c.h"
#include "proto/limits.h"
#include "proto/status.h"

#include <stdbool.h>
#include <stdint.h>

/* Parsed messages live here while a request is looked at: a bound on what a frame may unfold to. */
#define PARSE_BYTES (8u << 20)

enum block_state {
	BLOCK_FREE,
	BLOCK_LIVE,  /* can be found */
	BLOCK_LIMBO, /* removed; somebody may still read its memory */
};

/* The private half of a block. used and priority are in core.entries. */
struct block {
	uint32_t parent; /* 0: a root */
	uint32_t first_child;
	uint32_t next_sibling;
	uint32_t prev_sibling;
	uint32_t children;
	uint32_t leases;
	uint32_t holds;     /* by operations that need it to stay for the moment */
	uint32_t ties;      /* by transfers and waiting fetches, which need its memory: as leases, but of no session */
	uint32_t free_next; /* in the list of free numbers, or of those in limbo that no lease holds */
	enum block_state state;
	uint64_t slot_bytes; /* of its pages and its map */
	uint64_t used_ns;
	uint64_t wanted_ns; /* when it was last passed over as a victim because it was pinned; 0: never */
	struct list writers;
	struct list to_store;    /* core.to_store, while it waits to be written to the tier */
	struct load *load;       /* that brings its pages up from the tier; NULL: none */
	bool below;              /* the tier has it, or is writing it */
	bool storing;            /* its store has not ended */
	bool adopted;            /* from the process before */
	bool read;               /* since it was stored, or loaded */
	struct deadline partial; /* armed while pages are missing, unless they are being loaded */
	struct deadline keep;    /* armed while it has a priority */
};

/* A session that appends to a block whose pages are not all there. */
struct writer {
	struct list by_session;
	struct list by_block;
	const struct core_session *session;
	uint32_t block;
};

struct lease {
	struct list by_session;
	struct core_session *session;
	uint64_t id; /* salt << 32 | place in core.leases */
	uint32_t block;
	uint64_t charged_bytes;
	struct deadline deadline;
};

struct space_totals {
	uint64_t blocks;
	uint64_t blocks_partial;
	uint64_t pages;
	uint64_t tokens;
	uint64_t logical_f16_bytes;
	uint64_t stored_bytes;
	uint64_t overhead_bytes;
};

struct space {
	bool live;
	uint64_t life; /* which of all spaces that ever were; numbers are given anew */
	struct page_schema schema;
	uint32_t page_count;
	struct tier_space digest;
	struct size_class *page_class;
	struct size_class *map_class;
	struct policy *policy;
	uint32_t sessions;    /* that have it open */
	uint64_t first_event; /* events from this number on can be its own */
	uint64_t limbo;       /* its blocks that rest: kept when it is dropped, its number is not given anew before 0 */
	struct space_totals totals;
};

/* What the last scan found in a client's codec figures, and in one record. */
struct tally_seen {
	uint64_t encode_bytes;
	uint64_t encode_ns;
	uint64_t decode_bytes;
	uint64_t decode_ns;
};

struct record_seen {
	uint32_t touches;
	uint32_t asides;
	uint32_t misses;
	uint64_t uses; /* not counted yet */
};

/* A session's control memory and what is known of it; see hazard.h. */
struct control {
	struct list link;                  /* core.controls, until its hazards are void */
	struct kvp_control_header *header; /* NULL: none. The client can write it */
	uint32_t records;
	uint64_t bytes;
	struct record_seen *seen; /* [records] */
	struct tally_seen tally_seen;
	uint32_t life;          /* the sum of signs of life at the last scan */
	bool asked;             /* a request came since */
	uint64_t silent_since_ns;
	/* Of the scan in progress: */
	uint32_t life_now;
	bool wanted; /* it pins what is wanted */
	bool greedy; /* it pins more than its user may */
};

/* A Resize that waits for its end. */
struct resize_wait {
	struct list link; /* resize.waits */
	struct core_session *session;
	struct deadline over;
	uint64_t id;
};

/* What came of the size that is wanted, since it was wanted. */
struct resize_sums {
	uint64_t evicted_blocks;
	uint64_t evicted_bytes;
	uint64_t moved_bytes;
	uint64_t discarded_bytes;
};

enum resize_phase { RESIZE_REST, RESIZE_TRIM, RESIZE_SURVEY, RESIZE_EVICT, RESIZE_MOVE };

/* How large the arena may be, and the work on it; see resize.h. */
struct resize {
	bool fixed;       /* memory cannot be given back */
	uint32_t asked;   /* the most extents, as the last Resize says */
	uint32_t pressed; /* likewise, as the host says */
	enum resize_phase phase;
	uint32_t cursor;     /* block that is looked at next */
	uint64_t pause_ms;   /* before the next round, if this one comes to nothing */
	uint32_t used_begin; /* extents in use when the round began */
	struct deadline step;
	struct list waits;
	struct resize_sums sums;
};

enum session_state { SESSION_NEW, SESSION_READY, SESSION_OVER };

struct op;

/* A Subscribe that waits. */
struct wait {
	struct list link; /* core.waits */
	struct core_session *session;
	struct deadline over;
	uint64_t id;
	uint64_t after;
	uint32_t max;
};

struct core_session {
	struct list link; /* core.sessions */
	struct list run;  /* core.run_queue while ops are queued */
	struct core *core;
	void *peer;
	uint64_t id;
	enum session_state state;
	struct user *user;
	const uint8_t *staging;
	uint64_t staging_bytes;
	struct control control;
	bool want_event;
	unsigned in_flight;
	struct list ops;
	struct list leases;
	struct list writers;
	struct list fetches; /* that wait for the tier */
	struct deadline hello;
	struct wait wait;
	struct resize_wait resize;
	uint64_t spaces_open[(KVP_SPACES_MAX + 63) / 64];
};

/* What happened, as it is remembered; see events.h. */
struct event {
	uint32_t space_id;
	uint16_t tokens;
	uint8_t kind;
	uint8_t fate;
	uint8_t n;
	uint8_t bytes[KVP_NAME_BYTES_MAX]; /* the block's key, or the name of a space that is gone */
};

enum op_progress { OP_MORE, OP_DONE };

/* A queued request. Its session's ops are done in order, one slice at a time. */
struct op {
	struct list link; /* session.ops */
	uint64_t id;      /* the request's */
	uint64_t begin_ns;
	uint32_t verb;    /* enum kvp_verb */
	enum op_progress (*step)(struct core_session *session, struct op *op);
	/* Frees what the operation holds and itself; called once, done or abandoned. */
	void (*destroy)(struct core *core, struct op *op);
};

/* Parts of the reply that is being made; a reply is packed before the next one begins. */
struct reply_scratch {
	uint8_t item_status[KVP_ITEMS_MAX];
	Kvpaged__V1__FetchItem fetch_items[KVP_ITEMS_MAX];
	Kvpaged__V1__FetchItem *fetch_item_pointers[KVP_ITEMS_MAX];
	Kvpaged__V1__ListItem list_items[KVP_LIST_ITEMS_MAX];
	Kvpaged__V1__ListItem *list_item_pointers[KVP_LIST_ITEMS_MAX];
	Kvpaged__V1__Counter counters[KVP_COUNTERS];
	Kvpaged__V1__Counter *counter_pointers[KVP_COUNTERS];
	Kvpaged__V1__SpaceStats spaces[KVP_SPACES_MAX];
	Kvpaged__V1__SpaceStats *space_pointers[KVP_SPACES_MAX];
	Kvpaged__V1__Schema schemas[KVP_SPACES_MAX];
	Kvpaged__V1__Event events[KVP_EVENTS_MAX];
	Kvpaged__V1__Event *event_pointers[KVP_EVENTS_MAX];
};

struct core {
	struct arena arena;
	struct core_limits limits;
	const struct core_host *host;
	void *context;
	const char *version;
	const struct core_config_item *config;
	size_t n_config;
	struct tier *tier;
	uint64_t start_ns;
	uint64_t now_ns; /* of the call in progress */
	uint32_t verb;   /* of the request that is being looked at */
	uint64_t tick;
	uint64_t next_session_id;
	bool stopping;

	struct space spaces[KVP_SPACES_MAX + 1];
	uint64_t space_lives;
	struct block *blocks;         /* [blocks_count + 1] */
	struct policy_entry *entries; /* [blocks_count + 1] */
	uint32_t free_block;
	uint32_t free_blocks; /* in the list that begins there */

	struct lease **leases;
	uint32_t leases_capacity;
	uint32_t *free_leases;
	uint32_t n_free_leases;
	uint32_t lease_salt;

	struct list sessions;
	struct list users;
	struct list run_queue;
	struct deadline_heap deadlines;
	uint64_t limbo_bytes;
	uint32_t limbo_first; /* blocks in limbo that no lease holds, oldest first */
	uint32_t limbo_last;

	/* Scans of hazards; see hazard.h. */
	struct list controls; /* of sessions whose hazards count */
	struct deadline scan_due;
	uint32_t *marks; /* [blocks_count + 1] */
	uint32_t scan;
	uint32_t records_used;
	uint32_t blocks_named;
	uint64_t scanned_ns;
	uint64_t grace_end_ns; /* until then readers may pin of whom we do not know */
	bool strays;           /* until then also loads of the process before may come in; see loading.h */
	uint64_t touches_fresh;
	uint64_t drain_ms;

	struct core_recovery recovery;
	struct past past;
	struct mrc mrc;       /* see curve.h */
	struct event *events; /* [limits.events_kept] */
	uint64_t events_last; /* the newest's number */
	struct list waits;
	struct deadline waits_due;
	struct deadline stats_due;
	struct resize resize;

	/* What goes down and comes up; see tiering.h and loading.h. */
	enum core_tier_admit tier_admit;
	uint32_t tier_free_percent;
	struct list to_store; /* complete blocks that the tier lacks, oldest first */
	uint64_t storing_bytes;
	struct deadline store_due;
	struct list loads;
	uint64_t loading_bytes; /* slots of loads, not published yet */
	uint64_t loads_bytes;   /* of the blocks that they are for, whole */
	uint64_t reading_bytes; /* of pages, under way */
	struct list fetches;    /* that are to be prepared, in the order of their coming */
	bool fetches_blocked;   /* until a load or a store ends */
	struct load *load_begun; /* that takes its slots; NULL: none */
	struct tier_page *transfer; /* [KVP_PAGES_PER_BLOCK_MAX], for the length of a call */

	struct intake intake;
	uint8_t *parse;
	size_t parse_used;
	uint8_t *reply_buffer; /* KVP_FRAME_BYTES_MAX */
	struct reply_scratch scratch;
};

/* Counters are shared memory with one writer: a relaxed load and store. */
#define counter_add(core, name, amount)                                                                        \
	atomic_store_explicit(&(core)->arena.counters->name,                                                   \
			      atomic_load_explicit(&(core)->arena.counters->name, memory_order_relaxed) +      \
				      (amount),                                                                \
			      memory_order_relaxed)
#define counter_sub(core, name, amount) counter_add(core, name, -(uint64_t)(amount))
#define counter_set(core, name, value)                                                                         \
	atomic_store_explicit(&(core)->arena.counters->name, (value), memory_order_relaxed)
#define counter_get(core, name) atomic_load_explicit(&(core)->arena.counters->name, memory_order_relaxed)

/* The time, where a call does not tell it. */
static inline uint64_t core_clock_ns(const struct core *core)
{
	return core->host->clock_ns ? core->host->clock_ns(core->context) : core->now_ns;
}

/* There is work for core_run() that no request brought. */
static inline void core_wake(const struct core *core)
{
	if (core->host->wake)
		core->host->wake(core->context);
}

static inline void histogram_add(struct kvp_histogram *histogram, uint64_t ns)
{
	uint64_t us = ns / 1000;
	/* The bits of (us rounded up) - 1: the smallest i with us <= 2^i. */
	uint64_t above = us * 1000 == ns ? us : us + 1;
	unsigned i = above <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(above - 1);
	_Atomic uint64_t *bucket = &histogram->buckets[i < KVP_HISTOGRAM_BUCKETS ? i : KVP_HISTOGRAM_BUCKETS - 1];

	atomic_store_explicit(bucket, atomic_load_explicit(bucket, memory_order_relaxed) + 1, memory_order_relaxed);
	atomic_store_explicit(&histogram->sum_ns,
			      atomic_load_explicit(&histogram->sum_ns, memory_order_relaxed) + ns,
			      memory_order_relaxed);
}

static inline struct kvp_block *shared_block(const struct core *core, uint32_t block)
{
	return &core->arena.blocks[block - 1];
}

/* A block of one page has its map in its entry of the block table. */
static inline uint32_t map_slot_bytes(const struct space *space)
{
	return space->page_count > 1 ? space->map_class->slot_bytes : 0;
}

static inline struct kvp_page *shared_pages(const struct core *core, uint32_t block)
{
	return arena_at(&core->arena, shared_block(core, block)->map_offset);
}

static inline struct space *block_space(struct core *core, uint32_t block)
{
	return &core->spaces[shared_block(core, block)->space_id];
}
