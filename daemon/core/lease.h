/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases: a session's claims on blocks. A leased block is not evicted, and if it is deleted its memory waits. A
 * lease ends with its release, its time or its session, whichever is first. Ids carry a salt, so that a late or
 * guessed id names nothing.
 */
#pragma once

#include "daemon/core/internal.h"

/* Leases in all; each is 100 bytes of the daemon's memory. */
#define LEASES_MAX (1u << 20)

/* Results: KVP_OK and the id; KVP_QUOTA (the user's pinned bytes or the number of leases); KVP_TOO_MANY
 * (memory). */
int lease_take(struct core_session *session, uint32_t block, uint32_t ttl_ms, uint64_t *ret_id);

/* The session's lease of this id, or NULL. */
struct lease *lease_find(struct core_session *session, uint64_t id);

void lease_end(struct core *core, struct lease *lease);
