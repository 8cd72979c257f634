/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A streaming read in the compiler's own vectors, which become as wide as the instruction set of
 * the function that it is inlined in has them. Eight sums, so that no addition waits for another.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define READ_SUMS 8

typedef uint64_t read_vector __attribute__((vector_size(64)));

__attribute__((always_inline)) static inline uint64_t read_bytes(const uint8_t *bytes, size_t n)
{
	read_vector sums[READ_SUMS] = { 0 };
	uint64_t sum = 0;
	size_t i = 0;

	for (; n - i >= sizeof(sums); i += sizeof(sums)) {
		for (unsigned j = 0; j < READ_SUMS; j++) {
			read_vector loaded;

			memcpy(&loaded, bytes + i + j * sizeof(loaded), sizeof(loaded));
			sums[j] += loaded;
		}
	}
	for (; i < n; i++)
		sum += bytes[i];
	for (unsigned j = 0; j < READ_SUMS; j++)
		for (unsigned k = 0; k < sizeof(read_vector) / sizeof(uint64_t); k++)
			sum += sums[j][k];
	return sum;
}
