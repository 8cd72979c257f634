/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each transfer of a load is done exactly once, wherever in the loop's turn it was submitted, and whatever the disk is
 * doing then. A transfer that is never done hangs the test.
 */
#include "tests/unit/disk-cases.h"

#include "base/units.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CELL (16 * KIB)
#define CELLS (DISK_RIG_FILE_BYTES / CELL)
#define SLOTS (DISK_RIG_ARENA_BYTES / CELL)
#define MANY (2 * SLOTS)

struct load;

struct item {
	struct disk_io io;
	struct load *load;
	unsigned times; /* done */
	int result;
};

struct load {
	struct disk_rig *rig;
	struct item items[MANY];
	unsigned n;
	unsigned done;
	unsigned cancelled;
	unsigned order[MANY]; /* of ends */
};

static void on_item(struct disk_io *io, int result)
{
	struct item *item = list_entry(io, struct item, io);
	struct load *load = item->load;

	item->result = result;
	assert_int_equal(++item->times, 1);
	load->cancelled += result == -ECANCELED;
	load->order[load->done++] = (unsigned)(item - load->items);
}

static struct item *add(struct load *load, enum disk_verb verb, uint32_t file, uint64_t offset, void *memory)
{
	struct item *item = &load->items[load->n++];

	assert_true(load->n <= MANY);
	*item = (struct item){ .io = { .verb = verb, .file = file, .offset = offset, .memory = memory, .bytes = CELL,
				       .done = on_item },
			       .load = load };
	load->rig->disk->ops->submit(load->rig->disk, &item->io);
	assert_int_equal(item->times, 0);
	return item;
}

/* Memory of both kinds in turns, each transfer's own: threads may do any of them at the same time. */
static uint8_t *memory_of(const struct disk_rig *rig, unsigned i)
{
	return (i / 2 % 2 ? rig->foreign : rig->arena) + (i / 4 * 2 + i % 2) * CELL;
}

static void wait_for(struct load *load)
{
	while (load->done < load->n)
		(void)uv_run(&load->rig->loop, UV_RUN_ONCE);
	assert_int_equal(load->done, load->n);
}

static void begin(struct load *load, struct disk_rig *rig, unsigned depth)
{
	memset(load, 0, sizeof(*load));
	disk_cases_init(rig);
	rig->options.depth = depth;
	disk_rig_open(rig);
	load->rig = rig;
	disk_rig_must(rig, DISK_CREATE, 0, 0, NULL, 0);
	disk_rig_must(rig, DISK_CREATE, 1, 0, NULL, 0);
}

/* Cells in turns of two files, at the same places of both. */
static uint64_t offset_of(unsigned cell)
{
	return (uint64_t)(cell / 2) * CELL;
}

static void write_all(struct load *load, uint64_t seed)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		disk_rig_fill(load->rig->arena + i * CELL, CELL, i % 2, offset_of(i), seed);
		(void)add(load, DISK_WRITE, i % 2, offset_of(i), load->rig->arena + i * CELL);
	}
}

/* Reads of random cells, into memory of both kinds, of what was written just so. */
static void read_at_random(struct load *load, uint64_t seed)
{
	unsigned cells[SLOTS];

	load->n = load->done = 0;
	for (unsigned i = 0; i < SLOTS; i++) {
		uint8_t *memory = (rand() % 2 ? load->rig->foreign : load->rig->arena) + i * CELL;

		cells[i] = (unsigned)rand() % SLOTS;
		memset(memory, 0, CELL);
		(void)add(load, DISK_READ, cells[i] % 2, offset_of(cells[i]), memory);
	}
	wait_for(load);
	for (unsigned i = 0; i < SLOTS; i++) {
		assert_int_equal(load->items[i].result, 0);
		assert_true(disk_rig_holds(load->items[i].io.memory, CELL, cells[i] % 2, offset_of(cells[i]), seed));
	}
}

