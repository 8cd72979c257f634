/* SPDX-License-Identifier: Apache-2.0 */
/* Taking over the arena that another process left, however it ended. */
#pragma once

#include "daemon/core/internal.h"

/*
 * Rebuilds everything private from the arena's tables, which are verified, and begins the grace of earlier readers.
 * The arena was adopted just now, and every other part of the core is as at a start. Results: 0, -ENOMEM.
 */
int recover(struct core *core);
