/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session's control memory (proto/control.h), mapped: where the client's threads tell the daemon what they read.
 * Records are handed to readers and taken back, under the client's lock; one in use belongs to its reader's thread.
 *
 * A mapping is counted, also under the lock: the connection holds it, and so does every record in use, so a reader may
 * write to its record whenever it likes. After the session nobody looks at it any more.
 */
#pragma once

#include "proto/control.h"

#include <stdbool.h>
#include <stdint.h>

struct words;

struct control {
	unsigned refs;
	struct kvp_control_header *header;
	uint64_t bytes;
	uint32_t records;  /* constant */
	uint32_t given;    /* records [0, given) were in use at some time */
	uint32_t n_free;
	uint32_t free[];   /* those of them that are free again */
};

/*
 * Verifies and maps the control memory behind fd, which stays the caller's, with so many records, 1..KVP_RECORDS_MAX.
 * Results: 0 and a mapping with one reference; -EPROTO (it is no such memory; words say why); -ENOMEM and other errors
 * of mmap().
 */
int control_map(int fd, uint32_t records, struct words *words, struct control **ret_control);

struct control *control_ref(struct control *control);

/* NULL is fine. Unmaps with the last reference. Returns NULL. */
struct control *control_unref(struct control *control);

/* A record whose hazards are clear, and its number; NULL: all are in use. */
struct kvp_record *control_take(struct control *control, uint32_t *ret_number);

/* Takes a record back; its hazards are clear. */
void control_give(struct control *control, uint32_t number);

/* Names a block, so that from the next look at its generation on its memory is not used again if that is even. */
static inline void hazard_set(struct kvp_record *record, unsigned at, uint32_t number)
{
	atomic_store_explicit(&record->hazard[at], number, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
}

static inline void hazard_clear(struct kvp_record *record, unsigned at)
{
	atomic_store_explicit(&record->hazard[at], 0, memory_order_release);
}

/* Whether the daemon ended the session, so that hazards shield nothing. Any thread. */
static inline bool control_over(const struct control *control)
{
	return atomic_load_explicit(&control->header->over, memory_order_acquire) != 0;
}
