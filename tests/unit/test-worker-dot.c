/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels: the scalar table against double arithmetic within stated tolerances, every other
 * table against the scalar one bit by bit, and a token's result whatever it is computed together
 * with.
 */
#include "client/worker/dot.h"

#include "tests/lib/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COLS 512
#define ROWS 13
#define VECTORS 9

static const char *const names[] = { "scalar", "avx2", "avx512" };

#define N_NAMES (sizeof(names) / sizeof(names[0]))

static uint32_t random_state = 7;

static uint32_t next_random(void)
{
	random_state = random_state * 1664525u + 1013904223u;
	return random_state >> 8;
}

static void fill_random(float *values, size_t n, float scale)
{
	for (size_t i = 0; i < n; i++)
		values[i] = ((float)next_random() / 8388608.0f - 1.0f) * scale;
}

/* The bytes of rows of any type: scales are made finite and moderate. */
static void fill_rows(const struct tensor_format *format, uint8_t *bytes, size_t n_blocks)
{
	static const uint16_t halves[] = { 0x2e66, 0xae66, 0x0001, 0x8001, 0x03ff, 0x3c00, 0x0000, 0x1234 };

	for (size_t b = 0; b < n_blocks; b++, bytes += format->block_bytes) {
		uint16_t d = halves[next_random() % 8];
		uint16_t m = halves[next_random() % 8];

		for (uint32_t i = 0; i < format->block_bytes; i++)
			bytes[i] = (uint8_t)next_random();
		if (format->type == TENSOR_F32)
			fill_random((float *)(void *)bytes, 1, 2.0f);
		else if (format->type == TENSOR_Q6_K)
			memcpy(bytes + 208, &d, sizeof(d));
		else
			memcpy(bytes, &d, sizeof(d));
		if (format->type == TENSOR_Q4_1)
			memcpy(bytes + 2, &m, sizeof(m));
	}
}

static double half_value(const uint8_t *bytes)
{
	uint16_t half;
	int exponent;
	double value;

	memcpy(&half, bytes, sizeof(half));
	exponent = half >> 10 & 31;
	value = exponent ? ldexp(1024 + (half & 1023), exponent - 25) : ldexp(half & 1023, -24);
	return half & 0x8000 ? -value : value;
}

/* One value of a row, from the format's definition in tensor.h. */
static double row_value(enum tensor_type type, const uint8_t *row, size_t i)
{
	const uint8_t *b;
	size_t j = i % 32;
	float f32;

	switch (type) {
	case TENSOR_F32:
		memcpy(&f32, row + 4 * i, sizeof(f32));
		return (double)f32;
	case TENSOR_F16:
		return half_value(row + 2 * i);
	case TENSOR_Q4_0:
		b = row + i / 32 * 18;
		return half_value(b) * ((b[2 + j % 16] >> (j < 16 ? 0 : 4) & 15) - 8);
	case TENSOR_Q4_1:
		b = row + i / 32 * 20;
		return half_value(b) * (b[4 + j % 16] >> (j < 16 ? 0 : 4) & 15) + half_value(b + 2);
	case TENSOR_Q8_0:
		b = row + i / 32 * 34;
		return half_value(b) * (int8_t)b[2 + j];
	case TENSOR_Q6_K: {
		size_t in_half = i % 128;
		size_t quarter = in_half / 32;
		const uint8_t *low;
		int code;

		b = row + i / 256 * 210;
		low = b + i % 256 / 128 * 64 + j + (quarter & 1 ? 32 : 0);
		code = (*low >> (quarter < 2 ? 0 : 4) & 15) |
		       (b[128 + i % 256 / 128 * 32 + j] >> 2 * quarter & 3) << 4;
		return half_value(b + 208) * (int8_t)b[192 + i % 256 / 16] * (code - 32);
	}
	}
	return NAN;
}

static void test_dequantise(void **state)
{
	static const enum tensor_type types[] = { TENSOR_F32,  TENSOR_F16,  TENSOR_Q4_0,
						  TENSOR_Q4_1, TENSOR_Q8_0, TENSOR_Q6_K };
	uint8_t row[COLS * 4];
	float expected[COLS];
	float got[COLS];

	for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
		const struct tensor_format *format = tensor_format_find(types[t]);

		memset(row, 0, sizeof(row));
		fill_rows(format, row, COLS / format->block_values);
		if (types[t] == TENSOR_F16)
			for (size_t i = 0; i < COLS; i++)
				row[2 * i + 1] &= 0xbf; /* finite */
		dot_kernels_scalar.dequantise(types[t], row, COLS, expected);
		for (size_t i = 0; i < COLS; i++) {
			double exact = row_value(types[t], row, i);

			/* Two roundings to f32 at most. */
			assert_true(fabs((double)expected[i] - exact) <= fabs(exact) * 0x1p-23 + 1e-12);
		}
		for (size_t k = 0; k < N_NAMES; k++) {
			const struct dot_kernels *kernels = dot_kernels_select(names[k]);

			if (!kernels)
				continue;
			kernels->dequantise(types[t], row, COLS, got);
			assert_memory_equal(got, expected, sizeof(got));
		}
	}
}

