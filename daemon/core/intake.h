/* SPDX-License-Identifier: Apache-2.0 */
/* How a page comes in: from staging memory, which its client can still change, into the arena. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct XXH3_state_s;

struct intake {
	struct XXH3_state_s *hash; /* of a page that is being copied, where that is done in pieces */
};

/* Results: 0, -ENOMEM. */
int intake_init(struct intake *intake);
void intake_deinit(struct intake *intake);

/*
 * Copies n bytes and returns the checksum of what it stored (kvp_page_checksum() of dst), whatever happens to src
 * meanwhile. dst is aligned to KVP_SLOT_ALIGN. All of it is stored before anything that the caller stores afterwards.
 */
uint64_t intake_copy(struct intake *intake, uint8_t *dst, const uint8_t *src, size_t n);
