/* SPDX-License-Identifier: Apache-2.0 */
/* Extents and slots: no slot twice, every byte accounted, empty extents come back for other classes. */
#include "tests/lib/harness.h"

#include "base/units.h"
#include "daemon/core/arena.h"

#include <stdlib.h>
#include <sys/mman.h>

#define ARENA (16 * MIB)

static void arena_open(struct arena *arena)
{
	void *base = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(base != MAP_FAILED);
	assert_int_equal(arena_init(arena, base, ARENA, 128, 1, 2), 0);
	assert_true(arena_audit(arena));
}

static void arena_close(struct arena *arena)
{
	assert_true(arena_audit(arena));
	arena_deinit(arena);
	assert_int_equal(munmap(arena->base, ARENA), 0);
}

static void test_layout(void **state)
{
	struct arena arena;

	arena_open(&arena);
	assert_int_equal(arena.header->magic, KVP_ARENA_MAGIC);
	assert_int_equal(arena.extents_offset % KVP_EXTENT_BYTES, 0);
	assert_int_equal(arena.extents_offset + arena.extents_count * KVP_EXTENT_BYTES, ARENA);
	assert_true(arena.header->blocks_offset + arena.blocks_count * sizeof(struct kvp_block) <=
		    arena.extents_offset);
	assert_true(arena.header->index_offset % 64 == 0 && arena.header->spaces_offset % 64 == 0);
	arena_close(&arena);
}

/* Every size takes all of its slots, disjoint and inside; then the arena is full; then it is empty again. */
static void test_fill_and_empty(void **state)
{
	static const uint32_t sizes[] = { 512, 1024, 51712, 65536, 100352, (uint32_t)KVP_EXTENT_BYTES };

	for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct arena arena;
		struct size_class *size_class;
		uint64_t *slots = calloc(ARENA / 512, sizeof(*slots));
		size_t n = 0;

		arena_open(&arena);
		size_class = arena_class_ref(&arena, sizes[s]);
		assert_non_null(size_class);
		while ((slots[n] = arena_slot_take(&arena, size_class)) != 0) {
			assert_true(slots[n] >= arena.extents_offset && slots[n] + sizes[s] <= ARENA);
			assert_int_equal(slots[n] % KVP_SLOT_ALIGN, 0);
			n++;
		}
		assert_int_equal(n, arena.extents_count * (KVP_EXTENT_BYTES / sizes[s]));
		assert_true(arena_audit(&arena));
		for (size_t i = 1; i < n; i++)
			assert_true(slots[i] >= slots[i - 1] + sizes[s]); /* in order, so disjoint */
		for (size_t i = 0; i < n; i++)
			assert_int_equal(arena_slot_return(&arena, slots[(i * 7919) % n]), sizes[s]);
		assert_int_equal(arena.extents_free, arena.extents_count);
		assert_int_equal(arena.free_slot_bytes + arena.tail_bytes + arena.taken_bytes, 0);
		arena_class_unref(size_class);
		arena_close(&arena);
		free(slots);
	}
}

static void test_classes_are_shared_and_reused(void **state)
{
	struct arena arena;
	struct size_class *a, *b;
	uint64_t slot;

	arena_open(&arena);
	a = arena_class_ref(&arena, 1024);
	assert_ptr_equal(arena_class_ref(&arena, 1024), a);
	slot = arena_slot_take(&arena, a);
	arena_class_unref(a);
	arena_class_unref(a);
	/* A slot outlives the class's users. */
	assert_true(arena_audit(&arena));
	b = arena_class_ref(&arena, 2048);
	assert_ptr_not_equal(a, b);
	(void)arena_slot_return(&arena, slot);
	assert_int_equal(a->slot_bytes, 0);
	for (unsigned i = 1; i < ARENA_CLASSES_MAX; i++)
		assert_non_null(arena_class_ref(&arena, 512 * (i + 4)));
	assert_null(arena_class_ref(&arena, 1024));
	arena_close(&arena);
}

static void test_random(void **state)
{
	static const uint32_t sizes[] = { 512, 51712, 27136 };
	struct arena arena;
	struct size_class *classes[3];
	uint64_t held[3][4096];
	size_t n[3] = { 0 };

	arena_open(&arena);
	for (unsigned i = 0; i < 3; i++)
		classes[i] = arena_class_ref(&arena, sizes[i]);
	srandom(5);
	for (unsigned step = 0; step < 50000; step++) {
		unsigned c = (unsigned)random() % 3;

		if (random() % 100 < (step / 5000 % 2 ? 30 : 60) && n[c] < 4096) {
			uint64_t slot = arena_slot_take(&arena, classes[c]);

			if (slot)
				held[c][n[c]++] = slot;
		} else if (n[c] > 0) {
			size_t at = (size_t)random() % n[c];

			assert_int_equal(arena_slot_return(&arena, held[c][at]), sizes[c]);
			held[c][at] = held[c][--n[c]];
		}
		if (step % 1000 == 0)
			assert_true(arena_audit(&arena));
	}
	arena_close(&arena);
}

