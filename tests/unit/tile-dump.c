/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints tiles and what they decode to, for a decoder that knows docs/codecs.md only: a line each,
 * "codec role tokens head_dim tile values", the last two in hexadecimal, values as f32.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/contract.h"
#include "codec/codec.h"

static const struct {
	uint32_t tokens;
	uint32_t head_dim;
} shapes[] = { { 1, 8 }, { 2, 40 }, { 5, 24 }, { 33, 64 }, { 128, 80 } };

/* Uneven on purpose: channels of different size, a constant one, tokens that differ by 2^8. */
static float value_at(uint64_t *state, uint32_t token, uint32_t channel)
{
	float value;

	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	value = (float)(int32_t)(*state >> 32) * 0x1p-31f;
	if (channel == 3)
		return 0.3f;
	return value * (channel % 8 == 0 ? 9.0f : 0.7f) * (token % 3 ? 1.0f : 0x1p-8f);
}

static void print_hex(const void *bytes, size_t count)
{
	(void)putchar(' ');
	for (size_t i = 0; i < count; i++)
		(void)printf("%02x", ((const uint8_t *)bytes)[i]);
}

static void dump(enum codec_id id, enum codec_role role, uint32_t tokens, uint32_t head_dim)
{
	const uint32_t tile_bytes = codec_tile_bytes(id, role, tokens, head_dim);
	const size_t values_bytes = sizeof(float) * tokens * head_dim;
	_cleanup_free_ float *values = malloc(values_bytes);
	_cleanup_free_ uint8_t *tile = malloc(tile_bytes);
	uint64_t state = id;
	int r;

	kvp_assert(values && tile);
	for (uint32_t t = 0; t < tokens; t++)
		for (uint32_t c = 0; c < head_dim; c++)
			values[(size_t)t * head_dim + c] = value_at(&state, t, c);
	r = codec_encode(id, role, tokens, head_dim, values, CODEC_DTYPE_F32, head_dim, tile, NULL);
	kvp_assert(r == 0);
	codec_decode(id, role, tokens, head_dim, tile, values, CODEC_DTYPE_F32, head_dim);
	(void)printf("%s %c %u %u", codec_name(id), role == CODEC_ROLE_K ? 'K' : 'V', tokens,
		     head_dim);
	print_hex(tile, tile_bytes);
	print_hex(values, values_bytes);
	(void)putchar('\n');
}

int main(void)
{
	for (uint32_t id = 0; id < 256; id++)
		for (unsigned s = 0; codec_valid(id) && s < sizeof shapes / sizeof shapes[0]; s++) {
			dump(id, CODEC_ROLE_K, shapes[s].tokens, shapes[s].head_dim);
			dump(id, CODEC_ROLE_V, shapes[s].tokens, shapes[s].head_dim);
		}
	return EXIT_SUCCESS;
}
