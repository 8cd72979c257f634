/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels of dot.h, written once over a vector of 16 floats. A file that includes this has
 * defined, for its instruction set: the type v16; v16_zero, _set1, _load, _store, _add, _sub, _mul,
 * _div, _fma(a, b, c) = a * b + c, _max, _round (to nearest, ties to even), _pow2 (2^n of whole n
 * in [-126, 127]), _fold_sum (lanes i and i + 8 added, then i and i + 4, + 2, + 1), _from_f16,
 * _from_i8, _from_low_nibbles, _from_high_nibbles (each reading 16 values from memory); TILE_ROWS,
 * TILE_VECTORS (accumulators that fit the registers); and KERNELS, KERNELS_NAME. Such a file is
 * compiled with -ffp-contract=off: what is fused is written v16_fma and nothing else is.
 */
#include "base/contract.h"

#include <math.h>
#include <string.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE float v16_fold_max(v16 v)
{
	float lane[16];

	v16_store(lane, v);
	for (int width = 8; width > 0; width /= 2)
		for (int i = 0; i < width; i++)
			lane[i] = lane[i] > lane[i + width] ? lane[i] : lane[i + width];
	return lane[0];
}

/* exp(x) for x <= 88 within 2 ulp; below -87 the result is 2^-126, which no sum here notices. */
ALWAYS_INLINE v16 v16_exp(v16 x)
{
	x = v16_max(x, v16_set1(-87.0f));
	v16 n = v16_round(v16_mul(x, v16_set1(1.44269504f)));
	v16 r = v16_fma(n, v16_set1(-0.693359375f), x);

	r = v16_fma(n, v16_set1(2.12194440e-4f), r);
	v16 p = v16_set1(1.9875691500e-4f);

	p = v16_fma(p, r, v16_set1(1.3981999507e-3f));
	p = v16_fma(p, r, v16_set1(8.3334519073e-3f));
	p = v16_fma(p, r, v16_set1(4.1665795894e-2f));
	p = v16_fma(p, r, v16_set1(1.6666665459e-1f));
	p = v16_fma(p, r, v16_set1(5.0000001201e-1f));
	p = v16_fma(p, v16_mul(r, r), r);
	return v16_mul(v16_add(p, v16_set1(1.0f)), v16_pow2(n));
}

ALWAYS_INLINE v16 v16_half(const uint8_t *f16)
{
	uint16_t copies[16];

	for (int i = 0; i < 16; i++)
		memcpy(&copies[i], f16, sizeof(copies[i]));
	return v16_from_f16(copies);
}

/* --- Rows of a tensor to f32 ------------------------------------------------------------------ */

static void dequantise_f16(const uint8_t *row, size_t n, float *out)
{
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		v16_store(out + i, v16_from_f16(row + 2 * i));
	for (; i < n; i++) {
		float lane[16];

		v16_store(lane, v16_half(row + 2 * i));
		out[i] = lane[0];
	}
}

static void dequantise_q4_0(const uint8_t *row, size_t n, float *out)
{
	for (size_t i = 0; i < n; i += 32, row += 18) {
		v16 d = v16_half(row);
		v16 eight = v16_set1(8.0f);

		v16_store(out + i, v16_mul(d, v16_sub(v16_from_low_nibbles(row + 2), eight)));
		v16_store(out + i + 16, v16_mul(d, v16_sub(v16_from_high_nibbles(row + 2), eight)));
	}
}

static void dequantise_q4_1(const uint8_t *row, size_t n, float *out)
{
	for (size_t i = 0; i < n; i += 32, row += 20) {
		v16 d = v16_half(row);
		v16 m = v16_half(row + 2);

		v16_store(out + i, v16_fma(d, v16_from_low_nibbles(row + 4), m));
		v16_store(out + i + 16, v16_fma(d, v16_from_high_nibbles(row + 4), m));
	}
}

static void dequantise_q8_0(const uint8_t *row, size_t n, float *out)
{
	for (size_t i = 0; i < n; i += 32, row += 34) {
		v16 d = v16_half(row);

		v16_store(out + i, v16_mul(d, v16_from_i8(row + 2)));
		v16_store(out + i + 16, v16_mul(d, v16_from_i8(row + 18)));
	}
}

