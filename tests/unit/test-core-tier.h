/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of a core on a tier share, whose every step the test decides. */
#pragma once

#include "tests/lib/core-rig.h"
#include "tests/lib/harness.h"

#include "base/units.h"
#include "daemon/core/internal.h"
#include "proto/fate.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGES 4

struct scene {
	struct rig rig;
	struct tier_memory tier;
	struct rig_peer *peer;
	Kvpaged__V1__OpenSpaceReply space;
	uint32_t id;
};

/* Without a space. */
static inline struct scene *scene_empty(uint32_t blocks_max, enum core_tier_admit admit, uint32_t free_percent)
{
	struct scene *scene = calloc(1, sizeof(*scene));

	assert_non_null(scene);
	rig_start_tier(&scene->rig, 16 * MIB, blocks_max, &scene->tier, admit, free_percent);
	scene->peer = rig_connect(&scene->rig, 0, 1000, MIB);
	return scene;
}

static inline struct scene *scene_new(enum core_tier_admit admit, uint32_t free_percent)
{
	struct scene *scene = scene_empty(32, admit, free_percent);

	scene->id = rig_open_small(scene->peer, &scene->space);
	return scene;
}

static inline void scene_end(struct scene *scene)
{
	rig_stop(&scene->rig);
	free(scene);
}

static inline ProtobufCBinaryData text(const char *key)
{
	return (ProtobufCBinaryData){ .len = strlen(key), .data = (uint8_t *)key };
}

static inline void append(struct scene *scene, const char *key, const char *parent, uint8_t fill)
{
	assert_int_equal(rig_append(scene->peer, scene->id, key, parent, 16, scene->space.page_bytes, 0, PAGES, fill),
			 KVP_OK);
}

static inline void evict_all(struct scene *scene)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Evict body = KVPAGED__V1__EVICT__INIT;

	body.all = true;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_EVICT;
	request.evict = &body;
	assert_int_equal(rig_call(scene->peer, &request)->status, KVP_OK);
	rig_audit(&scene->rig);
}

static inline unsigned fate_of(struct scene *scene, const char *key)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Why body = KVPAGED__V1__WHY__INIT;

	body.space_id = scene->id;
	body.key = text(key);
	request.verb_case = KVPAGED__V1__REQUEST__VERB_WHY;
	request.why = &body;
	return rig_call(scene->peer, &request)->why->fate;
}

/* Sends a Fetch of one key without waiting for its answer. */
static inline void send_fetch(struct scene *scene, struct rig_peer *peer, const char *key, uint32_t layer,
			      bool prefetch)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Fetch body = KVPAGED__V1__FETCH__INIT;
	Kvpaged__V1__Range range = KVPAGED__V1__RANGE__INIT;
	ProtobufCBinaryData keys[1] = { text(key) };

	range.layer_begin = layer;
	range.layer_count = layer ? 1 : 0;
	body.space_id = scene->id;
	body.n_keys = 1;
	body.keys = keys;
	body.range = &range;
	body.prefetch = prefetch;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_FETCH;
	request.fetch = &body;
	rig_send(peer, &request);
	rig_run(&scene->rig);
	rig_audit(&scene->rig);
}

static inline unsigned fetched(const struct rig_peer *peer)
{
	assert_int_equal(peer->last->verb_case, KVPAGED__V1__REPLY__VERB_FETCH);
	return peer->last->fetch->items[0]->status;
}

static inline Kvpaged__V1__MatchReply match(struct scene *scene, const char *const *names, size_t n)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Match body = KVPAGED__V1__MATCH__INIT;
	ProtobufCBinaryData keys[8];

	for (size_t i = 0; i < n; i++)
		keys[i] = text(names[i]);
	body.space_id = scene->id;
	body.n_keys = n;
	body.keys = keys;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_MATCH;
	request.match = &body;
	return *rig_call(scene->peer, &request)->match;
}

static inline void assert_bytes(struct scene *scene, const char *key, uint8_t fill)
{
	Kvpaged__V1__FetchItem item;
	const struct kvp_block *block;
	const struct kvp_page *map;

	assert_int_equal(rig_fetch(scene->peer, scene->id, key, 1000, &item), KVP_OK);
	block = &scene->rig.core->arena.blocks[item.block - 1];
	map = arena_at(&scene->rig.core->arena, block->map_offset);
	assert_int_equal(block->pages_ready, PAGES);
	for (uint32_t page = 0; page < PAGES; page++) {
		const uint8_t *bytes = arena_at(&scene->rig.core->arena, (uint64_t)map[page].slot * KVP_SLOT_ALIGN);

		for (uint32_t i = 0; i < scene->space.page_bytes; i++)
			assert_int_equal(bytes[i], fill);
		assert_int_equal(kvp_page_checksum(bytes, scene->space.page_bytes), map[page].checksum);
	}
}
