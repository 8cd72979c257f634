/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happened, numbered from 1: a ring of the last events_kept, and the sessions that wait for more. Waiting sessions
 * are answered by a deadline shortly after an event, so that one answer tells of all that happened together.
 */
#pragma once

#include "daemon/core/verbs.h"
#include "proto/fate.h"

/* Results: 0, -ENOMEM. With limits.events_kept 0 nothing is kept, and nobody can wait. */
int events_init(struct core *core);
void events_deinit(struct core *core);

void events_stored(struct core *core, uint32_t block);
void events_removed(struct core *core, uint32_t block, enum kvp_fate fate);
void events_cleared(struct core *core, uint32_t space_id);

/* The session is going: it waits no longer. */
void events_forget(struct core_session *session);

/* Whether the session waits by a request of this id. */
bool events_waits(const struct core_session *session, uint64_t id);
