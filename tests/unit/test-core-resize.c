/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena made smaller and larger: what stays is right, the coldest goes first and little more than must; what is
 * asked is bounded, and the host may refuse.
 */
#include "tests/unit/test-core-resize.h"

/* ---- Empty extents ---- */

static void test_empty_extents_go_and_come_back(void **state)
{
	struct scene scene;
	const Kvpaged__V1__ResizeReply *reply;

	scene_start(&scene);
	fill(&scene, 20);
	reply = resize(&scene, 16 * MIB);
	assert_true(reply->done);
	assert_int_equal(reply->bytes, 16 * MIB);
	assert_int_equal(reply->held_bytes, 16 * MIB);
	assert_int_equal(reply->evicted_blocks + reply->moved_bytes, 0);
	assert_int_equal(reply->discarded_bytes, ARENA - 16 * MIB);
	assert_int_equal(discarded(&scene), 12);
	assert_int_equal(rig_counter(scene.asker, "retired_bytes"), 24 * MIB);
	assert_int_equal(rig_counter(scene.asker, "arena_limit_bytes"), 16 * MIB);
	reply = resize(&scene, 17 * MIB + 5);
	assert_int_equal(reply->bytes, 16 * MIB);
	reply = resize(&scene, ARENA);
	assert_true(reply->done);
	assert_int_equal(reply->held_bytes, ARENA);
	assert_int_equal(discarded(&scene), 0);
	assert_int_equal(count_resident(&scene), 20);
	fill(&scene, 1000);
	assert_int_equal(count_resident(&scene), 1020);
	rig_stop(&scene.rig);
}

/* The limit holds for what is appended later, and full appends evict as in an arena of that size. */
static void test_appends_keep_to_the_limit(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_true(resize(&scene, 12 * MIB)->done);
	fill(&scene, 3000);
	rig_audit(&scene.rig);
	assert_int_equal(arena_held_bytes(&scene.rig.core->arena), 12 * MIB);
	assert_true(count_resident(&scene) > 300);
	assert_true(count_resident(&scene) < 700);
	assert_int_not_equal(number_of(&scene, 2999), 0);
	rig_stop(&scene.rig);
}

/* ---- Full ones ---- */

/*
 * A hundred blocks an extent, used in random order: by eviction alone nearly all would have to go before extents are
 * empty. What goes must be the coldest, and hardly more than what is given back.
 */
static void test_the_coldest_go_and_the_rest_moves(void **state)
{
	struct scene scene;
	struct core *core;
	const Kvpaged__V1__ResizeReply *reply;
	uint64_t coldest = UINT64_MAX, used[1600];

	scene_start(&scene);
	core = scene.rig.core;
	fill(&scene, 1600);
	srandom(7);
	for (unsigned i = 0; i < 10000; i++)
		block_touch(core, number_of(&scene, (unsigned)random() % scene.n));
	for (unsigned i = 0; i < scene.n; i++)
		used[i] = core->entries[number_of(&scene, i)].used;
	reply = resize(&scene, 20 * MIB);
	assert_true(reply->done);
	assert_int_equal(reply->held_bytes, 20 * MIB);
	assert_int_equal(discarded(&scene), 10);
	print_message("evicted %lu bytes, moved %lu, gave back %lu\n", reply->evicted_bytes, reply->moved_bytes,
		      reply->discarded_bytes);
	assert_true(reply->evicted_bytes <= reply->discarded_bytes + KVP_EXTENT_BYTES);
	assert_true(reply->moved_bytes <= 20 * MIB);
	assert_true(count_resident(&scene) == 1600 - reply->evicted_blocks);
	for (unsigned i = 0; i < scene.n; i++)
		if (number_of(&scene, i) && used[i] < coldest)
			coldest = used[i];
	for (unsigned i = 0; i < scene.n; i++)
		assert_true(number_of(&scene, i) || used[i] < coldest);
	assert_int_equal(rig_counter(scene.asker, "evictions_resize_total"), 1600 - count_resident(&scene));
	rig_stop(&scene.rig);
}

/* The same without moving, for comparison: what eviction alone must take until so many extents are empty. */
static void test_eviction_alone_takes_nearly_all(void **state)
{
	struct scene scene;
	struct core *core;
	uint64_t evicted = 0;
	uint32_t before;

	scene_start(&scene);
	core = scene.rig.core;
	fill(&scene, 1600);
	srandom(7);
	for (unsigned i = 0; i < 10000; i++)
		block_touch(core, number_of(&scene, (unsigned)random() % scene.n));
	before = arena_extents_used(&core->arena);
	while (arena_extents_used(&core->arena) + 7 > before) {
		uint64_t bytes;

		assert_int_equal(evict_one(core, 0, KVP_FATE_EVICTED, &bytes), 1);
		evicted += bytes;
		(void)limbo_collect(core);
	}
	print_message("evicted %lu bytes for 7 of %u extents\n", evicted, before);
	assert_true(evicted > 12 * KVP_EXTENT_BYTES);
	rig_stop(&scene.rig);
}

