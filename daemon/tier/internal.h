/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log's state and its parts. Each part changes state when a transfer ends or a call comes; tier_work() then starts
 * whatever can be started. What takes long is cut into slices that tick() does.
 */
#pragma once

#include "base/list.h"
#include "daemon/core/tier.h"
#include "daemon/tier/disk.h"
#include "daemon/tier/index.h"
#include "daemon/tier/log.h"
#include "daemon/tier/pace.h"
#include "daemon/tier/record.h"

#include <stdbool.h>
#include <stdint.h>

#define TIER_NONE UINT32_MAX

#define TIER_TRANSFERS_MAX 64 /* of stores, and as many of loads */
#define TIER_RUN_BYTES_MAX (UINT32_C(256) << 10) /* neighbouring pages that are transferred together */
#define TIER_HEADS 8          /* heads of blocks being written at once */
#define TIER_MOVES 4          /* pages being moved at once */
#define TIER_STORES_MAX 256
#define TIER_LOADS_MAX 4096
#define TIER_REMOVALS_BYTES (64u << 10) /* of one record of removals */
#define TIER_REMOVALS_NS UINT64_C(100000000)
#define TIER_REMOVALS_TRIES 3
#define TIER_REMOVALS_WAITING_MAX 65536 /* of keys that have no entry */
/* Removals are kept in RAM until the footer of their segment is written; it is closed when they become more. */
#define TIER_REMOVALS_KEPT_MAX (4u << 20)
#define TIER_SLICE 2048    /* entries looked at in one turn */
#define TIER_ERRORS_MAX 3  /* of a segment, then it is closed, and its file made anew */
#define TIER_RETRY_NS UINT64_C(1000000000)
#define TIER_RETRY_MAX_NS UINT64_C(600000000000)

struct tier_log;

/* A transfer of the log's. done is called when it has ended, then tier_work(). */
struct tier_transfer {
	struct disk_io io;
	struct tier_log *log;
	uint64_t begun_ns;
	bool of_load;
	void (*done)(struct tier_log *log, struct tier_transfer *transfer, int result);
};

/*
 * A file's life: ABSENT -> FREE -> PREPARING -> SPARE -> HEAD -> FULL -> SEALED -> CLEANING -> FREE; DISCARDED where
 * something failed, its file being removed, then ABSENT.
 */
enum tier_segment_state {
	TIER_ABSENT,    /* no file, or one that is not open */
	TIER_FREE,      /* nothing in it counts */
	TIER_PREPARING, /* being created, given a new life, and synced */
	TIER_SPARE,     /* the next head */
	TIER_HEAD,      /* being appended to */
	TIER_FULL,      /* transfers and footer are being written */
	TIER_SEALED,
	TIER_CLEANING,
	TIER_DISCARDED,
};

struct tier_segment {
	struct list link; /* of log->full */
	enum tier_segment_state state;
	bool open;
	bool has_removals; /* on disk */
	bool no_footer;    /* what it would list is not known */
	uint32_t writers;  /* what is being written into it, but for the footer */
	uint32_t readers;  /* what needs its bytes */
	uint32_t errors;
	struct tier_life life;
	uint64_t end;        /* where the next record goes */
	uint64_t item_bytes; /* of all records, for the footer */
	uint64_t retry_ns;   /* not to be created before */
	struct list entries;
	struct list removals; /* written, until the footer is */
	uint32_t removals_bytes;
	uint64_t footer_offset; /* at the start: 0: it has none */
	uint32_t chunks;
};

/* Items of a record of removals, kept for the footer. */
struct tier_removals_kept {
	struct list link;
	uint64_t offset;
	uint32_t bytes;
	uint64_t items[];
};

struct tier_store {
	struct list link; /* of log->stores, or log->heads_waiting */
	struct tier_entry *entry;
	uint64_t cookie;
	uint32_t next;      /* page to be written */
	uint32_t under_way; /* transfers */
	int result;
	uint8_t *head; /* while it is being written */
	struct list waiting; /* loads */
	void *memory[];
};

struct tier_load {
	struct list link; /* of log->loads, of a store's waiting, or of log->loads_under_way */
	struct tier_entry *entry;
	uint64_t cookie;
	uint64_t pages_offset;
	uint32_t segment;
	uint32_t slot_bytes;
	uint32_t n;
	uint32_t next;
	uint32_t ended;
	struct {
		void *memory;
		uint32_t page;
	} pages[];
};

