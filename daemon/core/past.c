/* SPDX-License-Identifier: Apache-2.0 */
/* Keys that are gone; see past.h. */
#include "daemon/core/past.h"

#include "base/contract.h"
#include "base/units.h"

#include <errno.h>
#include <stdlib.h>

#define WAYS 4
#define SETS_MIN 256u
#define SETS_MAX (1u << 20)
#define FATE_BITS 8

int past_init(struct past *past, uint32_t blocks_count)
{
	uint32_t sets = SETS_MIN;

	while (sets < SETS_MAX && sets * WAYS < blocks_count)
		sets *= 2;
	past->entries = calloc((size_t)sets * WAYS, sizeof(*past->entries));
	past->sets = sets;
	return past->entries ? 0 : -ENOMEM;
}

void past_deinit(struct past *past)
{
	free(past->entries);
	past->entries = NULL;
}

static struct past_entry *set_of(const struct past *past, uint64_t hash)
{
	return &past->entries[(size_t)(hash & (past->sets - 1)) * WAYS];
}

void past_note(struct past *past, uint64_t hash, enum kvp_fate fate, uint64_t now_ns)
{
	struct past_entry *set = set_of(past, hash);
	struct past_entry *oldest = set;

	kvp_assert(hash != 0 && fate < KVP_FATES);
	for (unsigned i = 0; i < WAYS; i++) {
		if (set[i].hash == hash) {
			oldest = &set[i];
			break;
		}
		if (set[i].when_fate < oldest->when_fate)
			oldest = &set[i];
	}
	*oldest = (struct past_entry){ .hash = hash, .when_fate = now_ns / NS_PER_MS << FATE_BITS | fate };
}

enum kvp_fate past_find(const struct past *past, uint64_t hash, uint64_t *ret_when_ns)
{
	const struct past_entry *set = set_of(past, hash);

	for (unsigned i = 0; i < WAYS; i++) {
		if (set[i].hash != hash)
			continue;
		*ret_when_ns = (set[i].when_fate >> FATE_BITS) * NS_PER_MS;
		return (enum kvp_fate)(set[i].when_fate & ((1u << FATE_BITS) - 1));
	}
	return KVP_FATE_UNKNOWN;
}

uint32_t past_capacity(const struct past *past)
{
	return past->sets * WAYS;
}
