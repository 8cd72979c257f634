/* SPDX-License-Identifier: Apache-2.0 */
/* The arena made smaller while blocks are pinned, leased or written: these stay, and the answer tells. */
#include "tests/unit/test-core-resize.h"

static void test_pinned_and_leased_stay_where_they_are(void **state)
{
	struct scene scene;
	struct core *core;
	Kvpaged__V1__FetchItem item;
	uint32_t pinned, leased, slot;
	uint64_t generation;
	char key[16];

	scene_start(&scene);
	core = scene.rig.core;
	fill(&scene, 1600);
	assert_int_equal(rig_open_small(scene.asker, NULL), scene.space);
	assert_int_equal(rig_fetch(scene.asker, scene.space, key_text(3, key), 600000, &item), KVP_OK);
	leased = number_of(&scene, 3);
	pinned = number_of(&scene, 900);
	pin(&scene, 0, pinned);
	slot = shared_pages(core, pinned)[2].slot;
	generation = shared_block(core, pinned)->generation;
	assert_true(resize(&scene, 8 * MIB)->done);
	assert_int_equal(number_of(&scene, 3), leased);
	assert_int_equal(number_of(&scene, 900), pinned);
	assert_int_equal(shared_pages(core, pinned)[2].slot, slot);
	assert_int_equal(shared_block(core, pinned)->generation, generation);
	assert_int_equal(shared_block(core, leased)->generation, item.generation);
	assert_bytes(&scene, pinned, 900);
	assert_bytes(&scene, leased, 3);
	rig_stop(&scene.rig);
}

/* A reader comes when it is settled already what moves: after the last scan, but before the move. */
static void test_pinned_at_the_last_moment(void **state)
{
	struct scene scene;
	struct core *core;
	const uint8_t *page;
	unsigned i;
	uint32_t number;
	uint64_t offset;
	char key[16];

	scene_start(&scene);
	core = scene.rig.core;
	fill(&scene, 1600);
	for (i = 0; i < 1600; i++)
		if (i % 3 != 0)
			assert_int_equal(rig_delete(scene.writer, scene.space, key_text(i, key)), KVP_OK);
	send_resize(scene.asker, 16 * MIB, ASK_MS);
	while (core->resize.phase != RESIZE_MOVE)
		step(&scene);
	i = 0;
	do {
		i += 3;
		number = number_of(&scene, i);
		offset = (uint64_t)shared_pages(core, number)[0].slot * KVP_SLOT_ALIGN;
	} while (!arena_extent_at(&core->arena, offset)->draining);
	page = arena_at(&core->arena, offset);
	pin(&scene, 0, number);
	steps_until_reply(&scene, scene.asker, scene.asker->n_replies);
	assert_int_equal(number_of(&scene, i), number);
	assert_int_equal(page[0], (uint8_t)i);
	assert_bytes(&scene, number, i);
	rig_stop(&scene.rig);
}

/* Readers hold a block in every extent: the answer says how far it went, and the rest goes when they let go. */
static void test_it_says_what_cannot_go(void **state)
{
	struct scene scene;
	const Kvpaged__V1__ResizeReply *reply;
	uint64_t held;
	unsigned n = 0;

	scene_start(&scene);
	fill(&scene, 1600);
	for (unsigned i = 0; i < 1600 && n < KVP_HAZARDS; i += 105)
		pin(&scene, n++, number_of(&scene, i));
	reply = resize(&scene, 10 * MIB);
	assert_false(reply->done);
	assert_int_equal(reply->bytes, 10 * MIB);
	assert_true(reply->held_bytes > 20 * MIB);
	held = reply->held_bytes;
	for (unsigned i = 0; i < n; i++)
		assert_bytes(&scene, number_of(&scene, i * 105), i * 105);
	for (unsigned i = 0; i < n; i++)
		pin(&scene, i, 0);
	reply = resize(&scene, 10 * MIB);
	assert_true(reply->done);
	assert_int_equal(reply->held_bytes, 10 * MIB);
	assert_true(reply->discarded_bytes >= held - 10 * MIB);
	rig_stop(&scene.rig);
}

/* The same without anybody who asks again: the work goes on by itself, with pauses in which nothing is done. */
static void test_it_goes_on_by_itself(void **state)
{
	struct scene scene;
	unsigned n = 0;
	uint64_t begin_ns;

	scene_start(&scene);
	fill(&scene, 1600);
	for (unsigned i = 0; i < 1600 && n < KVP_HAZARDS; i += 105)
		pin(&scene, n++, number_of(&scene, i));
	assert_false(resize(&scene, 10 * MIB)->done);
	begin_ns = scene.rig.now_ns;
	for (n = 0; scene.rig.now_ns < begin_ns + 60 * NS_PER_S; n++)
		step(&scene);
	assert_true(n < 60 * 1000 / 20 + 2000); /* scans of hazards, and some rounds */
	for (unsigned i = 0; i < KVP_HAZARDS; i++)
		pin(&scene, i, 0);
	for (n = 0; arena_held_bytes(&scene.rig.core->arena) > 10 * MIB; n++) {
		assert_true(n < 2000);
		step(&scene);
	}
	rig_stop(&scene.rig);
}

