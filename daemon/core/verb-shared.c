/* SPDX-License-Identifier: Apache-2.0 */
/* Small things that several verbs need. */
#include "daemon/core/space.h"
#include "daemon/core/verbs.h"

#include "base/checked.h"

struct space *space_of(struct core_session *session, uint32_t space_id, Reply *reply)
{
	if (session_space_open(session, space_id))
		return &session->core->spaces[space_id];
	(void)reply_fail(reply, KVP_NO_SPACE_NAMED, "the session has no open space of this id");
	return NULL;
}

static bool part_resolve(uint32_t begin, uint32_t count, uint32_t size, uint32_t *ret_end)
{
	if (count == 0 && begin < size)
		count = size - begin;
	if (count == 0 || !checked_range(begin, count, size))
		return false;
	*ret_end = begin + count;
	return true;
}

bool range_resolve(const struct space *space, const Kvpaged__V1__Range *range, struct page_range *ret_range)
{
	static const Kvpaged__V1__Range all = KVPAGED__V1__RANGE__INIT;
	const struct page_schema *schema = &space->schema;
	struct page_range resolved;
	uint32_t head_end;

	if (!range)
		range = &all;
	if (!part_resolve(range->layer_begin, range->layer_count, schema->layers, &resolved.layer_end) ||
	    !part_resolve(range->head_begin, range->head_count, schema->kv_heads, &head_end))
		return false;
	resolved.layer_begin = range->layer_begin;
	resolved.group_begin = range->head_begin / schema->page_heads;
	resolved.group_end = (head_end - 1) / schema->page_heads + 1;
	*ret_range = resolved;
	return true;
}

bool range_ready(const struct core *core, uint32_t block, const struct page_range *range)
{
	const struct space *space = &core->spaces[shared_block(core, block)->space_id];
	uint32_t groups = page_head_groups(&space->schema);

	if (block_complete(core, block))
		return true;
	for (uint32_t layer = range->layer_begin; layer < range->layer_end; layer++)
		for (uint32_t group = range->group_begin; group < range->group_end; group++)
			if (!block_page_ready(core, block, layer * groups + group))
				return false;
	return true;
}
