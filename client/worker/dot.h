/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arithmetic of the worker, one table of functions an instruction set.
 *
 * Every sum runs in 16 lanes: lane i adds the products of the indices i, i + 16, i + 32, ... in
 * that order with fused multiply-add, then the lanes are folded 8, 4, 2, 1. The order belongs to
 * the function, not to the instruction set, so all tables give the same bits; and it never depends
 * on how many rows or tokens are computed together, so a token computed alone, in a batch, or after
 * a prefix from the cache has the same bits too.
 */
#pragma once

#include "client/worker/tensor.h"

#include <stddef.h>
#include <stdint.h>

/* Vectors are padded to this many values wherever a function says "padded". */
#define DOT_LANES 16

struct dot_kernels {
	const char *name; /* "scalar", "avx2", "avx512" */

	/*
	 * Turns n values of one row of a tensor into f32; n is a whole number of the format's
	 * blocks. Neither pointer needs alignment.
	 */
	void (*dequantise)(enum tensor_type type, const void *row, size_t n, float *ret_values);

	/*
	 * All products of rows and vectors: out[v * out_stride + r] = sum over k of
	 * rows[r * row_stride + k] * vectors[v * vector_stride + k]. k is a multiple of DOT_LANES;
	 * strides count floats.
	 */
	void (*products)(const float *rows, size_t row_stride, size_t n_rows, const float *vectors,
			 size_t vector_stride, size_t n_vectors, size_t k, float *out,
			 size_t out_stride);

	/*
	 * scores[0..n) become exp(scale * score - max) / sum. The array must have room for n
	 * rounded up to DOT_LANES; what lies between is overwritten. n > 0.
	 */
	void (*softmax)(float *scores, size_t n, float scale);

	/*
	 * out[d] = sum over i of weights[i] * values[i * stride + d] for d < dim, a multiple of
	 * DOT_LANES.
	 */
	void (*weighted_sum)(const float *weights, const float *values, size_t stride, size_t n,
			     size_t dim, float *out);

	/* gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i]; n is a multiple of DOT_LANES. */
	void (*silu_mul)(float *gate, const float *up, size_t n);

	/* out[i] = x[i] * weight[i] / sqrt(mean(x^2) + epsilon); n is a multiple of DOT_LANES. */
	void (*rms_norm)(const float *x, const float *weight, size_t n, float epsilon, float *out);

	/* x[i] += y[i]; n is a multiple of DOT_LANES. */
	void (*add)(float *x, const float *y, size_t n);
};

extern const struct dot_kernels dot_kernels_scalar;
#ifdef WORKER_HAVE_X86
extern const struct dot_kernels dot_kernels_avx2;
extern const struct dot_kernels dot_kernels_avx512;
#endif

/*
 * The best table for this CPU, or the one that name asks for (NULL or "": the best). Returns NULL
 * when name is unknown or the CPU lacks it.
 */
const struct dot_kernels *dot_kernels_select(const char *name);