/* Who reads without a pin, its lease being over, must be able to tell. */
static void test_what_moved_has_another_generation(void **state)
{
	struct scene scene;
	struct core *core;
	uint32_t slot[1600];
	uint64_t generation[1600];
	unsigned moved = 0;
	char key[16];

	scene_start(&scene);
	core = scene.rig.core;
	fill(&scene, 1600);
	for (unsigned i = 0; i < 1600; i++) {
		slot[i] = shared_pages(core, number_of(&scene, i))[0].slot;
		generation[i] = shared_block(core, number_of(&scene, i))->generation;
		if (i % 3 != 0)
			assert_int_equal(rig_delete(scene.writer, scene.space, key_text(i, key)), KVP_OK);
	}
	assert_true(resize(&scene, 16 * MIB)->done);
	for (unsigned i = 0; i < 1600; i += 3) {
		uint32_t number = number_of(&scene, i);

		if (shared_pages(core, number)[0].slot == slot[i])
			continue;
		moved++;
		assert_true(shared_block(core, number)->generation > generation[i]);
		assert_int_equal(shared_block(core, number)->generation % 2, 0);
	}
	assert_true(moved > 100);
	rig_stop(&scene.rig);
}

/* What is half empty is packed, and nothing is evicted. */
static void test_nothing_goes_that_fits(void **state)
{
	struct scene scene;
	const Kvpaged__V1__ResizeReply *reply;
	char key[16];

	scene_start(&scene);
	fill(&scene, 1600);
	for (unsigned i = 0; i < 1600; i++)
		if (i % 3 != 0)
			assert_int_equal(rig_delete(scene.writer, scene.space, key_text(i, key)), KVP_OK);
	reply = resize(&scene, 16 * MIB);
	assert_true(reply->done);
	assert_int_equal(reply->evicted_blocks, 0);
	assert_true(reply->moved_bytes > 0);
	assert_int_equal(count_resident(&scene), 534);
	rig_stop(&scene.rig);
}

/* ---- Several spaces ---- */

/* Chains stay closed under prefixes, which the audit checks, and blocks of several sizes move in their classes. */
static void test_spaces_and_families(void **state)
{
	struct scene scene;
	Kvpaged__V1__Schema schema;
	Kvpaged__V1__OpenSpaceReply large, single;
	uint32_t large_id, single_id;
	char key[16], parent[16];

	scene_start(&scene);
	rig_schema(&schema, 8, 8, 128);
	large_id = rig_open(scene.writer, "large", &schema, &large);
	rig_schema(&schema, 1, 1, 64);
	single_id = rig_open(scene.writer, "single", &schema, &single);
	assert_int_equal(single.page_count, 1);
	for (unsigned i = 0; i < 200; i++, scene.n++) {
		assert_int_equal(append_under(&scene, i, i % 20 ? key_text(i - 1, parent) : NULL), KVP_OK);
		assert_int_equal(rig_append(scene.writer, large_id, key_text(i, key), NULL, 16, large.page_bytes, 0,
					    large.page_count, (uint8_t)i),
				 KVP_OK);
		assert_int_equal(rig_append(scene.writer, single_id, key_text(i, key), NULL, 16, single.page_bytes, 0,
					    1, (uint8_t)i),
				 KVP_OK);
	}
	for (uint64_t bytes = 30 * MIB; bytes >= 12 * MIB; bytes -= 2 * MIB) {
		const Kvpaged__V1__ResizeReply *reply = resize(&scene, bytes);

		assert_true(reply->done);
		assert_int_equal(reply->held_bytes, bytes);
		(void)count_resident(&scene);
	}
	rig_stop(&scene.rig);
}

/* Blocks of so small pages that their maps are a fifth of what moves, in the same extents. */
static void test_maps_move(void **state)
{
	struct scene scene = { .n = 0 };
	Kvpaged__V1__Schema schema;
	uint32_t before;
	char key[16];

	rig_start(&scene.rig, ARENA, 16384, NULL);
	scene.writer = rig_connect(&scene.rig, 0, 1000, MIB);
	scene.asker = rig_connect(&scene.rig, 2, 1002, 0);
	rig_schema(&schema, PAGES, 1, 8);
	schema.block_tokens = 16;
	scene.space = rig_open(scene.writer, "tiny", &schema, &scene.reply);
	fill(&scene, 9000);
	before = scene.rig.core->spaces[scene.space].map_class->extents;
	assert_true(before >= 10);
	for (unsigned i = 0; i < 9000; i++)
		if (i % 4 != 0)
			assert_int_equal(rig_delete(scene.writer, scene.space, key_text(i, key)), KVP_OK);
	assert_true(resize(&scene, scene.rig.core->arena.extents_offset + 4 * KVP_EXTENT_BYTES)->done);
	assert_int_equal(scene.rig.core->spaces[scene.space].map_class->extents, 4);
	assert_int_equal(count_resident(&scene), 2250);
	rig_stop(&scene.rig);
}

/* ---- Who asks what ---- */

