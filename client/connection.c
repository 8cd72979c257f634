/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a session. Everything in the reply to Hello is checked before it is used; the descriptors that came
 * with it are either taken over or closed here, whatever happens.
 */
#include "client/connection.h"

#include "base/cleanup.h"
#include "base/contract.h"
#include "client/endpoint.h"
#include "client/seals.h"
#include "client/kvclient.h"
#include "client/words.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

/* A daemon that takes less could not be sent an Append. */
#define REQUEST_BYTES_MAX_FLOOR 4096

/* The descriptors of a Hello by kind; -1: did not come. */
struct hello_fds {
	int arena;
	int staging;
	int event;
	int control;
};

static void hello_fds_close(struct hello_fds *fds)
{
	fds->arena = close_fd(fds->arena);
	fds->staging = close_fd(fds->staging);
	fds->event = close_fd(fds->event);
	fds->control = close_fd(fds->control);
}

static void rpc_fds_close(struct rpc_fds *fds)
{
	for (size_t i = 0; i < fds->n; i++)
		fds->fds[i] = close_fd(fds->fds[i]);
}

void connection_init(struct connection *connection)
{
	*connection = (struct connection){ .event_fd = -1 };
	rpc_init(&connection->rpc, -1, 0, 0, NULL);
	staging_init(&connection->staging, 0);
}

void connection_close(struct connection *connection)
{
	rpc_deinit(&connection->rpc);
	kvp_assert(staging_empty(&connection->staging));
	arena_end_session(connection->arena);
	connection->arena = arena_unref(connection->arena);
	connection->control = control_unref(connection->control);
	if (connection->staging_memory)
		(void)munmap(connection->staging_memory, connection->staging.bytes);
	(void)close_fd(connection->event_fd);
	connection_init(connection);
}

static int hello_send(struct rpc *rpc, const struct connection_options *options, Kvpaged__V1__Reply **ret_reply)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Hello hello = KVPAGED__V1__HELLO__INIT;

	hello.version_min = KVP_PROTOCOL_VERSION_MIN;
	hello.version_max = KVP_PROTOCOL_VERSION_MAX;
	hello.client_name.data = (uint8_t *)options->client_name;
	hello.client_name.len = strlen(options->client_name);
	hello.staging_bytes = options->staging_bytes;
	hello.want_event = options->staging_bytes > 0;
	hello.records = options->records;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_HELLO;
	request.hello = &hello;
	return rpc_exchange(rpc, &request, ret_reply);
}

/* The numbers of the reply. Returns NULL, or what is wrong with them. */
static const char *hello_check(const Kvpaged__V1__HelloReply *hello, const struct connection_options *options)
{
	if (hello->version < KVP_PROTOCOL_VERSION_MIN || hello->version > KVP_PROTOCOL_VERSION_MAX)
		return "the daemon chose a protocol version that was not offered";
	if (hello->requests_in_flight_max == 0 || hello->request_bytes_max < REQUEST_BYTES_MAX_FLOOR)
		return "the daemon's limits leave no room for requests";
	if (hello->incarnation == 0)
		return "the daemon names no incarnation";
	if (hello->server_version.len > SERVER_VERSION_BYTES_MAX)
		return "the daemon's version is too long";
	if (hello->staging_bytes > options->staging_bytes)
		return "the daemon gave more staging memory than was asked for";
	if (hello->records > options->records)
		return "the daemon gave more control memory than was asked for";
	return NULL;
}

static int *fd_of_kind(struct hello_fds *fds, uint32_t kind)
{
	switch (kind) {
	case KVPAGED__V1__FD_KIND__FD_ARENA:
		return &fds->arena;
	case KVPAGED__V1__FD_KIND__FD_STAGING:
		return &fds->staging;
	case KVPAGED__V1__FD_KIND__FD_EVENT:
		return &fds->event;
	case KVPAGED__V1__FD_KIND__FD_CONTROL:
		return &fds->control;
	default:
		return NULL;
	}
}

/*
 * Moves the received descriptors to their kinds; those of kinds unknown here stay in the sink. NULL, or what
 * is wrong.
 */
