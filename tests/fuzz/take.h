/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fuzzer's bytes as a source of choices: structured targets take one after the other, and zeroes when the bytes
 * are used up. Numbers come small most of the time, then as one of those at which limits lie, rarely as any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct take {
	const uint8_t *bytes;
	size_t left;
};

static inline uint8_t take_u8(struct take *take)
{
	if (take->left == 0)
		return 0;
	take->left--;
	return *take->bytes++;
}

static inline uint32_t take_below(struct take *take, uint32_t limit)
{
	return take_u8(take) % limit;
}

/* Up to n bytes, of which there are as many as are left. */
static inline const uint8_t *take_bytes(struct take *take, size_t n, size_t *ret_n)
{
	const uint8_t *bytes = take->bytes;

	*ret_n = n < take->left ? n : take->left;
	if (*ret_n > 0)
		take->bytes += *ret_n;
	take->left -= *ret_n;
	return bytes;
}

static inline uint64_t take_u64(struct take *take)
{
	uint64_t value = 0;
	size_t n;
	const uint8_t *bytes = take_bytes(take, sizeof(value), &n);

	if (n > 0)
		memcpy(&value, bytes, n);
	return value;
}

static inline uint64_t take_number(struct take *take)
{
	static const uint64_t edges[] = {
		63,	    64,		65,	   127,	      128,	   129,		255,	 256,
		257,	    511,	512,	   513,	      1000,	   1023,	1024,	 1025,
		4095,	    4096,	4097,	   16383,     16384,	   16385,	60000,	 65535,
		65536,	    131072,	600000,	   1 << 20,   1 << 21,	   INT32_MAX,	1u << 31, UINT32_MAX,
		1ull << 32, 86400000,	1ull << 40, INT64_MAX, 1ull << 63, UINT64_MAX,	UINT64_MAX - 1,
	};
	uint8_t kind = take_u8(take);

	if (kind < 0xa0)
		return kind & 0x1f;
	if (kind < 0xf0)
		return edges[take_u8(take) % (sizeof(edges) / sizeof(edges[0]))];
	return take_u64(take);
}