static void test_products(void **state)
{
	static float rows[ROWS * COLS];
	static float vectors[VECTORS * COLS];
	float expected[VECTORS * ROWS];
	float got[VECTORS * ROWS];

	fill_random(rows, ROWS * COLS, 1.0f);
	fill_random(vectors, VECTORS * COLS, 1.0f);
	dot_kernels_scalar.products(rows, COLS, ROWS, vectors, COLS, VECTORS, COLS, expected, ROWS);
	for (size_t v = 0; v < VECTORS; v++)
		for (size_t r = 0; r < ROWS; r++) {
			double exact = 0;
			double size = 0;

			for (size_t i = 0; i < COLS; i++) {
				double product = (double)rows[r * COLS + i] * (double)vectors[v * COLS + i];

				exact += product;
				size += fabs(product);
			}
			/*
			 * Each lane adds COLS / 16 products, then 4 folds: as many roundings of
			 * parts of `size`.
			 */
			assert_true(fabs((double)expected[v * ROWS + r] - exact) <=
				    size * 0x1p-24 * (COLS / 16 + 4));
		}
	for (size_t k = 0; k < N_NAMES; k++) {
		const struct dot_kernels *kernels = dot_kernels_select(names[k]);

		if (!kernels)
			continue;
		/* Any number of rows and vectors at a time gives the same bits. */
		for (size_t n_rows = 1; n_rows <= ROWS; n_rows += 3)
			for (size_t n_vectors = 1; n_vectors <= VECTORS; n_vectors++) {
				memset(got, 0, sizeof(got));
				kernels->products(rows, COLS, n_rows, vectors, COLS, n_vectors, COLS, got,
						  ROWS);
				for (size_t v = 0; v < n_vectors; v++)
					assert_memory_equal(got + v * ROWS, expected + v * ROWS,
							    n_rows * sizeof(float));
			}
	}
}

static void test_softmax(void **state)
{
	static const size_t lengths[] = { 1, 2, 15, 16, 17, 100, 512 };
	float scores[COLS];
	float expected[COLS];
	float got[COLS];

	for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) {
		size_t n = lengths[l];
		double most = -INFINITY;
		double sum = 0;

		fill_random(scores, n, 300.0f);
		memcpy(expected, scores, sizeof(scores));
		dot_kernels_scalar.softmax(expected, n, 0.125f);
		for (size_t i = 0; i < n; i++)
			most = fmax(most, (double)scores[i] * 0.125);
		for (size_t i = 0; i < n; i++)
			sum += exp((double)scores[i] * 0.125 - most);
		/* exp is given an argument rounded to f32, up to 75 in size. */
		for (size_t i = 0; i < n; i++)
			assert_true(fabs((double)expected[i] - exp((double)scores[i] * 0.125 - most) / sum) <
				    2e-5);
		for (size_t k = 0; k < N_NAMES; k++) {
			const struct dot_kernels *kernels = dot_kernels_select(names[k]);

			if (!kernels)
				continue;
			memcpy(got, scores, sizeof(scores));
			kernels->softmax(got, n, 0.125f);
			assert_memory_equal(got, expected, n * sizeof(float));
		}
	}
}

static void test_elements(void **state)
{
	float x[COLS];
	float y[COLS];
	float expected[3][COLS];
	float got[3][COLS];
	double square = 0;

	fill_random(x, COLS, 100.0f);
	fill_random(y, COLS, 2.0f);
	x[0] = -1e30f;
	x[1] = 1e10f;
	memcpy(expected[0], x, sizeof(x));
	dot_kernels_scalar.silu_mul(expected[0], y, COLS);
	for (size_t i = 0; i < COLS; i++) {
		double exact = (double)x[i] / (1 + exp(-(double)x[i])) * (double)y[i];

		assert_true(isfinite(expected[0][i]));
		if (i > 0)
			assert_true(fabs((double)expected[0][i] - exact) <= fabs(exact) * 1e-5 + 1e-30);
	}
	x[0] = x[1] = 0.5f;
	dot_kernels_scalar.rms_norm(x, y, COLS, 1e-5f, expected[1]);
	for (size_t i = 0; i < COLS; i++)
		square += (double)x[i] * (double)x[i];
	for (size_t i = 0; i < COLS; i++) {
		double exact = (double)x[i] / sqrt(square / COLS + 1e-5) * (double)y[i];

		assert_true(fabs((double)expected[1][i] - exact) <= fabs(exact) * 1e-5 + 1e-12);
	}
	dot_kernels_scalar.weighted_sum(x, y, 48, 8, 48, expected[2]);
	for (size_t d = 0; d < 48; d++) {
		double exact = 0;

		for (size_t i = 0; i < 8; i++)
			exact += (double)x[i] * (double)y[i * 48 + d];
		assert_true(fabs((double)expected[2][d] - exact) < 1e-3);
	}
	for (size_t k = 0; k < N_NAMES; k++) {
		const struct dot_kernels *kernels = dot_kernels_select(names[k]);

		if (!kernels)
			continue;
		x[0] = -1e30f;
		x[1] = 1e10f;
		memcpy(got[0], x, sizeof(x));
		kernels->silu_mul(got[0], y, COLS);
		x[0] = x[1] = 0.5f;
		kernels->rms_norm(x, y, COLS, 1e-5f, got[1]);
		kernels->weighted_sum(x, y, 48, 8, 48, got[2]);
		assert_memory_equal(got[0], expected[0], sizeof(x));
		assert_memory_equal(got[1], expected[1], sizeof(x));
		assert_memory_equal(got[2], expected[2], 48 * sizeof(float));
	}
}

static void test_select(void **state)
{
	assert_non_null(dot_kernels_select(NULL));
	assert_ptr_equal(dot_kernels_select(""), dot_kernels_select(NULL));
	assert_ptr_equal(dot_kernels_select("scalar"), &dot_kernels_scalar);
	assert_null(dot_kernels_select("mmx"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dequantise), cmocka_unit_test(test_products),
		cmocka_unit_test(test_softmax),    cmocka_unit_test(test_elements),
		cmocka_unit_test(test_select),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