/* A block with missing pages stays with its writer; its session's end frees it, and the rest goes. */
static void test_unfinished_blocks_stay(void **state)
{
	struct scene scene;
	uint32_t number;

	scene_start(&scene);
	fill(&scene, 500);
	assert_int_equal(rig_append(scene.writer, scene.space, "half", NULL, 16, scene.reply.page_bytes, 0, 2, 9),
			 KVP_OK);
	number = block_find(scene.rig.core, scene.space, (struct block_key){ "half", 4 });
	fill(&scene, 500);
	(void)resize(&scene, 8 * MIB);
	assert_int_equal(block_find(scene.rig.core, scene.space, (struct block_key){ "half", 4 }), number);
	assert_int_equal(rig_append(scene.writer, scene.space, "half", NULL, 16, scene.reply.page_bytes, 2, 2, 9),
			 KVP_OK);
	assert_true(block_complete(scene.rig.core, number));
	assert_bytes(&scene, number, 9);
	assert_true(resize(&scene, 8 * MIB)->done);
	rig_stop(&scene.rig);
}

/* ---- At random ---- */

/* Bytes under a pin do not change, where they lay when it was pinned. */
static void assert_pinned(const struct scene *scene)
{
	for (unsigned h = 0; h < KVP_HAZARDS; h++)
		for (unsigned page = 0; page < PAGES && scene->pinned[h].pages[0]; page++)
			for (unsigned at = 0; at < scene->reply.page_bytes; at += 512)
				assert_int_equal(scene->pinned[h].pages[page][at], (uint8_t)scene->pinned[h].i);
}

static const uint8_t *page_at(const struct core *core, uint32_t number, unsigned page)
{
	return arena_at(&core->arena, (uint64_t)shared_pages(core, number)[page].slot * KVP_SLOT_ALIGN);
}

static void random_pin(struct scene *scene, unsigned i)
{
	const struct core *core = scene->rig.core;
	uint32_t number = number_of(scene, i);
	unsigned h = (unsigned)random() % KVP_HAZARDS;

	pin(scene, h, number);
	scene->pinned[h].i = i;
	for (unsigned page = 0; page < PAGES; page++)
		scene->pinned[h].pages[page] = number ? page_at(core, number, page) : NULL;
}

/* The reader shows signs of life, or it would end. */
static void steps(struct scene *scene)
{
	for (unsigned n = 0; n < 20 && core_deadline_ns(scene->rig.core) != UINT64_MAX; n++) {
		kvp_control_records(scene->reader->control)[0].beats++;
		step(scene);
		assert_pinned(scene);
	}
}

static void random_step(struct scene *scene)
{
	char key[16];
	unsigned i = scene->n ? (unsigned)random() % scene->n : 0;
	uint32_t number = number_of(scene, i);

	switch (random() % 8) {
	case 0:
	case 1:
	case 2:
		fill(scene, 1 + (unsigned)random() % 20);
		break;
	case 3:
		send_resize(scene->asker, 8 * MIB + (uint64_t)random() % (32 * MIB), 0);
		break;
	case 4:
		random_pin(scene, i);
		break;
	case 5:
		(void)rig_delete(scene->writer, scene->space, key_text(i, key));
		break;
	case 6:
		if (number)
			(void)rig_fetch(scene->writer, scene->space, key_text(i, key), 1 + (uint32_t)random() % 500,
					NULL);
		break;
	default:
		steps(scene);
	}
}

static void test_random(void **state)
{
	struct scene scene;

	scene_start(&scene);
	srandom(11);
	for (unsigned n = 0; n < 1500; n++) {
		random_step(&scene);
		rig_audit(&scene.rig);
		assert_pinned(&scene);
		if (n % 20 == 0)
			(void)count_resident(&scene);
	}
	rig_stop(&scene.rig);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pinned_and_leased_stay_where_they_are),
		cmocka_unit_test(test_pinned_at_the_last_moment),
		cmocka_unit_test(test_it_says_what_cannot_go),
		cmocka_unit_test(test_it_goes_on_by_itself),
		cmocka_unit_test(test_unfinished_blocks_stay),
		cmocka_unit_test(test_random),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
