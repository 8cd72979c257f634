/* SPDX-License-Identifier: Apache-2.0 */
/* Gauges that are derived from state, brought up to date in the shared counters. */
#pragma once

#include "daemon/core/internal.h"

void stats_refresh(struct core *core);
