/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's socket: one that was passed, which is taken as it is and left where it is, or one of our own.
 *
 * Our own name in the file system: a Unix socket and, beside it, a lock file that tells which
 * daemon owns the name. The socket is given its owner and mode between bind() and listen(): until
 * listen() nobody can connect, whatever the umask was. Nothing that is not our own dead socket is
 * ever removed.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "daemon/host/error.h"

/* Of a socket's address, for people, with its end. */
#define SOCKET_NAME_BYTES 128

struct socket_options {
	int passed_fd;    /* taken over, even in failure; the rest then means nothing. -1: none */
	const char *path; /* outlives the socket */
	mode_t mode;
	uid_t owner; /* (uid_t)-1: unchanged */
	gid_t group; /* (gid_t)-1: unchanged */
	int backlog;
};

struct listen_socket {
	int fd;
	int lock_fd;
	const char *path; /* NULL: not ours to remove */
	dev_t device; /* of the socket's name, to know it again */
	ino_t inode;
	char name[SOCKET_NAME_BYTES];
};

#define LISTEN_SOCKET_NULL { .fd = -1, .lock_fd = -1 }

/*
 * Listens, without blocking. A passed socket must be one that clients could connect to: of streams, local, listening.
 * Results: 0, or -EINVAL and *error; then nothing that was there before has changed.
 */
int listen_socket_open(const struct socket_options *options, struct listen_socket *ret_socket,
		       struct host_error *error);

/* Where in the file system a Unix socket is, or "". */
void listen_socket_path(int fd, char path[SOCKET_NAME_BYTES]);

/*
 * Removes the name, if it still is ours, and the lock; closes. Nothing happens to one that is
 * closed already.
 */
void listen_socket_close(struct listen_socket *socket);
