/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File: magic (6), major and minor version (2), header length (u16 in 1.0, u32 in 2.0), header text padded with blanks
 * and ended by a newline, elements. Written to a temporary name beside the target and renamed.
 */
#include "client/kvctl/npy.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/contract.h"
#include "client/kvclient.h"
#include "client/kvctl/npy-header.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MAGIC "\x93NUMPY"
#define MAGIC_BYTES 6
#define PREAMBLE_V1 10
#define PREAMBLE_V2 12
#define HEADER_BYTES_MAX 4096
#define ALIGNMENT 64

size_t npy_element_bytes(uint32_t dtype)
{
	return dtype == KVC_F32 ? 4 : dtype == KVC_F16 ? 2 : 0;
}

void npy_deinit(struct npy *npy)
{
	free(npy->data);
	*npy = (struct npy){ 0 };
}

/* Fills the buffer. Results: 0, -EBADMSG (the file ends before), or negative errno. */
static int read_exact(int fd, void *buffer, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t got = read(fd, (char *)buffer + done, n - done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EBADMSG;
		done += (size_t)got;
	}
	return 0;
}

static int fault(const char *words, char *reterr, size_t reterr_size)
{
	(void)snprintf(reterr, reterr_size, "%s", words);
	return -EBADMSG;
}

/* Reads magic, version and header text; leaves the position at the first element and its offset in *ret_offset. */
static int read_header(int fd, struct npy *npy, uint64_t *ret_offset, char *reterr, size_t reterr_size)
{
	uint8_t preamble[PREAMBLE_V2];
	char text[HEADER_BYTES_MAX];
	size_t preamble_bytes = PREAMBLE_V1;
	const char *words;
	uint32_t n;

	if (read_exact(fd, preamble, PREAMBLE_V1) < 0 || memcmp(preamble, MAGIC, MAGIC_BYTES) != 0)
		return fault("it is not a .npy file", reterr, reterr_size);
	if ((preamble[6] != 1 && preamble[6] != 2) || preamble[7] != 0)
		return fault("its format version is not 1.0 or 2.0", reterr, reterr_size);
	n = (uint32_t)preamble[8] | (uint32_t)preamble[9] << 8;
	if (preamble[6] == 2) {
		preamble_bytes = PREAMBLE_V2;
		if (read_exact(fd, preamble + PREAMBLE_V1, PREAMBLE_V2 - PREAMBLE_V1) < 0)
			return fault("it is cut in the header", reterr, reterr_size);
		n |= (uint32_t)preamble[10] << 16 | (uint32_t)preamble[11] << 24;
	}
	if (n > sizeof(text))
		return fault("its header is too long", reterr, reterr_size);
	if (read_exact(fd, text, n) < 0)
		return fault("it is cut in the header", reterr, reterr_size);
	words = npy_header_parse(text, n, npy);
	if (words)
		return fault(words, reterr, reterr_size);
	*ret_offset = preamble_bytes + n;
	return 0;
}

static int read_elements(int fd, struct npy *npy, uint64_t offset, char *reterr, size_t reterr_size)
{
	struct stat status;
	uint64_t bytes;
	uint64_t end;
	int r;

	if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
		return fault("it is not a regular file", reterr, reterr_size);
	if (!checked_mul_u64(npy->elements, npy_element_bytes(npy->dtype), &bytes) ||
	    !checked_add_u64(bytes, offset, &end))
		return fault("its shape is too large", reterr, reterr_size);
	if (end != (uint64_t)status.st_size)
		return fault("its size is not what its header says", reterr, reterr_size);
	npy->data = malloc(bytes);
	if (!npy->data) {
		(void)snprintf(reterr, reterr_size, "out of memory");
		return -ENOMEM;
	}
	r = read_exact(fd, npy->data, bytes);
	if (r < 0)
		(void)snprintf(reterr, reterr_size, "%s", strerror(-r));
	return r;
}

int npy_read(const char *path, struct npy *ret_npy, char *reterr, size_t reterr_size)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct npy npy = { 0 };
	uint64_t offset = 0;
	int r;

	if (fd < 0) {
		r = -errno;
		(void)snprintf(reterr, reterr_size, "%s", strerror(errno));
		return r;
	}
	r = read_header(fd, &npy, &offset, reterr, reterr_size);
	if (r == 0)
		r = read_elements(fd, &npy, offset, reterr, reterr_size);
	if (r < 0) {
		npy_deinit(&npy);
		return r;
	}
	*ret_npy = npy;
	return 0;
}

/* Preamble, dict and padding, so that elements begin at a multiple of ALIGNMENT. Returns the length. */
static size_t format_header(uint8_t *buffer, size_t size, uint32_t dtype, const uint64_t *shape, size_t n_dims)
{
	char *text = (char *)buffer + PREAMBLE_V1;
	size_t room = size - PREAMBLE_V1;
	size_t n;
	size_t total;

	n = (size_t)snprintf(text, room, "{'descr': '%s', 'fortran_order': False, 'shape': (",
			     dtype == KVC_F32 ? "<f4" : "<f2");
	for (size_t i = 0; i < n_dims; i++)
		n += (size_t)snprintf(text + n, room - n, "%" PRIu64 "%s", shape[i],
				      i + 1 < n_dims ? ", "
				      : n_dims == 1  ? ","
						     : "");
	n += (size_t)snprintf(text + n, room - n, "), }");
	total = align_up_u64(PREAMBLE_V1 + n + 1, ALIGNMENT);
	kvp_assert(total <= size);
	memset(text + n, ' ', total - PREAMBLE_V1 - n);
	buffer[total - 1] = '\n';
	memcpy(buffer, MAGIC "\x01", MAGIC_BYTES + 1);
	buffer[7] = 0;
	buffer[8] = (uint8_t)(total - PREAMBLE_V1);
	buffer[9] = (uint8_t)((total - PREAMBLE_V1) >> 8);
	return total;
}

static int write_exact(int fd, const void *bytes, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t put = write(fd, (const char *)bytes + done, n - done);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		done += (size_t)put;
	}
	return 0;
}

int npy_write(const char *path, uint32_t dtype, const uint64_t *shape, size_t n_dims, const void *data)
{
	uint8_t header[256];
	size_t header_bytes = format_header(header, sizeof(header), dtype, shape, n_dims);
	uint64_t bytes = npy_element_bytes(dtype);
	char temporary[PATH_MAX];
	_cleanup_close_ int fd = -1;
	int r;

	kvp_assert(bytes > 0 && n_dims <= NPY_DIMS_MAX);
	for (size_t i = 0; i < n_dims; i++)
		bytes *= shape[i];
	if ((size_t)snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path) >= sizeof(temporary))
		return -ENAMETOOLONG;
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = write_exact(fd, header, header_bytes);
	if (r == 0)
		r = write_exact(fd, data, bytes);
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	if (r < 0)
		(void)unlink(temporary);
	return r;
}
