/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Past the caches. An ordinary store to memory that is not in a cache first reads it, and a page would push 24 KiB out
 * that somebody uses; who appends a page seldom reads it next. So each chunk is copied to the first cache, the
 * checksum taken there, and streamed out: a quarter less time than copying and checksumming (tests/bench, append).
 */
#include "daemon/core/intake.h"

#include "base/contract.h"

#include <emmintrin.h>
#include <errno.h>
#include <string.h>
#include <xxh_x86dispatch.h>

#define CHUNK_BYTES 4096u
#define LINE_BYTES 64u

/* Both aligned to lines; n a multiple of them. */
static void stream(uint8_t *dst, const uint8_t *src, size_t n)
{
	for (size_t i = 0; i < n; i += LINE_BYTES) {
		const __m128i *from = (const __m128i *)(src + i);
		__m128i *to = (__m128i *)(dst + i);
		__m128i a = _mm_load_si128(from), b = _mm_load_si128(from + 1);
		__m128i c = _mm_load_si128(from + 2), d = _mm_load_si128(from + 3);

		_mm_stream_si128(to, a);
		_mm_stream_si128(to + 1, b);
		_mm_stream_si128(to + 2, c);
		_mm_stream_si128(to + 3, d);
	}
}

static void chunk_out(uint8_t *dst, const uint8_t *chunk, size_t n)
{
	size_t lines = n - n % LINE_BYTES;

	stream(dst, chunk, lines);
	memcpy(dst + lines, chunk + lines, n - lines);
}

int intake_init(struct intake *intake)
{
	intake->hash = XXH3_createState();
	return intake->hash ? 0 : -ENOMEM;
}

void intake_deinit(struct intake *intake)
{
	(void)XXH3_freeState(intake->hash);
	intake->hash = NULL;
}

uint64_t intake_copy(struct intake *intake, uint8_t *dst, const uint8_t *src, size_t n)
{
	_Alignas(LINE_BYTES) uint8_t chunk[CHUNK_BYTES];

	kvp_assert((uintptr_t)dst % LINE_BYTES == 0);
	(void)XXH3_64bits_reset(intake->hash);
	for (size_t at = 0; at < n; at += CHUNK_BYTES) {
		size_t part = n - at < CHUNK_BYTES ? n - at : CHUNK_BYTES;

		memcpy(chunk, src + at, part);
		for (size_t i = at + CHUNK_BYTES; i < n && i < at + 2 * CHUNK_BYTES; i += LINE_BYTES)
			_mm_prefetch((const char *)src + i, _MM_HINT_T0);
		(void)XXH3_64bits_update_dispatch(intake->hash, chunk, part);
		chunk_out(dst + at, chunk, part);
	}
	_mm_sfence(); /* streamed stores are not ordered with the READY flag's */
	return XXH3_64bits_digest(intake->hash);
}
