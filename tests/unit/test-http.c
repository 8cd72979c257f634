/* SPDX-License-Identifier: Apache-2.0 */
/* The parser of requests: what it takes, the status of each refusal, limits to the byte, and any division of input. */
#include "tests/lib/harness.h"

#include "daemon/host/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define HOST "Host: x\r\n"

static char buffer[4 * HTTP_REQUEST_BYTES_MAX];

static enum http_result parse(const char *text, struct http_parser *ret_parser)
{
	*ret_parser = (struct http_parser){ 0 };
	return http_parse(ret_parser, text, strlen(text));
}

/* 0: it is taken; 1: more is wanted; otherwise the status that refuses it. */
static unsigned outcome(const char *text)
{
	struct http_parser parser;

	switch (parse(text, &parser)) {
	case HTTP_MORE:
		return 1;
	case HTTP_DONE:
		assert_int_equal(parser.n, strlen(text));
		return 0;
	default:
		return parser.status;
	}
}

struct expected {
	const char *text;
	unsigned outcome;
};

static void check(const struct expected *cases, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (outcome(cases[i].text) != cases[i].outcome)
			fail_msg("%u instead of %u for: %s", outcome(cases[i].text), cases[i].outcome, cases[i].text);
}

static void test_request_lines(void **state)
{
	static const struct expected cases[] = {
		{ "GET / HTTP/1.0\r\n\r\n", 0 },
		{ "GET / HTTP/1.0\n\n", 0 },
		{ "\r\nGET / HTTP/1.0\r\n\r\n", 0 },
		{ "HEAD /x?y=z HTTP/1.0\r\n\r\n", 0 },
		{ "GET http://x/y HTTP/1.0\r\n\r\n", 0 },
		{ "", 1 },
		{ "\r\n", 1 },
		{ "GET / HTTP/1.0", 1 },
		{ "GET / HTTP/1.0\r\n", 1 },
		{ "GET / HTTP/1.0\r\n\r", 1 },
		{ "\r\n\r\nGET / HTTP/1.0\r\n\r\n", 400 },
		{ "GET /\r\n\r\n", 400 },
		{ "GET  / HTTP/1.0\r\n\r\n", 400 },
		{ "GET / HTTP/1.0 \r\n\r\n", 400 },
		{ "GET / x HTTP/1.0\r\n\r\n", 400 },
		{ " GET / HTTP/1.0\r\n\r\n", 400 },
		{ "GET\t/ HTTP/1.0\r\n\r\n", 400 },
		{ "GET x HTTP/1.0\r\n\r\n", 400 },
		{ "GET * HTTP/1.0\r\n\r\n", 400 },
		{ "GET ftp://x/ HTTP/1.0\r\n\r\n", 400 },
		{ "GET /\x01 HTTP/1.0\r\n\r\n", 400 },
		{ "GET /\xc3\xa9 HTTP/1.0\r\n\r\n", 400 },
		{ "GET /\r HTTP/1.0\r\n\r\n", 400 },
		{ "G@T / HTTP/1.0\r\n\r\n", 400 },
		{ "GET / HTTP/1\r\n\r\n", 400 },
		{ "GET / http/1.0\r\n\r\n", 400 },
		{ "GET / HTTP/1.0\r\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\n", 405 },
		{ "get / HTTP/1.1\r\n", 405 },
		{ "OPTIONS * HTTP/1.1\r\n", 405 },
		{ "CONNECT x:1 HTTP/1.1\r\n", 405 },
		{ "GET / HTTP/1.2\r\n", 505 },
		{ "GET / HTTP/2.0\r\n", 505 },
		{ "PRI * HTTP/2.0\r\n", 505 },
		{ "GET / HTTP/0.9\r\n", 505 },
	};

	check(cases, COUNT(cases));
}

