/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An arena is taken over: everything is there again; each kind of damage costs what it must and nothing else; what
 * earlier readers may see is left alone for their time. That a process can be killed anywhere is
 * test-core-recover-kill.
 */
#include "tests/lib/core-rig.h"
#include "tests/lib/harness.h"

#include "base/units.h"
#include "daemon/core/internal.h"
#include "proto/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA (16 * MIB)
#define BLOCKS 8
#define GRACE_MS 500

/* Blocks "a", "b" of "a", "c" of "b", and "d" in space 1, four pages each; "e" in space 2, one page. */
struct scene {
	struct rig rig;
	struct rig_peer *peer;
	uint32_t small;
	uint32_t single;
	Kvpaged__V1__OpenSpaceReply small_reply;
	Kvpaged__V1__OpenSpaceReply single_reply;
};

static const struct core_limits limits = { .restart_grace_ms = GRACE_MS, .pinned_bytes_per_uid_max = ARENA };

static uint32_t open_single(struct rig_peer *peer, Kvpaged__V1__OpenSpaceReply *ret_reply)
{
	Kvpaged__V1__Schema schema;

	rig_schema(&schema, 1, 2, 64);
	return rig_open(peer, "single", &schema, ret_reply);
}

static void open_spaces(struct scene *scene)
{
	scene->peer = rig_connect_reader(&scene->rig, 0, 1000, MIB, 1);
	scene->small = rig_open_small(scene->peer, &scene->small_reply);
	scene->single = open_single(scene->peer, &scene->single_reply);
}

static unsigned append(struct scene *scene, const char *key, const char *parent)
{
	return rig_append(scene->peer, scene->small, key, parent, 16, scene->small_reply.page_bytes, 0, 4,
			  (uint8_t)key[0]);
}

/* Of a page of "e", which has 9 tokens. */
static uint32_t short_page_bytes(const struct scene *scene)
{
	return page_bytes(&scene->rig.core->spaces[scene->single].schema, 9);
}

static void scene_start(struct scene *scene)
{
	rig_start(&scene->rig, ARENA, BLOCKS, &limits);
	open_spaces(scene);
	assert_int_equal(append(scene, "a", NULL), KVP_OK);
	assert_int_equal(append(scene, "b", "a"), KVP_OK);
	assert_int_equal(append(scene, "c", "b"), KVP_OK);
	assert_int_equal(append(scene, "d", NULL), KVP_OK);
	assert_int_equal(rig_append(scene->peer, scene->single, "e", NULL, 9, short_page_bytes(scene), 0, 1, 'e'),
			 KVP_OK);
}

/* Another process takes over what the first one leaves, which goes on in its own arena. */
static void scene_recover(const struct scene *scene, struct scene *ret_after)
{
	*ret_after = (struct scene){ .small = 0 };
	assert_int_equal(rig_recover(&ret_after->rig, scene->rig.arena, ARENA, BLOCKS, &limits), 0);
}

static void stop_both(struct scene *before, struct scene *after)
{
	(void)rig_check_pages(&after->rig);
	rig_stop(&after->rig);
	rig_stop(&before->rig);
}

static struct kvp_block *entry_of(const struct scene *scene, const char *key)
{
	uint32_t number = rig_number(&scene->rig, key);

	assert_int_not_equal(number, 0);
	return shared_block(scene->rig.core, number);
}

static struct kvp_page *map_of(const struct scene *scene, const char *key)
{
	return shared_pages(scene->rig.core, rig_number(&scene->rig, key));
}

/* ---- Whole ---- */

static void test_everything_is_there(void **state)
{
	struct scene before, after;
	const struct core_recovery *recovery;

	scene_start(&before);
	scene_recover(&before, &after);
	recovery = core_recovery(after.rig.core);
	assert_int_equal(recovery->blocks, 5);
	assert_int_equal(recovery->pages, 17);
	assert_int_equal(recovery->spaces, 2);
	assert_int_equal(recovery->unfinished + recovery->damaged + recovery->resting + recovery->spaces_damaged, 0);
	assert_int_equal(recovery->stored_bytes,
			 16 * before.small_reply.page_bytes + short_page_bytes(&before));
	assert_int_equal(rig_check_pages(&after.rig), 5);
	open_spaces(&after);
	assert_int_equal(after.small, before.small);
	assert_int_equal(after.single, before.single);
	assert_false(after.small_reply.created);
	for (char key[2] = "a"; key[0] <= 'd'; key[0]++)
		assert_int_equal(rig_fetch(after.peer, after.small, key, 1000, NULL), KVP_OK);
	assert_int_equal(rig_fetch(after.peer, after.single, "e", 1000, NULL), KVP_OK);
	assert_int_equal(after.rig.core->blocks[rig_number(&after.rig, "c")].parent, rig_number(&after.rig, "b"));
	assert_int_equal(core_recovery(before.rig.core)->blocks, 0);
	stop_both(&before, &after);
}