/* 128 of the 256 codes of a Q6_K block: bytes l and l + 32 of `low` carry four groups of 32. */
ALWAYS_INLINE void unpack_q6_half(const uint8_t *low, const uint8_t *high, int8_t *codes)
{
	for (int l = 0; l < 32; l++) {
		int h = high[l];

		codes[l] = (int8_t)(((low[l] & 15) | (h & 3) << 4) - 32);
		codes[l + 32] = (int8_t)(((low[l + 32] & 15) | (h >> 2 & 3) << 4) - 32);
		codes[l + 64] = (int8_t)((low[l] >> 4 | (h >> 4 & 3) << 4) - 32);
		codes[l + 96] = (int8_t)((low[l + 32] >> 4 | (h >> 6 & 3) << 4) - 32);
	}
}

static void dequantise_q6_k(const uint8_t *row, size_t n, float *out)
{
	for (size_t i = 0; i < n; i += 256, row += 210) {
		const int8_t *scales = (const int8_t *)row + 192;
		v16 d = v16_half(row + 208);
		int8_t codes[256];

		unpack_q6_half(row, row + 128, codes);
		unpack_q6_half(row + 64, row + 160, codes + 128);
		for (int g = 0; g < 16; g++) {
			v16 scale = v16_mul(d, v16_set1((float)scales[g]));

			v16_store(out + i + 16 * g, v16_mul(scale, v16_from_i8(codes + 16 * g)));
		}
	}
}

static void dequantise(enum tensor_type type, const void *row, size_t n, float *out)
{
	switch (type) {
	case TENSOR_F32:
		memcpy(out, row, n * sizeof(float));
		return;
	case TENSOR_F16:
		dequantise_f16(row, n, out);
		return;
	case TENSOR_Q4_0:
		dequantise_q4_0(row, n, out);
		return;
	case TENSOR_Q4_1:
		dequantise_q4_1(row, n, out);
		return;
	case TENSOR_Q8_0:
		dequantise_q8_0(row, n, out);
		return;
	case TENSOR_Q6_K:
		dequantise_q6_k(row, n, out);
		return;
	}
	kvp_unreachable();
}

/* --- Products --------------------------------------------------------------------------------- */

/* n_rows x n_vectors products; both are constants at every call, so the sums stay in registers. */
ALWAYS_INLINE void products_tile(const float *rows, size_t row_stride, const float *vectors,
				 size_t vector_stride, size_t k, float *out, size_t out_stride,
				 const int n_rows, const int n_vectors)
{
	v16 sum[TILE_ROWS][TILE_VECTORS];

#pragma GCC unroll 8
	for (int r = 0; r < n_rows; r++)
#pragma GCC unroll 8
		for (int v = 0; v < n_vectors; v++)
			sum[r][v] = v16_zero();
	for (size_t i = 0; i < k; i += 16) {
		v16 x[TILE_VECTORS];

#pragma GCC unroll 8
		for (int v = 0; v < n_vectors; v++)
			x[v] = v16_load(vectors + (size_t)v * vector_stride + i);
#pragma GCC unroll 8
		for (int r = 0; r < n_rows; r++) {
			v16 w = v16_load(rows + (size_t)r * row_stride + i);

#pragma GCC unroll 8
			for (int v = 0; v < n_vectors; v++)
				sum[r][v] = v16_fma(w, x[v], sum[r][v]);
		}
	}
#pragma GCC unroll 8
	for (int r = 0; r < n_rows; r++)
#pragma GCC unroll 8
		for (int v = 0; v < n_vectors; v++)
			out[(size_t)v * out_stride + (size_t)r] = v16_fold_sum(sum[r][v]);
}

/* The rows against a constant number of vectors. */
ALWAYS_INLINE void products_band(const float *rows, size_t row_stride, size_t n_rows,
				 const float *vectors, size_t vector_stride, size_t k, float *out,
				 size_t out_stride, const int n_vectors)
{
	size_t r = 0;

	for (; r + TILE_ROWS <= n_rows; r += TILE_ROWS)
		products_tile(rows + r * row_stride, row_stride, vectors, vector_stride, k, out + r,
			      out_stride, TILE_ROWS, n_vectors);
	for (; r < n_rows; r++)
		products_tile(rows + r * row_stride, row_stride, vectors, vector_stride, k, out + r,
			      out_stride, 1, n_vectors);
}

