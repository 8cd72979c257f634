/* SPDX-License-Identifier: Apache-2.0 */
/* Finding, matching and pinning with a reader; see reader.h. By asking it is done in items.c and leased.c. */
#include "client/client.h"
#include "client/keys.h"
#include "client/reader.h"
#include "client/space.h"

#include <errno.h>

/* KVC_OK and the range, or why the call is refused. */
static int range_check(const struct kvc_space *space, const struct kvc_range *wanted, struct range *ret_range)
{
	const char *wrong = range_resolve(space, wanted, ret_range);

	return wrong ? client_refuse(space->client, KVC_RANGE, wrong) : KVC_OK;
}

int kvc_find(kvc_space *space, kvc_reader *reader, const struct kvc_key *key, const struct kvc_range *range)
{
	struct range pages;
	int r;

	if (!space)
		return -EINVAL;
	if (!reader || !key)
		return client_refuse(space->client, -EINVAL, "kvc_find: an argument is NULL");
	r = reader_check(reader, space);
	if (r == KVC_OK)
		r = keys_check(space, key, 1);
	if (r == KVC_OK)
		r = range_check(space, range, &pages);
	return r == KVC_OK ? reader_find(reader, space, key, &pages) : r;
}

int reader_match(struct kvc_reader *reader, struct kvc_space *space, const struct kvc_key *keys, size_t n,
		 const struct kvc_range *range, size_t *ret_matched)
{
	struct range pages;
	size_t matched = 0;
	int r = reader_check(reader, space);

	if (r == KVC_OK)
		r = range_check(space, range, &pages);
	while (r == KVC_OK && matched < n) {
		reader_ask_ahead(reader, space, keys, n, matched);
		r = reader_meet(reader, space, &keys[matched], &pages);
		matched += r == KVC_OK;
	}
	if (r != KVC_OK && r != KVC_MISS && r != KVC_PARTIAL)
		return r;
	*ret_matched = matched;
	return KVC_OK;
}

static void unpin_all(kvc_block **blocks, size_t n)
{
	for (size_t i = 0; i < n; i++)
		blocks[i] = kvc_unpin(blocks[i]);
}

/* Whether this is an answer about a block, not about the call. */
static bool is_answer(int r)
{
	return r == KVC_OK || r == KVC_MISS || r == KVC_PARTIAL || r == KVC_TOO_MANY;
}

int kvc_pin(kvc_space *space, kvc_reader *reader, const struct kvc_key *keys, size_t n, const struct kvc_range *range,
	    kvc_block **ret_blocks, int *ret_statuses)
{
	struct range pages;
	int r;

	if (!reader)
		return kvc_lease(space, keys, n, range, 0, ret_blocks, ret_statuses);
	r = reader_check(reader, space);
	if (r == KVC_OK && n > 0 && (!keys || !ret_blocks || !ret_statuses))
		r = client_refuse(space->client, -EINVAL, "kvc_pin: an argument is NULL");
	if (r == KVC_OK)
		r = keys_check(space, keys, n);
	if (r == KVC_OK)
		r = range_check(space, range, &pages);
	for (size_t i = 0; r == KVC_OK && i < n; i++) {
		reader_ask_ahead(reader, space, keys, n, i);
		ret_blocks[i] = NULL;
		ret_statuses[i] = reader_pin(reader, space, &keys[i], &pages, &ret_blocks[i]);
		if (!is_answer(ret_statuses[i])) {
			r = ret_statuses[i];
			unpin_all(ret_blocks, i);
		}
	}
	return r;
}

kvc_block *kvc_unpin(kvc_block *block)
{
	if (block && block->record)
		reader_unpin(block);
	else if (block)
		leased_unpin(block);
	return NULL;
}
