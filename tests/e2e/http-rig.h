/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of the daemon's metrics that sends any bytes. What waits does so for a bounded time; functions fail the
 * running test when they cannot do their work.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/lib/daemon.h"

/* The path of the daemon's metrics socket, as it is without a setting. Static storage, for the next few calls. */
const char *http_socket(const struct test_daemon *daemon);

/* The port that "--metrics-listen 127.0.0.1:0" got, from the log. */
uint16_t http_port(const struct test_daemon *daemon);

/* Connects. Results: a descriptor; of http_dial_tcp() also -1 when the address family is not there. */
int http_dial(const char *path);
int http_dial_tcp(int family, uint16_t port);

/* Sends all of it, or as much as the daemon takes before it hangs up. Whether it was all. */
bool http_send(int fd, const char *text);
bool http_send_bytes(int fd, const void *bytes, size_t n);

struct http_answer {
	unsigned status; /* 0: the daemon hung up without one */
	bool close;
	char *head; /* terminated, both freed with http_answer_free() */
	char *body; /* terminated */
	size_t n_body;
};

/* The next answer on the connection. without_body: it is one to HEAD. */
void http_receive(int fd, bool without_body, struct http_answer *ret_answer);
void http_answer_free(struct http_answer *answer);

/* Sends and receives on a connection of its own. Returns the status; ret_answer NULL: dropped. */
unsigned http_ask(const char *path, const char *request, struct http_answer *ret_answer);

/* GET of the target from that socket, which must be answered with 200. The body, to be freed. */
char *http_get(const char *path, const char *target);

/* Whether there is nothing more to come but the end. Drops what comes. */
bool http_ends(int fd);

/* The value of the sample with this name and labels in the text; fails if there is none. */
double http_value(const char *text, const char *sample);

/* Whether the text has this line. */
bool http_has_line(const char *text, const char *line);