/* Extents beyond the limit are nobody's, and slots are not taken beyond it. */
static void test_limit(void **state)
{
	struct arena arena;
	struct size_class *size_class;
	uint64_t slots[8], offset;
	uint32_t count;

	arena_open(&arena);
	count = arena.extents_count;
	size_class = arena_class_ref(&arena, (uint32_t)KVP_EXTENT_BYTES);
	for (unsigned i = 0; i < 3; i++)
		slots[i] = arena_slot_take(&arena, size_class);
	assert_int_equal(arena_surplus(&arena), 0);
	arena.extents_limit = 2;
	for (unsigned i = 3; i < count; i++) {
		offset = arena_surplus(&arena);
		assert_true(offset != 0 && offset != slots[0] && offset != slots[1] && offset != slots[2]);
		arena_retire(&arena, offset);
		assert_true(arena_audit(&arena));
	}
	assert_int_equal(arena_surplus(&arena), 0); /* the rest is in use */
	assert_int_equal(arena_held_bytes(&arena), ARENA - (count - 3) * KVP_EXTENT_BYTES);
	assert_int_equal(arena_slot_take(&arena, size_class), 0);
	(void)arena_slot_return(&arena, slots[0]);
	assert_int_equal(arena_slot_take(&arena, size_class), 0);
	assert_int_equal(arena_surplus(&arena), slots[0]);
	arena_retire(&arena, slots[0]);
	assert_int_equal(arena_shortage(&arena), 0);
	arena.extents_limit = 4;
	for (unsigned i = 0; i < 2; i++) {
		offset = arena_shortage(&arena);
		assert_true(offset != 0);
		arena_unretire(&arena, offset);
		assert_true(arena_audit(&arena));
		assert_int_not_equal(arena_slot_take(&arena, size_class), 0);
	}
	assert_int_equal(arena_shortage(&arena), 0);
	assert_int_equal(arena_slot_take(&arena, size_class), 0);
	arena_close(&arena);
}

/* n slots of four in each of four extents, in their order. */
static void take_quarters(struct arena *arena, struct size_class *size_class, const unsigned n[4], uint64_t slots[16])
{
	for (unsigned i = 0; i < 16; i++)
		slots[i] = arena_slot_take(arena, size_class);
	for (unsigned i = 0; i < 16; i++)
		if (i % 4 >= n[i / 4])
			(void)arena_slot_return(arena, slots[i]);
}

/* The emptiest are drained, as many as can run empty, and nothing is taken from them until that is over. */
static void test_drain(void **state)
{
	static const unsigned held[4] = { 3, 1, 4, 2 };
	struct arena arena;
	struct size_class *size_class;
	uint64_t slots[16], slot;

	arena_open(&arena);
	size_class = arena_class_ref(&arena, (uint32_t)(KVP_EXTENT_BYTES / 4));
	take_quarters(&arena, size_class, held, slots);
	assert_int_equal(arena_extents_needed(&arena), 3);
	assert_int_equal(arena_drain_begin(&arena, 4), 1);
	assert_true(arena_extent_at(&arena, slots[4])->draining);
	for (unsigned i = 0; i < 3; i++) {
		slot = arena_slot_take(&arena, size_class);
		assert_false(arena_extent_at(&arena, slot)->draining);
	}
	arena.extents_limit = 4;
	assert_int_equal(arena_slot_take(&arena, size_class), 0);
	(void)arena_slot_return(&arena, slots[4]);
	assert_int_equal(arena_extents_used(&arena), 3);
	assert_true(arena_audit(&arena));
	assert_int_equal(arena_drain_begin(&arena, 4), 0);
	(void)arena_slot_return(&arena, slots[0]);
	(void)arena_slot_return(&arena, slots[8]);
	(void)arena_slot_return(&arena, slots[9]);
	(void)arena_slot_return(&arena, slots[12]);
	assert_int_equal(arena_drain_begin(&arena, 4), 1);
	arena_drain_end(&arena);
	for (unsigned i = 0; i < 8; i++)
		assert_int_not_equal(arena_slot_take(&arena, size_class), 0);
	assert_int_equal(arena_slot_take(&arena, size_class), 0);
	arena_close(&arena);
}

/* What is stuck is not drained, and counts as needed. */
static void test_stuck(void **state)
{
	static const unsigned held[4] = { 3, 1, 1, 1 };
	struct arena arena;
	struct size_class *size_class;
	uint64_t slots[16];

	arena_open(&arena);
	size_class = arena_class_ref(&arena, (uint32_t)(KVP_EXTENT_BYTES / 4));
	take_quarters(&arena, size_class, held, slots);
	assert_int_equal(arena_extents_needed(&arena), 2);
	for (unsigned i = 1; i < 4; i++)
		arena_stick(arena_extent_at(&arena, slots[4 * i]));
	arena_stick(arena_extent_at(&arena, slots[4]));
	assert_true(arena_audit(&arena));
	assert_int_equal(arena_extents_needed(&arena), 3);
	assert_int_equal(arena_drain_begin(&arena, 4), 1);
	assert_true(arena_extent_at(&arena, slots[0])->draining);
	arena_drain_end(&arena);
	(void)arena_slot_return(&arena, slots[4]);
	assert_true(arena_audit(&arena));
	arena_unstick(&arena);
	assert_int_equal(arena_drain_begin(&arena, 4), 1);
	assert_false(arena_extent_at(&arena, slots[0])->draining);
	arena_close(&arena);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_fill_and_empty),
		cmocka_unit_test(test_classes_are_shared_and_reused),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_stuck),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
