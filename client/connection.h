/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One session with the daemon: the socket after Hello, the mapped arena, staging and control memory, the session's
 * event, and what the daemon said about itself. Either open with all of them or closed (all empty); never in
 * between.
 */
#pragma once

#include "client/arena.h"
#include "client/control.h"
#include "client/rpc.h"
#include "client/staging.h"

#include <stdint.h>

struct words;

#define SERVER_VERSION_BYTES_MAX 31

/* What to ask for. The strings are the caller's. */
struct connection_options {
	const char *socket_path;
	const char *client_name;
	uint64_t staging_bytes; /* 0: this client will not append */
	uint32_t records;       /* of control memory */
	uint32_t timeout_ms;
	uint32_t spin_us;       /* to wait awake for answers */
};

struct connection {
	struct rpc rpc;
	struct arena *arena;      /* a reference */
	struct staging staging;
	uint8_t *staging_memory;  /* NULL: none */
	struct control *control;  /* a reference; NULL: none */
	int event_fd;             /* the session's event, see completion.h; -1: none */
	unsigned works;           /* encoded and decoded blocks; see tally.h */
	uint64_t session_id;
	uint32_t lease_ttl_ms;    /* of a lease that names no time */
	uint32_t lease_ttl_ms_max;
	char server_version[SERVER_VERSION_BYTES_MAX + 1];
};

/* A closed connection. */
void connection_init(struct connection *connection);

/*
 * Connects and says Hello, on a closed connection. words outlives it. Results: 0; negative errno as
 * kvc_open() tells them; a positive status that the daemon answered with. Words are set on failure, and the
 * connection is closed again.
 */
int connection_open(struct connection *connection, const struct connection_options *options, struct words *words);

/* Ends the session: pending calls fail, leases are over, memory is unmapped. A closed one is fine. */
void connection_close(struct connection *connection);

/* Whether requests can be sent. */
static inline bool connection_alive(const struct connection *connection)
{
	return rpc_alive(&connection->rpc);
}
