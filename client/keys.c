/* SPDX-License-Identifier: Apache-2.0 */
/* Key lists; see keys.h. */
#include "client/keys.h"

#include "client/client.h"
#include "proto/limits.h"

#include <stdlib.h>

/* A key with its tag and length, and the fields around a list of keys, as encoded. */
#define KEY_ENCODED_BYTES_MAX (KVC_KEY_BYTES_MAX + 2)
#define LIST_ENCODED_BYTES_MAX 128

bool key_valid(const struct kvc_key *key)
{
	return key->bytes && key->n >= 1 && key->n <= KVC_KEY_BYTES_MAX;
}

bool key_valid_parent(const struct kvc_key *key)
{
	return key->n == 0 || key_valid(key);
}

int keys_check(const struct kvc_space *space, const struct kvc_key *keys, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!key_valid(&keys[i]))
			return client_refuse(space->client, KVC_INVALID, "every key must have 1..64 bytes");
	return KVC_OK;
}

size_t keys_batch(const struct kvc_client *client, size_t n)
{
	size_t fit = (client->connection.rpc.request_bytes_max - LIST_ENCODED_BYTES_MAX) / KEY_ENCODED_BYTES_MAX;

	if (fit > KVP_ITEMS_MAX)
		fit = KVP_ITEMS_MAX;
	return n < fit ? n : fit;
}

ProtobufCBinaryData *keys_pack(const struct kvc_key *keys, size_t n)
{
	ProtobufCBinaryData *packed = calloc(n ? n : 1, sizeof(*packed));

	if (!packed)
		return NULL;
	for (size_t i = 0; i < n; i++)
		packed[i] = (ProtobufCBinaryData){ .len = keys[i].n, .data = (uint8_t *)keys[i].bytes };
	return packed;
}

void range_pack(const struct range *range, Kvpaged__V1__Range *ret_message)
{
	Kvpaged__V1__Range message = KVPAGED__V1__RANGE__INIT;

	message.layer_begin = range->layer_begin;
	message.layer_count = range->layer_end - range->layer_begin;
	message.head_begin = range->head_begin;
	message.head_count = range->head_end - range->head_begin;
	*ret_message = message;
}
