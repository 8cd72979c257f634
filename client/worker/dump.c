/* SPDX-License-Identifier: Apache-2.0 */
/* Head by head from the store, whose rows are longer than what is filled. */
#include "client/worker/dump.h"

#include "base/cleanup.h"
#include "base/contract.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* "dir/Some-Model.Q4.gguf" becomes "some-model-q4". */
static void name_model(const char *model, char name[DUMP_MODEL_BYTES])
{
	const char *slash = strrchr(model, '/');
	const char *from = slash ? slash + 1 : model;
	const char *suffix = strstr(from, ".gguf");
	size_t n = suffix ? (size_t)(suffix - from) : strlen(from);

	memset(name, 0, DUMP_MODEL_BYTES);
	n = n < DUMP_MODEL_BYTES - 1 ? n : DUMP_MODEL_BYTES - 1;
	for (size_t i = 0; i < n; i++) {
		char c = from[i] >= 'A' && from[i] <= 'Z' ? (char)(from[i] - 'A' + 'a') : from[i];

		name[i] = is_letter(c) || c == '_' ? c : '-';
	}
	if (n == 0)
		name[0] = '-';
}

static void write_plane(FILE *stream, const struct kvstore *store, const float *values)
{
	size_t n = (size_t)store->n_tokens * store->head_dim;

	for (uint32_t layer = 0; layer < store->n_layers; layer++)
		for (uint32_t head = 0; head < store->n_heads; head++)
			(void)fwrite(values + kvstore_offset(store, layer, head, 0), sizeof(*values), n,
				     stream);
}

static bool write_all(FILE *stream, const char *model, const struct kvstore *store)
{
	struct dump_header header = {
		.version = DUMP_VERSION,
		.header_bytes = sizeof(header),
		.layers = store->n_layers,
		.heads = store->n_heads,
		.tokens = store->n_tokens,
		.head_dim = store->head_dim,
	};

	memcpy(header.magic, DUMP_MAGIC, DUMP_MAGIC_BYTES);
	name_model(model, header.model);
	(void)fwrite(&header, sizeof(header), 1, stream);
	write_plane(stream, store, store->k);
	write_plane(stream, store, store->v);
	return fflush(stream) == 0 && !ferror(stream);
}

/* Takes the descriptor. */
static int fill(int fd, const char *model, const struct kvstore *store, const char **ret_what)
{
	FILE *stream = fdopen(fd, "w");
	bool written;
	int error;

	*ret_what = "cannot write";
	if (!stream) {
		error = errno;
		(void)close(fd);
		return -error;
	}
	errno = 0;
	written = write_all(stream, model, store);
	error = errno;
	if (fclose(stream) != 0 && written) {
		error = errno;
		written = false;
	}
	return written ? 0 : error > 0 ? -error : -EIO;
}

/* The rename would put a file in the place of a device or a pipe. */
static bool is_taken(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 && !S_ISREG(status.st_mode);
}

int dump_write(const char *path, const char *model, const struct kvstore *store,
	       const char **ret_what)
{
	static const char ending[] = ".XXXXXX";
	size_t n = strlen(path);
	_cleanup_free_ char *scratch = malloc(n + sizeof(ending));
	int fd;
	int r;

	kvp_assert(!store->packed && store->n_tokens > 0);
	*ret_what = "it is there and no regular file";
	if (is_taken(path))
		return -EEXIST;
	*ret_what = "no memory";
	if (!scratch)
		return -ENOMEM;
	memcpy(scratch, path, n);
	memcpy(scratch + n, ending, sizeof(ending));
	*ret_what = "cannot make a file beside it";
	fd = mkostemp(scratch, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = fill(fd, model, store, ret_what);
	if (r == 0 && rename(scratch, path) < 0) {
		r = -errno;
		*ret_what = "cannot rename the file beside it";
	}
	if (r < 0)
		(void)unlink(scratch);
	return r;
}
