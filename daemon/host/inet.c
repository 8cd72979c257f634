/* SPDX-License-Identifier: Apache-2.0 */
/* An IPv6 socket takes IPv6 connections only, whatever the system's default is: what is written is what is served. */
#include "daemon/host/inet.h"

#include "base/cleanup.h"
#include "base/units.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define PORT_MAX 65535

static struct sockaddr_in *as_v4(struct inet_address *address)
{
	return (struct sockaddr_in *)(void *)&address->storage;
}

static struct sockaddr_in6 *as_v6(struct inet_address *address)
{
	return (struct sockaddr_in6 *)(void *)&address->storage;
}

static int parse_v4(const char *host, uint16_t port, struct inet_address *ret_address)
{
	struct sockaddr_in *v4 = as_v4(ret_address);

	*ret_address = (struct inet_address){ .n = sizeof(*v4) };
	v4->sin_family = AF_INET;
	v4->sin_port = htons(port);
	return inet_pton(AF_INET, host, &v4->sin_addr) == 1 ? 0 : -EINVAL;
}

/* With the brackets. */
static int parse_v6(char *host, uint16_t port, struct inet_address *ret_address)
{
	struct sockaddr_in6 *v6 = as_v6(ret_address);
	size_t n = strlen(host);

	*ret_address = (struct inet_address){ .n = sizeof(*v6) };
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	if (n < 2 || host[0] != '[' || host[n - 1] != ']')
		return -EINVAL;
	host[n - 1] = '\0';
	return inet_pton(AF_INET6, host + 1, &v6->sin6_addr) == 1 ? 0 : -EINVAL;
}

int inet_parse(const char *text, struct inet_address *ret_address)
{
	const char *colon = strrchr(text, ':');
	struct inet_address address;
	char host[INET_TEXT_BYTES];
	uint64_t port;
	int r;

	if (!colon || (size_t)(colon - text) >= sizeof(host))
		return -EINVAL;
	if (units_parse_u64(colon + 1, &port) < 0 || port > PORT_MAX)
		return -EINVAL;
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	r = host[0] == '[' ? parse_v6(host, (uint16_t)port, &address) : parse_v4(host, (uint16_t)port, &address);
	if (r == 0)
		*ret_address = address;
	return r;
}

bool inet_is_loopback(const struct inet_address *address)
{
	struct inet_address copy = *address;

	if (address->storage.ss_family == AF_INET)
		return ntohl(as_v4(&copy)->sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&as_v6(&copy)->sin6_addr);
}

char *inet_format(const struct inet_address *address, char buffer[INET_TEXT_BYTES])
{
	struct inet_address copy = *address;
	bool v4 = address->storage.ss_family == AF_INET;
	const void *host = v4 ? (const void *)&as_v4(&copy)->sin_addr : (const void *)&as_v6(&copy)->sin6_addr;
	char text[INET6_ADDRSTRLEN] = "?";

	(void)inet_ntop(address->storage.ss_family, host, text, sizeof(text));
	(void)snprintf(buffer, INET_TEXT_BYTES, v4 ? "%s:%u" : "[%s]:%u", text,
		       ntohs(v4 ? as_v4(&copy)->sin_port : as_v6(&copy)->sin6_port));
	return buffer;
}

int inet_listen(struct inet_address *address, int backlog, int *ret_fd, struct host_error *error)
{
	_cleanup_close_ int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr *name = (struct sockaddr *)&address->storage;
	const int yes = 1;
	char text[INET_TEXT_BYTES];

	if (fd < 0)
		return host_error_set(error, HOST_EXIT_FAILURE, "socket: %s", strerror(errno));
	/* A daemon that is started again must not wait for the connections of the one before to be forgotten. */
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (address->storage.ss_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes));
	if (bind(fd, name, address->n) < 0 || listen(fd, backlog) < 0 || getsockname(fd, name, &address->n) < 0)
		return host_error_set(error, HOST_EXIT_FAILURE, "metrics.listen: cannot listen on %s: %s",
				      inet_format(address, text), strerror(errno));
	*ret_fd = take_fd(&fd);
	return 0;
}
