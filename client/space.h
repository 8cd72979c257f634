/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opened spaces. Schema and geometry are constant for a handle's life; its number at the daemon, and whether
 * it is usable at all, change when the client reconnects: another client may have registered the name with
 * another schema meanwhile.
 */
#pragma once

#include "base/list.h"
#include "client/kvclient.h"
#include "codec/page.h"
#include "proto/limits.h"

#include <stdatomic.h>
#include <stdint.h>

struct kvc_space {
	struct list link;             /* in kvc_client.spaces */
	struct kvc_client *client;    /* constant */
	_Atomic uint32_t id;          /* the daemon's number; it changes only while no session stands */
	_Atomic int broken;           /* KVC_OK, or why the space cannot be used; KVC_BUSY: it is being dropped */
	struct kvc_schema schema;     /* constant, as geometry and the strings */
	struct page_schema geometry;
	uint32_t head_groups;
	uint32_t page_count;
	struct page_sizes sizes;      /* of a page with all tokens */
	char name[KVP_NAME_BYTES_MAX + 1];
	char model[KVP_MODEL_BYTES_MAX + 1];
	char revision[KVP_REVISION_BYTES_MAX + 1];
};

/*
 * Opens every space of a client anew after it reconnected. A space that cannot be opened becomes broken.
 * Results: 0; negative errno or KVC_STOPPING when the connection is of no use.
 */
int space_reopen_all(struct kvc_client *client);

/* KVC_OK, or why the space cannot be used, in words. With the client's lock. */
int space_check(struct kvc_space *space);

/* The same from any thread, without words. */
static inline int space_broken(const struct kvc_space *space)
{
	return atomic_load_explicit(&space->broken, memory_order_acquire);
}

static inline uint32_t space_id(const struct kvc_space *space)
{
	return atomic_load_explicit(&space->id, memory_order_acquire);
}

static inline struct page_sizes space_page_sizes(const struct kvc_space *space, uint32_t tokens)
{
	return tokens == space->geometry.block_tokens ? space->sizes : page_sizes(&space->geometry, tokens);
}

/* Frees a client's spaces. */
void space_free_all(struct kvc_client *client);
