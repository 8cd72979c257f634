/* SPDX-License-Identifier: Apache-2.0 */
/* The header is checked, the sizes that follow from it must be the file's, and then it is read. */
#include "tests/bench/capture.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/units.h"
#include "client/worker/dump.h"
#include "tests/bench/bench.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define CAPTURE_BYTES_MAX (8 * GIB)

_Static_assert(CAPTURE_NAME_BYTES == DUMP_MODEL_BYTES, "the name is copied");

static void close_stream(FILE **stream)
{
	if (*stream)
		(void)fclose(*stream);
}

static bool name_is_good(const char name[DUMP_MODEL_BYTES])
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-_";
	size_t n = strnlen(name, DUMP_MODEL_BYTES);

	return n > 0 && n < DUMP_MODEL_BYTES && strspn(name, letters) == n;
}

/* What is wrong with the header; NULL: nothing. */
static const char *check_header(const struct dump_header *header)
{
	struct codec_layout layout;

	if (memcmp(header->magic, DUMP_MAGIC, DUMP_MAGIC_BYTES) != 0)
		return "not a file of kvworker --dump-kv";
	if (header->version != DUMP_VERSION || header->header_bytes != sizeof(*header))
		return "of a version that this program does not know";
	if (!codec_layout_of(CODEC_F32, CODEC_ROLE_K, 1, header->head_dim, &layout) ||
	    header->layers == 0 || header->heads == 0 || header->tokens == 0)
		return "of a shape that the codecs do not take";
	return name_is_good(header->model) ? NULL : "its model has no good name";
}

/* Values of K, as many as of V. Whether it is as the file's size says. */
static bool count_values(const struct dump_header *header, uint64_t file_bytes, uint64_t *ret_values)
{
	uint64_t values = header->layers;
	uint64_t bytes;

	if (!checked_mul_u64(values, header->heads, &values) ||
	    !checked_mul_u64(values, header->tokens, &values) ||
	    !checked_mul_u64(values, header->head_dim, &values) ||
	    !checked_mul_u64(values, 2 * sizeof(float), &bytes) ||
	    !checked_add_u64(bytes, sizeof(*header), &bytes) || bytes != file_bytes ||
	    bytes > CAPTURE_BYTES_MAX)
		return false;
	*ret_values = values;
	return true;
}

static int read_planes(const char *path, FILE *stream, const struct dump_header *header,
		       uint64_t values, struct capture *ret_capture)
{
	_cleanup_free_ float *k = malloc((size_t)values * sizeof(float));
	_cleanup_free_ float *v = malloc((size_t)values * sizeof(float));

	if (!k || !v)
		return bench_error("%s: out of memory", path);
	if (fread(k, sizeof(*k), (size_t)values, stream) != values ||
	    fread(v, sizeof(*v), (size_t)values, stream) != values)
		return bench_error("%s: cannot be read to its end", path);
	*ret_capture = (struct capture){
		.layers = header->layers,
		.heads = header->heads,
		.tokens = header->tokens,
		.head_dim = header->head_dim,
		.k = take_ptr(k),
		.v = take_ptr(v),
	};
	memcpy(ret_capture->name, header->model, sizeof(ret_capture->name));
	return 0;
}

int capture_read(const char *path, struct capture *ret_capture)
{
	_cleanup_(close_stream) FILE *stream = fopen(path, "re");
	struct dump_header header;
	struct stat status;
	const char *wrong;
	uint64_t values;

	if (!stream || fstat(fileno(stream), &status) < 0)
		return bench_error("%s: %s", path, strerror(errno));
	if (!S_ISREG(status.st_mode))
		return bench_error("%s: not a regular file", path);
	if (fread(&header, sizeof(header), 1, stream) != 1)
		return bench_error("%s: shorter than a header", path);
	wrong = check_header(&header);
	if (wrong)
		return bench_error("%s: %s", path, wrong);
	if (!count_values(&header, (uint64_t)status.st_size, &values))
		return bench_error("%s: its size is not what its header says, or above %d GiB", path,
				   (int)(CAPTURE_BYTES_MAX / GIB));
	return read_planes(path, stream, &header, values, ret_capture);
}

void capture_done(struct capture *capture)
{
	free(capture->k);
	free(capture->v);
	*capture = (struct capture){ 0 };
}
