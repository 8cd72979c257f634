/* SPDX-License-Identifier: Apache-2.0 */
/* The two hashes that both sides must agree on. */
#include "proto/layout.h"

#include <xxhash.h>

uint64_t kvp_key_hash(uint64_t hash_seed, uint32_t space_id, const void *key, size_t key_bytes)
{
	uint64_t hash = XXH3_64bits_withSeed(key, key_bytes, hash_seed ^ (space_id * UINT64_C(0x9e3779b97f4a7c15)));

	return hash ? hash : 1;
}

uint64_t kvp_page_checksum(const void *bytes, size_t n)
{
	return XXH3_64bits(bytes, n);
}
