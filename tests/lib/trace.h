/* SPDX-License-Identifier: Apache-2.0 */
/* tests/data/conversation.trace in memory: which blocks the requests of a real service used. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct trace_request {
	uint32_t first; /* in blocks */
	uint32_t n;
};

struct trace {
	uint32_t *blocks; /* of all requests, in order; a request's are a path from a root */
	size_t n_blocks;
	struct trace_request *requests;
	size_t n_requests;
	uint32_t n_distinct; /* blocks are 0 .. n_distinct - 1 */
};

/* Reads the file that KVP_CONVERSATION_TRACE names. Skips the test when that is not set, fails it on errors. */
void trace_load(struct trace *trace);
void trace_free(struct trace *trace);
