/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NumPy's .npy files, versions 1.0 and 2.0, as far as K and V need them: little-endian f32 ('<f4') and f16 ('<f2'), C
 * order, 1 to NPY_DIMS_MAX dimensions. Everything else is refused with a reason. NumPy has no bf16.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define NPY_DIMS_MAX 4

struct npy {
	uint32_t dtype; /* KVC_F32 or KVC_F16 */
	size_t n_dims;
	uint64_t shape[NPY_DIMS_MAX]; /* each at least 1 */
	uint64_t elements;
	void *data; /* owned; npy_deinit() */
};

/*
 * Reads a whole regular file, whose size must be exactly what its header says. Results: 0; negative errno, with the
 * failure in words in reterr: -EBADMSG (not such a file), -EFBIG, -ENOMEM, those of open() and read().
 */
int npy_read(const char *path, struct npy *ret_npy, char *reterr, size_t reterr_size);

void npy_deinit(struct npy *npy);

/* Bytes of one element of dtype, or 0 when .npy cannot hold it. */
size_t npy_element_bytes(uint32_t dtype);

/*
 * Writes data as a version 1.0 file, readable by its owner only: prompts can be guessed from K and V. The file appears
 * whole under its name or not at all. Results: 0, or negative errno of open(), write() or rename().
 */
int npy_write(const char *path, uint32_t dtype, const uint64_t *shape, size_t n_dims, const void *data);