void test_disk_many(void **state)
{
	static const unsigned depths[] = { 1, 3, 32, DISK_DEPTH_MAX };
	struct disk_rig rig;
	struct load load;

	srand(1);
	for (unsigned i = 0; i < 4; i++) {
		begin(&load, &rig, depths[i]);
		assert_in_range(rig.disk->ops->depth(rig.disk), 1, depths[i]);
		write_all(&load, i);
		wait_for(&load);
		for (unsigned k = 0; k < load.n; k++)
			assert_int_equal(load.items[k].result, 0);
		read_at_random(&load, i);
		read_at_random(&load, i);
		disk_rig_deinit(&rig);
	}
}

/* With one under way at a time the order of ends is that of submission. */
void test_disk_order(void **state)
{
	struct disk_rig rig;
	struct load load;

	begin(&load, &rig, 1);
	for (unsigned i = 0; i < 200; i++)
		(void)add(&load, i % 3 ? DISK_READ : DISK_WRITE, i % 2, (i * 7 % CELLS) * CELL,
			  i % 5 ? rig.arena : rig.foreign);
	wait_for(&load);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(load.order[i], i);
	disk_rig_deinit(&rig);
}

/* --- Turns ---------------------------------------------------------------------------------------- */

struct turns {
	struct load *load;
	unsigned done_before;
	unsigned most;
};

static void on_check(uv_check_t *check)
{
	struct turns *turns = check->data;
	unsigned now = turns->load->done - turns->done_before;

	turns->done_before = turns->load->done;
	turns->most = now > turns->most ? now : turns->most;
}

static void on_check_closed(uv_handle_t *handle)
{
}

/* Ends that have come all at once do not take one turn; two portions may. */
void test_disk_portions(void **state)
{
	struct disk_rig rig;
	struct load load;
	struct turns turns = { .load = &load };
	uv_check_t check;

	begin(&load, &rig, DISK_DEPTH_MAX);
	(void)uv_check_init(&rig.loop, &check);
	check.data = &turns;
	(void)uv_check_start(&check, on_check);
	for (unsigned i = 0; i < MANY; i++)
		(void)add(&load, DISK_READ, 0, (i % CELLS) * CELL, memory_of(&rig, i));
	(void)uv_run(&rig.loop, UV_RUN_NOWAIT);
	uv_sleep(100); /* so that there are many */
	wait_for(&load);
	assert_in_range(turns.most, 1, 128);
	uv_close((uv_handle_t *)&check, on_check_closed);
	disk_rig_deinit(&rig);
}

struct late {
	struct load *load;
	unsigned left;
};

static void on_late_prepare(uv_prepare_t *prepare)
{
	struct late *late = prepare->data;

	if (late->left > 0 && late->load->done == late->load->n) {
		late->left--;
		(void)add(late->load, DISK_READ, 0, 0, late->load->rig->arena);
	}
}

/* Submitted when the disk has had its place in this turn, with nothing else that would wake the loop. */
void test_disk_late_submit(void **state)
{
	for (unsigned earlier = 0; earlier < 2; earlier++) {
		struct disk_rig rig;
		struct load load = { .rig = &rig };
		struct late late = { .load = &load };
		uv_prepare_t prepare;

		disk_cases_init(&rig);
		(void)uv_prepare_init(&rig.loop, &prepare);
		prepare.data = &late;
		if (earlier)
			(void)uv_prepare_start(&prepare, on_late_prepare);
		disk_rig_open(&rig);
		disk_rig_must(&rig, DISK_CREATE, 0, 0, NULL, 0);
		if (!earlier)
			(void)uv_prepare_start(&prepare, on_late_prepare);
		late.left = 20;
		while (late.left > 0 || load.done < load.n)
			(void)uv_run(&rig.loop, UV_RUN_ONCE);
		assert_int_equal(load.done, 20);
		uv_close((uv_handle_t *)&prepare, on_check_closed);
		disk_rig_deinit(&rig);
	}
}

static void on_chain(struct disk_io *io, int result)
{
	struct item *item = list_entry(io, struct item, io);
	struct load *load = item->load;

	assert_int_equal(result, 0);
	load->done++;
	if (load->done < 300)
		load->rig->disk->ops->submit(load->rig->disk, io); /* the same again */
}

