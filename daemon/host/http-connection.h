/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection of the metrics server. Its life:
 *
 *   READING -> WAITING -> WRITING -> READING ... -> LINGERING -> CLOSED
 *
 * READING: for a request, which must be whole HTTP_REQUEST_MS after its first byte (the first one: after connecting).
 * WAITING: for its turn; the server answers one request in a turn of the loop. WRITING: the answer leaves; nothing is
 * read meanwhile, so requests that came early wait in the socket and in a buffer for one. LINGERING: the answer was the
 * last; what the client still sends is dropped for a while, because an answer may be lost when its socket is closed
 * over unread bytes. From any of them to CLOSED when the client or its time is gone.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/list.h"
#include "daemon/host/http.h"

#define HTTP_REQUEST_MS 5000
#define HTTP_KEEP_MS 90000  /* between requests; scrapes come every 15 to 60 seconds */
#define HTTP_SEND_MS 10000  /* for an answer to be taken */
#define HTTP_LINGER_MS 5000

/* On one connection: then it is closed with the answer. */
#define HTTP_REQUESTS_MAX 1000

struct http_server;

enum http_state { HTTP_READING, HTTP_WAITING, HTTP_WRITING, HTTP_LINGERING, HTTP_CLOSED };

struct http_connection {
	struct list node;    /* http_server.connections: in order of since_ns */
	struct list waiting; /* http_server.waiting */
	struct http_server *http;
	int fd;
	uv_poll_t poll;
	int interest; /* UV_* events polled for */
	enum http_state state;
	uint64_t since_ns;    /* when the state began */
	uint64_t deadline_ns; /* UINT64_MAX: none */
	unsigned answered;
	struct http_parser parser;
	char in[HTTP_REQUEST_BYTES_MAX]; /* a request, and perhaps the begin of the next */
	size_t n_in;
	bool close; /* after this answer */
	char head[HTTP_RESPONSE_HEAD_BYTES_MAX];
	size_t n_head;
	char *body; /* owned */
	size_t n_body;
	size_t sent; /* of head and body */
};

/* Begins on the connection, which becomes its own on success. Results: 0, or negative errno. */
int http_connection_open(struct http_server *http, int fd, uint64_t now_ns);

/* Closes at once; the memory goes when the loop has closed the handle. */
void http_connection_close(struct http_connection *connection);

/*
 * Answers the request at hand. body (malloc) becomes the connection's, NULL: there is none. The connection may be gone
 * afterwards.
 */
void http_connection_answer(struct http_connection *connection, const struct http_response *response, char *body,
			    uint64_t now_ns);

/* Its deadline has come. It may be gone afterwards. */
void http_connection_expire(struct http_connection *connection, uint64_t now_ns);
