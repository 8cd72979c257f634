/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the request verbs share. A handler looks at one parsed request and either fills the reply (which is sent
 * at once) or queues an operation that replies when it is done. The parsed request lives only during the call.
 */
#pragma once

#include "daemon/core/block.h"
#include "daemon/core/internal.h"

typedef Kvpaged__V1__Request Request;
typedef Kvpaged__V1__Reply Reply;

enum verb_result { VERB_REPLY, VERB_QUEUED };

typedef enum verb_result verb_fn(struct core_session *session, const Request *request, Reply *reply);

verb_fn verb_hello;
verb_fn verb_open_space;
verb_fn verb_drop_space;
verb_fn verb_append;
verb_fn verb_fetch;
verb_fn verb_release;
verb_fn verb_match;
verb_fn verb_delete;
verb_fn verb_evict;
verb_fn verb_touch;
verb_fn verb_pin;
verb_fn verb_unpin;
verb_fn verb_stats;
verb_fn verb_list;
verb_fn verb_config;
verb_fn verb_why;
verb_fn verb_subscribe;
verb_fn verb_resize;

/* Fails the request: status, and a sentence for people (static text). Returns VERB_REPLY, for return
 * reply_fail(...). */
enum verb_result reply_fail(Reply *reply, enum kvp_status status, const char *text);

/* Sends a reply; flags are CORE_REPLY_*. */
void reply_send(struct core_session *session, const Reply *reply, unsigned flags);

/* Completes and sends a reply that is one status byte an item. */
enum verb_result reply_items(struct core_session *session, Reply *reply, uint8_t *item_status, size_t n);

/* Ends the session: its requests are ignored from now on. reason is static text. */
void session_end(struct core_session *session, const char *reason);

/* A request that began then is done: how long it took is counted. */
void session_note_request(struct core *core, uint32_t verb, uint64_t begin_ns);

/* Queues an operation for the session. */
void op_queue(struct core_session *session, struct op *op);

/* The open space of this id, or NULL with the reply failed. */
struct space *space_of(struct core_session *session, uint32_t space_id, Reply *reply);

/*
 * Whether the space is the one that the session had open when the request came. What is done later has to ask: the
 * session itself may have sent a DropSpace before, and another space can have its number by now.
 */
static inline bool space_stands(const struct core *core, uint32_t space_id, uint64_t life)
{
	return core->spaces[space_id].live && core->spaces[space_id].life == life;
}

/* Whether the key's length is within limits. */
static inline bool key_valid(ProtobufCBinaryData key)
{
	return key.len >= 1 && key.len <= KVP_KEY_BYTES_MAX;
}

static inline struct block_key key_of(ProtobufCBinaryData key)
{
	return (struct block_key){ .bytes = key.data, .n = key.len };
}

static inline ProtobufCBinaryData text_data(const char *text, size_t n)
{
	return (ProtobufCBinaryData){ .data = (uint8_t *)text, .len = n };
}

/* Pages [begin, end) of layers and head groups that a Range names. */
struct page_range {
	uint32_t layer_begin;
	uint32_t layer_end;
	uint32_t group_begin;
	uint32_t group_end;
};

/* Resolves a Range (NULL: everything) against the space. Heads that share a page with wanted ones come along.
 * false: out of range. */
bool range_resolve(const struct space *space, const Kvpaged__V1__Range *range, struct page_range *ret_range);

/* Delivers a block that is ready: takes the lease (ttl_ms 0: none), counts, and fills the item. */
void fetch_deliver(struct core_session *session, uint32_t block, const struct page_range *range, uint32_t ttl_ms,
		   Kvpaged__V1__FetchItem *item);

/* A block that was asked for is not to be had. */
void fetch_count_miss(struct core *core, uint32_t space_id, struct block_key key);

/* Whether every page in range is ready. */
bool range_ready(const struct core *core, uint32_t block, const struct page_range *range);
