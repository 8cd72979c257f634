/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers: how a thread finds and pins blocks without a system call or a lock.
 *
 * A reader works on one session at a time: its arena and its control memory, of which it holds records; each record
 * has 32 hazards, and each hazard a place for the handle of the block that it names.
 *
 *	hazard free --hazard = number, full fence, generation even and the key right--> pinned
 *	pinned --hazard = 0--> free
 *
 * Once the session is found over (this client closed it, or the daemon did), the reader moves to the client's current
 * one, which takes the lock. Records with pins stay behind, with their mappings, until the last pin goes.
 *
 * Everything here belongs to the reader's thread but the list of readers, which has the client's lock. Kept blocks may
 * be read by any thread.
 */
#pragma once

#include "base/list.h"
#include "client/block.h"
#include "client/control.h"
#include "client/tensor.h"

#include <stdint.h>

#define READER_ALL_FREE UINT32_MAX
_Static_assert(KVP_HAZARDS == 32, "a bit of reader_record.free for each");

struct reader_record {
	struct list link; /* in kvc_reader.records */
	struct kvc_reader *reader;
	struct arena *arena;     /* references to the session's memory */
	struct control *control;
	struct kvp_record *shared;
	uint32_t number;
	uint32_t free; /* bit i: hazard i names nothing */
	struct kvc_block blocks[KVP_HAZARDS];
};

struct kvc_reader {
	struct list link; /* in kvc_client.readers */
	struct kvc_client *client;
	struct arena *arena;     /* of the session: the same as those of its records */
	struct control *control;
	struct reader_record *room; /* a record of the session with a free hazard; NULL: look for one */
	struct list records;
};

/*
 * KVC_OK if the space can be read with this reader now. Otherwise -EINVAL (they are of two clients, or space is NULL),
 * -ECHILD, or why the space cannot be used; in words.
 */
int reader_check(struct kvc_reader *reader, const struct kvc_space *space);

/*
 * Pins a block with every page in range and marks it as used. Results: KVC_OK and the handle, for reader_unpin();
 * KVC_MISS; KVC_PARTIAL; KVC_TOO_MANY (pins_max); negative errno of finding the daemon again; KVC_QUOTA (it gives no
 * control memory any more); why the space cannot be used.
 */
int reader_pin(struct kvc_reader *reader, const struct kvc_space *space, const struct kvc_key *key,
	       const struct range *range, struct kvc_block **ret_block);

/* Likewise, without keeping it; eviction hears of it, but it counts as no use. */
int reader_meet(struct kvc_reader *reader, const struct kvc_space *space, const struct kvc_key *key,
		const struct range *range);

/* Likewise, without marking it and without keeping it. */
int reader_find(struct kvc_reader *reader, const struct kvc_space *space, const struct kvc_key *key,
		const struct range *range);

void reader_unpin(struct kvc_block *block);

/*
 * Whether the reader's session goes on, as far as it is known here. When another daemon process has taken the arena
 * over nobody looks at this session's hazards; what was pinned before keeps its memory for a while
 * (restart.grace_ms).
 */
static inline bool reader_stands(const struct kvc_reader *reader)
{
	return reader->arena && arena_session_stands(reader->arena) && !control_over(reader->control);
}

/* For reader-pin.c: the session stands and the reader has room. Results as reader_pin()'s. */
int reader_ready(struct kvc_reader *reader);

/* Likewise: KVC_OK, or why the space cannot be used, in words. */
int reader_space_refuse(const struct kvc_space *space);

/* Likewise: the last pin of an earlier session's record has gone. */
void reader_record_retire(struct reader_record *record);

/*
 * Before the i-th of n keys is looked up: asks for the memory that this one and the next ones lead to. For lists; one
 * key alone is found faster without.
 */
void reader_ask_ahead(const struct kvc_reader *reader, const struct kvc_space *space, const struct kvc_key *keys,
		      size_t n, size_t i);

/* kvc_match() of valid keys with a reader; space and ret_matched are not NULL. */
int reader_match(struct kvc_reader *reader, struct kvc_space *space, const struct kvc_key *keys, size_t n,
		 const struct kvc_range *range, size_t *ret_matched);

/* The pinned block is being read: a sign of life. Any thread. */
static inline void reader_beat(const struct reader_record *record)
{
	uint32_t beats = atomic_load_explicit(&record->shared->beats, memory_order_relaxed);

	atomic_store_explicit(&record->shared->beats, beats + 1, memory_order_relaxed);
}

/* Frees a client's readers. */
void reader_free_all(struct kvc_client *client);
