/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of Resize share: a core whose host takes all access from memory that it was given, so whatever touches
 * that dies; blocks whose bytes tell their number; time that goes from deadline to deadline, with an audit after each.
 */
#pragma once

#include "tests/lib/core-rig.h"
#include "tests/lib/harness.h"

#include "base/units.h"
#include "daemon/core/block.h"
#include "daemon/core/evict.h"
#include "daemon/core/hazard.h"
#include "proto/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA (40 * MIB)
#define BLOCKS_MAX 4096
#define PAGES 4
#define ASK_MS 1000

/* Peer 0 writes, peer 1 reads by hazards, peer 2 asks. */
struct scene {
	struct rig rig;
	struct rig_peer *writer;
	struct rig_peer *reader;
	struct rig_peer *asker;
	uint32_t space;
	Kvpaged__V1__OpenSpaceReply reply;
	unsigned n; /* blocks appended */
	/* What random steps have pinned: where it lay then. */
	struct {
		const uint8_t *pages[PAGES]; /* the first is NULL: nothing */
		unsigned i;
	} pinned[KVP_HAZARDS];
};

static inline void scene_start(struct scene *scene)
{
	*scene = (struct scene){ .n = 0 };
	rig_start(&scene->rig, ARENA, BLOCKS_MAX, NULL);
	scene->writer = rig_connect(&scene->rig, 0, 1000, MIB);
	scene->reader = rig_connect_reader(&scene->rig, 1, 1001, 0, 4);
	scene->asker = rig_connect(&scene->rig, 2, 1002, 0);
	scene->space = rig_open_small(scene->writer, &scene->reply);
}

static inline char *key_text(unsigned i, char text[16])
{
	(void)snprintf(text, 16, "k%u", i);
	return text;
}

static inline unsigned append_under(struct scene *scene, unsigned i, const char *parent)
{
	char key[16];

	return rig_append(scene->writer, scene->space, key_text(i, key), parent, 16, scene->reply.page_bytes, 0, PAGES,
			  (uint8_t)i);
}

/* n more blocks of the small space. */
static inline void fill(struct scene *scene, unsigned n)
{
	for (unsigned i = 0; i < n; i++, scene->n++)
		assert_int_equal(append_under(scene, scene->n, NULL), KVP_OK);
}

static inline uint32_t number_of(const struct scene *scene, unsigned i)
{
	char key[16];

	return block_find(scene->rig.core, scene->space, (struct block_key){ key_text(i, key), strlen(key) });
}

/* Whether the bytes of the block with this number are what was appended as number i. */
static inline void assert_bytes(const struct scene *scene, uint32_t number, unsigned i)
{
	const struct core *core = scene->rig.core;
	const struct kvp_page *map = shared_pages(core, number);

	for (unsigned page = 0; page < PAGES; page++) {
		const uint8_t *bytes = arena_at(&core->arena, (uint64_t)map[page].slot * KVP_SLOT_ALIGN);

		assert_int_equal(bytes[0], (uint8_t)i);
		assert_int_equal(kvp_page_checksum(bytes, scene->reply.page_bytes), map[page].checksum);
	}
}

/* Checks all that are there; returns how many. */
static inline unsigned count_resident(const struct scene *scene)
{
	unsigned n = 0;

	for (unsigned i = 0; i < scene->n; i++) {
		uint32_t number = number_of(scene, i);

		if (!number)
			continue;
		assert_bytes(scene, number, i);
		n++;
	}
	return n;
}

static inline void send_resize(struct rig_peer *peer, uint64_t bytes, uint32_t wait_ms)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Resize resize = KVPAGED__V1__RESIZE__INIT;

	resize.bytes = bytes;
	resize.wait_ms = wait_ms;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_RESIZE;
	request.resize = &resize;
	rig_send(peer, &request);
}

/* Time goes to the next deadline. */
static inline void step(struct scene *scene)
{
	struct rig *rig = &scene->rig;
	uint64_t due_ns = core_deadline_ns(rig->core);

	assert_true(due_ns != UINT64_MAX);
	rig->now_ns = due_ns > rig->now_ns ? due_ns : rig->now_ns + 1;
	core_tick(rig->core, rig->now_ns);
	rig_audit(rig);
}

static inline void steps_until_reply(struct scene *scene, struct rig_peer *peer, unsigned replies)
{
	for (unsigned n = 0; peer->n_replies == replies; n++) {
		assert_true(n < 100000);
		step(scene);
	}
}

static inline const Kvpaged__V1__ResizeReply *resize(struct scene *scene, uint64_t bytes)
{
	unsigned replies = scene->asker->n_replies;

	send_resize(scene->asker, bytes, ASK_MS);
	steps_until_reply(scene, scene->asker, replies);
	assert_int_equal(scene->asker->last->status, KVP_OK);
	return scene->asker->last->resize;
}

static inline unsigned discarded(const struct scene *scene)
{
	unsigned n = 0;

	for (unsigned i = 0; i < RIG_EXTENTS_MAX; i++)
		n += scene->rig.discarded[i];
	return n;
}

static inline void pin(struct scene *scene, unsigned hazard, uint32_t number)
{
	scene->reader->control->records_used = 1;
	kvp_control_records(scene->reader->control)[0].hazard[hazard] = number;
}
