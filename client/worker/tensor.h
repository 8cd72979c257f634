/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tensor types of a GGUF file that the worker reads: their numbers, names and sizes. A row of a
 * quantised tensor is a sequence of blocks; a block holds `block_values` values in `block_bytes`.
 *
 *   Q4_0  f16 d, 16 bytes of nibbles               value = d * (q - 8)
 *   Q4_1  f16 d, f16 m, 16 bytes of nibbles        value = d * q + m
 *   Q8_0  f16 d, 32 int8                           value = d * q
 *   Q6_K  128 low nibbles, 64 high pairs, 16 int8 scales, f16 d   value = d * scale * (q - 32)
 *
 * A byte of Q4 nibbles holds value i (low) and value i + 16 (high) of its block.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum tensor_type {
	TENSOR_F32 = 0,
	TENSOR_F16 = 1,
	TENSOR_Q4_0 = 2,
	TENSOR_Q4_1 = 3,
	TENSOR_Q8_0 = 8,
	TENSOR_Q6_K = 14,
};

struct tensor_format {
	enum tensor_type type;
	const char *name;
	uint32_t block_values;
	uint32_t block_bytes;
};

/* A matrix in the file's own format, row after row; the bytes belong to the file's mapping. */
struct matrix {
	const uint8_t *bytes;
	const struct tensor_format *format;
	uint32_t rows;
	uint32_t cols;
	size_t row_bytes;
};

/* The format of a type number from a file, or NULL where the worker does not know it. */
const struct tensor_format *tensor_format_find(uint32_t type);
