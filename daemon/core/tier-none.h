/* SPDX-License-Identifier: Apache-2.0 */
/* The tier of a daemon that has none. */
#pragma once

#include "daemon/core/tier.h"

struct tier *tier_none(void);