static const char *hello_sort_fds(const Kvpaged__V1__HelloReply *hello, struct rpc_fds *sink, struct hello_fds *fds)
{
	if (hello->n_fds != sink->n)
		return "the daemon announced another number of descriptors than came";
	for (size_t i = 0; i < sink->n; i++) {
		int *fd = fd_of_kind(fds, hello->fds[i]);

		if (!fd)
			continue;
		if (*fd >= 0)
			return "the daemon sent two descriptors of one kind";
		*fd = take_fd(&sink->fds[i]);
	}
	if (fds->arena < 0)
		return "the daemon sent no arena";
	if ((fds->staging >= 0) != (hello->staging_bytes > 0))
		return "the daemon's staging memory and its descriptor do not match";
	if ((fds->control >= 0) != (hello->records > 0))
		return "the daemon's control memory and its descriptor do not match";
	return NULL;
}

static int staging_map(struct connection *connection, int fd, uint64_t bytes, struct words *words)
{
	void *memory;
	int r;

	if (bytes == 0)
		return 0;
	r = seals_check(fd, "the staging memory", F_SEAL_SHRINK, bytes, words);
	if (r < 0)
		return r;
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED) {
		r = -errno;
		words_set(words, "cannot map the staging memory: %s", kvc_strerror(r));
		return r;
	}
	connection->staging_memory = memory;
	staging_init(&connection->staging, bytes);
	return 0;
}

static void hello_adopt(struct connection *connection, const Kvpaged__V1__HelloReply *hello)
{
	struct rpc *rpc = &connection->rpc;

	connection->session_id = hello->session_id;
	connection->lease_ttl_ms = hello->lease_ttl_ms;
	connection->lease_ttl_ms_max = hello->lease_ttl_ms_max;
	if (hello->server_version.len > 0)
		memcpy(connection->server_version, hello->server_version.data, hello->server_version.len);
	rpc->in_flight_max = hello->requests_in_flight_max;
	if (rpc->in_flight_max > KVP_REQUESTS_IN_FLIGHT_MAX)
		rpc->in_flight_max = KVP_REQUESTS_IN_FLIGHT_MAX;
	if (rpc->request_bytes_max > hello->request_bytes_max)
		rpc->request_bytes_max = hello->request_bytes_max;
}

static int hello_use(struct connection *connection, const Kvpaged__V1__HelloReply *hello,
		     const struct connection_options *options, struct rpc_fds *sink, struct words *words)
{
	_cleanup_(hello_fds_close) struct hello_fds fds = { -1, -1, -1, -1 };
	const char *wrong = hello_check(hello, options);
	int r;

	if (!wrong)
		wrong = hello_sort_fds(hello, sink, &fds);
	if (wrong) {
		words_set(words, "%s", wrong);
		return -EPROTO;
	}
	r = staging_map(connection, fds.staging, hello->staging_bytes, words);
	if (r < 0)
		return r;
	r = arena_map(fds.arena, hello->arena_bytes, hello->incarnation, endpoint_peer_uid(connection->rpc.socket),
		      words, &connection->arena);
	if (r == 0 && hello->records > 0)
		r = control_map(fds.control, hello->records, words, &connection->control);
	if (r < 0)
		return r;
	connection->event_fd = take_fd(&fds.event);
	hello_adopt(connection, hello);
	return 0;
}

static int hello_exchange(struct connection *connection, const struct connection_options *options, struct words *words)
{
	_cleanup_(rpc_reply_freep) Kvpaged__V1__Reply *reply = NULL;
	_cleanup_(rpc_fds_close) struct rpc_fds sink = { .n = 0 };
	int r;

	connection->rpc.fds = &sink;
	r = hello_send(&connection->rpc, options, &reply);
	connection->rpc.fds = NULL;
	if (r < 0)
		return r;
	if (reply->status != 0) {
		words_quote(words, "the daemon refused the session", reply->error.data, reply->error.len);
		return rpc_reply_status(reply);
	}
	if (reply->verb_case != KVPAGED__V1__REPLY__VERB_HELLO) {
		words_set(words, "the peer does not speak kvpaged's protocol: it did not answer Hello");
		return -EPROTO;
	}
	return hello_use(connection, reply->hello, options, &sink, words);
}

int connection_open(struct connection *connection, const struct connection_options *options, struct words *words)
{
	int socket;
	int r;

	kvp_assert(connection->rpc.socket < 0 && !connection->arena);
	r = endpoint_connect(options->socket_path, options->timeout_ms, words, &socket);
	if (r < 0)
		return r;
	rpc_init(&connection->rpc, socket, options->timeout_ms, options->spin_us, words);
	r = hello_exchange(connection, options, words);
	if (r != 0)
		connection_close(connection);
	return r;
}