static void test_life_goes_on(void **state)
{
	struct scene before, after, later;

	scene_start(&before);
	scene_recover(&before, &after);
	assert_int_equal(after.rig.core->arena.header->incarnation, 78);
	open_spaces(&after);
	assert_int_equal(append(&after, "f", "c"), KVP_OK);
	assert_int_equal(append(&after, "a", NULL), KVP_OK); /* present */
	assert_int_equal(rig_counter(after.peer, "append_blocks_total"), 1);
	assert_int_equal(rig_delete(after.peer, after.small, "d"), KVP_OK);
	scene_recover(&after, &later);
	assert_int_equal(core_recovery(later.rig.core)->blocks, 5);
	assert_int_equal(core_recovery(later.rig.core)->resting, 1);
	assert_int_equal(rig_number(&later.rig, "d"), 0);
	stop_both(&before, &after);
	rig_stop(&later.rig);
}

/* Those without pages are the writers', who are gone. */
static void test_unfinished(void **state)
{
	struct scene before, after;
	const struct core_recovery *recovery;

	scene_start(&before);
	assert_int_equal(rig_append(before.peer, before.small, "p", "d", 16, before.small_reply.page_bytes, 1, 2, 'p'),
			 KVP_OK);
	assert_int_equal(append(&before, "q", "p"), KVP_OK);
	scene_recover(&before, &after);
	recovery = core_recovery(after.rig.core);
	assert_int_equal(recovery->blocks, 5);
	assert_int_equal(recovery->unfinished, 2);
	open_spaces(&after);
	assert_int_equal(rig_fetch(after.peer, after.small, "q", 0, NULL), KVP_MISS);
	assert_int_equal(rig_counter(after.peer, "blocks_limbo"), 2);
	stop_both(&before, &after);
}

/* ---- Damage ---- */