static void products(const float *rows, size_t row_stride, size_t n_rows, const float *vectors,
		     size_t vector_stride, size_t n_vectors, size_t k, float *out,
		     size_t out_stride)
{
	while (n_vectors > 0) {
		size_t n = n_vectors < TILE_VECTORS ? n_vectors : TILE_VECTORS;

#define BAND(n_) products_band(rows, row_stride, n_rows, vectors, vector_stride, k, out, out_stride, n_)
		if (n == TILE_VECTORS)
			BAND(TILE_VECTORS);
		else if (n == 3)
			BAND(3);
		else if (n == 2)
			BAND(2);
		else
			BAND(1);
#undef BAND
		vectors += n * vector_stride;
		out += n * out_stride;
		n_vectors -= n;
	}
}

/* --- Attention -------------------------------------------------------------------------------- */

static void softmax(float *scores, size_t n, float scale)
{
	size_t padded = (n + 15) / 16 * 16;
	v16 most = v16_set1(-INFINITY);
	v16 sum = v16_zero();

	for (size_t i = n; i < padded; i++)
		scores[i] = -INFINITY;
	for (size_t i = 0; i < padded; i += 16)
		most = v16_max(most, v16_load(scores + i));
	v16 shift = v16_set1(-scale * v16_fold_max(most));

	for (size_t i = 0; i < padded; i += 16) {
		v16 e = v16_exp(v16_fma(v16_load(scores + i), v16_set1(scale), shift));

		sum = v16_add(sum, e);
		v16_store(scores + i, e);
	}
	v16 inverse = v16_set1(1.0f / v16_fold_sum(sum));

	for (size_t i = 0; i < padded; i += 16)
		v16_store(scores + i, v16_mul(v16_load(scores + i), inverse));
}

ALWAYS_INLINE void weighted_sum_columns(const float *weights, const float *values, size_t stride,
					size_t n, float *out, const int n_columns)
{
	v16 sum[4];

#pragma GCC unroll 4
	for (int c = 0; c < n_columns; c++)
		sum[c] = v16_zero();
	for (size_t i = 0; i < n; i++) {
		v16 w = v16_set1(weights[i]);

#pragma GCC unroll 4
		for (int c = 0; c < n_columns; c++)
			sum[c] = v16_fma(w, v16_load(values + i * stride + 16 * (size_t)c), sum[c]);
	}
#pragma GCC unroll 4
	for (int c = 0; c < n_columns; c++)
		v16_store(out + 16 * (size_t)c, sum[c]);
}

static void weighted_sum(const float *weights, const float *values, size_t stride, size_t n,
			 size_t dim, float *out)
{
	size_t d = 0;

	for (; d + 64 <= dim; d += 64)
		weighted_sum_columns(weights, values + d, stride, n, out + d, 4);
	for (; d < dim; d += 16)
		weighted_sum_columns(weights, values + d, stride, n, out + d, 1);
}

/* --- Element by element ----------------------------------------------------------------------- */

static void silu_mul(float *gate, const float *up, size_t n)
{
	v16 one = v16_set1(1.0f);
	v16 limit = v16_set1(-87.0f);

	for (size_t i = 0; i < n; i += 16) {
		v16 g = v16_load(gate + i);
		/*
		 * Below -87 the quotient is below 1e-35 whatever exp says: clamp so that it stays
		 * finite.
		 */
		v16 e = v16_exp(v16_sub(v16_zero(), v16_max(g, limit)));

		v16_store(gate + i, v16_mul(v16_div(g, v16_add(one, e)), v16_load(up + i)));
	}
}

static void rms_norm(const float *x, const float *weight, size_t n, float epsilon, float *out)
{
	v16 sum = v16_zero();

	for (size_t i = 0; i < n; i += 16)
		sum = v16_fma(v16_load(x + i), v16_load(x + i), sum);
	v16 scale = v16_set1(1.0f / sqrtf(v16_fold_sum(sum) / (float)n + epsilon));

	for (size_t i = 0; i < n; i += 16)
		v16_store(out + i, v16_mul(v16_mul(v16_load(x + i), scale), v16_load(weight + i)));
}

static void add(float *x, const float *y, size_t n)
{
	for (size_t i = 0; i < n; i += 16)
		v16_store(x + i, v16_add(v16_load(x + i), v16_load(y + i)));
}

const struct dot_kernels KERNELS = {
	.name = KERNELS_NAME,
	.dequantise = dequantise,
	.products = products,
	.softmax = softmax,
	.weighted_sum = weighted_sum,
	.silu_mul = silu_mul,
	.rms_norm = rms_norm,
	.add = add,
};
