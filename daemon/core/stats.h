/* SPDX-License-Identifier: Apache-2.0 */
/* Gauges that are derived from state, brought up to date in the shared counters. */
#pragma once

#include "daemon/core/internal.h"

void stats_refresh(struct core *core);

/* Something changed: they are brought up to date within KVP_STATS_MS. */
void stats_later(struct core *core);

void stats_init(struct core *core);

/* What the space holds, and its sessions, as everybody sees them in the shared space table. */
void stats_publish_space(struct core *core, uint32_t id);