static void zero_hash(struct scene *s) { entry_of(s, "d")->key_hash = 0; }
static void other_key(struct scene *s) { entry_of(s, "d")->key[0] = 'z'; }
static void no_key(struct scene *s) { entry_of(s, "d")->key_bytes = 0; }
static void long_key(struct scene *s) { entry_of(s, "d")->key_bytes = KVP_KEY_BYTES_MAX + 1; }
static void no_space(struct scene *s) { entry_of(s, "d")->space_id = 0; }
static void far_space(struct scene *s) { entry_of(s, "d")->space_id = UINT32_MAX; }
static void free_space(struct scene *s) { entry_of(s, "d")->space_id = 9; }
static void other_space(struct scene *s) { entry_of(s, "d")->space_id = s->single; }
static void no_pages(struct scene *s) { entry_of(s, "d")->page_count = 0; }
static void many_pages(struct scene *s) { entry_of(s, "d")->page_count = UINT32_MAX; }
static void no_tokens(struct scene *s) { entry_of(s, "d")->tokens = 0; }
static void many_tokens(struct scene *s) { entry_of(s, "d")->tokens = 17; }
static void no_map(struct scene *s) { entry_of(s, "d")->map_offset = 0; }
static void far_map(struct scene *s) { entry_of(s, "d")->map_offset = UINT64_MAX - 511; }
static void end_map(struct scene *s) { entry_of(s, "d")->map_offset = ARENA; }
static void odd_map(struct scene *s) { entry_of(s, "d")->map_offset += 16; }
static void shared_map(struct scene *s) { entry_of(s, "d")->map_offset = entry_of(s, "a")->map_offset; }
static void map_elsewhere(struct scene *s) { entry_of(s, "e")->map_offset = entry_of(s, "a")->map_offset; }
static void page_as_map(struct scene *s)
{
	entry_of(s, "d")->map_offset = (uint64_t)map_of(s, "a")[0].slot * KVP_SLOT_ALIGN;
}
static void no_slot(struct scene *s) { map_of(s, "d")[2].slot = 0; }
static void far_slot(struct scene *s) { map_of(s, "d")[3].slot = UINT32_MAX; }
static void odd_slot(struct scene *s) { map_of(s, "d")[0].slot += 1; }
static void slot_twice(struct scene *s) { map_of(s, "d")[2].slot = map_of(s, "d")[1].slot; }
static void stolen_slot(struct scene *s) { map_of(s, "d")[2].slot = map_of(s, "a")[2].slot; }
static void map_as_page(struct scene *s)
{
	map_of(s, "d")[2].slot = (uint32_t)(entry_of(s, "d")->map_offset / KVP_SLOT_ALIGN);
}
static void far_slot_single(struct scene *s) { map_of(s, "e")[0].slot = UINT32_MAX; }
static void odd_flags(struct scene *s) { map_of(s, "d")[0].flags = 3; }
static void a_page_missing(struct scene *s) { map_of(s, "b")[3].flags = 0; }
static void ready_lies(struct scene *s) { entry_of(s, "d")->pages_ready = 77; }
static void own_parent(struct scene *s) { entry_of(s, "d")->parent_hash = entry_of(s, "d")->key_hash; }
static void lost_parent(struct scene *s) { entry_of(s, "d")->parent_hash = 4711; }
static void ring(struct scene *s) { entry_of(s, "a")->parent_hash = entry_of(s, "c")->key_hash; }
static void parent_damaged(struct scene *s) { entry_of(s, "a")->tokens = 0; }
static void twice(struct scene *s) { *shared_block(s->rig.core, BLOCKS) = *entry_of(s, "e"); }
static void resting_while_live(struct scene *s) { entry_of(s, "d")->resting = 1; }
static void being_moved(struct scene *s)
{
	entry_of(s, "d")->resting = KVP_RESTING_MOVED;
	entry_of(s, "d")->generation++;
}
static void moved(struct scene *s) { entry_of(s, "d")->resting = KVP_RESTING_MOVED; }
static void dead(struct scene *s) { entry_of(s, "d")->generation++; }
static void dead_resting(struct scene *s)
{
	entry_of(s, "d")->resting = 1;
	entry_of(s, "d")->generation++;
}
static void dead_resting_damaged(struct scene *s)
{
	struct kvp_block *shared = entry_of(s, "d");

	shared->resting = 1;
	shared->generation++;
	shared->map_offset = 77;
}
static void noise(void *memory, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)memory)[i] = (uint8_t)rand();
}
static void index_noise(struct scene *s)
{
	noise(s->rig.core->arena.buckets, (s->rig.core->arena.bucket_mask + 1) * sizeof(struct kvp_bucket));
}
static void index_full(struct scene *s)
{
	memset(s->rig.core->arena.buckets, 0xff, (s->rig.core->arena.bucket_mask + 1) * sizeof(struct kvp_bucket));
}
static void counters_noise(struct scene *s)
{
	noise(s->rig.core->arena.counters, sizeof(struct kvp_counters));
}
static void entry_noise(struct scene *s) { noise(&s->rig.core->arena.spaces[7], sizeof(struct kvp_space_entry)); }

static struct kvp_space_entry *space_of(struct scene *s) { return &s->rig.core->arena.spaces[s->small - 1]; }
static void space_free(struct scene *s) { space_of(s)->state = KVP_SPACE_FREE; }
static void space_no_name(struct scene *s) { space_of(s)->name_bytes = 0; }
static void space_long_name(struct scene *s) { space_of(s)->name_bytes = UINT16_MAX; }
static void space_bad_model(struct scene *s) { space_of(s)->model[0] = (char)0xff; }
static void space_layers(struct scene *s) { space_of(s)->layers++; }
static void space_codec(struct scene *s) { space_of(s)->codec_k = 4711; }
static void space_slot(struct scene *s) { space_of(s)->slot_bytes += KVP_SLOT_ALIGN; }
static void space_map(struct scene *s) { space_of(s)->map_bytes = 1; }
static void space_count(struct scene *s) { space_of(s)->page_count = 1; }
static void space_heads(struct scene *s) { space_of(s)->page_heads = 0; }
static void space_dtype(struct scene *s) { space_of(s)->dtype = 99; }
static void space_twice(struct scene *s) { s->rig.core->arena.spaces[5] = *space_of(s); }

