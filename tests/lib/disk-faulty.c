/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each transfer is given to the disk below as one of our own, whose end decides what the owner is told. One that fails
 * without being done goes below as a read into memory of ours, so that its end comes from the loop as any other.
 */
#include "tests/lib/disk-faulty.h"

#include "base/contract.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum fate { FATE_NONE, FATE_FAIL, FATE_HALF };

struct faulty {
	struct disk disk;
	struct disk_ops ops; /* with the engine of the disk below */
	struct disk_faulty_options options;
	uint64_t random;
	unsigned nth_verbs;
	uint64_t nth;
	int nth_error;
	struct disk_faulty_counts counts;
	uint64_t under_way;
	struct list held;
};

struct shadow {
	struct disk_io io;
	struct faulty *faulty;
	struct disk_io *owner;
	enum fate fate;
	int error; /* with a fate */
	int result;
	bool hold;
	bool flip;
	uint64_t bit;
	void *dummy;
};

static struct faulty *faulty_of(const struct disk *disk)
{
	return list_entry(disk, struct faulty, disk);
}

static uint64_t draw(struct faulty *faulty)
{
	faulty->random ^= faulty->random << 13;
	faulty->random ^= faulty->random >> 7;
	faulty->random ^= faulty->random << 17;
	return faulty->random;
}

static bool happens(struct faulty *faulty, unsigned one_of)
{
	return one_of > 0 && draw(faulty) % one_of == 0;
}

/* --- Ends ----------------------------------------------------------------------------------------- */

static void tell(struct shadow *shadow)
{
	struct disk_io *owner = shadow->owner;
	int result = shadow->result;

	owner->ended_ns = shadow->io.ended_ns;
	free(shadow->dummy);
	free(shadow);
	owner->done(owner, result);
}

static void flip_a_bit(const struct shadow *shadow)
{
	uint8_t *memory = shadow->owner->memory;

	memory[shadow->bit / 8] ^= (uint8_t)(1u << shadow->bit % 8);
	shadow->faulty->counts.flipped++;
}

static void on_done(struct disk_io *io, int result)
{
	struct shadow *shadow = list_entry(io, struct shadow, io);
	struct faulty *faulty = shadow->faulty;

	shadow->result = result;
	if (shadow->fate != FATE_NONE && result != -ECANCELED)
		shadow->result = shadow->error;
	if (shadow->result == 0 && shadow->flip)
		flip_a_bit(shadow);
	faulty->under_way--;
	if (shadow->hold && result != -ECANCELED) {
		list_push_back(&faulty->held, &io->link);
		faulty->counts.held++;
		return;
	}
	tell(shadow);
}

unsigned disk_faulty_release(struct disk *disk, unsigned n)
{
	struct faulty *faulty = faulty_of(disk);
	unsigned released = 0;

	for (; released < n && faulty->counts.held > 0; released++) {
		struct list *node = faulty->held.next;

		for (uint64_t skip = draw(faulty) % faulty->counts.held; skip > 0; skip--)
			node = node->next;
		list_unlink(node);
		faulty->counts.held--;
		tell(list_entry(list_entry(node, struct disk_io, link), struct shadow, io));
	}
	return released;
}

/* --- Submission ----------------------------------------------------------------------------------- */

static bool is_nth(struct faulty *faulty, const struct disk_io *io)
{
	return faulty->nth > 0 && (faulty->nth_verbs & 1u << io->verb) && --faulty->nth == 0;
}

static void decide(struct faulty *faulty, struct shadow *shadow)
{
	const struct disk_faulty_options *options = &faulty->options;
	unsigned verb = 1u << shadow->owner->verb;
	bool may = options->verbs == 0 || (options->verbs & verb);

	shadow->error = options->error < 0 ? options->error : -EIO;
	shadow->hold = happens(faulty, options->odds.hold);
	shadow->flip = shadow->owner->verb == DISK_READ && happens(faulty, options->odds.flip);
	if (shadow->flip)
		shadow->bit = draw(faulty) % ((uint64_t)shadow->owner->bytes * 8);
	if (is_nth(faulty, shadow->owner)) {
		shadow->fate = FATE_FAIL;
		shadow->error = faulty->nth_error;
	} else if (may && happens(faulty, options->odds.fail)) {
		shadow->fate = FATE_FAIL;
	} else if (may && shadow->owner->verb == DISK_WRITE && happens(faulty, options->odds.half)) {
		shadow->fate = FATE_HALF;
	}
	faulty->counts.failed += shadow->fate != FATE_NONE;
}

/* Where nothing of it may happen, the shadow becomes a read that harms nobody, whatever its own result. */
static void become_harmless(struct shadow *shadow)
{
	shadow->dummy = aligned_alloc(DISK_ALIGN, DISK_ALIGN);
	kvp_assert(shadow->dummy);
	shadow->io.verb = DISK_READ;
	shadow->io.offset = 0;
	shadow->io.memory = shadow->dummy;
	shadow->io.bytes = DISK_ALIGN;
}

static void submit(struct disk *disk, struct disk_io *io)
{
	struct faulty *faulty = faulty_of(disk);
	struct shadow *shadow = calloc(1, sizeof(*shadow));
	uint32_t half = io->bytes / 2 / DISK_ALIGN * DISK_ALIGN;

	kvp_assert(shadow);
	shadow->faulty = faulty;
	shadow->owner = io;
	shadow->io = *io;
	shadow->io.done = on_done;
	decide(faulty, shadow);
	if (shadow->fate == FATE_HALF && half > 0)
		shadow->io.bytes = half;
	else if (shadow->fate != FATE_NONE)
		become_harmless(shadow);
	faulty->counts.submitted++;
	faulty->under_way++;
	faulty->options.below->ops->submit(faulty->options.below, &shadow->io);
}

/* --- The rest ------------------------------------------------------------------------------------- */

static const uint8_t *files(const struct disk *disk)
{
	struct disk *below = faulty_of(disk)->options.below;

	return below->ops->files(below);
}

static unsigned depth(const struct disk *disk)
{
	struct disk *below = faulty_of(disk)->options.below;

	return below->ops->depth(below);
}

static void *buffers(struct disk *disk, size_t bytes)
{
	struct disk *below = faulty_of(disk)->options.below;

	return below->ops->buffers(below, bytes);
}

struct disk *disk_faulty_new(const struct disk_faulty_options *options)
{
	struct faulty *faulty = calloc(1, sizeof(*faulty));

	kvp_assert(faulty);
	faulty->options = *options;
	faulty->ops = (struct disk_ops){ .engine = options->below->ops->engine, .submit = submit, .files = files,
					 .depth = depth, .buffers = buffers };
	faulty->disk = *options->below;
	faulty->disk.ops = &faulty->ops;
	faulty->random = options->seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
	list_init(&faulty->held);
	return &faulty->disk;
}

struct disk *disk_faulty_free(struct disk *disk)
{
	struct faulty *faulty = faulty_of(disk);

	kvp_assert(faulty->under_way == 0 && faulty->counts.held == 0);
	free(faulty);
	return NULL;
}

void disk_faulty_set_odds(struct disk *disk, const struct disk_faulty_odds *odds)
{
	faulty_of(disk)->options.odds = *odds;
}

void disk_faulty_fail_nth(struct disk *disk, unsigned verbs, uint64_t n, int error)
{
	struct faulty *faulty = faulty_of(disk);

	faulty->nth_verbs = verbs;
	faulty->nth = n;
	faulty->nth_error = error;
}

struct disk_faulty_counts disk_faulty_counts(const struct disk *disk)
{
	return faulty_of(disk)->counts;
}