/* A transfer is free when it is done. */
void test_disk_from_done(void **state)
{
	struct disk_rig rig;
	struct load load;

	begin(&load, &rig, 2);
	load.items[0] = (struct item){ .io = { .verb = DISK_READ, .memory = rig.arena, .bytes = CELL,
					       .done = on_chain },
				       .load = &load };
	rig.disk->ops->submit(rig.disk, &load.items[0].io);
	load.n = 300;
	wait_for(&load);
	disk_rig_deinit(&rig);
}

/* --- The end -------------------------------------------------------------------------------------- */

/* All are done when disk_close() returns: with a result, or cancelled when they had not begun. */
void test_disk_close(void **state)
{
	for (unsigned turns = 0; turns < 3; turns++) {
		struct disk_rig rig;
		struct load load;
		struct disk *disk;
		const char *engine;

		begin(&load, &rig, 8);
		engine = rig.disk->ops->engine;
		for (unsigned i = 0; i < MANY / 2; i++)
			(void)add(&load, i % 2 ? DISK_WRITE : DISK_READ, i % 2, (i % CELLS) * CELL,
				  memory_of(&rig, i));
		for (unsigned i = 0; i < turns; i++)
			(void)uv_run(&rig.loop, UV_RUN_NOWAIT);
		disk = rig.disk;
		rig.disk = NULL;
		disk_close(disk);
		assert_int_equal(load.done, load.n);
		if (turns == 0 && strcmp(engine, "io_uring") == 0) /* it begins at the end of a turn */
			assert_int_equal(load.cancelled, load.n);
		for (unsigned i = 0; i < load.n; i++)
			assert_true(load.items[i].result == 0 || load.items[i].result == -ECANCELED);
		memset(rig.arena, 0xff, DISK_RIG_ARENA_BYTES); /* nobody writes to it any more */
		memset(rig.foreign, 0xff, DISK_RIG_ARENA_BYTES);
		disk_rig_close(&rig);
		for (unsigned i = 0; i < DISK_RIG_ARENA_BYTES; i++)
			assert_true(rig.arena[i] == 0xff && rig.foreign[i] == 0xff);
		disk_rig_deinit(&rig);
	}
}

static void on_last(struct disk_io *io, int result)
{
	struct item *item = list_entry(io, struct item, io);
	struct load *load = item->load;
	static const enum disk_verb verbs[] = { DISK_READ, DISK_WRITE, DISK_SYNC, DISK_CREATE };

	item->result = result;
	item->times++;
	load->done++;
	if (load->n < MANY) {
		struct item *next = &load->items[load->n++];

		*next = (struct item){ .io = *io, .load = load };
		next->io.verb = verbs[load->n % 4];
		load->rig->disk->ops->submit(load->rig->disk, &next->io);
	}
}

/* What done() submits while the disk closes is cancelled. */
void test_disk_close_submits(void **state)
{
	struct disk_rig rig;
	struct load load;
	struct disk *disk;

	begin(&load, &rig, 8);
	for (unsigned i = 0; i < 32; i++)
		add(&load, DISK_READ, 0, i * CELL, rig.arena + i * CELL)->io.done = on_last;
	disk = rig.disk;
	disk_close(disk);
	rig.disk = NULL;
	assert_int_equal(load.n, MANY);
	assert_int_equal(load.done, MANY);
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(load.items[i].times, 1);
		assert_true(i < 32 || load.items[i].result == -ECANCELED);
	}
	disk_rig_deinit(&rig);
}

/* Files that are being made while the disk closes. */
void test_disk_close_files(void **state)
{
	struct disk_rig rig;
	struct load load;

	begin(&load, &rig, 8);
	for (uint32_t i = 2; i < DISK_RIG_FILES; i++)
		(void)add(&load, DISK_CREATE, i, 0, NULL);
	(void)add(&load, DISK_REMOVE, 0, 0, NULL);
	(void)add(&load, DISK_SYNC, 1, 0, NULL);
	disk_rig_close(&rig);
	assert_int_equal(load.done, load.n);
	for (unsigned i = 0; i < load.n; i++)
		assert_true(load.items[i].result == 0 || load.items[i].result == -ECANCELED);
	disk_rig_deinit(&rig);
}
