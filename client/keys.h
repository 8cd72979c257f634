/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of keys on their way into requests. */
#pragma once

#include "client/kvclient.h"
#include "client/tensor.h"

#include "kvpaged.pb-c.h"

#include <stdbool.h>
#include <stddef.h>

struct kvc_client;

/* Whether the key has bytes and a valid length; as a parent it may be empty. */
bool key_valid(const struct kvc_key *key);
bool key_valid_parent(const struct kvc_key *key);

/* KVC_OK if all are valid; otherwise the call is refused, with words, and the result is what it returns. */
int keys_check(const struct kvc_space *space, const struct kvc_key *keys, size_t n);

/* How many of n keys fit one request to this daemon; at least 1. */
size_t keys_batch(const struct kvc_client *client, size_t n);

/* The keys as a message field that points into them, for free(); NULL: out of memory. */
ProtobufCBinaryData *keys_pack(const struct kvc_key *keys, size_t n);

/*
 * Asks by one Match for n keys, which must fit a request, with the client's lock. Results: 0 and the answer, whose
 * numbers fit n, for rpc_reply_free(); those of client_exchange() otherwise.
 */
int match_ask(struct kvc_space *space, const struct kvc_key *keys, size_t n, const struct range *range,
	      Kvpaged__V1__Reply **ret_reply);

void range_pack(const struct range *range, Kvpaged__V1__Range *ret_message);