static const struct {
	const char *name;
	void (*damage)(struct scene *scene);
	uint32_t blocks, unfinished, damaged, resting, spaces_damaged;
} damages[] = {
#define D(name, ...) { #name, name, __VA_ARGS__ }
	D(zero_hash, 4, 0, 1), D(other_key, 4, 0, 1), D(no_key, 4, 0, 1), D(long_key, 4, 0, 1),
	D(no_space, 4, 0, 1), D(far_space, 4, 0, 1), D(free_space, 4, 0, 1), D(other_space, 4, 0, 1),
	D(no_pages, 4, 0, 1), D(many_pages, 4, 0, 1), D(no_tokens, 4, 0, 1), D(many_tokens, 4, 0, 1),
	D(no_map, 4, 0, 1), D(far_map, 4, 0, 1), D(end_map, 4, 0, 1), D(odd_map, 4, 0, 1), D(shared_map, 4, 0, 1),
	D(map_elsewhere, 4, 0, 1), D(page_as_map, 4, 0, 1), D(no_slot, 4, 0, 1), D(far_slot, 4, 0, 1),
	D(odd_slot, 4, 0, 1), D(slot_twice, 4, 0, 1), D(stolen_slot, 4, 0, 1), D(map_as_page, 4, 0, 1),
	D(far_slot_single, 4, 0, 1), D(odd_flags, 4, 0, 1), D(a_page_missing, 3, 2, 0), D(ready_lies, 5, 0, 0),
	D(own_parent, 4, 1, 0), D(lost_parent, 4, 1, 0), D(ring, 2, 3, 0), D(parent_damaged, 2, 2, 1),
	D(twice, 5, 0, 1), D(resting_while_live, 5, 0, 0), D(being_moved, 5, 0, 0), D(moved, 5, 0, 0),
	D(dead, 4, 0, 0), D(dead_resting, 4, 0, 0, 1),
	D(dead_resting_damaged, 4, 0, 1), D(index_noise, 5, 0, 0), D(index_full, 5, 0, 0),
	D(counters_noise, 5, 0, 0), D(entry_noise, 5, 0, 0, 0, 0), D(space_free, 1, 0, 4),
	D(space_no_name, 1, 0, 4, 0, 1), D(space_long_name, 1, 0, 4, 0, 1), D(space_bad_model, 1, 0, 4, 0, 1),
	D(space_layers, 1, 0, 4, 0, 1), D(space_codec, 1, 0, 4, 0, 1), D(space_slot, 1, 0, 4, 0, 1),
	D(space_map, 1, 0, 4, 0, 1), D(space_count, 1, 0, 4, 0, 1), D(space_heads, 1, 0, 4, 0, 1),
	D(space_dtype, 1, 0, 4, 0, 1), D(space_twice, 5, 0, 0, 0, 1),
#undef D
};

/* The damage is done to a copy, by a core that is there to find things in it. */
static void damage_one(const struct scene *whole, size_t i)
{
	struct scene victim = *whole, after;
	const struct core_recovery *recovery;
	void *before = malloc(ARENA);

	assert_non_null(before);
	memcpy(before, whole->rig.arena, ARENA);
	damages[i].damage(&victim);
	assert_int_equal(rig_recover(&after.rig, whole->rig.arena, ARENA, BLOCKS, &limits), 0);
	memcpy(whole->rig.arena, before, ARENA);
	free(before);
	recovery = core_recovery(after.rig.core);
	print_message("%s: %u kept, %u unfinished, %u damaged, %u resting, %u spaces damaged\n", damages[i].name,
		      recovery->blocks, recovery->unfinished, recovery->damaged, recovery->resting,
		      recovery->spaces_damaged);
	assert_int_equal(recovery->blocks, damages[i].blocks);
	assert_int_equal(recovery->unfinished, damages[i].unfinished);
	assert_int_equal(recovery->damaged, damages[i].damaged);
	assert_int_equal(recovery->resting, damages[i].resting);
	if (damages[i].damage != entry_noise)
		assert_int_equal(recovery->spaces_damaged, damages[i].spaces_damaged);
	assert_int_equal(rig_check_pages(&after.rig), damages[i].blocks);
	rig_advance_ms(&after.rig, 2 * GRACE_MS);
	open_spaces(&after);
	for (char key[2] = "f"; key[0] <= 'z'; key[0]++)
		assert_int_equal(append(&after, key, NULL), KVP_OK);
	rig_stop(&after.rig);
}

static void test_damage(void **state)
{
	struct scene scene;

	scene_start(&scene);
	for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++)
		damage_one(&scene, i);
	rig_stop(&scene.rig);
}

