/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data of kvbench codec: values and tiles of 128 x 128. A few tiles of normal numbers are
 * repeated until they fill the memory-resident set; the time of a kernel does not depend on the
 * values. A cache-resident set is one tile of it.
 */
#pragma once

#include "base/units.h"
#include "codec/kernel.h"

#include <stdbool.h>

#define TILE_TOKENS 128u
#define TILE_CHANNELS 128u
#define TILE_VALUES ((size_t)TILE_TOKENS * TILE_CHANNELS)
#define TILE_F32_BYTES (TILE_VALUES * sizeof(float))
#define TILES_DISTINCT 16u
#define SET_BYTES (256 * MIB) /* the least that is memory-resident */

/*
 * A page of 32 KiB: as many q6 tiles of 128 x 64 as fit, K and V in turn. Pages of values lie one
 * behind the other, encoded ones at multiples of PAGE_BYTES.
 */
#define PAGE_CODEC CODEC_Q6
#define PAGE_BYTES ((size_t)32 * KIB)
#define PAGE_TILES 5u
#define PAGE_CHANNELS 64u
#define PAGE_TILE_VALUES ((size_t)TILE_TOKENS * PAGE_CHANNELS)
#define PAGE_F32_BYTES (PAGE_TILES * PAGE_TILE_VALUES * sizeof(float))

#define QUERIES_MAX 8u

struct sets {
	size_t bytes;	     /* of f32 values */
	size_t area_bytes;   /* of stored and out: a tile more than bytes */
	uint8_t *values[4];  /* by enum codec_dtype; tiles of TILE_VALUES, rows without gaps */
	uint8_t *stored;     /* tiles of the codec at hand, or pages */
	uint8_t *out;	     /* whatever is written */
	float rows[QUERIES_MAX * TILE_CHANNELS]; /* queries, or weights of tokens */
	float results[QUERIES_MAX * TILE_TOKENS];
};

/*
 * Allocates, on huge pages where there are any, and fills in the values. @memory: for
 * memory-resident sets; otherwise only the distinct tiles are there. Results: 0, -ENOMEM;
 * sets_done() afterwards in any case.
 */
int sets_init(struct sets *sets, bool memory);

void sets_done(struct sets *sets);

/* Fills stored with tiles of the codec. */
void sets_store_tiles(struct sets *sets, enum codec_id id, enum codec_role role);

/* Fills stored with pages. */
void sets_store_pages(struct sets *sets);

/* Encodes and decodes a page. */
void page_encode(const struct codec_isa *isa, const float *values, uint8_t *page);
void page_decode(const struct codec_isa *isa, const uint8_t *page, float *values);
