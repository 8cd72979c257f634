/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What became of blocks that are gone, by the hashes of their keys: a set-associative table of fixed size. Where a set
 * is full, the oldest word is forgotten. Two keys with one hash, of 64 bits, would be taken for each other.
 */
#pragma once

#include "proto/fate.h"

#include <stdint.h>

struct past_entry {
	uint64_t hash;      /* 0: empty */
	uint64_t when_fate; /* milliseconds << 8 | enum kvp_fate */
};

struct past {
	struct past_entry *entries;
	uint32_t sets; /* a power of two */
};

/* Room for about as many keys as there can be blocks, 16 bytes each. Results: 0, -ENOMEM. */
int past_init(struct past *past, uint32_t blocks_count);
void past_deinit(struct past *past);

void past_note(struct past *past, uint64_t hash, enum kvp_fate fate, uint64_t now_ns);

/* KVP_FATE_UNKNOWN, or the last word and when it was heard, on now_ns' clock. */
enum kvp_fate past_find(const struct past *past, uint64_t hash, uint64_t *ret_when_ns);

/* How many keys can be remembered. */
uint32_t past_capacity(const struct past *past);
