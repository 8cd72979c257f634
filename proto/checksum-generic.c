/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums of pages as the library was compiled. */
#include "proto/layout.h"

#include <xxhash.h>

uint64_t kvp_page_checksum(const void *bytes, size_t n)
{
	return XXH3_64bits(bytes, n);
}
