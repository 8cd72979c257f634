/* SPDX-License-Identifier: Apache-2.0 */
/* A growing buffer and how much of it has been written. */
#include "client/worker/textout.h"

#include "client/worker/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int write_up_to(struct textout *out, size_t end)
{
	size_t n = end > out->n_written ? end - out->n_written : 0;

	if (!out->stream || n == 0)
		return 0;
	if (fwrite(out->text + out->n_written, 1, n, out->stream) != n || fflush(out->stream) != 0)
		return -EIO;
	out->n_written = end;
	return 0;
}

int textout_push(struct textout *out, const void *bytes, size_t n)
{
	if (n == 0)
		return 0;
	if (out->n + n > out->capacity) {
		size_t capacity = 2 * (out->n + n);
		char *text = realloc(out->text, capacity);

		if (!text)
			return -ENOMEM;
		out->text = text;
		out->capacity = capacity;
	}
	memcpy(out->text + out->n, bytes, n);
	out->n += n;
	return write_up_to(out, out->n - utf8_incomplete_tail((const uint8_t *)out->text, out->n));
}

int textout_finish(struct textout *out)
{
	return write_up_to(out, out->n);
}

void textout_done(struct textout *out)
{
	free(out->text);
	*out = (struct textout){ .stream = out->stream };
}
