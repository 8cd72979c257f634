/* SPDX-License-Identifier: Apache-2.0 */
/* A bump allocator behind protobuf-c's allocator interface; freeing is emptying. */
#include "daemon/core/parse.h"

#include "base/checked.h"

static void *bump_alloc(void *context, size_t n)
{
	struct core *core = context;
	uint64_t bytes;
	void *memory;

	if (!checked_align_u64(n, 16, &bytes) || bytes > PARSE_BYTES - core->parse_used)
		return NULL;
	memory = core->parse + core->parse_used;
	core->parse_used += bytes;
	return memory;
}

static void bump_free(void *context, void *memory)
{
}

const Kvpaged__V1__Request *request_parse(struct core *core, const uint8_t *message, size_t n)
{
	ProtobufCAllocator allocator = { .alloc = bump_alloc, .free = bump_free, .allocator_data = core };

	core->parse_used = 0;
	return kvpaged__v1__request__unpack(&allocator, n, message);
}
