/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit itself: each invariant is broken by hand, and the audit must say which. Without this, tests that end with
 * an audit would show nothing once the audit looked away.
 *
 * What is broken is put back afterwards, so that one core serves all cases.
 */
#include "daemon/core/internal.h"
#include "proto/layout.h"
#include "proto/status.h"
#include "tests/lib/core-rig.h"
#include "tests/lib/harness.h"

#include <stdlib.h>
#include <string.h>

struct scene {
	struct rig rig;
	struct rig_peer *peer;
	uint32_t root;    /* complete, with a child and a lease */
	uint32_t child;   /* complete */
	uint32_t partial; /* one page of four */
	uint32_t limbo;   /* removed under a lease */
	uint32_t space;
};

static uint32_t block_called(const struct core *core, const char *key)
{
	for (uint32_t block = 1; block <= core->arena.blocks_count; block++) {
		const struct kvp_block *shared = shared_block(core, block);

		if (core->blocks[block].state != BLOCK_FREE && shared->key_bytes == strlen(key) &&
		    memcmp(shared->key, key, shared->key_bytes) == 0)
			return block;
	}
	fail_msg("no block %s", key);
	return 0;
}

static void store(struct scene *scene, const char *key, const char *parent, uint32_t page_bytes, uint32_t pages)
{
	assert_int_equal(rig_append(scene->peer, scene->space, key, parent, 16, page_bytes, 0, pages, 1), KVP_OK);
}

static void scene_begin(struct scene *scene)
{
	Kvpaged__V1__OpenSpaceReply opened;
	struct core *core;

	rig_start(&scene->rig, KVP_ARENA_BYTES_MIN, 64, NULL);
	core = scene->rig.core;
	scene->peer = rig_connect_reader(&scene->rig, 0, 1000, 64 << 10, 1);
	scene->space = rig_open_small(scene->peer, &opened);
	store(scene, "gone", NULL, opened.page_bytes, 4);
	store(scene, "root", NULL, opened.page_bytes, 4);
	store(scene, "child", "root", opened.page_bytes, 4);
	store(scene, "part", NULL, opened.page_bytes, 1);
	assert_int_equal(rig_fetch(scene->peer, scene->space, "root", 60000, NULL), KVP_OK);
	assert_int_equal(rig_fetch(scene->peer, scene->space, "gone", 60000, NULL), KVP_OK);
	scene->limbo = block_called(core, "gone");
	assert_int_equal(rig_delete(scene->peer, scene->space, "gone"), KVP_OK);
	scene->root = block_called(core, "root");
	scene->child = block_called(core, "child");
	scene->partial = block_called(core, "part");
	rig_audit(&scene->rig);
}

static void expect(struct scene *scene, const char *words)
{
	const char *wrong = core_audit(scene->rig.core);

	if (!wrong || !strstr(wrong, words))
		fail_msg("the audit says '%s', and not '%s'", wrong ? wrong : "all is well", words);
}

/* The audit while a variable has another value. */
#define BREAK(variable, value, words)                            \
	do {                                                     \
		__typeof__(variable) before_ = (variable);       \
		(variable) = (__typeof__(variable))(value);      \
		expect(scene, words);                            \
		(variable) = before_;                            \
		rig_audit(&scene->rig);                          \
	} while (0)

static void test_pages(void **state)
{
	struct scene whole, *scene = &whole;
	struct kvp_block *root;
	struct kvp_page *map;

	scene_begin(scene);
	root = shared_block(scene->rig.core, scene->root);
	map = shared_pages(scene->rig.core, scene->root);
	BREAK(map[0].slot, 1, "outside the extents");
	BREAK(map[0].slot, UINT32_MAX, "outside the extents");
	BREAK(map[1].flags, 0, "pages_ready");
	BREAK(scene->rig.core->blocks[scene->root].slot_bytes, 512, "slot bytes");
	BREAK(root->generation, root->generation + 1, "generation is odd");
	BREAK(root->space_id, 0, "space is not");
	BREAK(root->space_id, 9, "space is not");
	BREAK(root->key_hash, 1, "not in the index");
	rig_stop(&scene->rig);
}

static void test_family(void **state)
{
	struct scene whole, *scene = &whole;
	struct block *blocks;

	scene_begin(scene);
	blocks = scene->rig.core->blocks;
	BREAK(blocks[scene->partial].parent, scene->limbo, "parent is not resident");
	BREAK(shared_block(scene->rig.core, scene->child)->parent_hash, 1, "shared parent");
	BREAK(blocks[scene->root].first_child, scene->partial, "does not know its parent");
	BREAK(blocks[scene->child].next_sibling, scene->child, "a loop");
	BREAK(blocks[scene->root].children, 2, "number of children");
	BREAK(blocks[scene->limbo].children, 1, "in limbo with children");
	BREAK(blocks[scene->limbo].leases, 0, "for nobody");
	rig_stop(&scene->rig);
}

static void test_states(void **state)
{
	struct scene whole, *scene = &whole;
	struct core *core;
	uint32_t free_block;

	scene_begin(scene);
	core = scene->rig.core;
	free_block = core->free_block;
	BREAK(core->entries[scene->child].place, POLICY_ABSENT, "the policy");
	BREAK(core->blocks[scene->child].holds, 1, "the policy");
	BREAK(shared_block(core, free_block)->generation, 2, "generation is even");
	BREAK(core->blocks[free_block].state, 77, "in no state");
	BREAK(core->blocks[scene->partial].writers, ((struct list){ &core->blocks[scene->partial].writers,
								    &core->blocks[scene->partial].writers }),
	      "writers though complete");
	rig_stop(&scene->rig);
}

static void test_sums(void **state)
{
	struct scene whole, *scene = &whole;
	struct space_totals *totals;
	struct user *user;
	struct core *core;

	scene_begin(scene);
	core = scene->rig.core;
	totals = &core->spaces[scene->space].totals;
	user = scene->peer->session->user;
	BREAK(totals->blocks, 77, "counts are wrong");
	BREAK(totals->blocks_partial, 77, "counts are wrong");
	BREAK(totals->pages, 77, "counts are wrong");
	BREAK(totals->tokens, 77, "counts are wrong");
	BREAK(totals->stored_bytes, 77, "bytes are wrong");
	BREAK(totals->overhead_bytes, 77, "bytes are wrong");
	BREAK(totals->logical_f16_bytes, 77, "bytes are wrong");
	BREAK(user->sessions, 77, "account is wrong");
	BREAK(user->staging_bytes, 77, "account is wrong");
	BREAK(user->pinned_bytes, 77, "account is wrong");
	BREAK(user->records, 77, "account is wrong");
	BREAK(core->limbo_bytes, 77, "limbo bytes");
	BREAK(core->arena.counters->leases, 77, "number of leases");
	BREAK(core->arena.counters->subscribers, 77, "count of subscribers");
	BREAK(core->arena.taken_bytes, 77, "books are wrong");
	BREAK(core->loading_bytes, 77, "slots are taken");
	BREAK(core->free_blocks, 77, "number of free blocks");
	BREAK(scene->peer->session->staging_bytes, 77, "account is wrong");
	rig_stop(&scene->rig);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_pages),
	cmocka_unit_test(test_family),
	cmocka_unit_test(test_states),
	cmocka_unit_test(test_sums),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
