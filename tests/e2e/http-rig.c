/* SPDX-License-Identifier: Apache-2.0 */
/* Blocking sockets with a limit on each wait. Heads are read byte by byte, so that nothing of the next answer is. */
#include "tests/e2e/http-rig.h"

#include "base/cleanup.h"
#include "tests/lib/harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_S 30
#define POLL_MS 5
#define HEAD_BYTES_MAX 4096
#define LOG_BYTES 4096

const char *http_socket(const struct test_daemon *daemon)
{
	static char paths[4][200];
	static unsigned next;
	char *path = paths[next++ % 4];

	(void)snprintf(path, sizeof(paths[0]), "%s.metrics", daemon->socket_path);
	return path;
}

/* 0: the line is not there yet. */
static unsigned logged_port(const struct test_daemon *daemon)
{
	FILE *log = fopen(daemon->log_path, "r");
	char line[LOG_BYTES];
	unsigned port = 0;

	assert_non_null(log);
	while (port == 0 && fgets(line, sizeof(line), log)) {
		const char *at = strchr(line, '\n') ? strstr(line, ", metrics ") : NULL;
		const char *colon = at ? strrchr(at, ':') : NULL;

		port = colon ? (unsigned)strtoul(colon + 1, NULL, 10) : 0;
	}
	(void)fclose(log);
	return port;
}

uint16_t http_port(const struct test_daemon *daemon)
{
	static const struct timespec pause = { .tv_nsec = POLL_MS * 1000000L };
	unsigned port;

	/* The daemon accepts before it says where. */
	for (unsigned waited_ms = 0; (port = logged_port(daemon)) == 0; waited_ms += POLL_MS) {
		assert_true(waited_ms < LIMIT_S * 1000);
		(void)nanosleep(&pause, NULL);
	}
	assert_true(port <= UINT16_MAX);
	return (uint16_t)port;
}

static void limit_waits(int fd)
{
	const struct timeval limit = { .tv_sec = LIMIT_S };

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)), 0);
}

int http_dial(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_true(strlen(path) < sizeof(address.sun_path));
	memcpy(address.sun_path, path, strlen(path));
	limit_waits(fd);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

int http_dial_tcp(int family, uint16_t port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6,
				   .sin6_port = htons(port),
				   .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return -1;
	limit_waits(fd);
	r = family == AF_INET ? connect(fd, (struct sockaddr *)&v4, sizeof(v4)) :
				connect(fd, (struct sockaddr *)&v6, sizeof(v6));
	assert_int_equal(r, 0);
	return fd;
}

bool http_send_bytes(int fd, const void *bytes, size_t n)
{
	size_t sent = 0;

	while (sent < n) {
		ssize_t r = send(fd, (const char *)bytes + sent, n - sent, MSG_NOSIGNAL);

		if (r < 0 && (errno == EPIPE || errno == ECONNRESET))
			return false;
		assert_true(r > 0);
		sent += (size_t)r;
	}
	return true;
}

bool http_send(int fd, const char *text)
{
	return http_send_bytes(fd, text, strlen(text));
}

/* One byte; false at the end. */
static bool take_byte(int fd, char *ret_byte)
{
	ssize_t r = recv(fd, ret_byte, 1, 0);

	if (r < 0 && errno == ECONNRESET)
		return false;
	if (r < 0)
		fail_msg("the daemon neither answers nor hangs up: %s", strerror(errno));
	return r == 1;
}

static bool take_head(int fd, char *head)
{
	for (size_t n = 0; n < HEAD_BYTES_MAX - 1; n++) {
		if (!take_byte(fd, &head[n])) {
			assert_int_equal(n, 0); /* whole answers or none */
			return false;
		}
		head[n + 1] = '\0';
		if (n >= 3 && strcmp(head + n - 3, "\r\n\r\n") == 0)
			return true;
	}
	fail_msg("the head of an answer does not end");
	return false;
}

static size_t body_bytes(const char *head)
{
	const char *at = strstr(head, "\r\nContent-Length: ");

	assert_non_null(at);
	return strtoul(at + strlen("\r\nContent-Length: "), NULL, 10);
}

void http_receive(int fd, bool without_body, struct http_answer *ret_answer)
{
	struct http_answer answer = { .head = calloc(1, HEAD_BYTES_MAX) };

	assert_non_null(answer.head);
	if (take_head(fd, answer.head)) {
		assert_memory_equal(answer.head, "HTTP/1.1 ", 9);
		answer.status = (unsigned)strtoul(answer.head + 9, NULL, 10);
		answer.close = strstr(answer.head, "\r\nConnection: close\r\n");
		answer.n_body = without_body ? 0 : body_bytes(answer.head);
	}
	answer.body = calloc(1, answer.n_body + 1);
	assert_non_null(answer.body);
	for (size_t n = 0; n < answer.n_body;) {
		ssize_t r = recv(fd, answer.body + n, answer.n_body - n, 0);

		assert_true(r > 0);
		n += (size_t)r;
	}
	*ret_answer = answer;
}

void http_answer_free(struct http_answer *answer)
{
	free(answer->head);
	free(answer->body);
	*answer = (struct http_answer){ 0 };
}

unsigned http_ask(const char *path, const char *request, struct http_answer *ret_answer)
{
	struct http_answer answer;
	int fd = http_dial(path);
	unsigned status;

	(void)http_send(fd, request);
	http_receive(fd, strncmp(request, "HEAD ", 5) == 0, &answer);
	(void)close(fd);
	status = answer.status;
	if (ret_answer)
		*ret_answer = answer;
	else
		http_answer_free(&answer);
	return status;
}

char *http_get(const char *path, const char *target)
{
	struct http_answer answer;
	char request[256];

	(void)snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", target);
	assert_int_equal(http_ask(path, request, &answer), 200);
	free(answer.head);
	return answer.body;
}

bool http_ends(int fd)
{
	char bytes[4096];
	ssize_t r;

	while ((r = recv(fd, bytes, sizeof(bytes), 0)) > 0)
		continue;
	return r == 0 || errno == ECONNRESET;
}

double http_value(const char *text, const char *sample)
{
	size_t n = strlen(sample);

	for (const char *at = text; (at = strstr(at, sample)); at++)
		if ((at == text || at[-1] == '\n') && at[n] == ' ')
			return strtod(at + n, NULL);
	fail_msg("there is no %s", sample);
	return 0;
}

bool http_has_line(const char *text, const char *line)
{
	size_t n = strlen(line);

	for (const char *at = text; (at = strstr(at, line)); at++)
		if ((at == text || at[-1] == '\n') && at[n] == '\n')
			return true;
	return false;
}
