/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums on read; see verify.h. */
#include "client/verify.h"

#include "client/kvclient.h"

#include <errno.h>
#include <stdlib.h>

#define SEEN_ENTRIES 65536 /* a power of two: 512 KiB, of which only what is used becomes memory */

int verify_init(struct verify *verify, uint32_t mode)
{
	verify->mode = mode;
	if (mode != KVC_VERIFY_FIRST)
		return 0;
	verify->seen = calloc(SEEN_ENTRIES, sizeof(*verify->seen));
	return verify->seen ? 0 : -ENOMEM;
}

void verify_deinit(struct verify *verify)
{
	free(verify->seen);
	verify->seen = NULL;
}

/* The finaliser of MurmurHash3: every bit of the input changes half of the output's. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd);
	x = (x ^ x >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ x >> 33;
}

static uint64_t fingerprint(const struct arena_layout *arena, const struct block_view *view, uint32_t index)
{
	uint64_t place = (uint64_t)view->number << 32 | index;

	return mix(mix(mix(arena->incarnation) ^ view->generation) ^ place) | 1; /* 0 is an empty entry */
}

bool verify_page(const struct verify *verify, const struct arena_layout *arena, const struct block_view *view,
		 uint32_t index, const uint8_t *page, uint32_t bytes)
{
	_Atomic uint64_t *seen = NULL;
	uint64_t print = 0;

	if (verify->mode == KVC_VERIFY_NEVER)
		return true;
	if (verify->mode == KVC_VERIFY_FIRST) {
		print = fingerprint(arena, view, index);
		seen = &verify->seen[(print >> 32) % SEEN_ENTRIES];
		if (atomic_load_explicit(seen, memory_order_relaxed) == print)
			return true;
	}
	if (kvp_page_checksum(page, bytes) != view->map[index].checksum)
		return false;
	if (seen && block_view_stands(view))
		atomic_store_explicit(seen, print, memory_order_relaxed);
	return true;
}
