/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spaces: registered schemas. A space lives in the shared table until it is dropped; it is dropped only when it
 * holds no block and no session has it open, so an id never changes its meaning for anybody who uses it.
 */
#pragma once

#include "daemon/core/internal.h"

struct space_request {
	struct space_text {
		const uint8_t *bytes;
		size_t n;
	} name, model, revision;
	uint32_t dtype;
	struct page_schema schema; /* complete */
	bool page_heads_free;      /* the client named none: any registered number will do */
};

/* The id of the live space of this name, or 0. */
uint32_t space_find(struct core *core, const uint8_t *name, size_t n);

/*
 * Registers a space; its schema must be complete and its name new. Results: KVP_OK and the id; KVP_TOO_MANY
 * (spaces, size classes, or memory).
 */
int space_create(struct core *core, const struct space_request *request, uint32_t *ret_id);

/* The first field in which the space and the request differ, or NULL. Static text. */
const char *space_differs(struct core *core, uint32_t id, const struct space_request *request);

/* The schema as a message; its texts point into the entry. */
void space_schema_fill(const struct kvp_space_entry *entry, Kvpaged__V1__Schema *schema);

/* Removes a space without blocks that nobody has open. */
void space_drop(struct core *core, uint32_t id);

/*
 * For recover.c: takes what the shared entry tells if that can be. A FREE one is not live then, but blocks of it that
 * still rest can be told the size of. space_adopt_end() lets go of those. Whether the entry was right, or is FREE; a
 * wrong one is FREE afterwards.
 */
bool space_adopt(struct core *core, uint32_t id);
void space_adopt_end(struct core *core);

/* Which spaces a session has open. */
bool session_space_open(const struct core_session *session, uint32_t id);
void session_open_space(struct core_session *session, uint32_t id);
void session_close_space(struct core_session *session, uint32_t id);
