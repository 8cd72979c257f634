/* SPDX-License-Identifier: Apache-2.0 */
/* Resize: says how large the arena is to be, and waits for it. Whoever may use the arena may ask, as for Evict. */
#include "daemon/core/resize.h"
#include "daemon/core/verbs.h"

enum verb_result verb_resize(struct core_session *session, const Request *request, Reply *reply)
{
	const Kvpaged__V1__Resize *body = request->resize;
	struct core *core = session->core;

	if (body->bytes == 0)
		return reply_fail(reply, KVP_INVALID, "the arena cannot be of 0 bytes");
	if (body->bytes > core->arena.bytes)
		return reply_fail(reply, KVP_RANGE, "the arena cannot take more than arena.bytes");
	if (body->wait_ms > KVP_RESIZE_WAIT_MS_MAX)
		return reply_fail(reply, KVP_RANGE, "wait_ms must be at most 60000");
	if (core->resize.fixed)
		return reply_fail(reply, KVP_UNSUPPORTED, "arena.seal is strict: memory cannot be given back");
	if (!list_empty(&session->resize.link))
		return reply_fail(reply, KVP_TOO_MANY, "this session waits for a Resize already");
	resize_ask(core, body->bytes);
	if (body->wait_ms == 0)
		resize_answer(session, request->id);
	else if (resize_wait(session, request->id, body->wait_ms) < 0)
		return reply_fail(reply, KVP_TOO_MANY, "out of memory");
	return VERB_QUEUED;
}
