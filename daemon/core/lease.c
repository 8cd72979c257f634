/* SPDX-License-Identifier: Apache-2.0 */
/* A table of pointers that doubles; id = salt << 32 | place. A place is reused only with another salt. */
#include "daemon/core/lease.h"

#include "base/contract.h"
#include "base/units.h"
#include "daemon/core/block.h"

#include <errno.h>
#include <stdlib.h>

static int table_grow(struct core *core)
{
	uint32_t capacity = core->leases_capacity ? core->leases_capacity * 2 : 256;
	struct lease **leases;
	uint32_t *places;

	if (capacity > LEASES_MAX)
		return -ENOMEM;
	leases = realloc(core->leases, capacity * sizeof(struct lease *));
	if (!leases)
		return -ENOMEM;
	core->leases = leases;
	places = realloc(core->free_leases, capacity * sizeof(*places));
	if (!places)
		return -ENOMEM;
	core->free_leases = places;
	for (uint32_t place = capacity; place > core->leases_capacity; place--) {
		leases[place - 1] = NULL;
		places[core->n_free_leases++] = place - 1;
	}
	core->leases_capacity = capacity;
	return 0;
}

static void lease_expire(struct core *core, struct deadline *deadline)
{
	counter_add(core, leases_expired_total, 1);
	lease_end(core, list_entry(deadline, struct lease, deadline));
}

int lease_take(struct core_session *session, uint32_t block, uint32_t ttl_ms, uint64_t *ret_id)
{
	struct core *core = session->core;
	uint64_t bytes = block_pin_cost(core, block);
	struct lease *lease;
	uint32_t place;

	if (core->n_free_leases == 0 && table_grow(core) < 0)
		return KVP_TOO_MANY;
	lease = calloc(1, sizeof(*lease));
	if (!lease)
		return KVP_TOO_MANY;
	lease->deadline.expire = lease_expire;
	if (!account_charge(&session->user->pinned_bytes, bytes, core->limits.pinned_bytes_per_uid_max)) {
		free(lease);
		return KVP_QUOTA;
	}
	if (deadline_arm(&core->deadlines, &lease->deadline, core->now_ns + ttl_ms * NS_PER_MS) < 0) {
		account_discharge(&session->user->pinned_bytes, bytes);
		free(lease);
		return KVP_TOO_MANY;
	}
	place = core->free_leases[--core->n_free_leases];
	core->leases[place] = lease;
	lease->session = session;
	lease->id = (uint64_t)++core->lease_salt << 32 | place;
	lease->block = block;
	lease->charged_bytes = bytes;
	list_push_back(&session->leases, &lease->by_session);
	block_lease(core, block);
	counter_add(core, leases, 1);
	*ret_id = lease->id;
	return KVP_OK;
}

struct lease *lease_find(struct core_session *session, uint64_t id)
{
	uint32_t place = (uint32_t)id;
	struct lease *lease = place < session->core->leases_capacity ? session->core->leases[place] : NULL;

	return lease && lease->id == id && lease->session == session ? lease : NULL;
}

void lease_end(struct core *core, struct lease *lease)
{
	uint32_t place = (uint32_t)lease->id;

	kvp_assert(core->leases[place] == lease);
	deadline_disarm(&core->deadlines, &lease->deadline);
	account_discharge(&lease->session->user->pinned_bytes, lease->charged_bytes);
	list_unlink(&lease->by_session);
	block_unlease(core, lease->block);
	core->leases[place] = NULL;
	core->free_leases[core->n_free_leases++] = place;
	counter_sub(core, leases, 1);
	free(lease);
}
