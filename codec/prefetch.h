/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How kernels read tiles from memory. Every byte is asked for a little ahead, in
 * the order of addresses and without a gap, past the end of the tile too: the next tile is often
 * there, and a prefetch of what is not mapped does nothing. What is won is not time, for which 256
 * bytes are too few, but order: the processor's own prefetch into the second cache, which alone has
 * enough requests under way to use the bandwidth of memory, follows such a sequence and loses track
 * of others. On a Zen 4, rows that were only loaded came at half the speed of plain reading, with
 * 256 bytes at 0.9 of it, with 512 or more at 0.6.
 */
#pragma once

#include "codec/kernel.h"

#define PREFETCH_BYTES 256u
#define PREFETCH_LINE 64u

/* Of rows that are about to be read. */
static inline __attribute__((always_inline)) void bytes_prefetch(const uint8_t *from,
								 uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i += PREFETCH_LINE)
		__builtin_prefetch(from + PREFETCH_BYTES + i, 0, 3);
}

/*
 * What is asked for a few lines at a time, because there is much to do with the bytes that are
 * there: more requests at once than the first cache has places for would hold up that work.
 */
struct ahead {
	const uint8_t *at;
	const uint8_t *end;
	uint32_t step_bytes;
};

/* @bytes in as many as @steps turns. */
static inline struct ahead ahead_of(const uint8_t *from, uint32_t bytes, uint32_t steps)
{
	const uint32_t lines = (bytes + PREFETCH_LINE - 1) / PREFETCH_LINE;

	return (struct ahead){ from, from + bytes, (lines + steps - 1) / steps * PREFETCH_LINE };
}

/* @level: 3 is the first cache, 2 the second; a constant. */
static inline __attribute__((always_inline)) void ahead_step(struct ahead *ahead, const int level)
{
	const uint8_t *until = ahead->at + ahead->step_bytes;

	for (; ahead->at < until && ahead->at < ahead->end; ahead->at += PREFETCH_LINE)
		if (level == 3)
			__builtin_prefetch(ahead->at, 0, 3);
		else
			__builtin_prefetch(ahead->at, 0, 2);
}

/*
 * What follows the rows of a tile, and @more bytes after it: PREFETCH_NEXT_BYTES of the next tile pay
 * where a tile is done sooner than its scales are turned into factors, that is with four bits.
 */
#define PREFETCH_NEXT_BYTES 2048u

static inline void rest_prefetch(const struct codec_layout *layout, const uint8_t *tile,
				 uint32_t more)
{
	const uint32_t rows = layout->tokens * layout->row_bytes;

	for (uint32_t i = rows; i < layout->tile_bytes + more; i += PREFETCH_LINE)
		__builtin_prefetch(tile + PREFETCH_BYTES + i, 0, 3);
}