/* Bytes of the tables at random, many times: whatever comes of it, the books are right and pages are somebody's. */
static void test_noise(void **state)
{
	const char *seed_text = getenv("KVP_SEED");
	unsigned seed = seed_text ? (unsigned)strtoul(seed_text, NULL, 10) : 20261126;
	struct scene scene;
	uint8_t *copy = malloc(ARENA);

	print_message("seed %u\n", seed);
	srand(seed);
	scene_start(&scene);
	for (unsigned round = 0; round < 300; round++) {
		uint64_t begin = scene.rig.core->arena.header->spaces_offset;
		uint64_t end = scene.rig.core->arena.extents_offset + (round % 2 ? 4096 : 0);
		struct scene after;

		memcpy(copy, scene.rig.arena, ARENA);
		for (unsigned i = rand() % 64 + 1; i > 0; i--) {
			uint64_t at = round % 3 ? scene.rig.core->arena.header->blocks_offset + rand() % (BLOCKS * 128)
						: begin + (uint64_t)rand() % (end - begin);

			copy[at] ^= (uint8_t)(rand() % 4 ? 1 << rand() % 8 : rand());
		}
		assert_int_equal(rig_recover(&after.rig, copy, ARENA, BLOCKS, &limits), 0);
		rig_advance_ms(&after.rig, 2 * GRACE_MS);
		rig_stop(&after.rig);
	}
	free(copy);
	rig_stop(&scene.rig);
}

/* ---- Header ---- */

static void test_header(void **state)
{
	static const size_t words[] = { 0, 8, 12, 16, 40, 48, 56, 64, 72, 84, 88, 92, 96, 101 };
	struct scene scene, after;
	struct kvp_arena_header *header;

	scene_start(&scene);
	header = scene.rig.arena;
	assert_null(core_arena_fault(header, ARENA, BLOCKS));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		*((uint8_t *)header + words[i]) ^= 1;
		assert_non_null(core_arena_fault(header, ARENA, BLOCKS));
		assert_int_equal(rig_recover(&after.rig, header, ARENA, BLOCKS, &limits), -22);
		*((uint8_t *)header + words[i]) ^= 1;
	}
	assert_non_null(core_arena_fault(header, ARENA, BLOCKS + 1));
	assert_non_null(core_arena_fault(header, ARENA - KVP_EXTENT_BYTES, BLOCKS));
	assert_non_null(core_arena_fault(header, 0, BLOCKS));
	header->incarnation = 0;
	assert_non_null(core_arena_fault(header, ARENA, BLOCKS));
	header->incarnation = 77;
	/* A version with fewer counters left it. */
	header->counters_count -= 3;
	scene_recover(&scene, &after);
	assert_int_equal(((struct kvp_arena_header *)after.rig.arena)->counters_count, KVP_COUNTERS);
	assert_int_equal(core_recovery(after.rig.core)->blocks, 5);
	stop_both(&scene, &after);
}

/* ---- Grace ---- */

/* Nothing that was a block's before the grace is over is another's before it is over. */
static void test_grace(void **state)
{
	struct scene before, after;
	uint32_t number;

	scene_start(&before);
	scene_recover(&before, &after);
	number = rig_number(&after.rig, "d");
	open_spaces(&after);
	assert_int_equal(rig_delete(after.peer, after.small, "d"), KVP_OK);
	assert_int_equal(append(&after, "f", NULL), KVP_OK);
	assert_int_equal(append(&after, "g", NULL), KVP_OK);
	assert_int_equal(append(&after, "h", NULL), KVP_OK);
	assert_int_equal(append(&after, "i", NULL), KVP_NO_SPACE);
	assert_int_equal(after.rig.core->blocks[number].state, BLOCK_LIMBO);
	rig_advance_ms(&after.rig, GRACE_MS - 1);
	assert_int_equal(append(&after, "i", NULL), KVP_NO_SPACE);
	assert_int_equal(rig_counter(after.peer, "evictions_capacity_total"), 0);
	rig_advance_ms(&after.rig, 30);
	assert_int_equal(append(&after, "i", NULL), KVP_OK);
	assert_int_equal(append(&after, "j", NULL), KVP_OK); /* evicts again */
	assert_int_equal(rig_counter(after.peer, "evictions_capacity_total"), 1);
	stop_both(&before, &after);
}

