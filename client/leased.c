/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks pinned by asking for leases; see block.h. */
#include "client/block.h"
#include "client/client.h"
#include "client/clock.h"
#include "client/keys.h"
#include "client/lease.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>

struct pin {
	struct kvc_space *space;
	const struct kvc_key *keys;
	size_t n;
	const struct kvc_range *range;
	uint32_t ttl_ms;
	kvc_block **blocks;
	int *statuses;
};

static void block_free(struct kvc_block *block)
{
	list_unlink(&block->link);
	block->arena = arena_unref(block->arena);
	free(block);
}

void leased_free_all(struct kvc_client *client)
{
	list_for_each_safe(node, after, &client->blocks)
		block_free(list_entry(node, struct kvc_block, link));
}

/* As the daemon reckons it: its default for 0, its maximum for what is longer. */
static uint64_t lease_end_ns(const struct kvc_client *client, const struct lease_request *request, uint32_t ttl_ms)
{
	uint32_t max_ms = client->connection.lease_ttl_ms_max;

	if (ttl_ms == 0)
		ttl_ms = client->connection.lease_ttl_ms;
	if (ttl_ms > max_ms)
		ttl_ms = max_ms;
	return request->asked_ns + ttl_ms * NS_PER_MS;
}

static struct kvc_block *block_new(const struct pin *op, const struct lease_request *request, const struct lease *lease)
{
	struct kvc_space *space = op->space;
	struct kvc_client *client = space->client;
	struct kvc_block *block = malloc(sizeof(*block));

	if (!block)
		return NULL;
	*block = (struct kvc_block){
		.client = client,
		.arena = arena_ref(client->connection.arena),
		.view = lease->view,
		.lease_id = lease->id,
		.lease_end_ns = lease_end_ns(client, request, op->ttl_ms),
		.geometry = space->geometry,
		.head_groups = space->head_groups,
		.sizes = space_page_sizes(space, lease->view.tokens),
	};
	list_push_back(&client->blocks, &block->link);
	return block;
}

/* The i-th key of the request. KVC_OK or the block's status in *ret_status; negative errno ends the call. */
static int key_pin(const struct pin *op, struct lease_request *request, size_t i, kvc_block **ret_block,
		   int *ret_status)
{
	struct lease lease;
	int status = lease_take(request, i, &lease);

	if (status < 0)
		return status;
	if (status == KVC_OK) {
		*ret_block = block_new(op, request, &lease);
		if (!*ret_block) {
			lease_release(op->space->client, &lease.id, 1);
			return -ENOMEM;
		}
	}
	*ret_status = status;
	return 0;
}

/* Pins n keys from the first-th on, which fit one request. */
static int keys_pin(const struct pin *op, size_t first, size_t n, const struct range *range)
{
	struct lease_request request;
	int r = lease_ask(&request, op->space, op->keys + first, n, range, op->ttl_ms, NULL);

	if (r < 0)
		return r;
	r = lease_wait(&request);
	for (size_t i = 0; i < n && r == 0; i++)
		r = key_pin(op, &request, i, &op->blocks[first + i], &op->statuses[first + i]);
	lease_forget(&request);
	return r;
}

static void block_unpin(struct kvc_client *client, struct kvc_block *block)
{
	if (block->arena == client->connection.arena)
		lease_release(client, &block->lease_id, 1);
	block_free(block);
}

static int pin_op(struct kvc_client *client, void *data)
{
	const struct pin *op = data;
	struct range range;
	const char *wrong = range_resolve(op->space, op->range, &range);
	int r = space_check(op->space);

	if (r == 0 && wrong) {
		words_set(&client->words, "%s", wrong);
		return KVC_RANGE;
	}
	for (size_t i = 0; i < op->n; i++)
		op->blocks[i] = NULL;
	for (size_t first = 0, n; r == 0 && first < op->n; first += n) {
		n = keys_batch(client, op->n - first);
		r = keys_pin(op, first, n, &range);
	}
	for (size_t i = 0; i < op->n && r != 0; i++) {
		if (op->blocks[i])
			block_unpin(client, op->blocks[i]);
		op->blocks[i] = NULL;
	}
	return r;
}

int kvc_lease(kvc_space *space, const struct kvc_key *keys, size_t n, const struct kvc_range *range, uint32_t ttl_ms,
	      kvc_block **ret_blocks, int *ret_statuses)
{
	struct pin op = {
		.space = space,
		.keys = keys,
		.n = n,
		.range = range,
		.ttl_ms = ttl_ms,
		.blocks = ret_blocks,
		.statuses = ret_statuses,
	};
	int r;

	if (!space)
		return -EINVAL;
	if (n > 0 && (!keys || !ret_blocks || !ret_statuses))
		return client_refuse(space->client, -EINVAL, "kvc_lease: an argument is NULL");
	r = keys_check(space, keys, n);
	return r == KVC_OK ? client_run(space->client, pin_op, &op) : r;
}

void leased_unpin(struct kvc_block *block)
{
	struct kvc_client *client = block->client;

	if (client_lock(client) == 0) {
		block_unpin(client, block);
		client_unlock(client);
	} else {
		block_free(block); /* a forked child's copy */
	}
}
