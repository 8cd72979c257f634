/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Append: pages from the session's staging memory into one block. The numbers are checked when the request
 * comes; the work is a queued operation, done in the session's order, so a block may name the one before it as
 * parent. Each slice copies slice_bytes.
 *
 * Between slices anything may happen to the block: the operation remembers number and generation and looks
 * again.
 */
#include "daemon/core/verbs.h"

#include "base/checked.h"
#include "base/contract.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct append_page {
	uint64_t offset;
	uint64_t checksum;
	uint32_t index;
	uint32_t length;
};

struct append {
	struct op op;
	uint32_t space_id;
	uint64_t space_life;
	uint32_t tokens;
	uint32_t block; /* 0: not resolved yet */
	uint64_t generation;
	uint32_t next; /* page to do */
	uint32_t n;
	uint8_t key[KVP_KEY_BYTES_MAX];
	uint8_t parent[KVP_KEY_BYTES_MAX];
	uint8_t key_bytes;
	uint8_t parent_bytes;
	bool quiet;      /* the client waits on the socket */
	uint8_t *status; /* [n] */
	struct append_page pages[];
};

static void append_destroy(struct core *core, struct op *op)
{
	struct append *append = list_entry(op, struct append, op);

	free(append->status);
	free(append);
}

static unsigned reply_flags(const struct core_session *session, const struct append *append)
{
	return session->want_event && !append->quiet ? CORE_REPLY_EVENT : 0;
}

static enum op_progress append_fail(struct core_session *session, const struct append *append,
				    enum kvp_status status)
{
	Reply reply = KVPAGED__V1__REPLY__INIT;

	reply.id = append->op.id;
	(void)reply_fail(&reply, status, status_text(status));
	reply_send(session, &reply, reply_flags(session, append));
	return OP_DONE;
}

/* Finds or creates the block and makes the session its writer. Results: KVP_*, or -EAGAIN. */
static int block_resolve(struct core_session *session, struct append *append)
{
	struct core *core = session->core;
	struct block_key key = { append->key, append->key_bytes };
	struct block_key parent_key = { append->parent, append->parent_bytes };
	uint32_t block = block_find(core, append->space_id, key);
	uint32_t parent = 0;
	int r;

	if (block) {
		const struct kvp_block *shared = shared_block(core, block);
		uint64_t parent_hash = parent_key.n
					       ? kvp_key_hash(core->arena.header->hash_seed, append->space_id,
							      parent_key.bytes, parent_key.n)
					       : 0;

		if (shared->tokens != append->tokens || shared->parent_hash != parent_hash)
			return KVP_CONFLICT;
	} else {
		if (parent_key.n > 0) {
			parent = block_find(core, append->space_id, parent_key);
			if (!parent)
				return KVP_NO_PARENT;
		}
		r = block_create(core, append->space_id, key, parent, append->tokens, &block);
		if (r != KVP_OK)
			return r;
		block_begun(core, block);
	}
	if (!block_complete(core, block) && block_add_writer(core, block, session) < 0) {
		/* Without a writer nobody would end a partial block. */
		if (list_empty(&core->blocks[block].writers))
			(void)block_kill(core, block, KVP_FATE_UNFINISHED);
		return KVP_TOO_MANY;
	}
	append->block = block;
	append->generation = atomic_load_explicit(&shared_block(core, block)->generation, memory_order_relaxed);
	return KVP_OK;
}

static bool block_lost(const struct core *core, const struct append *append)
{
	return atomic_load_explicit(&shared_block(core, append->block)->generation, memory_order_relaxed) !=
	       append->generation;
}

/* One page. Results: KVP_OK with its status written, or -EAGAIN. */
static int page_do(struct core_session *session, struct append *append)
{
	const struct append_page *page = &append->pages[append->next];
	int r;

	if (block_page_ready(session->core, append->block, page->index)) {
		counter_add(session->core, append_present_total, 1);
		r = KVP_PRESENT;
	} else {
		r = block_store_page(session->core, append->block, page->index, session->staging + page->offset,
				     page->length, page->checksum);
		if (r == -EAGAIN)
			return r;
		if (r == KVP_NO_SPACE)
			counter_add(session->core, append_no_space_total, 1);
	}
	append->status[append->next++] = (uint8_t)r;
	return KVP_OK;
}

/*
 * A block that got no page, or could not get all of its pages for lack of room, would only wait for its time to
 * end: it goes now if nobody else is writing it.
 */
static void give_up_partial(struct core_session *session, const struct append *append)
{
	struct core *core = session->core;
	const struct kvp_block *shared = shared_block(core, append->block);
	bool no_space = memchr(append->status, KVP_NO_SPACE, append->n) != NULL;
	uint32_t budget = UINT32_MAX;

	if (block_complete(core, append->block) || !block_sole_writer(core, append->block, session))
		return;
	if (no_space || atomic_load_explicit(&shared->pages_ready, memory_order_relaxed) == 0)
		(void)block_kill_tree(core, append->block, KVP_FATE_UNFINISHED, &budget);
}