/* A transfer of a run of pages of a store (or of its head) or of a load: neighbours in the file and in memory. */
struct tier_page_transfer {
	struct tier_transfer transfer;
	struct list link; /* free ones */
	struct tier_store *store;
	struct tier_load *load;
	uint32_t at; /* of a load: the first one's place in it */
	uint32_t n;  /* pages of a load */
};

struct tier_removals {
	struct list early;     /* that came before it was known what there is */
	struct list expanding; /* entries (by in_segment) whose descendants are to be removed yet */
	struct list emitting;  /* that have to be written yet */
	uint32_t keyless;      /* of both: without an entry before */
	uint8_t *filling;
	uint8_t *writing;
	uint32_t used; /* bytes of filling, with its head */
	uint32_t items;
	uint64_t due_ns; /* UINT64_MAX: nothing waits */
	struct tier_transfer transfer;
	bool under_way;
	uint32_t segment;
	uint32_t writing_bytes;
	uint32_t writing_items;
	unsigned tries;
};

struct tier_seal_item {
	uint64_t offset;
	struct tier_entry *entry; /* NULL: removals */
	const struct tier_removals_kept *removals;
};

struct tier_seal {
	uint32_t segment; /* TIER_NONE: nothing is being sealed */
	struct tier_seal_item *items;
	size_t n;
	size_t next;
	size_t next_in; /* bytes of a removals item that are done */
	uint64_t at;
	uint64_t footer_offset;
	uint32_t chunks;
	bool ended; /* the end record is being written */
	uint8_t *chunk;
	struct tier_transfer transfer;
};

struct tier_prepare {
	uint32_t segment;
	uint8_t *record;
	unsigned failures;
	unsigned create_failures;
	uint64_t retry_ns;        /* nothing is prepared or cleaned before */
	uint64_t create_retry_ns; /* no file is created before */
	uint64_t due_ns;          /* something may be prepared then */
	struct tier_transfer transfer;
};

struct tier_move_page {
	struct tier_transfer transfer;
	uint8_t *memory;
	uint32_t page;
	bool busy;
};

struct tier_move {
	struct tier_entry *entry; /* NULL: nothing is being moved */
	uint32_t segment;
	uint64_t offset;
	uint32_t next;
	uint32_t under_way;
	int result;
	bool head_written;
	uint8_t *head;
	struct tier_transfer head_transfer;
	struct tier_move_page pages[TIER_MOVES];
};

struct tier_reclaim {
	uint32_t segment;
	uint64_t moved_bytes;
	struct tier_move move;
};

struct tier_rebuild;

struct tier_log {
	struct tier tier;
	struct disk *disk;
	const struct tier_client *client;
	void *context;
	uint64_t now_ns;
	uint64_t seed;
	uint64_t segment_bytes;
	uint32_t segments_n;
	bool ready;
	bool stopping;
	bool working; /* within tier_work() */
	uint32_t under_way; /* transfers, all kinds */
	struct tier_index index;
	struct tier_segment *segments;
	uint32_t head;
	uint32_t spare;
	struct list full; /* segments */
	uint64_t sequence_next;
	uint8_t *buffers; /* what heads, chunks and moved pages are written from */
	uint8_t *heads[TIER_HEADS];
	uint32_t heads_n; /* not in use */
	struct list stores;
	struct list heads_waiting;
	struct list stores_under_way; /* all of whose pages are submitted, or whose head is */
	uint32_t stores_n;
	struct list loads;
	struct list loads_under_way;
	uint32_t loads_n;
	uint64_t load_bytes; /* of loads, not read yet */
	struct list free_writes;
	struct list free_reads;
	struct tier_page_transfer *transfers;
	struct tier_removals removals;
	struct tier_seal seal;
	struct tier_prepare prepare;
	struct tier_reclaim reclaim;
	struct tier_rebuild *rebuild; /* NULL when it is done */
	struct tier_rate rate;
	struct tier_forecast forecast;
	struct tier_stats stats;
};

/* log.c */

