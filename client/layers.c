/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fetching layer by layer. The daemon brings up the blocks of one prefetch a layer at a time across all of them; each
 * step then is a fetch of one layer of all blocks, which finds it in shared memory or waits for it. So a worker
 * computes its first layer while the others are on their way from the tier.
 */
#include "base/cleanup.h"
#include "client/client.h"
#include "client/reader.h"
#include "client/tensor.h"

#include <errno.h>
#include <stdlib.h>

struct kvc_fetching {
	struct kvc_space *space;
	struct kvc_reader *reader; /* NULL: none */
	struct kvc_fetch *blocks;  /* the caller's */
	size_t n;
	struct kvc_range range; /* of all of them, counts resolved */
	uint32_t next;          /* layer */
	size_t *places;         /* [n] of the blocks that one step reads */
	struct kvc_fetch steps[];
};

static bool same_range(const struct kvc_range *a, const struct kvc_range *b)
{
	return a->layer_begin == b->layer_begin && a->layer_count == b->layer_count &&
	       a->head_begin == b->head_begin && a->head_count == b->head_count;
}

/* Whether every block can be read from shared memory now. */
static bool all_resident(struct kvc_fetching *fetching)
{
	for (size_t i = 0; fetching->reader && i < fetching->n; i++)
		if (kvc_find(fetching->space, fetching->reader, &fetching->blocks[i].key, &fetching->range) != KVC_OK)
			return false;
	return fetching->reader != NULL;
}

static int prefetch(struct kvc_fetching *fetching)
{
	_cleanup_free_ struct kvc_key *keys = NULL;

	if (all_resident(fetching))
		return KVC_OK;
	keys = calloc(fetching->n ? fetching->n : 1, sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	for (size_t i = 0; i < fetching->n; i++)
		keys[i] = fetching->blocks[i].key;
	return kvc_prefetch(fetching->space, keys, fetching->n, &fetching->range, NULL);
}

static struct kvc_fetching *fetching_new(kvc_space *space, kvc_reader *reader, struct kvc_fetch *blocks, size_t n)
{
	struct kvc_fetching *fetching;
	size_t bytes;

	if (__builtin_mul_overflow(n, sizeof(struct kvc_fetch), &bytes) ||
	    __builtin_add_overflow(bytes, sizeof(*fetching), &bytes))
		return NULL;
	fetching = calloc(1, bytes);
	if (!fetching)
		return NULL;
	fetching->places = calloc(n ? n : 1, sizeof(*fetching->places));
	fetching->space = space;
	fetching->reader = reader;
	fetching->blocks = blocks;
	fetching->n = n;
	return fetching->places ? fetching : kvc_fetch_end(fetching);
}

/* The one range of all blocks. KVC_OK, or the call is refused. */
static int range_take(struct kvc_fetching *fetching)
{
	struct kvc_client *client = fetching->space->client;
	struct range range;
	const char *wrong;

	for (size_t i = 1; i < fetching->n; i++)
		if (!same_range(&fetching->blocks[i].range, &fetching->blocks[0].range))
			return client_refuse(client, KVC_RANGE, "kvc_fetch_begin: the blocks have different ranges");
	wrong = range_resolve(fetching->space, fetching->n > 0 ? &fetching->blocks[0].range : NULL, &range);
	if (wrong)
		return client_refuse(client, KVC_RANGE, wrong);
	fetching->range = (struct kvc_range){
		.layer_begin = range.layer_begin,
		.layer_count = range.layer_end - range.layer_begin,
		.head_begin = range.head_begin,
		.head_count = range.head_end - range.head_begin,
	};
	fetching->next = range.layer_begin;
	return KVC_OK;
}

int kvc_fetch_begin(kvc_space *space, kvc_reader *reader, struct kvc_fetch *blocks, size_t n,
		    kvc_fetching **ret_fetching)
{
	struct kvc_fetching *fetching;
	int r;

	if (!space)
		return -EINVAL;
	if ((n > 0 && !blocks) || !ret_fetching)
		return client_refuse(space->client, -EINVAL, "kvc_fetch_begin: an argument is NULL");
	r = reader ? reader_check(reader, space) : KVC_OK;
	if (r != KVC_OK)
		return r;
	fetching = fetching_new(space, reader, blocks, n);
	if (!fetching)
		return client_refuse(space->client, -ENOMEM, "out of memory");
	r = range_take(fetching);
	if (r == KVC_OK)
		r = prefetch(fetching);
	if (r != KVC_OK) {
		(void)kvc_fetch_end(fetching);
		return r;
	}
	for (size_t i = 0; i < n; i++)
		blocks[i].status = KVC_OK;
	*ret_fetching = fetching;
	return KVC_OK;
}

/* The tensor from the layer on; layer counts from the beginning of the range. */
static struct kvc_tensor tensor_from(const struct kvc_tensor *tensor, uint32_t layer)
{
	struct kvc_tensor from = *tensor;

	if (tensor->data)
		from.data = tensor_rows(tensor, layer, 0);
	return from;
}

/* The next layer of every block that has not failed. Returns their number. */
static size_t steps_fill(struct kvc_fetching *fetching)
{
	uint32_t layer = fetching->next - fetching->range.layer_begin;
	size_t m = 0;

	for (size_t i = 0; i < fetching->n; i++) {
		const struct kvc_fetch *block = &fetching->blocks[i];

		if (block->status != KVC_OK)
			continue;
		fetching->places[m] = i;
		fetching->steps[m] = *block;
		fetching->steps[m].range = fetching->range;
		fetching->steps[m].range.layer_begin = fetching->next;
		fetching->steps[m].range.layer_count = 1;
		fetching->steps[m].k = tensor_from(&block->k, layer);
		fetching->steps[m].v = tensor_from(&block->v, layer);
		m++;
	}
	return m;
}

int kvc_fetch_next(kvc_fetching *fetching, uint32_t *ret_layer)
{
	uint32_t end;
	size_t m;
	int r;

	if (!fetching)
		return -EINVAL;
	end = fetching->range.layer_begin + fetching->range.layer_count;
	if (!ret_layer)
		return client_refuse(fetching->space->client, -EINVAL, "kvc_fetch_next: ret_layer is NULL");
	if (fetching->next == end)
		return client_refuse(fetching->space->client, KVC_RANGE, "kvc_fetch_next: that was the last layer");
	m = steps_fill(fetching);
	r = m > 0 ? kvc_fetch(fetching->space, fetching->reader, fetching->steps, m) : KVC_OK;
	if (r != KVC_OK)
		return r;
	for (size_t i = 0; i < m; i++) {
		fetching->blocks[fetching->places[i]].status = fetching->steps[i].status;
		fetching->blocks[fetching->places[i]].tokens = fetching->steps[i].tokens;
	}
	*ret_layer = fetching->next++;
	return KVC_OK;
}

kvc_fetching *kvc_fetch_end(kvc_fetching *fetching)
{
	if (!fetching)
		return NULL;
	free(fetching->places);
	free(fetching);
	return NULL;
}
