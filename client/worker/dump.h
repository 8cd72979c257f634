/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file with the K and V of one sequence as they were computed, before any codec: what --dump-kv
 * writes and kvbench reads. Little-endian: the header, then K, then V, each as f32
 * [layer][head][token][channel] without gaps, and nothing behind. K is that after rotation.
 */
#pragma once

#include "client/worker/kvstore.h"

#include <stdint.h>

#define DUMP_MAGIC "KVDUMP\r\n"
#define DUMP_MAGIC_BYTES 8
#define DUMP_VERSION 1u
#define DUMP_MODEL_BYTES 32

struct dump_header {
	char magic[DUMP_MAGIC_BYTES]; /* DUMP_MAGIC, without a final NUL */
	uint32_t version;
	uint32_t header_bytes; /* of this struct */
	uint32_t layers;
	uint32_t heads; /* K/V heads */
	uint32_t tokens;
	uint32_t head_dim;
	char model[DUMP_MODEL_BYTES]; /* a-z, 0-9, - and _; NUL-terminated */
};

_Static_assert(sizeof(struct dump_header) == 64, "the header is read as it lies in the file");

/*
 * Writes the tokens of a decoded store to @path, which appears whole or not at all: the work is
 * done in a file beside it. @model is what --model says: of a path the last part is kept, without
 * its suffix. Results: 0; or a negative errno and a line in *ret_what about what failed, a static
 * string.
 */
int dump_write(const char *path, const char *model, const struct kvstore *store,
	       const char **ret_what);
