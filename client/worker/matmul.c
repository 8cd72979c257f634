/* SPDX-License-Identifier: Apache-2.0 */
/* The bands of all jobs are numbered through; an item of the pool is one chunk of bands. */
#include "client/worker/matmul.h"

#include "base/checked.h"
#include "base/contract.h"

#define CHUNK_ROWS (2 * MATMUL_BAND_ROWS)

struct matmul {
	const struct dot_kernels *kernels;
	float *scratch;
	size_t scratch_stride;
	const struct matmul_job *jobs;
	const float *vectors;
	size_t n_vectors;
};

static size_t chunks_of(const struct matrix *matrix)
{
	return div_up_u64(matrix->rows, CHUNK_ROWS);
}

static void multiply_band(const struct matmul *matmul, const struct matmul_job *job, uint32_t begin,
			  uint32_t n_rows, float *scratch)
{
	const struct matrix *matrix = job->matrix;
	size_t cols = matrix->cols;

	for (uint32_t r = 0; r < n_rows; r++)
		matmul->kernels->dequantise(matrix->format->type,
					    matrix->bytes + (size_t)(begin + r) * matrix->row_bytes, cols,
					    scratch + r * cols);
	matmul->kernels->products(scratch, cols, n_rows, matmul->vectors, cols, matmul->n_vectors, cols,
				  job->out + begin, matrix->rows);
}

static void multiply_chunk(void *context, size_t item, unsigned worker)
{
	const struct matmul *matmul = context;
	const struct matmul_job *job = matmul->jobs;
	float *scratch = matmul->scratch + worker * matmul->scratch_stride;
	uint32_t end;

	while (item >= chunks_of(job->matrix)) {
		item -= chunks_of(job->matrix);
		job++;
	}
	end = (uint32_t)(item + 1) * CHUNK_ROWS;
	if (end > job->matrix->rows)
		end = job->matrix->rows;
	for (uint32_t begin = (uint32_t)item * CHUNK_ROWS; begin < end; begin += MATMUL_BAND_ROWS) {
		uint32_t n_rows = end - begin < MATMUL_BAND_ROWS ? end - begin : MATMUL_BAND_ROWS;

		multiply_band(matmul, job, begin, n_rows, scratch);
	}
}

void matmul_run(struct pool *pool, const struct dot_kernels *kernels, float *scratch,
		size_t scratch_stride, const struct matmul_job *jobs, unsigned n_jobs,
		const float *vectors, size_t n_vectors)
{
	struct matmul matmul = {
		.kernels = kernels,
		.scratch = scratch,
		.scratch_stride = scratch_stride,
		.jobs = jobs,
		.vectors = vectors,
		.n_vectors = n_vectors,
	};
	size_t n_items = 0;

	kvp_assert(n_jobs >= 1 && n_jobs <= MATMUL_JOBS_MAX);
	for (unsigned i = 0; i < n_jobs; i++) {
		kvp_assert(jobs[i].matrix->cols == jobs[0].matrix->cols);
		kvp_assert(MATMUL_SCRATCH(jobs[i].matrix->cols) <= scratch_stride);
		n_items += chunks_of(jobs[i].matrix);
	}
	pool_run(pool, n_items, multiply_chunk, &matmul);
}
