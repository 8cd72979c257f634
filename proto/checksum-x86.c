/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checksums of pages with the widest vectors that the processor has: the same numbers, up to twice as fast as the SSE2
 * that distributions compile the library for.
 */
#include "proto/layout.h"

#include <xxh_x86dispatch.h>

uint64_t kvp_page_checksum(const void *bytes, size_t n)
{
	return XXH3_64bits_dispatch(bytes, n);
}
