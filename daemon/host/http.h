/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much of HTTP/1.0 and 1.1 as a scrape needs, without I/O: bytes in, a request or the status that refuses it out.
 *
 *	struct http_parser parser = { 0 };
 *	... each time that bytes came:
 *	switch (http_parse(&parser, bytes, n)) ...
 *
 * Only GET and HEAD, without a body. A line may end with LF alone, and one empty line may precede the request; all else
 * is as strict as RFC 9112 allows to be. Refusals:
 *
 *	400  not HTTP; a header that is none; HTTP/1.1 without exactly one Host; anything that announces a body
 *	405  another method
 *	414  a request line above HTTP_LINE_BYTES_MAX
 *	431  headers above HTTP_HEADERS_BYTES_MAX, or more than HTTP_HEADERS_MAX
 *	505  another version
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define HTTP_LINE_BYTES_MAX 1024
#define HTTP_HEADERS_BYTES_MAX 8192
#define HTTP_HEADERS_MAX 64

/* Whoever has so many bytes of one request never has to wait for more. */
#define HTTP_REQUEST_BYTES_MAX (2 + HTTP_LINE_BYTES_MAX + HTTP_HEADERS_BYTES_MAX)

/* What the client would rather have, in thousandths (RFC 9110's q); negative: not named. */
struct http_accept {
	int openmetrics;
	int text[3]; /* as text/plain, as text/ *, as any type: the first that is named counts */
};

struct http_request {
	bool head;       /* HEAD: the answer has no body */
	bool keep_alive; /* the client takes further answers on this connection */
	size_t path;     /* where it begins in the bytes, and its length; without a query */
	size_t path_bytes;
	struct http_accept accept;
};

enum http_result { HTTP_MORE, HTTP_DONE, HTTP_REFUSED };

/* All zero at a request's begin. */
struct http_parser {
	struct http_request request; /* HTTP_DONE: what was asked for */
	unsigned status;             /* HTTP_REFUSED: 400, ... */
	size_t n;                    /* HTTP_DONE: bytes of the request; what follows belongs to the next */

	/* The parser's own. */
	size_t line;    /* where the line that is not whole begins */
	size_t scanned; /* how far its end was looked for */
	size_t headers_begin;
	unsigned headers;
	unsigned hosts;
	bool begun; /* the request line was read */
	bool blank; /* an empty line came before it */
	bool minor; /* HTTP/1.1 */
	bool closes; /* the client said so, whatever else it says */
	bool done;
};

/*
 * Takes bytes[0..n), everything that has come since the request's begin: the same bytes as the last time and further
 * ones. Looks at each byte a bounded number of times, however they come.
 */
enum http_result http_parse(struct http_parser *parser, const char *bytes, size_t n);

/* Takes one value of an Accept header; what is malformed in it is passed over. http_accept_init() comes first. */
void http_accept_init(struct http_accept *accept);
void http_accept_take(struct http_accept *accept, const char *value, size_t n);

/* Whether OpenMetrics 1.0 is wanted, at least as much as plain text. */
bool http_accept_openmetrics(const struct http_accept *accept);

#define HTTP_RESPONSE_HEAD_BYTES_MAX 512

struct http_response {
	unsigned status;
	const char *type; /* of the body */
	size_t body_bytes;
	bool close; /* the connection ends with it */
	time_t date;
};

/* Writes the head of an answer into the buffer. Returns its length. */
size_t http_response_head(const struct http_response *response, char buffer[HTTP_RESPONSE_HEAD_BYTES_MAX]);

/* "Not Found". Static. */
const char *http_reason(unsigned status);
