/* SPDX-License-Identifier: Apache-2.0 */
/* One cursor over the bytes; each take_* moves it past what it expects, or leaves it and says no. */
#include "client/kvctl/npy-header.h"

#include "base/checked.h"
#include "client/kvclient.h"

#include <stdbool.h>
#include <string.h>

struct cursor {
	const char *at;
	const char *end;
};

static void skip_blanks(struct cursor *cursor)
{
	while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\n'))
		cursor->at++;
}

static bool take(struct cursor *cursor, const char *word)
{
	size_t n = strlen(word);

	skip_blanks(cursor);
	if ((size_t)(cursor->end - cursor->at) < n || memcmp(cursor->at, word, n) != 0)
		return false;
	cursor->at += n;
	return true;
}

static bool take_number(struct cursor *cursor, uint64_t *ret_value)
{
	uint64_t value = 0;
	const char *start;

	skip_blanks(cursor);
	start = cursor->at;
	for (; cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9'; cursor->at++)
		if (!checked_mul_u64(value, 10, &value) ||
		    !checked_add_u64(value, (uint64_t)(*cursor->at - '0'), &value))
			return false;
	*ret_value = value;
	return cursor->at != start;
}

static const char *parse_descr(struct cursor *cursor, struct npy *npy)
{
	if (take(cursor, "'<f4'"))
		npy->dtype = KVC_F32;
	else if (take(cursor, "'<f2'"))
		npy->dtype = KVC_F16;
	else
		return "its type is not little-endian float32 ('<f4') or float16 ('<f2')";
	return NULL;
}

static const char *parse_order(struct cursor *cursor, struct npy *npy)
{
	(void)npy;
	if (take(cursor, "False"))
		return NULL;
	return take(cursor, "True") ? "it is in Fortran order" : "its header has a bad 'fortran_order'";
}

static const char *parse_shape(struct cursor *cursor, struct npy *npy)
{
	uint64_t elements = 1;
	bool comma = true;

	if (!take(cursor, "("))
		return "its header has a bad 'shape'";
	while (!take(cursor, ")")) {
		uint64_t extent;

		if (!comma || !take_number(cursor, &extent))
			return "its header has a bad 'shape'";
		if (npy->n_dims == NPY_DIMS_MAX)
			return "it has more than 4 dimensions";
		if (extent == 0)
			return "it is empty";
		if (!checked_mul_u64(elements, extent, &elements))
			return "its shape is too large";
		npy->shape[npy->n_dims++] = extent;
		comma = take(cursor, ",");
	}
	if (npy->n_dims == 0)
		return "it has no dimensions";
	npy->elements = elements;
	return NULL;
}

const char *npy_header_parse(const char *text, size_t n, struct npy *npy)
{
	static const struct {
		const char *name;
		const char *(*parse)(struct cursor *cursor, struct npy *npy);
	} entries[] = {
		{ "'descr'", parse_descr },
		{ "'fortran_order'", parse_order },
		{ "'shape'", parse_shape },
	};
	struct cursor cursor = { .at = text, .end = text + n };
	bool seen[3] = { false, false, false };

	if (!take(&cursor, "{"))
		return "its header is not a dict";
	while (!take(&cursor, "}")) {
		const char *fault;
		size_t i = 0;

		while (i < 3 && !take(&cursor, entries[i].name))
			i++;
		if (i == 3 || seen[i] || !take(&cursor, ":"))
			return "its header has an unknown or repeated entry";
		seen[i] = true;
		fault = entries[i].parse(&cursor, npy);
		if (fault)
			return fault;
		if (!take(&cursor, ",") && (cursor.at == cursor.end || *cursor.at != '}'))
			return "its header is malformed";
	}
	skip_blanks(&cursor);
	if (cursor.at != cursor.end)
		return "its header is malformed";
	return seen[0] && seen[1] && seen[2] ? NULL : "its header lacks an entry";
}
