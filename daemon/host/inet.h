/* SPDX-License-Identifier: Apache-2.0 */
/* TCP addresses in numbers: "127.0.0.1:9464", "[::1]:9464". No names, so nothing is asked of a resolver. */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

#include "daemon/host/error.h"

#define INET_TEXT_BYTES 64

struct inet_address {
	struct sockaddr_storage storage;
	socklen_t n;
};

/* Port 0: one that the system chooses. Results: 0, or -EINVAL. */
int inet_parse(const char *text, struct inet_address *ret_address);

/* Whether only this machine can connect to it: 127.0.0.0/8 and ::1. */
bool inet_is_loopback(const struct inet_address *address);

/* As inet_parse() reads it; returns buffer. */
char *inet_format(const struct inet_address *address, char buffer[INET_TEXT_BYTES]);

/* Listens, without blocking. *address is then where. Results: 0 and the socket, or -EINVAL and *error. */
int inet_listen(struct inet_address *address, int backlog, int *ret_fd, struct host_error *error);