static enum op_progress append_end(struct core_session *session, struct append *append)
{
	bool complete = block_complete(session->core, append->block);
	Reply reply = KVPAGED__V1__REPLY__INIT;
	Kvpaged__V1__AppendReply body = KVPAGED__V1__APPEND_REPLY__INIT;

	if (complete)
		block_touch(session->core, append->block);
	give_up_partial(session, append);
	reply.id = append->op.id;
	body.page_status = (ProtobufCBinaryData){ .data = append->status, .len = append->n };
	body.complete = complete;
	reply.verb_case = KVPAGED__V1__REPLY__VERB_APPEND;
	reply.append = &body;
	reply_send(session, &reply, reply_flags(session, append));
	return OP_DONE;
}

static enum op_progress append_step(struct core_session *session, struct op *op)
{
	struct append *append = list_entry(op, struct append, op);
	struct core *core = session->core;
	uint64_t copied = 0;

	if (!space_stands(core, append->space_id, append->space_life))
		return append_fail(session, append, KVP_NO_SPACE_NAMED);
	if (!append->block) {
		int r = block_resolve(session, append);

		if (r == -EAGAIN)
			return OP_MORE;
		if (r != KVP_OK)
			return append_fail(session, append, (enum kvp_status)r);
	}
	if (block_lost(core, append))
		return append_fail(session, append, KVP_STALE);
	while (append->next < append->n) {
		if (copied >= core->limits.slice_bytes)
			return OP_MORE;
		copied += append->pages[append->next].length;
		if (page_do(session, append) == -EAGAIN)
			return OP_MORE;
	}
	return append_end(session, append);
}

/* Checks every number of the request against the space and the staging memory. NULL, or what is wrong. */
static const char *pages_check(const struct core_session *session, const struct space *space,
			       const Kvpaged__V1__Append *request)
{
	uint32_t length = page_bytes(&space->schema, request->tokens);

	if (request->n_pages == 0 || request->n_pages > KVP_PAGES_PER_BLOCK_MAX)
		return "an Append carries 1..16384 pages";
	for (size_t i = 0; i < request->n_pages; i++) {
		const Kvpaged__V1__PageRef *page = request->pages[i];

		if (page->index >= space->page_count)
			return "a page index is beyond the block";
		if (page->length != length)
			return "a page's length is not that of the space's pages with so many tokens";
		if (!checked_range(page->offset, page->length, session->staging_bytes))
			return "a page lies outside the staging memory";
	}
	return NULL;
}

static struct append *append_new(const Request *request)
{
	const Kvpaged__V1__Append *body = request->append;
	struct append *append = calloc(1, sizeof(*append) + body->n_pages * sizeof(struct append_page));

	if (!append)
		return NULL;
	append->status = calloc(body->n_pages, 1);
	if (!append->status) {
		free(append);
		return NULL;
	}
	append->op.id = request->id;
	append->op.step = append_step;
	append->op.destroy = append_destroy;
	append->space_id = body->space_id;
	append->tokens = body->tokens;
	append->n = (uint32_t)body->n_pages;
	append->quiet = body->no_event;
	append->key_bytes = (uint8_t)body->key.len;
	append->parent_bytes = (uint8_t)body->parent.len;
	memcpy(append->key, body->key.data, body->key.len);
	if (body->parent.len > 0)
		memcpy(append->parent, body->parent.data, body->parent.len);
	for (size_t i = 0; i < body->n_pages; i++)
		append->pages[i] = (struct append_page){
			.offset = body->pages[i]->offset,
			.checksum = body->pages[i]->checksum,
			.index = body->pages[i]->index,
			.length = body->pages[i]->length,
		};
	return append;
}

enum verb_result verb_append(struct core_session *session, const Request *request, Reply *reply)
{
	const Kvpaged__V1__Append *body = request->append;
	struct space *space = space_of(session, body->space_id, reply);
	struct append *append;
	const char *wrong;

	if (!space)
		return VERB_REPLY;
	if (!session->staging)
		return reply_fail(reply, KVP_PERMISSION, "this session asked for no staging memory");
	if (!key_valid(body->key))
		return reply_fail(reply, KVP_INVALID, "a key is 1..64 bytes");
	if (body->parent.len > KVP_KEY_BYTES_MAX)
		return reply_fail(reply, KVP_INVALID, "a parent key is at most 64 bytes");
	if (body->parent.len == body->key.len && memcmp(body->parent.data, body->key.data, body->key.len) == 0)
		return reply_fail(reply, KVP_INVALID, "a block cannot be its own parent");
	if (body->tokens < 1 || body->tokens > space->schema.block_tokens)
		return reply_fail(reply, KVP_RANGE, "tokens must be 1..block_tokens");
	wrong = pages_check(session, space, body);
	if (wrong)
		return reply_fail(reply, KVP_RANGE, wrong);
	append = append_new(request);
	if (!append)
		return reply_fail(reply, KVP_TOO_MANY, "out of memory");
	append->space_life = space->life;
	op_queue(session, &append->op);
	return VERB_QUEUED;
}
