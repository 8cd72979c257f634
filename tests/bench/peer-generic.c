/* SPDX-License-Identifier: Apache-2.0 */
/* For processors without a file of their own: what the compiler makes of plain C. */
#include "tests/bench/peer.h"

#include "codec/half.h"
#include "tests/bench/peer-read.h"

#define SUMS 16

uint64_t peer_read(const void *bytes, size_t n)
{
	return read_bytes(bytes, n);
}

void peer_f16_dot(const void *rows, size_t tokens, size_t head_dim, const float *query,
		  float *scores)
{
	for (size_t t = 0; t < tokens; t++) {
		const uint8_t *row = (const uint8_t *)rows + t * head_dim * sizeof(uint16_t);
		float sums[SUMS] = { 0 };
		float sum = 0;

		for (size_t c = 0; c < head_dim; c++) {
			uint16_t half;

			memcpy(&half, row + c * sizeof(half), sizeof(half));
			sums[c % SUMS] += half_to_f32(half) * query[c];
		}
		for (unsigned i = 0; i < SUMS; i++)
			sum += sums[i];
		scores[t] = sum;
	}
}
