/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Generated text: collected whole, and written to a stream as it comes, but never a part of a
 * character: bytes at the end that begin one are held back until the rest is there.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct textout {
	FILE *stream; /* NULL: only collected */
	char *text;
	size_t n;
	size_t capacity;
	size_t n_written;
};

/* Appends bytes and writes what is whole. Results: 0, -ENOMEM, -EIO when the stream failed. */
int textout_push(struct textout *out, const void *bytes, size_t n);

/* Writes what was held back. Results: 0, -EIO. */
int textout_finish(struct textout *out);

/* Frees the text; the stream is the caller's. */
void textout_done(struct textout *out);
