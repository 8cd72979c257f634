/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Matrices in the file's format times a batch of vectors, rows shared out among the pool's threads.
 * A thread turns a band of rows to f32 and uses it for the whole batch.
 */
#pragma once

#include "client/worker/dot.h"
#include "client/worker/pool.h"
#include "client/worker/tensor.h"

#define MATMUL_JOBS_MAX 3
#define MATMUL_BAND_ROWS 12

/* Floats of scratch that each thread needs for matrices of up to this many columns. */
#define MATMUL_SCRATCH(cols_max) ((size_t)MATMUL_BAND_ROWS * (cols_max))

/* out[v * matrix->rows + r] = row r of the matrix times vector v. */
struct matmul_job {
	const struct matrix *matrix;
	float *out;
};

/*
 * Multiplies 1..MATMUL_JOBS_MAX matrices of the same number of columns with the same vectors, which
 * lie one behind the other. scratch holds MATMUL_SCRATCH(cols) floats a thread of the pool.
 */
void matmul_run(struct pool *pool, const struct dot_kernels *kernels, float *scratch,
		size_t scratch_stride, const struct matmul_job *jobs, unsigned n_jobs,
		const float *vectors, size_t n_vectors);
