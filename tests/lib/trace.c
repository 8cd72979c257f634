/* SPDX-License-Identifier: Apache-2.0 */
/* tests/data/README.md tells the format. A request's known blocks are found by going from the last one to the root. */
#include "tests/lib/trace.h"

#include "tests/lib/harness.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define NO_PARENT UINT32_MAX

struct reader {
	FILE *file;
	struct trace *trace;
	uint32_t *parents; /* [n_distinct] */
	size_t capacity;   /* of blocks and of parents */
	size_t capacity_requests;
};

/* Results: whether there was one; at the file's end none. */
static bool read_number(FILE *file, uint32_t *ret_value)
{
	uint32_t value = 0;

	for (unsigned shift = 0; shift < 32; shift += 7) {
		int byte = getc(file);

		if (byte == EOF && shift == 0)
			return false;
		assert_true(byte != EOF);
		value |= (uint32_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			*ret_value = value;
			return true;
		}
	}
	fail_msg("a number in the trace is too long");
	return false;
}

/* Room for n more blocks. */
static void grow(struct reader *reader, uint32_t n)
{
	struct trace *trace = reader->trace;

	while (trace->n_blocks + n > reader->capacity)
		reader->capacity = reader->capacity ? 2 * reader->capacity : 4096;
	trace->blocks = realloc(trace->blocks, reader->capacity * sizeof(*trace->blocks));
	reader->parents = realloc(reader->parents, reader->capacity * sizeof(*reader->parents));
	assert_true(trace->blocks && reader->parents);
	if (trace->n_requests == reader->capacity_requests)
		reader->capacity_requests = reader->capacity_requests ? 2 * reader->capacity_requests : 4096;
	trace->requests = realloc(trace->requests, reader->capacity_requests * sizeof(*trace->requests));
	assert_non_null(trace->requests);
}

static uint32_t depth_of(const struct reader *reader, uint32_t block)
{
	uint32_t depth = 0;

	for (; block != NO_PARENT; block = reader->parents[block])
		depth++;
	return depth;
}

static void take_request(struct reader *reader, uint32_t last, uint32_t n_new)
{
	struct trace *trace = reader->trace;
	uint32_t block = last > 0 ? last - 1 : NO_PARENT;
	uint32_t known, *to;

	assert_true(last <= trace->n_distinct);
	known = depth_of(reader, block);
	grow(reader, known + n_new);
	to = trace->blocks + trace->n_blocks;
	for (uint32_t i = known, at = block; i > 0; i--, at = reader->parents[at])
		to[i - 1] = at;
	for (uint32_t i = 0; i < n_new; i++) {
		reader->parents[trace->n_distinct] = block;
		block = trace->n_distinct++;
		to[known + i] = block;
	}
	trace->requests[trace->n_requests++] = (struct trace_request){ (uint32_t)trace->n_blocks, known + n_new };
	trace->n_blocks += known + n_new;
}

void trace_load(struct trace *trace)
{
	const char *path = getenv("KVP_CONVERSATION_TRACE");
	struct reader reader = { .trace = trace };
	uint32_t last, n_new = 0;

	if (!path)
		harness_skip("KVP_CONVERSATION_TRACE does not name tests/data/conversation.trace");
	*trace = (struct trace){ 0 };
	reader.file = fopen(path, "rbe");
	assert_non_null(reader.file);
	while (read_number(reader.file, &last)) {
		assert_true(read_number(reader.file, &n_new));
		take_request(&reader, last, n_new);
	}
	assert_int_equal(fclose(reader.file), 0);
	free(reader.parents);
}

void trace_free(struct trace *trace)
{
	free(trace->blocks);
	free(trace->requests);
	*trace = (struct trace){ 0 };
}