static void test_headers(void **state)
{
	static const struct expected cases[] = {
		{ "GET / HTTP/1.1\r\n" HOST "\r\n", 0 },
		{ "GET / HTTP/1.1\r\nhOsT:\r\n\r\n", 0 },
		{ "GET / HTTP/1.1\r\n" HOST "X:\t a\tb \xff \r\n\r\n", 0 },
		{ "GET / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 0 },
		{ "GET / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n\r\n", 0 },
		{ "GET / HTTP/1.1\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" HOST HOST "\r\n", 400 },
		{ "GET / HTTP/1.0\r\n" HOST HOST "\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" HOST "X\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" HOST "X : y\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" HOST ": y\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" HOST "X: y\r\n folded\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" HOST "X: a\rb\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" HOST "X: a\x01\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" HOST "X: a\x7f\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" HOST "Content-Length: 1\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" HOST "Content-Length: \r\n", 400 },
		{ "GET / HTTP/1.1\r\n" HOST "Content-Length: -0\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" HOST "Content-Length: 0, 0\r\n", 400 },
		{ "GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n", 400 },
		{ "GET / HTTP/1.0\r\n" HOST "transfer-encoding: identity\r\n", 400 },
	};

	check(cases, COUNT(cases));
}

static void test_nul_bytes(void **state)
{
	static const char texts[][40] = { "G\0T / HTTP/1.0\r\n\r\n", "GET /\0 HTTP/1.0\r\n\r\n",
					  "GET / HTTP/1.0\r\nX\0: y\r\n\r\n", "GET / HTTP/1.0\r\nX: \0\r\n\r\n" };

	for (size_t i = 0; i < COUNT(texts); i++) {
		struct http_parser parser = { 0 };

		assert_int_equal(http_parse(&parser, texts[i], sizeof(texts[i])), HTTP_REFUSED);
		assert_int_equal(parser.status, 400);
	}
}

static void assert_path(const char *target, const char *path)
{
	struct http_parser parser;

	(void)snprintf(buffer, sizeof(buffer), "GET %s HTTP/1.0\r\n\r\n", target);
	assert_int_equal(parse(buffer, &parser), HTTP_DONE);
	assert_int_equal(parser.request.path_bytes, strlen(path));
	assert_memory_equal(buffer + parser.request.path, path, strlen(path));
}

static void test_paths(void **state)
{
	assert_path("/", "/");
	assert_path("/metrics", "/metrics");
	assert_path("/metrics?name[]=x?/y", "/metrics");
	assert_path("/?", "/");
	assert_path("HTTP://h:1/metrics?q", "/metrics");
	assert_path("http://h", "/");
	assert_path("http://h?/x", "/");
	assert_path("http://", "/");
	assert_path("//metrics", "//metrics");
}

static bool keeps(const char *version, const char *header)
{
	struct http_parser parser;

	(void)snprintf(buffer, sizeof(buffer), "GET / HTTP/%s\r\n" HOST "%s\r\n", version, header);
	assert_int_equal(parse(buffer, &parser), HTTP_DONE);
	return parser.request.keep_alive;
}

static void test_keep_alive(void **state)
{
	assert_true(keeps("1.1", ""));
	assert_false(keeps("1.0", ""));
	assert_false(keeps("1.1", "Connection: close\r\n"));
	assert_false(keeps("1.1", "Connection: x ,\tCLOSE\r\n"));
	assert_true(keeps("1.1", "Connection: closed\r\n"));
	assert_true(keeps("1.0", "Connection: Keep-Alive\r\n"));
	assert_false(keeps("1.0", "Connection: close, keep-alive\r\n"));
	assert_false(keeps("1.1", "Connection: close\r\nConnection: keep-alive\r\n"));
}

static void test_head(void **state)
{
	struct http_parser parser;

	assert_int_equal(parse("HEAD / HTTP/1.0\r\n\r\n", &parser), HTTP_DONE);
	assert_true(parser.request.head);
	assert_int_equal(parse("GET / HTTP/1.0\r\n\r\n", &parser), HTTP_DONE);
	assert_false(parser.request.head);
}

/* --- Limits ---------------------------------------------------------------------------- */

/* A request line of so many bytes with its end. */
static const char *long_line(size_t n)
{
	static const char before[] = "GET /", after[] = " HTTP/1.0\r\n\r\n";
	size_t fill = n + 2 - (sizeof(before) - 1) - (sizeof(after) - 1);

	memset(buffer, 'x', sizeof(buffer));
	memcpy(buffer, before, sizeof(before) - 1);
	memcpy(buffer + sizeof(before) - 1 + fill, after, sizeof(after));
	return buffer;
}

/* Headers of so many bytes with the empty line. */
static const char *long_headers(size_t n)
{
	static const char before[] = "GET / HTTP/1.0\r\nX: ", after[] = "\r\n\r\n";
	size_t fill = n - strlen("X: ") - (sizeof(after) - 1);

	memset(buffer, 'x', sizeof(buffer));
	memcpy(buffer, before, sizeof(before) - 1);
	memcpy(buffer + sizeof(before) - 1 + fill, after, sizeof(after));
	return buffer;
}

static void test_sizes(void **state)
{
	assert_int_equal(outcome(long_line(HTTP_LINE_BYTES_MAX)), 0);
	assert_int_equal(outcome(long_line(HTTP_LINE_BYTES_MAX + 1)), 414);
	assert_int_equal(outcome(long_headers(HTTP_HEADERS_BYTES_MAX)), 0);
	assert_int_equal(outcome(long_headers(HTTP_HEADERS_BYTES_MAX + 1)), 431);
}

static void test_number_of_headers(void **state)
{
	for (unsigned n = HTTP_HEADERS_MAX; n <= HTTP_HEADERS_MAX + 1; n++) {
		size_t at = (size_t)snprintf(buffer, sizeof(buffer), "GET / HTTP/1.0\r\n");

		for (unsigned i = 0; i < n; i++)
			at += (size_t)snprintf(buffer + at, sizeof(buffer) - at, "X: y\r\n");
		(void)snprintf(buffer + at, sizeof(buffer) - at, "\r\n");
		assert_int_equal(outcome(buffer), n > HTTP_HEADERS_MAX ? 431 : 0);
	}
}

/* Whoever has HTTP_REQUEST_BYTES_MAX bytes need not wait: without any line end, and with as many as come late. */
static void test_never_more_than_fits(void **state)
{
	static const char *const begins[] = { "", "\r\n", "GET /", "\r\nGET / HTTP/1.1\r\n",
					      "GET / HTTP/1.1\r\nX: y\r\n" };

	for (size_t i = 0; i < COUNT(begins); i++) {
		struct http_parser parser = { 0 };
		size_t n = strlen(begins[i]);

		memset(buffer, 'x', HTTP_REQUEST_BYTES_MAX);
		memcpy(buffer, begins[i], n);
		while (n < HTTP_REQUEST_BYTES_MAX && http_parse(&parser, buffer, n) == HTTP_MORE)
			n++;
		assert_int_equal(http_parse(&parser, buffer, n), HTTP_REFUSED);
		assert_true(parser.status == 414 || parser.status == 431);
	}
}

/* --- Divisions ------------------------------------------------------------------------- */

static void test_any_division(void **state)
{
	static const char text[] = "\r\nGET /metrics?x HTTP/1.1\r\n" HOST
				   "Accept: application/openmetrics-text\r\nConnection: close\r\n\r\nGET / HTTP";
	struct http_parser whole = { 0 };
	size_t n = sizeof(text) - 1;

	assert_int_equal(http_parse(&whole, text, n), HTTP_DONE);
	assert_int_equal(whole.n, n - strlen("GET / HTTP"));
	for (size_t first = 0; first <= n; first++) {
		struct http_parser parser = { 0 };

		for (size_t i = first; i < whole.n; i++)
			assert_int_equal(http_parse(&parser, text, i), HTTP_MORE);
		assert_int_equal(http_parse(&parser, text, n), HTTP_DONE);
		assert_int_equal(parser.n, whole.n);
		assert_int_equal(parser.request.path, whole.request.path);
		assert_int_equal(parser.request.path_bytes, strlen("/metrics"));
		assert_false(parser.request.keep_alive);
		assert_true(http_accept_openmetrics(&parser.request.accept));
		assert_int_equal(http_parse(&parser, text, n), HTTP_DONE); /* it stays so */
	}
}

/* --- Accept ---------------------------------------------------------------------------- */

static bool openmetrics(const char *value)
{
	struct http_accept accept;

	http_accept_init(&accept);
	http_accept_take(&accept, value, strlen(value));
	return http_accept_openmetrics(&accept);
}

static void test_accept(void **state)
{
	assert_true(openmetrics("application/openmetrics-text"));
	assert_true(openmetrics("Application/OpenMetrics-Text ; version=1.0.0 ; charset=utf-8"));
	assert_true(openmetrics("application/openmetrics-text;version=\"1.0.0\""));
	/* What Prometheus 2.42 and 2.53 send. */
	assert_true(openmetrics("application/openmetrics-text;version=1.0.0,"
				"application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,"
				"*/*;q=0.1"));
	assert_true(openmetrics("application/openmetrics-text;version=1.0.0;q=0.5,"
				"application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,"
				"*/*;q=0.2"));
	assert_true(openmetrics("*/*;q=1, text/plain;q=0.2, application/openmetrics-text;q=0.3"));
	assert_true(openmetrics("x/y;a=\", text/plain;q=1\" , application/openmetrics-text;q=0.001"));

	assert_false(openmetrics(""));
	assert_false(openmetrics("*/*"));
	assert_false(openmetrics("text/plain"));
	assert_false(openmetrics("application/openmetrics-text;version=0.0.1"));
	assert_false(openmetrics("application/openmetrics-text;version=2.0.0"));
	assert_false(openmetrics("application/openmetrics-text;q=0"));
	assert_false(openmetrics("application/openmetrics-text;q=0.000"));
	assert_false(openmetrics("application/openmetrics-text;q=2"));
	assert_false(openmetrics("application/openmetrics-text;q=-1"));
	assert_false(openmetrics("application/openmetrics-text;q=0.5,text/plain"));
	assert_false(openmetrics("application/openmetrics-text;q=0.5,text/*;q=0.6"));
	assert_false(openmetrics("application/openmetrics-text;q=0.5,*/*"));
	assert_false(openmetrics("application/openmetrics-textual"));
	assert_false(openmetrics("application/json, \"application/openmetrics-text"));
	assert_false(openmetrics(",,;;==,;,\"\\"));
}

/* --- Answers --------------------------------------------------------------------------- */

static void test_response(void **state)
{
	struct http_response response = { .status = 405, .type = "text/plain", .body_bytes = 12, .close = true,
					  .date = 784111777 };
	char head[HTTP_RESPONSE_HEAD_BYTES_MAX];
	size_t n = http_response_head(&response, head);

	assert_int_equal(n, strlen(head));
	assert_string_equal(head, "HTTP/1.1 405 Method Not Allowed\r\n"
				  "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
				  "Content-Type: text/plain\r\n"
				  "Content-Length: 12\r\n"
				  "Cache-Control: no-store\r\n"
				  "X-Content-Type-Options: nosniff\r\n"
				  "Allow: GET, HEAD\r\n"
				  "Connection: close\r\n"
				  "\r\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request_lines),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_nul_bytes),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_keep_alive),
		cmocka_unit_test(test_head),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_number_of_headers),
		cmocka_unit_test(test_never_more_than_fits),
		cmocka_unit_test(test_any_division),
		cmocka_unit_test(test_accept),
		cmocka_unit_test(test_response),
	};

	return harness_run(tests, COUNT(tests));
}