static unsigned refused(struct scene *scene, uint64_t bytes, uint32_t wait_ms)
{
	send_resize(scene->asker, bytes, wait_ms);
	return scene->asker->last->status;
}

static void test_bad_sizes(void **state)
{
	struct scene scene;
	const Kvpaged__V1__ResizeReply *reply;

	scene_start(&scene);
	assert_int_equal(refused(&scene, 0, 0), KVP_INVALID);
	assert_int_equal(refused(&scene, ARENA + 1, 0), KVP_RANGE);
	assert_int_equal(refused(&scene, UINT64_MAX, 0), KVP_RANGE);
	assert_int_equal(refused(&scene, MIB, KVP_RESIZE_WAIT_MS_MAX + 1), KVP_RANGE);
	reply = resize(&scene, 1);
	assert_true(reply->done);
	assert_int_equal(reply->bytes, scene.rig.core->arena.extents_offset + 2 * KVP_EXTENT_BYTES);
	fill(&scene, 500);
	assert_true(count_resident(&scene) > 50);
	rig_stop(&scene.rig);
}

/* The last who asks says how large it is to be; both are told. A session waits once, and may go. */
static void test_several_ask(void **state)
{
	struct scene scene;
	unsigned replies, replies_writer;

	scene_start(&scene);
	fill(&scene, 1600);
	replies = scene.asker->n_replies;
	replies_writer = scene.writer->n_replies;
	send_resize(scene.asker, 10 * MIB, ASK_MS);
	for (unsigned i = 0; i < 30; i++)
		step(&scene);
	send_resize(scene.writer, 30 * MIB, ASK_MS);
	send_resize(scene.reader, 30 * MIB, ASK_MS);
	assert_int_equal(scene.asker->n_replies, replies);
	send_resize(scene.writer, 20 * MIB, ASK_MS);
	assert_int_equal(scene.writer->last->status, KVP_TOO_MANY);
	rig_disconnect(scene.reader);
	rig_audit(&scene.rig);
	steps_until_reply(&scene, scene.asker, replies);
	assert_int_equal(scene.asker->last->resize->bytes, 30 * MIB);
	assert_true(scene.asker->last->resize->done);
	assert_int_equal(scene.writer->n_replies, replies_writer + 2);
	rig_stop(&scene.rig);
}

/* Pressure makes it smaller, down to what it says, and never larger than what was asked for. */
static void test_pressure(void **state)
{
	struct scene scene;
	struct core *core;

	scene_start(&scene);
	core = scene.rig.core;
	fill(&scene, 1600);
	core_press(core, 20 * MIB, scene.rig.now_ns);
	while (core_held_bytes(core) > 20 * MIB)
		step(&scene);
	assert_int_equal(rig_counter(scene.asker, "memory_pressures_total"), 1);
	assert_int_equal(core_asked_bytes(core), ARENA);
	assert_int_equal(resize(&scene, 30 * MIB)->bytes, 20 * MIB);
	assert_int_equal(scene.asker->last->resize->asked_bytes, 30 * MIB);
	core_press(core, UINT64_MAX, scene.rig.now_ns);
	while (core_held_bytes(core) < 30 * MIB)
		step(&scene);
	for (unsigned i = 0; i < 100; i++)
		step(&scene);
	assert_int_equal(core_held_bytes(core), 30 * MIB);
	rig_stop(&scene.rig);
}

/* ---- The host refuses ---- */

static void test_host_refuses(void **state)
{
	struct scene scene;
	const Kvpaged__V1__ResizeReply *reply;

	scene_start(&scene);
	scene.rig.refuse_discard = true;
	reply = resize(&scene, 20 * MIB);
	assert_true(reply->done);
	assert_int_equal(reply->bytes, ARENA);
	scene.rig.refuse_discard = false;
	assert_int_equal(resize(&scene, 20 * MIB)->held_bytes, 20 * MIB);
	scene.rig.refuse_restore = true;
	reply = resize(&scene, 30 * MIB);
	assert_int_equal(reply->bytes, 20 * MIB);
	assert_int_equal(reply->asked_bytes, 30 * MIB);
	fill(&scene, 1600);
	assert_int_equal(arena_held_bytes(&scene.rig.core->arena), 20 * MIB);
	scene.rig.refuse_restore = false;
	assert_int_equal(resize(&scene, 30 * MIB)->held_bytes, 30 * MIB);
	rig_stop(&scene.rig);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty_extents_go_and_come_back),
		cmocka_unit_test(test_appends_keep_to_the_limit),
		cmocka_unit_test(test_the_coldest_go_and_the_rest_moves),
		cmocka_unit_test(test_eviction_alone_takes_nearly_all),
		cmocka_unit_test(test_what_moved_has_another_generation),
		cmocka_unit_test(test_nothing_goes_that_fits),
		cmocka_unit_test(test_spaces_and_families),
		cmocka_unit_test(test_maps_move),
		cmocka_unit_test(test_bad_sizes),
		cmocka_unit_test(test_several_ask),
		cmocka_unit_test(test_pressure),
		cmocka_unit_test(test_host_refuses),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
