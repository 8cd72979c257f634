/* SPDX-License-Identifier: Apache-2.0 */
/* A block's name within its space: bytes that somebody else owns. */
#pragma once

#include <stddef.h>

struct block_key {
	const void *bytes;
	size_t n; /* 0: none; at most KVP_KEY_BYTES_MAX */
};
