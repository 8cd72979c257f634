/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's core in a test, with a host that only remembers: sessions are peers with a heap-allocated
 * staging and control memory, replies are kept unpacked, hang-ups are flags, and time is a number that the test moves.
 */
#pragma once

#include "daemon/core/core.h"
#include "proto/control.h"
#include "proto/kvpaged.pb-c.h"
#include "proto/limits.h"
#include "tests/lib/tier-memory.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RIG_PEERS_MAX 16
#define RIG_EXTENTS_MAX 1024

struct rig;

struct rig_peer {
	struct rig *rig;
	struct core_session *session; /* NULL: not connected */
	uint8_t *staging;
	uint64_t staging_bytes;
	struct kvp_control_header *control; /* NULL: none */
	uint64_t next_id;
	Kvpaged__V1__Reply *last; /* reply; owned by the rig */
	unsigned last_flags;
	unsigned n_replies;
	const char *hung_up; /* reason */
};

struct rig {
	struct core *core;
	void *arena;
	uint64_t arena_bytes;
	uint64_t now_ns;
	bool refuse_staging;
	bool refuse_control;
	struct tier_memory *tier; /* NULL: none. Its jobs end while queued work runs, unless it is held */
	bool tier_held;
	bool refuse_discard;
	bool refuse_restore;
	bool discarded[RIG_EXTENTS_MAX]; /* from the arena's start on */
	struct rig_peer peers[RIG_PEERS_MAX];
};

/* A core on a fresh arena. limits NULL: defaults. */
void rig_start(struct rig *rig, uint64_t arena_bytes, uint32_t blocks_max, const struct core_limits *limits);

/* The same with so many samples for the miss-ratio curve; the others take few. */
void rig_start_curve(struct rig *rig, uint64_t arena_bytes, uint32_t blocks_max, const struct core_limits *limits,
		     uint32_t mrc_samples);

/* The same on a tier, which is written when less than free_percent of the arena is free. */
void rig_start_tier(struct rig *rig, uint64_t arena_bytes, uint32_t blocks_max, struct tier_memory *tier,
		    enum core_tier_admit admit, uint32_t free_percent);

/* A core in memory of the test's, which rig_stop() unmaps. */
void rig_start_in(struct rig *rig, void *arena, uint64_t arena_bytes, uint32_t blocks_max,
		  const struct core_limits *limits, bool recover);

/*
 * Another core on a copy of an arena, as if the process that works on it had been killed just now. Returns what
 * core_new() does; without a core the rig is nothing. Its incarnation is 78, the others' 77.
 */
int rig_recover(struct rig *rig, const void *arena, uint64_t arena_bytes, uint32_t blocks_max,
		const struct core_limits *limits);

/* Fails the test when a page of a resident block is not what was stored. Returns the number of resident blocks. */
uint32_t rig_check_pages(const struct rig *rig);

/* The number of a live block of any space, or 0. */
uint32_t rig_number(const struct rig *rig, const char *key);

/* Closes all sessions and frees everything; the audit must hold before and after. */
void rig_stop(struct rig *rig);

/* Connects peer number i with this uid and says Hello. Returns the peer. */
struct rig_peer *rig_connect(struct rig *rig, unsigned i, uint32_t uid, uint64_t staging_bytes);

/* The same with so many records of control memory; fails the test if that is refused. */
struct rig_peer *rig_connect_reader(struct rig *rig, unsigned i, uint32_t uid, uint64_t staging_bytes,
				    uint32_t records);

/* Connects without Hello. Returns what core_session_open() does. */
int rig_connect_raw(struct rig *rig, unsigned i, uint32_t uid);

void rig_disconnect(struct rig_peer *peer);

/* Sends a request (an id is given when it has none) without running queued work. */
void rig_send(struct rig_peer *peer, Kvpaged__V1__Request *request);

/* Runs queued work to its end. */
void rig_run(struct rig *rig);

/* Sends, runs, and returns the peer's last reply, which stays the rig's. */
const Kvpaged__V1__Reply *rig_call(struct rig_peer *peer, Kvpaged__V1__Request *request);

/* Moves time and lets the core see it. */
void rig_advance_ms(struct rig *rig, uint64_t ms);

/* Fails the test when an invariant of the core does not hold. */
void rig_audit(struct rig *rig);

/* A schema's numbers: layers x heads, dim, q8, 16 tokens a block. */
void rig_schema(Kvpaged__V1__Schema *schema, uint32_t layers, uint32_t kv_heads, uint32_t head_dim);

/* Opens a space; fails the test if that is refused. Returns its id. */
uint32_t rig_open(struct rig_peer *peer, const char *name, const Kvpaged__V1__Schema *schema,
		  Kvpaged__V1__OpenSpaceReply *ret_reply);

/* Opens space "small": 4 layers x 2 heads x 64 channels, 16 tokens: one page a layer. Returns its id. */
uint32_t rig_open_small(struct rig_peer *peer, Kvpaged__V1__OpenSpaceReply *ret_reply);

/*
 * Appends pages [first, first + n) of a block whose bytes all are fill. key and parent are text; parent NULL: a
 * root. Runs the queue. Returns the request's status; page statuses are in the last reply.
 */
unsigned rig_append(struct rig_peer *peer, uint32_t space_id, const char *key, const char *parent,
		    uint32_t tokens, uint32_t page_bytes, uint32_t first, uint32_t n, uint8_t fill);

/* The status of a Fetch of one key; the lease's id if ret_lease is not NULL. */
unsigned rig_fetch(struct rig_peer *peer, uint32_t space_id, const char *key, uint32_t ttl_ms,
		   Kvpaged__V1__FetchItem *ret_item);

/* Deletes one key; its status. */
unsigned rig_delete(struct rig_peer *peer, uint32_t space_id, const char *key);

/* A counter or gauge by name, by Stats. */
uint64_t rig_counter(struct rig_peer *peer, const char *name);
