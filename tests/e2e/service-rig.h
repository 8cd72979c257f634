/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvpaged as a service manager starts it: with sockets, an address to tell how it is, or a journal. All functions fail
 * the running test when they cannot do their work.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#define SERVICE_WAIT_MS 20000

/* Skips the test where kvpaged is built without libsystemd. */
void service_needs_libsystemd(void);

/* A path in the test's directory; up to eight at a time. */
const char *service_path(const char *name);

/* An empty file, so that the machine's own configuration has no part. */
const char *service_empty_config(void);

/* A datagram socket bound to the path. */
int service_datagrams(const char *path);

/*
 * The next datagram, terminated, in memory of the rig's until the next call; NULL: none came within this time.
 */
const char *service_next(int fd, unsigned limit_ms);

/* Takes datagrams until one holds the text, and returns that. */
const char *service_await(int fd, const char *text);

/* Starts kvpaged with a small arena and an empty configuration on this socket, its stderr in this descriptor. */
pid_t service_start(const char *socket_path, int stderr_fd);

/* SIGTERM; it must end in order. */
void service_stop(pid_t pid);

/* Waits until somebody listens there. */
void service_await_listener(const char *socket_path);

/* Whether a client is served there. */
bool service_serves(const char *socket_path);

void service_pause_ms(long ms);
