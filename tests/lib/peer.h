/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of the protocol without the client library: it sends any bytes and takes what comes. Functions that wait do
 * so for a bounded time. Unless said otherwise they fail the running test when they cannot do their work.
 *
 *	struct test_peer peer;
 *	peer_connect(&peer, d.socket_path);
 *	peer_hello(&peer, 1 << 20);
 *	reply = peer_call(&peer, &request);
 *	kvpaged__v1__reply__free_unpacked(reply, NULL);
 *	peer_close(&peer);
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/control.h"
#include "proto/frame.h"
#include "proto/kvpaged.pb-c.h"
#include "proto/limits.h"

struct test_peer {
	int fd;
	struct frame_reader reader;
	int fds[KVP_FDS_MAX]; /* received and not yet taken */
	size_t n_fds;
	uint64_t next_id;
	/* Of the answer to Hello; NULL and 0 before it. */
	uint64_t session_id;
	uint64_t incarnation;
	const void *arena; /* mapped read-only */
	uint64_t arena_bytes;
	uint8_t *staging;
	uint64_t staging_bytes;
	struct kvp_control_header *control; /* NULL: none */
	uint64_t control_bytes;
	uint32_t records;
	int arena_fd;
	int event_fd;
};

/* Connects to the socket. */
void peer_connect(struct test_peer *peer, const char *socket_path);

/* Takes over a connected socket, for a test with both ends in one process. */
void peer_attach(struct test_peer *peer, int fd);

/* Ends the connection and drops what came with it. A closed peer is fine. */
void peer_close(struct test_peer *peer);

/*
 * Sends all bytes. Results: 0, or negative errno (-EPIPE, -ECONNRESET when the daemon hung up) without failing the
 * test.
 */
int peer_send_bytes(struct test_peer *peer, const void *bytes, size_t n);

/* The same, with descriptors (at most 253), which stay the caller's, on the first byte. */
int peer_send_fds(struct test_peer *peer, const void *bytes, size_t n, const int *fds, size_t n_fds);

/* Sends the request in a frame. Sets request->id when it is 0. Results as peer_send_bytes(). */
int peer_send(struct test_peer *peer, Kvpaged__V1__Request *request);

/*
 * The next reply, to be freed with kvpaged__v1__reply__free_unpacked(). NULL: the daemon hung up. Descriptors that came
 * with it go to ret_fds (room for KVP_FDS_MAX; NULL: they are closed), their number to *ret_n_fds.
 */
Kvpaged__V1__Reply *peer_receive(struct test_peer *peer, int *ret_fds, size_t *ret_n_fds);

/* Sends and receives; the reply must have the request's id. */
Kvpaged__V1__Reply *peer_call(struct test_peer *peer, Kvpaged__V1__Request *request);

/* The status of peer_call()'s reply, which is freed. */
unsigned peer_call_status(struct test_peer *peer, Kvpaged__V1__Request *request);

/* Says Hello with this version 1 and maps what comes. staging_bytes 0: none. */
void peer_hello(struct test_peer *peer, uint64_t staging_bytes);

/* The same, asking for so many records of control memory. */
void peer_hello_reader(struct test_peer *peer, uint64_t staging_bytes, uint32_t records);

/* Reads replies, which are dropped, until the daemon hangs up; a daemon that does not do so fails the test. */
void peer_expect_end(struct test_peer *peer);

/* Whether the daemon has hung up, without waiting and without taking replies. */
bool peer_ended(struct test_peer *peer);

/* The gauge or counter of this name, by a Stats request. */
uint64_t peer_counter(struct test_peer *peer, const char *name);
