/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases: the daemon's promise not to reuse the memory of blocks. They are asked for many keys at a time, and a second
 * request may be on its way while the blocks of the first are being read.
 *
 * With a record of control memory the same request asks for no lease: what it finds is pinned by the record's hazards
 * when the answer is there, which saves giving it back by another request.
 */
#pragma once

#include "client/control.h"
#include "client/kvclient.h"
#include "client/lookup.h"
#include "client/rpc.h"
#include "client/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One Fetch request. */
struct lease_request {
	struct rpc_call call;
	struct kvc_space *space;
	const struct kvc_key *keys; /* the caller's; n of them */
	size_t n;
	struct kvp_record *record;  /* whose hazard i pins block i; NULL: leases do */
	uint64_t asked_ns;          /* boottime before it was sent; 0 with a record */
	Kvpaged__V1__Reply *reply;
	int error;
	bool done;
};

/* The lease or pin of one block. */
struct lease {
	uint64_t id; /* 0: a pin */
	struct block_view view;
};

/*
 * Asks for leases of blocks with every page in range, ttl_ms long (0: the daemon's default); or with a record, for
 * KVP_HAZARDS blocks at most, where they are. The request is on its way when 0 is returned, and must stay in place
 * until lease_wait(). Results otherwise: negative errno; nothing is on its way then.
 */
int lease_ask(struct lease_request *request, struct kvc_space *space, const struct kvc_key *keys, size_t n,
	      const struct range *range, uint32_t ttl_ms, struct kvp_record *record);

/*
 * Waits for the answer. Results: 0; a positive status of the request as a whole, in words; negative errno.
 * Then lease_forget().
 */
int lease_wait(struct lease_request *request);

/*
 * The i-th key's outcome, after lease_wait() returned 0. Results: KVC_OK and a lease, or hazard i is set; KVC_STALE
 * (dead already; nothing is leased or pinned); the daemon's status; -EPROTO (the answer cannot be; the connection is
 * ended).
 */
int lease_take(struct lease_request *request, size_t i, struct lease *ret_lease);

/* Frees the answer. A request that is still on its way is waited for, and what it leased given back. */
void lease_forget(struct lease_request *request);

/* Gives n leases back without waiting for the answer; if that fails they end with their time or the session. */
void lease_release(struct kvc_client *client, const uint64_t *ids, size_t n);
