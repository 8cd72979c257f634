/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Comparing pages with their checksums before use, as enum kvc_verify says. What was compared is remembered by
 * fingerprints of (incarnation, block, generation, page) in a table where new ones replace old ones: forgetting costs
 * time only. Any thread; nothing waits.
 */
#pragma once

#include "client/lookup.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct verify {
	uint32_t mode;          /* enum kvc_verify */
	_Atomic uint64_t *seen; /* with KVC_VERIFY_FIRST */
};

/* Results: 0, -ENOMEM. */
int verify_init(struct verify *verify, uint32_t mode);
void verify_deinit(struct verify *verify);

/*
 * Whether the page may be used: its bytes are those that were stored, or nobody wants to know. index < page_count.
 * Meaningful if the view still stands afterwards.
 */
bool verify_page(const struct verify *verify, const struct arena_layout *arena, const struct block_view *view,
		 uint32_t index, const uint8_t *page, uint32_t bytes);
