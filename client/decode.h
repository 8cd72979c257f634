/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a block that a lease or a hazard holds into the caller's tensors. */
#pragma once

#include "client/lookup.h"
#include "client/tensor.h"

/*
 * Decodes the pages of the range into the block's tensors. Results: KVC_OK and block->tokens; KVC_PARTIAL; KVC_CORRUPT;
 * KVC_STALE (what was read was not the block).
 */
int block_decode(const struct kvc_space *space, const struct arena_layout *arena, const struct range *range,
		 const struct block_view *view, struct kvc_fetch *block);
