/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hashes of keys and names. Inlined from the header: keys are short, and a call into the library costs as much as the
 * hash.
 */
#include "proto/layout.h"

#define XXH_INLINE_ALL
#include <string.h>
#include <xxhash.h>

uint64_t kvp_key_hash(uint64_t hash_seed, uint32_t space_id, const void *key, size_t key_bytes)
{
	uint64_t hash = XXH3_64bits_withSeed(key, key_bytes, hash_seed ^ (space_id * UINT64_C(0x9e3779b97f4a7c15)));

	return hash ? hash : 1;
}

void kvp_digest(const void *bytes, size_t n, uint8_t ret_digest[16])
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes, n));
	memcpy(ret_digest, canonical.digest, sizeof(canonical.digest));
}
