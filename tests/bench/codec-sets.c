/* SPDX-License-Identifier: Apache-2.0 */
/* Every byte is written before anything is timed, so no page fault is. */
#include "tests/bench/codec-sets.h"

#include "base/contract.h"
#include "codec/half.h"
#include "tests/bench/normal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static uint8_t *map_area(size_t bytes)
{
	void *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (area == MAP_FAILED)
		return NULL;
	/* Refused where there are none: small pages do too. */
	(void)madvise(area, bytes, MADV_HUGEPAGE);
	memset(area, 0, bytes);
	return area;
}

static void unmap_area(uint8_t *area, size_t bytes)
{
	if (area)
		(void)munmap(area, bytes);
}

/* Repeats the first `unit` bytes over the area. */
static void repeat(uint8_t *area, size_t unit, size_t bytes)
{
	for (size_t at = unit; at < bytes; at += unit)
		memcpy(area + at, area, bytes - at < unit ? bytes - at : unit);
}

static void fill_values(struct sets *sets)
{
	const size_t n = TILES_DISTINCT * TILE_VALUES;
	float *values = (float *)sets->values[CODEC_DTYPE_F32];
	uint16_t *f16 = (uint16_t *)sets->values[CODEC_DTYPE_F16];
	uint16_t *bf16 = (uint16_t *)sets->values[CODEC_DTYPE_BF16];

	normal_fill(values, n, 1);
	for (size_t i = 0; i < n; i++) {
		f16[i] = half_from_f32(values[i]);
		bf16[i] = bf16_from_f32(values[i]);
	}
	repeat(sets->values[CODEC_DTYPE_F32], n * sizeof(*values), sets->bytes);
	repeat(sets->values[CODEC_DTYPE_F16], n * sizeof(*f16), sets->bytes / 2);
	repeat(sets->values[CODEC_DTYPE_BF16], n * sizeof(*bf16), sets->bytes / 2);
	normal_fill(sets->rows, QUERIES_MAX * TILE_CHANNELS, 2);
	/* As weights they are small, so that no sum over all tiles becomes infinite. */
	for (size_t i = 0; i < QUERIES_MAX * TILE_CHANNELS; i++)
		sets->rows[i] /= 64;
}

int sets_init(struct sets *sets, bool memory)
{
	*sets = (struct sets){ .bytes = memory ? SET_BYTES : TILES_DISTINCT * TILE_F32_BYTES };
	sets->area_bytes = sets->bytes + TILE_F32_BYTES;
	sets->values[CODEC_DTYPE_F32] = map_area(sets->bytes);
	sets->values[CODEC_DTYPE_F16] = map_area(sets->bytes / 2);
	sets->values[CODEC_DTYPE_BF16] = map_area(sets->bytes / 2);
	sets->stored = map_area(sets->area_bytes);
	sets->out = map_area(sets->area_bytes);
	if (!sets->values[CODEC_DTYPE_F32] || !sets->values[CODEC_DTYPE_F16] ||
	    !sets->values[CODEC_DTYPE_BF16] || !sets->stored || !sets->out)
		return -ENOMEM;
	fill_values(sets);
	return 0;
}

void sets_done(struct sets *sets)
{
	unmap_area(sets->values[CODEC_DTYPE_F32], sets->bytes);
	unmap_area(sets->values[CODEC_DTYPE_F16], sets->bytes / 2);
	unmap_area(sets->values[CODEC_DTYPE_BF16], sets->bytes / 2);
	unmap_area(sets->stored, sets->area_bytes);
	unmap_area(sets->out, sets->area_bytes);
	*sets = (struct sets){ 0 };
}

void sets_store_tiles(struct sets *sets, enum codec_id id, enum codec_role role)
{
	const size_t tile_bytes = codec_tile_bytes(id, role, TILE_TOKENS, TILE_CHANNELS);

	for (size_t i = 0; i < TILES_DISTINCT; i++) {
		const int r = codec_encode(id, role, TILE_TOKENS, TILE_CHANNELS,
					   sets->values[CODEC_DTYPE_F32] + i * TILE_F32_BYTES,
					   CODEC_DTYPE_F32, TILE_CHANNELS,
					   sets->stored + i * tile_bytes, NULL);

		kvp_assert(r == 0);
	}
	repeat(sets->stored, TILES_DISTINCT * tile_bytes, sets->area_bytes);
}

/* --- Pages ------------------------------------------------------------------------------------ */

static enum codec_role page_role(unsigned tile)
{
	return tile % 2 == 0 ? CODEC_ROLE_K : CODEC_ROLE_V;
}

void page_encode(const struct codec_isa *isa, const float *values, uint8_t *page)
{
	for (unsigned i = 0; i < PAGE_TILES; i++) {
		(void)codec_isa_encode(isa, PAGE_CODEC, page_role(i), TILE_TOKENS, PAGE_CHANNELS,
				       values + i * PAGE_TILE_VALUES, CODEC_DTYPE_F32, PAGE_CHANNELS,
				       page, NULL);
		page += codec_tile_bytes(PAGE_CODEC, page_role(i), TILE_TOKENS, PAGE_CHANNELS);
	}
}

void page_decode(const struct codec_isa *isa, const uint8_t *page, float *values)
{
	for (unsigned i = 0; i < PAGE_TILES; i++) {
		codec_isa_decode(isa, PAGE_CODEC, page_role(i), TILE_TOKENS, PAGE_CHANNELS, page,
				 values + i * PAGE_TILE_VALUES, CODEC_DTYPE_F32, PAGE_CHANNELS);
		page += codec_tile_bytes(PAGE_CODEC, page_role(i), TILE_TOKENS, PAGE_CHANNELS);
	}
}

void sets_store_pages(struct sets *sets)
{
	size_t bytes = 0;

	for (unsigned i = 0; i < PAGE_TILES; i++)
		bytes += codec_tile_bytes(PAGE_CODEC, page_role(i), TILE_TOKENS, PAGE_CHANNELS);
	kvp_assert(bytes <= PAGE_BYTES);
	page_encode(codec_isa_get("scalar"), (const float *)sets->values[CODEC_DTYPE_F32],
		    sets->stored);
	repeat(sets->stored, PAGE_BYTES, sets->area_bytes);
}
