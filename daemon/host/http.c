/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Line by line: each line is looked for once and read once, when it is whole. A refusal is final; nothing after it is
 * read, because where the next request would begin is not known.
 */
#include "daemon/host/http.h"

#include "base/contract.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

struct span {
	const char *p;
	size_t n;
};

static bool is_token_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(struct span span)
{
	for (size_t i = 0; i < span.n; i++)
		if (!is_token_char(span.p[i]))
			return false;
	return span.n > 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct span trim(struct span span)
{
	for (; span.n > 0 && is_blank(span.p[0]); span.n--)
		span.p++;
	while (span.n > 0 && is_blank(span.p[span.n - 1]))
		span.n--;
	return span;
}

static bool equals(struct span span, const char *text)
{
	return span.n == strlen(text) && memcmp(span.p, text, span.n) == 0;
}

/* Names, schemes and the like: case does not count. */
static bool equals_any_case(struct span span, const char *text)
{
	return span.n == strlen(text) && strncasecmp(span.p, text, span.n) == 0;
}

/* What stands before the separator; *rest is what follows it, of length 0 and NULL where there is none. */
static struct span split(struct span span, char separator, struct span *rest)
{
	const char *at = span.n > 0 ? memchr(span.p, separator, span.n) : NULL;
	size_t n = at ? (size_t)(at - span.p) : span.n;

	*rest = at ? (struct span){ at + 1, span.n - n - 1 } : (struct span){ NULL, 0 };
	return (struct span){ span.p, n };
}

static void refuse(struct http_parser *parser, unsigned status)
{
	if (parser->status == 0)
		parser->status = status;
}

/* --- The request line ------------------------------------------------------------------ */

static bool is_version(struct span span)
{
	return span.n == 8 && memcmp(span.p, "HTTP/", 5) == 0 && span.p[5] >= '0' && span.p[5] <= '9' &&
	       span.p[6] == '.' && span.p[7] >= '0' && span.p[7] <= '9';
}

static bool is_printable(struct span span)
{
	for (size_t i = 0; i < span.n; i++)
		if (span.p[i] <= ' ' || span.p[i] > '~')
			return false;
	return span.n > 0;
}

/* The path of a target, as in "/path?query" or in "http://host/path?query". Empty: neither of them. */
static struct span path_of(struct span target)
{
	static const char scheme[] = "http://";
	struct span query;
	const char *slash;

	if (target.n >= sizeof(scheme) - 1 && strncasecmp(target.p, scheme, sizeof(scheme) - 1) == 0) {
		target.p += sizeof(scheme) - 1;
		target.n -= sizeof(scheme) - 1;
		target = split(target, '?', &query);
		slash = memchr(target.p, '/', target.n);
		/* Without a path it is the root: the scheme's last slash stands for it. */
		return slash ? (struct span){ slash, (size_t)(target.p + target.n - slash) } :
			       (struct span){ target.p - 1, 1 };
	}
	if (target.n == 0 || target.p[0] != '/')
		return (struct span){ NULL, 0 };
	return split(target, '?', &query);
}

static void take_request_line(struct http_parser *parser, const char *bytes, struct span line)
{
	struct span rest, method = split(line, ' ', &rest);
	struct span version, target = split(rest, ' ', &version);
	struct span path;

	if (!is_token(method) || !is_printable(target) || !is_version(version)) {
		refuse(parser, 400);
		return;
	}
	path = path_of(target);
	if (version.p[5] != '1' || version.p[7] > '1')
		refuse(parser, 505);
	else if (!equals(method, "GET") && !equals(method, "HEAD"))
		refuse(parser, 405);
	else if (path.n == 0)
		refuse(parser, 400);
	if (parser->status != 0)
		return;
	parser->begun = true;
	parser->minor = version.p[7] == '1';
	parser->request = (struct http_request){ .head = method.n == 4, .keep_alive = parser->minor };
	http_accept_init(&parser->request.accept);
	parser->request.path = (size_t)(path.p - bytes);
	parser->request.path_bytes = path.n;
}

/* --- Headers --------------------------------------------------------------------------- */

static bool is_value(struct span span)
{
	for (size_t i = 0; i < span.n; i++)
		if (((unsigned char)span.p[i] < ' ' && span.p[i] != '\t') || span.p[i] == 0x7f)
			return false;
	return true;
}

static void take_connection(struct http_parser *parser, struct span value)
{
	while (value.n > 0) {
		struct span rest, option = trim(split(value, ',', &rest));

		if (equals_any_case(option, "close"))
			parser->closes = true;
		else if (equals_any_case(option, "keep-alive"))
			parser->request.keep_alive = true;
		value = rest;
	}
}

/* "0", which announces nothing, is fine. */
static bool is_zero(struct span span)
{
	for (size_t i = 0; i < span.n; i++)
		if (span.p[i] != '0')
			return false;
	return span.n > 0;
}

static void take_header(struct http_parser *parser, struct span line)
{
	struct span value, name = split(line, ':', &value);

	if (++parser->headers > HTTP_HEADERS_MAX) {
		refuse(parser, 431);
		return;
	}
	value = trim(value);
	/* A line without a colon, one that continues the line before, and blanks before the colon are no tokens. */
	if (!is_token(name) || name.n == line.n || !is_value(value))
		refuse(parser, 400);
	else if (equals_any_case(name, "host"))
		parser->hosts++;
	else if (equals_any_case(name, "connection"))
		take_connection(parser, value);
	else if (equals_any_case(name, "accept"))
		http_accept_take(&parser->request.accept, value.p, value.n);
	else if (equals_any_case(name, "transfer-encoding") ||
		 (equals_any_case(name, "content-length") && !is_zero(value)))
		refuse(parser, 400);
}

static void take_end(struct http_parser *parser)
{
	if (parser->hosts > 1 || (parser->hosts == 0 && parser->minor))
		refuse(parser, 400);
	if (parser->closes)
		parser->request.keep_alive = false;
	parser->done = true;
	parser->n = parser->scanned;
}

/* --- Lines ----------------------------------------------------------------------------- */

static void take_line(struct http_parser *parser, const char *bytes, struct span line)
{
	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	if (!parser->begun && line.n == 0 && !parser->blank)
		parser->blank = true;
	else if (!parser->begun)
		take_request_line(parser, bytes, line);
	else if (line.n == 0)
		take_end(parser);
	else
		take_header(parser, line);
}

/* Up to end there is a line, or the part of one that has come: it needs at least one more byte. */
static void check_size(struct http_parser *parser, size_t end, bool whole)
{
	if (!whole)
		end++;
	if (!parser->begun && end - parser->line > HTTP_LINE_BYTES_MAX)
		refuse(parser, 414);
	else if (parser->begun && end - parser->headers_begin > HTTP_HEADERS_BYTES_MAX)
		refuse(parser, 431);
}

enum http_result http_parse(struct http_parser *parser, const char *bytes, size_t n)
{
	while (parser->status == 0 && !parser->done) {
		const char *newline = n > parser->scanned ?
					      memchr(bytes + parser->scanned, '\n', n - parser->scanned) : NULL;
		bool was_begun = parser->begun;

		parser->scanned = newline ? (size_t)(newline - bytes) + 1 : n;
		check_size(parser, parser->scanned, newline != NULL);
		if (parser->status != 0)
			break;
		if (!newline)
			return HTTP_MORE;
		take_line(parser, bytes,
			  (struct span){ bytes + parser->line, (size_t)(newline - bytes) - parser->line });
		parser->line = parser->scanned;
		if (!was_begun)
			parser->headers_begin = parser->scanned;
	}
	return parser->status != 0 ? HTTP_REFUSED : HTTP_DONE;
}

/* --- Answers --------------------------------------------------------------------------- */

const char *http_reason(unsigned status)
{
	switch (status) {
	case 200:
		return "OK";
	case 400:
		return "Bad Request";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 408:
		return "Request Timeout";
	case 414:
		return "URI Too Long";
	case 431:
		return "Request Header Fields Too Large";
	case 500:
		return "Internal Server Error";
	case 503:
		return "Service Unavailable";
	case 505:
		return "HTTP Version Not Supported";
	default:
		return "Unknown";
	}
}

size_t http_response_head(const struct http_response *response, char buffer[HTTP_RESPONSE_HEAD_BYTES_MAX])
{
	char date[64] = "";
	struct tm tm;
	int n;

	/* The daemon never leaves the C locale, so the names of days and months are those of HTTP. */
	if (gmtime_r(&response->date, &tm))
		(void)strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	n = snprintf(buffer, HTTP_RESPONSE_HEAD_BYTES_MAX,
		     "HTTP/1.1 %u %s\r\n"
		     "Date: %s\r\n"
		     "Content-Type: %s\r\n"
		     "Content-Length: %zu\r\n"
		     "Cache-Control: no-store\r\n"
		     "X-Content-Type-Options: nosniff\r\n"
		     "%s"
		     "Connection: %s\r\n"
		     "\r\n",
		     response->status, http_reason(response->status), date, response->type, response->body_bytes,
		     response->status == 405 ? "Allow: GET, HEAD\r\n" : "", response->close ? "close" : "keep-alive");
	kvp_assert(n > 0 && n < HTTP_RESPONSE_HEAD_BYTES_MAX);
	return (size_t)n;
}
