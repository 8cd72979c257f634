/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page server's core with a host for fuzzing: three sessions whose memory is on the heap, so that the sanitizers
 * see its ends, and what an attentive client knows: the geometry of spaces, leases. What replies say is checked
 * against the protocol; broken promises abort.
 */
#pragma once

#include "codec/page.h"
#include "daemon/core/core.h"
#include "proto/control.h"
#include "proto/kvpaged.pb-c.h"
#include "tests/fuzz/take.h"
#include "tests/lib/tier-memory.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORLD_SESSIONS 3u
#define WORLD_LEASES 16u
#define WORLD_SPACES 8u

struct world;

struct world_session {
	struct world *world;
	struct core_session *session; /* NULL: not connected */
	uint8_t *staging;
	uint64_t staging_bytes;
	struct kvp_control_header *control;
	uint64_t control_bytes;
	uint64_t last_id;
	bool hung_up;
};

struct world {
	struct core *core;
	void *arena;
	uint64_t arena_bytes;
	uint64_t now_ns;
	bool refuse_memory;
	bool refuse_discard;
	bool refuse_restore;
	bool discarded[8]; /* by extent */
	bool fixed; /* the arena cannot be resized */
	bool has_tier;
	struct tier_memory tier;
	struct world_session sessions[WORLD_SESSIONS];
	struct page_schema schemas[WORLD_SPACES]; /* by space id; layers 0: unknown */
	uint64_t leases[WORLD_LEASES];            /* ids that were given, newest last */
};

/* A core whose limits the input chooses; aborts when there is none. */
void world_start(struct world *world, struct take *take);

/* Ends all sessions, which must leave nothing behind, and frees everything. */
void world_stop(struct world *world);

/* Connects if it is not; nothing happens when the core refuses. */
void world_connect(struct world *world, unsigned i, uint32_t uid);
void world_disconnect(struct world_session *session);

/* Hands the core one message, in memory that ends where it does. Does nothing without a connection. */
void world_send(struct world_session *session, const uint8_t *message, size_t n);

/* Does the work that is queued; the tier goes on only when there is none. */
void world_run(struct world *world);

/* Aborts when an invariant does not hold. */
void world_audit(struct world *world);

/* Builds one request out of the input and sends it. */
void world_request(struct world_session *session, struct take *take);
