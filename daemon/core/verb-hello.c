/* SPDX-License-Identifier: Apache-2.0 */
/* Hello: the first request of a session, and the only one that carries descriptors back. */
#include "daemon/core/hazard.h"
#include "daemon/core/verbs.h"

#include "base/text.h"
#include "base/units.h"

#include <string.h>

#define STAGING_ALIGN 4096

static int staging_give(struct core_session *session, uint64_t wanted_bytes)
{
	struct core *core = session->core;
	uint64_t bytes = wanted_bytes;
	void *memory;

	if (bytes == 0)
		return KVP_OK;
	if (bytes < KVP_STAGING_BYTES_MIN)
		bytes = KVP_STAGING_BYTES_MIN;
	if (bytes > core->limits.staging_bytes_max)
		bytes = core->limits.staging_bytes_max;
	bytes = (bytes + STAGING_ALIGN - 1) / STAGING_ALIGN * STAGING_ALIGN;
	if (!account_charge(&session->user->staging_bytes, bytes, core->limits.staging_bytes_per_uid_max))
		return KVP_QUOTA;
	if (core->host->memory_create(core->context, session->peer, CORE_MEMORY_STAGING, bytes, &memory) < 0) {
		account_discharge(&session->user->staging_bytes, bytes);
		return KVP_QUOTA;
	}
	session->staging = memory;
	session->staging_bytes = bytes;
	counter_add(core, staging_bytes, bytes);
	return KVP_OK;
}

static void reply_fill(struct core_session *session, Kvpaged__V1__HelloReply *hello, uint32_t *fds)
{
	struct core *core = session->core;

	hello->version = KVP_PROTOCOL_VERSION_MAX;
	hello->session_id = session->id;
	hello->incarnation = atomic_load_explicit(&core->arena.header->incarnation, memory_order_relaxed);
	hello->arena_bytes = core->arena.bytes;
	hello->staging_bytes = session->staging_bytes;
	hello->request_bytes_max = KVP_FRAME_BYTES_MAX;
	hello->requests_in_flight_max = KVP_REQUESTS_IN_FLIGHT_MAX;
	hello->lease_ttl_ms = core->limits.lease_ttl_ms;
	hello->lease_ttl_ms_max = core->limits.lease_ttl_ms_max;
	hello->records = session->control.records;
	hello->server_version = text_data(core->version, strlen(core->version));
	hello->fds = fds;
	fds[hello->n_fds++] = KVPAGED__V1__FD_KIND__FD_ARENA;
	if (session->staging)
		fds[hello->n_fds++] = KVPAGED__V1__FD_KIND__FD_STAGING;
	if (session->want_event)
		fds[hello->n_fds++] = KVPAGED__V1__FD_KIND__FD_EVENT;
	if (session->control.header)
		fds[hello->n_fds++] = KVPAGED__V1__FD_KIND__FD_CONTROL;
}

/* A refused Hello ends the session, after its reply. */
static enum verb_result refuse(struct core_session *session, Reply *reply, enum kvp_status status,
			       const char *text)
{
	(void)reply_fail(reply, status, text);
	reply_send(session, reply, 0);
	session_end(session, text);
	return VERB_QUEUED;
}

enum verb_result verb_hello(struct core_session *session, const Request *request, Reply *reply)
{
	const Kvpaged__V1__Hello *hello = request->hello;
	Kvpaged__V1__HelloReply answer = KVPAGED__V1__HELLO_REPLY__INIT;
	uint32_t fds[KVP_FDS_MAX];
	int r;

	if (session->state != SESSION_NEW)
		return refuse(session, reply, KVP_PROTOCOL, "a second Hello");
	if (hello->version_min > KVP_PROTOCOL_VERSION_MAX || hello->version_max < KVP_PROTOCOL_VERSION_MIN ||
	    hello->version_min > hello->version_max)
		return refuse(session, reply, KVP_VERSION, "this daemon speaks protocol version 1 only");
	if (hello->client_name.len > KVP_NAME_BYTES_MAX ||
	    !text_is_clean(hello->client_name.data, hello->client_name.len))
		return refuse(session, reply, KVP_INVALID,
			      "client_name must be at most 128 bytes of UTF-8 without control characters");
	r = staging_give(session, hello->staging_bytes);
	if (r != KVP_OK) {
		counter_add(session->core, quota_staging_refused_total, 1);
		return refuse(session, reply, KVP_QUOTA, "no staging memory is left for this user");
	}
	hazard_give(session, hello->records);
	session->want_event = hello->want_event;
	session->state = SESSION_READY;
	deadline_disarm(&session->core->deadlines, &session->hello);
	reply_fill(session, &answer, fds);
	reply->verb_case = KVPAGED__V1__REPLY__VERB_HELLO;
	reply->hello = &answer;
	reply_send(session, reply,
		   CORE_REPLY_FDS | (session->staging ? CORE_REPLY_FD_STAGING : 0) |
			   (session->want_event ? CORE_REPLY_FD_EVENT : 0) |
			   (session->control.header ? CORE_REPLY_FD_CONTROL : 0));
	return VERB_QUEUED;
}
