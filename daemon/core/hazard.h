/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's side of reading without a system call (proto/control.h, docs/memory-model.md).
 *
 * A removed block rests in limbo until a scan, begun after its removal, finds no hazard of a live session that names
 * it; a block that leases hold is not looked for before the last of them ends. A scan reads every hazard of every
 * record in use, and what was touched since the last one. Its cost grows with the records in use, so removals share
 * one: eviction removes hazard_batch() blocks at a time.
 *
 * What a scan saw also keeps pinned blocks from being evicted at all: a victim that is pinned is passed over. That
 * holds up to pinned_bytes_per_uid_max a user; what is pinned beyond it protects its memory, not its place in the
 * cache.
 *
 * Stuck readers: a session that pins what is wanted (a block in limbo, or a victim passed over lately) and shows no
 * sign of life for pin_grace_ms is ended, and its hazards are void. Signs of life of a session beyond its limit do not
 * count.
 *
 * The core's thread only. No hazard is believed: each is read once and checked.
 */
#pragma once

#include "daemon/core/internal.h"

/* Once, before the first session. */
void hazard_init(struct core *core);

/*
 * The session gets control memory with so many records, as many as the limits allow. Without it (no record, no quota,
 * no memory) the session can only ask.
 */
void hazard_give(struct core_session *session, uint32_t records_wanted);

/* The session has ended: what it read is noted, and its hazards are void from now on. Idempotent. */
void hazard_void(struct core_session *session);

/* The session's books go; hazard_void() was called. */
void hazard_take_back(struct core_session *session);

/* Whether readers exist that may pin blocks. */
bool hazard_possible(const struct core *core);

/*
 * After an arena was taken over readers of the process before, whose hazards are not known here, have their grace:
 * nothing that rests is buried. Results: 0, -ENOMEM.
 */
int hazard_grace_begin(struct core *core);
bool hazard_grace(const struct core *core);

/* Scans unless that was done a moment ago: before victims are chosen, which depends on what was read and is pinned. */
void hazard_look(struct core *core);

/* Scans now: after something was made unreadable, to see who reads it still. */
void hazard_scan(struct core *core);

/* Whether a reader named the block in the last scan. */
bool hazard_names(const struct core *core, uint32_t block);

/* Whether the last scan found the block pinned, so that it should not be evicted. Remembers that it is wanted. */
bool hazard_shields(struct core *core, uint32_t block);

/* How many blocks to remove before limbo_collect() is worth its scan. */
unsigned hazard_batch(const struct core *core);

/* A removed block without a lease begins to rest. Only while hazard_possible(). */
void limbo_add(struct core *core, uint32_t block);

/* Scans, and buries what nothing names any more. Returns whether anything was buried. */
bool limbo_collect(struct core *core);