/* Whether no room will be needed any more. */
bool tier_ending(const struct tier_log *log);
void tier_submit(struct tier_log *log, struct tier_transfer *transfer, enum disk_verb verb, uint32_t segment,
		 uint64_t offset, void *memory, uint32_t bytes);
void tier_work(struct tier_log *log);

/* segment.c: how segments become heads and end */

/* Prepares, where a spare is missing and something is free; and makes it the head where that is missing. */
void tier_segments_work(struct tier_log *log);
/* Nothing in it counts any more. */
void tier_segment_clear(struct tier_log *log, uint32_t segment);
void tier_segment_removals_free(struct tier_segment *segment);
/* The head takes no more records. */
void tier_head_close(struct tier_log *log);
/* A transfer in it failed; the head is closed when that was too many. */
void tier_segment_failed(struct tier_log *log, uint32_t segment);
/*
 * Room for a record at the head, behind all removals that were made before. Results: 0, and the segment has one writer
 * more; KVP_NO_SPACE.
 */
int tier_room(struct tier_log *log, uint64_t record_bytes, uint64_t item_bytes, uint32_t *ret_segment,
	      uint64_t *ret_offset);
/* The same, for the removals themselves. */
int tier_room_removals(struct tier_log *log, uint64_t record_bytes, uint64_t item_bytes, uint32_t *ret_segment,
		       uint64_t *ret_offset);
/* Whether a record would ever fit. */
bool tier_room_possible(const struct tier_log *log, uint64_t record_bytes, uint64_t item_bytes);
/* The next attempt at something that failed; UINT64_MAX: none waits. */
uint64_t tier_segments_due_ns(const struct tier_log *log);
/* The live entry goes, its segment being what it is. */
void tier_entry_drop(struct tier_log *log, struct tier_entry *entry);
void tier_entry_place(struct tier_log *log, struct tier_entry *entry, uint32_t segment, uint64_t offset);
uint64_t tier_entry_record_bytes(const struct tier_entry *entry);

/* seal.c */
void tier_seal_work(struct tier_log *log);
void tier_seal_deinit(struct tier_log *log);

/* store.c */
int tier_store(struct tier_log *log, const struct tier_block *block, const struct tier_page *pages, uint64_t cookie);
void tier_stores_work(struct tier_log *log);
void tier_stores_deinit(struct tier_log *log);

/* load.c */
int tier_load(struct tier_log *log, struct tier_entry *entry, const uint32_t *order, void *const *memory, uint32_t n,
	      uint64_t cookie);
void tier_loads_work(struct tier_log *log);
/* What waited for a store: it has ended. */
void tier_loads_go_on(struct tier_log *log, struct list *waiting, int result);
void tier_loads_deinit(struct tier_log *log);

/* remove.c */
void tier_remove(struct tier_log *log, const struct tier_space *space, struct block_key key);
/* Until it is known what there is; and then. */
void tier_remove_later(struct tier_log *log, const struct tier_space *space, struct block_key key);
void tier_remove_early(struct tier_log *log);
/* Removes descendants in one slice; what is then to be written goes into a record when due, or at once. */
void tier_removals_expand(struct tier_log *log, uint32_t slice);
/* Whether nothing is left that has to be in the log before another record. Starts writing it. */
bool tier_removals_flush(struct tier_log *log);
void tier_removals_work(struct tier_log *log);
bool tier_removals_idle(const struct tier_log *log);
void tier_removals_deinit(struct tier_log *log);

/* reclaim.c */
void tier_reclaim_begin(struct tier_log *log, uint32_t segment);
/* The segment is free, if nothing is left in it. */
void tier_reclaim_work(struct tier_log *log);
/* A slice. */
void tier_reclaim_slice(struct tier_log *log);
/* Whether a slice would do something now. */
bool tier_reclaim_due(const struct tier_log *log);
/* The oldest entry of all makes room in the index. */
void tier_reclaim_oldest(struct tier_log *log, bool ask);

/* move.c */
/* Results: 0: it began; KVP_NO_SPACE. */
int tier_move_begin(struct tier_log *log, struct tier_entry *entry);
void tier_move_deinit(struct tier_log *log);

/* rebuild.c */
int tier_rebuild_new(struct tier_log *log);
void tier_rebuild_begin(struct tier_log *log);
void tier_rebuild_deinit(struct tier_log *log);
