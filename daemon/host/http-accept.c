/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accept: media ranges with commas between them, each with parameters after semicolons; "q" is how much it is wanted.
 * Of the two formats there are, OpenMetrics is given when it is asked for by name, in version 1.0, and wanted at least
 * as much as plain text; otherwise text, whatever the client says: a person with curl rather sees something.
 */
#include "daemon/host/http.h"

#include <string.h>
#include <strings.h>

#define Q_MAX 1000

struct reader {
	const char *p;
	const char *end;
};

static void skip_blanks(struct reader *reader)
{
	while (reader->p < reader->end && (*reader->p == ' ' || *reader->p == '\t'))
		reader->p++;
}

/* Up to one of the separators, which are not taken; without the blanks at its ends. A quoted text may hold them. */
static struct reader take_part(struct reader *reader, const char *separators)
{
	struct reader part;
	bool quoted = false;

	skip_blanks(reader);
	part.p = reader->p;
	for (; reader->p < reader->end; reader->p++) {
		char c = *reader->p;

		if (quoted && c == '\\' && reader->p + 1 < reader->end)
			reader->p++;
		else if (c == '"')
			quoted = !quoted;
		else if (!quoted && c != '\0' && strchr(separators, c))
			break;
	}
	for (part.end = reader->p; part.end > part.p && (part.end[-1] == ' ' || part.end[-1] == '\t');)
		part.end--;
	return part;
}

static bool is(struct reader part, const char *text)
{
	size_t n = strlen(text);

	return (size_t)(part.end - part.p) == n && strncasecmp(part.p, text, n) == 0;
}

/* "1", "0.5", "0.333"; anything else means: not wanted. */
static int q_of(struct reader part)
{
	size_t n = (size_t)(part.end - part.p);
	int q, scale = Q_MAX / 10;

	if (n == 0 || n > 5 || part.p[0] < '0' || part.p[0] > '1' || (n > 1 && part.p[1] != '.'))
		return 0;
	q = (part.p[0] - '0') * Q_MAX;
	for (size_t i = 2; i < n; i++, scale /= 10) {
		if (part.p[i] < '0' || part.p[i] > '9')
			return 0;
		q += (part.p[i] - '0') * scale;
	}
	return q <= Q_MAX ? q : 0;
}

struct range {
	struct reader type;
	struct reader version; /* empty: not named */
	int q;
};

static struct range take_range(struct reader *reader)
{
	struct range range = { .type = take_part(reader, ",;"), .q = Q_MAX };

	while (reader->p < reader->end && *reader->p == ';') {
		struct reader name, value = { 0 };

		reader->p++;
		name = take_part(reader, ",;=");
		if (reader->p < reader->end && *reader->p == '=') {
			reader->p++;
			value = take_part(reader, ",;");
		}
		if (is(name, "q"))
			range.q = q_of(value);
		else if (is(name, "version"))
			range.version = value;
	}
	return range;
}

static bool has_version(const struct range *range, const char *version, const char *quoted)
{
	return range->version.p == range->version.end || is(range->version, version) || is(range->version, quoted);
}

static void raise_to(int *q, int to)
{
	if (to > *q)
		*q = to;
}

void http_accept_init(struct http_accept *accept)
{
	*accept = (struct http_accept){ .openmetrics = -1, .text = { -1, -1, -1 } };
}

void http_accept_take(struct http_accept *accept, const char *value, size_t n)
{
	struct reader reader = { value, value + n };

	while (reader.p < reader.end) {
		struct range range = take_range(&reader);

		if (is(range.type, "application/openmetrics-text") && has_version(&range, "1.0.0", "\"1.0.0\""))
			raise_to(&accept->openmetrics, range.q);
		else if (is(range.type, "text/plain") && has_version(&range, "0.0.4", "\"0.0.4\""))
			raise_to(&accept->text[0], range.q);
		else if (is(range.type, "text/*"))
			raise_to(&accept->text[1], range.q);
		else if (is(range.type, "*/*"))
			raise_to(&accept->text[2], range.q);
		if (reader.p < reader.end)
			reader.p++; /* the comma */
	}
}

bool http_accept_openmetrics(const struct http_accept *accept)
{
	int text = 0;

	for (size_t i = 3; i-- > 0;)
		if (accept->text[i] >= 0)
			text = accept->text[i];
	return accept->openmetrics > 0 && accept->openmetrics >= text;
}
