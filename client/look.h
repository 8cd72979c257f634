/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the daemon's statistics where it writes them, in the arena. */
#pragma once

#include "client/arena.h"
#include "client/kvclient.h"

/*
 * Takes a snapshot. Entries of the space table that make no sense, or do not hold still, are left out. Results: 0 and
 * the snapshot, for kvc_stats_free(); KVC_UNSUPPORTED (a list of counters that this library does not know); -ENOMEM.
 */
int look_snapshot(const struct arena_layout *layout, const char *server_version, struct kvc_stats **ret_stats);
