/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much of its memory the arena may take. Addresses and descriptors never change: extents beyond the limit are
 * emptied and given back to the system ("retired"), and taken again when the limit rises. The limit is the lesser of
 * what the last Resize says and what the host says while the machine is short of memory.
 *
 *	TRIM     free extents beyond the limit are given back, or retired ones taken again, one a step
 *	SURVEY   which extents hold what cannot be moved: leased, pinned, unfinished, removed but still read
 *	EVICT    the policies' victims go until the rest, packed, fits
 *	MOVE     the emptiest extents are drained: what is in them moves to free slots of others; then TRIM
 *	REST     as large as it is to be
 *
 * So what is evicted is what is cold, and about as much as must go, however the slots of cold blocks are spread. A step
 * is a slice of work, driven by a deadline that is due at once; a round that came to nothing because readers hold what
 * must go is followed by a pause, which doubles up to RESIZE_PAUSE_MS_MAX, and the next round. That has no end but
 * success: whoever waits has a time of his own and is told how far it went.
 */
#pragma once

#include "daemon/core/internal.h"

#define RESIZE_PAUSE_MS_MIN 20
#define RESIZE_PAUSE_MS_MAX 5000

/* A space needs one extent for pages and one for page maps. */
#define RESIZE_EXTENTS_MIN 2

/* Once, when the arena is laid out. fixed: memory cannot be given back. */
void resize_init(struct core *core, bool fixed);

/* The session is going: it waits no longer. */
void resize_forget(struct core_session *session);

/* Whether the session waits by a request of this id. */
bool resize_waits(const struct core_session *session, uint64_t id);

/* From now on the arena may take so many bytes, at most and at least what is possible. */
void resize_ask(struct core *core, uint64_t bytes);

/* Answers a request of this id, or makes the session wait for the end, at most so long. Results: 0, -ENOMEM. */
void resize_answer(struct core_session *session, uint64_t id);
int resize_wait(struct core_session *session, uint64_t id, uint32_t wait_ms);
