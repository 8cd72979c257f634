/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a stream of HTTP requests, whole and in pieces: both must end alike, at the same byte, and what is taken
 * must be within the bytes and the limits. The same bytes as the value of an Accept header.
 *
 * Input: two bytes (the length of the pieces, whether a request line is put in front), then the stream.
 */
#include "daemon/host/http.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/contract.h"

#define HEADER_BYTES 2

static const char line[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n";

static void check_done(const struct http_parser *parser, const char *bytes, size_t n)
{
	const struct http_request *request = &parser->request;

	kvp_assert(parser->n > 0 && parser->n <= n && parser->n <= HTTP_REQUEST_BYTES_MAX);
	kvp_assert(bytes[parser->n - 1] == '\n');
	kvp_assert(request->path_bytes > 0 && request->path + request->path_bytes < parser->n);
	kvp_assert(bytes[request->path] == '/');
	(void)http_accept_openmetrics(&request->accept);
}

static void check_refused(const struct http_parser *parser)
{
	struct http_response response = { .status = parser->status, .type = "text/plain" };
	char head[HTTP_RESPONSE_HEAD_BYTES_MAX];

	kvp_assert(parser->status == 400 || parser->status == 405 || parser->status == 414 || parser->status == 431 ||
		   parser->status == 505);
	kvp_assert(http_response_head(&response, head) > 0);
}

/* As much of the input as one request is; 0: that was the last. */
static size_t take_request(const char *bytes, size_t n, size_t step)
{
	struct http_parser whole = { 0 }, pieces = { 0 };
	enum http_result result = http_parse(&whole, bytes, n), got = HTTP_MORE;

	for (size_t have = 0; got == HTTP_MORE && have < n;) {
		/* A copy whose end is the end of its memory: for the sanitizer. */
		_cleanup_free_ char *copy = NULL;

		have = n - have > step ? have + step : n;
		copy = malloc(have);
		kvp_assert(copy);
		memcpy(copy, bytes, have);
		got = http_parse(&pieces, copy, have);
		kvp_assert(got != HTTP_MORE || have < HTTP_REQUEST_BYTES_MAX);
	}
	kvp_assert(got == result && pieces.status == whole.status);
	if (result == HTTP_REFUSED)
		check_refused(&whole);
	if (result != HTTP_DONE)
		return 0;
	check_done(&whole, bytes, n);
	kvp_assert(pieces.n == whole.n && pieces.request.path == whole.request.path &&
		   pieces.request.path_bytes == whole.request.path_bytes &&
		   pieces.request.head == whole.request.head && pieces.request.keep_alive == whole.request.keep_alive &&
		   http_accept_openmetrics(&pieces.request.accept) == http_accept_openmetrics(&whole.request.accept));
	return whole.n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *bytes = NULL;
	size_t begin, used, n;
	struct http_accept accept;

	if (size < HEADER_BYTES)
		return 0;
	begin = data[1] & 1 ? sizeof(line) - 1 : 0;
	n = begin + size - HEADER_BYTES;
	bytes = malloc(n + 1);
	kvp_assert(bytes);
	memcpy(bytes, line, begin);
	memcpy(bytes + begin, data + HEADER_BYTES, size - HEADER_BYTES);
	http_accept_init(&accept);
	http_accept_take(&accept, (const char *)data, size);
	(void)http_accept_openmetrics(&accept);
	for (size_t at = 0; (used = take_request(bytes + at, n - at, data[0] + 1u)) > 0;)
		at += used;
	return 0;
}