/* What a disk was asked to read by a process that was killed may come in until the grace is over. */
static void test_strays(void **state)
{
	struct scene before, after, third;

	scene_start(&before);
	before.rig.core->arena.header->loading = 1;
	scene_recover(&before, &after);
	open_spaces(&after);
	assert_int_equal(append(&after, "f", NULL), KVP_NO_SPACE);
	scene_recover(&after, &third);
	open_spaces(&third);
	assert_int_equal(append(&third, "f", NULL), KVP_NO_SPACE);
	rig_stop(&third.rig);
	rig_advance_ms(&after.rig, GRACE_MS + 30);
	assert_int_equal(append(&after, "f", NULL), KVP_OK);
	core_stop(after.rig.core);
	assert_int_equal(after.rig.core->arena.header->loading, 0);
	stop_both(&before, &after);
}

/* What rested when the process was killed goes on resting; without sessions it is found by time alone. */
static void test_rest_goes_on(void **state)
{
	struct scene before, after;
	uint32_t number;

	scene_start(&before);
	number = rig_number(&before.rig, "d");
	before.peer->control->records_used = 1;
	kvp_control_records(before.peer->control)[0].hazard[0] = number;
	assert_int_equal(rig_delete(before.peer, before.small, "d"), KVP_OK);
	assert_int_equal(shared_block(before.rig.core, number)->resting, 1);
	scene_recover(&before, &after);
	assert_int_equal(core_recovery(after.rig.core)->resting, 1);
	assert_int_equal(after.rig.core->blocks[number].state, BLOCK_LIMBO);
	assert_true(after.rig.core->limbo_bytes > 0);
	for (unsigned ms = 0; ms < GRACE_MS - 20; ms += 10)
		rig_advance_ms(&after.rig, 10);
	assert_int_equal(after.rig.core->blocks[number].state, BLOCK_LIMBO);
	rig_advance_ms(&after.rig, 20);
	rig_advance_ms(&after.rig, 20);
	assert_int_equal(after.rig.core->blocks[number].state, BLOCK_FREE);
	assert_int_equal(shared_block(after.rig.core, number)->resting, 0);
	assert_int_equal(after.rig.core->limbo_bytes, 0);
	stop_both(&before, &after);
}

static void drop_space(struct rig_peer *peer, const char *name)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__DropSpace drop = KVPAGED__V1__DROP_SPACE__INIT;

	drop.name = (ProtobufCBinaryData){ .data = (uint8_t *)name, .len = strlen(name) };
	request.verb_case = KVPAGED__V1__REQUEST__VERB_DROP_SPACE;
	request.drop_space = &drop;
	assert_int_equal(rig_call(peer, &request)->status, KVP_OK);
}

/* Its space was dropped, and another one came: the size of its slots is known nevertheless. */
static void test_rest_without_a_space(void **state)
{
	struct scene before, after;
	Kvpaged__V1__Schema schema;
	uint32_t number;

	scene_start(&before);
	number = rig_number(&before.rig, "d");
	before.peer->control->records_used = 1;
	kvp_control_records(before.peer->control)[0].hazard[0] = number;
	drop_space(before.peer, "small");
	assert_int_equal(before.rig.core->spaces[before.small].limbo, 1);
	rig_schema(&schema, 7, 3, 96);
	assert_int_not_equal(rig_open(before.peer, "other", &schema, NULL), before.small);
	scene_recover(&before, &after);
	assert_int_equal(core_recovery(after.rig.core)->resting, 1);
	assert_int_equal(core_recovery(after.rig.core)->spaces, 2);
	assert_int_equal(after.rig.core->blocks[number].state, BLOCK_LIMBO);
	assert_int_equal(after.rig.core->limbo_bytes, before.rig.core->limbo_bytes);
	assert_false(after.rig.core->spaces[before.small].live);
	rig_advance_ms(&after.rig, 2 * GRACE_MS);
	assert_int_equal(after.rig.core->spaces[before.small].limbo, 0);
	after.peer = rig_connect(&after.rig, 0, 1000, MIB);
	assert_int_equal(rig_open_small(after.peer, NULL), before.small);
	kvp_control_records(before.peer->control)[0].hazard[0] = 0;
	stop_both(&before, &after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything_is_there),
		cmocka_unit_test(test_life_goes_on),
		cmocka_unit_test(test_unfinished),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_noise),
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_grace),
		cmocka_unit_test(test_strays),
		cmocka_unit_test(test_rest_goes_on),
		cmocka_unit_test(test_rest_without_a_space),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
